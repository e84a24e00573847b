"""The classifier of noisy pictures: its units, what it learns where the answer is known, and its recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gentext import zoo
from gentext.diffusion import NoiseSchedule
from gentext.diffusion_classifier import NoisyClassifier, NoisyClassifierConfig
from gentext.diffusion_sampling import classifier_guidance
from gentext.nn import UNetConfig
from gentext.train import recipes, recipes_diffusion, run

SHAPE = UNetConfig(image_size=4, widths=(8,), groups=2, head_dim=4, condition_width=16)


def toy(num_classes: int = 2, shape: UNetConfig = SHAPE) -> NoisyClassifier:
    torch.manual_seed(0)
    return NoisyClassifier(NoisyClassifierConfig(num_classes=num_classes, shape=shape, dropout=0.0))


def exact(x: Tensor, sigma: Tensor) -> Tensor:
    """log p(y∣x), (n, 2), of a world with two pictures, all black (class 1) and all white, seen under noise."""
    squares = torch.stack([(x - value).square().flatten(1).sum(1) for value in (-1.0, 1.0)], dim=1)
    return (-squares / (2 * sigma[:, None] ** 2)).log_softmax(1)


def test_it_learns_the_exact_posterior_and_its_slope() -> None:
    model, generator = toy(), torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(64)
    images = labels.float()[:, None, None, None].expand(-1, 1, 4, 4)
    steps = 600
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss((images, labels), generator=generator).total.backward()
        optimizer.step()
        fall.step()
    model.requires_grad_(False)
    for level in (2.0, 4.0, 8.0):  # where neither answer is certain
        sigma = torch.full((400,), level)
        truth = torch.randint(2, (400,), generator=generator)
        x = 2.0 * truth[:, None, None, None] - 1 + level * torch.randn(400, 1, 4, 4, generator=generator)
        wanted, found = exact(x, sigma), model.log_probs(x, sigma)
        nats = (wanted.exp() * (wanted - found)).sum(1).mean()
        assert 0 <= nats < 0.03, f"KL {nats:.3f} from the exact answer at noise {level}"

        def slope(log_prob) -> Tensor:
            return classifier_guidance(lambda x, _: torch.zeros_like(x), log_prob)(x, sigma)  # noqa: B023

        ours = slope(lambda x, sigma: model.log_prob(x, sigma, truth))  # noqa: B023
        theirs = slope(lambda x, sigma: exact(x, sigma).gather(1, truth[:, None])[:, 0])  # noqa: B023
        assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.8, f"at noise {level}"


def test_samplers_units_are_those_of_the_chain_divided_by_the_signal() -> None:
    model = toy(num_classes=5).eval()
    torch.nn.init.normal_(model.head.weight)
    x, sigma = torch.randn(6, 1, 4, 4), torch.tensor([0.01, 0.1, 0.5, 1.0, 5.0, 50.0])
    label = torch.tensor([0, 1, 2, 3, 4, 0])
    found = model.log_probs(x, sigma)
    x_t = x / (1 + sigma**2).sqrt()[:, None, None, None]
    torch.testing.assert_close(found, model(x_t, -2 * sigma.log()).log_softmax(1))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(6))
    assert torch.equal(model.log_prob(x, sigma, label), found[torch.arange(6), label])


def test_it_sees_the_chain_s_own_noise() -> None:
    """The loss is that of x_t at t = 1..T, drawn by hand from the same generator."""
    schedule = NoiseSchedule(num_steps=7)
    model = NoisyClassifier(NoisyClassifierConfig(num_classes=3, shape=SHAPE, schedule=schedule)).eval()
    torch.nn.init.normal_(model.head.weight)
    images, labels = torch.rand(64, 1, 4, 4), torch.randint(3, (64,))
    seen = {}
    model.register_forward_pre_hook(lambda _, inputs: seen.update(x_t=inputs[0], log_snr=inputs[1]))
    model.loss((images, labels), generator=torch.Generator().manual_seed(3))
    levels = schedule.log_snr(torch.arange(1, 8))
    assert set(seen["log_snr"].tolist()) == set(levels.tolist()), "every step occurs among 64 draws of 7"
    alpha_bar = seen["log_snr"].sigmoid().float()[:, None, None, None]
    noise = (seen["x_t"] - alpha_bar.sqrt() * (2 * images - 1)) / (1 - alpha_bar).sqrt()
    assert abs(noise.mean()) < 0.15
    assert noise.std() == pytest.approx(1, abs=0.1)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        NoisyClassifierConfig(num_classes=1)
    with pytest.raises(ValueError, match="num_classes must be 0, not 3"):
        NoisyClassifierConfig(num_classes=3, shape=UNetConfig(num_classes=3))
    with pytest.raises(ValueError, match="dropout"):
        NoisyClassifierConfig(num_classes=3, dropout=1.0)
    with pytest.raises(ValueError, match="divide bytes by 255"):
        toy().loss((torch.zeros(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)))
    with pytest.raises(ValueError, match=r"\(n, 1, 4, 4\)"):
        toy()(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="one time or noise level for each"):
        toy().log_probs(torch.zeros(2, 1, 4, 4), torch.ones(3))


def test_it_comes_back_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = recipes_diffusion.held_out().subset(range(0, 437, 20))
    monkeypatch.setattr(recipes_diffusion, "held_out", lambda: small)
    recipe = recipes.get("noisy-glyph-classifier")
    shape = UNetConfig(patch=4, widths=(4, 8), groups=2, head_dim=4, condition_width=8)
    path = run(
        replace(
            recipe,
            build=lambda: toy(29, shape),
            data=lambda: tuple(replace(part, tensors=tuple(t[:16] for t in part.tensors)) for part in recipe.data()),
            fit=replace(recipe.fit, num_steps=3, batch_size=4, precision="fp32"),
        ),
        tmp_path,
        progress=False,
        device="cpu",
    )
    card, model = zoo.card(path), zoo.load(path)
    assert card.kind == "noisy-classifier"
    assert isinstance(model, NoisyClassifier)
    assert recipes_diffusion.measure_noisy_classifier(model, True) == card.metrics
    levels = [f"{level:g}" for level in recipes_diffusion.NOISE_LEVELS]
    assert set(card.metrics) == {f"{name}_at_{level}" for name in ("accuracy", "cross_entropy") for level in levels}


def test_its_training_signs_are_turned_farther_than_those_of_the_generator() -> None:
    original = recipes_diffusion.data.load("glyphs", "train", size=32).images
    changed = {}
    for light in (True, False):
        train, validation = recipes_diffusion.fresh_glyphs(4000, light=light)
        assert train.transform is not None
        assert validation.transform is None
        rows = train.rows(torch.arange(0, len(train), 20))
        images, label = train.transform(rows, torch.Generator().manual_seed(0))
        assert torch.equal(label, rows[1])
        changed[light] = (images - original[rows[0]]).square().mean()
    assert changed[False] > 1.2 * changed[True] > 0
