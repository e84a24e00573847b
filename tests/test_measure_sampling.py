"""The long measurement of chapter 11: what it draws, what it judges by, and that it goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffusion_toys import seeded
from gentext import data
from gentext.diffusion import DiffusionConfig, GaussianDiffusion
from gentext.diffusion_classifier import NoisyClassifier, NoisyClassifierConfig
from gentext.nn import UNetConfig
from gentext.train import measure_sampling as measuring
from gentext.train.measure_sampling import Measured


@pytest.fixture(scope="module")
def test_signs():
    return data.load("glyphs", "test", size=32).subset(range(0, 437, 24))


@pytest.fixture(scope="module")
def tiny() -> GaussianDiffusion:
    torch.manual_seed(0)
    unet = UNetConfig(widths=(4, 4), groups=2, head_dim=4, condition_width=8, num_classes=29)
    model = GaussianDiffusion(DiffusionConfig(unet=unet)).eval().requires_grad_(False)
    for layer in model.modules():  # a network that begins with zeros says the same with and without a class
        if isinstance(layer, torch.nn.Conv2d) and not layer.weight.any():
            torch.nn.init.normal_(layer.weight, std=0.2)
    return model


@pytest.fixture(scope="module")
def guide() -> NoisyClassifier:
    torch.manual_seed(0)
    shape = UNetConfig(widths=(4, 8), groups=2, head_dim=4, condition_width=8)
    model = NoisyClassifier(NoisyClassifierConfig(num_classes=29, shape=shape)).eval().requires_grad_(False)
    torch.nn.init.normal_(model.head.weight, std=3.0)
    return model


def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "STEPS", {"heun": (2,), "dpm-solver++2m": (2,)})
    monkeypatch.setattr(measuring, "GUIDED", ("dpm-solver++2m", 2))
    monkeypatch.setattr(measuring, "GUIDANCE", (0.0, 1.0, 2.0))
    monkeypatch.setattr(measuring, "LED", ((0.0, 2.0, 1), (3.0, 0.0, 2)))
    monkeypatch.setattr(measuring, "RESTORE_STEPS", 2)


def test_damage_that_leaves_a_pixel_alone_leaves_it_as_it_was(test_signs) -> None:
    for kind, least in (("missing", 0.5), ("cracks", 0.5), ("noise", 0.0), ("erosion", 0.0)):
        worn, known = measuring.damaged_and_known(test_signs.images, kind, 0.5)
        assert torch.equal(worn, data.damage(test_signs.images, kind, 0.5, seeded()))
        assert torch.equal(worn[known], test_signs.images[known])
        part = known.double().mean().item()
        assert least <= part < (0.9 if least else 1e-3), (kind, part)


def test_signs_are_drawn_from_the_same_noise_and_as_they_are_told(tiny, test_signs) -> None:
    labels = test_signs.labels
    signs = {w: measuring.draw(tiny, labels, "dpm-solver++2m", 3, w) for w in (0.0, 1.0, 3.0)}
    assert signs[1.0].shape == (len(labels), 1, 32, 32)
    assert signs[1.0].min() >= 0
    assert signs[1.0].max() <= 1
    assert torch.equal(signs[1.0], measuring.draw(tiny, labels, "dpm-solver++2m", 3))
    other = measuring.draw(tiny, labels.flip(0), "dpm-solver++2m", 3, 0.0)
    assert torch.equal(signs[0.0], other), "without guidance the class is not told"
    assert not torch.equal(signs[1.0], signs[3.0])
    assert not torch.equal(signs[1.0], measuring.draw(tiny, labels, "dpm-solver++2m", 3, seed=5))
    assert torch.equal(signs[1.0], measuring.draw(tiny, labels, "dpm-solver++2m", 3, 3.0, within=(1e3, 1e4)))
    assert torch.equal(signs[3.0], measuring.draw(tiny, labels, "dpm-solver++2m", 3, 3.0, within=(1e-9, 1e4)))


def test_a_guide_bends_towards_the_script_as_far_as_it_is_let(tiny, guide, test_signs) -> None:
    labels = test_signs.labels
    plain = measuring.draw(tiny, labels, "dpm-solver++2m", 4)
    signs = {s: measuring.draw(tiny, labels, "dpm-solver++2m", 4, guide=guide, strength=s) for s in (0.0, 5.0)}
    torch.testing.assert_close(signs[0.0], plain, msg="strength 0 is no guide")
    one = measuring.draw(tiny, labels, "dpm-solver++2m", 4, 0.0, guide=guide, strength=5.0)
    other = measuring.draw(tiny, labels.flip(0), "dpm-solver++2m", 4, 0.0, guide=guide, strength=5.0)
    assert not torch.equal(one, other), "the guide knows the script when the model is not told"


def test_a_guess_is_bent_by_the_guides_slope_and_cut_off(guide, test_signs) -> None:
    labels, sigma = test_signs.labels, torch.full((len(test_signs),), 1.5)
    x = torch.randn(len(labels), 1, 32, 32, generator=seeded()).requires_grad_()
    slope = torch.autograd.grad(guide.log_prob(x, sigma, labels).sum(), x)[0]
    x = x.detach()
    towards = measuring.bent(lambda x, _: x / 2, guide, labels, 3.0)(x, sigma)
    torch.testing.assert_close(towards, (x / 2 + 3.0 * 1.5**2 * slope).clamp(-1, 1))
    assert slope.abs().max() > 0


def test_the_guide_chooses_what_it_is_surest_of(guide, test_signs) -> None:
    images, labels = test_signs.images, test_signs.labels
    draws = [images, images.flip(3), images.flip(2)]
    clean = torch.full((len(labels),), measuring.CLEAN)
    sure = torch.stack([guide.log_prob(2 * x - 1, clean, labels) for x in draws])
    chosen = measuring.best(draws, guide, labels)
    for n in range(len(labels)):
        assert torch.equal(chosen[n], draws[int(sure[:, n].argmax())][n])
    assert len(sure.argmax(0).unique()) > 1, "else this would show nothing"
    assert torch.equal(measuring.best(draws[:1], guide, labels), images)


def test_what_is_known_stays(tiny, test_signs) -> None:
    worn, known = measuring.damaged_and_known(test_signs.images, "missing", 0.5)
    for label in (None, test_signs.labels):
        filled = measuring.restore(tiny, worn, known, resample=2, label=label, num_steps=2)
        torch.testing.assert_close(filled[known], worn[known])
        assert not torch.equal(filled[~known], worn[~known])


def test_spread_counts_pairs_of_one_script() -> None:
    features = torch.tensor([[0.0], [1.0], [4.0], [9.0]])
    value, error = measuring.spread(features, torch.tensor([0, 0, 0, 1]))
    assert value == pytest.approx((2.5 + 2.0 + 3.5) / 3)
    assert error == pytest.approx(torch.tensor([2.5, 2.0, 3.5]).std().item() / 3**0.5)


def test_real_signs_have_the_quality_of_real_signs(test_signs) -> None:
    found = measuring.quality(test_signs.images, test_signs.labels, test_signs)
    assert found["frechet"][0] == pytest.approx(0, abs=1e-6)
    assert found["precision"][0] == found["recall"][0] == 1
    assert found["consistency"] == measuring.judge(test_signs.images, test_signs.labels)


def test_it_goes_on_where_it_was_stopped(
    tiny, guide, test_signs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_points(monkeypatch)
    path = tmp_path / "measured.csv"
    first = measuring.measure(tiny, guide, "abc", path, test_signs, only=("samplers",))
    assert {row.calls for row in first} == {3, 2}
    rows = measuring.measure(tiny, guide, "abc", path, test_signs)
    assert rows[: len(first)] == first
    assert measuring.read(path) == ("abc", rows)
    assert {row.experiment for row in rows} == set(measuring.EXPERIMENTS)
    assert [row.calls for row in rows if row.experiment == "guidance" and row.metric == "spread"] == [2, 2, 4, 2, 2, 8]
    asked = []
    monkeypatch.setattr(measuring, "quality", lambda *_: asked.append(1) or {})
    assert measuring.measure(tiny, guide, "abc", path, test_signs) == rows
    assert not asked
    again = measuring.measure(tiny, guide, "other weights", path, test_signs, only=("samplers",))
    assert asked, "numbers of other weights do not count"
    assert again == []


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="holds no measurements"):
        measuring.read(path)


@pytest.mark.skipif(not measuring.MEASURED.exists(), reason="not measured yet")
def test_the_numbers_belong_to_the_weights_and_can_be_had_again() -> None:
    weights, rows = measuring.read()
    model, guide, digest = measuring.networks()
    assert weights == digest
    test = data.load("glyphs", "test", size=32)
    planned = [point for point, _ in measuring.points(model, guide, test)]
    measured = {row.point: row for row in rows}
    assert set(planned) == set(measured)
    point = ("samplers", "dpm-solver++2m", 5, 1.0)
    work = dict(measuring.points(model, guide, test))[point]
    for metric, (value, _) in work().items():
        row = next(row for row in rows if row.point == point and row.metric == metric)
        assert isinstance(row, Measured)
        assert value == pytest.approx(row.value, rel=0.02, abs=0.01), metric
