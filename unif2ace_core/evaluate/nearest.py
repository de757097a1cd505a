"""Suite `nearest`: are generated faces copies of training photos?

    generated --+-> features of the judge -> distance to the nearest of all training photos, beside the same for
    held out  --+                            held-out photos, which no model has seen

A model that copies is nearer to the training photos than real people are who were never in them. `share_nearer` is the
share of generated faces that are nearer than the nearest twentieth of the held-out ones; for equal distributions .05.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.evaluate.fidelity import Extractor
from unif2ace_core.evaluate.metrics import extract, rounded

COUNT = 500  # generated faces, and held-out photos, where nothing else is said
SHOWN, COLUMNS = 12, 6  # faces on the sheet, with their nearest photos below
NEAR = 0.05


def measure(
    images: Tensor, held_out: Tensor, train: np.ndarray, features: Extractor, sheet: Path | None = None
) -> dict[str, Any]:
    """The suite's metrics; all photos (n, H, W, 3) uint8. `sheet` gets a picture of faces over their nearest photos."""
    known = torch.cat([extract(torch.from_numpy(np.array(part)), features) for part in in_parts(train)])
    made, place = nearest(extract(images, features), known)
    real, _ = nearest(extract(held_out, features), known)
    if sheet is not None:
        write_sheet(images[:SHOWN], torch.from_numpy(train[place[:SHOWN].numpy()]), sheet)
    bound = real.quantile(NEAR)
    return {
        "n": len(images),
        "training_photos": len(train),
        "generated_to_train": distances(made),
        "held_out_to_train": distances(real),
        "share_nearer": rounded(float((made < bound).double().mean())),
    }


def in_parts(photos: np.ndarray, size: int = 1024) -> list[np.ndarray]:
    """The photos in parts that fit into memory."""
    return [photos[start : start + size] for start in range(0, len(photos), size)]


def nearest(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (n,) of features x (n, D) to the nearest of `known` (m, D), and which it is (n,)."""
    found = [torch.cdist(part, known).min(1) for part in x.split(64)]
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
