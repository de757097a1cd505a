"""Mixed batches of both tasks: captions over masked codes (T2I) and questions over clean codes (MMU), in one tensor.

What a row holds depends on the step's common draws and the row's own seed, never on who computes it: the parts of a
step, put together, are the rows that one process would have drawn.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unif2ace_core.config import ModelConfig
from unif2ace_core.data.captions import remarkable
from unif2ace_core.data.plain import NAMED, Value, nameable, plain_prompt
from unif2ace_core.data.questions import describe_question, description
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.diffusion.d3diff import MaskedCodes, draw_mask
from unif2ace_core.diffusion.samplers import fixed_rank
from unif2ace_core.diffusion.schedule import ordered_mask
from unif2ace_core.errors import UserError
from unif2ace_core.model.sequence_moe import exploration_draws
from unif2ace_core.model.transformer import Features
from unif2ace_core.tokens.codec import to_image_tensor
from unif2ace_core.tokens.sequence import Batch, Row, answer_ids, collate, mmu_row, padded, question_ids, t2i_row
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.train.encode import EncodedSet
from unif2ace_core.train.soft_targets import SoftTargets, Turn, contrary, soft_targets
from unif2ace_core.train.sure import SureLabels
from unif2ace_core.train.texts import Pair, parse_factors, texts_of

MULTIPLE = 8  # of the tokens that rows are padded to


@dataclass(frozen=True)
class MixtureConfig:
    """How batches are put together."""

    t2i_share: float = 0.5  # rows of generation; the rest are understanding
    t2i_sources: tuple[str, ...] = ()  # whose photos are generated; () for all
    t2i_rarity: float = 0.0  # photos to generate are drawn by this power of their most remarkable attribute's weight
    drawn_share: float = 0.0  # rows whose texts are drawn from their labels, though the set holds written ones
    plain_share: float = 0.0  # rows of generation about one attribute, there as often as not
    ask_more: tuple[str, ...] = ()  # NAME:FACTOR, yes/no attributes that drawn questions are so much oftener about
    text_budget: int = 60  # text tokens of a row
    prompt_budget: int = 0  # those of a generation row, where they are fewer; 0: text_budget
    long_budget: int = 110  # of any row in the share of batches that hold descriptions
    long_share: float = 0.2
    condition_dropout: float = 0.1  # prompts emptied, for guidance
    expert_dropout: float = 0.1  # rows without CLIP, and rows without face features
    mask_law: str = "arcsine"  # of the number of masked codes
    ordered_share: float = 0.0  # rows of generation that mask the last codes of the sampler's order, not any
    sampler: str = "halton"  # whose order that is


@dataclass
class MixedBatch:
    """A collated batch with what the losses need; T2I rows come first."""

    sequences: Batch
    features: Features
    targets: Tensor  # (T, N) codes of the T2I rows
    masked: MaskedCodes  # of the T2I rows
    exploration: Tensor  # (B, MoE layers, columns) uniform draws for the sequence routers
    denominators: Tensor  # (2,) what losses are divided by: pictures and answers; here, or a part's mean over the step
    photos: Tensor | None = None  # (M, 3, P, P) in [-1, 1] of the MMU rows, for encoders that learn
    doubted: SoftTargets | None = None  # what answers could say as well
    lengths: tuple[int, int] | None = None  # tokens of the longest T2I and MMU row, to be run apart; None: in one pass


@dataclass(frozen=True)
class Plan:
    """What a step's common draws decide about its rows; T2I rows come first."""

    records: list[int]  # which record each row shows
    views: list[int]
    seeds: list[int]  # of each row's own draws
    about: list[Value | None]  # (generated,) what the plain ones of the prompts are about
    generated: int  # T2I rows
    budget: int  # text tokens of an understanding row
    prompt_budget: int  # of a generation row
    masks: Tensor  # (generated, N) bool
    weights: Tensor  # (generated,) of D3Diff
    levels: Tensor  # (generated,) mask probabilities
    keep: Tensor  # (2, B) bool: whether a row gets CLIP and face features
    exploration: Tensor  # (B, MoE layers, columns)


