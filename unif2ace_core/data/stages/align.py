"""`unif2ace data align`: faces found, brought to the training frame and sifted.

    photo -> landmarks, else the locator -> crop -> small? blurred?   rows of OUTPUT/.faces, each photo on its own
                                                 -> seen before?      OUTPUT, when all hashes are known

The second half needs the hashes of all photos, so it waits for the other processes' first halves. Of two near copies
the one in `val` is kept, else the earlier one.
"""

from __future__ import annotations

import io
import math
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from unif2ace_core.data.shards import (
    PARQUET,
    Job,
    Made,
    Shard,
    Share,
    is_complete,
    own_share,
    read_shard,
    reports_of,
    shards_of,
)
from unif2ace_core.data.stages.hashes import difference_hash, packed, repeated
from unif2ace_core.errors import UserError
from unif2ace_core.experts.align import Frame, crop, frame_of_points, whole_image
from unif2ace_core.weights.configs import read_json

if TYPE_CHECKING:
    import pyarrow as pa

    from unif2ace_core.experts.locate import Locator

FACES = ".faces"  # where the first half is kept until the second is done


@dataclass(frozen=True)
class AlignSettings:
    """What the result depends on."""

    pixels: int = 128  # side of the crops
    aligned: tuple[str, ...] = ()  # sources whose photos are in the training frame already
    smallest: float = 48.0  # side of a face's frame in pixels of the photo
    sharpness: float = 12.0  # least mean square of the Laplacian of brightness (0..255) in the crop
    distance: int = 6  # signs of 256 in which two hashes may differ to be near copies; -1 keeps all
    quality: int = 95  # of the crops' WebP


def face_jobs(source: Path, settings: AlignSettings, locator: Callable[[], Locator]) -> list[Job]:
    """The first half: a shard of crops for each shard of photos; the locator is loaded when one is needed."""
    loaded = cache(locator)
    return [_face_job(shard, settings, loaded) for shard in shards_of(source)]


def _face_job(shard: Shard, settings: AlignSettings, locator: Callable[[], Locator]) -> Job:
    return Job(shard.name, lambda: _faces(read_shard(shard.path), settings, locator))


def _faces(table: pa.Table, settings: AlignSettings, locator: Callable[[], Locator]) -> Made:
    """Crops of one shard's photos, and which were dropped for what."""
    import pyarrow as pa

    kept, dropped = [], []
    for row in table.to_pylist():
        try:
            crop_ = _sift(row, settings, locator)
        except Dropped as reason:
            dropped.append({"source": row["source"], "file": row["file"], "reason": str(reason)})
            continue
        image = {"bytes": _encoded(crop_, settings.quality), "path": f"{Path(row['file']).stem}.webp"}
        kept.append({**row, "image": image, "landmarks": None, "phash": difference_hash(crop_)})
    schema = table.schema if "phash" in table.column_names else table.schema.append(pa.field("phash", pa.string()))
    return Made(pa.Table.from_pylist(kept, schema=schema), {"kept": len(kept), "dropped": dropped})


class Dropped(Exception):
    """A photo that does not pass; says why."""


def _sift(row: dict[str, Any], settings: AlignSettings, locator: Callable[[], Locator]) -> Image.Image:
    """The face of a photo in the training frame. Raises `Dropped` where it is no use."""
    try:
        photo = decoded(row["image"]["bytes"], upright=not row["landmarks"])  # which are in the pixels as stored
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Dropped("unreadable image") from None
    found = crop(photo, _frame(photo, row, settings, locator), settings.pixels)
    if sharpness(found) < settings.sharpness:
        raise Dropped("blurred")
    return found


def decoded(file: bytes, upright: bool = True) -> Image.Image:
    """The photo of a file in RGB: of several pictures the first, on white, turned as its EXIF says.

    Raises what PIL does for a file that is none.
    """
    with Image.open(io.BytesIO(file)) as stored:
        photo = ImageOps.exif_transpose(stored) if upright else stored
        if photo.mode.startswith("I"):  # 16 bits, of which `convert` would cut off what is above 255
            wide = np.asarray(photo, dtype=np.int32)
            return Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8)).convert("RGB")
        if photo.has_transparency_data:
            photo = photo.convert("RGBA")
            photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
        return photo.convert("RGB")


def _frame(photo: Image.Image, row: dict[str, Any], settings: AlignSettings, locator: Callable[[], Locator]) -> Frame:
    """Where the face is: the whole photo, by landmarks, or by the locator."""
    if row["source"] in settings.aligned:
        return whole_image(*photo.size)
    if row["landmarks"]:
        frame = _frame_of_landmarks(row["landmarks"])
    else:
        faces = locator().find(photo)
        if not faces:
            raise Dropped("no face")
        frame = faces[0].frame
    if frame.size < settings.smallest:
        raise Dropped("small face")
    return frame


def _frame_of_landmarks(points: Sequence[Sequence[float]]) -> Frame:
    """The frame of five points. Raises `Dropped` where they are none of a face."""
    try:
        frame = frame_of_points(np.array(points, dtype=float))
    except ValueError:
        raise Dropped("bad landmarks") from None
    if not math.isfinite(frame.size):
        raise Dropped("bad landmarks")
    return frame


def sharpness(image: Image.Image) -> float:
    """Mean square of the Laplacian of brightness (0..255)."""
    y = np.asarray(image.convert("L"), dtype=np.float32)
    laplacian = 4 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:]
    return float((laplacian**2).mean())


