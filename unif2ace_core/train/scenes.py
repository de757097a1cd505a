"""Synthetic photos for the face locator: known faces pasted on made-up surroundings.

    background (noise, shapes, stripes, lettering, photo corners, scrambled or blurred photos, mixtures)
      + up to three layers: a photo under a mask (hard square, soft square, soft oval, or drawn out to the
        canvas's border), turned, scaled and recoloured; some photos have their face erased and count as none
      + colour, greyscale, blur, noise, bars

Everything is a batch of tensors, `(B, 3, S, S)` in [0, 1], and every draw comes from one generator, so that
scenes cost less than the training step they feed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LAYERS = 3


@dataclass
class FaceBank:
    """Photos `(N, 3, P, P)` uint8 and their frames `(N, 4)`: cx, cy, size in sides of the photo, angle.

    `aligned (N,)` marks photos whose corners are known to hold no face (CelebA-HQ, FFHQ).
    """

    photos: Tensor
    frames: Tensor
    aligned: Tensor


@dataclass
class Scenes:
    """Images `(B, 3, S, S)` in [-1, 1] and frames `(B, L, 4)`: cx, cy, size in pixels, angle in radians.

    `present (B, L)` tells which frames are there.
    """

    images: Tensor
    frames: Tensor
    present: Tensor


class Draw:
    """Short names for draws from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform values of the given shape."""
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values."""
        return torch.randn(*shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """One integer in `low .. high - 1`."""
        return int(torch.randint(low, high, (), generator=self.generator))

    def index(self, high: int, count: int) -> Tensor:
        """`count` integers below `high`."""
        return torch.randint(high, (count,), generator=self.generator)

    def chance(self, probability: float, count: int) -> Tensor:
        """`count` booleans."""
        return torch.rand(count, generator=self.generator) < probability


def _column(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return values[:, None, None, None]


def _grow(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


def _axes(size: int) -> tuple[Tensor, Tensor]:
    """x and y of the pixels in 0..1, `(1, 1, S, S)`."""
    line = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x[None, None], y[None, None]


# --- backgrounds: (count, size, bank, draw) -> (count, 3, S, S) ------------------------------------


def noise(count: int, size: int, bank: FaceBank, draw: Draw) -> Tensor:
    """Noise of several grain sizes, in a random colour."""
    image = draw.uniform(count, 3, 1, 1).expand(count, 3, size, size).clone()
    for grain in (3, 6, 12, 25, 50, size):
        weight = _column(draw.uniform(count) * draw.chance(0.5, count)) * 0.35
        grey = draw.normal(count, 1, grain, grain) + 0.5 * draw.normal(count, 3, grain, grain)
        image += weight * _grow(grey, size)
    return image


def shapes(count: int, size: int, bank: FaceBank, draw: Draw) -> Tensor:
    """A gradient with ovals and slanted boxes, hard or soft, some with finer ones inside."""
    x, y = _axes(size)
    ends = draw.uniform(count, 3, 2)
    slope = _column(draw.uniform(count))
    image = ends[:, :, :1, None] * (x * slope + y * (1 - slope)) + ends[:, :, 1:, None] * 0.5
    for _ in range(draw.integer(2, 9)):
        turn = _column(draw.uniform(count, high=math.pi))
        u, v = x - _column(draw.uniform(count)), y - _column(draw.uniform(count))
        u, v = u * turn.cos() + v * turn.sin(), v * turn.cos() - u * turn.sin()
        radius = _column(draw.uniform(count, low=-4, high=-0.7).exp())
        power = 2.0 if draw.integer(0, 2) else 8.0
        narrow = radius * _column(draw.uniform(count, low=0.4))
        away = (u / radius).abs() ** power + (v / narrow).abs() ** power
        inside = ((1.2 - away) * _column(draw.uniform(count, low=1, high=12))).clamp(0, 1)
        image = image + inside * (draw.uniform(count, 3, 1, 1) - image)
    return image


def stripes(count: int, size: int, bank: FaceBank, draw: Draw) -> Tensor:
    """One or two gratings, smooth or hard: stripes, checks, blinds, fences."""
    x, y = _axes(size)
    first, second = draw.uniform(count, 3, 1, 1), draw.uniform(count, 3, 1, 1)
    wave = torch.ones(1)
    for _ in range(draw.integer(1, 3)):
        turn, pitch = _column(draw.uniform(count, high=math.pi)), _column(draw.uniform(count, low=2, high=40))
        phase = (x * turn.cos() + y * turn.sin()) * pitch * 2 * math.pi + _column(draw.uniform(count)) * 6
        wave = wave * (phase.sin() * _column(draw.uniform(count, low=1, high=8))).clamp(-1, 1)
    return first + (second - first) * (wave * 0.5 + 0.5)


def lettering(count: int, size: int, bank: FaceBank, draw: Draw) -> Tensor:
    """Lines of marks like print or signs: random strokes, in rows with gaps, on plain paper."""
    cells = draw.integer(20, 70)
    marks = (draw.uniform(count, 1, cells, cells) < 0.45).float()
    gap = draw.integer(3, 7)
    rows = (torch.arange(cells) % gap < gap - draw.integer(1, 3)).float()[None, None, :, None]
    words = (draw.uniform(count, 1, cells, cells // 4 + 1) < 0.8).float().repeat_interleave(4, 3)[..., :cells]
    marks = F.interpolate(marks * rows * words, (size, size), mode="nearest")
    paper, ink = draw.uniform(count, 3, 1, 1), draw.uniform(count, 3, 1, 1)
    return paper + (ink - paper) * marks


def corners(count: int, size: int, bank: FaceBank, draw: Draw) -> Tensor:
    """A mosaic of magnified photo margins (hair, cloth, walls, foliage), each turned at random."""
    tiles = draw.integer(1, 5)
    aligned = torch.nonzero(bank.aligned)[:, 0]
    if not len(aligned):
        return noise(count, size, bank, draw)
    picked = bank.photos[aligned[draw.index(len(aligned), count * tiles * tiles)]].float() / 255
    total = len(picked)
    half = draw.uniform(total, low=0.08, high=0.2)  # in half photos: the margins beside a face are 0.4 wide
    side = draw.index(3, total)
    cx = torch.where(side == 2, draw.uniform(total, low=-0.8, high=0.8), (side * 2.0 - 1) * 0.79)
    cy = torch.where(side == 2, torch.full((total,), -0.85), draw.uniform(total, low=-0.8, high=0.8))
    turn = draw.uniform(total, high=2 * math.pi)
    cos, sin = turn.cos() * half * 0.75, turn.sin() * half * 0.75
    theta = torch.stack([torch.stack([cos, -sin, cx], 1), torch.stack([sin, cos, cy], 1)], 1)
    edge = -(-size // tiles)
    grid = F.affine_grid(theta, [total, 3, edge, edge], align_corners=False)
    found = F.grid_sample(picked, grid, padding_mode="reflection", align_corners=False)
    found = found.view(count, tiles, tiles, 3, edge, edge).permute(0, 3, 1, 4, 2, 5)
    return found.reshape(count, 3, tiles * edge, tiles * edge)[..., :size, :size]


def scrambled(count: int, size: int, bank: FaceBank, draw: Draw) -> Tensor:
    """Photos cut into small squares that are turned and shuffled among all photos of the batch."""
    side = bank.photos.shape[-1]
    edge = side // (4, 4, 8, 16)[draw.integer(0, 4)]
    n = side // edge
    photos = bank.photos[draw.index(len(bank.photos), count)][..., : n * edge, : n * edge].float() / 255
    tiles = photos.view(count, 3, n, edge, n, edge).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, edge, edge)
    tiles = tiles[torch.randperm(len(tiles), generator=draw.generator)]
    tiles = torch.rot90(tiles, draw.integer(0, 4), (2, 3))
    mixed = tiles.view(count, n, n, 3, edge, edge).permute(0, 3, 1, 4, 2, 5)
    return _grow(mixed.reshape(count, 3, n * edge, n * edge), size)


def blurred(count: int, size: int, bank: FaceBank, draw: Draw) -> Tensor:
    """Photos of which only a few blots are left."""
    photos = bank.photos[draw.index(len(bank.photos), count)].float() / 255
    return _grow(F.adaptive_avg_pool2d(photos, draw.integer(2, 6)), size)


BACKGROUNDS = (noise, shapes, stripes, lettering, corners, corners, scrambled, scrambled, blurred)


def backgrounds(count: int, size: int, bank: FaceBank, draw: Draw) -> Tensor:
    """A background per row `(B, 3, S, S)`, half of them pieced together from two."""
    out = torch.empty(count, 3, size, size)
    kinds = draw.index(len(BACKGROUNDS), count)
    for kind, make in enumerate(BACKGROUNDS):
        rows = torch.nonzero(kinds == kind)[:, 0]
        if len(rows):
            out[rows] = make(len(rows), size, bank, draw)
    x, y = _axes(size)
    turn = _column(draw.uniform(count, high=2 * math.pi))
    across = (x - 0.5) * turn.cos() + (y - 0.5) * turn.sin() + 0.3 * _column(draw.uniform(count, low=-1))
    share = (across * _column(draw.uniform(count, low=1, high=5).exp())).sigmoid()
    share = share * _column(draw.chance(0.5, count))
    return out + share * (out.roll(1, 0) - out)


# --- faces -----------------------------------------------------------------------------------------


def _places(count: int, size: int, draw: Draw) -> tuple[Tensor, Tensor]:
    """Frames `(B, L, 4)` in pixels and which are used `(B, L)`; frames of one scene keep apart.

    A third of the scenes are close-ups as the locator's second look makes them.
    """
    close = draw.chance(0.33, count)
    faces = torch.multinomial(torch.tensor([0.12, 0.5, 0.2, 0.18]), count, True, generator=draw.generator)
    frames, used = torch.zeros(count, LAYERS, 4), torch.zeros(count, LAYERS, dtype=torch.bool)
    largest = torch.where(faces > 1, 0.55, 1.6).log()
    for layer in range(LAYERS):
        log_size = math.log(0.08) + (largest - math.log(0.08)) * draw.uniform(count) ** 0.8
        side = size * log_size.exp()
        near = size / 2.2 * (0.18 * draw.normal(count)).exp()
        side = torch.where(close, near, side)
        angle = draw.uniform(count, low=-0.72, high=0.72) * torch.where(close, 0.5, 1.0)
        free = torch.zeros(count, dtype=torch.bool)
        place = torch.zeros(count, 2)
        for _ in range(6):  # a few tries each to keep clear of the faces before
            room = (side * 0.22).clamp(max=size * 0.42)[:, None]
            new = room + (size - 2 * room) * draw.uniform(count, 2)
            if layer == 0:
                new = torch.where(close[:, None], size / 2 + 0.1 * size / 2.2 * draw.normal(count, 2), new)
            gap = (new[:, None] - frames[..., :2]).norm(dim=-1)
            clear = (gap > 0.42 * (side[:, None] + frames[..., 2])) | ~used
            take = clear.all(1) & ~free
            place[take], free = new[take], free | take
        frames[:, layer] = torch.cat([place, side[:, None], angle[:, None]], 1)
        used[:, layer] = free & ((layer < faces) | (close & (layer == 0)))
    return frames, used


def _masks(frames: Tensor, side: int, draw: Draw) -> Tensor:
    """Masks `(B, 1, P, P)` on the photos: all, a soft-edged square, or a soft oval about the head."""
    count = len(frames)
    x, y = _axes(side)
    soft = _column(draw.uniform(count, low=0.01, high=0.2))
    edge = torch.minimum(torch.minimum(x, 1 - x), torch.minimum(y, 1 - y))
    square = (edge / soft).clamp(0, 1)
    cx, cy, size = (_column(frames[:, i]) for i in range(3))
    rx = size * _column(draw.uniform(count, low=0.31, high=0.46))
    ry = size * _column(draw.uniform(count, low=0.4, high=0.52))
    oval = ((1.05 - (((x - cx) / rx) ** 2 + ((y - cy - 0.02 * size) / ry) ** 2)) / (soft * 3)).clamp(0, 1)
    oval = torch.minimum(oval, (edge / 0.01).clamp(0, 1))
    kind = _column(draw.uniform(count))
    return torch.where(kind < 0.35, torch.ones_like(square), torch.where(kind < 0.6, square, oval))


def _erase(photos: Tensor, frames: Tensor, bank: FaceBank, draw: Draw) -> Tensor:
    """Puts something else where the face is: its own mean colour, noise, or scrambled photo."""
    count, side = len(photos), photos.shape[-1]
    if not count:
        return photos
    x, y = _axes(side)
    cx, cy, size = (_column(frames[:, i]) for i in range(3))
    away = ((x - cx) / (0.3 * size)) ** 2 + ((y - cy - 0.06 * size) / (0.4 * size)) ** 2
    inside = ((1.15 - away) * _column(draw.uniform(count, low=2, high=20))).clamp(0, 1)
    plain = F.adaptive_avg_pool2d(photos, 1) + 0.06 * _grow(draw.normal(count, 1, 5, 5), side)
    other = backgrounds(count, side, bank, draw)
    fill = torch.where(_column(draw.chance(0.5, count)), plain, other)
    return photos + inside * (fill - photos)


def _sampling(photo_frames: Tensor, frames: Tensor, size: int) -> Tensor:
    """Affine maps `(B, 2, 3)` from the canvas to the photo, both in -1..1, that lay frame on frame."""
    cx, cy, side, angle = photo_frames.unbind(1)
    x, y, target, turned = frames.unbind(1)
    scale = side * size / target  # photo sides per canvas side
    turn = angle - turned
    cos, sin = turn.cos() * scale, turn.sin() * scale
    u, v = x / size * 2 - 1, y / size * 2 - 1
    tx = cx * 2 - 1 - (cos * u - sin * v)
    ty = cy * 2 - 1 - (sin * u + cos * v)
    return torch.stack([torch.stack([cos, -sin, tx], 1), torch.stack([sin, cos, ty], 1)], 1)


def _grid(theta: Tensor, size: int) -> Tensor:
    """`F.affine_grid` of `(B, 2, 3)` maps for square canvases, several times as fast on a CPU."""
    line = (torch.arange(size) * 2 + 1) / size - 1
    across = theta[:, None, None, :, 0] * line[:, None]
    down = theta[:, None, None, :, 1] * line[:, None, None] + theta[:, None, None, :, 2]
    return across + down


def _sample(photos: Tensor, theta: Tensor, size: int, extra: Tensor) -> tuple[Tensor, Tensor]:
    """Resamples photos, averaged beforehand by the reduction (plus up to two levels of `extra` blur).

    Beyond a photo its border is drawn out; the second result `(B, 1, size, size)` is 1 within the photo.
    """
    side = photos.shape[-1]
    reduction = theta[:, 0, :2].norm(dim=1) * side / size
    level = (reduction.clamp(min=1).log2() + extra).floor().clamp(0, 4).long()
    out = torch.empty(len(photos), photos.shape[1], size, size)
    within = torch.empty(len(photos), 1, size, size)
    for value in level.unique().tolist():
        rows = torch.nonzero(level == value)[:, 0]
        grid = _grid(theta[rows], size)
        small = F.avg_pool2d(photos[rows], 2**value) if value else photos[rows]
        out[rows] = F.grid_sample(small, grid, padding_mode="border", align_corners=False)
        within[rows] = (grid.abs().amax(-1) <= 1).float()[:, None]
    return out, within


def _paste(canvas: Tensor, rows: Tensor, frames: Tensor, bank: FaceBank, draw: Draw, lowest: bool) -> Tensor:
    """Pastes a face on `canvas[rows]` so that it has `frames` `(R, 4)`; returns which were not erased.

    Only the `lowest` layer may fill the canvas.
    """
    count, size = len(rows), canvas.shape[-1]
    index = draw.index(len(bank.photos), count)
    photos, own = bank.photos[index].float() / 255, bank.frames[index].clone()
    flip = draw.chance(0.5, count)
    photos[flip] = photos[flip].flip(-1)
    own[flip, 0], own[flip, 3] = 1 - own[flip, 0], -own[flip, 3]
    erased = draw.chance(0.22, count)
    photos[erased] = _erase(photos[erased], own[erased], bank, draw)
    gain = 1 + 0.25 * draw.normal(count, 1, 1, 1).clamp(-2, 2) + 0.06 * draw.normal(count, 3, 1, 1)
    photos = (photos * gain + 0.1 * draw.normal(count, 1, 1, 1)).clamp(0, 1)
    theta = _sampling(own, frames, size)
    layers = torch.cat([photos, _masks(own, photos.shape[-1], draw)], 1)
    seen, within = _sample(layers, theta, size, draw.uniform(count) * 1.4)
    mask, seen = seen[:, 3:] * within, seen[:, :3]
    drawn_out = _column(draw.chance(0.2, count) & (frames[:, 2] > 0.3 * size) & lowest)
    mask = torch.where(drawn_out, torch.ones_like(mask), mask)
    canvas[rows] = canvas[rows] + mask * (seen - canvas[rows])
    return ~erased


def _develop(x: Tensor, draw: Draw) -> Tensor:
    """Colour, greyscale, blur, blocks and noise, as cameras and files add them."""
    count, size = len(x), x.shape[-1]
    grey = _column(draw.chance(0.15, count))
    x = torch.where(grey, x.mean(1, keepdim=True).expand_as(x), x)
    gain, tint = _column(draw.uniform(count, low=0.6, high=1.4)), 0.08 * draw.normal(count, 3, 1, 1)
    x = (x - 0.5) * gain + 0.5 + 0.1 * draw.normal(count, 1, 1, 1) + torch.where(grey, 0.0, 1.0) * tint
    soft = draw.chance(0.25, count)
    if soft.any():
        x[soft] = _grow(F.adaptive_avg_pool2d(x[soft], draw.integer(size // 3, size)), size)
    blocks = draw.chance(0.2, count)
    if blocks.any():
        coarse = F.interpolate(F.avg_pool2d(x[blocks], 4), scale_factor=4.0)
        x[blocks] = x[blocks] + 0.4 * (coarse - x[blocks])
    x = x + _column(draw.uniform(count) ** 2 * 0.08) * draw.normal(*x.shape)
    return x.clamp(0, 1) * 2 - 1


def _bars(images: Tensor, frames: Tensor, used: Tensor, draw: Draw) -> None:
    """Fills the right or lower end of some scenes with grey, as the locator pads photos; faces stay free."""
    size = images.shape[-1]
    for row in torch.nonzero(draw.chance(0.25, len(images)))[:, 0].tolist():
        axis, start = draw.integer(0, 2), draw.integer(size // 2, size)
        reach = (frames[row, :, axis] + 0.3 * frames[row, :, 2]) * used[row]
        if reach.max() < start:
            part = images[row, :, :, start:] if axis == 0 else images[row, :, start:]
            part.zero_()


def scenes(bank: FaceBank, count: int, size: int, generator: torch.Generator, faces: bool = True) -> Scenes:
    """`count` scenes of `size` pixels; without `faces`, backgrounds and erased faces only."""
    draw = Draw(generator)
    canvas = backgrounds(count, size, bank, draw)
    frames, used = _places(count, size, draw)
    if not faces:
        used = used & False
    for layer in range(LAYERS):
        rows = torch.nonzero(used[:, layer])[:, 0]
        if len(rows):
            used[rows, layer] = _paste(canvas, rows, frames[rows, layer], bank, draw, layer == 0)
    images = _develop(canvas, draw)
    _bars(images, frames, used, draw)
    return Scenes(images, frames, used)
