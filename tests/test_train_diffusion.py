"""The recipes of diffusion of signs: what they build, what they train on, and that their measurements measure."""

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


# ---- damaged signs ---------------------------------------------------------------------------------------------------


def test_every_sign_has_one_kind_of_damage_of_its_own_strength() -> None:
    images = recipes_diffusion.held_out().images[:40]
    spoilt = recipes_diffusion.worn(images, torch.Generator().manual_seed(0))
    assert spoilt.shape == images.shape
    assert torch.equal(spoilt, recipes_diffusion.worn(images, torch.Generator().manual_seed(0)))
    assert not torch.equal(spoilt, recipes_diffusion.worn(images, torch.Generator().manual_seed(1)))
    changed = (spoilt - images).abs().flatten(1)
    assert bool((changed.max(1).values > 0.05).all())
    ground = spoilt[:, 0, :2].flatten(1).mean(1)  # the data leave the first two rows empty
    erosion, cracks, missing, noise = ground.tensor_split(4)
    assert bool((erosion < 0.01).all())
    assert cracks.max() > 0
    assert bool((missing < 0.01).all()), "a lost piece adds no ink"
    assert bool((spoilt[20:30] <= images[20:30]).all())
    assert bool((noise > 0.01).all())


def test_damage_is_fresh_in_training_and_the_same_in_validation() -> None:
    (train, validation), (_, again) = (recipes_diffusion.damaged_glyphs(4000) for _ in range(2))
    assert train.transform is not None
    rows = train.rows(torch.arange(0, len(train), 100))
    (first, labels), (other, _) = (train.transform(rows, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(labels, rows[1])
    assert bool(((first - other).abs().flatten(1).max(1).values > 0).all())
    assert validation.transform is None
    assert torch.equal(validation.tensors[0], again.tensors[0])
    kinds = [part.unique() for part in validation.tensors[1].tensor_split(4)]
    assert all(len(part) > 10 for part in kinds), "no kind of damage belongs to a script"


def test_the_damaged_signs_are_the_unseen_ones() -> None:
    images, labels = recipes_diffusion.damaged_unseen()
    unseen = recipes_diffusion.unseen_signs()
    whole, theirs = recipes_diffusion.shuffled(unseen.images, unseen.labels)
    assert torch.equal(labels, theirs)
    assert torch.equal(labels.bincount(), unseen.labels.bincount())
    lost = slice(len(images) // 2 + 1, 3 * len(images) // 4 - 1)  # of those a piece has broken off
    assert bool((images[lost] <= whole[lost]).all())


def test_the_network_of_damaged_signs_begins_where_the_other_ended() -> None:
    model, whole = recipes.get("diffusion-damaged-glyphs").build(), zoo.load("diffusion-glyphs")
    assert model.training
    for name, tensor in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_what_is_drawn_is_measured_against_damaged_and_whole_signs(few_signs: None) -> None:
    model = tiny().eval()
    full, quick = (recipes_diffusion.measure_damaged(model, quick) for quick in (False, True))
    assert set(quick) == {"velocity_error"}
    assert quick["velocity_error"] == full["velocity_error"]
    assert 0.5 < full["velocity_error"].value < 1.5
    assert full["frechet"].count == full["frechet_whole"].count == 16
    assert full["frechet"].value != full["frechet_whole"].value
    assert recipes_diffusion.measure_damaged(model, False) == full, "the same numbers every time"
