"""From image names to pictures in the model's frame, batch by batch, going on past a bad one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from unif2ace_cli import inputs
from unif2ace_cli.console import Reporter
from unif2ace_core.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from unif2ace_core.weights.resolve import LoadedModel

T = TypeVar("T")


class Photo(NamedTuple):
    """A picture, the name it was given by, and the question about it (none for `describe`)."""

    name: str
    question: str
    picture: Image


class Opener:
    """Opens images, remembers the last one (requests often ask several things about one photo)."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.last: tuple[str, Image] | None = None

    def open(self, name: str) -> Image | None:
        """The picture, or None after an error line."""
        if self.last is not None and self.last[0] == name:
            return self.last[1]
        try:
            picture = inputs.open_image(name)
        except UserError as error:
            self.reporter.failure(error)
            return None
        self.last = (name, picture)
        return picture


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def open_batches(reporter: Reporter, wanted: Sequence[inputs.Request], size: int) -> Iterator[tuple[int, list[Photo]]]:
    """(number of names looked at, pictures that opened) per batch; reads a batch when it is asked for."""
    opener = Opener(reporter)
    for batch in batches(wanted, size):
        opened = [(entry, opener.open(entry.image)) for entry in batch]
        yield (
            len(batch),
            [Photo(entry.image, entry.question, picture) for entry, picture in opened if picture is not None],
        )


def align(reporter: Reporter, model: LoadedModel, photos: Sequence[Photo], face: int) -> list[Photo]:
    """The photos with face number `face` brought to the model's frame; those without one are reported."""
    from unif2ace_core.tasks.understand import align_face

    aligned: list[Photo] = []
    source: Image | None = None
    for photo in photos:
        if source is photo.picture and aligned and aligned[-1].name == photo.name:
            aligned.append(photo._replace(picture=aligned[-1].picture))
            continue
        try:
            aligned.append(photo._replace(picture=align_face(model, photo.picture, face)))
            source = photo.picture
        except UserError as error:
            reporter.failure(UserError(f"{'stdin' if photo.name == inputs.STDIN else photo.name}: {error}"))
    return aligned


def process(
    reporter: Reporter,
    wanted: Sequence[inputs.Request],
    size: int,
    load: Callable[[], LoadedModel],
    face: int | None,
    answer: Callable[[LoadedModel, list[Photo]], None],
) -> None:
    """Open, align (unless `face` is None) and `answer` the wanted images batch by batch.

    The model is loaded when the first picture has opened, so that a wrong path fails at once.
    """
    model: LoadedModel | None = None
    with reporter.progress("Reading faces", len(wanted)) as advance:
        for count, photos in open_batches(reporter, wanted, size):
            if photos:
                model = model or load()
                ready = photos if face is None else align(reporter, model, photos, face)
                answer(model, ready) if ready else None
            advance(count)
