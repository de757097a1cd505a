"""Runs the evaluation suites on a model: `unif2ace eval [SUITE ...] --data DIR`.

    answers        agreement of `ask` with labels
    conditions     the same on other cameras and on spoiled pictures
    descriptions   precision and recall of what `describe` says
    generation     KID and FID of generated and of reconstructed faces, agreement with their prompts
    prompts        whether faces show what their prompts ask for, one attribute at a time and five at once
    nearest        how near generated faces are to training photos
    likelihood     bound on the negative log-likelihood of held-out codes
    codec          reconstruction
    routing        which experts fire in which layer

The suites get what they measure as functions: adapters.py makes them of a model's tasks, this file puts them together.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unif2ace_core import __version__
from unif2ace_core.data import wordings
from unif2ace_core.data.captions import caption
from unif2ace_core.data.pixels import aligned_pixels
from unif2ace_core.data.sets import preferred_sources, read_split
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError
from unif2ace_core.evaluate import (
    adherence,
    answers,
    codec,
    conditions,
    descriptions,
    fidelity,
    likelihood,
    nearest,
    routing,
)
from unif2ace_core.evaluate.adapters import (
    BATCH,
    asker,
    attribute_reader,
    clip_extractor,
    describer,
    drawer,
    encoder,
    extractor_name,
    photos_encoder,
    reconstructor,
)
from unif2ace_core.evaluate.judge import SHIPPED, Judge, load_judge
from unif2ace_core.evaluate.photos import aligned_photos, draw, located_photos, photo_pixels, pixels_of
from unif2ace_core.model.transformer import Features
from unif2ace_core.tokens.codec import to_image_tensor
from unif2ace_core.weights.parts import fingerprint

if TYPE_CHECKING:
    from PIL import Image

    from unif2ace_core.tasks.generate import GenerateOptions
    from unif2ace_core.weights.resolve import LoadedModel

logger = logging.getLogger(__name__)

LOCATED = ("emotion", "gender.celebahq", "gender.lfw")  # sections asked again through the model's locator
GENERATING = {"generation", "prompts", "nearest"}  # suites that draw faces
OnProgress = Callable[[str, int, int], None]


@dataclass
class Context:
    """What a suite works with."""

    model: LoadedModel
    data: Path
    split: str
    limit: int | None
    seed: int
    extractor: fidelity.Extractor | None
    progress: Callable[[int, int], None]
    sampling: GenerateOptions | None = None  # of suites that generate; None: the model's own
    judge: Judge | None = None  # what looks at generated faces; there where suites generate
    sheet: Path | None = None  # picture of suite nearest

    def records(self, sources: Sequence[str] | None = None, split: str | None = None) -> Sequence[FaceRecord]:
        """Records of the split, of the preferred sources where the data folder has them."""
        found = preferred_sources(self.data, sources) if sources else None
        return read_split(self.data, split or self.split, found)

    @property
    def pixels(self) -> int:
        """Side of the pictures that the model reads and writes."""
        return self.model.codec.config.pixels

    def rng(self, stream: str = "") -> random.Random:
        """A fresh random stream, the same for every suite of one seed; a named one is independent of it."""
        return random.Random(f"{stream} {self.seed}" if stream else self.seed)

    def generator(self) -> torch.Generator:
        """The same for tensors."""
        return torch.Generator().manual_seed(self.seed)

    def count(self, usual: int) -> int:
        """`usual`, or the user's limit."""
        return usual if self.limit is None else self.limit

    def nothing(self, things: str = "photos") -> UserError:
        """The error of a folder without what a suite needs."""
        return UserError(f"no {things} of split {self.split!r} in {self.data}; check --data")


# --- The suites ----------------------------------------------------------------------------------------


def run_answers(context: Context) -> dict[str, Any]:
    """See `answers`; the limit counts questions, beside which half as many may be of the ten further attributes."""
    probes, further = _answers_plan(context)
    ask, total = asker(context.model), len(probes) + len(further)
    photos = aligned_photos(context.data, (probe.record for probe in probes + further), context.pixels)
    # one after the other: the batches of the first, and so their rounding, do not depend on the second
    said = answers.ask_all(probes, photos, ask, on_progress=lambda done, _: context.progress(done, total))
    more = answers.ask_all(
        further, photos, ask, on_progress=lambda done, _: context.progress(len(probes) + done, total)
    )
    result = answers.report(probes, said, context.generator())
    result["yes_no_30"] = answers.report_wide(probes + further, said + more, context.generator())
    if context.model.locator is not None:
        result["located"] = _located(context, [p for p in probes if p.section in LOCATED][::2], ask)
    return result


