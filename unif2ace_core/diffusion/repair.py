"""Repair of drawn codes: what each of them should be, given the others.

    codes (B, N) -> for each quarter of the grid: mask it, ask the posterior -> mean entry that it expects (B, N, bits)

Codes are drawn a few at a time, so some fit together badly, and a face with one such code looks smeared. An entry of a
lookup-free codebook is a row of bits, -1 or +1 (Yu et al., 2023, arXiv:2310.05737), so the mean of entries under the
posterior says of each bit what the other codes make of it, and how surely. A decoder that has learned to (recipe
`decoder`) draws a whole face from a share of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unif2ace_core.diffusion.samplers import Posterior, masked_logits
from unif2ace_core.tokens.codec import entries

LOTS = 4  # on grids of even sides each code is judged by three quarters of them


def expected_entries(codes: Tensor, posterior: Posterior, size: int, grid: tuple[int, int]) -> Tensor:
    """Codes (B, N) -> mean entries (B, N, bits) in [-1, 1] given the other codes, all as they were drawn.

    One call of the posterior for each quarter of the grid.

    Args:
        codes: ids in 0..size-1.
        posterior: see `Posterior`.
        size: K, a power of two, also the mask id.
        grid: rows and columns of codes.

    Raises:
        ValueError: the size is no power of two, so its codes are no rows of bits.
    """
    bits = size.bit_length() - 1
    if size != 2**bits:
        raise ValueError(f"{size} codes are no rows of bits; give a power of two")
    table = entries(torch.arange(size, device=codes.device), bits)
    found = torch.zeros(*codes.shape, bits, device=codes.device)
    for lot in lots(grid, codes.device):
        masked = torch.where(lot, size, codes)
        chances = masked_logits(posterior, masked, size).softmax(1)
        found[masked == size] = chances.float() @ table
    return found


def repaired(codes: Tensor, expected: Tensor, share: Tensor | float) -> Tensor:
    """What to decode of codes (B, N) and of what is expected there (B, N, bits): entries (B, N, bits).

    `share`, of what is expected, is one for all or one for each row (B,).
    """
    own = entries(codes.long(), expected.shape[-1])
    shares = torch.as_tensor(share, dtype=own.dtype, device=own.device).reshape(-1, 1, 1)
    return own.lerp(expected.to(own), shares)


def lots(grid: tuple[int, int], device: torch.device) -> list[Tensor]:
    """Masks (N,) of the grid's quarters; codes of one are two rows or columns apart. Empty ones are left out."""
    rows, columns = (torch.arange(side, device=device) % 2 for side in grid)
    which = (2 * rows[:, None] + columns).flatten()
    return [which == number for number in range(LOTS) if bool((which == number).any())]
