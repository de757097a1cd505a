"""Pictures are made ready ahead of the model: in order, not too many, with their errors, until it ends."""

import threading
import time

import pytest
from PIL import Image

from unif2ace_cli import inputs, photos
from unif2ace_cli.console import Reporter


@pytest.fixture
def opened(monkeypatch):
    """Names in the order in which they were opened; those with 'bad' in them do not open."""
    names = []

    def open_image(name):
        names.append(name)
        if "bad" in name:
            raise inputs.UserError(f"{name}: damaged; export it again")
        return Image.new("RGB", (20, 20))

    monkeypatch.setattr(inputs, "open_image", open_image)
    return names


def run(names, size=2, answer=None, load=lambda: "model", face=None):
    """Batches of names that came to be answered."""
    seen = []

    def take(model, batch):
        seen.append([photo.name for photo in batch])
        if answer is not None:
            answer(model, batch)

    wanted = [inputs.Request(name, "q") for name in names]
    photos.process(Reporter(quiet=True), wanted, size, load, face, take)
    return seen


def test_batches_come_in_the_order_of_the_names(opened):
    assert run("abcdefg", 3) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert opened == list("abcdefg")


@pytest.mark.parametrize("names", [["bad1", "a", "b", "bad2", "c"], ["a", "bad1", "b", "c", "bad2"]])
def test_errors_come_in_the_order_of_the_names(opened, capsys, names):
    assert [name for batch in run(names) for name in batch] == ["a", "b", "c"]
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["bad1:", "bad2:"]


def test_no_model_is_loaded_for_pictures_that_do_not_open(opened):
    assert run(["bad1", "bad2"], load=lambda: pytest.fail("loaded")) == []


def test_the_next_batch_is_made_ready_while_the_model_answers(opened):
    ahead = []

    def answer(model, batch):
        deadline = time.monotonic() + 10
        while len(opened) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        ahead.append(len(opened))

    run("abcdefgh", 2, answer)
    assert ahead[0] == 4


def test_no_more_than_a_batch_is_ahead(opened):
    leads, answered = [], []

    def answer(model, batch):
        time.sleep(0.03)
        answered.extend(batch)
        leads.append(len(opened) - len(answered))

    run([str(number) for number in range(40)], 3, answer)
    assert max(leads) <= 3 + 1


def test_a_failing_model_stops_the_thread(opened):
    def answer(model, batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([str(number) for number in range(1000)], 2, answer)
    assert len(opened) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("photos")]


def test_unexpected_errors_of_the_thread_reach_the_caller(monkeypatch):
    def open_image(name):
        if name == "c":
            raise MemoryError
        return Image.new("RGB", (20, 20))

    monkeypatch.setattr(inputs, "open_image", open_image)
    with pytest.raises(MemoryError):
        run("abcd")


def test_photos_in_the_frame_are_kept_over_batches(core, opened):
    names = ["a", "b"] * 6
    batches = run(names, 4, face=0)
    assert [name for batch in batches for name in batch] == names
    assert sorted(opened) == ["a", "b"] and len(core.faces) == 2


def test_kept_photos_are_few(core, opened, monkeypatch):
    monkeypatch.setattr(photos, "KEPT", 2)
    loader = photos.Loader(0)
    for name in "abcab":
        loader.frame("model", name)
    assert list(loader.framed) == ["a", "b"] and opened == list("abcab")
