"""Recipe `decoder`: the codec's decoder learns to draw what the model draws.

    unif2ace train decoder --data DATA --output runs/decoder init=unif2ace_core/assets/mini

Codes that a model draws fit together less well than those of photos, and a decoder that knows those alone draws smears.
This one gets a share of each drawn code and the rest of what the model expects there (diffusion/repair.py). It restores
photos from their own codes, some of them drawn anew, and makes what was drawn from captions look like photos to a
critic. It learns to make hair and skin of fixed noise (grain): patterns that repeat, which doubling a map leaves, cost
what they stand out by. Codes stay as they are. `init=` is the whole model, and the CLIP expert in it lends its
tower to the losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.data.sets import preferred_sources
from unif2ace_core.diffusion.repair import repaired
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipConfig, read_clip_config
from unif2ace_core.tokens.codec import Codec, CodecConfig, on_grid, to_image_tensor
from unif2ace_core.train.material import maker
from unif2ace_core.train.options import TrainConfig, as_path, check_range
from unif2ace_core.train.pictures import (
    Critic,
    adversarial_terms,
    centre_weights,
    feature_distance,
    perceptual_tower,
    pixel_terms,
    power_spectrum,
    reconstruction,
    shifted,
    spectral_excess,
)
from unif2ace_core.train.processes import Part
from unif2ace_core.train.records import photo_batch, split_records, training_pixels
from unif2ace_core.weights.parts import load_part, save_part
from unif2ace_core.weights.resolve import codec_config, load_model
from unif2ace_core.weights.store import copy_into

SPECTRUM = 512  # photos in which frequencies are measured
CELL = 16  # pixels a side that one code stands for


@dataclass
class DecoderTrainConfig(TrainConfig):
    """Settings of the decoder recipe."""

    steps: int = 200  # a critic asks for grit in the long run: look at the checkpoints
    save_every: int = 50
    batch_size: int = 24
    learning_rate: float = 3e-4
    decay: float = 0.5
    weight_decay: float = 0.0
    max_gradient_norm: float = 5.0
    ema: float = 0.998
    sources: tuple[str, ...] = ("celebahq", "ffhq")  # whose photos are learned; all if none is there
    photos: int = 2048  # photos with what the model expects of their codes
    drawn: int = 2048  # pictures drawn from captions
    sampling_steps: int = 14  # in which they are drawn
    drawn_share: float = 0.5  # of a step's rows
    grain: int = 4  # patterns of noise on each of the decoder's maps, where the start has none
    repair: float = 0.4  # share of the expected entries in what is decoded
    plain_share: float = 0.3  # of the photos with their own codes: decoded from these alone, as `codec.decode` does
    centre_weight: float = 3.0  # how many times as much as the border the middle of the frame counts in pixels
    perceptual_weight: float = 0.7
    adversarial: float = 0.1  # weight of the critic's opinion
    excess_weight: float = 0.5  # of frequencies that stand out more than in photos: patterns that repeat
    keep_weight: float = 0.3  # of the L1 between mean colours of drawn cells and the start's, lest they drift

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("photos", "drawn", "sampling_steps", "centre_weight"), 1)
        check_range(self, ("repair", "plain_share"), 0, 1)
        check_range(self, ("drawn_share",), 0.01, 0.99)
        check_range(self, ("grain", "perceptual_weight", "adversarial", "excess_weight", "keep_weight"), 0)

    def missing(self) -> list[str]:
        return [] if self.init else ["init"]


CONFIG = DecoderTrainConfig


class DecoderTask:
    """See `unif2ace_core.train.loop.Task`."""

    name = "decoder"
    shardable = False

    def __init__(self, config: DecoderTrainConfig, data: Path) -> None:
        directory = as_path(config.init)
        if directory is None:
            raise UserError("recipe decoder needs init=DIR, a model's folder")
        self.config, self.directory = config, directory.resolve()  # `mini` is a folder here, not the embedded model
        check_model(self.directory)
        self.codec = with_grain(load_part(self.directory, "codec", Codec, CodecConfig), config.grain)
        self.codec.decoder.train().requires_grad_(True)
        self.tower, side = perceptual_tower(self.directory), self.codec.config.pixels
        self.critic = Critic()
        self.module = nn.ModuleDict({"codec": self.codec, "critic": self.critic}).to(memory_format=torch.channels_last)
        self.weight = centre_weights(side, config.centre_weight)
        sources = preferred_sources(data, config.sources)
        records, held_out = (split_records(data, split, sources) for split in ("train", "val"))
        self.pixels, self.val = (training_pixels(data, each, side) for each in (records, held_out))
        some = self.pixels[:: max(1, len(self.pixels) // SPECTRUM)]
        self.spectrum = power_spectrum(to_image_tensor(torch.from_numpy(np.array(some))))
        model = load_model(str(self.directory), parts=())
        self.start, self.start_share = model.codec.decoder, 1.0 if model.repair else 0.5
        made = maker(model, data, records, self.pixels, config.sampling_steps, config.seed)
        self.photos, self.drawn = made.of_photos(config.photos), made.of_drawings(config.drawn)

    def modules(self) -> nn.Module:
        return self.module

    def batch(self, step: int, part: Part) -> dict[str, Tensor]:
        """Photos (P, 3, H, W), how much each counts, and what is decoded for them and for drawn pictures.

        `real` are any photos, for the critic: it would learn by heart those few whose codes are kept.
        `kept` is of the drawn ones, for the start: half as much repaired where it knows whole codes alone.
        """
        rows = part.rows(self.config.batch_size)
        drawn = min(round(rows * self.config.drawn_share), rows - 1)
        chosen = torch.randint(len(self.photos["row"]), (rows - drawn,), generator=part.own)
        plain = torch.rand(len(chosen), generator=part.own) < self.config.plain_share
        redrawn = self.photos["redrawn"][chosen]
        share = torch.where(plain & (redrawn == 0), 0.0, self.config.repair)
        others = torch.randint(len(self.drawn["codes"]), (drawn,), generator=part.own)
        any_rows = torch.randint(len(self.pixels), (len(chosen),), generator=part.own)
        return {
            "photos": self.photos_of(self.photos["row"][chosen], self.photos["mirrored"][chosen]),
            "real": self.photos_of(any_rows, torch.rand(len(any_rows), generator=part.own) < 0.5),
            "restored": self.mixed(self.photos, chosen, share),
            "counts": 1 - redrawn,
            "drawn": self.mixed(self.drawn, others, torch.full((drawn,), self.config.repair)),
            "kept": self.mixed(self.drawn, others, torch.full((drawn,), self.config.repair * self.start_share)),
        }

    def photos_of(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Training photos (P, 3, H, W) in [-1, 1]."""
        return photo_batch(self.pixels, rows, mirrored).contiguous(memory_format=torch.channels_last)

    def mixed(self, material: Mapping[str, Tensor], chosen: Tensor, share: Tensor) -> Tensor:
        """Entries (P, bits, h, w) of rows of the material, `share` (P,) of each as expected."""
        values = repaired(material["codes"][chosen], material["expected"][chosen], share)
        return on_grid(values, self.codec.config.grid).contiguous(memory_format=torch.channels_last)

    def loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        target, counts = batch["photos"], batch["counts"]
        tower = self.tower.to(target.device)
        pictures = self.codec.decoder(torch.cat([batch["restored"], batch["drawn"]]))
        restored, drawn = pictures.split([len(target), len(pictures) - len(target)])
        sizes = [len(target), len(batch["real"]), len(pictures)]
        photos, real, made = shifted(torch.cat([target, batch["real"], pictures]), generator).split(sizes)
        photos, real = photos.detach(), real.detach()  # they have been in one tensor with pictures
        pixels, edges = pixel_terms(restored, target, self.weight)
        apart = feature_distance(tower.maps(made[: len(target)]), tower.maps(photos))
        judged, fooled = adversarial_terms(self.critic, real, made)
        terms = {
            "l1": (counts * pixels).mean(),
            "edge": (counts * edges).mean(),
            "perceptual": self.config.perceptual_weight * (counts * apart).mean(),
            "excess": self.config.excess_weight * spectral_excess(made, self.spectrum),
            "critic": judged,
            "adversarial": self.config.adversarial * fooled,
        }
        if len(drawn):
            terms["keep"] = self.config.keep_weight * self.drift(drawn, batch["kept"])
        total = torch.stack([term.float() for term in terms.values()]).sum()
        return total, {name: float(term.detach()) for name, term in terms.items()}

    def drift(self, drawn: Tensor, kept: Tensor) -> Tensor:
        """How far mean colours of the cells of pictures (P, 3, H, W) are from those that the start gives entries."""
        with torch.no_grad():
            before = self.start.to(kept.device)(kept)
        return (F.avg_pool2d(drawn, CELL) - F.avg_pool2d(before, CELL)).abs().mean()

    def evaluate(self) -> dict[str, float]:
        """PSNR, over at most 512 held-out photos, of what their codes alone give."""
        errors, _ = reconstruction(self.codec, self.val[:512])
        return {"psnr": round(float(errors.mean()), 3)}

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        """The whole model of `init=` with this decoder, whose config says how far it has learned to repair."""
        for file in self.directory.iterdir():
            if file.suffix in (".safetensors", ".json") and file.stem != "codec":
                copy_into(directory, file)
        save_part(directory, "codec", self.codec, replace(self.codec.config, repair=self.config.repair))


def with_grain(codec: Codec, patterns: int) -> Codec:
    """A codec with noise to make texture of, which decodes as before until it has learned to."""
    if codec.config.grain or not patterns:
        return codec
    found = Codec(replace(codec.config, grain=patterns)).eval().requires_grad_(False)
    found.load_state_dict(found.state_dict() | codec.state_dict())
    return found


def check_model(directory: Path) -> None:
    """Raise `UserError` where a folder's codec or CLIP expert are not of the kinds that this recipe knows."""
    if not isinstance(codec_config(directory), CodecConfig):
        raise UserError(f"the codec of {directory} is MAGVIT-v2, and recipe decoder trains that of recipe codec alone")
    if not isinstance(read_clip_config(directory), ClipConfig):
        raise UserError(
            f"the CLIP expert of {directory} is an open_clip tower, and the losses of recipe decoder need one of "
            "recipe clip; put its export's clip.safetensors and clip.json into the folder"
        )


def build(config: DecoderTrainConfig, data: Path, output: Path) -> DecoderTask:
    """The loop's task for this recipe."""
    torch.manual_seed(config.seed)  # fresh weights of the critic
    return DecoderTask(config, data)
