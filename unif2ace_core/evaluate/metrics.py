"""Metrics: agreement with labels, distances between sets of features, likeness of pictures.

KID is the unbiased squared MMD with the kernel (x.y / D + 1)^3 (Binkowski et al., arXiv 1801.01401), FID the
Frechet distance of two Gaussians (Heusel et al., arXiv 1706.08500), SSIM that of Wang et al. 2004. Nothing
here knows where features come from: numbers of different extractors can't be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.errors import UserError
from unif2ace_core.tokens.codec import to_image_tensor

# --- Agreement with labels -------------------------------------------------------------------------------


def balanced_accuracy(said: Tensor, truth: Tensor) -> float:
    """Mean recall of the two classes; NaN where one is absent. Both (n,) bool."""
    if not len(truth) or truth.all() or not truth.any():
        return math.nan
    return float((said[truth].float().mean() + (~said[~truth]).float().mean()) / 2)


def mean_recall(said: Sequence[str | None], truth: Sequence[str]) -> float:
    """Balanced accuracy of any number of values: the mean share said right of each true one; NaN for none."""
    recalls = [float(part.mean()) for part in hits_by_value(said, truth).values()]
    return sum(recalls) / len(recalls) if recalls else math.nan


def hits_by_value(said: Sequence[str | None], truth: Sequence[str]) -> dict[str, Tensor]:
    """Per true value (n,) with 1 where it was said and 0 elsewhere; values sorted."""
    pairs = list(zip(said, truth, strict=True))
    return {
        value: torch.tensor([float(answer == value) for answer, true in pairs if true == value])
        for value in sorted(set(truth))
    }


def macro_f1(said: Sequence[str | None], truth: Sequence[str], values: Sequence[str]) -> float:
    """Mean F1 over `values`; an answer that is none of them is a miss. NaN where no value is in `truth`."""
    scores = []
    for value in values:
        hit = sum(s == value == t for s, t in zip(said, truth, strict=True))
        named, there = sum(s == value for s in said), sum(t == value for t in truth)
        if there:
            scores.append(2 * hit / (named + there))
    return sum(scores) / len(scores) if scores else math.nan


def bootstrap_interval(
    strata: Sequence[Tensor], generator: torch.Generator, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean over strata of the stratum means, resampled inside each stratum.

    One stratum gives the interval of a plain mean, two of hits that of a balanced accuracy, 2A that of
    the mean of A balanced accuracies. Strata are (n_i,) with n_i >= 1.
    """
    if not strata or not all(len(part) for part in strata):
        return math.nan, math.nan
    means = torch.zeros(draws, dtype=torch.float64)
    for part in strata:
        chosen = torch.randint(len(part), (draws, len(part)), generator=generator)
        means += part.double()[chosen].mean(1) / len(strata)
    return percentile_interval(means, level)


