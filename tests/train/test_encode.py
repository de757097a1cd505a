"""Features of parts of any kind: shapes, what the cache's keys cover, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import expert_toys
import numpy as np
import pytest
import showo_toys
import torch

from unif2ace_core.data import pixels
from unif2ace_core.data.pixels import aligned_pixels, new_array
from unif2ace_core.data.sources import FaceRecord, read_records
from unif2ace_core.errors import UserError
from unif2ace_core.experts.clip import ClipConfig, ClipEncoder, load_clip_expert
from unif2ace_core.experts.face import FaceConfig, FaceEncoder, load_face_expert
from unif2ace_core.experts.insightface_model import make_insightface
from unif2ace_core.experts.open_clip_tower import make_open_clip
from unif2ace_core.tokens.codec import Codec, CodecConfig, to_image_tensor
from unif2ace_core.train import encode
from unif2ace_core.train.encode import VIEWS, EncodedSet, encoded
from unif2ace_core.weights.parts import fingerprint, save_part
from unif2ace_core.weights.resolve import load_codec
from unif2ace_core.weights.showo import codec_sizes, convert_codec
from unif2ace_core.weights.streams import open_checkpoint


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache; experts compute in fp32, so that results can be compared."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(encode, "native_bf16", lambda: False)


@pytest.fixture
def records(made_up_faces: Path) -> list[FaceRecord]:
    return read_records(made_up_faces)[:3]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A small MAGVIT-v2 for 16 pixels, a tower of open_clip, and the face.json of a recognition model."""
    folder = tmp_path / "parts"
    pytest.importorskip("insightface")
    checkpoint = open_checkpoint(showo_toys.save_codec(tmp_path / "magvit"))
    convert_codec(checkpoint, codec_sizes(checkpoint, 4, 32), folder, torch.float16)
    name = expert_toys.architecture(tmp_path / "architectures")
    make_open_clip(name, str(expert_toys.save_clip(tmp_path / "clip.safetensors")), folder)
    expert_toys.forget()
    make_insightface(str(expert_toys.save_recognition(tmp_path / "face.onnx")), folder)
    return folder


@pytest.fixture
def embedded_parts(tmp_path: Path) -> Path:
    """Small parts of the embedded kinds."""
    codec = CodecConfig(pixels=64, bits=5, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8))
    save_part(tmp_path / "own", "codec", Codec(codec), codec)
    clip = ClipConfig(widths=(8, 8, 8, 48), neck=4, embed=8)
    save_part(tmp_path / "own", "clip", ClipEncoder(clip), clip)
    FaceEncoder(FaceConfig(widths=(8, 8, 8), neck=4, dimension=24)).save(tmp_path / "own")
    return tmp_path / "own"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cached(tmp_path: Path, kind: str) -> int:
    """Arrays of a kind in the cache."""
    return len(list((tmp_path / "cache" / "unif2ace").glob(f"{kind}-*.npy")))


def of(data: Path, records: list[FaceRecord], folder: Path) -> EncodedSet:
    return encoded(data, records, folder, folder, folder)


def test_published_parts_give_features_of_their_shapes(
    made_up_faces: Path, records: list[FaceRecord], published: Path
) -> None:
    found = of(made_up_faces, records, published)
    assert (found.codes.shape, found.codes.dtype) == ((3, VIEWS, 16), np.int16) and found.codes.max() < 32
    assert (found.clip.shape, found.clip.dtype) == ((3, VIEWS, 16, 12), np.float16)
    assert found.face is not None and (found.face.shape, found.face.dtype) == ((3, VIEWS, 10), np.float16)


def test_embedded_parts_resize_to_their_own_sides(
    made_up_faces: Path, records: list[FaceRecord], embedded_parts: Path
) -> None:
    found = of(made_up_faces, records, embedded_parts)
    assert found.codes.shape == (3, VIEWS, 16) and found.clip.shape == (3, VIEWS, 17, 48)
    assert found.face is not None and found.face.shape == (3, VIEWS, 24)
    assert encoded(made_up_faces, records, embedded_parts, embedded_parts, None).face is None


def test_rows_are_what_the_model_computes_from_the_photo_and_its_mirror_image(
    made_up_faces: Path, records: list[FaceRecord], published: Path
) -> None:
    found = of(made_up_faces, records, published)
    photos = to_image_tensor(torch.from_numpy(np.array(aligned_pixels(made_up_faces, records, 16))))
    codec, clip, face = load_codec(published), load_clip_expert(published), load_face_expert(published)
    for view, images in enumerate((photos, photos.flip(3))):
        assert np.array_equal(found.codes[:, view], codec.encode(images).numpy())
        assert np.allclose(found.clip[:, view], clip.features(images).tokens.numpy(), atol=2e-3)
        assert found.face is not None and np.allclose(found.face[:, view], face(images).numpy(), atol=2e-3)


