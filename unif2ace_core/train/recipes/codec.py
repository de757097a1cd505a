"""Recipe `codec`: the LFQ image tokenizer.

    unif2ace train codec --data DATA --output runs/codec
    unif2ace train codec --data DATA --output runs/codec2 init=runs/codec/export perceptual=runs/clip/export \\
        perceptual_weight=1 centre_weight=4
    unif2ace train codec --data DATA --output runs/decoder init=runs/codec2/export perceptual=runs/clip/export \\
        freeze_encoder=true adversarial=0.05

Stage 1 learns codes with an L1, an edge and LFQ's entropy loss. Stage 2 goes on with features of the CLIP expert (a
perceptual loss of our own making; the expert knows glasses and smiles, so the codes come to hold them) and with more
weight on the face. Stage 3 keeps the codes and trains the decoder alone against light patch discriminators. A decoder
that had learned to repair drawn codes (recipe `decoder`) learns whole codes again, and its config says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from unif2ace_core.data.sets import preferred_sources
from unif2ace_core.evaluate.metrics import psnr
from unif2ace_core.tokens.codec import Codec, CodecConfig, entropy_terms, quantize
from unif2ace_core.train.options import TrainConfig, as_path, check_range
from unif2ace_core.train.pictures import (
    Critic,
    adversarial_terms,
    centre_weights,
    feature_distance,
    perceptual_tower,
    pixel_terms,
    reconstruction,
)
from unif2ace_core.train.processes import Part
from unif2ace_core.train.records import photo_batch, split_records, training_pixels
from unif2ace_core.weights.parts import load_part, save_part


@dataclass
class CodecTrainConfig(TrainConfig):
    """Settings of the codec recipe."""

    steps: int = 2500
    batch_size: int = 32
    learning_rate: float = 1e-3
    sources: tuple[str, ...] = ("celebahq", "ffhq", "lfw")  # whose photos are learned; all if none is there
    bits: int = 13  # LFQ bits
    edge_weight: float = 1.0  # of the L1 between image gradients
    centre_weight: float = 1.0  # how many times as much as the border the middle of the frame, the face, counts in both
    commit_weight: float = 0.05  # keeps encoder values near -1 and +1
    entropy_weight: float = 0.02  # of LFQ's entropy difference
    diversity: float = 1.5  # weight of the codebook entropy inside it
    entropy_sample: int = 256  # codes per step for the codebook entropy
    perceptual: str = ""  # export of the clip recipe for the perceptual loss
    perceptual_weight: float = 0.5
    freeze_encoder: bool = False  # stage 3: codes stay, only the decoder learns
    adversarial: float = 0.0  # weight of the patch discriminators' loss

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("bits",), 1, 15)  # encoded codes are kept as int16
        check_range(self, ("entropy_sample",), 1)
        check_range(self, ("centre_weight",), 1.0)


CONFIG = CodecTrainConfig


class CodecTask:
    """See `unif2ace_core.train.loop.Task`."""

    name = "codec"
    shardable = False

    def __init__(self, config: CodecTrainConfig, data: Path) -> None:
        self.config = config
        start = as_path(config.init)
        self.codec = load_part(start, "codec", Codec, CodecConfig) if start else Codec(CodecConfig(bits=config.bits))
        self.codec.train().requires_grad_(True)
        self.module = nn.ModuleDict({"codec": self.codec}).to(memory_format=torch.channels_last)
        self.critic = Critic() if config.adversarial else None
        if self.critic is not None:
            self.module["critic"] = self.critic
        if config.freeze_encoder:
            for part in (self.codec.encoder, self.codec.encoder_mix, self.codec.to_bits):
                part.requires_grad_(False)
        self.weight = centre_weights(self.codec.config.pixels, config.centre_weight)
        perceptual = as_path(config.perceptual)
        self.features = perceptual_tower(perceptual) if perceptual else None
        sources = preferred_sources(data, config.sources)
        train, held_out = (split_records(data, split, sources) for split in ("train", "val"))
        self.pixels, self.val = training_pixels(data, train), training_pixels(data, held_out)

    def modules(self) -> nn.Module:
        return self.module

    def batch(self, step: int, part: Part) -> Tensor:
        """(B, 3, H, W) in [-1, 1], half of them mirrored."""
        rows = torch.randint(len(self.pixels), (part.rows(self.config.batch_size),), generator=part.own)
        mirrored = torch.rand(len(rows), generator=part.own) < 0.5
        return photo_batch(self.pixels, rows.sort().values, mirrored).contiguous(memory_format=torch.channels_last)

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        values = self.codec.project(batch)
        restored = self.codec.decoder(quantize(values))
        pixels, edges = pixel_terms(restored, batch, self.weight)
        terms = {"l1": pixels.mean(), "edge": self.config.edge_weight * edges.mean()}
        if not self.config.freeze_encoder:
            terms |= self.code_terms(values, generator)
        if self.features is not None:
            tower = self.features.to(batch.device)
            with torch.no_grad():
                wanted = tower.maps(batch)
            terms["perceptual"] = self.config.perceptual_weight * feature_distance(tower.maps(restored), wanted).mean()
        if self.critic is not None:
            terms["critic"], fooled = adversarial_terms(self.critic, batch, restored)
            terms["adversarial"] = self.config.adversarial * fooled
        total = torch.stack([term.float() for term in terms.values()]).sum()
        metrics = {name: float(term.detach()) for name, term in terms.items()}
        return total, metrics | {"psnr": float(psnr(restored.detach().float(), batch).mean())}

    def code_terms(self, values: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Commitment and LFQ's entropy loss (MAGVIT-v2, section 3.1)."""
        flat = values.float().permute(0, 2, 3, 1).reshape(-1, values.shape[1])
        chosen = torch.randperm(len(flat), generator=generator)[: self.config.entropy_sample]
        single, book = entropy_terms(flat[chosen.to(flat.device)])
        commit = (flat - torch.where(flat > 0, 1.0, -1.0)).square().mean()
        return {
            "commit": self.config.commit_weight * commit,
            "entropy": self.config.entropy_weight * (single - self.config.diversity * book),
        }

    def evaluate(self) -> dict[str, float]:
        """PSNR and share of the codebook in use, over at most 512 held-out photos."""
        errors, codes = reconstruction(self.codec, self.val[:512])
        return {"val_psnr": round(float(errors.mean()), 3), "codes_used": float(codes.unique().numel())}

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        save_part(directory, "codec", self.codec, replace(self.codec.config, repair=0.0))


def build(config: CodecTrainConfig, data: Path, output: Path) -> CodecTask:
    """The loop's task for this recipe."""
    torch.manual_seed(config.seed)  # fresh weights
    return CodecTask(config, data)
