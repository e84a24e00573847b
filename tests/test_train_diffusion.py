"""The recipe of diffusion of signs: what it builds, what it trains on, and that its measurements measure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gentext import zoo
from gentext.diffusion import DiffusionConfig, GaussianDiffusion, NoiseSchedule
from gentext.nn import UNetConfig
from gentext.train import recipes, recipes_diffusion, run


@pytest.fixture
def few_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the variants that the recipe asks for: they take a third of the time."""
    whole = recipes_diffusion.glyph_variants
    monkeypatch.setattr(recipes_diffusion, "glyph_variants", lambda count, **how: whole(count // 3, **how))


@pytest.fixture
def few_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve held-out signs, and steps as few."""
    test = recipes_diffusion.held_out()
    small = replace(
        test,
        images=test.images[:12],
        labels=test.labels[:12],
        names=test.names[:12],
        codepoints=test.codepoints[:12],
        descriptions=test.descriptions[:12],
    )
    monkeypatch.setattr(recipes_diffusion, "held_out", lambda: small)
    monkeypatch.setattr(recipes_diffusion, "NUM_STEPS", 3)
    monkeypatch.setattr(recipes_diffusion, "NUM_TIMES", 3)


def tiny() -> GaussianDiffusion:
    torch.manual_seed(0)
    unet = UNetConfig(widths=(4, 4), groups=2, head_dim=4, condition_width=8, num_classes=29)
    return GaussianDiffusion(
        DiffusionConfig(unet=unet, schedule=NoiseSchedule(num_steps=10), num_levels=recipes_diffusion.GREYS)
    )


def test_the_recipe_is_small_and_balanced(few_variants: None) -> None:
    recipe = recipes.get("diffusion-glyphs")
    model = recipe.build()
    assert sum(parameter.numel() for parameter in model.parameters()) * 2 < 4e6, "the page loads it as float16"
    train, validation = recipe.data()
    assert train.tensors[0].shape[1:] == validation.tensors[0].shape[1:] == (1, 32, 32)
    counts = train.tensors[1].bincount()
    originals = recipes_diffusion.data.load("glyphs", "train", size=32).labels.bincount()
    share = counts / originals.double().sqrt()
    assert share.max() / share.min() < 1.6, "a script's share grows with the root of its size"


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
        assert full[name].count == 12
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


def test_it_runs_from_nothing_to_weights(few_signs: None, few_variants: None, tmp_path: Path) -> None:
    recipe = recipes.get("diffusion-glyphs")
    train, validation = recipe.data()
    cut = [type(part)(tuple(tensor[:16] for tensor in part.tensors)) for part in (train, validation)]
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
