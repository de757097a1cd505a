"""Suite `nearest`: how near are generated faces to training photos, and would copies be seen?

    generated                          --+
    held-out photos, reconstructed     --+-> features of the judge -> distance to the nearest of all training photos
    some training photos, reconstructed--+

The codec blurs whatever goes through it, so photos are held against the generated faces as the codec restores them: the
held-out ones are what a generator that copies nothing looks like, the training ones what copies look like.
`share_nearer` is the share of generated faces that are nearer than the nearest twentieth of the held-out ones (for
equal distributions about .05), `copies_nearer` that of the copies: how well the distance tells them. A generator of
average faces is near to many photos without copying one: look at the sheet too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.evaluate.fidelity import Extractor, Reconstruct
from unif2ace_core.evaluate.metrics import extract, percentile_interval, rounded

COUNT = 500  # generated faces, and held-out photos, where nothing else is said
SHOWN, COLUMNS = 12, 6  # faces on the sheet, with their nearest photos below
NEAR = 0.05
EXACT = "donot_use_mm_for_euclid_dist"  # else copies are a rounding error apart
LEAST = 100  # faces that a share needs


def measure(
    images: Tensor,
    held_out: Tensor,
    train: np.ndarray,
    features: Extractor,
    reconstruct: Reconstruct,
    generator: torch.Generator,
    sheet: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The suite's metrics; all photos (n, H, W, 3) uint8. `sheet` gets a picture of faces over their nearest photos.

    `on_progress` is told (done, total) training photos.
    """
    known = extract(train, features, on_progress=on_progress)
    made, place = nearest(extract(images, features), known)
    if sheet is not None:
        write_sheet(images[:SHOWN], torch.from_numpy(train[place[:SHOWN].numpy()]), sheet)
    copied = torch.randperm(len(train), generator=generator)[: len(held_out)].sort().values
    photos = {"held_out": held_out, "copies": torch.from_numpy(train[copied.numpy()])}
    far = {
        name: nearest(extract(each, lambda part: features(reconstruct(part))), known)[0]
        for name, each in photos.items()
    }
    return {
        "n": len(images),
        "training_photos": len(train),
        "generated_to_train": distances(made),
        **{f"{name}_to_train": distances(values) for name, values in far.items()},
        "share_nearer": share_nearer(made, far["held_out"], generator),
        "copies_nearer": share_nearer(far["copies"], far["held_out"], generator),
    }


def share_nearer(near: Tensor, held_out: Tensor, generator: torch.Generator, draws: int = 1000) -> dict[str, Any]:
    """Share of distances (n,) below the `NEAR` quantile of held-out ones (m,), both resampled for a 95% interval."""
    if min(len(near), len(held_out)) < LEAST:
        return {"share": None, "interval": [None, None]}
    share = float((near < held_out.quantile(NEAR)).double().mean())
    one, other = (x[torch.randint(len(x), (draws, len(x)), generator=generator)] for x in (near, held_out))
    shares = (one < other.quantile(NEAR, dim=1, keepdim=True)).double().mean(1)
    return {"share": rounded(share), "interval": [rounded(value) for value in percentile_interval(shares, 0.95)]}


def nearest(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (n,) of features x (n, D) to the nearest of `known` (m, D), and which it is (n,)."""
    found = [torch.cdist(part, known, compute_mode=EXACT).min(1) for part in x.split(64)]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])


def distances(values: Tensor) -> dict[str, float | None]:
    """Least, median and mean."""
    found = {"least": values.min(), "median": values.median(), "mean": values.mean()}
    return {name: rounded(float(value)) for name, value in found.items()}


def write_sheet(faces: Tensor, photos: Tensor, path: Path) -> None:
    """Faces (n, H, W, 3) in rows, each over its photo; the file appears when it is whole."""
    from PIL import Image

    from unif2ace_core.weights.store import replacing

    pairs = torch.cat([faces, photos], 1)  # (n, 2 H, W, 3)
    rows = [torch.cat(list(part), 1) for part in pairs.split(COLUMNS)]
    width = max(row.shape[1] for row in rows)
    whole = torch.cat([torch.nn.functional.pad(row, (0, 0, 0, width - row.shape[1])) for row in rows], 0)
    with replacing(path) as temporary:
        Image.fromarray(whole.numpy()).save(temporary, format="PNG")
