"""The recipe of diffusion of signs: what it builds, what it trains on, and that its measurements measure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gentext import zoo
from gentext.diffusion import DiffusionConfig, GaussianDiffusion, NoiseSchedule
from gentext.metrics import sharpness
from gentext.nn import UNetConfig
from gentext.train import recipe_parts, recipes, recipes_diffusion, run


@pytest.fixture
def few_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen held-out signs, and steps as few."""
    small = recipes_diffusion.held_out().subset(range(16))
    monkeypatch.setattr(recipes_diffusion, "held_out", lambda: small)
    monkeypatch.setattr(recipes_diffusion, "unseen_signs", lambda: small)
    monkeypatch.setattr(recipes_diffusion, "NUM_STEPS", 3)
    monkeypatch.setattr(recipes_diffusion, "NUM_TIMES", 3)


def tiny() -> GaussianDiffusion:
    torch.manual_seed(0)
    unet = UNetConfig(widths=(4, 4), groups=2, head_dim=4, condition_width=8, num_classes=29)
    return GaussianDiffusion(
        DiffusionConfig(unet=unet, schedule=NoiseSchedule(num_steps=10), num_levels=recipes_diffusion.GREYS)
    )


def test_the_recipe_is_small_and_balanced() -> None:
    recipe = recipes.get("diffusion-glyphs")
    model = recipe.build()
    assert sum(parameter.numel() for parameter in model.parameters()) * 2 < 4e6, "the page loads it as float16"
    train, validation = recipe.data()
    assert train.transform is not None
    images, _ = train.transform(train.rows(torch.arange(5)), torch.Generator().manual_seed(0))
    assert images.shape[1:] == validation.tensors[0].shape[1:] == (1, 32, 32)
    counts = train.tensors[1].bincount()
    originals = recipes_diffusion.data.load("glyphs", "train", size=32).labels.bincount()
    share = counts / originals.double().sqrt()
    assert share.max() / share.min() < 1.6, "a script's share grows with the root of its size"


def test_training_signs_are_as_sharp_as_the_data_and_never_twice_the_same() -> None:
    train, _ = recipe_parts.fresh_glyphs(4000)
    assert train.transform is not None
    rows = train.rows(torch.arange(0, len(train), 20))
    first, again, other = (train.transform(rows, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert ((first - other).abs().flatten(1).max(1).values > 0).double().mean() > 0.9
    whole = recipes_diffusion.data.load("glyphs", "train", size=32).images[rows[0]]
    old, _ = recipe_parts.glyph_variants(4000, light=True)
    sharp, wanted, smeared = (sharpness(images).mean() for images in (first, whole, old.tensors[0]))
    assert sharp > 0.7 * wanted
    assert smeared < 0.5 * wanted


def test_shifting_moves_whole_pixels_and_loses_no_ink() -> None:
    images = torch.rand(5, 1, 6, 7)
    down, right = torch.tensor([0, 1, -1, 2, 0]), torch.tensor([0, 0, 2, -1, 3])
    moved = recipe_parts.shifted(images, down, right)
    for image, result, i, j in zip(images, moved, down.tolist(), right.tolist(), strict=True):
        assert torch.equal(result, image.roll((i, j), (1, 2)))


def test_unseen_signs_are_those_of_both_other_splits() -> None:
    unseen, test = recipes_diffusion.unseen_signs(), recipes_diffusion.held_out()
    assert len(unseen) == 874
    assert torch.equal(unseen.images[: len(test)], test.images)
    assert torch.equal(unseen.labels[: len(test)], test.labels)


def test_held_out_signs_have_the_greys_of_the_bound() -> None:
    images = recipes_diffusion.held_out().images * (recipes_diffusion.GREYS - 1)
    torch.testing.assert_close(images, images.round(), rtol=0, atol=1e-4)


def test_it_measures(few_signs: None) -> None:
    model = tiny().eval()
    full, quick = recipes_diffusion.measure_diffusion(model, False), recipes_diffusion.measure_diffusion(model, True)
    assert set(quick) == {"velocity_error"}
    assert quick["velocity_error"] == full["velocity_error"]
    # An untrained network says v = 0: its error is the mean square of v, nearly 1.
    assert 0.5 < full["velocity_error"].value < 1.5
    assert full["bits_per_dim"].value > 1
    for name in ("frechet", "frechet_guided"):
        assert full[name].value > 0
        assert full[name].count == 16
        assert full[name.replace("frechet", "frechet_limit")].value < full[name].value
    for name in ("class_consistency", "class_consistency_guided"):
        assert 0 <= full[name].value <= 100
    assert recipes_diffusion.measure_diffusion(model, False) == full, "the same numbers every time"


def test_signs_are_drawn_in_parts_for_their_labels() -> None:
    model, labels = tiny().eval(), torch.tensor([0, 5, 28, 3, 3])
    signs = recipes_diffusion.draw_signs(model, labels, 1.5, seed=1, size=2)
    assert signs.shape == (5, 1, 32, 32)
    assert signs.min() >= 0
    assert signs.max() <= 1
    assert not torch.equal(signs[3], signs[4])
    assert torch.equal(signs, recipes_diffusion.draw_signs(model, labels, 1.5, seed=1, size=2))


def test_it_runs_from_nothing_to_weights(few_signs: None, tmp_path: Path) -> None:
    recipe = recipes.get("diffusion-glyphs")
    train, validation = recipe.data()
    cut = [replace(part, tensors=tuple(tensor[:16] for tensor in part.tensors)) for part in (train, validation)]
    small = replace(
        recipe,
        build=tiny,
        data=lambda: tuple(cut),
        fit=replace(recipe.fit, num_steps=3, batch_size=4, precision="fp32"),
    )
    path = run(small, tmp_path, progress=False, device="cpu")
    card = zoo.card(path)
    assert card.kind == "diffusion"
    assert recipes_diffusion.measure_diffusion(zoo.load(path), True)["velocity_error"] == card.metrics["velocity_error"]
