"""Codes, entries and pixels of the codec."""

from __future__ import annotations

import torch

from unif2ace_core.tokens.codec import (
    Codec,
    CodecConfig,
    Grain,
    entries,
    entropy_terms,
    indices,
    quantize,
    to_image_tensor,
    to_pixels,
)


def test_indices_of_entries_are_the_codes() -> None:
    codes = torch.arange(8192)
    assert torch.equal(indices(entries(codes, 13)), codes)


def test_bits_follow_the_published_convention() -> None:
    signs = {0: "-------------", 1: "------------+", 4096: "+------------", 5000: "+--+++---+---"}
    for code, text in signs.items():
        found = entries(torch.tensor(code), 13)
        assert "".join("+" if v > 0 else "-" for v in found) == text
    assert int(indices(torch.zeros(13))) == 0  # zero counts as bit 0


def test_shapes_and_range_of_the_round_trip() -> None:
    codec = Codec(CodecConfig()).eval()
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    codes = codec.encode(images)
    assert codes.shape == (2, 64) and int(codes.max()) < 8192
    restored = codec.decode(codes)
    assert restored.shape == images.shape and restored.abs().max() <= 1
    assert torch.equal(codec.decode_entries(entries(codes, 13)), restored)


def test_grain_is_the_same_in_every_picture_and_nothing_before_it_is_learned() -> None:
    grain, maps = Grain(8, 4, (6, 6)), torch.zeros(2, 8, 6, 6)
    assert torch.equal(grain(maps), maps)
    torch.nn.init.ones_(grain.amounts.weight)
    found = grain(maps)
    assert torch.equal(found[0], found[1]) and float(found.detach().std()) > 1


def test_the_decoder_has_grain_on_every_map_finer_than_the_codes() -> None:
    sizes = {"encoder_widths": (8, 8, 8), "decoder_widths": (8, 8, 8, 8), "pixels": 64}
    decoder = Codec(CodecConfig(grain=4, **sizes)).decoder
    assert [tuple(grain.noise.shape) for grain in decoder.grains[1:]] == [(1, 4, s, s) for s in (8, 16, 32)]
    assert not any("grains" in name for name in Codec(CodecConfig(**sizes)).state_dict())


def test_straight_through_gradient_is_one() -> None:
    values = torch.randn(4, 13, requires_grad=True, generator=torch.Generator().manual_seed(0))
    quantize(values).sum().backward()
    assert torch.equal(values.grad, torch.ones_like(values))
    assert set(quantize(values).unique().tolist()) == {-1.0, 1.0}


def test_entropy_is_zero_for_sure_codes_and_maximal_for_unsure_ones() -> None:
    sure = entries(torch.arange(16), 4) * 50
    single, book = entropy_terms(sure)
    assert float(single) < 1e-6
    assert abs(float(book) - torch.tensor(16.0).log()) < 1e-4
    unsure, _ = entropy_terms(torch.zeros(5, 4))
    assert abs(float(unsure) - 4 * torch.tensor(2.0).log()) < 1e-5


def test_pixels_survive_the_tensor_form() -> None:
    pixels = torch.randint(256, (2, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_pixels(to_image_tensor(pixels)), pixels)
