"""Faces from text: prompt -> prefix cache -> sampler over masked codes -> repair -> pixels.

[t2i] [end] prompt [end] | [soi] mask x N [eoi]
 computed once, cached     one forward a step, both guidance halves in it where the step is guided

Guidance leads from what a second, negative prompt gives: an empty one, a text of the user's, or the prompt's contrary.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from unif2ace_core.config import Group
from unif2ace_core.data.opposite import OPPOSITE, opposite
from unif2ace_core.diffusion.guidance import Constant, GuidanceSchedule, parse_schedule, rescaled
from unif2ace_core.diffusion.repair import expected_entries, repaired
from unif2ace_core.diffusion.samplers import ProgressPosterior, sample
from unif2ace_core.errors import UserError
from unif2ace_core.model.cache import KeyValueCache
from unif2ace_core.model.transformer import Features
from unif2ace_core.tasks.choose import candidate_seed, check_best_of, scores
from unif2ace_core.timing import phase
from unif2ace_core.tokens.codec import entries, to_pixels
from unif2ace_core.tokens.sequence import t2i_prefix
from unif2ace_core.weights.resolve import LoadedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GenerateOptions:
    """How to draw; None takes the model's default."""

    steps: int | None = None  # denoising steps
    guidance: float | None = None  # g in (1 + g) conditional - g unconditional; 0 is plain
    guidance_schedule: str | None = None  # which share of g a step gets, a form of diffusion.guidance.parse_schedule
    guidance_rescale: float | None = None  # how far guided logits get the spread of unguided ones, 0 to 1
    temperature: float | None = None  # the sampler's
    cooling: float | None = None  # how far it falls while sampling, from 1 + cooling of it to 1 - cooling
    repair: float | None = None  # share in what is decoded of what codes should be given the others, 0 to 1
    sampler: str | None = None  # name in unif2ace_core.diffusion.samplers.SAMPLERS
    negative: str | None = None  # what guidance leads away from: a text, "" or OPPOSITE
    best_of: int = 1  # pictures drawn for each that is kept; see tasks/choose.py


@dataclass(frozen=True)
class GenerateRequest:
    """One picture."""

    prompt: str
    seed: int


@dataclass
class GeneratedImage:
    """A picture with what made it."""

    request: GenerateRequest
    image: Image.Image
    seconds: float  # share of its batch's time
    options: GenerateOptions  # resolved
    negative: str  # the text that guidance led away from
    truncated: bool  # whether the prompt was cut to the model's text length


def resolve_options(model: LoadedModel, options: GenerateOptions) -> GenerateOptions:
    """Fill None fields from the configs of model and codec, and check the rest.

    Raises:
        UserError: steps below 1, negative guidance or temperature, a rescale, cooling or repair that is no share, no
            such guidance schedule, a negative prompt without guidance, a choice among less than one picture, or among
            several by a model that reads no attributes.
    """
    usual = asdict(model.generation) | {"repair": model.repair}
    missing = {name: value for name, value in usual.items() if getattr(options, name) is None}
    full = replace(options, **missing)
    if full.steps is not None and full.steps < 1:
        raise UserError(f"--steps {full.steps} is below 1; use 8 to 32")
    for name in ("guidance", "temperature"):
        value = getattr(full, name)
        if not 0 <= value < 1e4:
            raise UserError(f"--{name} {value} is out of range; use 0 or more")
    for name in ("guidance_rescale", "cooling", "repair"):
        value = getattr(full, name)
        if not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')} {value} is out of range; use 0 to 1")
    check_best_of(model, full.best_of)
    if options.negative and not full.guidance:
        raise UserError("--negative acts through guidance, which is 0; give --guidance 3, or leave --negative out")
    if full.repair and not model.repair:
        logger.warning(
            "the decoder of %s has not learned to draw what is expected of codes; --repair blurs", model.name
        )
    return replace(full, guidance_schedule=str(parse_schedule(str(full.guidance_schedule))))


def seen_text(model: LoadedModel, prompt: str) -> str:
    """What the model sees of a prompt: all, or its beginning where it is too long."""
    ids = model.tokenizer.encode(prompt)
    return prompt if len(ids) <= model.config.text_length else model.tokenizer.decode(ids[: model.config.text_length])


def negative_of(model: LoadedModel, prompt: str, options: GenerateOptions) -> str:
    """The text that guidance leads away from under resolved options; "" where there is no guidance."""
    if not options.guidance:
        return ""
    return opposite(seen_text(model, prompt)) if options.negative == OPPOSITE else str(options.negative)


