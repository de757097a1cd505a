"""Suite `generation`: are generated faces like photos (KID, FID), and do they show what the prompt says?

    captions of held-out photos -> generate -> features of an injected extractor -> KID, FID against photos
                                            `-> attribute head -> agreement with what the caption named

Two observers look at the pictures: the model's own CLIP tower and the judge, a network trained apart from the
model (evaluate/judge.py), whose figures stand under `judged`. Both rank models of this project; their numbers can't be
compared with those of an Inception network. The KID between training and held-out photos is the floor that a
perfect generator reaches, that of the codec's reconstructions what its pictures cost alone, the reading of the
photos themselves the ceiling of the agreement.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unif2ace_core.data.captions import caption
from unif2ace_core.data.phrases import AGE_WORDS, NOUNS, PHRASES
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate.metrics import as_signed, extract, fid, hits_by_value, kid, mean_recall, rounded

Extractor = Callable[[Tensor], Tensor]  # (B, 3, H, W) in [-1, 1] -> (B, D)
Reader = Callable[[Tensor], dict[str, Tensor]]  # images -> per attribute probabilities (B, values)
Reconstruct = Callable[[Tensor], Tensor]  # images (B, 3, H, W) in [-1, 1] -> as the codec restores them
Draw = Callable[[Sequence[tuple[str, int]]], Iterable[Tensor]]  # (prompt, seed) pairs -> uint8 (H, W, 3) each

SOURCES = ("celebahq", "ffhq")  # one alignment, hair in the frame: what the model draws
COUNT = 1000  # generated pictures where nothing else is said
LEAST_NAMED = 5  # prompts that must name a value before its agreement is reported
AGREEMENT = (
    "Male", "Young", "Smiling", "Eyeglasses", "Wearing_Hat", "Black_Hair", "Blond_Hair", "Gray_Hair", "Bald",
    "Bangs",    "No_Beard", "Goatee", "Mustache", "Heavy_Makeup", "Wearing_Earrings", "Mouth_Slightly_Open",
)  # fmt: skip


@dataclass(frozen=True)
class Observer:
    """What looks at pictures: features to compare sets by and, where it knows them, attributes."""

    features: Extractor
    read: Reader | None = None


@dataclass(frozen=True)
class Photos:
    """What generated pictures are held against, uint8 (n, H, W, 3) each."""

    held_out: Tensor
    prompted: Tensor  # those that the prompts tell of, in their order
    train: Tensor  # training photos, for the floor; may be empty


@dataclass(frozen=True)
class Prompt:
    """A caption to generate from, the record it tells of, and the seed of the picture."""

    text: str
    record: FaceRecord
    seed: int


def prompts(records: Sequence[FaceRecord], count: int, rng: random.Random) -> list[Prompt]:
    """`count` captions; records come again, with other words, where there are fewer of them."""
    order: list[FaceRecord] = []
    while len(order) < count and records:
        order += rng.sample(list(records), len(records))
    return [Prompt(caption(r, rng), r, rng.randrange(2**31)) for r in order[:count]]


def named_value(text: str, name: str, value: str) -> bool:
    """Whether a caption of a face whose attribute `name` has this value speaks of it."""
    if name == "Male":
        return _says(text, _GENDER_WORDS[value])
    if name == "Young":
        return _says(text, _AGE_WORDS[value])
    phrase = PHRASES.get(name, {}).get(value)
    if phrase is None:
        return False
    if phrase.slot in ("color", "texture"):
        return any(re.search(rf"\b{word}\b[a-z ]* hair\b", text.lower()) for word in set(phrase.texts))
    return _says(text, (*phrase.texts, *phrase.tags))


_GENDER_WORDS = {
    value: {noun for (_, male), (nouns, _) in NOUNS.items() if male == value for noun in nouns if noun != "child"}
    for value in ("yes", "no")
}
_AGE_WORDS = {
    value: {word for group in groups for word in AGE_WORDS[group][0] if word}
    for value, groups in (("yes", ("Young", "young adult")), ("no", ("not Young", "senior", "middle-aged")))
}


def _says(text: str, phrases: Iterable[str]) -> bool:
    """Whether one of the phrases stands in the text, with or without its article."""
    bare = {re.escape(re.sub(r"^an? ", "", phrase)) for phrase in phrases}
    return re.search(rf"\b(?:{'|'.join(sorted(bare))})\b", text.lower()) is not None


def agreement(asked: Sequence[Prompt], images: Tensor, read: Reader, batch_size: int = 64) -> dict[str, Any]:
    """How often the reader sees in images (n, H, W, 3) uint8 what their prompts name, per attribute."""
    seen: dict[str, list[Tensor]] = {}
    for start in range(0, len(images), batch_size):
        part = as_signed(images[start : start + batch_size])
        for name, chances in read(part).items():
            seen.setdefault(name, []).append(chances.argmax(1).cpu())
    table = {name: row for name in AGREEMENT if (row := _agreement_of(name, asked, torch.cat(seen[name])))}
    scores = [row["balanced_accuracy"] for row in table.values() if row["balanced_accuracy"] is not None]
    return {"mean": rounded(sum(scores) / len(scores)) if scores else None, "by_attribute": table}


def _agreement_of(name: str, asked: Sequence[Prompt], seen: Tensor) -> dict[str, Any]:
    """Recall of each named value and their mean; empty where prompts hardly speak of the attribute."""
    said, truth = [], []
    for prompt, index in zip(asked, seen.tolist()):
        value = prompt.record.labels.get(name)
        if value is not None and named_value(prompt.text, name, value):
            said.append(("no", "yes")[index])
            truth.append(value)
    kept = {value for value in truth if truth.count(value) >= LEAST_NAMED}
    pairs = [(s, t) for s, t in zip(said, truth) if t in kept]
    if not pairs:
        return {}
    said, truth = [s for s, _ in pairs], [t for _, t in pairs]
    recall = {value: rounded(float(hits.mean())) for value, hits in hits_by_value(said, truth).items()}
    both = rounded(mean_recall(said, truth)) if len(kept) == 2 else None
    return {
        "balanced_accuracy": both,
        "recall": recall,
        "n": {value: truth.count(value) for value in sorted(kept)},
    }


def distances(x: Tensor, y: Tensor, generator: torch.Generator, size: int = 500) -> dict[str, Any]:
    """KID (x 1,000) and FID between features x (n, D) and y (m, D)."""
    found = kid(x, y, generator, size=size)
    return {
        "kid": rounded(found.mean),
        "kid_std": rounded(found.std),
        "kid_subset": found.size,
        "fid": rounded(fid(x, y)),
        "compared": [len(x), len(y)],
    }


def beside_reconstructions(
    generated: float,
    photos: Tensor,
    features: Tensor,
    reconstruct: Reconstruct,
    extractor: Extractor,
    generator: torch.Generator,
) -> dict[str, Any]:
    """`reconstructed`: distances between a random half of the photos, reconstructed, and the other half as it is.

    Halves because KID's estimator asks for independent sets. `kid_over_reconstructed` is generated KID through
    that KID, None where the latter is not above its own spread over subsets; FIDs of unlike numbers of pictures
    (`compared`) have unlike biases and no ratio.

    Args:
        generated: KID of the generated pictures.
        photos: (n, H, W, 3) uint8, n >= 4.
        features: (n, D) of the photos.
    """
    order = torch.randperm(len(photos), generator=generator)
    one, other = order[: len(photos) // 2], order[len(photos) // 2 :]
    restored = extract(photos[one], lambda images: extractor(reconstruct(images)))
    found = distances(restored, features[other], generator)
    sure = found["kid"] > found["kid_std"]
    return {"reconstructed": found, "kid_over_reconstructed": rounded(generated / found["kid"]) if sure else None}


def measure(
    asked: Sequence[Prompt],
    draw: Draw,
    photos: Photos,
    observer: Observer,
    generator: torch.Generator,
    on_progress: Callable[[int, int], None] | None = None,
    reconstruct: Reconstruct | None = None,
    judge: Observer | None = None,
) -> dict[str, Any]:
    """The suite's metrics.

    Args:
        asked: prompts.
        draw: generates the pictures.
        photos: to compare with.
        observer: the model's own tower.
        generator: for KID's subsets.
        on_progress: told (done, total) pictures.
        reconstruct: the codec, or None.
        judge: a second observer; it looks last, so that the other figures do not depend on it.
    """
    images = drawn_pictures(draw, [(prompt.text, prompt.seed) for prompt in asked], on_progress)
    found = {"n": len(images), **compared(asked, images, photos, observer, generator, reconstruct)}
    if judge is not None:
        found["judged"] = compared(asked, images, photos, judge, generator, reconstruct)
    return found


def drawn_pictures(
    draw: Draw, asked: Sequence[tuple[str, int]], on_progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """The pictures of (prompt, seed) pairs, uint8 (n, H, W, 3)."""
    pictures: list[Tensor] = []
    for picture in draw(asked):
        pictures.append(picture)
        if on_progress:
            on_progress(len(pictures), len(asked))
    return torch.stack(pictures)


def compared(
    asked: Sequence[Prompt],
    images: Tensor,
    photos: Photos,
    observer: Observer,
    generator: torch.Generator,
    reconstruct: Reconstruct | None,
) -> dict[str, Any]:
    """What one observer makes of pictures (n, H, W, 3) uint8."""
    made, real = extract(images, observer.features), extract(photos.held_out, observer.features)
    result = distances(made, real, generator)
    if len(photos.train) > 1:
        result["floor_train_photos"] = distances(extract(photos.train, observer.features), real, generator)
    if reconstruct is not None and len(real) >= 4:  # drawn last: the figures above do not depend on it
        held_out = photos.held_out
        result |= beside_reconstructions(result["kid"], held_out, real, reconstruct, observer.features, generator)
    if observer.read is not None:
        result["prompt_agreement"] = agreement(asked, images, observer.read)
        result["prompt_agreement_of_photos"] = agreement(asked, photos.prompted, observer.read)
    return result
