"""Images from paths, globs, folders and stdin; prompts and requests from arguments, files and JSONL.

Every failure is a UserError of one line that names the file and the remedy. Nothing here imports torch.
"""

from __future__ import annotations

import glob
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from unif2ace_cli.console import UsageError
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

STDIN = "-"
SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".avif",
    ".jp2",
)
# Formats Pillow may decode here: EPS and the like would start other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
SMALLEST_SIDE = 16
LARGEST_SEED = 2**63 - 1
LFS_POINTER = b"version https://git-lfs"


class Prompt(NamedTuple):
    """A text to generate from; without a seed the command chooses one."""

    text: str
    seed: int | None = None


class Request(NamedTuple):
    """A question about an image."""

    image: str
    question: str


# ---------------------------------------------------------------------------------------------- images


def find_images(arguments: Sequence[str], on_error: Callable[[UserError], None]) -> list[str]:
    """Names of the images that paths, globs, folders and `-` stand for; bad ones go to `on_error`."""
    if list(arguments).count(STDIN) > 1:
        raise UsageError("'-' (an image on stdin) can be given once")
    names: list[str] = []
    for argument in arguments:
        try:
            names.extend(expand(argument))
        except UserError as error:
            on_error(error)
    return names


def expand(argument: str) -> list[str]:
    """The images that one argument stands for: a file under the name it was given, a folder flat and sorted by name.

    Raises:
        UserError: nothing there.
    """
    path = Path(argument).expanduser()
    if is_one_image(argument):
        return [argument]
    if path.is_dir():
        return list_folder(path)
    if not glob.has_magic(argument):
        raise UserError(f"{argument}: no such file; check the path")
    found = sorted(name for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
    if not found:
        raise UserError(f"{argument}: no file matches this pattern; check the folder and the suffix")
    return found


def is_one_image(argument: str) -> bool:
    """Whether an argument is one image, stdin or a file, and not a folder or a pattern that may hold several."""
    return argument == STDIN or is_file(Path(argument).expanduser())


def may_be_several(arguments: Sequence[str]) -> bool:
    """Whether the results need the names of their images: several arguments, a folder or a pattern."""
    return len(arguments) > 1 or not all(map(is_one_image, arguments))


def is_file(path: Path) -> bool:
    """Whether something other than a folder has this name (a name too long for the system: no)."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def list_folder(folder: Path) -> list[str]:
    """The images of a folder, without its subfolders."""
    try:
        found = sorted(
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
        )
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be read ({reason(error)}); check its permissions") from error
    if not found:
        raise UserError(
            f"{folder}: no image in this folder; it is searched, without subfolders, for {', '.join(SUFFIXES)}"
        )
    return [str(entry) for entry in found]


def open_image(name: str) -> Image:
    """The picture as 8-bit RGB, upright, over white where it is transparent; the first frame of several.

    Raises:
        UserError: it cannot be read, is damaged, far too large or too small; one line with the remedy.
    """
    data = read_bytes(name)
    shown = "stdin" if name == STDIN else name
    if not data:
        raise UserError(f"{shown}: empty, 0 bytes; copy or download the picture again")
    if data.startswith(LFS_POINTER):
        raise UserError(f"{shown}: a git-LFS pointer, not the picture; run git lfs pull")
    picture = decode(data, shown)
    if min(picture.size) < SMALLEST_SIDE:
        raise UserError(
            f"{shown}: {picture.width} x {picture.height} pixels are too small to show a face; "
            f"give at least {SMALLEST_SIDE} x {SMALLEST_SIDE}"
        )
    return picture


def read_bytes(name: str) -> bytes:
    """The content of a file, or of stdin for `-`."""
    if name == STDIN:
        return sys.stdin.buffer.read()
    path = Path(name).expanduser()
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{name}: not a regular file; give a picture, or '-' to read one from stdin")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name}: no such file; check the path") from None
    except PermissionError:
        raise UserError(f"{name}: permission denied; check that you may read it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be read ({reason(error)}); check the path") from error


def decode(data: bytes, shown: str) -> Image:
    """Bytes of a picture file -> RGB; see `open_image`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes that are still fine, and of odd metadata
            picture = identify(data)
            picture.load()
            return to_rgb(upright(picture))
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{shown}: too many pixels, the picture could be a decompression bomb; scale it "
            f"down to at most {Image.MAX_IMAGE_PIXELS or 0:,} pixels"
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(f"{shown}: not an image; use PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF") from error
    except MemoryError as error:
        raise UserError(f"{shown}: not enough memory to open it; scale it down") from error
    except Exception as error:  # Pillow's decoders raise anything from SyntaxError to struct.error
        raise UserError(f"{shown}: truncated or damaged ({one_reason(error)}); export or download it again") from error


def identify(data: bytes) -> Image:
    """The picture behind the bytes, not decoded yet; Pillow's rarer formats are loaded on demand."""
    from PIL import Image, UnidentifiedImageError

    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        known = [name for name in FORMATS if name in Image.OPEN]
        try:
            return Image.open(io.BytesIO(data), formats=known)
        except UnidentifiedImageError:
            continue
    raise UnidentifiedImageError


def upright(picture: Image) -> Image:
    """The picture turned as its EXIF orientation says; unreadable EXIF is left alone."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF blocks raise many kinds; the pixels are still good
        return picture


def to_rgb(picture: Image) -> Image:
    """Any colour mode -> RGB."""
    from PIL import Image

    if picture.mode.startswith("I") or picture.mode == "F":
        return from_deep_grey(picture)
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if picture.mode in ("CMYK", "LAB"):
        return from_profile(picture)
    return picture.convert("RGB")


def from_deep_grey(picture: Image) -> Image:
    """16-bit, 32-bit and float grey -> RGB; the range is that of the mode, or the next larger usual one."""
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(picture).astype(np.float32))
    if picture.mode.startswith("I;16"):
        top = 65535.0
    else:
        usual = (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0)
        top = next((bound for bound in usual if values.max() <= bound), float(values.max()))
    grey = np.clip(values * (255.0 / top) + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def from_profile(picture: Image) -> Image:
    """CMYK or LAB -> RGB, by the embedded colour profile where there is one."""
    from PIL import ImageCms

    try:
        profile = picture.info.get("icc_profile")
        source: Any = ImageCms.createProfile("LAB") if picture.mode == "LAB" else io.BytesIO(profile or b"")
        turned = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if turned is not None:
            return turned
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        if picture.mode == "LAB":
            raise
    return picture.convert("RGB")


def reason(error: BaseException) -> str:
    """The system's words for an error, without number and path."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def one_reason(error: BaseException) -> str:
    """The decoder's words, kept short."""
    return (str(error).splitlines() or [type(error).__name__])[0][:80] or type(error).__name__


# ------------------------------------------------------------------------------------- prompts and requests


def clean_text(text: str) -> str:
    """Text on one line, without control characters and broken surrogates; emoji stay."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if is_escaped(text) else text
    text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in text).split())


def is_escaped(text: str) -> bool:
    """Whether the text holds bytes that were not UTF-8 on the command line."""
    return any(0xDC80 <= ord(c) <= 0xDCFF for c in text) and not any(0xD800 <= ord(c) < 0xDC80 for c in text)


def read_lines(source: str, option: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of the lines of a UTF-8 file, or of stdin; blank lines are skipped."""
    shown = "stdin" if source == STDIN else source
    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).expanduser().read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{option} {shown}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{option} {shown}: {reason(error)}; give a text file, or '-' for stdin") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{option} {shown}: holds no line; write one entry a line")
    yield from lines