class PromptedSpan:
    """The model as a function of masked codes, under prompts whose prefixes are cached; see `posterior`.

    Rows of the cache: the B prompts, then, if any step may be guided, the B that guidance leads away from, which are
    empty unless given.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompts: Sequence[Sequence[int]],
        noise: Tensor,
        guidance: float,
        schedule: GuidanceSchedule | None = None,
        negatives: Sequence[Sequence[int]] | None = None,
        rescale: float = 0.0,
    ) -> None:
        self.model, self.guidance, self.schedule, self.rescale = model, guidance, schedule or Constant(), rescale
        away = negatives or [()] * len(prompts)
        texts = [*prompts, *(away if guidance > 0 else ())]
        prefixes = [t2i_prefix(text, model.tokenizer.end, model.config) for text in texts]
        noise = torch.cat([noise, noise]) if guidance > 0 else noise
        self.lengths = torch.tensor([len(prefix) for prefix in prefixes], device=model.device)
        self.visible = torch.arange(int(self.lengths.max()), device=model.device) < self.lengths.unsqueeze(1)
        self.cache = self.run_prefix(prefixes)
        rows = torch.arange(len(noise), device=model.device)
        self.resampled = model.transformer.resample(Features(noise=noise), {Group.T2I.name.lower(): rows})

    @phase("compute: prefix")
    def run_prefix(self, prefixes: Sequence[Sequence[int]]) -> KeyValueCache:
        """Keys and values of the text, right-padded; pads are hidden by the mask."""
        model, width = self.model, self.visible.shape[1]
        pad = model.config.special("pad")
        ids = torch.tensor([[*p, *[pad] * (width - len(p))] for p in prefixes], device=model.device)
        causal = torch.ones(width, width, dtype=torch.bool, device=model.device).tril()
        group = torch.where(self.visible, int(Group.T2I), -1)
        positions = torch.arange(width, device=model.device).expand(len(ids), -1)
        cache = KeyValueCache(model.config.layers, room=model.config.positions + 2)
        model.transformer(ids, positions, causal.expand(len(ids), 1, -1, -1), group, cache=cache)
        return cache.freeze()

    def run_span(self, rows: Tensor) -> Tensor:
        """Codes (R, N), masks as K, under the first R prefixes -> final hidden states at the codes (R, N, D)."""
        config = self.model.config
        b, n = rows.shape
        ends = [torch.full((b, 1), config.special(name), device=rows.device) for name in ("soi", "eoi")]
        ids = torch.cat([ends[0], rows + config.code_offset, ends[1]], 1)
        positions = self.lengths[:b].unsqueeze(1) + torch.arange(n + 2, device=rows.device)
        mask = torch.cat([self.visible[:b], torch.ones(b, n + 2, dtype=torch.bool, device=rows.device)], 1)
        start = torch.ones(b, dtype=torch.long, device=rows.device)
        output = self.model.transformer(
            ids,
            positions,
            mask[:, None, None, :].expand(-1, 1, n + 2, -1),
            Group.T2I,
            start,
            {name: features.first(b) for name, features in self.resampled.items()},
            self.cache.first(b),
        )
        return output.hidden[:, 1:-1]

    def halves(self, codes: Tensor, progress: float = 1.0) -> tuple[Tensor, Tensor]:
        """Codes (B, N), masks as K -> hidden states (B, N, D) as guided at this progress, and as the prompts give them.

        The head is affine and the two guidance weights sum to 1, so guiding hidden states equals guiding logits.
        The unconditional half is computed only where its weight is not 0.
        """
        guidance = self.guidance * self.schedule.share(progress)
        if guidance == 0:
            plain = self.run_span(codes)
            return plain, plain
        conditional, unconditional = self.run_span(torch.cat([codes, codes])).chunk(2)
        return conditional + guidance * (conditional - unconditional), conditional

    def posterior(self, codes: Tensor, progress: float = 1.0) -> Tensor:
        """Logits (M, K) at the masked positions of codes (B, N), row-major, in the step that ends at `progress`."""
        masked, head = codes == self.model.config.codes, self.model.transformer.code_logits
        hidden, conditional = self.halves(codes, progress)
        logits = head(hidden[masked])
        if self.rescale == 0 or hidden is conditional:
            return logits
        return rescaled(logits, head(conditional[masked]), self.rescale)

    def unguided(self, codes: Tensor) -> Tensor:
        """As `posterior`, as the prompts alone give it."""
        return self.model.transformer.code_logits(self.run_span(codes)[codes == self.model.config.codes])


class SampledCodes(NamedTuple):
    """What was drawn for some requests."""

    codes: Tensor  # (B, N)
    expected: Tensor | None  # (B, N, bits) what the others make of each code, see diffusion/repair.py; None: not asked
    cut: list[bool]  # whether each prompt was cut

    def entries(self, model: LoadedModel, repair: float) -> Tensor:
        """What to decode (B, N, bits): the codes' entries, with this share of the expected ones."""
        if self.expected is None:
            return entries(self.codes, model.codec.config.bits)
        return repaired(self.codes, self.expected, repair)