def check_labels(records: Sequence[FaceRecord], config: MixtureConfig) -> None:
    """Raise `UserError` where there is nothing to ask about: no record has a label, though some rows need one."""
    pictures_only = config.t2i_share == 1 and any(r.source in (config.t2i_sources or (r.source,)) for r in records)
    if not pictures_only and not any(record.labels for record in records):
        raise UserError(f"no {records[0].split} photo has labels to ask about; add label columns or set t2i_share=1")


def rank_of(sampler: str, grid: tuple[int, int]) -> Tensor:
    """When the sampler of `ordered_share` draws each of the N cells of a grid, `(N,)`; `UserError` if in no order."""
    rank = fixed_rank(sampler, grid)
    if rank is None:
        raise UserError(
            f"ordered_share is about a sampler with a fixed order, and {sampler} has none; "
            "give sampler=halton or sampler=halton_centred, or leave ordered_share out"
        )
    return rank


@dataclass(frozen=True)
class Survey:
    """What rows serve for."""

    drawable: array[int]  # rows to generate
    odds: array[float]  # their cumulative odds
    having: dict[Value, array[int]]  # rows to generate by what a plain prompt may say of them
    known: array[int]  # rows with labels to ask about


def surveyed(records: Iterable[FaceRecord], config: MixtureConfig) -> Survey:
    """One pass over the records."""
    found = Survey(array("q"), array("d"), {}, array("q"))
    for row, record in enumerate(records):
        if record.source in (config.t2i_sources or (record.source,)):
            found.drawable.append(row)
            rare = remarkable(record.labels) ** config.t2i_rarity
            found.odds.append(rare + (found.odds[-1] if found.odds else 0.0))
            for value in nameable(record.labels) if config.plain_share else ():
                found.having.setdefault(value, array("q")).append(row)
        if record.labels:
            found.known.append(row)
    return found


