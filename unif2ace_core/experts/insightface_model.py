"""A recognition model of insightface as the face expert, from the user's ONNX file, for example AntelopeV2's glintr100.

    aligned face (B, 3, H, H) -> the square of ArcFace's template -> 112 px -> ONNX -> unit length -> (B, 512)

`make_insightface` (`unif2ace model expert insightface FILE -o DIR`) writes face.json, which says where the file is. The
pretrained models are for non-commercial research: the file stays in its place and is never copied. Calls are
insightface's own (reference: deepinsight/insightface).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unif2ace_core.errors import UserError
from unif2ace_core.experts.face import INSIGHTFACE, cut_region
from unif2ace_core.weights.configs import read_config
from unif2ace_core.weights.parts import refuse_existing
from unif2ace_core.weights.store import write_text_atomic

logger = logging.getLogger(__name__)

PACKS = ("antelopev2", "buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc")  # that insightface offers
ROOT = Path("~/.insightface/models")  # where insightface keeps its model packs
ERRORS = 3  # onnxruntime's name for it; it warns of each batch where a file states one row of output
NEEDS = "a face expert of this kind needs insightface; run: pip install insightface onnxruntime"
LICENCE = (
    "insightface's pretrained models are for non-commercial research only; "
    "the file stays where it is and is not copied into model folders"
)


@dataclass(frozen=True)
class InsightFaceConfig:
    """Where the model is, and what to expect there."""

    kind: str  # tells face.json of this kind from that of the embedded one
    path: str  # the ONNX file; relative to the folder of face.json unless absolute
    bytes: int  # of the file, to tell when another one has its place
    pixels: int  # side of the input
    dimension: int  # length of a descriptor

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no model can have."""
        if self.kind != INSIGHTFACE or min(self.bytes, self.pixels, self.dimension) < 1:
            raise ValueError(f"kind {self.kind!r}, bytes {self.bytes}, pixels {self.pixels}, width {self.dimension}")


class InsightFaceEncoder(nn.Module):
    """Any recognition model of insightface; onnxruntime computes on the module's device where it can, else on the CPU.

    The training frame is mapped to the five-point template of ArcFace: its eyes are 31.5% of the width apart at 46.1%
    of the height, so it is the square of side 0.795 about y = 0.511.

    Raises:
        UserError: the file is missing, unreadable, or no recognition model.
    """

    region, region_y = 0.795, 0.511
    place: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.models: dict[str, Any] = {"cpu": open_model(path, "cpu")}
        shape = self.models["cpu"].input_shape
        self.batch = shape[0] if isinstance(shape[0], int) else 0  # some files are for one image at a time; 0: any
        self.pixels = int(shape[2])
        self.register_buffer("place", torch.empty(0), persistent=False)  # follows `to`
        try:
            found = self(torch.zeros(1, 3, self.pixels, self.pixels))
        except Exception as error:  # onnxruntime raises its own kinds, which are not exported
            raise UserError(f"{path} can't be run ({one_line(error)}); give for example glintr100.onnx") from error
        if found.ndim != 2:
            raise UserError(f"{path} is not a recognition model; give for example glintr100.onnx")
        self.dimension = int(found.shape[1])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Aligned faces `(B, 3, H, H)` RGB in [-1, 1] to descriptors of unit length `(B, dimension)`."""
        cut = cut_region(images, self.region, self.region_y, self.pixels).clamp(-1, 1)
        bytes_ = ((cut + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        faces = [face[..., ::-1] for face in bytes_]  # insightface counts in BGR
        model, size = self.model(), self.batch or len(faces)
        parts = [torch.from_numpy(model.get_feat(faces[n : n + size])) for n in range(0, len(faces), size)]
        return F.normalize(torch.cat(parts).float(), dim=-1).to(images.device)

    def model(self) -> Any:
        """insightface's model on this module's device."""
        device = self.place.device.type
        if device not in self.models:
            self.models[device] = open_model(self.path, device)
        return self.models[device]


def open_model(path: Path, device: str) -> Any:
    """insightface's view of a recognition model.

    Raises:
        UserError: the file is missing, unreadable, or of another kind, or insightface is not installed.
    """
    if not path.is_file() or path.suffix != ".onnx":
        what = "is no .onnx file" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}; give the .onnx file of an insightface recognition model")
    try:
        import onnxruntime
        from insightface.model_zoo import get_model
    except ImportError as error:
        raise UserError(NEEDS) from error
    onnxruntime.set_default_logger_severity(ERRORS)
    there = onnxruntime.get_available_providers()
    on_card = device == "cuda" and "CUDAExecutionProvider" in there
    if device == "cuda" and not on_card:
        logger.info("onnxruntime has no CUDA: %s runs on the CPU; install onnxruntime-gpu in its place", path.name)
    providers = [*(["CUDAExecutionProvider"] if on_card else []), "CPUExecutionProvider"]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # some versions print what they load
            model = get_model(str(path), providers=providers)
    except Exception as error:  # onnxruntime raises its own kinds, which are not exported
        raise UserError(f"{path} cannot be read by insightface ({one_line(error)}); give its .onnx file") from error
    if getattr(model, "taskname", None) != "recognition":
        raise UserError(f"{path} is not a recognition model; give for example glintr100.onnx")
    return model


def one_line(error: Exception) -> str:
    """The first line of an exception, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def model_file(directory: Path) -> Path:
    """The ONNX file that the face.json of a folder names."""
    return directory / Path(read_config(directory / "face.json", InsightFaceConfig).path)