def _encoded(image: Image.Image, quality: int) -> bytes:
    """A WebP file."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()


# --- Near copies ---------------------------------------------------------------------------------------------


def distinct_jobs(source: Path, output: Path, settings: AlignSettings) -> list[Job]:
    """The second half: the shards of crops without near copies."""
    names = [shard.name for shard in shards_of(source)]
    folder = output / FACES
    copies = cache(lambda: find_copies(folder, names, settings.distance))
    return [Job(name, lambda name=name: _distinct(folder, name, copies())) for name in names]  # type: ignore[misc]


def find_copies(folder: Path, names: list[str], distance: int) -> dict[tuple[str, int], str]:
    """(shard, row) of every near copy -> the file that it repeats."""
    if distance < 0:
        return {}
    names = sorted(names, key=lambda name: (not name.startswith("val-"), name))
    hashes = [packed(_column(folder, name, "phash")) for name in names]
    starts = np.cumsum([0, *map(len, hashes)])
    if not starts[-1]:
        said = ", ".join(f"{count} {reason}" for reason, count in reasons(reports_of(folder, "align")))
        raise UserError(f"no photo passed ({said}); check --aligned, --smallest and --sharpness")
    joined = np.concatenate(hashes)
    del hashes
    found = repeated(joined, distance)

    def place(row: int) -> tuple[str, int]:
        shard = int(np.searchsorted(starts, row, "right")) - 1
        return names[shard], row - int(starts[shard])

    files = _files(folder, {place(first) for first in found.values()})
    return {place(copy): files[place(first)] for copy, first in found.items()}


def _column(folder: Path, name: str, column: str) -> list[str]:
    """A column of a shard of crops."""
    return read_shard(folder / "data" / f"{name}{PARQUET}", [column])[column].to_pylist()


def _files(folder: Path, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """SOURCE/FILE of some rows (shard, row)."""
    found: dict[tuple[str, int], str] = {}
    for name, rows in groupby(sorted(places), key=lambda place: place[0]):
        sources, files = _column(folder, name, "source"), _column(folder, name, "file")
        found |= {(name, row): f"{sources[row]}/{files[row]}" for _, row in rows}
    return found


def _distinct(folder: Path, name: str, copies: dict[tuple[str, int], str]) -> Made:
    """A shard of crops without the near copies, and why each photo is not in it."""
    import pyarrow as pa

    table = read_shard(folder / "data" / f"{name}{PARQUET}")
    remedy = "delete it and its shard, and run the stage again"
    report = read_json(folder / "reports" / "align" / f"{name}.json", remedy)
    drop = [row for row in range(len(table)) if (name, row) in copies]
    for row in drop:
        source, file = table["source"][row].as_py(), table["file"][row].as_py()
        reason = f"near copy of {copies[name, row]}"
        report["dropped"].append({"source": source, "file": file, "reason": reason})
    rest = [row for row in range(len(table)) if (name, row) not in copies]
    kept = table.take(pa.array(rest, pa.int64()))
    return Made(kept, {**report, "kept": len(kept)})


# --- The end of the first half -----------------------------------------------------------------------------


def start(output: Path, share: Share | None = None) -> None:
    """Say that this process may read the first half; to be called before it looks whether it has to."""
    _mark(output, share or own_share()).unlink(missing_ok=True)


def finish(output: Path, jobs: list[Job], share: Share | None = None) -> None:
    """Remove the first half when every shard of the second is there and no process reads it any more."""
    share = share or own_share()
    if not (output / FACES).is_dir():
        return
    with suppress(OSError):  # another process removes it at this moment
        _mark(output, share).touch()
        others = (_mark(output, Share(index, share.count)) for index in range(share.count))
        if is_complete(output, jobs) and all(mark.is_file() for mark in others):
            done = output / f"{FACES}.done"  # half of a folder would be taken for one to go on with
            shutil.rmtree(done, ignore_errors=True)
            (output / FACES).replace(done)
            shutil.rmtree(done, ignore_errors=True)


def _mark(output: Path, share: Share) -> Path:
    """The file that says that a process has done with the first half."""
    return output / FACES / f"done-{share.index}-of-{share.count}"


@contextmanager
def unless_complete(output: Path, jobs: list[Job]) -> Iterator[None]:
    """What goes wrong in the first half is nothing where the second is there: its files may just be removed."""
    try:
        yield
    except (UserError, OSError):
        if not is_complete(output, jobs):
            raise


def settings_dict(settings: AlignSettings) -> dict[str, Any]:
    """The settings as JSON has them."""
    return {**asdict(settings), "aligned": list(settings.aligned)}


def check_sources(source: Path, names: Sequence[str]) -> None:
    """Raise `UserError` for a source that the set does not have."""
    shards = shards_of(source) if names else ()
    there = sorted(
        {name for shard in shards for name in read_shard(shard.path, ["source"])["source"].unique().to_pylist()}
    )
    for name in names:
        if name not in there:
            raise UserError(f"--aligned {name} is no source of {source}; there are {', '.join(there)}")


def reasons(reports: dict[str, dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """How many photos were dropped for what, the commonest reason first; near copies are one reason."""
    found = Counter(
        "near copy" if each["reason"].startswith("near copy") else each["reason"]
        for report in reports.values()
        for each in report["dropped"]
    )
    yield from sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
