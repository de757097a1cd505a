"""A loaded model as the plain functions that the suites take: ask, describe, generate, encode, features, attributes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unif2ace_core.evaluate import answers, descriptions, fidelity
from unif2ace_core.evaluate.photos import pixels_of
from unif2ace_core.experts.clip import read_attributes
from unif2ace_core.tokens.codec import to_image_tensor, to_pixels

if TYPE_CHECKING:
    from PIL import Image

    from unif2ace_core.tasks.generate import GenerateOptions
    from unif2ace_core.tasks.understand import Photos
    from unif2ace_core.weights.resolve import LoadedModel

logger = logging.getLogger(__name__)

BATCH = 32


def asker(model: LoadedModel) -> answers.Ask:
    """`ask` of the model on aligned photos, as text."""
    from unif2ace_core.tasks.understand import ask

    def say(pairs: Sequence[answers.Pair]) -> Iterable[str]:
        return [answer.answer for answer in ask(model, pairs, batch_size=BATCH)]

    return say


def describer(model: LoadedModel) -> descriptions.Describe:
    """`describe` of the model on aligned photos, as text."""
    from unif2ace_core.tasks.understand import describe

    return lambda images: [found.description for found in describe(model, images, batch_size=BATCH)]


def drawer(model: LoadedModel, sampling: GenerateOptions | None = None) -> fidelity.Draw:
    """`generate` of the model with these options, else its own, as uint8 (H, W, 3)."""
    from unif2ace_core.tasks.generate import GenerateOptions, GenerateRequest, generate

    def pictures(asked: Sequence[tuple[str, int]]) -> Iterator[Tensor]:
        requests = [GenerateRequest(prompt=text, seed=seed) for text, seed in asked]
        for made in generate(model, requests, sampling or GenerateOptions(), batch_size=BATCH):
            yield pixels_of([made.image.convert("RGB")])[0]

    return pictures


def encoder(model: LoadedModel) -> Callable[[Tensor], Tensor]:
    """Images (B, 3, H, W) in [-1, 1] -> codes (B, N), on the model's device."""
    return lambda images: model.codec.encode(images.to(model.device))


def photos_encoder(model: LoadedModel) -> Callable[[Sequence[Image.Image]], Photos]:
    """Aligned photos -> codes and expert features."""
    from unif2ace_core.tasks.understand import encode_photos

    return lambda images: encode_photos(model, images)


def reconstructor(model: LoadedModel) -> Callable[[Tensor], Tensor]:
    """Images (B, 3, H, W) in [-1, 1] -> what the codec makes of them, in 8 bits as generated pictures are."""
    encode = encoder(model)

    @torch.no_grad()
    def reconstruct(images: Tensor) -> Tensor:
        return to_image_tensor(to_pixels(model.codec.decode(encode(images)))).cpu()

    return reconstruct


def clip_extractor(model: LoadedModel) -> fidelity.Extractor | None:
    """Pooled features (B, D) of the model's CLIP tower, or None without a tower."""
    tower = model.clip
    if tower is None:
        return None
    return lambda images: tower.features(images.to(model.device)).pooled


def extractor_name(model: LoadedModel) -> str:
    """What the numbers of the model's own extractor are of."""
    published = model.clip is not None and not model.clip.labelled
    return f"the model's CLIP tower: mean patch and {'embedding' if published else 'summary'}"


def attribute_reader(model: LoadedModel) -> fidelity.Reader | None:
    """Probabilities of the model's attribute head, or None without it."""
    tower = model.clip
    if tower is None or not tower.labelled:
        logger.info("the model's CLIP expert reads no attributes: agreement with the prompts is left out")
        return None

    @torch.no_grad()
    def read(images: Tensor) -> dict[str, Tensor]:
        return read_attributes(tower.features(images.to(model.device)).attributes)

    return read
