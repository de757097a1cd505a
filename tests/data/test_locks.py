"""Of the processes that make a set, no two write the same shards; what a killed one leaves stops nobody.

pytest tests/data/test_locks.py
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from factory_toys import captioned, contents, imported

from unif2ace_core.data import shards
from unif2ace_core.data.locks import in_use, only_writer
from unif2ace_core.data.shards import (
    Job,
    Share,
    begin,
    following,
    read_book,
    read_shard,
    read_stages,
    run_stage,
    shards_of,
    wait_for,
)
from unif2ace_core.data.stages.texts import STYLES, caption_jobs
from unif2ace_core.errors import UserError

pytest.importorskip("fcntl")
HOLD = """
import sys
from pathlib import Path
from unif2ace_core.data.locks import only_writer
with only_writer(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.read()
"""
Holder = Callable[[Path, int, int], subprocess.Popen]


@pytest.fixture
def hold() -> Iterator[Holder]:
    """Starts a process that holds the lock of a share."""
    started: list[subprocess.Popen] = []

    def start(output: Path, index: int, count: int) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(output), str(index), str(count)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def raw(made_up_faces: Path, tmp_path: Path) -> Path:
    return imported(made_up_faces, tmp_path / "raw")


def locks(output: Path) -> list[str]:
    return sorted(path.name for path in output.rglob(".lock-*"))


def test_a_second_run_of_the_same_share_is_refused_and_touches_nothing(raw: Path, tmp_path: Path, hold: Holder) -> None:
    made = tmp_path / "made"
    begin(made, following(raw, "caption", {}), caption_jobs(raw, STYLES, 0))
    process = hold(made, 0, 1)
    half = made / "data" / ".train-00000.parquet.abc.tmp"  # of the first run
    half.parent.mkdir()
    half.touch()
    with pytest.raises(UserError, match=r"another run is writing to .*made; wait for it, or stop it"):
        captioned(raw, made)
    assert list(made.rglob("*.parquet*")) == [half] and locks(made) == [".lock-0-of-1"]
    process.communicate()
    captioned(raw, made)
    assert not half.exists() and locks(made) == []


def test_fellow_processes_do_not_refuse_each_other(raw: Path, tmp_path: Path, hold: Holder) -> None:
    made, one = tmp_path / "made", captioned(raw, tmp_path / "one")
    process = hold(made, 1, 2)
    captioned(raw, made, Share(0, 2))
    process.communicate()
    captioned(raw, made, Share(1, 2))
    assert contents(made) == contents(one)


def test_a_run_that_divides_the_work_otherwise_is_refused(raw: Path, tmp_path: Path, hold: Holder) -> None:
    hold(tmp_path / "made", 1, 2)
    with pytest.raises(UserError, match="another run is writing"):
        captioned(raw, tmp_path / "made")
    assert locks(tmp_path / "made") == [".lock-1-of-2"]


@pytest.mark.parametrize("share", [Share(0, 1), Share(1, 2)])
def test_the_lock_of_a_killed_process_stops_nobody_and_does_not_stay(
    raw: Path, tmp_path: Path, hold: Holder, share: Share
) -> None:
    made = tmp_path / "made"
    process = hold(made, share.index, share.count)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(locks(made)) == 1
    assert contents(captioned(raw, made)) == contents(captioned(raw, tmp_path / "one"))


def test_a_stage_that_fails_leaves_no_lock(raw: Path, tmp_path: Path) -> None:
    def broken() -> None:
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        run_stage(tmp_path / "made", [{"stage": "x"}], [Job("train-00000", broken)])  # type: ignore[arg-type]
    assert locks(tmp_path / "made") == []
    with pytest.raises(UserError, match="no photos"):
        run_stage(tmp_path / "none", [{"stage": "x"}], [])
    assert not (tmp_path / "none").exists()


def test_a_process_is_not_stopped_by_its_own_lock(tmp_path: Path) -> None:
    with only_writer(tmp_path, 0, 1), only_writer(tmp_path, 0, 1):
        assert not in_use(tmp_path, 0, 1)
    assert locks(tmp_path) == []


# --- Begun otherwise -------------------------------------------------------------------------------------------


def test_a_folder_that_was_begun_otherwise_and_came_to_nothing_is_begun_anew(raw: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    begin(made, following(raw, "caption", {"styles": "wrong"}), caption_jobs(raw, STYLES, 0))
    (made / "data").mkdir()
    assert contents(captioned(raw, made)) == contents(captioned(raw, tmp_path / "one"))


def test_what_was_begun_otherwise_stays_where_it_has_shards_or_is_in_work(
    raw: Path, tmp_path: Path, hold: Holder
) -> None:
    made, jobs = tmp_path / "made", caption_jobs(raw, STYLES, 0)
    begin(made, following(raw, "caption", {"seed": 1}), jobs)
    process = hold(made / ".half", 0, 1)  # as the first half of an alignment
    for _ in range(2):
        with pytest.raises(UserError, match=r"begun otherwise .*seed 1, now 2"):
            begin(made, following(raw, "caption", {"seed": 2}), jobs)
        (made / ".half" / "data").mkdir(exist_ok=True)
        (made / ".half" / "data" / "train-00000.parquet").touch()
        process.communicate()
    assert read_stages(made)[-1]["seed"] == 1


# --- Waiting and damage ----------------------------------------------------------------------------------------


def test_who_waits_long_for_other_processes_says_so_once(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    captioned(raw, tmp_path / "made")
    count = len(shards_of(raw)) - len(list((tmp_path / "made" / "data").iterdir()))
    monkeypatch.setattr(shards, "QUIET", 0.0)
    monkeypatch.setattr(shards, "PATIENCE", 0.5)
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match="lacks shards of other processes"):
        wait_for(tmp_path / "made", caption_jobs(raw, STYLES, 0))
    assert caplog.messages == [f"waiting for {count} shards of other processes (WORLD_SIZE=4)"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"stages": 3}',
        '{"stages": [3]}',
        '{"stages": [{"step": "import"}]}',
        '{"stages": [{"stage": 1}]}',
        '{"shards": "train-00000"}',
        '{"shards": [1]}',
    ],
)
def test_a_damaged_list_of_stages_is_named_with_what_to_do(raw: Path, text: str) -> None:
    (raw / "stages.json").write_text(text)
    for read in (read_book, shards_of, read_stages):
        with pytest.raises(UserError, match=r"stages\.json .*; copy the set again or make it anew$"):
            read(raw)


def test_a_set_of_no_known_stages_that_lacks_a_shard_is_named(raw: Path) -> None:
    (raw / "stages.json").write_text('{"shards": ["train-00000", "train-00099"]}')
    with pytest.raises(UserError, match="lacks train-00099"):
        shards_of(raw)
    assert len(read_shard(raw / "data" / "train-00000.parquet")) == 4
