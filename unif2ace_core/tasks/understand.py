"""Answers and descriptions of photos: locate -> align -> encode -> decode with a key-value cache.

[mmu] [soi] codes [eoi] | [end] question [end] | answer [end]       (the text as tokens/sequence.py has it)
 codes, CLIP and face features in the prompt pass      one token a step, rows of different lengths together
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unif2ace_core.config import Group
from unif2ace_core.errors import UserError
from unif2ace_core.experts.align import crop
from unif2ace_core.model.cache import KeyValueCache
from unif2ace_core.model.transformer import Features
from unif2ace_core.tokens.codec import to_image_tensor
from unif2ace_core.tokens.sequence import collate, mmu_row, question_ids
from unif2ace_core.weights.resolve import LoadedModel

DESCRIBE = "Describe this face."
LONGEST_ANSWER = 96  # tokens


@dataclass(frozen=True)
class Answer:
    """An answer; `confidence` is the model's probability of exactly this text."""

    answer: str
    confidence: float
    seconds: float


@dataclass(frozen=True)
class AttributeReading:
    """The most probable value of a category."""

    name: str
    value: str
    probability: float


@dataclass(frozen=True)
class Description:
    """A paragraph, and every category read by the CLIP expert (empty without it)."""

    description: str
    attributes: list[AttributeReading]
    seconds: float


@dataclass
class Photos:
    """Encoded photos."""

    codes: Tensor  # (P, N)
    clip: Tensor | None  # (P, T, C)
    face: Tensor | None  # (P, 1, d)
    attributes: Tensor | None  # (P, ATTRIBUTE_LOGITS)


def align_face(model: LoadedModel, image: Image.Image, face: int = 0) -> Image.Image:
    """Bring a face of a photo to the training frame: the largest, or the `face`-th largest (from 0).

    Raises:
        UserError: no face, or not that many.
    """
    pixels = model.codec.config.pixels
    if model.locator is None:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.convert("RGB").crop((left, top, left + side, top + side)).resize((pixels, pixels))
    faces = model.locator.find(image)
    if not faces:
        raise UserError("no face found; use a photo in which a face is at least 30 pixels wide and mostly visible")
    if not 0 <= face < len(faces):
        raise UserError(f"--face {face} is not there: {len(faces)} found; count from 0, the largest first")
    return crop(image.convert("RGB"), faces[face].frame, pixels)


@torch.inference_mode()
def encode_photos(model: LoadedModel, images: Sequence[Image.Image]) -> Photos:
    """Codes and expert features of aligned images."""
    side = model.codec.config.pixels
    arrays = [np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)) for image in images]
    batch = to_image_tensor(torch.from_numpy(np.stack(arrays))).to(model.device)
    clip = model.clip.features(batch) if model.clip else None
    face = model.face(batch).unsqueeze(1) if model.face else None
    return Photos(model.codec.encode(batch), clip.tokens if clip else None, face, clip.attributes if clip else None)


@torch.inference_mode()
def decode_answers(
    model: LoadedModel, photos: Photos, rows: Sequence[int], questions: Sequence[str]
) -> list[tuple[str, float]]:
    """Greedy answers with their probabilities; question i is about photo rows[i]."""
    tokenizer, config = model.tokenizer, model.config
    codes = photos.codes[list(rows)].cpu().tolist()
    turns = [[(question_ids(question, tokenizer, config), None)] for question in questions]
    prompts = [mmu_row(c, turn, tokenizer.end, config) for c, turn in zip(codes, turns, strict=True)]
    batch = collate(prompts, config)
    index = torch.tensor(list(rows), device=model.device)
    features = Features(
        clip=None if photos.clip is None else photos.clip[index],
        face=None if photos.face is None else photos.face[index],
    )
    cache = KeyValueCache(config.layers)
    d = model.device
    output = model.transformer(
        batch.ids.to(d), batch.positions.to(d), batch.mask.to(d), batch.group.to(d), batch.span.to(d), features, cache
    )
    lengths = batch.valid.sum(1).to(d)
    last = output.hidden[torch.arange(len(lengths), device=d), lengths - 1]
    return _continue(model, cache, batch.valid.to(d), lengths, last)


