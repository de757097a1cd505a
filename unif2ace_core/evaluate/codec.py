"""Suite `codec`: what the image tokenizer keeps of held-out photos, and how much of its codebook they use.

PSNR and SSIM compare each photo with its reconstruction; KID compares reconstructions of one half of the
photos with the other half as they are, because its estimator asks for independent sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unif2ace_core.evaluate.fidelity import Extractor, distances
from unif2ace_core.evaluate.metrics import as_signed, extract, psnr, rounded, ssim

COUNT = 1200  # photos where nothing else is said


def codebook_use(codes: Tensor, size: int) -> dict[str, Any]:
    """How many of `size` codes occur in codes (B, N), and the perplexity of their distribution."""
    counts = torch.bincount(codes.flatten(), minlength=size).double()
    shares = counts[counts > 0] / counts.sum()
    return {
        "codes_used": int((counts > 0).sum()),
        "codes": size,
        "perplexity": rounded(math.exp(-float((shares * shares.log()).sum())), 1),
        "codes_drawn": codes.numel(),
    }


@torch.no_grad()
def measure(
    photos: Tensor,
    sources: Sequence[str],
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    size: int,
    extractor: Extractor | None,
    generator: torch.Generator,
    batch_size: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The suite's metrics.

    Args:
        photos: (n, H, W, 3) uint8 in random order.
        sources: the n photos' sources.
        encode: images (B, 3, H, W) in [-1, 1] -> codes (B, N).
        decode: codes -> images.
        size: entries of the codebook.
        extractor: features for KID, or None.
        generator: for KID's subsets.
    """
    codes, noise, likeness, restored = [], [], [], []
    for start in range(0, len(photos), batch_size):
        target = as_signed(photos[start : start + batch_size])
        codes.append(encode(target).cpu())
        image = decode(codes[-1]).float().cpu()
        noise.append(psnr(image, target))
        likeness.append(ssim(image, target))
        restored.append(image.half())  # only for KID
        if on_progress:
            on_progress(min(start + batch_size, len(photos)), len(photos))
    table = {"psnr": torch.cat(noise), "ssim": torch.cat(likeness)}
    result: dict[str, Any] = {"n": len(photos)}
    result |= {name: rounded(float(values.mean())) for name, values in table.items()}
    result["by_source"] = {
        source: _of_source([other == source for other in sources], table) for source in sorted(set(sources))
    }
    result |= codebook_use(torch.cat(codes), size)
    if extractor is not None and len(photos) >= 4:
        half = len(photos) // 2
        made = extract(torch.cat(restored)[:half].float(), extractor)
        result["reconstruction"] = distances(made, extract(photos[half:], extractor), generator)
        result["photos_floor"] = distances(
            extract(photos[:half], extractor), extract(photos[half:], extractor), generator
        )
    return result


def _of_source(chosen: Sequence[bool], table: dict[str, Tensor]) -> dict[str, Any]:
    """Means over the chosen photos."""
    rows = torch.tensor(chosen)
    return {name: rounded(float(values[rows].mean())) for name, values in table.items()} | {"n": int(rows.sum())}
