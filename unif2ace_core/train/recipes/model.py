"""Recipe `model`: the joint transformer on cached codes and expert features.

    unif2ace train model --data DATA --output runs/model codec=runs/codec/export clip=runs/clip/export \\
        face=runs/face/export locate=runs/locate/export

Both tasks share each batch: D3Diff on masked codes under captions, next-token loss on answers, one balance loss per
group. The export is a complete model directory for `--model`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from unif2ace_core.config import PRESETS, ModelConfig
from unif2ace_core.data.sets import preferred_sources
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.wordings import ASKED
from unif2ace_core.diffusion.d3diff import MODES, TERMS
from unif2ace_core.diffusion.guidance import parse_schedule
from unif2ace_core.diffusion.samplers import SAMPLERS
from unif2ace_core.diffusion.schedule import COUNT_LAWS
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import clip_width, read_clip_config
from unif2ace_core.experts.face import face_width
from unif2ace_core.model.sequence_moe import Exploration
from unif2ace_core.model.transformer import UniF2ace
from unif2ace_core.tokens.text import TextTokenizer
from unif2ace_core.train.encode import EncodedSet, encode_kind, encoded
from unif2ace_core.train.estimate import Setup, estimate, padded_length, rows_that_fit
from unif2ace_core.train.estimate import sizes as parameter_sizes
from unif2ace_core.train.learners import load_learners
from unif2ace_core.train.loop import in_bf16
from unif2ace_core.train.mixture import MixedBatch, Mixture, MixtureConfig, check_labels, rank_of
from unif2ace_core.train.objectives import ObjectiveConfig, joint_loss
from unif2ace_core.train.options import TrainConfig, as_path, check_choice, check_range, with_overrides
from unif2ace_core.train.processes import Part, device_of, moved
from unif2ace_core.train.records import split_records
from unif2ace_core.train.stitch import check_stitch, stitch
from unif2ace_core.train.sure import SureLabels, attribute_head
from unif2ace_core.train.taught import TaughtRecords
from unif2ace_core.train.texts import corpus, parse_factors
from unif2ace_core.weights.configs import from_dict, read_json
from unif2ace_core.weights.parts import in_fp16
from unif2ace_core.weights.resolve import GenerationDefaults, codec_config, config_json
from unif2ace_core.weights.store import copy_into, load_module, load_tensors, save_tensors, write_text_atomic

logger = logging.getLogger(__name__)

PART_FILES = {"codec": "codec", "clip": "clip", "face": "face", "locate": "locator"}  # by the setting of their folder
EVAL_BATCH = 32
MASK_LAWS = (*COUNT_LAWS, "bernoulli")  # those of draw_mask that need no further option


@dataclass
class ModelTrainConfig(TrainConfig):
    """Settings of the model recipe."""

    steps: int = 8000
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.02
    preset: str = "mini"  # name in unif2ace_core.config.PRESETS: sizes of a fresh model; that of init= has its own
    sizes: tuple[str, ...] = ()  # NAME:VALUE, changes to the preset, as layers:12,sequence_mmu:copy+copy+face+copy
    codec: str = ""  # exports of the other recipes
    clip: str = ""
    face: str = ""  # may be empty: no face expert
    locate: str = ""  # may be empty: only aligned photos are understood
    tokenizer: str = ""  # directory with tokenizer.json; empty trains one
    bit_embedding: bool = True  # share strength between codes with common LFQ bits; folded on export
    explore_start: float = 0.5  # probability that a sequence router explores, falling linearly
    explore_end: float = 0.05
    t2i_share: float = 0.5  # rows of generation in a batch
    t2i_sources: tuple[str, ...] = ("celebahq", "ffhq")  # whose framing pictures shall have; all if none is there
    t2i_rarity: float = 1.5  # how much more often photos with glasses, hats, ... are generated; 0: all equally often
    drawn_share: float = 0.0  # rows whose texts are drawn from their labels, though the set holds written ones
    plain_share: float = 0.0  # rows of generation about one attribute, there as often as not
    ask_more: tuple[str, ...] = ()  # NAME:FACTOR, yes/no attributes that drawn questions are so much oftener about
    taught: tuple[str, ...] = ()  # yes/no attributes whose drawn answers follow the CLIP expert, in soft targets
    former_clip: str = ""  # the expert that the model of init= has read, where clip= is another one
    text_budget: int = 60  # text tokens of a row
    prompt_budget: int = 0  # those of a prompt, where they are fewer: pictures cost less then; 0: text_budget
    long_share: float = 0.2  # batches whose rows are long enough for descriptions
    describe_sure: float = 0.0  # probability by the CLIP expert that labels have which a description states; 0: any
    condition_dropout: float = 0.1  # captions emptied
    expert_dropout: float = 0.1  # rows without CLIP or face features
    mask_law: str = "arcsine"  # of the number of masked codes
    ordered_share: float = 0.0  # rows of generation that mask the last codes of the order of sampler=, not any
    alpha: float = 0.01  # of D3Diff's score term
    mode: str = "normalized"  # of D3Diff
    terms: str = "both"  # of D3Diff
    mmu_weight: float = 1.0  # of the answers
    balance_t2i: float = 0.01  # of the balance loss of generation
    balance_mmu: float = 0.01  # of the balance loss of understanding
    checkpointing: bool = False  # compute activations twice instead of keeping them
    eval_rows: int = 256  # held-out rows of an evaluation
    train_experts: tuple[str, ...] = ()  # clip, face: encoders that learn too, from photos; the others are frozen
    freeze_trunk: bool = False  # train only what UniF2ace adds to a Show-o: routed and sequence experts, their routers
    shared_per_group: bool = False  # a shared expert for each task; a start with one for both is copied into each
    start_share: float = 0.0  # of the start's weights in the export, not in val_* (Wortsman et al., 2022)
    guidance: float | None = None  # how the exported model samples unless told otherwise; None: as its start does
    sampling_steps: int | None = None
    temperature: float | None = None
    cooling: float | None = None
    sampler: str | None = None
    guidance_schedule: str | None = None
    guidance_rescale: float | None = None
    negative: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        words = {"preset": PRESETS, "mask_law": MASK_LAWS, "mode": MODES, "terms": TERMS, "sampler": SAMPLERS}
        for name, known in words.items():
            check_choice(self, name, known)
        shares = ("t2i_share", "drawn_share", "plain_share", "long_share", "condition_dropout", "expert_dropout")
        check_range(self, (*shares, "ordered_share", "start_share", "explore_start", "explore_end"), 0, 1)
        check_range(self, ("describe_sure", "guidance_rescale", "cooling"), 0, 1)
        check_range(self, ("text_budget", "sampling_steps", "eval_rows"), 1)
        check_range(self, ("alpha", "temperature", "t2i_rarity", "prompt_budget"), 0)
        parse_factors(self.ask_more)
        for name in set(self.taught) - set(ASKED):
            raise UserError(f"taught={name} is no yes/no attribute; give names such as taught=Wavy_Hair,Double_Chin")
        if self.taught and self.t2i_share == 1:
            raise UserError("taught is about answers, and t2i_share=1 leaves them out; leave taught out too")
        if self.former_clip and "clip" in self.train_experts:
            raise UserError("former_clip fits a start to a frozen expert; leave clip out of train_experts")
        if self.former_clip and not self.init:
            raise UserError("former_clip is what the model of init= has read, and a fresh one has read none; give init")
        if self.start_share and not self.init:
            raise UserError("start_share is of the model of init=, and there is none; give init")
        if self.start_share and self.train_experts:
            raise UserError("start_share leaves experts as they have learned; leave it or train_experts out")
        if self.plain_share and not self.t2i_share:
            raise UserError("plain_share is about pictures, and t2i_share=0 leaves them out; leave plain_share out too")
        if self.ordered_share and not (self.t2i_share and self.sampler):
            raise UserError(
                "ordered_share masks pictures in a sampler's order; give sampler=halton or sampler=halton_centred, and "
                "t2i_share above 0, or leave ordered_share out"
            )
        if self.ordered_share and self.sampler:
            rank_of(self.sampler, (1, 1))  # refuses one without an order before anything is read
        if self.describe_sure and not self.long_share:
            raise UserError(
                "describe_sure is about descriptions, and long_share=0 leaves them out; give long_share=0.2"
            )
        if self.guidance_schedule is not None:
            parse_schedule(self.guidance_schedule)
        for name in set(self.train_experts) - {"clip", "face"}:
            raise UserError(f"no expert {name!r} to train; give train_experts=clip, train_experts=face or both")

    def missing(self) -> list[str]:
        return [name for name in ("codec", "clip") if not getattr(self, name)]


CONFIG = ModelTrainConfig


def model_sizes(base: ModelConfig, codec: Path, clip: Path, face: Path | None) -> ModelConfig:
    """The sizes of a preset or start, with codebook, grid and feature widths of the parts it is trained on."""
    codes = codec_config(codec)
    sizes = replace(base, codes=codes.codes, grid=codes.grid, clip_width=clip_width(clip))
    return replace(sizes, face_width=face_width(face)) if face else sizes


def base_sizes(config: ModelTrainConfig) -> ModelConfig:
    """The sizes of the start, else of the preset with its changes.

    Raises:
        UserError: an unknown size, one that no model can have, or changes to a start.
    """
    start = as_path(config.init)
    if start and config.sizes:
        raise UserError("sizes= changes a preset, and the model of init= has its own; leave one of them out")
    if start:
        return start_sizes(start)
    changes = dict(word.partition(":")[::2] for word in config.sizes)
    try:
        return with_overrides(PRESETS[config.preset], {name: text.replace("+", ",") for name, text in changes.items()})
    except ValueError as error:
        raise UserError(f"sizes={','.join(config.sizes)} cannot be: {error}") from error


def start_sizes(start: Path) -> ModelConfig:
    """The sizes of the model in a folder."""
    path = start / "config.json"
    return from_dict(ModelConfig, read_json(path).get("model"), path)


def is_trunk(name: str) -> bool:
    """Whether a parameter belongs to the dense model that a Show-o checkpoint fills (shared experts included)."""
    added = (".mlp.groups.", ".sequence.", "resamplers.")
    return not any(part in f".{name}" for part in added)


def check_start(start: Path, sizes: ModelConfig) -> None:
    """Raise `UserError` where the model of `init=` has other sizes than those with these exports."""
    earlier = start_sizes(start)
    for field in dataclasses.fields(ModelConfig):
        own, now = getattr(earlier, field.name), getattr(sizes, field.name)
        if own != now and field.name not in ("code_bits", "shared_per_group"):
            raise UserError(
                f"init={start} has {field.name} {own}, preset and exports give {now}; use those it was trained with"
            )


def untied(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of a start whose shared experts are copied for each group, where the model has one for each."""
    found = dict(tensors)
    for name, value in tensors.items():
        own = name.replace(".mlp.shared.", ".mlp.shared_mmu.")
        if config.shared_per_group and own not in found:
            found[own] = value
    return found


