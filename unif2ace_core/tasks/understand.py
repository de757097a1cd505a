"""Answers and descriptions of photos: locate -> align -> encode -> decode with a key-value cache.

[mmu] [soi] codes [eoi] | [end] question [end] | answer [end]       (the text as tokens/sequence.py has it)
 once a photo, with       once a question          one token a step, rows of different lengths together
 CLIP and face features
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
from unif2ace_core.tokens.sequence import asked_ids, photo_prefix, question_ids
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
    clip = model.clip.seen_twice(batch) if model.clip else None
    face = model.face(batch).unsqueeze(1) if model.face else None
    return Photos(model.codec.encode(batch), clip.tokens if clip else None, face, clip.attributes if clip else None)


class AskedPhotos:
    """Questions about photos, their prompts in a cache; `step` goes on by a token.

    A photo sees no question, so it is computed once for all that is asked about it, expert features and all; a copy of
    its keys and values then goes before each question. Questions differ in length: they are padded on the right, and
    each row's mask and positions leave the pads out.
    """

    def __init__(
        self, model: LoadedModel, photos: Photos, rows: Sequence[int], questions: Sequence[Sequence[int]]
    ) -> None:
        """Question i, in ids, is about photo rows[i]."""
        self.transformer, self.config, self.device = model.transformer, model.config, model.device
        index = torch.tensor(list(rows), device=model.device)
        prompts = [asked_ids(question, model.tokenizer.end, model.config) for question in questions]
        longest = max(map(len, prompts))
        self.cache = self.run_photos(photos).select(index, longest + ROOM)
        self.photo = len(self.cache)  # positions of a photo
        self.lengths = torch.tensor([self.photo + len(prompt) for prompt in prompts], device=model.device)
        self.visible = None if all(len(prompt) == longest for prompt in prompts) else self.no_pads(longest)
        self.hidden = self.run_questions(prompts, longest)  # (R, D), of the last token
        self.decoder = model.decoder if len(prompts) == 1 else None

    def no_pads(self, longest: int) -> Tensor:
        """Which positions of photo and question are no pads: (R, P + L) bool."""
        return torch.arange(self.photo + longest, device=self.device) < self.lengths.unsqueeze(1)

    @phase("compute: photo prefix")
    def run_photos(self, photos: Photos) -> KeyValueCache:
        """Keys and values of the photos, every position of which sees every other."""
        ids = [photo_prefix(codes, self.config) for codes in photos.codes.cpu().tolist()]
        table, cache = torch.tensor(ids, device=self.device), KeyValueCache(self.config.layers)
        places = torch.arange(table.shape[1], device=self.device).expand_as(table)
        first = torch.full((len(ids),), table.shape[1] - 1 - self.config.positions, device=self.device)
        features = Features(clip=photos.clip, face=photos.face)
        self.transformer(table, places, None, Group.MMU, first, features, cache)
        return cache

    @phase("compute: question")
    def run_questions(self, prompts: Sequence[Sequence[int]], longest: int) -> Tensor:
        """Hidden states (R, D) of the prompts' last tokens."""
        pad, d, start = self.config.special("pad"), self.device, self.photo
        ids = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in prompts], device=d)
        mask = torch.ones(longest, start + longest, dtype=torch.bool, device=d).tril(start)
        mask = mask.expand(len(ids), 1, -1, -1)
        group: Tensor | Group = Group.MMU
        if self.visible is not None:
            group = torch.where(self.visible[:, start:], int(Group.MMU), -1)
            mask = mask & self.visible[:, None, None, :]
        places = torch.arange(start, start + longest, device=d).expand_as(ids)
        hidden = self.transformer(ids, places, mask, group, cache=self.cache).hidden
        return hidden[torch.arange(len(ids), device=d), self.lengths - start - 1]

    def step(self, tokens: Tensor) -> None:
        """Tokens (R,) -> their hidden states."""
        if self.decoder is not None:
            self.hidden, self.lengths = self.decoder.step(tokens, len(self.cache), self.cache), self.lengths + 1
            return
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
    tokenizer = model.tokenizer
    prompts = [question_ids(question, tokenizer, model.config) for question in questions]
    asked = AskedPhotos(model, photos, rows, prompts)
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
