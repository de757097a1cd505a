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
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unif2ace_core.config import Group
from unif2ace_core.errors import UserError
from unif2ace_core.experts.align import crop
from unif2ace_core.model.cache import KeyValueCache
from unif2ace_core.model.transformer import Features
from unif2ace_core.timing import phase
from unif2ace_core.tokens.codec import to_image_tensor
from unif2ace_core.tokens.sequence import Batch, collate, mmu_row, question_ids
from unif2ace_core.weights.resolve import LoadedModel

DESCRIBE = "Describe this face."
LONGEST_ANSWER = 96  # tokens
ROOM = 32  # tokens of an answer that a cache has room for at first


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


@phase("compute: find face")
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


@phase("compute: encode photo")
@torch.inference_mode()
def encode_photos(model: LoadedModel, images: Sequence[Image.Image]) -> Photos:
    """Codes and expert features of aligned images."""
    side = model.codec.config.pixels
    arrays = [np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)) for image in images]
    batch = to_image_tensor(torch.from_numpy(np.stack(arrays))).to(model.device)
    clip = model.clip.features(batch) if model.clip else None
    face = model.face(batch).unsqueeze(1) if model.face else None
    return Photos(model.codec.encode(batch), clip.tokens if clip else None, face, clip.attributes if clip else None)


class AskedPhotos:
    """Rows of photos and questions whose prompts are in a cache; `step` goes on by a token.

    Rows may differ in length: a prompt is padded on the right, and each row's mask and positions leave the pads out.
    """

    @phase("compute: prompt")
    def __init__(self, model: LoadedModel, batch: Batch, features: Features) -> None:
        self.transformer, d = model.transformer, model.device
        self.cache = KeyValueCache(model.config.layers, room=ROOM)
        span, group = batch.span.to(d), batch.group.to(d)
        inputs = (batch.ids.to(d), batch.positions.to(d), batch.mask.to(d), group, span, features, self.cache)
        hidden = self.transformer(*inputs).hidden
        self.lengths = batch.valid.sum(1).to(d)
        self.visible = None if bool(batch.valid.all()) else batch.valid.to(d)  # None: rows of one length have no pads
        self.hidden = hidden[torch.arange(len(hidden), device=d), self.lengths - 1]  # (R, D), of the last token

    def step(self, tokens: Tensor) -> None:
        """Tokens (R,) -> their hidden states."""
        mask, positions = None, self.lengths.unsqueeze(1)
        if self.visible is not None:
            self.visible = F.pad(self.visible, (0, 1), value=True)
            mask = self.visible[:, None, None, :]
        output = self.transformer(tokens.unsqueeze(1), positions, mask, Group.MMU, cache=self.cache)
        self.hidden, self.lengths = output.hidden[:, 0], self.lengths + 1

    def scores(self) -> Tensor:
        """Log-probabilities (R, text_vocabulary) of what comes next."""
        return self.transformer.text_logits(self.hidden).float().log_softmax(-1)


@phase("compute: answer")
@torch.inference_mode()
def decode_answers(
    model: LoadedModel, photos: Photos, rows: Sequence[int], questions: Sequence[str]
) -> list[tuple[str, float]]:
    """Greedy answers with their probabilities; question i is about photo rows[i]."""
    tokenizer, config = model.tokenizer, model.config
    codes = photos.codes[list(rows)].cpu().tolist()
    turns = [[(question_ids(question, tokenizer, config), None)] for question in questions]
    prompts = [mmu_row(c, turn, tokenizer.end, config) for c, turn in zip(codes, turns, strict=True)]
    index = torch.tensor(list(rows), device=model.device)
    features = Features(
        clip=None if photos.clip is None else photos.clip[index],
        face=None if photos.face is None else photos.face[index],
    )
    asked = AskedPhotos(model, collate(prompts, config), features)
    said, log_probability = greedy(asked, tokenizer.end, model.name, LONGEST_ANSWER)
    texts = [_sentence(tokenizer.decode(ids)) for ids in said]
    return list(zip(texts, log_probability.exp().tolist(), strict=True))


def greedy(asked: AskedPhotos, end: int, name: str, longest: int) -> tuple[list[list[int]], Tensor]:
    """The likeliest tokens of each row up to its `end`, and log-probabilities (R,) of the answers.

    Raises:
        UserError: the scores are no numbers, so weights of model `name` are damaged.
    """
    log_probability = torch.zeros(len(asked.hidden), device=asked.hidden.device)
    ended = torch.zeros_like(log_probability, dtype=torch.bool)
    said: list[list[int]] = [[] for _ in range(len(ended))]
    for length in range(longest):
        scores, tokens = asked.scores().max(-1)
        if not bool(scores.isfinite().all()):
            raise UserError(f"model {name!r} computes no finite scores: its weights are damaged; download it again")
        log_probability += scores.masked_fill(ended, 0)
        ended = ended | (tokens == end)
        for row, (token, over) in enumerate(zip(tokens.tolist(), ended.tolist())):
            if not over:
                said[row].append(token)
        if length + 1 == longest or all(len(ids) <= length for ids in said):
            break
        asked.step(tokens)
    return said, log_probability


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
