"""UniF2aceD-1M (first named UniF2ace-130K): captions and question-answer pairs of FFHQ, CelebA-HQ, CelebV-HQ faces.

Built from the published description (one caption an image, about 7.7 question-answer pairs, splits with a test
set); never checked against the download, so it takes what such sets usually look like: Parquet, JSON and JSONL
files, captions and questions apart or together, images embedded (Parquet) or in folders beside. Fields that are
missing are missing in the result. A hub id is fetched only when the user names it as the source.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from unif2ace_core.data.importers.base import Reader, Row, Texts
from unif2ace_core.data.importers.files import IMAGES, Files, Stamp, file_stamp, open_files
from unif2ace_core.data.importers.mapping import LabelMap, load_mapping
from unif2ace_core.data.importers.splits import Splits, split_name
from unif2ace_core.data.importers.stores import Item, ParquetStore, Store, open_store
from unif2ace_core.data.importers.tables import cell_text
from unif2ace_core.errors import UserError

logger = logging.getLogger(__name__)
HUB_ID = "tulvgengenr/UniF2aceD-1M"
_IMAGE = ("image", "image_path", "img", "img_path", "file_name", "filename", "file", "path", "image_id", "id")
_CAPTION = ("caption", "captions", "text", "description")
_PAIRS = ("vqa", "vqas", "qa", "qas", "qa_pairs", "conversations", "messages", "questions")
_NESTED = ("attributes", "attribute", "labels")
_SPLIT = re.compile(r"(?<![a-z])(train|valid|validation|val|test)(?![a-z])")


class UniF2aceD(Reader):
    """A local copy (or, by its hub id, a fetched one); an image is one row however many files speak of it."""

    def __init__(self, source: Path, mapping: Path | None, splits: Splits) -> None:
        self.root = _local(source)
        labels = load_mapping(mapping) if mapping else LabelMap()
        folder = self.root if self.root.is_dir() else self.root.parent
        paths = _data_files(self.root)
        self.names = [path.relative_to(folder).as_posix() for path in paths]
        self.stores: list[Store] = [open_store(path, _IMAGE) for path in paths]
        self.embedded = [store.embedded() if isinstance(store, ParquetStore) else None for store in self.stores]
        super().__init__("unif2aced", _images(folder, any(self.embedded)), labels, splits)

    def _index(self) -> list[Row]:
        references, splits = self._references()
        find = _Finder(self.images)
        rows, missing = [], []
        for name, refs in references.items():
            inside = next((r for r in refs.split() if self.embedded[int(r.partition(":")[0])]), None)
            path = f"row {inside}" if inside else find(name)
            if path is None:
                missing.append(name)
            else:
                rows.append(Row(name, path, splits.get(name, ""), None, refs))
        self._report(missing, rows)
        return rows

    def stamps(self) -> Iterator[Stamp]:
        """Of the files of items, and of the images beside them."""
        yield from (file_stamp(store.path) for store in self.stores)
        yield from self.images.stamps(row.path for row in self.rows() if not row.path.startswith("row "))

    def _references(self) -> tuple[dict[str, str], dict[str, str]]:
        """Image -> where its items are, as FILE:REFERENCE texts; image -> its split."""
        references, splits = dict[str, str](), dict[str, str]()
        for number, store in enumerate(self.stores):
            of_file, nameless = _SPLIT.search(self.names[number].lower()), 0
            for reference, item in store.items():
                name = _image_name(item) or (f"{number}-{reference}" if self.embedded[number] else "")
                nameless += not name
                if name:
                    # blanks part references, and only names that stand outside an item can hold one
                    mark = f"{number}:{reference}".replace(" ", "%20")
                    references[name] = f"{references[name]} {mark}" if name in references else mark
                    _note_split(splits, name, str(item.get("split") or (of_file[0] if of_file else "")))
            if nameless:
                logger.warning("%s: %d items name no image and are left out", self.names[number], nameless)
        return references, splits

    def _report(self, missing: list[str], rows: list[Row]) -> None:
        if not rows and not missing:
            raise UserError(f"no item in {self.root} names an image (looked for {', '.join(_IMAGE[:4])}, ...)")
        if not rows:
            where = f"{missing[0]!r} and {len(missing) - 1} more"
            raise UserError(f"images {where} are not in {self.root}; put them there under paths that end so")
        if missing:
            logger.warning("%s: %d images are not there and are left out", self.root, len(missing))

    def _items(self, row: Row) -> Iterator[Item]:
        for mark in row.cells.split():
            number, _, reference = mark.replace("%20", " ").partition(":")
            yield self.stores[int(number)].item(reference)

    def _cells(self, row: Row) -> Mapping[str, str]:
        cells: dict[str, str] = {}
        for item in self._items(row):
            nested = [item[name] for name in _NESTED if isinstance(item.get(name), dict)]
            for part in (item, *nested):
                texts = {k: cell_text(v) for k, v in part.items() if isinstance(v, str | int | float)}
                cells |= {name: text for name, text in texts.items() if text}
        return cells

    def _image(self, row: Row) -> bytes:
        if not row.path.startswith("row "):
            return super()._image(row)
        number, _, reference = row.path.removeprefix("row ").partition(":")
        item = self.stores[int(number)].item(reference)
        content = item[self.embedded[int(number)] or ""]
        if not content or not content.get("bytes"):
            raise UserError(f"row {reference} of {self.names[int(number)]} has no image bytes; fetch it again")
        return content["bytes"]

    def _texts(self, row: Row) -> Texts:
        captions, questions = dict[str, None](), dict[tuple[str, str], None]()
        for item in self._items(row):
            captions |= dict.fromkeys(_captions(item))
            questions |= dict.fromkeys(_questions(item))
        return tuple(captions), tuple(questions)


class _Finder:
    """Finds an image by the end of its path, with or without the suffix.

    A name with a folder must fit with the folder: FFHQ and CelebA-HQ count their images alike, and a caption
    of the one must not meet a face of the other.
    """

    def __init__(self, images: Files) -> None:
        self.names = set(images.names())
        self.ends: dict[str, list[str]] = {}
        for name in sorted(self.names):
            path = PurePosixPath(name)
            for end in {path.name, path.stem}:
                self.ends.setdefault(end, []).append(name)

    def __call__(self, name: str) -> str | None:
        if name in self.names:
            return name
        parts = [part for part in name.split("/") if part]
        found = self.ends.get(parts[-1], []) if parts else []
        if len(parts) > 1:
            found = [path for path in found if PurePosixPath(path).parent.name == parts[-2]]
        for size in range(3, len(parts) + 1):  # further folders decide between several
            folder = "/" + "/".join(parts[-size:-1])
            found = [path for path in found if f"/{PurePosixPath(path).parent}".endswith(folder)] or found
        if len(found) > 1:
            raise UserError(f"duplicate name: {name!r} fits {found[0]} and {found[1]}; keep one of them")
        return found[0] if found else None


def _note_split(splits: dict[str, str], name: str, text: str) -> None:
    given = split_name(text, name)
    if given and splits.setdefault(name, given) != given:
        raise UserError(f"image {name} is in {splits[name]} and {given}; keep an image in one split")


# --- Fields ----------------------------------------------------------------------------------------


def _image_name(item: Item) -> str:
    """The image that an item speaks of, with forward slashes; "" where it names none."""
    for key in _IMAGE:
        value = item.get(key)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict):
            value = value.get("path")
        if isinstance(value, int | str) and value != "":
            return str(value).replace("\\", "/").removeprefix("./")
    return ""


def _captions(item: Item) -> list[str]:
    value: Any = next((item[key] for key in _CAPTION if item.get(key)), [])
    return [text.strip() for text in ([value] if isinstance(value, str) else value) if isinstance(text, str)]


def _questions(item: Item) -> Iterator[tuple[str, str]]:
    """Question-answer pairs in any of the usual forms."""
    if isinstance(item.get("question"), str) and "answer" in item:
        yield from _pair(item["question"], item["answer"])
    for key in _PAIRS:
        value = item.get(key) or item.get(key.upper())
        if isinstance(value, str) and value.startswith("["):
            value = json.loads(value)
        if isinstance(value, list):
            answers = item.get("answers")
            if isinstance(answers, list) and all(isinstance(text, str) for text in value):
                value = list(zip(value, answers))
            yield from _listed(value)


def _listed(items: list[Any]) -> Iterator[tuple[str, str]]:
    asked = ""
    for entry in items:
        if isinstance(entry, list | tuple) and len(entry) == 2:
            yield from _pair(*entry)
        elif isinstance(entry, dict):
            lower = {str(key).lower(): value for key, value in entry.items()}
            speaker, text = lower.get("from", lower.get("role")), lower.get("value", lower.get("content", ""))
            if speaker in ("human", "user"):
                asked = str(text)
            elif speaker in ("gpt", "assistant") and asked:
                yield from _pair(asked, text)
                asked = ""
            else:
                yield from _pair(lower.get("question", lower.get("q")), lower.get("answer", lower.get("a")))


def _pair(question: Any, answer: Any) -> Iterator[tuple[str, str]]:
    if isinstance(question, str) and isinstance(answer, str):
        asked = question.replace("<image>", "").strip()
        if asked and answer.strip():
            yield asked, answer.strip()


# --- Files -----------------------------------------------------------------------------------------


def _data_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    found = sorted(path for suffix in ("parquet", "json", "jsonl") for path in root.rglob(f"*.{suffix}"))
    skipped = ("dataset_info", "dataset_infos", "state", "config")
    found = [path for path in found if path.stem not in skipped and not _hidden(path.relative_to(root))]
    if not found:
        raise UserError(f"no Parquet, JSON or JSONL file in {root}; name the folder of a downloaded {HUB_ID}")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _images(folder: Path, embedded: bool) -> Files:
    """The images beside the texts; none are needed where the Parquet files hold them."""
    try:
        return open_files(folder, IMAGES)
    except UserError:
        if embedded:
            return Files(folder)
        raise


def _local(source: Path) -> Path:
    """A path as it is; what is none but looks like a hub id is fetched."""
    if source.exists():
        return source
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source.as_posix()):
        raise UserError(f"{source} does not exist; name a downloaded folder or the hub id {HUB_ID}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source.as_posix(), repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"hub data set {source} cannot be fetched ({reason}); check the id and the network") from error
