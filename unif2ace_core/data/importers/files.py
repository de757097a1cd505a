"""The files of a source, in a folder tree or a zip, by relative name; one is read at a time and none is kept."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from unif2ace_core.errors import UserError

Stamp = tuple[int, ...]  # of a file: size and time; in a zip: size and check sum
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error)  # what Pillow raises
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF")  # an MPO is several JPEGs in one file


class Files:
    """Names and contents of the files with one of `suffixes` under `root`; safe to pickle and to fork."""

    def __init__(self, root: Path, suffixes: Collection[str] = IMAGES) -> None:
        self.root, self.suffixes = Path(root), frozenset(suffixes)
        self._archive: zipfile.ZipFile | None = None
        self._owner = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "suffixes": self.suffixes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _zip(self) -> zipfile.ZipFile:
        if self._archive is None or self._owner != os.getpid():  # a forked child shares the file offset
            try:
                self._archive, self._owner = zipfile.ZipFile(self.root), os.getpid()
            except (OSError, zipfile.BadZipFile) as error:
                raise UserError(f"{self.root} cannot be opened as a zip ({error}); fetch it again") from error
        return self._archive

    def names(self) -> list[str]:
        """Relative names with forward slashes, sorted; hidden files and folders are passed over."""
        names = sorted(self._found())
        self._archive = None  # a zip's directory is as large as the index: it's read again when its turn comes
        return names

    def any(self) -> bool:
        """Whether there are any."""
        return next(self._found(), None) is not None

    def _found(self) -> Iterator[str]:
        names = self._walk() if self.root.is_dir() else iter(self._zip().namelist())
        return (name for name in names if self._wanted(name))

    def _walk(self) -> Iterator[str]:
        for folder, _, files in os.walk(self.root):
            start = Path(folder).relative_to(self.root).as_posix()
            yield from (name if start == "." else f"{start}/{name}" for name in files)

    def _wanted(self, name: str) -> bool:
        hidden = name.startswith((".", "__MACOSX/")) or "/." in name
        return not hidden and os.path.splitext(name)[1].lower() in self.suffixes

    def read(self, name: str) -> bytes:
        """The file as it is stored. Raises `UserError` where it is missing or damaged."""
        try:
            return (self.root / name).read_bytes() if self.root.is_dir() else self._zip().read(name)
        except (KeyError, OSError, RuntimeError, zipfile.BadZipFile) as error:
            if os.path.islink(self.root / name) and not os.path.exists(self.root / name):
                raise UnreadableImage(f"{name} is a link that leads nowhere; mend it or take it out") from error
            raise UserError(f"{name} is missing or damaged in {self.root}; fetch it again") from error

    def stamps(self, names: Iterable[str]) -> Iterator[Stamp]:
        """What tells files from others of their names, without opening them; () of what is not there."""
        yield from map(self._stamp, names)
        self._archive = None  # as in `names`

    def _stamp(self, name: str) -> Stamp:
        if self.root.is_dir():
            return file_stamp(os.path.join(self.root, name))
        try:
            inside = self._zip().getinfo(name)
        except KeyError:
            return ()
        return inside.file_size, inside.CRC


def file_stamp(path: str | Path) -> Stamp:
    """Size and time of change of a file; () where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns


def open_files(source: Path, suffixes: Collection[str] = IMAGES, what: str = "image") -> Files:
    """The files of a folder or zip, or of the one zip in a folder that has no such files itself.

    Raises `UserError` where there are none.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist; name the folder or zip with the {what}s")
    places = [source] if source.is_file() else [source, *sorted(source.glob("*.zip"))]
    found = [files for files in (Files(place, suffixes) for place in places) if files.any()]
    if not found:
        raise UserError(f"no {what}s in {source} (looked for {', '.join(sorted(suffixes))}); name their folder or zip")
    if len(found) > 1 and found[0].root != source:
        raise UserError(f"{source} has {what}s in {len(found)} zips; name one of them, like {found[0].root}")
    return found[0]


def by_base(names: Iterable[str], where: Path) -> dict[str, str]:
    """Base name -> relative name. Raises `UserError` for a base name that is there twice."""
    found: dict[str, str] = {}
    for name in names:
        base = PurePosixPath(name).name
        if base in found:
            raise UserError(f"duplicate name {base}: {found[base]} and {name} in {where}; name one of the folders")
        found[base] = name
    return found


class UnreadableImage(UserError):
    """An image that is there but is no whole JPEG, PNG, WebP or GIF."""


def check_image(content: bytes, name: str) -> None:
    """Raises `UnreadableImage`; the pixels are decoded only as far as that needs."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image, or a damaged EXIF block, is no harm
            kind = _decode(content)
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"image {name} has too many pixels; make it smaller or take it out") from error
    except _DAMAGE as error:
        reason = _reason(error)
        raise UnreadableImage(f"image {name} cannot be read ({reason}); fetch it again or take it out") from error
    if kind not in _FORMATS:
        raise UnreadableImage(f"image {name} is {kind}; convert it to JPEG, PNG, WebP or GIF")


def _decode(content: bytes) -> str | None:
    """The format of an image, which is decoded as far as it takes to see that it is whole."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        kind = image.format
        if kind == "PNG":
            image.verify()  # check sums of all chunks, without decoding
        else:
            image.draft("RGB", (1, 1))  # a JPEG is decoded at an eighth of its size
            image.load()
    return kind


def _reason(error: Exception) -> str:
    """What is wrong, in words that are the same in every run: Pillow's own may hold an address in memory."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "the file", str(error)) or type(error).__name__
