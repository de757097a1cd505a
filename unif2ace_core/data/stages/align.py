"""`unif2ace data align`: faces found, brought to the training frame and sifted.

    photo -> landmarks, else the locator -> crop -> small? blurred?   rows of OUTPUT/.faces, each photo on its own
                                                 -> seen before?      OUTPUT, when all hashes are known

The second half needs the hashes of all photos, so it waits for the other processes' first halves. Of two near copies
the one in `val` is kept, else the earlier one.
"""

from __future__ import annotations

import io
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from unif2ace_core.data.shards import Job, Made, Shard, is_complete, read_shard, shards_of
from unif2ace_core.data.stages.hashes import difference_hash, repeats
from unif2ace_core.errors import UserError
from unif2ace_core.experts.align import Frame, _frame_of_points, crop, whole_image

if TYPE_CHECKING:
    import pyarrow as pa

    from unif2ace_core.experts.locate import Locator

FACES = ".faces"  # where the first half is kept until the second is done
PATIENCE = 6 * 3600.0  # seconds to wait for other processes


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
        photo = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
    except (OSError, ValueError, SyntaxError):
        raise Dropped("unreadable image") from None
    found = crop(photo, _frame(photo, row, settings, locator), settings.pixels)
    if sharpness(found) < settings.sharpness:
        raise Dropped("blurred")
    return found


def _frame(photo: Image.Image, row: dict[str, Any], settings: AlignSettings, locator: Callable[[], Locator]) -> Frame:
    """Where the face is: the whole photo, by landmarks, or by the locator."""
    if row["source"] in settings.aligned:
        return whole_image(*photo.size)
    if row["landmarks"]:
        frame = _frame_of_points(np.array(row["landmarks"], dtype=float))
    else:
        faces = locator().find(photo)
        if not faces:
            raise Dropped("no face")
        frame = faces[0].frame
    if frame.size < settings.smallest:
        raise Dropped("small face")
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
    from pyarrow import parquet

    if distance < 0:
        return {}
    wait_for([folder / "data" / f"{name}.parquet" for name in names])
    places: list[tuple[str, int, str, str]] = []
    for name in sorted(names, key=lambda name: (not name.startswith("val-"), name)):
        rows = parquet.read_table(folder / "data" / f"{name}.parquet", columns=["source", "file", "phash"]).to_pylist()
        places += [(name, row, f"{r['source']}/{r['file']}", r["phash"]) for row, r in enumerate(rows)]
    found = repeats([place[3] for place in places], distance)
    return {places[copy][:2]: places[first][2] for copy, first in found.items()}


def wait_for(paths: list[Path]) -> None:
    """Return when all files are there, which other processes write.

    Raises:
        UserError: they do not come.
    """
    until = time.monotonic() + PATIENCE
    while missing := [path for path in paths if not path.is_file()]:
        if time.monotonic() > until:
            raise UserError(f"{missing[0]} was not written by the process whose share it is; run the stage again")
        time.sleep(0.2)


def _distinct(folder: Path, name: str, copies: dict[tuple[str, int], str]) -> Made:
    """A shard of crops without the near copies, and why each photo is not in it."""
    import json

    table = read_shard(folder / "data" / f"{name}.parquet")
    report = json.loads((folder / "reports" / "align" / f"{name}.json").read_text(encoding="utf-8"))
    drop = [row for row in range(len(table)) if (name, row) in copies]
    for row in drop:
        source, file = table["source"][row].as_py(), table["file"][row].as_py()
        reason = f"near copy of {copies[name, row]}"
        report["dropped"].append({"source": source, "file": file, "reason": reason})
    kept = table.take([row for row in range(len(table)) if (name, row) not in copies])
    return Made(kept, {**report, "kept": len(kept)})


def finish(output: Path, jobs: list[Job]) -> None:
    """Remove the first half when every shard of the second is there."""
    if is_complete(output, jobs):
        shutil.rmtree(output / FACES, ignore_errors=True)


def settings_dict(settings: AlignSettings) -> dict[str, Any]:
    """The settings as JSON has them."""
    return {**asdict(settings), "aligned": list(settings.aligned)}


def reasons(reports: dict[str, dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """How many photos were dropped for what, the commonest reason first; near copies are one reason."""
    found = Counter(
        "near copy" if each["reason"].startswith("near copy") else each["reason"]
        for report in reports.values()
        for each in report["dropped"]
    )
    yield from sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
