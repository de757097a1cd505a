"""Encoders that learn beside the transformer (`train_experts=clip,face`): photos in, features out, in every step.

An encoder that does not learn is run once and its features are cached (train/encode.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipEncoder, ClipExpert, load_clip_expert
from unif2ace_core.experts.face import INSIGHTFACE, load_face_expert
from unif2ace_core.weights.parts import part_kind


class LearningExperts(nn.Module):
    """CLIP and face encoders whose features are part of the loss's graph."""

    def __init__(self, experts: Mapping[str, nn.Module], pixels: int) -> None:
        """`experts` by name, clip or face; `pixels` is the side of the photos they will see."""
        super().__init__()
        self.experts, self.pixels = nn.ModuleDict(experts), pixels
        self.eval().requires_grad_(True)
        for name, expert in experts.items():
            freeze_unused(expert, self.features(name, torch.zeros(1, 3, pixels, pixels)))
            if isinstance(expert, ClipEncoder):
                expert.attributes.requires_grad_(False)  # no loss here ties what it says to labels

    def train(self, mode: bool = True) -> LearningExperts:
        """Whatever is asked for, statistics of normalisation layers stay as they are."""
        return super().train(False)

    def features(self, name: str, images: Tensor) -> Tensor:
        """Photos (M, 3, P, P) in [-1, 1] -> features of one expert (M, T, C); T is 1 for a face descriptor."""
        expert = self.experts[name]
        if isinstance(expert, ClipExpert):
            return expert.features(images).tokens
        return cast("Tensor", expert(images)).unsqueeze(1)

    def forward(self, images: Tensor, rows: int) -> dict[str, Tensor]:
        """Features (rows, T, C) by name; `images` (M, 3, P, P) belong to the last M rows, the others have zeros.

        Without images a blank one is seen and ignored: the processes of a sharded run must all take part.
        """
        found = {}
        for name in self.experts:
            seen = images if len(images) else images.new_zeros(1, *images.shape[1:])
            features = self.features(name, seen)
            blank = features.new_zeros(rows - len(images), *features.shape[1:])
            found[name] = torch.cat([blank, features]) if len(images) else blank + 0 * features.sum()
        return found


def freeze_unused(expert: nn.Module, features: Tensor) -> None:
    """Freeze parameters that these features do not depend on, such as heads for other purposes."""
    parameters = list(expert.parameters())
    gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def load_learners(names: tuple[str, ...], folders: Mapping[str, Path | None], pixels: int) -> LearningExperts | None:
    """The named experts from their folders, ready to learn; None where there is none to learn.

    Raises:
        UserError: an expert without a folder, or one that can't learn.
    """
    experts: dict[str, nn.Module] = {}
    for name in names:
        folder = folders.get(name)
        if not folder:
            raise UserError(f"train_experts={name} needs {name}=DIR, the expert to start from")
        if name == "face" and part_kind(folder, "face", (INSIGHTFACE,)):
            raise UserError("a recognition model of insightface cannot learn; leave face out of train_experts")
        experts[name] = load_clip_expert(folder) if name == "clip" else load_face_expert(folder)
    return LearningExperts(experts, pixels) if experts else None
