"""Sizes of the transformer as data, and the named presets. Counts are those of a checkpoint, not of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum


class Group(IntEnum):
    """The task group of a token: which routed experts may serve it."""

    TEXT = 0  # language only: the shared expert alone
    T2I = 1  # generation
    MMU = 2  # understanding


GROUPS = (Group.T2I, Group.MMU)
SPECIALS = ("pad", "soi", "eoi", "sov", "eov", "t2i", "mmu", "t2v", "v2v", "lvg")  # Show-o's order after the text ids

SEQUENCE_EXPERTS = ("copy", "zero", "noise", "clip", "face")


@dataclass(frozen=True)
class ModelConfig:
    """One transformer over text and image codes; field values of `mini` are the defaults."""

    # trunk
    width: int = 256  # D, channels of the residual stream
    layers: int = 8  # parallel blocks
    heads: int = 4  # attention heads
    ffn: int = 1024  # hidden units of the shared expert and of dense blocks
    rotary: int = 32  # leading dimensions of a head that rotate
    norm_eps: float = 1e-5  # of every layer norm
    # vocabulary: text ids, ten specials, image codes, the mask token
    text_vocabulary: int = 2048  # BPE entries
    codes: int = 8192  # K, size of the image codebook
    code_bits: int = 0  # > 0 adds an embedding per LFQ bit while training; folded into the tables on export
    grid: tuple[int, int] = (8, 8)  # rows and columns of image codes
    text_length: int = 96  # longest prompt or question in BPE tokens
    # text of an understanding turn: [end] question [end] | answer [end]; a start from Show-o keeps Show-o's
    question_template: str = "{question}"  # what stands in place of {question} is what the user asks
    question_end: bool = True  # whether an [end] parts the question from its answer
    answer_start: str = ""  # in front of every answer, such as the space after a template's last word
    # token-level MoE
    moe_every: int = 2  # every n-th block has both MoE levels
    experts: int = 4  # n, routed experts per group
    top_k: int = 2  # routed experts per token
    expert_hidden: int = 192  # hidden units of a routed expert
    shared_per_group: bool = False  # a shared expert for each task group; False ties them (same start, half the cost)
    # sequence-level MoE
    sequence_t2i: tuple[str, ...] = ("copy", "zero", "noise", "copy")  # experts of the generation group
    sequence_mmu: tuple[str, ...] = ("clip", "face", "copy", "copy")  # experts of the understanding group
    sequence_top_k: int = 2  # experts per image
    sequence_rho: float = 0.5  # start of 1 - w, the share of S(F(X)); 0 starts as the identity
    resampler: int = 64  # d_r, width of the resampler
    clip_width: int = 256  # d_F of the CLIP expert's patches
    face_width: int = 128  # d_F of the face embedding
    noise_width: int = 32  # d_F of the noise expert
    noise_tokens: int = 16  # noise vectors drawn per image

    def __post_init__(self) -> None:
        """Raise `ValueError` for sizes that no model can have."""
        may_be_zero = ("rotary", "code_bits")
        for name, value in vars(self).items():
            if type(value) is int and value < (name not in may_be_zero):
                raise ValueError(f"{name} is {value}")
        if self.width % self.heads or self.rotary > self.width // self.heads or self.rotary % 2:
            raise ValueError(f"width {self.width}, heads {self.heads} and rotary {self.rotary} do not go together")
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise ValueError(f"grid is {self.grid}")
        if self.top_k > self.experts:
            raise ValueError(f"top_k {self.top_k} is more than {self.experts} experts")
        if self.question_template.count("{question}") != 1:
            raise ValueError(f"question_template {self.question_template!r} does not hold {{question}} once")
        for names in (self.sequence_t2i, self.sequence_mmu):
            if unknown := set(names) - set(SEQUENCE_EXPERTS):
                raise ValueError(f"no sequence expert {min(unknown)!r}")
            if self.sequence_top_k > len(names):
                raise ValueError(f"sequence_top_k {self.sequence_top_k} is more than {len(names)} experts")

    @property
    def positions(self) -> int:
        """N, image codes per picture."""
        return self.grid[0] * self.grid[1]

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding: text, specials, codes, mask."""
        return self.text_vocabulary + len(SPECIALS) + self.codes + 1

    @property
    def code_offset(self) -> int:
        """Id of code 0."""
        return self.text_vocabulary + len(SPECIALS)

    @property
    def mask_id(self) -> int:
        """Id of the mask token, the last row."""
        return self.vocabulary - 1

    def special(self, name: str) -> int:
        """Id of a special token, by its name in `SPECIALS`."""
        return self.text_vocabulary + SPECIALS.index(name)

    def is_moe(self, layer: int) -> bool:
        """Whether a block has both MoE levels: layers 1, 3, 5, ... for `moe_every` 2."""
        return layer % self.moe_every == self.moe_every - 1


_BASE = ModelConfig(
    width=1024,
    layers=24,
    heads=16,
    ffn=4096,
    text_vocabulary=50295,
    grid=(16, 16),
    text_length=381,
    experts=8,
    top_k=4,
    expert_hidden=256,
    sequence_rho=0.0,
    resampler=192,
    clip_width=1024,
    face_width=512,
    noise_width=64,
    noise_tokens=256,
)

PRESETS: dict[str, ModelConfig] = {
    "mini": ModelConfig(),
    "base": _BASE,
    "1.8b": replace(_BASE, width=2048, heads=32, ffn=8192, expert_hidden=512, resampler=256),
}
