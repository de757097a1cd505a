"""Suites `generation`, `codec`: a perfect generator is at the floor, captions are read for what they name."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from unif2ace_core.data.captions import caption
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.evaluate import codec, fidelity
from unif2ace_core.evaluate.fidelity import Observer, Prompt, agreement, named_value, prompts


def record(number: int = 0, **labels: str) -> FaceRecord:
    return FaceRecord("celebahq", f"{number}.webp", "val", labels, None, None)


@pytest.mark.parametrize(
    ("text", "name", "value", "named"),
    [
        ("a smiling woman with blond hair", "Blond_Hair", "yes", True),
        ("a smiling woman with wavy blond hair", "Blond_Hair", "yes", True),
        ("a woman with a black hat", "Black_Hair", "yes", False),
        ("a smiling woman", "Smiling", "yes", True),
        ("a woman, not smiling", "Smiling", "no", True),
        ("glasses, man", "Eyeglasses", "yes", True),
        ("a man without glasses", "Eyeglasses", "no", True),
        ("a man", "Eyeglasses", "no", False),
        ("a woman", "Male", "no", True),
        ("a portrait of a person", "Male", "yes", False),
        ("an elderly lady", "Young", "no", True),
        ("hat", "Wearing_Hat", "yes", True),
    ],
)
def test_captions_are_read_for_what_they_name(text: str, name: str, value: str, named: bool) -> None:
    assert named_value(text, name, value) is named


def test_a_caption_of_one_label_names_it() -> None:
    rng = random.Random(0)
    for name in ("Eyeglasses", "Smiling", "Blond_Hair", "Wearing_Hat", "Goatee", "Bald"):
        labels = {"Male": "yes", name: "yes"}
        assert all(named_value(caption(record(**labels), rng, "medium"), name, "yes") for _ in range(20))


def test_prompts_reuse_records_with_other_seeds() -> None:
    found = prompts([record(i, Male="yes", Smiling="yes") for i in range(3)], 8, random.Random(0))
    assert len(found) == 8 and len({prompt.seed for prompt in found}) == 8
    assert found == prompts([record(i, Male="yes", Smiling="yes") for i in range(3)], 8, random.Random(0))


def test_agreement_is_one_for_an_obedient_generator_and_one_half_for_a_deaf_one() -> None:
    asked = [
        Prompt("a smiling man" if i % 2 else "a woman, not smiling", record(
            i, Male="yes" if i % 2 else "no", Smiling="yes" if i % 2 else "no"
        ), i)
        for i in range(20)
    ]  # fmt: skip
    shown = torch.tensor([255 * (i % 2) for i in range(20)], dtype=torch.uint8)
    images = shown.view(-1, 1, 1, 1).expand(-1, 4, 4, 3)

    def read(batch: Tensor) -> dict[str, Tensor]:
        yes = (batch.mean((1, 2, 3)) > 0).float()
        return {name: torch.stack([1 - yes, yes], 1) for name in fidelity.AGREEMENT}

    good, deaf = agreement(asked, images, read, 7), agreement(asked, torch.zeros_like(images), read)
    assert good["mean"] == 1.0 and set(good["by_attribute"]) == {"Male", "Smiling"}
    assert deaf["mean"] == 0.5 and deaf["by_attribute"]["Male"]["recall"] == {"no": 1.0, "yes": 0.0}


def photos(count: int, seed: int, shift: int = 0) -> Tensor:
    """Smooth random pictures, uint8 (count, 8, 8, 3)."""
    generator = torch.Generator().manual_seed(seed)
    tint = torch.randint(0, 200, (count, 1, 1, 3), generator=generator)
    noise = torch.randint(0, 30, (count, 8, 8, 3), generator=generator)
    return (tint + noise + shift).clamp(0, 255).byte()


def real() -> fidelity.Photos:
    return fidelity.Photos(photos(150, 1), photos(150, 1), photos(150, 2))


def extractor(images: Tensor) -> Tensor:
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)


def test_a_generator_of_real_photos_is_at_the_floor_and_another_is_not() -> None:
    asked = prompts([record(i, Male="yes") for i in range(150)], 150, random.Random(0))

    def draws(pictures: Tensor):  # type: ignore[no-untyped-def]
        def draw(pairs: Sequence[tuple[str, int]]) -> Iterator[Tensor]:
            yield from pictures[: len(pairs)]

        return draw

    found = [
        fidelity.measure(
            asked, draws(pictures), real(), Observer(extractor), torch.Generator().manual_seed(0),
        )
        for pictures in (photos(150, 3), photos(150, 3, 60))
    ]  # fmt: skip
    floor = found[0]["floor_train_photos"]
    assert found[0]["n"] == 150
    assert abs(found[0]["kid"]) < 4 * max(floor["kid_std"], abs(floor["kid"]), 0.5)
    assert found[1]["kid"] > 10 * abs(found[0]["kid"]) and found[1]["fid"] > found[0]["fid"]


def beside(reconstruct, shift: int = 60, judge: Observer | None = None) -> dict:  # type: ignore[no-untyped-def]
    """The suite on a generator of shifted photos, beside this reconstruction of the held-out ones."""
    asked = prompts([record(i, Male="yes") for i in range(150)], 150, random.Random(0))
    return fidelity.measure(
        asked, lambda pairs: iter(photos(150, 3, shift)), real(), Observer(extractor), torch.Generator().manual_seed(0),
        reconstruct=reconstruct, judge=judge,
    )  # fmt: skip


def test_a_judge_looks_too_and_changes_no_other_figure() -> None:
    alone, both = beside(None), beside(None, judge=Observer(lambda images: images.mean((2, 3))))
    assert {name: both[name] for name in alone} == alone
    assert both["judged"]["kid"] != alone["kid"] and set(both["judged"]) < set(alone)


def test_reconstructions_beside_generated_pictures_change_no_other_figure() -> None:
    alone, both = beside(None), beside(lambda images: images)
    assert {name: both[name] for name in alone} == alone
    assert set(both) - set(alone) == {"reconstructed", "kid_over_reconstructed"}
    assert both["reconstructed"]["compared"] == [75, 75]


def test_a_codec_that_spoils_as_much_as_the_generator_has_ratio_one() -> None:
    found = beside(lambda images: (images + 60 / 127.5).clamp(-1, 1))
    assert found["kid_over_reconstructed"] == pytest.approx(1, abs=0.25)
    assert found["kid_over_reconstructed"] == pytest.approx(found["kid"] / found["reconstructed"]["kid"], abs=1e-3)


def test_a_codec_within_its_error_gives_no_ratio() -> None:
    found = beside(lambda images: images)
    assert found["reconstructed"]["kid"] <= found["reconstructed"]["kid_std"]
    assert found["kid_over_reconstructed"] is None


def test_a_codec_that_keeps_everything_is_perfect() -> None:
    kept: list[Tensor] = []

    def encode(images: Tensor) -> Tensor:
        kept.append(images)
        return torch.arange(len(images)).unsqueeze(1) % 16

    big = photos(60, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)
    sources = ["celebahq", "lfw"] * 30
    found = codec.measure(
        big,
        sources,
        encode,
        lambda _: kept[-1],
        32,
        extractor,
        torch.Generator().manual_seed(0),
        batch_size=16,
    )
    assert found["psnr"] > 90 and found["ssim"] == pytest.approx(1.0, abs=1e-4)
    assert {part["n"] for part in found["by_source"].values()} == {30}
    assert found["reconstruction"]["kid"] == pytest.approx(found["photos_floor"]["kid"], abs=0.1)


def test_codebook_use_counts_codes_and_their_perplexity() -> None:
    found = codec.codebook_use(torch.arange(8).expand(5, 8), 16)
    assert (found["codes_used"], found["perplexity"], found["codes_drawn"]) == (8, 8.0, 40)
    assert codec.codebook_use(torch.zeros(5, 8, dtype=torch.int64), 16)["perplexity"] == 1.0
