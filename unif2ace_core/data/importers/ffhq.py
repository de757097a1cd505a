"""FFHQ with the `ffhq-features` JSON of each image: age, gender, smile, glasses, hair, emotion and pose by a machine.

Images and JSON files are found by their number (`00000.png`, `00000.json`) at any depth of the folder, or in
zips. An image without a JSON, or with one that saw no face, is imported without labels.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from unif2ace_core.data.importers.base import Reader, Row
from unif2ace_core.data.importers.files import Files, Stamp, by_base, open_files
from unif2ace_core.data.importers.mapping import load_mapping
from unif2ace_core.data.importers.splits import Splits
from unif2ace_core.data.importers.tables import cell_text
from unif2ace_core.errors import UserError

logger = logging.getLogger(__name__)
_JSON = {".json"}
# group -> {name in the JSON: column}
_GROUPS: dict[str, dict[str, str]] = {
    "facialHair": {name: name for name in ("moustache", "beard", "sideburns")},
    "emotion": {
        name: name
        for name in ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    },
    "makeup": {"eyeMakeup": "eye_makeup", "lipMakeup": "lip_makeup"},
    "occlusion": {
        "foreheadOccluded": "forehead_occluded", "eyeOccluded": "eye_occluded", "mouthOccluded": "mouth_occluded",
    },
    "headPose": {name: name for name in ("pitch", "roll", "yaw")},
    "hair": {"bald": "bald", "invisible": "hair_invisible"},
}  # fmt: skip


class FFHQ(Reader):
    """FFHQ's images and, one JSON each, what the annotator said."""

    def __init__(self, source: Path, mapping: Path | None, splits: Splits) -> None:
        super().__init__("ffhq", open_files(source), load_mapping(mapping or Path("ffhq")), splits)
        both = source.is_dir() or Files(source, _JSON).any()
        self.features = open_files(source if both else source.parent, _JSON, "ffhq-features JSON file")

    def _index(self) -> list[Row]:
        said = {PurePosixPath(n).stem: n for n in self.features.names() if PurePosixPath(n).stem.isdigit()}
        images = by_base(self.images.names(), self.images.root)
        rows = [Row(name, path, "", None, said.get(PurePosixPath(name).stem, "")) for name, path in images.items()]
        bare = sum(not row.cells for row in rows)
        if bare == len(rows):
            raise UserError(f"no image of {self.images.root} has a JSON of its number in {self.features.root}")
        if bare:
            logger.warning("%s: %d images have no JSON and get no labels", self.images.root, bare)
        return rows

    def stamps(self) -> Iterator[Stamp]:
        """Of the images and of what was said of them."""
        yield from super().stamps()
        yield from self.features.stamps(row.cells for row in self.rows() if row.cells)

    def _cells(self, row: Row) -> Mapping[str, str]:
        if not row.cells:
            return {}
        try:
            return features_row(json.loads(self.features.read(row.cells)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{row.cells} in {self.features.root} cannot be read ({error}); fetch it again") from error


def features_row(content: Any) -> dict[str, str]:
    """The faceAttributes of a features file as columns; what it does not state is no column."""
    faces = content if isinstance(content, list) else [content]
    attributes = faces[0].get("faceAttributes") if faces and faces[0] else None
    return dict(_columns(attributes or {}))


def _columns(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("age", "gender", "smile", "glasses"):
        if attributes.get(name) is not None:
            yield name, _cell(attributes[name])
    for group, names in _GROUPS.items():
        values = attributes.get(group) or {}
        yield from ((column, _cell(values[name])) for name, column in names.items() if values.get(name) is not None)
    for color in (attributes.get("hair") or {}).get("hairColor") or ():
        yield "hair_" + color["color"].lower(), _cell(color["confidence"])
    if attributes.get("accessories") is not None:
        worn = attributes["accessories"]
        yield "accessories", "|".join(f"{item['type']}:{item['confidence']}" for item in worn)


def _cell(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else cell_text(value)