@phase("compute: steps")
@torch.inference_mode()
def sample_codes(model: LoadedModel, requests: Sequence[GenerateRequest], options: GenerateOptions) -> SampledCodes:
    """Draw codes for the requests under resolved options, and look at them once more where there is repair."""
    config = model.config
    generators = [torch.Generator().manual_seed(request.seed % 2**63) for request in requests]
    noise = torch.stack([torch.randn(config.noise_tokens, config.noise_width, generator=g) for g in generators])
    prompts = [model.tokenizer.encode(request.prompt) for request in requests]
    negatives = [model.tokenizer.encode(negative_of(model, request.prompt, options)) for request in requests]
    schedule = parse_schedule(str(options.guidance_schedule))
    guidance, rescale = float(options.guidance or 0), float(options.guidance_rescale or 0)
    span = PromptedSpan(model, prompts, noise.to(model.device), guidance, schedule, negatives, rescale)
    codes = sample(
        str(options.sampler),
        ProgressPosterior(span.posterior),
        codes=config.codes,
        positions=config.positions,
        generators=generators,
        steps=int(options.steps or 1),
        temperature=float(options.temperature or 0),
        cooling=float(options.cooling or 0),
        grid=config.grid,
        device=model.device,
    )
    expected = expected_entries(codes, span.unguided, config.codes, config.grid) if options.repair else None
    return SampledCodes(codes, expected, [len(prompt) > config.text_length for prompt in prompts])


def generate(
    model: LoadedModel, requests: Sequence[GenerateRequest], options: GenerateOptions, batch_size: int = 4
) -> Iterator[GeneratedImage]:
    """Generate a picture per request, in order; each depends on its prompt, seed and options alone.

    Raises:
        UserError: an empty prompt or an option out of range.
    """
    for request in requests:
        if not request.prompt.strip():
            raise UserError("the prompt is empty; describe a face, for example 'rosy cheeks, hoop earrings'")
    full = resolve_options(model, options)
    # Rounding in a matrix product depends on its shape. Alone, a picture is exact, and on CPU that costs little.
    batch_size = 1 if model.device.type == "cpu" else batch_size
    for start in range(0, len(requests), batch_size):
        chunk = requests[start : start + batch_size]
        began = time.perf_counter()
        pictures, cut = drawn(model, chunk, full)
        arrays = to_pixels(pictures).cpu().numpy()
        seconds = (time.perf_counter() - began) / len(chunk)
        for request, array, truncated in zip(chunk, arrays, cut, strict=True):
            negative = negative_of(model, request.prompt, full)
            yield GeneratedImage(request, Image.fromarray(array), seconds, full, negative, truncated)


@torch.inference_mode()
def drawn(
    model: LoadedModel, requests: Sequence[GenerateRequest], options: GenerateOptions
) -> tuple[Tensor, list[bool]]:
    """Pictures (B, 3, H, W) in [-1, 1] of the requests under resolved options, and whether each prompt was cut.

    Of several candidates, which come one after the other, each request keeps its best.
    """
    kept, cut = decoded(model, requests, options)
    if options.best_of == 1:
        return kept, cut
    prompts = [seen_text(model, request.prompt) for request in requests]
    best = scores(model, prompts, kept)
    for number in range(1, options.best_of):
        others = [replace(request, seed=candidate_seed(request.seed, number)) for request in requests]
        pictures, _ = decoded(model, others, options)
        for row, score in enumerate(scores(model, prompts, pictures)):
            if score > best[row]:
                kept[row], best[row] = pictures[row], score
    return kept, cut


def decoded(
    model: LoadedModel, requests: Sequence[GenerateRequest], options: GenerateOptions
) -> tuple[Tensor, list[bool]]:
    """As `drawn`, one picture for each request."""
    found = sample_codes(model, requests, options)
    with phase("compute: pixels"):
        return model.codec.decode_entries(found.entries(model, float(options.repair or 0))), found.cut