def parse_object(line: str, where: str, form: str) -> dict[str, Any]:
    """The JSON object of a JSONL line."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        detail = getattr(error, "msg", None) or "too large or nested too deeply"
        raise UserError(f"{where}: not JSON ({detail}); write {form}") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: not a JSON object; write {form}")
    return value


def take_text(fields: dict[str, Any], key: str, where: str, form: str) -> str:
    """A text field that must be there and not blank."""
    value = fields.get(key)
    if not isinstance(value, str) or not clean_text(value):
        raise UserError(f"{where}: {key!r} is missing, empty or not a text; write {form}")
    return value


def read_entries(
    source: str, option: str, parse: Callable[[str, str], T], on_error: Callable[[UserError], None]
) -> list[T]:
    """The lines of a file as `parse(line, where)` reads them; those it refuses go to `on_error`."""
    shown = "stdin" if source == STDIN else source
    entries: list[T] = []
    for number, line in read_lines(source, option):
        try:
            entries.append(parse(line, f"{option} {shown}, line {number}"))
        except UserError as error:
            on_error(error)
    return entries


def read_prompts(source: str, on_error: Callable[[UserError], None]) -> list[Prompt]:
    """Prompts of a file: plain lines, or JSONL with `prompt` and perhaps `seed`; other keys are ignored."""
    return read_entries(source, "--prompts", parse_prompt, on_error)


def parse_prompt(line: str, where: str) -> Prompt:
    """The prompt of one line."""
    form = '{"prompt": "...", "seed": 1}'
    if not line.startswith("{"):
        return Prompt(clean_text(take_text({"prompt": line}, "prompt", where, form)))
    fields = parse_object(line, where, form)
    seed = fields.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed <= LARGEST_SEED):
        raise UserError(f"{where}: seed {seed!r} is not a whole number from 0 to {LARGEST_SEED}; write {form}")
    return Prompt(clean_text(take_text(fields, "prompt", where, form)), seed)


def read_requests(source: str, on_error: Callable[[UserError], None]) -> list[Request]:
    """Questions of a JSONL file with `image` (a path) and `question`; other keys are ignored."""
    return read_entries(source, "--requests", partial(parse_request, from_stdin=source == STDIN), on_error)


def parse_request(line: str, where: str, from_stdin: bool) -> Request:
    """The request of one line; one that comes from stdin cannot have its image there."""
    form = '{"image": "photo.jpg", "question": "..."}'
    fields = parse_object(line, where, form)
    image, question = (take_text(fields, key, where, form) for key in ("image", "question"))
    if image == STDIN and from_stdin:
        raise UserError(f"{where}: stdin holds the requests, so no image can come from it; give a path")
    return Request(image, clean_text(question))


def data_folder(data: Path) -> Path:
    """The folder of --data: with tables, or a set of `unif2ace data`, which may be named as on the hub.

    Raises:
        UserError: there is none.
    """
    from unif2ace_core.data.sets import data_directory

    found = data_directory(str(data))
    if not found.is_dir():
        raise UserError(f"--data {data}: no such folder; give the one with the CSV files and zips, or a set")
    return found
