"""From the name of a model to its parts in memory: `mini` (embedded), a directory, or a hub id."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unif2ace_core import __version__
from unif2ace_core.config import ModelConfig
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipExpert, clip_width, load_clip_expert
from unif2ace_core.experts.face import FaceEncoder, face_width, load_face_expert
from unif2ace_core.experts.locate import Locator
from unif2ace_core.model.decode import TokenDecoder
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.timing import phase
from unif2ace_core.tokens.codec import Codec, CodecConfig
from unif2ace_core.tokens.magvit import KIND, MagvitConfig, MagvitV2
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.weights.configs import from_dict, read_config, read_json
from unif2ace_core.weights.parts import build, has_part, load_part, part_kind
from unif2ace_core.weights.store import FORMAT, load_module, load_tensors

if TYPE_CHECKING:
    from unif2ace_core.experts.insightface_model import InsightFaceEncoder

EMBEDDED = Path(__file__).parent.parent / "assets" / "mini"
PARTS = ("transformer", "codec", "clip", "face", "locator")


@dataclass(frozen=True)
class GenerationDefaults:
    """How a model samples where the user says nothing."""

    steps: int = 16
    guidance: float = 5.0
    temperature: float = 0.6
    sampler: str = "halton"
    guidance_schedule: str = "constant"  # see diffusion/guidance.py; absent in older config.json files
    guidance_rescale: float = 0.0  # how far guided logits get the spread of unguided ones, 0 to 1; likewise
    cooling: float = 0.0  # how far temperature falls while sampling, 0 to 1; likewise
    negative: str = ""  # what guidance leads away from: a text, or data.opposite.OPPOSITE; likewise


def config_json(name: str, model: ModelConfig, generation: GenerationDefaults) -> str:
    """The config.json of a model folder."""
    values = {
        "format": FORMAT,
        "name": name,
        "version": __version__,
        "model": asdict(model),
        "generation": asdict(generation),
    }
    return json.dumps(values, indent=1) + "\n"


@dataclass
class LoadedModel:
    """A model ready for the tasks; a part that was not asked for or does not exist is None."""

    name: str  # as the user gave it
    directory: Path
    config: ModelConfig
    generation: GenerationDefaults
    tokenizer: TextTokenizer
    device: torch.device
    version: str  # of the package that wrote the weights
    transformer: UniF2ace
    codec: Codec | MagvitV2
    clip: ClipExpert | None = None
    face: FaceEncoder | InsightFaceEncoder | None = None
    locator: Locator | None = None
    quantization: str | None = None  # int8 or nf4 where the transformer's weights are rounded

    @property
    def repair(self) -> float:
        """Share of expected entries in what is decoded, unless told otherwise, see diffusion/repair.py."""
        return self.codec.config.repair if isinstance(self.codec, Codec) else 0.0

    @cached_property
    def decoder(self) -> TokenDecoder | None:
        """The transformer for one token at a time, where that is faster; packs its weights at the first use."""
        with phase("weights: pack"):
            return TokenDecoder.of(self.transformer)


def pick_device(device: str) -> torch.device:
    """`auto` takes CUDA where there is one, else the CPU; Apple's MPS is taken only by name.

    Raises:
        UserError: the device asked for is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    kind = device.split(":")[0]
    if not available.get(kind):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise UserError(f"device {device!r} is not available here; use one of auto, {there}")
    return torch.device(device)


def model_directory(model: str) -> Path:
    """The directory of a model: embedded, local, or fetched from the hub (only for an explicit owner/name).

    Raises:
        UserError: nothing of that name.
    """
    if model == "mini":
        return EMBEDDED
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"--model {model} is a file; give the directory that holds config.json and model.safetensors")
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return fetch_from_hub(model)
    raise UserError(f"no model {model!r}; give 'mini', a directory, or a hub id such as owner/name")


