"""What a run notes about its data.

pytest tests/train/test_run.py
"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from unif2ace_core.train.run import note_data


def test_going_on_with_other_data_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "unif2ace_core")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    note_data(tmp_path / "one", tmp_path / "run", resume=False)
    note_data(tmp_path / "one", tmp_path / "run", resume=True)
    assert not caplog.records
    note_data(tmp_path / "two", tmp_path / "run", resume=True)
    assert "one, now" in caplog.text


def test_a_set_that_was_made_anew_is_other_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "unif2ace_core")
    for text in ("{}", '{"stages": []}'):
        (tmp_path / "stages.json").write_text(text)
        note_data(tmp_path, tmp_path / "run", resume=True)
    assert "resuming with other data" in caplog.text
