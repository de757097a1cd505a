"""`data encode`: columns that training takes in place of the encoders, whoever made them and however often.

pytest tests/data/test_encode_stage.py
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import factory_toys as toys
import numpy as np
import pytest
import torch

from unif2ace_core.data import shards
from unif2ace_core.data.sets import SetRecords
from unif2ace_core.data.shards import Share, following, read_shard, run_stage, shards_of, write_shard
from unif2ace_core.data.stages.encode import encode_jobs, encode_settings
from unif2ace_core.data.stages.encode import stored as stored_rows
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipConfig, ClipEncoder
from unif2ace_core.experts.face import FaceConfig, FaceEncoder
from unif2ace_core.tokens.codec import Codec, CodecConfig
from unif2ace_core.train import encode as train_encode
from unif2ace_core.train.encode import VIEWS, EncodedSet, encoded
from unif2ace_core.weights.parts import load_part, save_part

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small encoders of every kind."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    codec = CodecConfig(pixels=64, bits=5, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8))
    save_part(folder, "codec", Codec(codec), codec)
    clip = ClipConfig(widths=(8, 8, 8, 48), neck=4, embed=8)
    save_part(folder, "clip", ClipEncoder(clip), clip)
    FaceEncoder(FaceConfig(widths=(8, 8, 8), neck=4, dimension=24)).save(folder)
    return folder


def encode(source: Path, output: Path, folder: Path, share: Share | None = None) -> Path:
    kinds = dict.fromkeys(("codes", "clip", "face"), folder)
    stages = following(source, "encode", encode_settings(kinds, 64))
    run_stage(output, stages, encode_jobs(source, kinds, 64), share)
    return output


def of(data: Path, folder: Path) -> EncodedSet:
    return encoded(data, SetRecords(data, "train"), folder, folder, folder)


def same(one: EncodedSet, two: EncodedSet) -> bool:
    return all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for a, b in zip(vars(one).values(), vars(two).values())
        if a is not None
    )


def test_training_takes_what_is_stored_and_it_is_what_it_would_compute(
    aligned_faces: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = encode(aligned_faces, tmp_path / "encoded", parts)
    computed = of(aligned_faces, parts)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(train_encode, "load_encoder", lambda *_: pytest.fail("encoded again"))
    taken = of(stored, parts)
    assert same(taken, computed) and taken.codes.shape[:2] == (10, VIEWS)


def test_training_takes_codes_under_a_decoder_that_learned_on(
    aligned_faces: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = encode(aligned_faces, tmp_path / "encoded", parts)
    learned = shutil.copytree(parts, tmp_path / "learned")
    codec = load_part(learned, "codec", Codec, CodecConfig)
    with torch.no_grad():
        next(codec.decoder.parameters()).add_(1.0)
    save_part(learned, "codec", codec, codec.config)
    monkeypatch.setattr(train_encode, "load_encoder", lambda *_: pytest.fail("encoded again"))
    assert of(stored, learned).codes.shape[:2] == (10, VIEWS)


def test_features_of_photos_of_another_side_are_not_taken(aligned_faces: Path, parts: Path, tmp_path: Path) -> None:
    records = SetRecords(encode(aligned_faces, tmp_path / "encoded", parts), "train")
    made_by = train_encode.encoder_fingerprint("clip", parts)
    assert stored_rows(records, "clip", made_by, 64) is not None
    assert stored_rows(records, "clip", made_by, 128) is None


def test_other_encoders_make_their_own(aligned_faces: Path, parts: Path, tmp_path: Path) -> None:
    stored = encode(aligned_faces, tmp_path / "encoded", parts)
    other = tmp_path / "other"
    torch.manual_seed(1)
    codec = CodecConfig(pixels=64, bits=5, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8))
    save_part(other, "codec", Codec(codec), codec)
    found = encoded(stored, SetRecords(stored, "train"), other, parts, None)
    assert not np.array_equal(found.codes, of(stored, parts).codes)


def test_two_processes_make_the_set_of_one(aligned_faces: Path, parts: Path, tmp_path: Path) -> None:
    one = encode(aligned_faces, tmp_path / "one", parts)
    for index in (1, 0):
        encode(aligned_faces, tmp_path / "two", parts, Share(index, 2))
    assert toys.contents(tmp_path / "two") == toys.contents(one)


def test_a_killed_run_goes_on_to_the_same_bytes(
    aligned_faces: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toys.contents(encode(aligned_faces, tmp_path / "whole", parts))
    written: list[Path] = []

    def killed(path: Path, table: Any) -> None:
        if len(written) == 2:
            path.with_name(f".{path.name}.abc.tmp").write_bytes(b"half")
            raise toys.Killed
        written.append(path)
        write(path, table)

    write = shards.write_shard
    monkeypatch.setattr(shards, "write_shard", killed)
    with pytest.raises(toys.Killed):
        encode(aligned_faces, tmp_path / "again", parts)
    monkeypatch.setattr(shards, "write_shard", write)
    assert toys.contents(encode(aligned_faces, tmp_path / "again", parts)) == whole


def test_rows_keep_their_photos_and_lists_have_one_length(aligned_faces: Path, parts: Path, tmp_path: Path) -> None:
    for before, after in zip(
        shards_of(aligned_faces), shards_of(encode(aligned_faces, tmp_path / "encoded", parts)), strict=True
    ):
        old, new = read_shard(before.path), read_shard(after.path)
        assert new.select(old.column_names) == old
        assert str(new.schema.field("codes").type) == "fixed_size_list<element: int16>[32]"
        assert str(new.schema.field("face").type).startswith("fixed_size_list<element: halffloat>")


def test_photos_that_are_not_aligned_are_refused(made_up_faces: Path, parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not aligned"):
        encode(toys.imported(made_up_faces, tmp_path / "raw"), tmp_path / "encoded", parts)


def test_an_empty_shard_has_the_types_of_the_others(aligned_faces: Path, parts: Path, tmp_path: Path) -> None:
    thin = toys.captioned(aligned_faces, tmp_path / "thin")
    first, *rest = shards_of(thin)
    write_shard(first.path, read_shard(first.path).slice(0, 0))
    schemas = [read_shard(shard.path).schema for shard in shards_of(encode(thin, tmp_path / "encoded", parts))]
    assert len(rest) == len(schemas) - 1 and all(schema == schemas[0] for schema in schemas)