def fetch_from_hub(model: str) -> Path:
    """Download a model from the Hugging Face hub; only json and safetensors files are taken."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"hub model {model!r} cannot be fetched ({reason}); check the id and the network") from error


def read_model_config(directory: Path) -> tuple[dict[str, Any], ModelConfig]:
    """The whole config.json and its model sizes.

    Raises:
        UserError: missing, malformed, or another program's config.
    """
    path = directory / "config.json"
    values = read_json(path)
    if values.get("format") != "unif2ace-1" or "model" not in values:
        raise UserError(f"{path} is not a unif2ace config; convert other checkpoints first")
    return values, from_dict(ModelConfig, values["model"], path)


@phase("weights: transformer")
def load_transformer(
    directory: Path, values: dict[str, Any], config: ModelConfig, device: torch.device, quantize: str | None = None
) -> UniF2ace:
    """The transformer on its device, fp32 but for what stays quantized; see `weights/quantized_layers.py`.

    Args:
        directory: the model's.
        values: its config.json.
        config: the model's sizes.
        device: where it computes.
        quantize: int8 or nf4: round the weights in memory, to the numbers that `unif2ace quantize` writes.

    Raises:
        UserError: weights that cannot be read or are not the config's, or `quantize` of a quantized model.
    """
    path = directory / "model.safetensors"
    if quantize or "quantization" in values:
        return load_quantized(path, values, config, device, quantize).to(device)
    model = build(UniF2ace, config)
    load_module(model, load_tensors(path), path)
    return model.to(device)


def load_quantized(
    path: Path, values: dict[str, Any], config: ModelConfig, device: torch.device, quantize: str | None
) -> UniF2ace:
    """`load_transformer` of quantized weights, or of others that become so now; on the CPU."""
    from unif2ace_core.weights.quantized import BITS, quantize_state, quantized_tensors
    from unif2ace_core.weights.quantized_layers import layers_of, quantized_transformer

    if quantize is None:
        tensors = quantized_tensors(path.parent, values["quantization"])
    elif quantize not in BITS:
        raise UserError(f"quantization {quantize!r} is not offered; choose one of {', '.join(BITS)}")
    elif "quantization" in values:
        raise UserError(f"{path.parent} is quantized already ({values['quantization']}); load it without --quantize")
    else:
        tensors = quantize_state(load_tensors(path), BITS[quantize])
    return quantized_transformer(config, tensors, layers_of(device), path)


def codec_config(directory: Path) -> CodecConfig | MagvitConfig:
    """Sizes of the image tokenizer in a folder, of either kind, without reading its weights.

    Raises:
        UserError: codec.json is missing, malformed, or of an unknown kind.
    """
    path = directory / "codec.json"
    if part_kind(directory, "codec", (KIND,)):
        return read_config(path, MagvitConfig)
    return read_config(path, CodecConfig)


@phase("weights: codec")
def load_codec(directory: Path) -> Codec | MagvitV2:
    """The image tokenizer of a model: the embedded kind, or MAGVIT-v2 where codec.json says so.

    Raises:
        UserError: a file is missing, unreadable, or does not fit its config.
    """
    if isinstance(codec_config(directory), MagvitConfig):
        return load_part(directory, "codec", MagvitV2, MagvitConfig)
    return load_part(directory, "codec", Codec, CodecConfig)


def check_sizes(directory: Path, config: ModelConfig, experts: Collection[str]) -> None:
    """Compare the codec and the experts of a folder with what its transformer reads.

    Raises:
        UserError: a codebook, a grid or a width differs.
    """
    codec = codec_config(directory)
    found: dict[str, Any] = {"codes": codec.codes, "grid": codec.grid}
    origins = dict.fromkeys(found, "codec.json")
    for name, width in (("clip", clip_width), ("face", face_width)):
        if name in experts and name in config.sequence_mmu:
            found[f"{name}_width"], origins[f"{name}_width"] = width(directory), f"{name}.json"
    for field, value in found.items():
        if value != (own := getattr(config, field)):
            raise UserError(
                f"{directory / origins[field]} gives {field} {value}, config.json has {own}; take both from one model"
            )


def load_model(
    model: str = "mini", device: str = "auto", parts: Sequence[str] | None = None, quantize: str | None = None
) -> LoadedModel:
    """Load a model.

    Args:
        model: `mini`, a directory, or a hub id.
        device: auto, cpu, cuda or mps.
        parts: which optional experts to load (clip, face, locator); None for all that exist.
        quantize: int8 or nf4 for the transformer's weights in memory; None: as they are stored.

    Raises:
        UserError: a file is missing, corrupt or foreign, the device is not there, or `quantize` of a quantized model.
    """
    target, directory = pick_device(device), model_directory(model)
    values, config = read_model_config(directory)
    wanted = set(PARTS if parts is None else parts)
    unknown = wanted - set(PARTS)
    if unknown:
        raise ValueError(f"unknown parts {sorted(unknown)}; choose from {PARTS}")
    there = {name for name in ("clip", "face", "locator") if name in wanted and has_part(directory, name)}
    check_sizes(directory, config, there)
    config_path = directory / "config.json"
    with phase("weights: tokenizer"):
        tokenizer = TextTokenizer.load(directory / "tokenizer.json")
    if tokenizer.size > config.text_vocabulary:
        raise UserError(
            f"{directory / 'tokenizer.json'} has {tokenizer.size} entries, the model {config.text_vocabulary}; "
            "take both from one model"
        )
    return LoadedModel(
        name=model,
        directory=directory,
        config=config,
        generation=from_dict(GenerationDefaults, values.get("generation", {}), config_path),
        tokenizer=tokenizer,
        device=target,
        version=str(values.get("version", __version__)),
        transformer=load_transformer(directory, values, config, target, quantize),
        codec=load_codec(directory).to(target),
        clip=load_clip_expert(directory).to(target) if "clip" in there else None,
        face=load_face_expert(directory).to(target) if "face" in there else None,
        locator=Locator.load(directory) if "locator" in there else None,
        quantization=quantize or values.get("quantization", {}).get("scheme"),
    )
