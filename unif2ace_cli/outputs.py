"""Where results go: names, checks before any work, files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from unif2ace_cli.console import UsageError
from unif2ace_cli.inputs import STDIN, reason
from unif2ace_cli.options import IMAGE_TYPES
from unif2ace_core.errors import UserError

LONGEST_SLUG = 60
LONGEST_SLUG_BYTES = 160  # file systems allow 255 bytes a name; leaves room for seed and counter


def slug(text: str) -> str:
    """A file name from a prompt: lower-case words joined by hyphens, at most 60 characters."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())
    name = "-".join(words)
    cut = name[:LONGEST_SLUG].encode()[:LONGEST_SLUG_BYTES].decode(errors="ignore")
    if len(cut) < len(name) and "-" in cut:  # end on a whole word
        cut = cut if name[len(cut)] == "-" else cut.rsplit("-", 1)[0]
    return cut.strip("-") or "face"


def wants_folder(output: str, several: bool) -> bool:
    """Whether `-o` names a folder: it is one, ends in a slash, or has no suffix for several images."""
    if output.endswith(("/", os.sep)) or os.path.isdir(output):
        return True
    return several and Path(output).suffix.lower() not in IMAGE_TYPES


def image_paths(output: str | None, texts: list[str], seeds: list[int]) -> list[Path]:
    """One path per image, before collisions are looked at.

    Without `-o`, or with a folder: PROMPT_sSEED.png. With a file: that file; if several: FILE_1, FILE_2 ...
    """
    if output == STDIN:
        raise UsageError("-o - : images go to files, their paths to stdout; give a file or a folder")
    if output is None or wants_folder(output, len(texts) > 1):
        folder = Path(output or "").expanduser()
        return [folder / f"{slug(text)}_s{seed}.png" for text, seed in zip(texts, seeds)]
    path = Path(output).expanduser()
    if path.suffix and path.suffix.lower() not in IMAGE_TYPES:
        raise UsageError(f"-o {output}: cannot write {path.suffix} images; use {', '.join(IMAGE_TYPES)}")
    if len(texts) == 1:
        return [path]
    return [path.with_name(f"{path.stem}_{number}{path.suffix}") for number in range(1, len(texts) + 1)]


def check_writable(path: Path, make_folder: bool = False) -> None:
    """Make sure that a file can be written at `path`; creates its folder only if asked to.

    Raises:
        UserError: it cannot.
    """
    folder = path.parent
    try:
        if make_folder:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            raise UserError(f"{path}: the folder {folder} does not exist; make it with mkdir -p {folder}")
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: not a regular file; choose another path with -o")
    except FileNotFoundError:
        pass  # the usual case: the file is new
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written ({reason(error)}); choose another path with -o") from error
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({reason(error)}); choose another place with -o") from error


def check_folder(folder: Path, option: str = "--output") -> None:
    """Make sure that files can be written in `folder`, which is created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise UserError(f"{option} {folder}: cannot be written to ({reason(error)}); choose another folder") from error


def check_creatable(folder: Path, option: str = "--output") -> None:
    """Make sure that `folder` can be made and written to, without making it."""
    try:
        existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except (OSError, ValueError) as error:
        raise UserError(f"{option} {folder}: cannot be made ({reason(error)}); choose another folder") from error


def candidates(path: Path) -> Iterator[Path]:
    """path, path_1, path_2, ..."""
    yield path
    number = 0
    while True:
        number += 1
        yield path.with_name(f"{path.stem}_{number}{path.suffix}")


@contextmanager
def temporary_beside(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A hidden new file in the folder of `path`, gone at the end if it is still there."""
    handle, name = tempfile.mkstemp(prefix=".unif2ace-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield temporary, file
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, write: Callable[[BinaryIO], object], force: bool, written: Collection[Path] = ()) -> Path:
    """Let `write` fill a new file and give it its name in one go; returns the name it got.

    A file of this run (`written`) is never replaced, without `force` no file is: the name becomes path_1, path_2 ... .

    Raises:
        UserError: the disk is full, the folder gone, and so on.
    """
    try:
        with temporary_beside(path) as (temporary, file):
            write(file)
            file.flush()
            os.chmod(temporary, 0o666 & ~current_umask())
            return move(temporary, path, force, written)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({reason(error)}); free some space or choose another place with -o"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Put a text, as UTF-8, in the place of what is there; errors are those of `write_file`."""
    content = text.encode()
    write_file(path, lambda file: file.write(content), force=True)


def move(temporary: Path, path: Path, force: bool, written: Collection[Path]) -> Path:
    """Rename to the first name that is free or, with `force`, not in `written`."""
    if force:
        name = next(name for name in candidates(path) if name not in written)
        os.replace(temporary, name)
        return name
    for name in candidates(path):
        try:
            os.link(temporary, name)  # unlike a rename this fails where the name is taken
            return name
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links
            if os.path.lexists(name):
                continue
            os.replace(temporary, name)
            return name
    raise AssertionError("candidates never end")


def current_umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
