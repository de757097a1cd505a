"""Reading and writing files safely: safetensors only, temporary name and rename, errors in words.

torch is imported where tensors come in: the commands that make data sets use the rest and start without it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT = "unif2ace-1"  # written into every file's metadata, so that foreign files can be named
_LFS_HEADER = b"version https://git-lfs"
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name `path` where it cannot be written, for want of room or leave.

    Raises:
        UserError: that is the case.
    """
    absolute = path.absolute()
    try:
        yield
    except OSError as error:
        named = isinstance(error.filename, str)  # a file that is read meanwhile has another folder
        if error.errno not in _NO_PLACE or (named and Path(error.filename).absolute().parent not in absolute.parents):
            raise
        said = os.strerror(error.errno).lower()
        raise UserError(f"{path} cannot be written ({said}); make room, or choose another --output") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on failure.

    Raises:
        UserError: there is no room for it, or it may not be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes files private; the result gets the permissions of an ordinary new file
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` as UTF-8; the file is either the old one or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def copy_into(directory: Path, file: Path) -> None:
    """Copy a file into a directory, where it is either the old one or the whole new one."""
    with replacing(directory / file.name) as temporary:
        shutil.copyfile(file, temporary)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically, with the format's version in its metadata."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata={"format": FORMAT, **(metadata or {})})


def refuse_lfs_pointer(path: Path) -> None:
    """Raise `UserError` where git-LFS left its pointer instead of the file."""
    with path.open("rb") as file:
        start = file.read(len(_LFS_HEADER))
    if start == _LFS_HEADER:
        raise UserError(f"{path} is a git-LFS pointer, not weights; run 'git lfs pull' in its repository")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file (memory-mapped).

    Raises:
        UserError: the file is missing, a git-LFS pointer, truncated, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path} does not exist; check the model directory or download it again")
    try:
        refuse_lfs_pointer(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); download it again") from error


def load_module(module: torch.nn.Module, tensors: Mapping[str, Tensor], origin: Path) -> None:
    """Copy tensors into a module (cast to its dtype); name what does not fit.

    Raises:
        UserError: a tensor is missing, unknown, or of another shape.
    """
    import torch

    expected = module.state_dict()
    check_shapes(module, {name: tensor.shape for name, tensor in tensors.items()}, origin)
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(tensors[name])


def check_shapes(module: torch.nn.Module, given: Mapping[str, torch.Size], origin: Path) -> None:
    """Compare the shapes of stored tensors with those of a module.

    Raises:
        UserError: a tensor is missing, unknown, or of another shape.
    """
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    shapes = [name for name in expected.keys() & given.keys() if expected[name] != given[name]]
    problems = [
        f"{len(names)} {what} ({names[0]})"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", sorted(shapes)))
        if names
    ]
    if problems:
        raise UserError(f"{origin} does not fit its config: tensors {', '.join(problems)}; is it another model's file?")
