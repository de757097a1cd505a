"""Files of a source: one that changed under its name is noticed, and one that cannot be read is said so in plain words.

pytest tests/data/test_importer_files.py
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unif2ace_core.data.importers import open_importer, source_digest
from unif2ace_core.data.importers.base import Row
from unif2ace_core.data.importers.files import UnreadableImage, check_image
from unif2ace_core.data.stages.imports import import_jobs


def picture(shade: int = 0, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 40, 90)).save(stream, kind)
    return stream.getvalue()


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def source(folder: Path, kind: str) -> Path:
    """A source of a kind; `changed` changes one file of it."""
    folder.mkdir()
    if kind == "packed":
        (folder / "mine.csv").write_text("file,Male\na.png,1\n")
        zip_of(folder / "mine.zip", {"a.png": picture()})
    elif kind == "zip":
        zip_of(folder / "faces.zip", {"a.png": picture()})
    else:
        (folder / "00000.png").write_bytes(picture())
        if kind == "ffhq":
            (folder / "00000.json").write_text(json.dumps([{"faceAttributes": {"age": 30.0}}]))
        if kind == "unif2aced":
            (folder / "train.json").write_text(json.dumps([{"image": "00000.png", "caption": "A man."}]))
    return folder


def changed(folder: Path, kind: str) -> None:
    """Another content under the same name and, where no image is compressed, of the same size."""
    if kind in ("packed", "zip"):
        zip_of(folder / ("mine.zip" if kind == "packed" else "faces.zip"), {"a.png": picture(1)})
        return
    path = folder / {"ffhq": "00000.json", "unif2aced": "train.json"}.get(kind, "00000.png")
    old = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes().replace(b"30", b"31").replace(b"man", b"boy"))
    os.utime(path, ns=(old, old + 1_000_000_000))


def digest_of(folder: Path, kind: str) -> str:
    return source_digest(open_importer("folder" if kind == "zip" else kind, folder))


@pytest.mark.parametrize("kind", ["folder", "zip", "packed", "ffhq", "unif2aced"])
def test_a_copied_source_has_the_same_digest_and_a_changed_one_another(tmp_path: Path, kind: str) -> None:
    given = source(tmp_path / "faces", kind)
    first = digest_of(given, kind)
    shutil.copytree(given, tmp_path / "elsewhere" / "faces")
    assert digest_of(tmp_path / "elsewhere" / "faces", kind) == first == digest_of(given, kind)
    changed(given, kind)
    assert digest_of(given, kind) != first


def test_an_import_does_not_go_on_with_photos_that_changed(command_line: Callable[..., Any], tmp_path: Path) -> None:
    given = source(tmp_path / "faces", "folder")
    for _ in range(2):
        assert command_line("data", "import", "folder", str(given), "-o", "raw").code == 0
    changed(given, "folder")
    done = command_line("data", "import", "folder", str(given), "-o", "raw")
    assert done.code == 1 and "was begun otherwise (import: input" in done.error


def test_a_digest_needs_no_memory_of_the_whole_index() -> None:
    class Many:
        def rows(self) -> list[Row]:
            return [row] * 20_000

        def stamps(self) -> list[tuple[int, ...]]:
            return []

    row = Row("a" * 100, "b" * 100, "train")
    tracemalloc.start()
    source_digest(Many())  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20  # as one text they are 5 MB


@pytest.mark.parametrize(
    "content", [b"no image", b"", picture()[:40], picture(0, "JPEG")[:200], picture(0, "WEBP")[:30]]
)
def test_a_reason_is_the_same_in_every_run(content: bytes) -> None:
    said = []
    for _ in range(2):
        with pytest.raises(UnreadableImage) as caught:
            check_image(content, "a.png")
        said.append(str(caught.value))
    assert said[0] == said[1] and not re.search("0x|BytesIO", said[0])
    if content == b"no image":
        assert said[0] == "image a.png cannot be read (not an image); fetch it again or take it out"


def test_a_large_image_is_taken_in_silence_and_a_huge_one_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow warns beyond it, and refuses beyond twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_image(picture(), "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(UnreadableImage, match=r"image a\.png has too many pixels; make it smaller"):
        check_image(picture(), "a.png")


def test_a_link_that_leads_nowhere_is_left_out_and_named(tmp_path: Path) -> None:
    given = source(tmp_path / "faces", "folder")
    (given / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (given / "loop.png").symlink_to(given / "loop.png")
    (given / "other.png").symlink_to(given / "00000.png")
    importer = open_importer("folder", given, val_share=0)
    assert len(source_digest(importer)) == 16
    (job,) = import_jobs(importer)
    made = job.make()
    assert made.table["file"].to_pylist() == ["00000.png", "other.png"]
    assert made.report["unreadable"] == [
        {"file": name, "reason": f"{name} is a link that leads nowhere; mend it or take it out"}
        for name in ("gone.png", "loop.png")
    ]
