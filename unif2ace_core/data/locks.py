"""Of the processes that make a data set, no two write the same shards: locks that die with their processes.

    OUTPUT/.lock-0-of-4    held by the process that does the first of four shares; removed when it has done

Systems and file systems without such locks go without.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unif2ace_core.errors import UserError
from unif2ace_core.weights.store import writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = ".lock-"
_UNKNOWN = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # to a file system without locks
_held: set[Path] = set()  # by this process


@contextmanager
def only_writer(output: Path, index: int, count: int) -> Iterator[None]:
    """Hold the lock of a share, one of `count`, of a folder, which is made.

    Raises:
        UserError: another process has it, or one that divides the work otherwise is there.
    """
    path = _name(output, index, count)
    if fcntl is None or path in _held:
        yield
        return
    with writing(path):
        output.mkdir(parents=True, exist_ok=True)
        handle = _taken(path)
    busy = UserError(f"another run is writing to {output}; wait for it, or stop it")
    if handle is None:
        raise busy
    _held.add(path)
    try:
        if in_use(output, index, count):
            raise busy
        yield
    finally:
        _held.discard(path)
        _release(path, handle)


def in_use(output: Path, index: int, count: int) -> bool:
    """Whether another process writes this share to a folder or one in it, or divides the work otherwise.

    Locks whose processes were killed are removed on the way.
    """
    if fcntl is None:
        return False
    own, place = _name(output, index, count), output.resolve()
    for path in (*place.glob(f"{PREFIX}*"), *place.glob(f"*/{PREFIX}*")):
        fellow = path.name.endswith(f"-of-{count}") and path.name != own.name
        if path in _held or fellow:
            continue
        with suppress(FileNotFoundError):  # it is given back at this moment
            handle = _taken(path, probe=True)
            if handle is None:
                return True
            _release(path, handle)
    return False


def _name(output: Path, index: int, count: int) -> Path:
    return output.resolve() / f"{PREFIX}{index}-of-{count}"


def _taken(path: Path, probe: bool = False) -> int | None:
    """The open file of a lock, which is now this process's; None where it is another's.

    Several processes may probe at once: that does not make a lock, and they do not take each other for its holder.
    """
    while True:
        handle = os.open(path, os.O_RDWR | (0 if probe else os.O_CREAT), 0o666)
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if probe else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError as error:
            if error.errno not in _UNKNOWN:
                os.close(handle)
                raise
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # of a file that its last holder has removed meanwhile


def _release(path: Path, handle: int) -> None:
    """Remove a lock while it is held, so that nobody takes it in between."""
    path.unlink(missing_ok=True)
    os.close(handle)
