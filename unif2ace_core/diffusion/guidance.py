"""Guidance over the course of sampling: which share s of the guidance g each denoising step gets.

Step j of T ends at progress p = (j + 1) / T and is guided with g_j = g s(p):

    constant            s = 1                          mean over the steps 1
    linear              s = p                          (T + 1) / (2 T)
    cosine              s = (1 - cos(pi p)) / 2        (T + 1) / (2 T)
    window:START-END    s = 1 if START < p <= END      share of the steps inside, END - START for whole steps
                            0 otherwise

So g is what the last step of an increasing schedule gets; about 2 g spends as much guidance as a constant g.
A step with s = 0 needs no unconditional half.

Sources: guidance that grows linearly, so that early codes are drawn freely: Muse (Chang et al., arXiv 2301.00704).
Linear and cosine growth compared with others, there with twice the weight, so that the mean is that of the constant:
Wang et al., "Analysis of Classifier-Free Guidance Weight Schedulers" (arXiv 2404.13040). Window: Kynkäänniemi et al.,
"Applying Guidance in a Limited Interval" (arXiv 2404.07724). Why strong guidance of heavily masked images does harm:
Rojas et al. (arXiv 2507.08965).

Guidance also makes the posterior narrower: logits differ more from one another, so pictures differ less. `rescaled`
takes that back in part: Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv 2305.08891),
section 3.4, there for continuous predictions, here for logits.
"""

from __future__ import annotations

import math
import re
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FORMS = "constant, linear, cosine or window:START-END, for example window:0.2-0.8"


@dataclass(frozen=True)
class GuidanceSchedule:
    """Base of all schedules; parameters are the dataclass fields of the subclass, all of them numbers."""

    name: ClassVar[str]

    def share(self, progress: float) -> float:
        """s in [0, 1] of a step that ends at this progress in (0, 1]."""
        raise NotImplementedError

    def __str__(self) -> str:
        """The form that `parse_schedule` reads."""
        numbers = "-".join(repr(value).removesuffix(".0") for value in astuple(self))
        return f"{self.name}:{numbers}" if numbers else self.name


@dataclass(frozen=True)
class Constant(GuidanceSchedule):
    """The same guidance in every step."""

    name = "constant"

    def share(self, progress: float) -> float:
        return 1.0


@dataclass(frozen=True)
class Linear(GuidanceSchedule):
    """Grows in proportion to progress."""

    name = "linear"

    def share(self, progress: float) -> float:
        return progress


@dataclass(frozen=True)
class Cosine(GuidanceSchedule):
    """Grows slowly, then fast around the middle, then slowly; half-way it is one half."""

    name = "cosine"

    def share(self, progress: float) -> float:
        return (1 - math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Window(GuidanceSchedule):
    """Full guidance inside a window of progress, none before and after it.

    Raises:
        UserError: a window that is empty or reaches beyond 0..1.
    """

    start: float  # progress that the first guided step starts from
    end: float  # progress that the last guided step ends at
    name = "window"

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise UserError(f"guidance schedule '{self}' is no window; give 0 <= START < END <= 1")

    def share(self, progress: float) -> float:
        return float(self.start < progress <= self.end)


SCHEDULES: dict[str, type[GuidanceSchedule]] = {kind.name: kind for kind in (Constant, Linear, Cosine, Window)}


def parse_schedule(text: str) -> GuidanceSchedule:
    """A schedule from NAME or NAME:NUMBER-NUMBER.

    Raises:
        UserError: no such schedule, or its numbers are missing, too many or no numbers.
    """
    name, colon, values = text.partition(":")
    try:
        kind = SCHEDULES[name]
        numbers = [float(value) for value in re.split("(?<!e)-", values)] if colon else []
    except (KeyError, ValueError):
        raise UserError(f"no guidance schedule {text!r}; use {FORMS}") from None
    if len(numbers) != len(fields(kind)):
        raise UserError(f"guidance schedule {text!r} has {len(numbers)} numbers, not {len(fields(kind))}; use {FORMS}")
    return kind(*numbers)


def rescaled(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """Guided logits (M, K) brought towards the spread of the conditional ones (M, K): all the way at share 1.

    guided (share sigma_conditional / sigma_guided + 1 - share), sigmas over the K codes of a position.
    """
    spread = conditional.std(-1, keepdim=True) / guided.std(-1, keepdim=True).clamp_min(1e-6)
    return guided * (share * spread + 1 - share)