def _continue(
    model: LoadedModel, cache: KeyValueCache, visible: Tensor, lengths: Tensor, hidden: Tensor
) -> list[tuple[str, float]]:
    """Greedy decoding after the prompt pass; stops when every row has ended."""
    end = model.tokenizer.end
    ended = torch.zeros(len(lengths), dtype=torch.bool, device=visible.device)
    log_probability = torch.zeros(len(lengths), device=visible.device)
    said: list[list[int]] = [[] for _ in range(len(lengths))]
    group = torch.full((len(lengths), 1), int(Group.MMU), device=visible.device)
    for step in range(LONGEST_ANSWER):
        scores, tokens = model.transformer.text_logits(hidden).float().log_softmax(-1).max(-1)
        if not bool(scores.isfinite().all()):
            raise UserError(
                f"model {model.name!r} computes no finite scores: its weights are damaged; download it again"
            )
        log_probability += scores.masked_fill(ended, 0)
        ended = ended | (tokens == end)
        for row, token in enumerate(tokens.tolist()):
            if not ended[row]:
                said[row].append(token)
        if bool(ended.all()):
            break
        visible = torch.cat([visible, torch.ones_like(group, dtype=torch.bool)], 1)
        positions = (lengths + step).unsqueeze(1)
        output = model.transformer(tokens.unsqueeze(1), positions, visible[:, None, None, :], group, cache=cache)
        hidden = output.hidden[:, 0]
    texts = [model.tokenizer.decode(ids) for ids in said]
    return list(zip([_sentence(text) for text in texts], log_probability.exp().tolist(), strict=True))


def _sentence(text: str) -> str:
    """Capitals at the start of sentences where a tokenizer has none; what has capitals stays as the model wrote it."""
    if text != text.lower():
        return text.strip()
    parts = text.strip().split(". ")
    return ". ".join(part[:1].upper() + part[1:] for part in parts)


def ask(model: LoadedModel, pairs: Sequence[tuple[Image.Image, str]], batch_size: int = 16) -> Iterator[Answer]:
    """Answer a question about each aligned image, in order; one image object is encoded once per batch.

    Raises:
        UserError: an empty question.
    """
    if any(not question.strip() for _, question in pairs):
        raise UserError("the question is empty; ask something such as 'what emotion?'")
    for start in range(0, len(pairs), batch_size):
        chunk = pairs[start : start + batch_size]
        began = time.perf_counter()
        distinct = list({id(image): image for image, _ in chunk}.values())
        place = {id(image): row for row, image in enumerate(distinct)}
        photos = encode_photos(model, distinct)
        rows = [place[id(image)] for image, _ in chunk]
        answers = decode_answers(model, photos, rows, [question for _, question in chunk])
        seconds = (time.perf_counter() - began) / len(chunk)
        for text, confidence in answers:
            yield Answer(text, confidence, seconds)


def read_categories(logits: Tensor) -> list[AttributeReading]:
    """Attribute logits (ATTRIBUTE_LOGITS,) of one photo -> the most probable value of each category."""
    from unif2ace_core.data.attributes import BY_NAME
    from unif2ace_core.experts.clip import read_attributes

    found = []
    for name, probabilities in read_attributes(logits.unsqueeze(0)).items():
        best = int(probabilities[0].argmax())
        found.append(AttributeReading(name, BY_NAME[name].values[best], round(float(probabilities[0, best]), 4)))
    return found


def describe(model: LoadedModel, images: Sequence[Image.Image], batch_size: int = 8) -> Iterator[Description]:
    """Describe each aligned image in a paragraph and by category, in order."""
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        began = time.perf_counter()
        photos = encode_photos(model, chunk)
        texts = decode_answers(model, photos, range(len(chunk)), [DESCRIBE] * len(chunk))
        seconds = (time.perf_counter() - began) / len(chunk)
        for row, (text, _) in enumerate(texts):
            readings = read_categories(photos.attributes[row]) if photos.attributes is not None else []
            yield Description(text, readings, seconds)
