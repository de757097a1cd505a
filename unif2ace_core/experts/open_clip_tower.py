"""A published image tower of open_clip as the CLIP expert, for example ViT-L-14-336 with 576 patches of 1,024.

    image (B, 3, H, H) in [-1, 1] -> side and colours that the tower wants -> last but one layer, patches -> (B, T, C)

`make_open_clip` (`unif2ace model expert open_clip NAME --weights FILE_OR_TAG -o DIR`) writes clip.safetensors, the
image tower alone in fp16, and clip.json, which describes it whole: from then on neither open_clip's list of models nor
a download is needed. Layer and size are those of Show-o's CLIP variants (arXiv 2408.12528). Convolutional towers give
the map of their last but one stage. Calls are open_clip's own (reference: mlfoundations/open_clip).
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import OPEN_CLIP, ClipExpert, ClipFeatures
from unif2ace_core.weights.parts import refuse_existing, save_part
from unif2ace_core.weights.store import load_module
from unif2ace_core.weights.streams import open_checkpoint

logger = logging.getLogger(__name__)

PREFIX = "visual."  # of the image tower's tensors in open_clip's checkpoints
WRAPPED = "module."  # before all names of checkpoints that several processes trained
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's, open_clip's default
NEEDS = "a CLIP expert of this kind needs open_clip; run 'pip install open_clip_torch'"


@dataclass(frozen=True)
class OpenClipConfig:
    """All there is to know of a tower but its weights."""

    kind: str  # tells clip.json of this kind from that of the embedded one
    name: str  # open_clip's name of the architecture
    weights: str  # the tag, or the file's name
    width: int  # channels of a patch
    tokens: int  # patches of an image
    pixels: int  # side of the input
    mean: tuple[float, ...]  # of the colours, in [0, 1]
    std: tuple[float, ...]
    interpolation: str  # bicubic or bilinear
    embed: int  # contrastive space
    quick_gelu: bool  # x sigmoid(1.702 x) in place of GELU: what OpenAI's weights need
    vision: dict  # open_clip's `vision_cfg`

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no tower can have."""
        if self.kind != OPEN_CLIP or min(self.width, self.tokens, self.pixels, self.embed) < 1:
            raise ValueError(f"kind {self.kind!r}, width {self.width}, tokens {self.tokens}, pixels {self.pixels}")
        if (len(self.mean), len(self.std)) != (3, 3) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std}")
        if self.interpolation not in ("bicubic", "bilinear"):
            raise ValueError(f"interpolation {self.interpolation!r}")

    @property
    def feature_width(self) -> int:
        """Channels of a token, as in `ClipConfig`."""
        return self.width


