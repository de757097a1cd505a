"""What a decoder learns from: codes, and what the model expects of each of them given the others.

    photo -> codes, some drawn anew -> expected entries      to be decoded to the photo
    caption -> sampler -> codes -> expected entries          to be decoded to what looks like a photo

Computed once in lots of 64 rows that the cache keeps, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.data.captions import caption
from unif2ace_core.data.pixels import frame_key
from unif2ace_core.data.sets import cache_directory
from unif2ace_core.data.shards import digest
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.diffusion.repair import expected_entries
from unif2ace_core.diffusion.samplers import masked_logits
from unif2ace_core.errors import UserError
from unif2ace_core.tasks.generate import (
    GenerateOptions,
    GenerateRequest,
    PromptedSpan,
    resolve_options,
    sample_codes,
    seen_text,
)
from unif2ace_core.train.encode import encoding_of
from unif2ace_core.train.records import photo_batch
from unif2ace_core.weights.parts import digest_of
from unif2ace_core.weights.resolve import LoadedModel
from unif2ace_core.weights.store import load_tensors, save_tensors

logger = logging.getLogger(__name__)

LOT = 64  # rows computed and kept together
BATCH = 16  # rows in one forward pass
VERSION = 1  # part of the cache's keys; goes up when what is computed changes
MOST_REDRAWN = 0.5  # share of a photo's codes that may be drawn anew
Lot = Mapping[str, Tensor]


@dataclass(frozen=True)
class Maker:
    """Makes lots for a model of the records of a split, whose photos are (R, P, P, 3) uint8."""

    model: LoadedModel
    data: Path
    records: Sequence[FaceRecord]
    photos: np.ndarray
    options: GenerateOptions  # resolved, with repair
    seed: int

    @cached_property
    def key(self) -> str:
        """Hash of all that photos' lots depend on: these, their labels, and what of the model takes part."""
        folder, known = self.model.directory, hashlib.sha256()
        for record in self.records:
            known.update(repr((record.key, sorted(record.labels.items()), record.age)).encode())
        words = repr((VERSION, self.model.config, self.model.quantization, self.seed, known.hexdigest()))
        parts = (
            digest_of(words, folder / "model.safetensors"),
            digest_of("", folder / "tokenizer.json"),
            encoding_of(self.model.codec),
            frame_key(self.data, self.records, self.photos.shape[1]),
        )
        return digest(parts)

    @cached_property
    def drawn_key(self) -> str:
        """The same of drawings, which depend on how they are sampled too."""
        return digest((self.key, self.options))

    def of_photos(self, count: int) -> dict[str, Tensor]:
        """`count` photos: codes (n, N), expected (n, N, bits), row, mirrored, redrawn (each code's chance of it)."""
        return self.kept("photos", self.key, count, self.photo_lot)

    def of_drawings(self, count: int) -> dict[str, Tensor]:
        """`count` pictures drawn from captions of the records: codes (n, N), expected (n, N, bits)."""
        return self.kept("drawn", self.drawn_key, count, self.drawn_lot)

    def kept(self, kind: str, key: str, count: int, make: Callable[[random.Random, int], Lot]) -> dict[str, Tensor]:
        """The first `count` rows of a kind's lots, each read from the cache or made and kept there."""
        lots = []
        for start in range(0, count, LOT):
            batches = -(-min(LOT, count - start) // BATCH)
            path = cache_directory() / f"{kind}-{key}-{start:06d}-{batches * BATCH}.safetensors"
            lot = kept_lot(path)
            if lot is None:
                logger.info("%s: %d of %d rows, once for all runs", kind, start, count)
                rng = random.Random(f"{kind} {self.seed} {start}")
                lot = joined([make(rng, BATCH) for _ in range(batches)])
                save_tensors(path, lot)
            lots.append(lot)
        return {name: rows[:count] for name, rows in joined(lots).items()}

    @torch.inference_mode()
    def photo_lot(self, rng: random.Random, count: int) -> Lot:
        """See `of_photos`; one half as they are, of the others up to `MOST_REDRAWN` are drawn anew, all at once."""
        rows = rng.choices(range(len(self.records)), k=count)
        generator = torch.Generator().manual_seed(rng.randrange(2**63))
        mirrored = torch.rand(count, generator=generator) < 0.5
        images = photo_batch(self.photos, torch.tensor(rows), mirrored)
        span = self.span(self.captions(rows, rng), generator)
        redrawn = torch.rand(count, generator=generator).mul(2).sub(1).clamp_min(0) * MOST_REDRAWN
        codes = drawn_anew(self.model.codec.encode(images.to(self.model.device)), span, redrawn, generator)
        found = {"row": torch.tensor(rows), "mirrored": mirrored, "redrawn": redrawn, "codes": codes.cpu().int()}
        return found | {"expected": self.expected(codes, span).cpu().half()}

    @torch.inference_mode()
    def drawn_lot(self, rng: random.Random, count: int) -> Lot:
        """See `of_drawings`."""
        texts = self.captions(rng.choices(range(len(self.records)), k=count), rng)
        found = sample_codes(self.model, [GenerateRequest(text, rng.randrange(2**31)) for text in texts], self.options)
        if found.expected is None:
            raise ValueError("a decoder learns from what is expected of codes; give options with repair")
        return {"codes": found.codes.cpu().int(), "expected": found.expected.cpu().half()}

    def captions(self, rows: Sequence[int], rng: random.Random) -> list[str]:
        """What is said of the photos of these rows."""
        return [caption(self.records[row], rng, "mixed") for row in rows]

    def span(self, texts: Sequence[str], generator: torch.Generator) -> PromptedSpan:
        """The model under these prompts, without guidance."""
        config = self.model.config
        noise = torch.randn(len(texts), config.noise_tokens, config.noise_width, generator=generator)
        prompts = [self.model.tokenizer.encode(seen_text(self.model, text)) for text in texts]
        return PromptedSpan(self.model, prompts, noise.to(self.model.device), 0.0)

    def expected(self, codes: Tensor, span: PromptedSpan) -> Tensor:
        """Codes (B, N) -> what the others make of each (B, N, bits)."""
        return expected_entries(codes, span.unguided, self.model.config.codes, self.model.config.grid)


def maker(
    model: LoadedModel, data: Path, records: Sequence[FaceRecord], photos: np.ndarray, steps: int, seed: int
) -> Maker:
    """A maker whose drawings are made as the model draws by itself, in so many steps."""
    options = replace(resolve_options(model, GenerateOptions(steps=steps)), repair=1.0)
    return Maker(model, data, records, photos, options, seed)


def kept_lot(path: Path) -> Lot | None:
    """A lot of the cache; None where it is not there, or damaged, which a note says."""
    if not path.exists():
        return None
    try:
        return load_tensors(path)
    except UserError as error:
        if isinstance(error.__cause__, OSError):  # it may be whole
            raise
        logger.warning("%s; it is made anew", str(error).partition(";")[0])
        return None


def drawn_anew(codes: Tensor, span: PromptedSpan, shares: Tensor, generator: torch.Generator) -> Tensor:
    """Codes (B, N), a random share (B,) of each row's replaced by draws that do not know of each other."""
    size = span.model.config.codes
    hidden = (torch.rand(codes.shape, generator=generator) < shares[:, None]).to(codes.device)
    masked = torch.where(hidden, size, codes)
    chances = masked_logits(span.unguided, masked, size).softmax(1).cpu()
    drawn = (
        torch.multinomial(chances, 1, generator=generator).squeeze(1) if len(chances) else chances.new_empty(0).long()
    )
    return codes.masked_scatter(hidden, drawn.to(codes.device))


def joined(lots: Sequence[Lot]) -> dict[str, Tensor]:
    """Lots one after the other."""
    return {name: torch.cat([lot[name] for lot in lots]) for name in lots[0]}
