"""The 1.8b preset with random weights on the CPU, in a process of its own: memory and seconds as JSON.

    python tests/benchmarks/full_size.py fp32|int8|nf4 [--steps 16] [--tokens 32] [--plain]

One picture (its codes: 256, guided, halton) for a prompt of twelve words, one answer about made-up codes and features.
`--plain` also takes one step and two tokens of the plain algorithms in `plain.py`; all of their steps cost the same, so
the whole is that times the number of steps or tokens.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from plain import PaddedGeneration, standing_alone, uncached_answer
from torch import Tensor

from unif2ace_core.config import PRESETS, ModelConfig
from unif2ace_core.model.transformer import Features, UniF2ace
from unif2ace_core.tasks.generate import GenerateOptions, GenerateRequest, sample_codes
from unif2ace_core.tasks.understand import AskedPhotos, Photos, greedy
from unif2ace_core.weights.parts import unfilled
from unif2ace_core.weights.quantized import ABSMAX, BITS, BLOCK, ROW_READ, is_quantized_name
from unif2ace_core.weights.quantized_layers import layers_of, quantized_transformer

END, NEVER = 0, -1  # an [end], and an id that no token has, so that the answer has all of its tokens
TWELVE_WORDS = 15  # text ids of a prompt of twelve words
QUESTION = 8  # text ids of a question
PLAIN_TOKENS = 2
GUIDANCE = 5.0
DEVIATION = 0.02  # of every weight matrix
GENERATOR = torch.Generator().manual_seed(0)


def random_ids(top: int, *shape: int) -> Tensor:
    return torch.randint(1, top, shape, generator=GENERATOR)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def single(name: str, shape: torch.Size) -> Tensor:
    """A parameter that is no matrix: biases 0, norms 1, rho one half."""
    return torch.full(shape, 0.5 if not shape else float(name.endswith("weight")))


def random_fp32(config: ModelConfig) -> UniF2ace:
    """Weights drawn in place: there is no second copy."""
    with unfilled():
        model = UniF2ace(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.copy_(single(name, parameter.shape))
    return model.initialise(GENERATOR).eval()


def random_numbers(name: str, shape: torch.Size, bits: int) -> dict[str, Tensor]:
    """A tensor in the form of a quantized file, numbers uniform over all that there are."""
    if not is_quantized_name(name, torch.empty(shape, device="meta")):
        return {name: single(name, shape) if len(shape) < 2 else DEVIATION * normal(*shape)}
    if bits == 4 and name not in ROW_READ and shape[-1] % BLOCK == 0:
        packed = torch.randint(256, (*shape[:-1], shape[-1] // 2), dtype=torch.uint8, generator=GENERATOR)
        return {name: packed, name + ABSMAX: torch.full((shape.numel() // BLOCK,), DEVIATION / 0.55)}
    codes = torch.randint(-127, 128, shape, dtype=torch.int8, generator=GENERATOR)
    return {name: codes, name + ABSMAX: torch.full(shape[:-1], DEVIATION * 3**0.5, dtype=torch.float16)}


def random_quantized(config: ModelConfig, bits: int) -> UniF2ace:
    """As `load_model` puts a quantized file into memory."""
    with unfilled():
        shapes = {name: value.shape for name, value in UniF2ace(config).state_dict().items()}
    tensors: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        tensors |= random_numbers(name, shape, bits)
    return quantized_transformer(config, tensors, layers_of(torch.device("cpu")), Path("random weights"))


class Work:
    """What is asked of the model."""

    def __init__(self, model: UniF2ace) -> None:
        self.model, self.config = model, model.config
        self.prompt = random_ids(self.config.text_vocabulary, TWELVE_WORDS).tolist()
        self.question = random_ids(self.config.text_vocabulary, QUESTION).tolist()
        self.codes = random_ids(self.config.codes, 1, self.config.positions)
        self.features = Features(clip=normal(1, 257, self.config.clip_width), face=normal(1, 1, self.config.face_width))
        self.alone = standing_alone(model, END)
        self.alone.tokenizer.encode = lambda text: self.prompt

    def picture(self, steps: int) -> Tensor:
        options = GenerateOptions(steps, GUIDANCE, "constant", 1.0, "halton")
        return sample_codes(self.alone, [GenerateRequest("twelve words", 1)], options).codes

    def answer(self, tokens: int) -> list[int]:
        photos = Photos(self.codes, self.features.clip, self.features.face, None)
        return greedy(AskedPhotos(self.alone, photos, [0], [self.question]), NEVER, "random", tokens)[0][0]

    def plain_step(self) -> Tensor:
        noise = normal(1, self.config.noise_tokens, self.config.noise_width)
        padded = PaddedGeneration(self.model, self.prompt, END, self.config.text_length, noise, GUIDANCE)
        return padded.logits(torch.full((self.config.positions,), self.config.codes))

    def plain_answer(self) -> list[int]:
        return uncached_answer(self.model, self.codes[0], self.question, END, self.features, PLAIN_TOKENS)


def timed(call: Any, *arguments: Any) -> tuple[Any, float]:
    """A result, and the seconds that it took."""
    began = time.perf_counter()
    with torch.no_grad():
        result = call(*arguments)
    return result, round(time.perf_counter() - began, 2)


def peak_gb() -> float:
    """Most memory that the process has had, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)


def measure(scheme: str, steps: int, tokens: int, plain: bool) -> dict[str, Any]:
    """Build, draw, answer; raise `AssertionError` where codes or tokens are none."""
    config = PRESETS["1.8b"]
    build = (random_fp32, config) if scheme == "fp32" else (random_quantized, config, BITS[scheme])
    model, build_seconds = timed(*build)
    loaded = round(psutil.Process().memory_info().rss / 1e9, 2)
    work = Work(model)
    codes, picture = timed(work.picture, steps)
    said, answer = timed(work.answer, tokens)
    assert codes.shape == (1, config.positions) and int(codes.min()) >= 0 and int(codes.max()) < config.codes
    assert len(said) == tokens and max(said) < config.text_vocabulary
    found = {"weights": scheme, "threads": torch.get_num_threads(), "build_s": build_seconds, "loaded_gb": loaded}
    found |= {"steps": steps, "picture_s": picture, "tokens": tokens, "answer_s": answer, "peak_gb": peak_gb()}
    if plain:
        step, (few, seconds) = timed(work.plain_step)[1], timed(work.plain_answer)
        assert scheme != "fp32" or few == said[:PLAIN_TOKENS]
        whole = {"plain_picture_s": step * steps, "plain_answer_s": seconds / PLAIN_TOKENS * tokens}
        found |= {name: round(value, 1) for name, value in whole.items()} | {"plain_peak_gb": peak_gb()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", choices=["fp32", *BITS])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--plain", action="store_true", help="also the plain algorithms")
    given = parser.parse_args()
    print(json.dumps(measure(given.weights, given.steps, given.tokens, given.plain)))


if __name__ == "__main__":
    main()
