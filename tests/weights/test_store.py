"""Files appear whole or not at all, and a disk that does not take them is named with the file.

pytest tests/weights/test_store.py
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from unif2ace_core.errors import UserError
from unif2ace_core.weights import store
from unif2ace_core.weights.configs import read_json
from unif2ace_core.weights.store import replacing, write_text_atomic


def test_a_full_disk_is_named_with_the_file_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "made" / "rows.parquet"
    with (
        pytest.raises(UserError, match=r"rows\.parquet cannot be written \(no space left on device\); make room, or"),
        replacing(path) as temporary,
    ):
        temporary.write_bytes(b"some rows")  # and pyarrow says of the rest
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(dir: Path, **_: str) -> None:
        raise OSError(number, "refused", str(dir / "x.tmp"))

    monkeypatch.setattr(store.tempfile, "mkstemp", refused)
    with pytest.raises(UserError, match=r"a\.json cannot be written .*; make room, or choose another --output"):
        write_text_atomic(tmp_path / "a.json", "{}")


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no", "/elsewhere/read.png"), FileNotFoundError("gone")])
def test_what_is_read_meanwhile_keeps_its_own_error(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a"):
        raise error
    assert caught.value is error and list(tmp_path.iterdir()) == []


def test_a_damaged_json_is_named_with_the_remedy_of_its_kind(tmp_path: Path) -> None:
    for text in ("{", "[]"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UserError, match="restore it from the original model"):
            read_json(tmp_path / "a.json")
        with pytest.raises(UserError, match=r"; make it anew$"):
            read_json(tmp_path / "a.json", "make it anew")
