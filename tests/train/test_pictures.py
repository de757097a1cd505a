"""Losses of pictures: what weighs how much, and who learns from whom.

pytest tests/train/test_pictures.py
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unif2ace_core.tokens.codec import Codec, CodecConfig
from unif2ace_core.train import pictures
from unif2ace_core.train.pictures import (
    SHIFT,
    Critic,
    adversarial_terms,
    centre_weights,
    feature_distance,
    pixel_terms,
    power_spectrum,
    reconstruction,
    shifted,
    spectral_excess,
)


def noise(rows: int = 2, side: int = 32) -> Tensor:
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_middle_of_the_frame_weighs_more_and_all_together_as_much_as_before() -> None:
    assert torch.equal(centre_weights(16, 1.0), torch.ones(16, 16))
    weight = centre_weights(128, 4.0)
    assert weight.mean().item() == pytest.approx(1.0)
    assert (weight[64, 64] / weight[0, 0]).item() == pytest.approx(4.0, rel=0.05)
    assert torch.allclose(weight, weight.t()) and torch.allclose(weight, weight.flip(0, 1))


def test_pixel_terms_are_of_each_row_alone() -> None:
    target, off = noise(), torch.tensor([0.0, 0.5])
    pixels, edges = pixel_terms(target + off[:, None, None, None], target, centre_weights(32, 3.0))
    torch.testing.assert_close(pixels, off)  # the weights' mean is 1
    torch.testing.assert_close(edges, torch.zeros(2), atol=1e-6, rtol=0)


def test_maps_that_differ_in_length_alone_are_not_apart() -> None:
    maps = [torch.randn(2, 4, 3, 3), torch.randn(2, 8, 2, 2)]
    torch.testing.assert_close(feature_distance([5 * m for m in maps], maps), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(feature_distance([-m for m in maps], maps), torch.full((2,), 4.0))


def test_the_critic_learns_from_its_own_loss_and_the_decoder_from_the_other() -> None:
    critic, fake = Critic(), noise(side=64).flip(2).requires_grad_(True)
    own, fooled = adversarial_terms(critic, noise(side=64), fake)
    own.backward(retain_graph=True)
    assert fake.grad is None and all(p.grad is not None for p in critic.parameters())
    before = [p.grad.clone() for p in critic.parameters() if p.grad is not None]
    fooled.backward()
    assert fake.grad is not None and bool(fake.grad.any())
    assert all(torch.equal(a, b.grad) for a, b in zip(before, critic.parameters(), strict=True) if b.grad is not None)


def test_a_critic_of_one_opinion_has_the_loss_of_guessing() -> None:
    critic = Critic()
    for parameter in critic.parameters():
        torch.nn.init.zeros_(parameter)
    own, fooled = adversarial_terms(critic, noise(), noise().requires_grad_(True))
    torch.testing.assert_close(own, torch.ones_like(own))
    torch.testing.assert_close(fooled, torch.zeros_like(fooled))


def test_the_critic_judges_patches_of_several_sizes() -> None:
    critic, images = Critic(), noise(side=128)
    with torch.no_grad():
        assert [tuple(verdict.shape) for verdict in critic(images)] == [(2, 1, 16, 16), (2, 1, 8, 8), (2, 1, 4, 4)]


@pytest.mark.parametrize(("down", "across"), ((0, 2), (0, 4), (0, 8), (8, 0), (4, 8)))
def test_what_repeats_is_in_excess(down: int, across: int) -> None:
    photos, place = noise(rows=8, side=64), torch.arange(64.0)
    seen, phase = power_spectrum(photos), torch.zeros(64, 64)
    phase = phase + (place / across if across else 0) + (place[:, None] / down if down else 0)
    woven = (0.5 * photos + 0.3 * torch.cos(2 * torch.pi * phase)).requires_grad_(True)
    found = spectral_excess(woven, seen)
    found.backward()
    assert float(found.detach()) > 0.01 and woven.grad is not None and bool(woven.grad.isfinite().all())
    assert float(spectral_excess(woven.detach(), power_spectrum(woven.detach()))) == 0


def test_louder_fainter_and_smoother_pictures_than_photos_have_no_excess() -> None:
    photos = noise(rows=8, side=64)
    seen = power_spectrum(photos)
    smooth = (photos.roll(1, 3) + 2 * photos + photos.roll(-1, 3)) / 4
    for made in (photos, 3 * photos, 0.5 * photos, smooth):
        assert float(spectral_excess(made, seen)) < 0.01


def test_reconstruction_has_a_row_for_each_photo_however_many_are_restored_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec = Codec(CodecConfig(pixels=32, bits=5, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8, 8))).eval()
    photos = (noise(rows=5).permute(0, 2, 3, 1) * 127 + 128).byte().numpy()
    errors, codes = reconstruction(codec, photos)
    monkeypatch.setattr(pictures, "BATCH", 2)
    again, same = reconstruction(codec, photos)
    assert errors.shape == (5,) and codes.shape == (5, 4)
    assert torch.equal(codes, same)
    torch.testing.assert_close(errors, again)


def test_a_shift_moves_all_pictures_alike_and_keeps_their_size() -> None:
    images = torch.arange(32.0).expand(2, 3, 32, 32)
    found = shifted(images, torch.Generator().manual_seed(3))
    assert found.shape == images.shape
    step = found[0, 0, 0, 16] - images[0, 0, 0, 16]
    assert 0 < abs(float(step)) <= SHIFT
    torch.testing.assert_close(found[..., 12:20], images[..., 12:20] + step)
