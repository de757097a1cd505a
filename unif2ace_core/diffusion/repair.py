"""Repair of drawn codes: a bit that the other codes contradict is turned over.

    codes (B, N) -> for each quarter of the grid: mask it, ask the posterior -> P(bit | other codes) -> bits turned over

Codes are drawn a few at a time, so some fit together badly, and a face with one such code looks smeared. An entry of a
lookup-free codebook is a row of bits (Yu et al., 2023, arXiv:2310.05737), and neighbours in it look alike: turning over
the one bit that does not fit leaves the rest of what was drawn. Drawing such codes anew would draw errors anew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unif2ace_core.diffusion.samplers import Posterior, masked_logits
from unif2ace_core.tokens.codec import entries, indices

LOTS = 4  # on grids of even sides each code is judged by three quarters of them


def repaired(codes: Tensor, posterior: Posterior, size: int, grid: tuple[int, int], share: float) -> Tensor:
    """Codes (B, N) with every bit turned over whose contrary has a probability above 1 - share / 2.

    All codes are judged by what was drawn, not by what is repaired already. One call of the posterior for each quarter.

    Args:
        codes: ids in 0..size-1.
        posterior: see `Posterior`.
        size: K, a power of two, also the mask id.
        grid: rows and columns of codes.
        share: 0 leaves all bits; 1 gives each its likelier value.

    Raises:
        ValueError: the size is no power of two, so its codes are no rows of bits.
    """
    if share == 0:
        return codes
    bits = size.bit_length() - 1
    if size != 2**bits:
        raise ValueError(f"{size} codes are no rows of bits; give a power of two")
    table = entries(torch.arange(size, device=codes.device), bits) > 0  # (K, bits)
    found = codes.clone()
    for lot in lots(grid, codes.device):
        masked = torch.where(lot, size, codes)
        chances = masked_logits(posterior, masked, size).softmax(1)
        ones = chances @ table.to(chances.dtype)
        chosen = (masked == size).nonzero(as_tuple=True)
        drawn = table[codes[chosen]]
        turned = torch.where(drawn, 1 - ones, ones) > 1 - share / 2
        found[chosen] = indices((drawn ^ turned).float())
    return found


def lots(grid: tuple[int, int], device: torch.device) -> list[Tensor]:
    """Masks (N,) of the grid's quarters; codes of one are two rows or columns apart. Empty ones are left out."""
    rows, columns = (torch.arange(side, device=device) % 2 for side in grid)
    which = (2 * rows[:, None] + columns).flatten()
    return [which == number for number in range(LOTS) if bool((which == number).any())]
