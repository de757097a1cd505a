"""From image names to pictures in the model's frame, batch by batch, going on past a bad one.

    names -> open -> find the face and frame it -> batches -> answers
             `- in a thread of its own, up to a batch ahead -'

While the model answers about one batch the next one is made ready. Pictures and complaints come in the order of the
names. Pictures in the frame are small and the last ones are kept, so that many questions about a photo need it once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from unif2ace_cli import inputs
from unif2ace_cli.console import Reporter
from unif2ace_core.errors import UserError
from unif2ace_core.timing import phase

if TYPE_CHECKING:
    from PIL.Image import Image

    from unif2ace_core.weights.resolve import LoadedModel

T = TypeVar("T")
R = TypeVar("R")
KEPT = 64  # pictures in the frame, 49 kB each with the embedded model


class Photo(NamedTuple):
    """A picture, the name it was given by, and the question about it (none for `describe`)."""

    name: str
    question: str
    picture: Image


class Loader:
    """Opens photos and brings faces to the model's frame; remembers by name what came of the last ones."""

    def __init__(self, face: int | None) -> None:
        """`face`: which face, counted from the largest; None: pictures are taken as they are."""
        self.face = face
        self.opened: tuple[str, Image | UserError] | None = None
        self.framed: OrderedDict[str, Image | UserError] = OrderedDict()

    @phase("photos: read")
    def open(self, name: str) -> Image | UserError:
        """The picture of a file, or what is wrong with it."""
        if self.opened is None or self.opened[0] != name:
            try:
                self.opened = (name, inputs.open_image(name))
            except UserError as error:
                self.opened = (name, error)
        return self.opened[1]

    def frame(self, model: LoadedModel, name: str) -> Image | UserError:
        """The picture that the model is to see, or what is wrong with it."""
        if self.face is None:
            return self.open(name)
        if name not in self.framed:
            self.framed[name] = self.align(model, name, self.open(name), self.face)
            while len(self.framed) > KEPT:
                self.framed.popitem(last=False)
        self.framed.move_to_end(name)
        return self.framed[name]

    def align(self, model: LoadedModel, name: str, picture: Image | UserError, face: int) -> Image | UserError:
        """Face number `face` of a picture in the model's frame."""
        from unif2ace_core.tasks.understand import align_face

        if isinstance(picture, UserError):
            return picture
        try:
            return align_face(model, picture, face)
        except UserError as error:
            return UserError(f"{'stdin' if name == inputs.STDIN else name}: {error}")


@contextmanager
def one_thread() -> Iterator[Executor]:
    """A thread that works off what is submitted; at the end it leaves the rest undone."""
    pool = ThreadPoolExecutor(1, "photos")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(pool: Executor, work: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[tuple[T, Future[R]]]:
    """Each item with its result to come, in order; work on the next `count` items is under way meanwhile."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(work, item)))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def skip_unreadable(reporter: Reporter, loader: Loader, wanted: Sequence[inputs.Request]) -> int:
    """How many of the first photos do not open; they are reported."""
    for number, request in enumerate(wanted):
        picture = loader.open(request.image)
        if not isinstance(picture, UserError):
            return number
        reporter.failure(picture)
    return len(wanted)


def outcomes(
    loader: Loader, model: LoadedModel, wanted: Sequence[inputs.Request], count: int
) -> Iterator[tuple[inputs.Request, Image | UserError]]:
    """Each request with its picture or what is wrong with it; the next `count` pictures are made ready meanwhile."""
    if len(wanted) == 1:  # nothing to do meanwhile
        yield wanted[0], loader.frame(model, wanted[0].image)
        return
    with one_thread() as pool:
        for request, future in ahead(pool, lambda request: loader.frame(model, request.image), wanted, count):
            with phase("photos: wait"):
                picture = future.result()
            yield request, picture


def ready_batches(
    reporter: Reporter, loader: Loader, model: LoadedModel, wanted: Sequence[inputs.Request], size: int
) -> Generator[tuple[int, list[Photo]], None, None]:
    """(number of photos looked at, those of them that are ready) for up to `size` at a time."""
    coming = outcomes(loader, model, wanted, size)
    while batch := list(islice(coming, size)):
        photos = []
        for request, picture in batch:
            if isinstance(picture, UserError):
                reporter.failure(picture)
            else:
                photos.append(Photo(request.image, request.question, picture))
        yield len(batch), photos


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
    loader = Loader(face)
    with reporter.progress("Reading faces", len(wanted)) as advance:
        bad = skip_unreadable(reporter, loader, wanted)
        advance(bad)
        if bad == len(wanted):
            return
        model = load()
        with closing(ready_batches(reporter, loader, model, wanted[bad:], size)) as ready:
            for count, photos in ready:
                if photos:
                    answer(model, photos)
                advance(count)