def _answers_plan(context: Context) -> tuple[list[answers.Probe], list[answers.Probe]]:
    """The suite's probes, and those of the further attributes.

    Raises:
        UserError: there is nothing to ask about.
    """
    rng, limit, records = context.rng(), context.limit, context.records()
    per_value = answers.PER_VALUE if limit is None else max(1, limit // answers.VALUES)
    probes = answers.plan(records, rng, per_value)
    if limit is not None and len(probes) > limit:
        probes = answers.ordered(rng.sample(probes, limit))
    if not probes:
        raise context.nothing("labelled photos")
    apart = context.rng("further attributes")
    further = answers.plan_further(records, apart, per_value)
    if limit is not None and len(further) > limit // 2:
        further = answers.ordered(apart.sample(further, limit // 2))
    return probes, further


def _located(context: Context, probes: list[answers.Probe], ask: answers.Ask) -> dict[str, Any]:
    """Some probes again, on photos aligned by the model's own locator; without a face an answer is wrong."""
    from unif2ace_core.tasks.understand import align_face

    def align(image: Image.Image) -> Image.Image | None:
        try:
            return align_face(context.model, image)
        except UserError:
            return None

    records = {probe.record.key: probe.record for probe in probes}
    photos = located_photos(context.data, records.values(), align)
    said = answers.ask_all(probes, photos, ask)
    found = answers.report(probes, said, context.generator())
    return {"photos": len(records), "faces_found": round(len(photos) / max(1, len(records)), 4), **found}


def run_conditions(context: Context) -> dict[str, Any]:
    """See `conditions`; the limit counts the questions of a row."""
    rows = conditions.plan(context.records(), context.rng(), context.count(conditions.COUNT))
    if not rows:
        raise context.nothing("labelled photos")
    records = (probe.record for row in rows.values() for probe in row.probes)
    photos = aligned_photos(context.data, records, context.pixels)
    return conditions.measure(rows, photos, asker(context.model), context.seed, context.progress)


def run_descriptions(context: Context) -> dict[str, Any]:
    """See `descriptions`; the limit counts photos."""
    records = draw(context.records(descriptions.SOURCES), context.count(descriptions.COUNT), context.rng())
    if not records:
        raise context.nothing()
    photos = list(aligned_photos(context.data, records, context.pixels).values())
    texts = descriptions.describe_all(photos, describer(context.model), BATCH, context.progress)
    return descriptions.report(records, texts, context.generator())


def run_generation(context: Context) -> dict[str, Any]:
    """See `fidelity`; the limit counts generated pictures."""
    records = context.records(fidelity.SOURCES)
    if len(records) < 2:
        raise UserError(f"suite generation needs two photos of split {context.split!r} in {context.data}; check --data")
    rng = context.rng()
    asked = fidelity.prompts(records, context.count(fidelity.COUNT), rng)
    chosen = aligned_photos(context.data, records, context.pixels)
    judge = fidelity.Observer(_judge(context).features, _judge(context).read)
    train = draw(context.records(fidelity.SOURCES, "train"), context.count(fidelity.COUNT), rng)
    return fidelity.measure(
        asked,
        drawer(context.model, context.sampling),
        fidelity.Photos(
            held_out=pixels_of(chosen.values()),
            prompted=pixels_of(chosen[prompt.record.key] for prompt in asked),
            train=photo_pixels(context.data, train, context.pixels) if train else torch.empty(0),
        ),
        fidelity.Observer(extractor_of(context), attribute_reader(context.model)),
        context.generator(),
        context.progress,
        reconstructor(context.model),
        judge,
    )


def run_prompts(context: Context) -> dict[str, Any]:
    """See `adherence`; the limit counts generated pictures. Photos that the judge learned from say nothing of it."""
    records = answers.human_labelled(context.records(fidelity.SOURCES))
    if not records:
        raise context.nothing()
    asked = adherence.plan(records, context.rng(), context.count(adherence.COUNT))
    images = _drawn(context, [(each.text, each.seed) for each in asked], context.progress)
    photos = None if context.split == "train" else photo_pixels(context.data, records, context.pixels)
    return adherence.report(asked, images, _judge(context).read, context.generator(), records, photos)


def run_nearest(context: Context) -> dict[str, Any]:
    """See `nearest`; the limit counts generated pictures, and held-out photos."""
    if context.split == "train":
        raise UserError("suite nearest holds faces against photos that are not in training; give --split val")
    rng, count = context.rng(), context.count(nearest.COUNT)
    held_out, train = context.records(fidelity.SOURCES), context.records(fidelity.SOURCES, "train")
    if not held_out:
        raise context.nothing()
    if not train:
        raise UserError(f"no photos of split 'train' in {context.data} to look for copies of; check --data")
    asked = [(prompt.text, prompt.seed) for prompt in fidelity.prompts(held_out, count, rng)]
    total = count + len(train)
    images = _drawn(context, asked, lambda done, _: context.progress(done, total))
    logger.info("bringing %d photos to the training frame, unless the cache holds them", len(train))
    return nearest.measure(
        images,
        photo_pixels(context.data, draw(held_out, count, rng), context.pixels),
        aligned_pixels(context.data, train, context.pixels),
        _judge(context).features,
        reconstructor(context.model),
        context.generator(),
        context.sheet,
        lambda done, _: context.progress(count + done, total),
    )


def _drawn(context: Context, asked: Sequence[tuple[str, int]], progress: Callable[[int, int], None]) -> Tensor:
    """The pictures of (prompt, seed) pairs, uint8 (n, H, W, 3)."""
    return fidelity.drawn_pictures(drawer(context.model, context.sampling), asked, progress)


def _judge(context: Context) -> Judge:
    """The judge; `run_suites` loads it for every suite that generates."""
    if context.judge is None:
        raise UserError("this suite needs a judge; give --judge DIR, an export of 'unif2ace train judge'")
    return context.judge


def run_likelihood(context: Context) -> dict[str, Any]:
    """See `likelihood`; the limit counts photos, which are bounded with and without their captions."""
    model, rng = context.model, context.rng()
    chosen = draw(context.records(fidelity.SOURCES), context.count(likelihood.COUNT), rng)
    if not chosen:
        raise context.nothing()
    pixels, encode = photo_pixels(context.data, chosen, context.pixels), encoder(model)
    codes = torch.cat([encode(to_image_tensor(part)).cpu() for part in pixels.split(BATCH)])
    found: dict[str, Any] = {}
    texts = [caption(record, rng) for record in chosen]
    for number, (name, prompts) in enumerate((("captions", texts), ("no_captions", [""] * len(texts)))):
        ids = [model.tokenizer.encode(text) for text in prompts]

        def progress(done: int, total: int, part: int = number) -> None:
            context.progress(part * total + done, 2 * total)

        estimate = likelihood.bound(
            model.transformer,
            codes,
            ids,
            model.tokenizer.end,
            context.generator(),
            BATCH,
            on_progress=progress,
        )
        found[name] = likelihood.summary(estimate, model.config.positions, model.config.codes)
    return {"n": len(codes), **found}


def run_codec(context: Context) -> dict[str, Any]:
    """See `codec`; the limit counts photos."""
    records = draw(context.records((*fidelity.SOURCES, "lfw")), context.count(codec.COUNT), context.rng())
    if not records:
        raise context.nothing()
    decode = context.model.codec.decode
    device = context.model.device
    return codec.measure(
        photo_pixels(context.data, records, context.pixels),
        [record.source for record in records],
        encode=encoder(context.model),
        decode=lambda codes: decode(codes.to(device)),
        size=context.model.config.codes,
        extractor=context.extractor or clip_extractor(context.model),
        generator=context.generator(),
        on_progress=context.progress,
    )


def run_routing(context: Context) -> dict[str, Any]:
    """See `routing`; the limit counts photos."""
    model, rng = context.model, context.rng()
    records = draw(answers.human_labelled(context.records(fidelity.SOURCES)), context.count(routing.COUNT), rng)
    if not records:
        raise context.nothing()
    photos, encode = list(aligned_photos(context.data, records, context.pixels).values()), photos_encoder(model)

    def batches() -> Iterator[routing.Asked]:
        for start in range(0, len(records), BATCH):
            context.progress(start, len(records))
            found, part = encode(photos[start : start + BATCH]), records[start : start + BATCH]
            prompts = [model.tokenizer.encode(caption(record, rng)) for record in part]
            questions = [model.tokenizer.encode(rng.choice(wordings.DESCRIBE)) for _ in part]
            yield routing.Asked(found.codes.cpu(), prompts, questions, Features(clip=found.clip, face=found.face))

    return routing.routed(model.transformer, batches(), model.tokenizer.end, context.generator())


SUITES: dict[str, Callable[[Context], dict[str, Any]]] = {
    "answers": run_answers,
    "conditions": run_conditions,
    "descriptions": run_descriptions,
    "generation": run_generation,
    "prompts": run_prompts,
    "nearest": run_nearest,
    "likelihood": run_likelihood,
    "codec": run_codec,
    "routing": run_routing,
}


def extractor_of(context: Context) -> fidelity.Extractor:
    """The injected extractor, else the model's own."""
    found = context.extractor or clip_extractor(context.model)
    if found is None:
        raise UserError("the model has no CLIP expert for KID and FID; give an extractor or another model")
    return found


# --- Entry points --------------------------------------------------------------------------------------


def run_suites(
    names: Sequence[str],
    model: str | LoadedModel,
    data: Path,
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    on_progress: OnProgress | None = None,
    extractor: fidelity.Extractor | None = None,
    sampling: GenerateOptions | None = None,
    judge: Path | None = None,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Measure a model; the report is plain JSON.

    Args:
        names: keys of `SUITES`.
        model: a loaded model, or what `load_model` takes.
        data: folder with NAME.csv beside NAME.zip.
        split: "val" or "train".
        limit: questions (answers; conditions: of a row), pictures or photos per suite; None: each suite's own number.
        seed: of every draw.
        device: for a model given by name.
        on_progress: told (suite, done, total).
        extractor: features for KID and FID, (B, 3, H, W) in [-1, 1] -> (B, D); None: the model's CLIP tower.
        sampling: how faces are generated; None: as the model's config says.
        judge: folder with judge.safetensors, an export of recipe judge; None: the judge of the package.
        sheet: where suite nearest writes faces over their nearest training photos; None: nowhere.

    Raises:
        UserError: unknown suite, or data that a suite needs is missing.
    """
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        raise UserError(f"no suite {unknown[0]!r}; choose from {', '.join(SUITES)}")
    loaded = _loaded(model, device)
    looking, how = None, dict[str, Any]()
    if GENERATING & set(names):
        looking = load_judge(judge, loaded.device)
        how = {"sampling": sampled(loaded, sampling), "judge": fingerprint(judge or SHIPPED, "judge")[:12]}
    found = {}
    for name in names:

        def progress(done: int, total: int, suite: str = name) -> None:
            if on_progress:
                on_progress(suite, done, total)

        context = Context(loaded, Path(data), split, limit, seed, extractor, progress, sampling, looking, sheet)
        found[name] = SUITES[name](context)
    return {
        "model": loaded.name,
        "split": split,
        "seed": seed,
        "limit": limit,
        "device": str(loaded.device),
        "extractor": extractor_name(loaded) if extractor is None else "injected",
        "versions": {"unif2ace": __version__, "model": loaded.version, "torch": str(torch.__version__)},
        **how,
        "suites": found,
    }


def sampled(model: LoadedModel, sampling: GenerateOptions | None) -> dict[str, Any]:
    """How faces were generated, the model's defaults filled in."""
    from unif2ace_core.tasks.generate import GenerateOptions, resolve_options

    return asdict(resolve_options(model, sampling or GenerateOptions()))


def _loaded(model: str | LoadedModel, device: str) -> LoadedModel:
    """The model itself, or loaded by name."""
    if not isinstance(model, str):
        return model
    from unif2ace_core.weights.resolve import load_model

    return load_model(model, device=device)


def answers_agreement(
    first: str | LoadedModel,
    second: str | LoadedModel,
    data: Path,
    n: int = 200,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """How often two models answer `n` held-out questions alike, in value and word for word.

    The questions are those of suite `answers`; answers without a readable value are alike only word for word.
    """
    context = Context(_loaded(first, device), Path(data), "val", None, seed, None, lambda done, total: None)
    pool = answers.plan(context.records(), context.rng())
    probes = context.rng().sample(pool, min(n, len(pool)))
    photos = aligned_photos(context.data, (probe.record for probe in probes), context.pixels)
    said = [answers.ask_all(probes, photos, asker(_loaded(model, device))) for model in (context.model, second)]
    same = alike = 0
    for probe, one, other in zip(probes, *said, strict=True):
        value = answers.read(probe, one)
        same += one == other
        alike += one == other or (value is not None and value == answers.read(probe, other))
    total = max(1, len(probes))
    return {"n": len(probes), "same_value": round(alike / total, 4), "same_words": round(same / total, 4)}
