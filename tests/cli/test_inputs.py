"""Pictures of every kind: a sensible RGB image, or one line that names the file and the remedy."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from unif2ace_cli import inputs
from unif2ace_core.errors import UserError


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def opened(tmp_path):
    """Opens bytes as a picture file."""

    def read(data, name="x.png"):
        (tmp_path / name).write_bytes(data)
        return inputs.open_image(str(tmp_path / name))

    return read


@pytest.fixture
def refused(opened):
    """The one-line complaint about bytes."""

    def read(data, name="x.png"):
        with pytest.raises(UserError) as caught:
            opened(data, name)
        message = str(caught.value)
        assert name in message and ";" in message and "\n" not in message and len(message) < 400
        return message

    return read


def gradient(size=(64, 48)):
    row = np.linspace(0, 255, size[0]).astype(np.uint8)
    return Image.fromarray(np.tile(row, (size[1], 1))).convert("RGB")


def bomb():
    """A PNG of 30,000 x 30,000 black pixels in a few kilobytes."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (30_000 // 8 + 1) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_text_is_not_an_image(refused):
    assert "not an image" in refused(b"hello, I am no picture\n" * 9, "letter.jpg")


def test_script_formats_are_not_opened(refused):
    assert "not an image" in refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n", "x.eps")


def test_empty_file(refused):
    assert "0 bytes" in refused(b"")


def test_git_lfs_pointer(refused):
    assert "git lfs pull" in refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_truncated_image(refused, kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    assert "damaged" in (message := refused(data[: len(data) * 2 // 3])) or "not an image" in message


def test_decompression_bomb(refused):
    assert "bomb" in refused(bomb())


def test_decompression_bomb_in_a_text_chunk(refused):
    info = __import__("PIL.PngImagePlugin").PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 90_000_000, zip=True)
    assert "damaged" in refused(encoded(gradient(), pnginfo=info))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (15, 15)])
def test_too_small_image(refused, size):
    message = refused(encoded(Image.new("RGB", size)))
    assert f"{size[0]} x {size[1]} pixels" in message and "too small" in message


def test_animated_gif_gives_its_first_frame(opened):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    picture = opened(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x.gif")
    assert picture.mode == "RGB" and picture.getpixel((5, 5)) == (255, 0, 0)


def test_cmyk_becomes_rgb(opened):
    picture = opened(encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95), "x.jpg")
    red, green, blue = picture.getpixel((5, 5))
    assert picture.mode == "RGB" and red > 200 and green < 60 and blue < 60


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(opened, kind):
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (32, 1))
    picture = opened(encoded(Image.fromarray(ramp), kind))
    values = np.asarray(picture)[0, :, 0].astype(int)
    assert picture.mode == "RGB" and abs(values - np.arange(256)).max() <= 1


def test_32_bit_and_float_grey_are_scaled(opened):
    deep = np.full((32, 32), 32768, np.int32)
    assert opened(encoded(Image.fromarray(deep), "TIFF")).getpixel((0, 0)) == (128, 128, 128)
    unit = np.full((32, 32), 0.5, np.float32)
    assert opened(encoded(Image.fromarray(unit), "TIFF")).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_white(opened, mode):
    picture = opened(encoded(Image.new(mode, (32, 32), 0)))
    assert picture.mode == "RGB" and picture.getpixel((3, 3)) == (255, 255, 255)


def test_transparent_palette_is_white(opened):
    picture = Image.new("P", (32, 32), 1)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    assert opened(encoded(picture)).getpixel((3, 3)) == (0, 255, 0)
    assert opened(encoded(picture, transparency=1)).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(opened, orientation):
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("white", (0, 0, 24, 16))
    back = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
            7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    stored = upright
    if orientation in back:
        stored = upright.transpose(getattr(Image.Transpose, back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = opened(encoded(stored, exif=exif))
    assert picture.size == (48, 32)
    assert picture.getpixel((3, 3)) == (255, 255, 255) and picture.getpixel((45, 29)) == (0, 0, 0)


def test_broken_exif_is_ignored(opened):
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 40)
    assert opened(data, "x.jpg").size == (64, 48)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_png_mode_becomes_rgb(opened, mode):
    assert opened(encoded(Image.new(mode, (20, 30)))).mode == "RGB"


def test_missing_file_folder_pipe_and_absurd_names(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for name in (str(tmp_path / "gone.png"), str(tmp_path), str(tmp_path / "pipe.png"), "x" * 5000, "a\0b"):
        with pytest.raises(UserError, match=";"):
            inputs.open_image(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable_file(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(gradient()))
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(UserError, match="permission denied"):
        inputs.open_image(str(tmp_path / "x.png"))


def test_folder_without_images_says_what_it_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"no image in this folder.*\.jpg"):
        inputs.expand(str(tmp_path))
    with pytest.raises(UserError, match="no file matches"):
        inputs.expand(str(tmp_path / "*.jpg"))


def test_existing_name_with_brackets_is_no_pattern(tmp_path):
    (tmp_path / "me [1].png").write_bytes(encoded(gradient()))
    assert inputs.expand(str(tmp_path / "me [1].png")) == [str(tmp_path / "me [1].png")]


@given(st.binary(max_size=400), st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP"]), st.integers(0, 400))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damage_anywhere_gives_a_picture_or_a_user_error(damage, kind, place):
    data = encoded(gradient((32, 32)), kind)
    hurt = data[:place] + damage + data[place + len(damage) :]
    try:
        assert inputs.decode(hurt, "x").mode == "RGB"
    except UserError as error:
        assert "\n" not in str(error)


@given(st.text())
def test_clean_text_is_one_line_of_valid_unicode(text):
    clean = inputs.clean_text(text)
    assert clean == inputs.clean_text(clean) == clean.strip()
    clean.encode("utf-8")
    assert not any(c in clean for c in "\n\r\t\0\x1b")
