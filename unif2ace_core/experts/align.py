"""Brings a face to the training frame: geometry only, PIL and numpy, no network.

A frame is a square on the photo, possibly tilted. Its crop has the alignment of CelebA-HQ and FFHQ:

        +--------------------+
        |                    |      eyes 25% of the width apart,
        |      o      o      | 48%  at 48% of the height,
        |         >          |      centred horizontally
        |       `---'        |
        +--------------------+

Coordinates are continuous pixels: x to the right, y down, the middle of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

EYE_WIDTH = 0.25  # distance of the eyes in a crop, as a fraction of its width
EYE_HEIGHT = 0.48  # height of the eye line in a crop, as a fraction of its height
# A head turned by yaw shows its eyes cos(yaw) closer together while the nose moves along the eye line by
# an amount proportional to sin(yaw). Restoring the LFW (and UTKFace) median eye distance over five bins of
# nose offset takes factors of 1.3 to 1.7; frontal faces are left unchanged.
NOSE_TO_DEPTH = 1.5


@dataclass(frozen=True)
class Frame:
    """A square region of a photo.

    `cx, cy`: centre in pixels of the source image; `size`: side in pixels; `angle`: radians by which the
    square is turned, positive where the eye on the right of the picture is the lower one.
    """

    cx: float
    cy: float
    size: float
    angle: float = 0.0

    def corners(self) -> np.ndarray:
        """The corners top-left, top-right, bottom-right, bottom-left, `(4, 2)` in source pixels."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        half = self.size / 2
        unit = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
        return unit @ np.array([[cos, sin], [-sin, cos]]) + np.array([self.cx, self.cy])

    def scaled(self, factor: float) -> Frame:
        """The same frame in an image resized by `factor`."""
        return Frame(self.cx * factor, self.cy * factor, self.size * factor, self.angle)

    def enlarged(self, factor: float) -> Frame:
        """A frame of `factor` times the side about the same centre."""
        return Frame(self.cx, self.cy, self.size * factor, self.angle)

    def shifted(self, dx: float, dy: float) -> Frame:
        """The same frame moved by `(dx, dy)` source pixels."""
        return Frame(self.cx + dx, self.cy + dy, self.size, self.angle)

    def compose(self, inner: Frame, pixels: int) -> Frame:
        """`inner` is a frame in the pixels of `crop(image, self, pixels)`; the result is in source pixels."""
        scale = self.size / pixels
        x, y = (inner.cx - pixels / 2) * scale, (inner.cy - pixels / 2) * scale
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        angle = math.remainder(self.angle + inner.angle, 2 * math.pi)
        return Frame(self.cx + x * cos - y * sin, self.cy + x * sin + y * cos, inner.size * scale, angle)


def whole_image(width: float, height: float) -> Frame:
    """The identity frame of an aligned photo: the largest centred square of an image of this size."""
    return Frame(width / 2, height / 2, float(min(width, height)), 0.0)


def frame_from_landmarks(
    left_eye: tuple[float, float], right_eye: tuple[float, float], nose: tuple[float, float] | None = None
) -> Frame:
    """The training frame of a face.

    `left_eye`, `right_eye`: centres of the eyes on the left and right of the picture (viewer's left),
    `nose`: base or tip of the nose; with it, a turned head gets the size of a frontal one.
    Raises `ValueError` if the eyes coincide.
    """
    left, right = np.asarray(left_eye, dtype=float), np.asarray(right_eye, dtype=float)
    distance = float(np.hypot(*(right - left)))
    if not distance > 0:
        raise ValueError(f"the eyes coincide at {tuple(left)}; give two different points")
    along = (right - left) / distance
    down = np.array([-along[1], along[0]])
    middle = (left + right) / 2
    if nose is not None:
        offset = float((np.asarray(nose, dtype=float) - middle) @ along)
        distance = math.hypot(distance, NOSE_TO_DEPTH * offset)
    size = distance / EYE_WIDTH
    centre = middle + down * (0.5 - EYE_HEIGHT) * size
    return Frame(float(centre[0]), float(centre[1]), size, math.atan2(along[1], along[0]))


def crop(image: Image.Image, frame: Frame, pixels: int = 128) -> Image.Image:
    """Cuts `frame` out of `image` as a square of `pixels` x `pixels`, antialiased, in the mode of `image`.

    Where the frame leaves the image its content is mirrored, ever more blurred with the distance.
    """
    if not (math.isfinite(frame.size) and frame.size > 0 and pixels > 0):
        raise ValueError(f"frame size {frame.size} and pixels {pixels} must be positive")
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    low, high = frame.corners().min(0), frame.corners().max(0)
    inside = bool((low >= 0).all() and high[0] <= image.width and high[1] <= image.height)
    if frame.angle == 0 and inside:
        return image.resize((pixels, pixels), Image.Resampling.LANCZOS, box=(*low, *high), reducing_gap=3.0)
    image, frame = _region(image, frame, pixels)
    return _warp(image, frame, pixels)


