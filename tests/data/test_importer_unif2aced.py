"""Importing UniF2aceD: captions and questions from any usual layout, joined by image, never to the wrong face."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unif2ace_core.data.importers import Imported, Importer, open_importer
from unif2ace_core.errors import UserError


def _picture(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, 40, 90)).save(file, "PNG")
    return file.getvalue()


def _put(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_picture())


def _all(importer: Importer) -> dict[str, Imported]:
    return {row.file: importer.read(row) for row in importer.rows()}


_SAID: dict[str, Any] = {"image": "ffhq/00001.png", "caption": "A smiling wömän."}
_ASKED: dict[str, Any] = {
    "image": "ffhq/00001.png",
    "conversations": [{"from": "human", "value": "<image>\nIs she smiling?"}, {"from": "gpt", "value": "Yes."}],
}


@pytest.mark.parametrize("form", ["list", "lines", "lines.json", "keyed"])
def test_unif2aced_joins_captions_and_questions_of_any_json(tmp_path: Path, form: str) -> None:
    _put(tmp_path, ["images/ffhq/00001.png", "images/celeba/00001.png", "images/celeba/2.png"])
    other = {"image": "celeba/2.png", "question": "Hat?", "answer": "No.", "attributes": {"Wearing_Hat": "no"}}
    items = [*([{"image": f"x/{n}.png", "caption": "ö" * 9} for n in range(3)]), _ASKED, other]
    if form == "keyed":
        said, asked = json.dumps({_SAID["image"]: _SAID["caption"]}), json.dumps({i["image"]: i for i in items})
    elif form == "list":
        said, asked = json.dumps([_SAID], ensure_ascii=False), json.dumps(items, indent=1, ensure_ascii=False)
    else:
        said, asked = json.dumps(_SAID), "\n".join(json.dumps(i, ensure_ascii=False) for i in items)
    suffix = "jsonl" if form == "lines" else "json"
    (tmp_path / f"caption.{suffix}").write_text(said, encoding="utf-8")
    (tmp_path / f"vqa.{suffix}").write_text(asked, encoding="utf-8")
    found = _all(open_importer("unif2aced", tmp_path))  # x/2.png is another picture than celeba/2.png
    assert set(found) == {"ffhq/00001.png", "celeba/2.png"}
    assert found["ffhq/00001.png"].captions == ("A smiling wömän.",)
    assert found["ffhq/00001.png"].questions == (("Is she smiling?", "Yes."),)
    assert found["celeba/2.png"].questions == (("Hat?", "No."),) and not found["celeba/2.png"].captions
    assert dict(found["celeba/2.png"].record.labels) == {"Wearing_Hat": "no"}


@pytest.mark.parametrize(
    "pairs",
    [
        {"vqa": [{"question": "A?", "answer": "a"}, {"Question": "B?", "Answer": "b"}]},
        {"qa_pairs": [["A?", "a"], ["B?", "b"]]},
        {"questions": ["A?", "B?"], "answers": ["a", "b"]},
        {"QA": [{"Q": "A?", "A": "a"}, {"Q": "B?", "A": "b"}, {"Q": "C?"}]},
        {"messages": [{"role": r, "content": t} for r, t in zip(["user", "assistant"] * 2, ["A?", "a", "B?", "b"])]},
        {"vqa": json.dumps([{"question": "A?", "answer": "a"}, {"question": "B?", "answer": "b"}])},
    ],
)
def test_unif2aced_reads_questions_in_any_usual_form(tmp_path: Path, pairs: dict[str, Any]) -> None:
    _put(tmp_path, ["1.png"])
    (tmp_path / "vqa.json").write_text(json.dumps([{"image": "1.png", **pairs}]))
    assert _all(open_importer("unif2aced", tmp_path))["1.png"].questions == (("A?", "a"), ("B?", "b"))


def test_unif2aced_parquet_may_hold_the_images(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {"image": {"bytes": _picture(n), "path": f"{n}.png" if n % 2 else None}, "caption": f"Face {n}."}
        for n in range(300)
    ]
    (tmp_path / "data").mkdir()
    for split, part in (("train", rows[:200]), ("test", rows[200:])):
        table = pyarrow.Table.from_pylist(part)
        parquet.write_table(table, tmp_path / "data" / f"{split}-00000-of-00001.parquet", row_group_size=70)
    importer = pickle.loads(pickle.dumps(open_importer("unif2aced", tmp_path)))
    index = importer.rows()
    assert [row.split for row in index] == ["test"] * 100 + ["train"] * 200
    for place in (0, 1, 99, 250, 100, 299, 150):
        item = importer.read(index[place])
        number = place + 200 if place < 100 else place - 100
        assert item.image == _picture(number) and item.captions == (f"Face {number}.",)


def test_unif2aced_parquet_may_name_the_images(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    _put(tmp_path, ["images/1.png"])
    parquet.write_table(
        pyarrow.Table.from_pylist([{"image_id": "1", "text": "A face.", "Male": 1}]), tmp_path / "a.parquet"
    )
    (item,) = _all(open_importer("unif2aced", tmp_path)).values()
    assert item.captions == ("A face.",) and dict(item.record.labels) == {"Male": "yes"}


def test_unif2aced_says_what_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"does not exist; name a downloaded folder or the hub id tulvgengenr"):
        open_importer("unif2aced", tmp_path / "none")
    with pytest.raises(UserError, match=r"no Parquet, JSON or JSONL file"):
        open_importer("unif2aced", tmp_path)
    path = tmp_path / "caption_test.json"
    path.write_text(json.dumps([{"text": "A face."}]))
    with pytest.raises(UserError, match=r"no images in"):
        open_importer("unif2aced", tmp_path)
    _put(tmp_path, ["1.png", "a/2.png", "b/2.png"])
    with pytest.raises(UserError, match=r"no item in .* names an image"):
        open_importer("unif2aced", tmp_path).rows()
    assert "1 items name no image" in caplog.text
    for content, message in (
        ([{"image": "9.png"}], "images '9.png' and 0 more are not in"),
        ([{"image": "2.png"}], "duplicate name: '2.png' fits a/2.png and b/2.png"),
        ({"data": [{"image": "1.png"}]}, "its rows lie under 'data'"),
        ([{"image": "1.png", "split": "train"}, {"image": "1.png", "split": "val"}], "1.png is in train and val"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            open_importer("unif2aced", tmp_path).rows()
    path.write_text('[{"image": "1.png"}, {"image"')
    with pytest.raises(UserError, match=r"caption_test.json cannot be read"):
        open_importer("unif2aced", tmp_path).rows()
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"a.parquet cannot be read"):
        open_importer("unif2aced", tmp_path)


def test_unif2aced_streams_items_over_piece_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unif2ace_core.data.importers.stores._CHUNK", 7)
    _put(tmp_path, [f"{n}.png" for n in range(5)])
    items = [{"image": f"{n}.png", "caption": f"Fäce {n}, [so] {{it}} is."} for n in range(5)]
    (tmp_path / "c.json").write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    found = _all(open_importer("unif2aced", tmp_path))
    assert [found[f"{n}.png"].captions for n in range(5)] == [(item["caption"],) for item in items]


def test_hub_ids_are_fetched_only_when_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    _put(tmp_path, ["1.png"])
    (tmp_path / "c.json").write_text(json.dumps([{"image": "1.png", "caption": "A face."}]))

    def fetch(name: str, repo_type: str) -> str:
        asked.append((name, repo_type))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    open_importer("unif2aced", tmp_path).rows()
    assert asked == []
    assert len(open_importer("unif2aced", Path("some/set")).rows()) == 1 and asked == [("some/set", "dataset")]