def test_a_second_call_opens_what_the_first_one_left(
    made_up_faces: Path, records: list[FaceRecord], published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = of(made_up_faces, records, published)
    monkeypatch.setattr(encode, "load_encoder", lambda *_: pytest.fail("encoded again"))
    assert np.array_equal(of(made_up_faces, records, published).clip, first.clip)


def test_photos_of_the_codecs_side_are_cached_apart(
    made_up_faces: Path, records: list[FaceRecord], published: Path, tmp_path: Path
) -> None:
    small = of(made_up_faces, records, published)
    edit(published / "codec.json", pixels=32)  # the same weights read pictures of any size
    large = of(made_up_faces, records, published)
    assert (small.codes.shape[2], large.codes.shape[2]) == (16, 64)
    assert large.clip.shape == small.clip.shape and not np.array_equal(large.clip, small.clip)
    assert [cached(tmp_path, kind) for kind in ("pixels", "codes", "clip", "face")] == [2, 2, 2, 2]


def test_what_changes_the_features_changes_the_key(
    made_up_faces: Path, records: list[FaceRecord], published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of(made_up_faces, records, published)
    edit(published / "clip.json", mean=[0.5, 0.5, 0.5])  # colours, with the same weights
    of(made_up_faces, records, published)
    assert [cached(tmp_path, kind) for kind in ("codes", "clip", "face")] == [1, 2, 1]
    expert_toys.save_recognition(tmp_path / "face.onnx", dimension=11)  # weights, in the same place
    make_insightface(str(tmp_path / "face.onnx"), published, force=True)
    of(made_up_faces, records, published)
    assert [cached(tmp_path, kind) for kind in ("codes", "clip", "face")] == [1, 2, 2]
    monkeypatch.setattr(encode, "native_bf16", lambda: True)  # codes are computed in fp32 all the same
    of(made_up_faces, records, published)
    assert [cached(tmp_path, kind) for kind in ("codes", "clip", "face")] == [1, 3, 3]


def test_a_decoder_that_learned_on_leaves_the_codes_where_they_are(
    made_up_faces: Path, records: list[FaceRecord], embedded_parts: Path, tmp_path: Path
) -> None:
    of(made_up_faces, records, embedded_parts)
    codec = load_codec(embedded_parts)
    for changed, arrays in ((codec.decoder, 1), (codec, 2)):
        with torch.no_grad():
            next(changed.parameters()).add_(1.0)
        save_part(embedded_parts, "codec", codec, codec.config)
        of(made_up_faces, records, embedded_parts)
        assert cached(tmp_path, "codes") == arrays


def test_a_model_that_was_moved_is_the_same_model(published: Path, tmp_path: Path) -> None:
    before = fingerprint(published, "face")
    shutil.move(tmp_path / "face.onnx", tmp_path / "elsewhere.onnx")
    make_insightface(str(tmp_path / "elsewhere.onnx"), published, force=True)
    assert fingerprint(published, "face") == before


def test_missing_weights_are_named(made_up_faces: Path, records: list[FaceRecord], published: Path) -> None:
    (published / "clip.safetensors").unlink()
    with pytest.raises(UserError, match=r"clip\.safetensors does not exist"):
        of(made_up_faces, records, published)


def test_many_codes_need_wider_numbers(made_up_faces: Path, records: list[FaceRecord], tmp_path: Path) -> None:
    config = CodecConfig(pixels=64, bits=17, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8))
    codec = Codec(config)
    torch.nn.init.constant_(codec.to_bits.bias, 9.0)
    save_part(tmp_path / "own", "codec", codec, config)
    codes = encode.encode_kind("codes", made_up_faces, records, tmp_path / "own", 64)
    assert codes.dtype == np.int32 and codes.max() == 2**17 - 1


def test_a_full_disk_is_named_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(pixels.shutil, "disk_usage", lambda path: usage(10**12, 10**12, 40 * 10**9))
    with pytest.raises(UserError, match=r"needs 61\.3 GB more and its disk has 40\.0 GB; make room"):
        new_array(tmp_path / "clip.npy", (26_000, VIEWS, 576, 1024), np.float16)
    assert not list(tmp_path.iterdir())