def _region(image: Image.Image, frame: Frame, pixels: int) -> tuple[Image.Image, Frame]:
    """The part of the image that the frame covers, shrunk to at most twice the pixels needed, padded."""
    margin = 2 * max(1.0, frame.size / pixels) + 2
    low, high = frame.corners().min(0) - margin, frame.corners().max(0) + margin
    limit = np.array([image.width, image.height])
    x0, y0 = np.floor(np.clip(low, 0, limit - 1)).astype(int).tolist()
    x1, y1 = np.ceil(np.clip(high, np.array([x0, y0]) + 1, limit)).astype(int).tolist()
    factor = min(1.0, 2 * pixels / frame.size)
    width, height = max(1, round((x1 - x0) * factor)), max(1, round((y1 - y0) * factor))
    part = image.resize((width, height), Image.Resampling.BOX, box=(x0, y0, x1, y1), reducing_gap=3.0)
    factor = min(factor, max(width / (x1 - x0), height / (y1 - y0)))
    pads = [max(0, math.ceil(v * factor)) for v in (x0 - low[0], y0 - low[1], high[0] - x1, high[1] - y1)]
    moved = frame.shifted(-x0, -y0).scaled(factor)
    return _pad(part, pads), moved.shifted(pads[0], pads[1])


def _pad(image: Image.Image, pads: list[int]) -> Image.Image:
    """Mirrors the image outwards by `pads` (left, top, right, bottom) and blurs what was added."""
    if not any(pads):
        return image
    left, top, right, bottom = pads
    array = np.asarray(image)
    width = ((top, bottom), (left, right)) + ((0, 0),) * (array.ndim - 2)
    padded = Image.fromarray(np.pad(array, width, mode="symmetric"))
    radius = max(1.0, max(pads) / 12)
    y = np.arange(padded.height)[:, None]
    x = np.arange(padded.width)[None, :]
    away_x = np.maximum(left - x, x - (left + image.width - 1))
    away_y = np.maximum(top - y, y - (top + image.height - 1))
    share = np.clip(np.maximum(away_x, away_y) / (2 * radius), 0, 1)
    mask = Image.fromarray((255 * share).astype(np.uint8))
    return Image.composite(padded.filter(ImageFilter.GaussianBlur(radius)), padded, mask)


def _warp(image: Image.Image, frame: Frame, pixels: int) -> Image.Image:
    """Resamples `frame` bicubically, at twice the resolution where the image has it, then averages."""
    over = 2 if frame.size > pixels * 1.05 else 1
    side = pixels * over
    step = frame.size / side
    cos, sin = math.cos(frame.angle) * step, math.sin(frame.angle) * step
    x, y = frame.corners()[0]
    affine = (cos, -sin, x, sin, cos, y)
    out = image.transform((side, side), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    return out.reduce(over) if over > 1 else out


@dataclass(frozen=True)
class FrameTable:
    """Frames of the photos of one landmark file, keyed by `(source, file)`."""

    frames: dict[tuple[str, str], Frame]
    fallback: dict[str, Frame]  # median frame of a source, for photos the landmark detector missed

    def frame(self, source: str, file: str, width: int, height: int) -> Frame:
        """The frame of a photo: by landmarks, else its source's median frame, else the whole image.

        Sources without landmarks (`celebahq`, `ffhq`) are aligned already, so the whole image is right.
        """
        found = self.frames.get((source, file))
        return found or self.fallback.get(source) or whole_image(width, height)


@lru_cache(maxsize=2)
def read_frames(data: Path) -> FrameTable:
    """Reads `landmarks.npz` in the folder `data`; without it every photo counts as aligned.

    Per source S it holds `S_file (N,)`, `S_hit (N,)` (0: the detector missed) and `S_points (N, 5, 2)`, the
    corners of the right eye in the picture, of the left eye, and the base of the nose, in pixels.
    """
    path = Path(data) / "landmarks.npz"
    frames: dict[tuple[str, str], Frame] = {}
    fallback: dict[str, Frame] = {}
    if not path.exists():
        return FrameTable(frames, fallback)
    with np.load(path) as table:
        for source in sorted(key[: -len("_file")] for key in table.files if key.endswith("_file")):
            points = table[f"{source}_points"].astype(float)
            found: list[Frame] = []
            for file, face, hit in zip(table[f"{source}_file"], points, table[f"{source}_hit"], strict=True):
                if hit:
                    found.append(frame_of_points(face))
                    frames[source, str(file)] = found[-1]
            if found:
                values = np.median([[f.cx, f.cy, f.size] for f in found], axis=0)
                fallback[source] = Frame(*(float(v) for v in values))
    return FrameTable(frames, fallback)


def frame_of_points(points: np.ndarray) -> Frame:
    """`points` `(5, 2)`: two corners of the right eye in the picture, two of the left one, nose."""
    points = points + 0.5  # the detector counts from the middle of the first pixel
    right, left, nose = points[0:2].mean(0), points[2:4].mean(0), points[4]
    return frame_from_landmarks(
        (float(left[0]), float(left[1])), (float(right[0]), float(right[1])), (float(nose[0]), float(nose[1]))
    )