class Mixture:
    """Draws mixed batches from encoded records; every draw comes from the generator given."""

    def __init__(
        self,
        records: Sequence[FaceRecord],
        data: EncodedSet,
        tokenizer: TextTokenizer,
        model: ModelConfig,
        config: MixtureConfig,
        sure: SureLabels | None = None,
        asked: Sequence[FaceRecord] | None = None,
    ) -> None:
        """`sure` says which labels descriptions may state, None: all; `asked` the records as questions see them."""
        self.sure = sure
        self.records, self.data, self.tokenizer = records, data, tokenizer
        self.model, self.config = model, config
        self.survey = surveyed(records, config)
        self.named = [name for name in NAMED if all((name, value) in self.survey.having for value in ("no", "yes"))]
        if config.plain_share and not self.named:
            raise UserError(
                "plain_share needs photos to generate with labels of both values; give t2i_sources with some"
            )
        self.rank = rank_of(config.sampler, model.grid) if config.ordered_share else None
        self.texts = texts_of(records, config.drawn_share, parse_factors(config.ask_more), asked)

    def plan(self, size: int, generator: torch.Generator) -> Plan:
        """The common draws for a step of `size` rows."""
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        generated = round(size * self.config.t2i_share) if self.survey.drawable else 0
        about = [self.value(rng) for _ in range(generated)]
        chosen = [self.drawn(value, rng) for value in about]
        chosen += [rng.choice(self.survey.known) for _ in range(size - generated)]
        masked = self.masked(generated, generator)
        views = [rng.randrange(self.data.codes.shape[1]) for _ in chosen]
        seeds = [rng.getrandbits(62) for _ in chosen]
        budget, prompt_budget = self.budgets(rng)
        return Plan(
            records=chosen,
            views=views,
            seeds=seeds,
            about=about,
            generated=generated,
            budget=budget,
            prompt_budget=prompt_budget,
            masks=masked.mask,
            weights=masked.weight,
            levels=masked.mask_probability,
            keep=torch.rand(2, size, generator=generator) >= self.config.expert_dropout,
            exploration=exploration_draws(self.model, size, generator),
        )

    def masked(self, rows: int, generator: torch.Generator) -> MaskedCodes:
        """Masks of generation rows (B,); their codes are blank. Losses of ordered ones are no bound: `ordered_mask`."""
        blank = torch.zeros(rows, self.model.positions, dtype=torch.long)
        masked = draw_mask(blank, generator, law=self.config.mask_law, mask_id=self.model.codes)
        if self.rank is None:
            return masked
        ordered = torch.rand(rows, generator=generator) < self.config.ordered_share
        mask = torch.where(ordered[:, None], ordered_mask(masked.mask.sum(1), self.rank), masked.mask)
        return replace(masked, codes=blank.masked_fill(mask, self.model.codes), mask=mask)

    def budgets(self, rng: random.Random) -> tuple[int, int]:
        """Text tokens of a step's understanding rows and of its generation rows."""
        config = self.config
        if rng.random() < config.long_share:
            return config.long_budget, config.long_budget
        return config.text_budget, config.prompt_budget or config.text_budget

    def value(self, rng: random.Random) -> Value | None:
        """What a plain prompt is about, yes as often as no; None for a caption."""
        if not self.named or rng.random() >= self.config.plain_share:
            return None
        return rng.choice(self.named), rng.choice(("no", "yes"))

    def drawn(self, value: Value | None, rng: random.Random) -> int:
        """A row to generate; one with this value."""
        if value is not None:
            return rng.choice(self.survey.having[value])
        return rng.choices(self.survey.drawable, cum_weights=self.survey.odds)[0]

    def draw(self, size: int, generator: torch.Generator, index: int = 0, count: int = 1) -> MixedBatch:
        """Of a batch of `size` rows every `count`-th one, from row `index` on."""
        plan = self.plan(size, generator)
        own = list(range(index, size, count))
        drawn, asked = [r for r in own if r < plan.generated], [r for r in own if r >= plan.generated]
        targets = self.codes(plan, drawn)
        codes = targets.masked_fill(plan.masks[drawn], self.model.codes)
        masked = MaskedCodes(codes, plan.masks[drawn], plan.weights[drawn], plan.levels[drawn])
        seeds = {row: random.Random(plan.seeds[row]) for row in own}
        rows = [self.t2i(plan, row, codes[n].tolist(), seeds[row]) for n, row in enumerate(drawn)]
        clean = self.codes(plan, asked)
        turns = [self.turns(plan.records[row], plan.budget, seeds[row]) for row in asked]
        rows += [self.mmu(clean[n].tolist(), found) for n, found in enumerate(turns)]
        sequences = collate(rows, self.model, MULTIPLE)
        return MixedBatch(
            sequences,
            self.features(plan, own),
            targets,
            masked,
            plan.exploration[own],
            torch.tensor([len(drawn), sum(map(len, turns))], dtype=torch.float32),
            self.photos(self.data.photos, plan, asked),
            soft_targets(sequences, turns),
            self.lengths(plan, count, rows[: len(drawn)], rows[len(drawn) :]),
        )

    def lengths(self, plan: Plan, count: int, drawn: Sequence[Row], asked: Sequence[Row]) -> tuple[int, int] | None:
        """Padded lengths of each task's rows; None if one of the parts lacks a task, for all must run alike."""
        if min(plan.generated, len(plan.records) - plan.generated) < count:
            return None
        return padded(drawn, MULTIPLE), padded(asked, MULTIPLE)

    def codes(self, plan: Plan, rows: Sequence[int]) -> Tensor:
        """Image codes (len(rows), N) of some rows."""
        found = [self.data.codes[plan.records[row], plan.views[row]].astype("int64") for row in rows]
        return torch.from_numpy(np.array(found, dtype="int64").reshape(-1, self.model.positions))

    def t2i(self, plan: Plan, row: int, codes: list[int], rng: random.Random) -> Row:
        """A generation row. Captions are dropped now and then, not plain prompts: their photos are no fair sample."""
        value = plan.about[row]
        dropped = value is None and rng.random() < self.config.condition_dropout
        ids = [] if dropped else self.prompt(plan.records[row], value, plan.prompt_budget, rng)
        return t2i_row(ids, codes, self.tokenizer.end, self.model)

    def prompt(self, record: int, value: Value | None, budget: int, rng: random.Random) -> list[int]:
        """The first prompt that fits, in ids; the beginning of the first one where none does."""
        plain = value and [plain_prompt(self.records[record].labels, value, rng)]
        found = [self.tokenizer.encode(text) for text in plain or self.texts.prompts(record, rng)]
        return next((ids for ids in found if len(ids) <= budget), found[0][:budget])

    def mmu(self, codes: list[int], turns: Sequence[Turn]) -> Row:
        """An understanding row."""
        return mmu_row(codes, [(turn.question, turn.answer) for turn in turns], self.tokenizer.end, self.model)

    def turns(self, record: int, budget: int, rng: random.Random) -> list[Turn]:
        """Questions with answers, in ids, up to `budget` tokens; long budgets may start with a description."""
        pairs: list[Pair] = []
        if budget >= self.config.long_budget and rng.random() < 0.5:
            pairs.append(self.described(record, rng))
        pairs += self.texts.pairs(record, rng, budget // 8)
        if not pairs:
            pairs.append(self.described(record, rng))
        turns: list[Turn] = []
        told = self.tokenizer, self.model
        for question, answer, doubt in pairs:
            asked, said = question_ids(question, *told), answer_ids(answer, *told)
            budget -= len(asked) + len(said) + 2 + self.model.question_end
            if budget < 0 and turns:
                break
            other = contrary(answer) if doubt else ""
            turns.append(Turn(asked, said, answer_ids(other, *told) if other else [], doubt))
        return turns

    def described(self, row: int, rng: random.Random) -> Pair:
        """A request for a description, and one of what may be said."""
        record = self.records[row]
        if self.sure is not None:
            labels = self.sure.keep(row, record.labels)
            seen = "Age_Group" in labels or "Age_Group" not in record.labels
            record = replace(record, labels=labels, age=record.age if seen else None)
        return Pair(describe_question(rng), description(record, rng))

    def features(self, plan: Plan, rows: Sequence[int]) -> Features:
        """Expert features of the MMU rows (zeros for T2I rows), some withheld, and fresh noise."""
        noise = torch.empty(len(rows), self.model.noise_tokens, self.model.noise_width)
        for n, row in enumerate(rows):
            noise[n].normal_(generator=torch.Generator().manual_seed(plan.seeds[row]))
        clip, face = (self.cached(values, plan, rows) for values in (self.data.clip, self.data.face))
        face = face if face is None else face.unsqueeze(1)
        return Features(clip, face, noise, plan.keep[0][rows], plan.keep[1][rows])

    def cached(self, values: np.ndarray | None, plan: Plan, rows: Sequence[int]) -> Tensor | None:
        """Features (len(rows), ...) from an array (R, VIEWS, ...); zeros for T2I rows."""
        if values is None:
            return None
        found = torch.zeros(len(rows), *values.shape[2:])
        for n, row in enumerate(rows):
            if row >= plan.generated:
                found[n] = torch.from_numpy(values[plan.records[row], plan.views[row]].astype("float32"))
        return found

    def photos(self, values: np.ndarray | None, plan: Plan, rows: Sequence[int]) -> Tensor | None:
        """Photos (len(rows), 3, P, P) in [-1, 1] from an array (R, P, P, 3), mirrored in the second view."""
        if values is None:
            return None
        shown = np.zeros((len(rows), *values.shape[1:]), dtype=np.uint8)
        for n, row in enumerate(rows):
            photo = values[plan.records[row]]
            shown[n] = photo[:, ::-1] if plan.views[row] else photo
        return to_image_tensor(torch.from_numpy(shown))