class OpenClipTower(ClipExpert):
    """An image tower of open_clip."""

    def __init__(self, config: OpenClipConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = build_visual(config)

    def prepared(self, images: Tensor) -> Tensor:
        """Square images (B, 3, H, H) in [-1, 1], of any size -> what the tower was trained on."""
        side, images = self.config.pixels, images.float()
        if images.shape[-1] != side:
            images = F.interpolate(images, (side, side), mode=self.config.interpolation, antialias=True)
        mean, std = (
            torch.tensor(value, device=images.device).view(3, 1, 1) for value in (self.config.mean, self.config.std)
        )
        return ((images.clamp(-1, 1) + 1) / 2 - mean) / std

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared images -> map of the last but one layer (B, C, h, w), embedding (B, E)."""
        # towers differ in whether they stop at the last layer asked for: the last one is asked for as well
        found = self.visual.forward_intermediates(images, indices=[-2, -1], output_fmt="NCHW")
        return found["image_intermediates"][0], found["image_features"]

    def features(self, images: Tensor) -> ClipFeatures:
        """Square images (B, 3, H, H) in [-1, 1], of any size -> patches in rows from the top, embedding.

        Raises:
            UserError: the tower is not of the size that clip.json states.
        """
        patches, embedding = self.maps(self.prepared(images))
        tokens = patches.flatten(2).transpose(1, 2)
        stated = (self.config.tokens, self.config.width)
        if tokens.shape[1:] != stated:
            found = " x ".join(map(str, tokens.shape[1:]))
            raise UserError(
                f"clip.json states {stated[0]} x {stated[1]} features, its tower has {found}; make it again"
            )
        return ClipFeatures(tokens, embedding, None, None)


def build_visual(config: OpenClipConfig) -> Any:
    """The tower with random weights; nothing is downloaded.

    Raises:
        UserError: open_clip is not installed.
    """
    try:
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    except ImportError as error:
        raise UserError(NEEDS) from error
    vision = CLIPVisionCfg(**{**config.vision, "timm_model_pretrained": False})
    text = CLIPTextCfg(context_length=1, vocab_size=1, width=1, heads=1, layers=1)  # thrown away
    return CLIP(config.embed, vision, text, quick_gelu=config.quick_gelu).visual


# --- Making one ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """Weights for an architecture, and how images are prepared for them."""

    file: Path
    label: str  # the tag, or the file's name
    settings: Mapping[str, Any]  # open_clip's entry of the tag; empty where nothing is known


def make_open_clip(name: str, weights: str, output: Path, force: bool = False) -> OpenClipConfig:
    """Write an image tower of open_clip as a part folder: clip.safetensors and clip.json.

    Args:
        name: open_clip's name of the architecture, for example `ViT-L-14-336`.
        weights: a checkpoint file of open_clip, or the tag of published weights, which open_clip may download.
        output: the folder; other files in it stay.
        force: replace a clip.json and clip.safetensors that are there.

    Raises:
        UserError: unknown name or tag, unreadable or foreign weights, a tower without patches, files in the way.
    """
    refuse_existing(output, ("clip.json", "clip.safetensors"), force)
    architecture = find_architecture(name)
    found = find_weights(name, weights)
    tower = OpenClipTower(draft(name, architecture, found)).eval().requires_grad_(False)
    load_module(tower, image_tensors(found.file, tower), found.file)
    config = tower.config = measured(tower)
    if not all(value.half().isfinite().all() for value in tower.state_dict().values()):
        raise UserError(f"{found.file} holds values that fp16 can't; take other weights of {name}")
    save_part(output, "clip", tower, config)
    return config


def find_architecture(name: str) -> dict[str, Any]:
    """open_clip's config of an architecture.

    Raises:
        UserError: open_clip is not installed, or knows none of that name.
    """
    try:
        import open_clip
    except ImportError as error:
        raise UserError(NEEDS) from error
    names = open_clip.list_models()
    if name not in names:
        some = difflib.get_close_matches(name, names, n=4, cutoff=0.5) or ["ViT-B-32", "ViT-L-14-336"]
        raise UserError(f"open_clip has no architecture {name!r}; it has for example {', '.join(some)}")
    return open_clip.get_model_config(name)


def find_weights(name: str, weights: str) -> Published:
    """The file of a tag, which open_clip may have to download, or the file itself.

    Raises:
        UserError: neither a file nor a tag, or a tag whose file can't be had.
    """
    import open_clip

    tags = {tag: open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)}
    if weights in tags:
        return Published(fetched(name, weights, tags[weights]), weights, tags[weights])
    path = Path(weights).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(weights, tags, n=4, cutoff=0.3) or list(tags)[:4]
        known = f"tags of {name} are for example {', '.join(near)}" if near else f"{name} has no tags, give a file"
        raise UserError(f"--weights {weights} is neither a file nor a tag; {known}")
    return Published(path, path.name, common_settings(name, list(tags.values())))


def fetched(name: str, tag: str, settings: Mapping[str, Any]) -> Path:
    """The file of published weights, downloaded by open_clip where it is not on this machine.

    Raises:
        UserError: it is not, and can't be.
    """
    import open_clip

    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # it warns at each of its many tries
    try:
        return Path(open_clip.download_pretrained(settings))
    except Exception as error:  # of several network libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise UserError(
            f"weights {tag!r} of {name} are not on this machine and can't be fetched ({reason}); "
            "give --weights a checkpoint file"
        ) from error
    finally:
        hub.setLevel(level)


def common_settings(name: str, known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all published weights of an architecture agree in; a file does not say how images are prepared for it."""
    found: dict[str, Any] = {}
    for key in ("mean", "std", "interpolation", "quick_gelu"):
        values = {settings.get(key) for settings in known}
        if len(values) == 1:
            found[key] = values.pop()
        elif values:
            logger.info(
                "published weights of %s differ in %s, a file says nothing: open_clip's default holds", name, key
            )
    return found


def draft(name: str, architecture: Mapping[str, Any], found: Published) -> OpenClipConfig:
    """The config of a tower before its output was measured."""
    settings = found.settings
    return OpenClipConfig(
        kind=OPEN_CLIP,
        name=name,
        weights=found.label,
        width=1,
        tokens=1,
        pixels=square_side(name, architecture["vision_cfg"].get("image_size", 224)),
        mean=tuple(settings.get("mean") or MEAN),
        std=tuple(settings.get("std") or STD),
        interpolation=settings.get("interpolation") or "bicubic",
        embed=architecture["embed_dim"],
        # open_clip's create_model goes by the architecture alone and warns: ViT-L-14-336 would not get what it needs
        quick_gelu=bool(architecture.get("quick_gelu") or settings.get("quick_gelu")),
        vision=dict(architecture["vision_cfg"]),
    )


def square_side(name: str, size: int | Sequence[int]) -> int:
    """The side of the input. Raises `UserError` where it is no square."""
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UserError(f"{name} reads images of {height} x {width} pixels; take a tower for square ones")
    return height


def image_tensors(path: Path, tower: OpenClipTower) -> dict[str, Tensor]:
    """The image tower's tensors of an open_clip checkpoint.

    Raises:
        UserError: the checkpoint is unreadable, unsafe, or of another architecture.
    """
    checkpoint = open_checkpoint(path)
    names = {name.removeprefix(WRAPPED): name for name in checkpoint.shapes}
    wanted = {short: name for short, name in names.items() if short.startswith(PREFIX)}
    if not wanted:
        first = next(iter(checkpoint.shapes))
        raise UserError(
            f"{path} holds no image tower of open_clip (its first tensor is {first}); give open_clip's file"
        )
    shapes = {name: tuple(value.shape) for name, value in tower.state_dict().items()}
    wrong = [name for name, shape in shapes.items() if checkpoint.shapes.get(wanted.get(name, "")) != shape]
    if wrong:
        raise UserError(
            f"{path} holds another tower than {tower.config.name}: {len(wrong)} tensors are missing or of another "
            f"shape ({wrong[0]}); give that architecture's weights"
        )
    return {name: checkpoint.read(wanted[name]) for name in shapes}


@torch.no_grad()
def measured(tower: OpenClipTower) -> OpenClipConfig:
    """The config with the size of the tower's features.

    Raises:
        UserError: it has no patch features, or they are not finite.
    """
    config = tower.config
    try:
        patches, _ = tower.maps(torch.zeros(1, 3, config.pixels, config.pixels))
        _, width, rows, columns = patches.shape
    except (AttributeError, NotImplementedError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"the image tower of {config.name} gives no patches ({error}); take a ViT") from error
    if not bool(patches.isfinite().all()):
        raise UserError(f"{config.weights} computes no finite features: the weights are damaged; download them again")
    return replace(config, width=width, tokens=rows * columns)
