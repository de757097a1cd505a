"""The judge: an attribute classifier trained apart from the model, which reads generated faces.

    image (B, 3, 96, 96) -> tower -> map (B, C, 3, 3) -> logits (B, attributes), yes above 0
                                         `-> mean (B, C): features for KID and FID

It shares no weights and no losses with the model and its encoders, though it learns on the same training photos: yes
and no weighted alike (recipe `judge`), so one half is the threshold of the best balanced accuracy. What the model's
own CLIP tower says of a picture can't tell whether the model only pleases its own tower; the judge can.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from unif2ace_core.data.attributes import BINARY, VISIBLE_30
from unif2ace_core.errors import UserError
from unif2ace_core.experts.tower import ConvTower, resized
from unif2ace_core.weights.parts import load_part

SHIPPED = Path(str(resources.files("unif2ace_core") / "assets" / "judge"))


@dataclass(frozen=True)
class JudgeConfig:
    """Sizes of the judge."""

    pixels: int = 96  # side of the input
    widths: tuple[int, ...] = (32, 64, 128, 256)  # tower stages at /4, /8, /16, /32
    depths: tuple[int, ...] = (1, 2, 2, 2)  # residual blocks per stage
    attributes: tuple[str, ...] = BINARY  # one logit each


class Judge(nn.Module):
    """Attribute logits and features of pictures."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.tower = ConvTower(config.widths, config.depths)
        side = config.pixels // 2 ** (len(config.widths) + 1)
        self.head = nn.Linear(config.widths[-1] * side**2, len(config.attributes))

    def map(self, images: Tensor) -> Tensor:
        """Square images (B, 3, H, H) in [-1, 1], of any size -> (B, C, h, h)."""
        return self.tower(resized(images.to(self.head.weight.device), self.config.pixels))

    def forward(self, images: Tensor) -> Tensor:
        """Images as for `map` -> logits (B, attributes)."""
        return self.head(self.map(images).flatten(1))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images as for `map` -> (B, C), to compare sets of pictures by."""
        return self.map(images).float().mean((2, 3))

    @torch.no_grad()
    def read(self, images: Tensor) -> dict[str, Tensor]:
        """Images as for `map` -> probabilities (B, 2) of no and yes by attribute."""
        yes = self(images).float().sigmoid()
        return {name: torch.stack([1 - part, part], 1) for name, part in zip(self.config.attributes, yes.unbind(1))}


def load_judge(directory: Path | None = None, device: torch.device | str = "cpu") -> Judge:
    """Read judge.safetensors and judge.json of a folder; of the judge that comes with the package where none is given.

    Raises:
        UserError: a file is missing or damaged, or visible attributes are not among what the judge knows.
    """
    folder = directory or SHIPPED
    judge = load_part(folder, "judge", Judge, JudgeConfig)
    missing = [name for name in VISIBLE_30 if name not in judge.config.attributes]
    if missing:
        raise UserError(f"the judge in {folder} does not know {missing[0]}; give one that 'unif2ace train judge' made")
    return judge.to(device)