def load_insightface(directory: Path) -> InsightFaceEncoder:
    """The expert that the face.json of a folder names.

    Raises:
        UserError: the file is not there, another one has its place, or it is no recognition model.
    """
    config, path = read_config(directory / "face.json", InsightFaceConfig), model_file(directory)
    remedy = "point to it with 'unif2ace model expert insightface FILE -o DIR --force'"
    if not path.is_file():
        raise UserError(f"{directory / 'face.json'} names {path}, which does not exist; {remedy}")
    if path.stat().st_size != config.bytes:
        raise UserError(f"{path} is not the file that {directory / 'face.json'} was made for; {remedy}")
    encoder = InsightFaceEncoder(path)
    if (encoder.dimension, encoder.pixels) != (config.dimension, config.pixels):
        raise UserError(
            f"{path} has descriptors of {encoder.dimension} from {encoder.pixels} pixels, {directory / 'face.json'} "
            f"states {config.dimension} from {config.pixels}; {remedy}"
        )
    return encoder.eval()


# --- Making one ----------------------------------------------------------------------------------------


def make_insightface(source: str, output: Path, force: bool = False) -> InsightFaceConfig:
    """Write the face.json of a recognition model, and tell its licence.

    Args:
        source: an ONNX file, a folder of them, or the name of a model pack (`antelopev2`), which insightface may
            download.
        output: the folder; other files in it stay.
        force: replace a face expert that is there.

    Raises:
        UserError: no recognition model of that name, or files in the way.
    """
    refuse_existing(output, ("face.json", "face.safetensors"), force)
    path = find_recognition(source).resolve()
    encoder = InsightFaceEncoder(path)
    size = path.stat().st_size
    config = InsightFaceConfig(INSIGHTFACE, str(path), size, encoder.pixels, encoder.dimension)
    write_text_atomic(output / "face.json", json.dumps(asdict(config), indent=1) + "\n")
    (output / "face.safetensors").unlink(missing_ok=True)  # of an embedded expert that was there
    logger.info("%s", LICENCE)
    return config


def find_recognition(source: str) -> Path:
    """The recognition model in a file, a folder or a model pack.

    Raises:
        UserError: there is none.
    """
    path = Path(source).expanduser()
    if path.suffix == ".onnx" or path.is_file() or len(path.parts) != 1:
        if not path.exists():
            raise UserError(f"{path} does not exist; give an .onnx file or a model pack such as antelopev2")
        return in_folder(path) if path.is_dir() else path
    return in_folder(path if path.is_dir() else fetched_pack(source))


def in_folder(folder: Path) -> Path:
    """The first recognition model among a folder's ONNX files, the largest file first.

    Raises:
        UserError: there is none.
    """
    files = sorted(folder.rglob("*.onnx"), key=lambda file: (-file.stat().st_size, file.name))
    for file in files:
        with contextlib.suppress(UserError):
            open_model(file, "cpu")
            return file
    raise UserError(f"{folder} holds no recognition model of insightface ({len(files)} .onnx files); give the file")


def fetched_pack(name: str) -> Path:
    """The folder of a model pack; insightface downloads it where it is not there.

    Raises:
        UserError: no such pack, or no network.
    """
    folder = ROOT.expanduser() / name
    if folder.is_dir():
        return folder
    if name not in PACKS:  # a misspelt file name is no reason to go to the network
        raise UserError(f"there is no file {name!r}; give an .onnx file, or a model pack: {', '.join(PACKS)}")
    try:
        from insightface.utils import ensure_available
    except ImportError as error:
        raise UserError(NEEDS) from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints addresses
            return Path(ensure_available("models", name))
    except Exception as error:  # of the network, of the archive, or plain RuntimeError
        reason = one_line(error).split(" (Caused by")[0].split(": ")[0]
        raise UserError(f"model pack {name!r} cannot be fetched ({reason}); give an .onnx file") from error
