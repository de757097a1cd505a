"""`--timings`: phases add up to the time of the run, on stderr, and cost nothing where nobody asks."""

import json
import threading
import time

import pytest

from unif2ace_core import timing
from unif2ace_core.timing import Clock, phase


@pytest.fixture
def clock(monkeypatch):
    """A fresh clock in place of the program's."""
    made = Clock()
    monkeypatch.setattr(timing, "clock", made)
    return made


def test_phases_and_the_rest_add_up_to_the_total(clock):
    for name in ("import: torch", "files: write"):
        with phase(name):
            time.sleep(0.01)
    time.sleep(0.01)
    found = clock.summary()
    assert list(found["phases"]) == ["import: torch", "files: write", "other"]
    assert sum(found["phases"].values()) == pytest.approx(found["total"])
    assert found["else"] == pytest.approx(found["total"] - found["phases"]["import: torch"])


def test_an_inner_phase_takes_its_time_out_of_the_outer_one(clock):
    with phase("compute: answer"):
        time.sleep(0.01)
        with phase("compute: prompt"):
            time.sleep(0.03)
    assert clock.seconds["compute: prompt"] >= 0.03
    assert sum(clock.seconds.values()) <= clock.total()


def test_a_phase_that_comes_again_is_added(clock):
    @phase("compute: steps")
    def step(again):
        if again:
            step(False)

    for _ in range(3):
        step(True)
    assert list(clock.seconds) == ["compute: steps"]


def test_a_phase_ends_with_an_error(clock):
    with pytest.raises(KeyError), phase("weights: codec"):
        raise KeyError
    assert clock.stack() == []


def test_other_threads_are_counted_beside(clock):
    def work():
        with phase("photos: read"):
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start(), thread.join()
    assert clock.seconds == {} and clock.beside["photos: read"] >= 0.01


def test_a_clock_can_start_with_the_process():
    assert Clock(since_start=True).seconds["start"] > 0.05  # this process has imported pytest
    assert timing.age_elsewhere() == pytest.approx(timing.process_age(), abs=1.5)  # boot times are whole seconds there


@pytest.mark.parametrize("command", [("generate", "x", "-q"), ("ask", "photo.png", "q"), ("describe", "photo.png")])
def test_every_command_shows_where_its_time_went(cli, photo, command):
    photo()
    plain, timed = cli(*command), cli(*command, "--timings", "-f" if command[0] == "generate" else "-q")
    assert plain.err == "" and timed.code == 0
    names = [line.split(" s  ")[1] for line in timed.err.splitlines()]
    assert {"command line", "import: torch", "total"} <= set(names)
    assert names[-1] == "of it not importing torch, reading weights or computing"


def test_json_timings_are_one_object_and_results_stay_as_they_are(cli, photo):
    result = cli("ask", photo(), "q", "--json", "--timings")
    assert set(json.loads(result.out)) == {"image", "question", "answer", "confidence", "seconds"}
    found = json.loads(result.err)["timings"]
    assert set(found) == {"total", "else", "phases", "beside"}
    assert sum(found["phases"].values()) == pytest.approx(found["total"], abs=0.02)


def test_a_run_that_fails_shows_its_time_too(cli):
    result = cli("ask", "gone.png", "q", "--timings")
    assert result.code == 1 and result.err.startswith("error: gone.png") and "total" in result.err


def test_a_wrong_command_line_shows_only_what_is_wrong(cli):
    assert cli("generate", "x", "--timings", "--steps", "0").err.count("\n") == 1