def percentile_interval(values: Tensor, level: float) -> tuple[float, float]:
    """The ends between which the middle share `level` of the values (n,) in float64 lies."""
    tail = (1 - level) / 2
    low, high = values.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def ratio_interval(
    hits: Tensor, counts: Tensor, generator: torch.Generator, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(hits) / sum(counts), both (n,), the n items resampled together; NaN for no counts.

    For shares whose counted things come in groups, such as the words of one text.
    """
    if not counts.sum():
        return math.nan, math.nan
    chosen = torch.randint(len(counts), (draws, len(counts)), generator=generator)
    above, below = hits.double()[chosen].sum(1), counts.double()[chosen].sum(1)
    return percentile_interval((above / below)[below > 0], level)


def known_mean(values: Sequence[float]) -> float:
    """Mean of those that are numbers; NaN for none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def rounded(value: float, digits: int = 4) -> float | None:
    """The value for a report: rounded, None for what is not a number."""
    return None if math.isnan(value) else round(value, digits)


# --- Distances between sets of features --------------------------------------------------------------------


@dataclass(frozen=True)
class Kid:
    """Mean and standard deviation over subsets of the unbiased squared MMD, times 1,000."""

    mean: float
    std: float
    size: int  # pictures of each set per subset
    subsets: int


def polynomial_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD of x (n, D) and y (m, D) with the kernel (x.y / D + 1)^3; can be negative."""
    n, m, d = len(x), len(y), x.shape[1]
    x, y = x.double(), y.double()
    xx, yy, xy = ((a @ b.t() / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    inside = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(inside - 2 * xy.mean())


def kid(x: Tensor, y: Tensor, generator: torch.Generator, subsets: int = 50, size: int = 500) -> Kid:
    """KID x 1,000 of features x (n, D) and y (m, D) over random subsets of at most `size` and at most n or m.

    Raises:
        UserError: fewer than two pictures in a set.
    """
    check_features(x, y)
    size = min(size, len(x), len(y))
    values = []
    for _ in range(subsets):
        chosen = (torch.randperm(len(part), generator=generator)[:size] for part in (x, y))
        a, b = (part[rows] for part, rows in zip((x, y), chosen))
        values.append(1000 * polynomial_mmd(a, b))
    table = torch.tensor(values, dtype=torch.float64)
    return Kid(float(table.mean()), float(table.std(correction=0)), size, subsets)


def fid(x: Tensor, y: Tensor) -> float:
    """|mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^1/2) of features x (n, D) and y (m, D), in float64.

    Biased upwards for n or m not much larger than D.

    Raises:
        UserError: fewer than two pictures in a set.
    """
    check_features(x, y)
    x, y = x.double(), y.double()
    return frechet(x.mean(0), torch.cov(x.t()), y.mean(0), torch.cov(y.t()))


def frechet(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> float:
    """Squared Frechet distance of two Gaussians; means (D,), covariances (D, D) or () for D = 1.

    tr (C_x C_y)^1/2 is the sum of the roots of the eigenvalues of C_x^1/2 C_y C_x^1/2, which is symmetric.
    """
    cov_x, cov_y = (torch.atleast_2d(c.double()) for c in (cov_x, cov_y))
    values, vectors = torch.linalg.eigh(cov_x)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.t()
    product = torch.linalg.eigvalsh(root @ cov_y @ root).clamp_min(0).sqrt().sum()
    means = (mean_x.double() - mean_y.double()).square().sum()
    return float((means + cov_x.trace() + cov_y.trace() - 2 * product).clamp_min(0))


def check_features(x: Tensor, y: Tensor) -> None:
    """Refuse sets that are too small to compare."""
    if min(len(x), len(y)) < 2:
        raise UserError(f"comparing {len(x)} with {len(y)} pictures needs at least 2 of each; raise --limit")


@torch.no_grad()
def extract(
    images: Tensor | np.ndarray,
    extractor: Callable[[Tensor], Tensor],
    batch_size: int = 64,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Features (n, D) in fp32 on the CPU of images (n, 3, H, W) in [-1, 1] or uint8 (n, H, W, 3).

    An array may be one on disk: it is read batch by batch.
    """
    found = []
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        found.append(extractor(as_signed(part)).float().cpu())
        if on_progress:
            on_progress(min(start + batch_size, len(images)), len(images))
    return torch.cat(found)


def as_signed(images: Tensor | np.ndarray) -> Tensor:
    """uint8 (n, H, W, 3) -> fp32 (n, 3, H, W) in [-1, 1]; floating images stay as they are."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.array(images))
    if images.is_floating_point():
        return images
    return to_image_tensor(images)


# --- Likeness of two pictures ------------------------------------------------------------------------------


def psnr(restored: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB: (B, 3, H, W) in [-1, 1] -> (B,)."""
    error = (restored.clamp(-1, 1) - target).square().mean((1, 2, 3))
    return 10 * torch.log10(4 / error.clamp_min(1e-10))


def ssim(restored: Tensor, target: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity of each image: (B, C, H, W) in [-1, 1] -> (B,), mean over channels and places."""
    axis = torch.arange(window, dtype=torch.float32, device=target.device) - (window - 1) / 2
    bell = torch.exp(-axis.square() / (2 * sigma**2))
    bell, channels = bell / bell.sum(), target.shape[1]
    across = bell.expand(channels, 1, 1, window)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, across, groups=channels), across.transpose(2, 3), groups=channels)

    x, y = restored.clamp(-1, 1).float(), target.float()
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x.square(), blur(y * y) - mean_y.square()
    both = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # the range of values is 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * both + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean((1, 2, 3))
