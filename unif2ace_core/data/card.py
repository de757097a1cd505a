"""The card of a data set: what is in it and how it was made, with the lines by which the hub finds its splits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unif2ace_core.data.shards import read_shard, read_stages, shards_of, unreadable
from unif2ace_core.weights.store import write_text_atomic

ABOUT = {
    "image": "the photo",
    "source, file": "which photo it is",
    "split": "train, val or test",
    "person, age": "a number for photos of one person, and years; null where unknown",
    "labels": "values of the 46 categories; null is unknown, never no",
    "probabilities": "of labels that a model filled in; null for the source's own",
    "landmarks": "corners of the eyes and base of the nose in pixels; null where unknown",
    "source_captions, source_questions": "texts that the source brought",
    "phash": "difference hash of the crop",
    "captions": "texts by style, each with the labels that it states",
    "questions": "questions with answers and the labels they rest on; turns of a dialogue share its number",
    "codes": "image codes of the photo and of its mirror image, one after the other",
    "clip": "features of the CLIP expert, of the photo and of its mirror image",
    "face": "features of the face expert, likewise",
}


TARS = """WebDataset tars: KEY.webp (or .jpg, .png, .gif) is the image, KEY.json has the other columns. There "" and -1
are unknown, and empty lists are left out; so are codes and features of encoders, which `unif2ace data encode` makes
again. `unif2ace data import webdataset` reads the tars back.
"""


def write_card(directory: Path) -> None:
    """Write README.md of a data set whose shards are all there."""
    write_text_atomic(directory / "README.md", card(directory))


def card(directory: Path, export: Path | None = None, left_out: Sequence[str] = ()) -> str:
    """The card's text, of a set or of its export to a folder of tars without some columns; images are not read."""
    rows: Counter[tuple[str, str]] = Counter()
    columns: list[str] = []
    for shard in shards_of(directory):
        table = read_shard(shard.path, ["split", "source"])
        rows.update(zip(table["split"].to_pylist(), table["source"].to_pylist()))
        columns = columns or [name for name in columns_of(shard.path) if name not in left_out]
    splits = sorted({split for split, _ in rows})
    parts = [front_matter(splits, "tar" if export else "parquet"), "# Faces\n", "Made by `unif2ace data`.\n"]
    parts += [TARS] if export else []
    parts += ["| split | source | photos |", "|---|---|---|"]
    parts += [f"| {split} | {source} | {count:,} |" for (split, source), count in sorted(rows.items())]
    parts += ["\n## Columns\n"]
    parts += [f"- `{name}`: {text}" for name, text in ABOUT.items() if name.partition(",")[0] in columns]
    parts += ["\n## Stages\n"]
    parts += [f"{number}. {line}" for number, line in enumerate(map(stage_line, read_stages(export or directory)), 1)]
    parts += [
        "\n## Terms\n",
        "Photos of real people. The terms of each source apply to its photos and labels, and to what is made of them;",
        "read them before you pass this set on. Not for identifying people or deciding about them.\n",
    ]
    return "\n".join(parts)


def columns_of(path: Path) -> list[str]:
    """Names of a shard's columns. Raises `UserError` where it is damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return list(parquet.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error


def front_matter(splits: list[str], suffix: str = "parquet") -> str:
    """The YAML by which the hub and HF `datasets` find the files of each split."""
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.{suffix}\n" for split in splits)
    return f"---\npretty_name: Faces\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"


def stage_line(stage: dict) -> str:
    """One stage with its settings."""
    settings = {name: value for name, value in stage.items() if name != "stage"}
    return f"`{stage['stage']}` {json.dumps(settings)}"