def blended(own: Mapping[str, Tensor], start: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Means of own tensors and the start's, which count `share`; own ones where the start has none such."""
    return {
        name: value.lerp(start[name].to(value), share)
        if name in start and start[name].shape == value.shape and value.is_floating_point()
        else value
        for name, value in own.items()
    }


def reads_clip(name: str) -> bool:
    """Whether a parameter belongs to what reads the CLIP expert, which a stitched model has anew."""
    return "clip" in name.split(".")


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def copy_parts(parts: Mapping[str, Path | None], directory: Path) -> None:
    """Copy each part's files from the folder of its setting, which may hold other parts too, as a model's does."""
    for setting, folder in parts.items():
        for file in folder.iterdir() if folder else ():
            if file.stem == PART_FILES[setting] and file.suffix in (".safetensors", ".json"):
                copy_into(directory, file)


class ModelTask:
    """See `unif2ace_core.train.loop.Task`."""

    name = "model"
    shardable = True

    def __init__(self, config: ModelTrainConfig, data: Path) -> None:
        self.config = config
        self.parts = {name: as_path(getattr(config, name)) for name in ("codec", "clip", "face", "locate")}
        codec, clip, face, start = self.parts["codec"], self.parts["clip"], self.parts["face"], as_path(config.init)
        if not codec or not clip:  # config.missing(), in words that the type checker knows
            raise UserError("recipe model needs codec=DIR and clip=DIR, the exports of those recipes")
        for name, folder in self.parts.items():
            if folder and not folder.is_dir():
                raise UserError(f"{name}={folder} is not a folder; give the export of a recipe, or a model's folder")
        sizes = model_sizes(base_sizes(config), codec, clip, face)
        former = as_path(config.former_clip)
        if former and start:
            check_stitch(former, start, clip, sizes)
        train, held_out = split_records(data, "train"), split_records(data, "val")
        mixture = MixtureConfig(
            t2i_share=config.t2i_share,
            t2i_sources=preferred_sources(data, config.t2i_sources),
            t2i_rarity=config.t2i_rarity,
            drawn_share=config.drawn_share,
            plain_share=config.plain_share,
            ask_more=config.ask_more,
            text_budget=config.text_budget,
            prompt_budget=config.prompt_budget,
            long_share=config.long_share,
            mask_law=config.mask_law,
            ordered_share=config.ordered_share,
            sampler=config.sampler or MixtureConfig.sampler,
            condition_dropout=config.condition_dropout,
            expert_dropout=config.expert_dropout,
        )
        for records in (train, held_out):
            check_labels(records, mixture)
        self.tokenizer = self.load_tokenizer(start, train)
        fresh = sizes if start else replace(sizes, text_vocabulary=self.tokenizer.size)
        self.model = self.build_model(start, fresh)
        self.learners = load_learners(config.train_experts, self.parts, codec_config(codec).pixels)
        self.trained: nn.Module = self.model
        if self.learners is not None:
            self.trained = nn.ModuleDict({"transformer": self.model, "learners": self.learners})
        seen = self.encode(data, train)
        self.read_anew(data, train, seen)
        sure, asked = self.read_labels(clip, train, seen)
        self.mixture = Mixture(train, seen, self.tokenizer, self.model.config, mixture, sure, asked)
        fixed = replace(mixture, condition_dropout=0.0, expert_dropout=0.0, long_share=0.0, plain_share=0.0)
        fixed = replace(fixed, t2i_rarity=0.0, ordered_share=0.0)
        self.held_out = Mixture(held_out, self.encode(data, held_out), self.tokenizer, self.model.config, fixed)
        self.objective = ObjectiveConfig(
            config.alpha, config.mode, config.terms, config.mmu_weight, config.balance_t2i, config.balance_mmu
        )
        self.exploring = config.explore_start

    def read_anew(self, data: Path, records: Sequence[FaceRecord], seen: EncodedSet) -> None:
        """Let a start that has read another CLIP expert read this one, where the settings name the former."""
        former = as_path(self.config.former_clip)
        if former is None or seen.clip is None:
            return
        side = codec_config(cast("Path", self.parts["codec"])).pixels
        kept = stitch(self.model, encode_kind("clip", data, records, former, side), seen.clip)
        logger.info(
            "another CLIP expert: %.0f%% of what the former one's last token gave can be had from it", 100 * kept
        )

    def read_labels(
        self, clip: Path, records: Sequence[FaceRecord], seen: EncodedSet
    ) -> tuple[SureLabels | None, TaughtRecords | None]:
        """What the CLIP expert's head says of descriptions' labels and of answers, where the settings want that."""
        config = self.config
        wanted = "describe_sure" if config.describe_sure else "taught" if config.taught else ""
        if not wanted:
            return None, None
        head = attribute_head(clip, config.train_experts, wanted)
        if seen.clip is None:  # attribute_head has refused that, in words
            return None, None
        sure = SureLabels(head, seen.clip, config.describe_sure) if config.describe_sure else None
        return sure, TaughtRecords(records, head, seen.clip, config.taught) if config.taught else None

    def load_tokenizer(self, start: Path | None, records: Sequence[FaceRecord]) -> TextTokenizer:
        """The tokenizer of the start or of `tokenizer=`, else a new one."""
        directory = start or as_path(self.config.tokenizer)
        if directory:
            return TextTokenizer.load(directory / "tokenizer.json")
        return TextTokenizer.train(corpus(records, self.config.seed), base_sizes(self.config).text_vocabulary)

    def build_model(self, start: Path | None, sizes: ModelConfig) -> UniF2ace:
        """A fresh model of these sizes, or the weights of an earlier export."""
        if start:
            check_start(start, sizes)
        bits = (sizes.codes - 1).bit_length() if self.config.bit_embedding else 0
        per_group = sizes.shared_per_group or self.config.shared_per_group
        model = UniF2ace(replace(sizes, code_bits=bits, shared_per_group=per_group))
        model.initialise(torch.Generator().manual_seed(self.config.seed))
        if start:
            # a start has no embeddings of bits, or has them folded in: at zero they change nothing
            bits_zero = {k: torch.zeros_like(v) for k, v in model.state_dict().items() if "_bits." in k}
            path = start / "model.safetensors"
            load_module(model, untied(load_tensors(path) | bits_zero, model.config), path)
        model.checkpointing = self.config.checkpointing
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not (self.config.freeze_trunk and is_trunk(name)))
        return model

    def encode(self, data: Path, records: Sequence[FaceRecord]) -> EncodedSet:
        """Codes and the features of frozen experts; photos where an expert learns."""
        learning = self.config.train_experts
        clip, face = (None if name in learning else self.parts[name] for name in ("clip", "face"))
        return encoded(data, records, cast("Path", self.parts["codec"]), clip, face, photos=bool(learning))

    def modules(self) -> nn.Module:
        return self.trained

    def joint_loss(self, batch: MixedBatch, exploration: Exploration | None = None) -> tuple[Tensor, dict[str, float]]:
        """The objective, with features of the experts that learn."""
        if self.learners is not None and batch.photos is not None:
            found = self.learners(batch.photos, len(batch.sequences.ids))
            batch = replace(batch, features=replace(batch.features, **found))
        return joint_loss(self.model, batch, self.objective, exploration)

    def batch(self, step: int, part: Part) -> MixedBatch:
        progress = step / max(1, self.config.steps)
        self.exploring = self.config.explore_start + progress * (self.config.explore_end - self.config.explore_start)
        return self.mixture.draw(self.config.batch_size, part.common, part.index, part.count)

    def loss(self, batch: MixedBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        exploration = Exploration(self.exploring, zero=False, draws=batch.exploration)
        return self.joint_loss(batch, exploration)

    def evaluate(self) -> dict[str, float]:
        """The objective's parts on fixed held-out rows."""
        sums: dict[str, float] = {}
        rounds, device = -(-self.config.eval_rows // EVAL_BATCH), device_of(self.model)
        for number in range(rounds):
            generator = torch.Generator().manual_seed(1000 + number)
            batch = moved(self.held_out.draw(min(EVAL_BATCH, self.config.eval_rows), generator), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(self.config)):
                _, metrics = self.joint_loss(batch)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + value / rounds
        return {f"val_{name}": round(value, 4) for name, value in sums.items()}

    def export(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        """A model directory: transformer, tokenizer, config, and the encoders, copied or as they have learned."""
        transformer = under("transformer.", weights) if self.learners is not None else weights
        folded = self.model.folded(transformer)
        start = as_path(self.config.init)
        if start and self.config.start_share:
            before = untied(load_tensors(start / "model.safetensors"), self.model.config)
            kept = {name: x for name, x in before.items() if not (self.config.former_clip and reads_clip(name))}
            folded = blended(folded, kept, self.config.start_share)
        save_tensors(directory / "model.safetensors", in_fp16(folded))
        write_text_atomic(directory / "config.json", self.config_json())
        self.tokenizer.save(directory / "tokenizer.json")
        copy_parts(self.parts, directory)
        for name in self.config.train_experts:
            learned = under(f"learners.experts.{name}.", weights)
            save_tensors(directory / f"{name}.safetensors", in_fp16(learned))

    def config_json(self) -> str:
        """The exported config: sizes and generation defaults."""
        model: ModelConfig = replace(self.model.config, code_bits=0)
        start = as_path(self.config.init)
        name = str(read_json(start / "config.json").get("name", start.name)) if start else self.config.preset
        return config_json(name, model, generation_defaults(self.config))


def generation_defaults(config: ModelTrainConfig) -> GenerationDefaults:
    """How the exported model samples: as the settings say, else as its start does."""
    path = Path(config.init).expanduser() / "config.json"
    inherited = read_json(path).get("generation", {}) if config.init else {}
    given = {
        "steps": config.sampling_steps,
        "guidance": config.guidance,
        "temperature": config.temperature,
        "cooling": config.cooling,
        "sampler": config.sampler,
        "guidance_schedule": config.guidance_schedule,
        "guidance_rescale": config.guidance_rescale,
        "negative": config.negative,
    }
    return from_dict(GenerationDefaults, inherited | {k: v for k, v in given.items() if v is not None}, path)


def trunk_size(sizes: ModelConfig) -> int:
    """Parameters of the dense model inside one of these sizes."""
    with torch.device("meta"):
        model = UniF2ace(sizes)
    return sum(p.numel() for name, p in model.named_parameters() if is_trunk(name))


def planned_setup(config: ModelTrainConfig, sizes: ModelConfig) -> Setup:
    """What one graphics card does in a run of these settings."""
    clip, share = as_path(config.clip), config.long_share
    short, long = padded_length(sizes, config.text_budget), padded_length(sizes, MixtureConfig.long_budget)
    return Setup(
        rows=config.batch_size // config.accumulation,
        length=round((1 - share) * short + share * long),
        longest=long if share else short,
        parts=config.accumulation,
        precision="fp32" if config.precision == "fp32" else "bf16",
        optimizer_bits=8 if config.optimizer == "adamw8bit" else 32,
        averaged=config.ema > 0,
        checkpointing=config.checkpointing,
        frozen=trunk_size(sizes) if config.freeze_trunk else 0,
        t2i_share=config.t2i_share,
        whole_softmax=config.mode == "unnormalized",
        clip_tokens=read_clip_config(clip).tokens if clip else Setup.clip_tokens,
    )


def forecast(config: ModelTrainConfig, processes: int = 8, teraflops: float = 100.0) -> dict[str, Any]:
    """What a run takes of graphics cards, by arithmetic (train/estimate.py): gigabytes of each, FLOPs of a step.

    Alone, and on `processes` of them under DDP, DeepSpeed ZeRO-2 and FSDP; seconds at so many sustained TFLOP/s.
    """
    codec, clip, sizes = as_path(config.codec), as_path(config.clip), base_sizes(config)
    if codec and clip:
        sizes = model_sizes(sizes, codec, clip, as_path(config.face))
    sizes = replace(sizes, shared_per_group=sizes.shared_per_group or config.shared_per_group)
    alone = planned_setup(config, sizes)
    shared = replace(alone, rows=max(1, alone.rows // processes), processes=processes)
    setups = {
        "gb_of_one_gpu": alone,
        f"gb_per_gpu_of_{processes}_ddp": shared,
        f"gb_per_gpu_of_{processes}_zero2": replace(shared, sharding="gradients", averaged=False),
        f"gb_per_gpu_of_{processes}_fsdp": replace(shared, sharding="full"),
    }
    if config.optimizer != "adamw":  # as check_launch has it
        del setups[f"gb_per_gpu_of_{processes}_fsdp"]
    if config.optimizer == "muon":
        del setups[f"gb_per_gpu_of_{processes}_zero2"]
    whole = estimate(sizes, alone)
    return {
        "parameters": parameter_sizes(sizes).total,
        **{name: round(estimate(sizes, setup).memory.total / 1e9, 2) for name, setup in setups.items()},
        **{f"rows_at_once_in_{gb}_gb": rows_that_fit(sizes, alone, 0.95 * gb * 2**30) for gb in (24, 80)},
        "teraflop_per_step": round(whole.flops / 1e12, 3),
        f"seconds_per_step_on_{processes}_at_{teraflops:g}_teraflops": round(whole.seconds(teraflops) / processes, 3),
    }


def build(config: ModelTrainConfig, data: Path, output: Path) -> ModelTask:
    """The loop's task for this recipe."""
    return ModelTask(config, data)
