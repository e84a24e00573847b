"""Diffusion against what is known exactly: Gaussians, Bayes' rule on a grid, closed-form KLs, and another library."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from diffusion_toys import ExactNetwork, GaussianData, seeded
from gentext import zoo
from gentext.diffusion import DiffusionConfig, GaussianDiffusion
from gentext.diffusion_schedule import (
    PREDICTIONS,
    NoiseSchedule,
    convert,
    from_x0_and_noise,
    karras_sigmas,
    x0_and_noise,
)
from gentext.nn import DiTConfig, UNetConfig
from gentext.train import FitConfig, TensorData, fit

few = settings(max_examples=15, deadline=None)
kinds = st.sampled_from(["linear", "cosine", "edm"])
exact = {"rtol": 1e-12, "atol": 1e-12}
ONE_PIXEL = UNetConfig(image_size=1, widths=(4,), groups=2, head_dim=4)


def whole(schedule: NoiseSchedule) -> Tensor:
    return torch.arange(1, schedule.num_steps + 1)


def exact_model(data: GaussianData, shift: float = 0.0, **changes) -> GaussianDiffusion:
    """A diffusion model of rows of pixels whose network is right, or wrong by `shift` in x₀."""
    config = DiffusionConfig(**{"clip": False, "unet": ONE_PIXEL, **changes})
    return GaussianDiffusion(config, ExactNetwork(data, config.prediction, shift))


def tiny(num_classes: int = 0, **changes) -> GaussianDiffusion:
    torch.manual_seed(0)
    unet = UNetConfig(image_size=8, widths=(8, 8), groups=4, head_dim=8, condition_width=8, num_classes=num_classes)
    changes = {"unet": unet, "schedule": NoiseSchedule(num_steps=20), **changes}
    model = GaussianDiffusion(DiffusionConfig(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded()))
    return model


# ---- the schedule ----------------------------------------------------------------------------------------------------


@few
@given(kinds, st.integers(2, 300))
def test_schedule_identities(kind, num_steps):
    schedule = NoiseSchedule(kind=kind, num_steps=num_steps)
    t = torch.arange(num_steps + 1)
    alpha_bar = schedule.alpha_bar(t)
    assert alpha_bar.dtype == torch.float64
    assert alpha_bar[0] == 1
    assert (alpha_bar.diff() < 0).all()
    torch.testing.assert_close(schedule.signal_scale(t) ** 2 + schedule.noise_scale(t) ** 2, torch.ones_like(alpha_bar))
    torch.testing.assert_close((1 - schedule.beta(t[1:])).cumprod(0), alpha_bar[1:], rtol=1e-9, atol=0)
    beta = schedule.beta(t[1:])
    assert ((beta > 0) & (beta < 1)).all()
    log_snr = schedule.log_snr(t[1:])
    assert schedule.log_snr(t)[0] == math.inf
    assert schedule.sigma(t)[0] == 0
    torch.testing.assert_close(schedule.sigma(t[1:]), (-0.5 * log_snr).exp(), **exact)
    torch.testing.assert_close(log_snr.sigmoid(), alpha_bar[1:], rtol=1e-9, atol=0)
    torch.testing.assert_close(
        schedule.sigma(t[1:]), schedule.noise_scale(t[1:]) / schedule.signal_scale(t[1:]), **exact
    )


def test_the_schedules_are_the_papers():
    t = torch.arange(1001, dtype=torch.float64)
    linear = NoiseSchedule(kind="linear")
    torch.testing.assert_close(linear.beta(t[1:]), torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), **exact)
    cosine = NoiseSchedule(kind="cosine").alpha_bar(t)
    wanted = torch.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(cosine[:-1], wanted[:-1], **exact)
    assert NoiseSchedule(kind="cosine").beta(t[-1:]).item() == pytest.approx(0.999)
    edm = NoiseSchedule(kind="edm", num_steps=18)
    sigma = edm.sigma(torch.arange(1, 19))
    wanted = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(17, -1, -1)]
    torch.testing.assert_close(sigma, torch.tensor(wanted, dtype=torch.float64), rtol=1e-10, atol=0)


@few
@given(kinds, st.integers(2, 200), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_time_undoes_sigma_at_whole_and_broken_times(kind, num_steps, shares):
    schedule = NoiseSchedule(kind=kind, num_steps=num_steps)
    t = num_steps * torch.tensor(shares, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.sigma(t)), t, rtol=1e-6, atol=1e-6)
    low, high = schedule.log_alpha_bar(t.floor()), schedule.log_alpha_bar(t.ceil())
    between = schedule.log_alpha_bar(t)
    assert ((between <= low + 1e-15) & (between >= high - 1e-15)).all()
    assert schedule.time(torch.tensor([1e9])).item() == num_steps
    assert schedule.time(torch.tensor([0.0])).item() == 0


def test_a_grid_for_samplers():
    schedule = NoiseSchedule(num_steps=50)
    sigmas = schedule.sigmas(50)
    torch.testing.assert_close(sigmas, schedule.sigma(torch.arange(50, -1, -1)))
    assert schedule.sigmas(7).shape == (8,)
    assert schedule.sigmas(7)[-1] == 0
    for num_steps in (0, 51):
        with pytest.raises(ValueError, match=r"num_steps must lie in 1\.\.50, the chain's"):
            schedule.sigmas(num_steps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "sigmoid"}, "kind must be one of linear, cosine, edm, got 'sigmoid'"),
        ({"num_steps": 1}, "num_steps must be at least 2, got 1"),
        ({"beta_first": 0.0}, "beta_first and beta_last must lie between 0 and 1"),
        ({"beta_last": 1.0}, "beta_first and beta_last"),
        ({"beta_first": 0.5}, "not fall"),
        ({"offset": -1.0}, "offset must not be negative"),
        ({"max_beta": 1.0}, "max_beta must lie between 0 and 1"),
        ({"sigma_min": 0.0}, "0 < sigma_min < sigma_max"),
        ({"sigma_max": math.inf}, "0 < sigma_min < sigma_max"),
        ({"rho": 0.0}, "a positive rho"),
    ],
)
def test_bad_schedules_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule(**changes)


def test_times_outside_the_chain_are_refused():
    for t in (-0.5, 1000.5, math.nan):
        with pytest.raises(ValueError, match=r"times must lie in 0\.\.1000"):
            NoiseSchedule().alpha_bar(torch.tensor([3.0, t]))
    with pytest.raises(ValueError, match="at least 2 steps"):
        karras_sigmas(1, 0.1, 1.0, 7.0)


# ---- ε, x₀ and v -----------------------------------------------------------------------------------------------------


@few
@given(st.lists(st.floats(-8, 8), min_size=1, max_size=4), st.integers(0, 100))
def test_conversions_are_exact_both_ways(log_snrs, seed):
    log_snr = torch.tensor(log_snrs, dtype=torch.float64)
    x0, noise = torch.randn(2, len(log_snrs), 3, 2, generator=seeded(seed), dtype=torch.float64)
    signal, noise_scale = log_snr.sigmoid().sqrt()[:, None, None], (-log_snr).sigmoid().sqrt()[:, None, None]
    x_t = signal * x0 + noise_scale * noise
    said = {kind: from_x0_and_noise(x0, noise, kind, log_snr) for kind in PREDICTIONS}
    torch.testing.assert_close(said["velocity"], signal * noise - noise_scale * x0, **exact)
    for source in PREDICTIONS:
        # Errors of rounding grow by the factor that the other one is divided by, e^4 at most here.
        got_x0, got_noise = x0_and_noise(said[source], source, x_t, log_snr)
        torch.testing.assert_close(got_x0, x0, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got_noise, noise, rtol=1e-12, atol=1e-12)
        for target in PREDICTIONS:
            told = convert(said[source], x_t, log_snr, source, target)
            torch.testing.assert_close(told, said[target], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(convert(told, x_t, log_snr, target, source), said[source], **exact)


def test_velocity_is_edms_network_for_data_of_unit_variance():
    """Karras et al. 2022, table 1 with σ_data = 1: D = x / (1 + σ²) + σ / √(1 + σ²) F, and so F = −v."""
    sigma = torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)
    x, f = torch.randn(2, 3, 5, generator=seeded(), dtype=torch.float64)
    s = sigma[:, None]
    edm = x / (1 + s**2) + s / (1 + s**2).sqrt() * f
    ours, _ = x0_and_noise(-f, "velocity", x / (1 + s**2).sqrt(), -2 * sigma.log())
    torch.testing.assert_close(ours, edm, **exact)


def test_bad_predictions_are_refused():
    x, log_snr = torch.zeros(2, 3), torch.zeros(2)
    with pytest.raises(ValueError, match="one of noise, x0, velocity, got 'score'"):
        convert(x, x, log_snr, "score", "x0")
    with pytest.raises(ValueError, match="one of noise, x0, velocity, got 'score'"):
        convert(x, x, log_snr, "x0", "score")
    with pytest.raises(ValueError, match=r"the shape of x_t, \(2, 3\), got \(2, 4\)"):
        convert(torch.zeros(2, 4), x, log_snr, "x0", "noise")
    with pytest.raises(ValueError, match="one time or noise level for each example"):
        convert(x, x, torch.zeros(3), "x0", "noise")


# ---- the chain -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "cosine", "edm"])
def test_many_small_steps_are_one_large_step(kind):
    """q(x_t∣x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t), repeated, has the moments of the closed form."""
    schedule = NoiseSchedule(kind=kind, num_steps=30)
    mean, var = 1.0, 0.0
    for t in whole(schedule):
        beta = schedule.beta(t[None]).item()
        mean, var = math.sqrt(1 - beta) * mean, (1 - beta) * var + beta
        assert mean == pytest.approx(schedule.signal_scale(t[None]).item(), rel=1e-10)
        assert var == pytest.approx(schedule.noise_scale(t[None]).item() ** 2, rel=1e-10)


def test_noised_data_have_the_stated_moments():
    model = exact_model(GaussianData.example(), schedule=NoiseSchedule(num_steps=10))
    x0, n = torch.tensor([[0.5, -1.0]], dtype=torch.float64), 40_000
    t = torch.full((n,), 4)
    x_t = model.noised(x0.expand(n, -1), t, torch.randn(n, 2, generator=seeded(), dtype=torch.float64))
    torch.testing.assert_close(x_t.mean(0), model.schedule.signal_scale(t[:1]) * x0[0], atol=0.02, rtol=0)
    torch.testing.assert_close(x_t.var(0), model.schedule.noise_scale(t[:1]) ** 2 * torch.ones(2), atol=0.02, rtol=0)


@few
@given(kinds, st.integers(2, 12), st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.data())
def test_the_posterior_is_bayes_rule_on_a_grid(kind, t, x0, x_t, data):
    """q(x_s∣x_t, x₀) ∝ q(x_t∣x_s) q(x_s∣x₀), multiplied and normalised numerically."""
    schedule = NoiseSchedule(kind=kind, num_steps=12, beta_first=0.05, beta_last=0.3, sigma_min=0.1)
    s = data.draw(st.integers(1, t - 1))
    model = exact_model(GaussianData.example(1), schedule=schedule)
    double = {"dtype": torch.float64}
    found = model.posterior(
        torch.tensor([[x0]], **double), torch.tensor([[x_t]], **double), torch.tensor([t]), torch.tensor([s])
    )
    a_s, a_t = schedule.alpha_bar(torch.tensor([s, t])).tolist()
    middle, spread = found.mean.item(), found.std.item()
    grid = torch.linspace(middle - 12 * spread, middle + 12 * spread, 20_001, **double)
    log_q = Normal(math.sqrt(a_s) * x0, math.sqrt(1 - a_s)).log_prob(grid)
    log_q = log_q + Normal(math.sqrt(a_t / a_s) * grid, math.sqrt(1 - a_t / a_s)).log_prob(torch.tensor(x_t, **double))
    q = (log_q - log_q.max()).exp()
    q = q / torch.trapezoid(q, grid)
    mean = torch.trapezoid(q * grid, grid).item()
    var = torch.trapezoid(q * (grid - mean) ** 2, grid).item()
    assert mean == pytest.approx(middle, abs=1e-7 * (1 + abs(middle)))
    assert var == pytest.approx(spread**2, rel=1e-6)


def test_the_posterior_is_ho_et_als_formula():
    model = exact_model(GaussianData.example(3), schedule=NoiseSchedule(kind="linear"))
    x0, x_t = torch.randn(2, 4, 3, generator=seeded(), dtype=torch.float64)
    t = torch.tensor([1, 2, 500, 1000])
    beta, a, before = (
        f[:, None] for f in (model.schedule.beta(t), model.schedule.alpha_bar(t), model.schedule.alpha_bar(t - 1))
    )
    mean = before.sqrt() * beta / (1 - a) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - a) * x_t  # equation 7
    found = model.posterior(x0, x_t, t)
    torch.testing.assert_close(found.mean, mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.std[1:] ** 2, ((1 - before) / (1 - a) * beta)[1:].expand(3, 3), rtol=1e-9, atol=0)
    assert (found.std[0] == 0).all()  # before step 1 there is x₀ and nothing else
    torch.testing.assert_close(found.mean[0], x0[0])


def chain_moments(model: GaussianDiffusion, d: int, last: int = 0) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of p_θ(x_last) for a linear denoiser, step by step and without drawing."""
    mean, cov = torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)
    for t in range(model.schedule.num_steps, last, -1):
        points = torch.cat([mean[None], mean + torch.eye(d, dtype=torch.float64)])
        step = model.reverse(points, torch.full((d + 1,), t))
        slope = step.mean[1:] - step.mean[0]  # (d, d), a row for each coordinate moved
        var = step.std[0].square() if t > 1 else torch.zeros(d, dtype=torch.float64)
        mean, cov = step.mean[0], slope.T @ cov @ slope + var.diag()
    return mean.detach(), cov.detach()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_chain_back_recovers_a_gaussian(prediction):
    """Exactly, as the steps get many: the error of mean and covariance falls like 1 / T, with either variance."""
    data = GaussianData.example(2)
    for variance, sign in (("posterior", -1), ("beta", 1)):
        errors = []
        for num_steps in (100, 200, 400):
            schedule = NoiseSchedule(kind="edm", num_steps=num_steps, sigma_max=200.0, sigma_min=1e-3)
            model = exact_model(data, prediction=prediction, variance=variance, schedule=schedule)
            mean, cov = chain_moments(model, 2)
            torch.testing.assert_close(mean, data.mean, atol=2e-3, rtol=0)
            errors.append((cov - data.cov).abs().max().item())
            # β̃ takes x₀ for known, β for N(0, I): for data in between one is too small, the other too large.
            assert (sign * torch.linalg.eigvalsh(cov - data.cov) > 0).all()
        slopes = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
        assert all(0.85 < slope < 1.15 for slope in slopes), slopes


def test_drawn_samples_have_the_chains_moments():
    data, n, generator = GaussianData.example(2), 5000, seeded(3)
    for variance in ("posterior", "beta"):
        model = exact_model(data, variance=variance, schedule=NoiseSchedule(num_steps=12))
        mean, cov = chain_moments(model, 2)
        x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        for t in range(12, 0, -1):
            x = model.ancestral_step(x, t, generator=generator)
        torch.testing.assert_close(x.mean(0), mean, atol=0.06, rtol=0)
        torch.testing.assert_close(x.T.cov(), cov, atol=0.06, rtol=0)


def test_sample_walks_the_whole_chain():
    model, seen = tiny(), []
    images = model.sample(3, generator=seeded(), on_step=lambda t, x: seen.append((t, x.shape)))
    assert seen == [(t, (3, 1, 8, 8)) for t in range(19, -1, -1)]
    assert images.shape == (3, 1, 8, 8)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(images, model.sample(3, generator=seeded()))
    assert not torch.equal(images, model.sample(3, generator=seeded(1)))
    for n, label in ((0, None), (2, torch.zeros(3, dtype=torch.long))):
        with pytest.raises(ValueError, match="one label for each image or none"):
            model.sample(n, label)
    for t in (0, 21):
        with pytest.raises(ValueError, match=r"starts at t in 1\.\.20"):
            model.ancestral_step(images, t)


def test_denoise_is_the_same_network_in_units_of_the_datum():
    data = GaussianData.example(2)
    x, sigma = torch.randn(5, 2, generator=seeded(), dtype=torch.float64), torch.logspace(-2, 2, 5, dtype=torch.float64)
    for prediction in PREDICTIONS:
        model = exact_model(data, prediction=prediction)
        torch.testing.assert_close(model.denoise(x, sigma), data.denoise(x, sigma), rtol=1e-8, atol=1e-8)
    clipped = exact_model(data, shift=5.0, clip=True)
    assert clipped.denoise(x, sigma).abs().max() == 1


def test_guidance_goes_on_past_the_conditional_answer():
    model = tiny(num_classes=3).double()
    x = torch.randn(4, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    log_snr, label = torch.linspace(-3, 3, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    none = torch.full_like(label, 3)
    conditional, unconditional = model.predict(x, log_snr, label), model.predict(x, log_snr, none)
    assert not torch.allclose(conditional[0], unconditional[0])
    for index in range(2):  # the rule is linear, so it holds for x₀ and ε alike
        for weight in (0.0, 0.5, 1.0, 3.0):
            wanted = unconditional[index] + weight * (conditional[index] - unconditional[index])
            torch.testing.assert_close(model.predict(x, log_snr, label, weight)[index], wanted, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(model.predict(x, log_snr, None, 3.0), unconditional)


# ---- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weightings_are_what_they_are_called(prediction):
    """A network wrong by a constant in x₀ has errors that can be written down."""
    data, shift = GaussianData(torch.zeros(2), 1e-12 * torch.eye(2)), 0.3
    schedule = NoiseSchedule(kind="linear", num_steps=8, beta_first=0.05, beta_last=0.4)
    images = torch.full((4000, 2), 0.5, dtype=torch.float64)  # centred: 0, which is all the data there is
    snr = schedule.log_snr(whole(schedule)).exp()
    expected = {
        "x0": torch.ones(8, dtype=torch.float64),
        "noise": snr,
        "velocity": snr + 1,
        "min-snr": snr.clamp(max=5),
        "bound": 4 * torch.cat([1 / schedule.beta(torch.tensor([1])), -snr.diff()]),
    }
    for weighting, weight in expected.items():
        model = exact_model(data, shift, prediction=prediction, weighting=weighting, schedule=schedule)
        torch.testing.assert_close(model.weight(whole(schedule)), weight, rtol=1e-9, atol=0)
        loss = model.loss((images,), generator=seeded())
        t = 1 + (torch.rand(4000, generator=seeded()) * 8).long()
        torch.testing.assert_close(loss.total.item(), (shift**2 * weight[t - 1]).mean().item(), rtol=1e-5, atol=0)
        assert loss.terms["x0_error"].item() == pytest.approx(shift**2, rel=1e-5)
        assert loss.terms["noise_error"].item() == pytest.approx((shift**2 * snr[t - 1]).mean().item(), rel=1e-5)


def test_the_three_predictions_are_one_loss():
    data = GaussianData.example(2)
    images = (data.draw(64, seeded(1)) + 1) / 2
    losses = [
        exact_model(data, 0.1, prediction=prediction, weighting="min-snr").loss((images,), generator=seeded(2)).total
        for prediction in PREDICTIONS
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-7, atol=0)
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-7, atol=0)


def test_no_constant_improves_on_the_exact_denoiser():
    data = GaussianData.example(2)
    images = (data.draw(20_000, seeded(1)) + 1) / 2
    model = exact_model(data, schedule=NoiseSchedule(num_steps=50), weighting="x0")
    model.loss((images,), generator=seeded(2)).total.backward()
    right = model.loss((images,), generator=seeded(2)).total
    assert abs(model.network.shift.grad) < 0.02
    for shift in (-0.1, 0.1):
        wrong = exact_model(data, shift, schedule=NoiseSchedule(num_steps=50), weighting="x0")
        assert wrong.loss((images,), generator=seeded(2)).total > right


def test_labels_are_dropped_as_often_as_stated():
    model = tiny(num_classes=5, label_dropout=0.25)
    label = torch.arange(20_000) % 5
    kept = model.dropped(label, seeded())
    assert (kept == 5).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(kept[kept < 5], label[kept < 5])
    assert torch.equal(tiny(num_classes=5, label_dropout=0.0).dropped(label, seeded()), label)
    assert (tiny(num_classes=5, label_dropout=1.0).dropped(label, seeded()) == 5).all()


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_it_trains_and_travels_through_the_zoo(network, tmp_path):
    labels = torch.arange(16) % 2
    images = labels[:, None, None, None].expand(-1, 1, 8, 8).float().contiguous()  # one class black, the other white
    unet = UNetConfig(image_size=8, widths=(8, 8), groups=4, head_dim=8, condition_width=8, num_classes=2)
    dit = DiTConfig(image_size=8, width=16, num_layers=1, num_heads=2, num_classes=2)
    config = DiffusionConfig(network=network, unet=unet, dit=dit, schedule=NoiseSchedule(num_steps=8))
    torch.manual_seed(0)
    model = GaussianDiffusion(config)
    settings = FitConfig(
        num_steps=60, batch_size=16, learning_rate=1e-2, warmup_steps=2, ema_decay=0.8, precision="fp32"
    )
    data = TensorData((images, labels))
    before = model.loss((images, labels), generator=seeded()).total.item()
    result = fit(model, data, settings, validation=data, progress=False, device="cpu")
    assert result.model.loss((images, labels), generator=seeded()).total.item() < 0.7 * before
    path = zoo.save(tmp_path / "d.safetensors", model, zoo.Card(name="d", summary="."), half=False)
    again = zoo.load(path)
    assert again.config == config
    label = torch.tensor([0, 1])
    assert torch.equal(again.sample(2, label, 1.5, seeded()), model.sample(2, label, 1.5, seeded()))


# ---- the bound -------------------------------------------------------------------------------------------------------


def levels(n: int, d: int, seed: int = 1, num_levels: int = 256) -> Tensor:
    return torch.randint(0, num_levels, (n, d), generator=seeded(seed)).double() / (num_levels - 1)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_each_term_of_the_bound_is_a_kl(variance):
    data = GaussianData.example(3)
    schedule = NoiseSchedule(kind="linear", num_steps=6, beta_first=0.05, beta_last=0.6)
    model = exact_model(data, shift=0.2, variance=variance, schedule=schedule)
    images = levels(5, 3)
    x0, bits = 2 * images - 1, 1 / (3 * math.log(2))
    bound = model.bound(images, generator=seeded())
    assert torch.equal(bound.times, torch.arange(2, 7).expand(5, 5))
    torch.testing.assert_close(bound.total, bound.prior + bound.transitions.sum(1) + bound.decoder)
    one = torch.ones(5, dtype=torch.long)

    end = Normal(schedule.signal_scale(6 * one)[:, None] * x0, schedule.noise_scale(6 * one)[:, None])
    prior = kl_divergence(end, Normal(torch.zeros(3).double(), torch.ones(3).double())).sum(1)
    torch.testing.assert_close(bound.prior, bits * prior)

    generator = seeded()  # the same noise in the same order
    x_1 = model.noised(x0, one, torch.randn(5, 3, generator=generator, dtype=torch.float64))
    step = model.reverse(x_1, one)
    torch.testing.assert_close(step.std, schedule.beta(one).sqrt()[:, None].expand(5, 3))
    edges = torch.cat([torch.tensor([-1e9]), (2 * torch.arange(1, 256) - 1) / 255 - 1, torch.tensor([1e9])]).double()
    cdf = Normal(step.mean[..., None], step.std[..., None]).cdf(edges)  # (5, 3, 257)
    mass = cdf.diff().gather(2, (images * 255).round().long()[..., None])[..., 0]
    torch.testing.assert_close(bound.decoder, -bits * mass.log().sum(1), rtol=1e-5, atol=1e-5)

    for index, t in enumerate(range(2, 7)):
        torch.rand(5, generator=generator)  # which step of the stratum
        x_t = model.noised(x0, t * one, torch.randn(5, 3, generator=generator, dtype=torch.float64))
        q, p = model.posterior(x0, x_t, t * one), model.reverse(x_t, t * one)
        peer = kl_divergence(Normal(q.mean, q.std), Normal(p.mean, p.std)).sum(1)
        torch.testing.assert_close(bound.transitions[:, index], bits * peer)
        if variance == "posterior":  # and the SNR form that the weighting "bound" rests on
            error = (x0 - model.predict(x_t, schedule.log_snr(t * one))[0]).square().sum(1)
            torch.testing.assert_close(peer, model.weight(t * one, "bound") / 6 * error)


def test_the_decoder_is_a_distribution_over_levels_also_far_out():
    model = exact_model(GaussianData.example(1), num_levels=16)
    every = (2 * torch.arange(16, dtype=torch.float64) / 15 - 1)[:, None]
    for mean, std in ((0.1, 0.2), (-0.9, 0.01), (3.0, 0.05), (-40.0, 1.0)):
        step = replace(model.reverse(every, torch.ones(16, dtype=torch.long)), mean=torch.full_like(every, mean))
        step = replace(step, log_var=torch.full_like(every, 2 * math.log(std)))
        log_p = model.log_level(every, step)
        assert torch.isfinite(log_p).all()
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_the_bound_lies_above_the_exact_likelihood_and_comes_near_it():
    """With a linear denoiser p_θ(x₁) is a Gaussian, computed step by step; the decoder makes grey levels of it."""
    data = GaussianData(torch.tensor([0.2]), torch.tensor([[0.3]]))
    gaps = []
    for num_steps in (16, 64, 256):
        schedule = NoiseSchedule(kind="edm", num_steps=num_steps, sigma_min=0.02, sigma_max=20.0)
        model = exact_model(data, schedule=schedule)
        mean, var = (moment.item() for moment in chain_moments(model, 1, last=1))  # of p_θ(x₁)
        images = torch.arange(51, 255, 51).double()[:, None] / 255  # not the levels at the ends, which hold the tails
        grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
        p_x1 = Normal(mean, math.sqrt(var)).log_prob(grid).exp()
        decoder = model.reverse(grid[:, None], torch.ones(4001, dtype=torch.long))
        exact_bits = torch.tensor(
            [
                -math.log2(
                    torch.trapezoid(p_x1 * model.log_level(x.expand(4001, 1) * 2 - 1, decoder).detach().exp(), grid)
                )
                for x in images
            ]
        )
        draws = model.bound(images.repeat(300, 1), generator=seeded()).total.view(300, -1)
        gap = draws.mean(0) - exact_bits
        error = draws.std(0) / math.sqrt(300)
        assert (gap > -4 * error).all(), "a bound does not lie under what it bounds"
        gaps.append(gap.mean().item())
    assert gaps[0] > 3 * gaps[1]
    assert 3 < gaps[1] / gaps[2] < 5, "four times the steps, a quarter of the gap"
    assert gaps[2] < 0.6


def test_strata_estimate_the_same_sum():
    model = exact_model(GaussianData.example(2), 0.1, schedule=NoiseSchedule(num_steps=40))
    images = levels(1, 2).expand(1500, 2)
    whole_sum = model.bound(images, generator=seeded()).transitions.sum(1)
    part = model.bound(images, num_times=5, generator=seeded())
    assert part.transitions.shape == part.times.shape == (1500, 5)
    assert part.times.min() == 2
    assert part.times.max() == 40
    low, high = part.times.min(0).values, part.times.max(0).values
    assert low[1:].tolist() == (high[:-1] + 1).tolist(), "every step is in one stratum"
    assert ((high - low).diff() >= 0).all(), "and the first strata, where most is, are the shortest"
    estimate = part.transitions.sum(1)
    assert abs(estimate.mean() - whole_sum.mean()) < 4 * estimate.std() / math.sqrt(1500)
    assert part.decoder.mean().item() == pytest.approx(model.bound(images, generator=seeded()).decoder.mean().item())


def test_strata_of_any_number_hold_every_step_once():
    model = exact_model(GaussianData.example(1), schedule=NoiseSchedule(num_steps=12))
    for num_times in range(1, 12):
        times = model.bound(levels(1, 1).expand(300, 1), num_times=num_times, generator=seeded()).times
        assert times.unique().tolist() == list(range(2, 13))
        assert (times.max(0).values[:-1] < times.min(0).values[1:]).all()


def test_the_loss_weighted_by_the_bound_estimates_it():
    data = GaussianData.example(2)
    schedule = NoiseSchedule(num_steps=20)
    model = exact_model(data, 0.05, weighting="bound", schedule=schedule)
    images = levels(1, 2).expand(10_000, 2)
    bound = model.bound(images, generator=seeded(4))
    # −log N(x₀; x̂₀, β_1) of a level's width is the decoder's term, where the level is narrow beside √β_1.
    beta = schedule.beta(torch.tensor([1])).item()
    constant = 0.5 * math.log(2 * math.pi * beta) - math.log(2 / 255)
    nats = math.log(2) * (bound.total - bound.prior).mean().item() - constant
    total = torch.stack([model.loss((images,), generator=seeded(seed)).total.detach() for seed in range(5)])
    assert total.mean().item() == pytest.approx(nats, rel=0.03)


def test_a_bound_needs_grey_levels():
    model = exact_model(GaussianData.example(2), schedule=NoiseSchedule(num_steps=5))
    with pytest.raises(ValueError, match=r"pixels k / 255 with k = 0\.\.255: round them first"):
        model.bound(torch.full((1, 2), 0.3337, dtype=torch.float64))
    with pytest.raises(ValueError, match="round them first"):
        model.bound(torch.full((1, 2), -1.0, dtype=torch.float64))
    for num_times in (0, 5):
        with pytest.raises(ValueError, match=r"num_times must lie in 1\.\.4"):
            model.bound(levels(1, 2), num_times=num_times)


# ---- the door --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "mlp"}, "network must be one of unet, dit, got 'mlp'"),
        ({"prediction": "score"}, "prediction must be one of noise, x0, velocity, got 'score'"),
        ({"weighting": "none"}, "weighting must be one of noise, x0, velocity, min-snr, bound, got 'none'"),
        ({"variance": "learned"}, "variance must be one of posterior, beta, got 'learned'"),
        ({"label_dropout": 1.5}, "label_dropout is a probability, got 1.5"),
        ({"num_levels": 1}, "num_levels must be at least 2, got 1"),
    ],
)
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DiffusionConfig(**changes)


def test_bad_batches_and_times_are_refused():
    with pytest.raises(ValueError, match="divide bytes by 255"):
        tiny().loss((torch.zeros(2, 1, 8, 8, dtype=torch.uint8),), generator=seeded())
    with pytest.raises(ValueError, match="class-conditional: a batch needs labels beside its images"):
        tiny(num_classes=2).loss((torch.zeros(2, 1, 8, 8),), generator=seeded())
    x, t = torch.zeros(2, 1, 8, 8), torch.tensor([3, 4])
    with pytest.raises(ValueError, match="s must be less than t"):
        tiny().posterior(x, x, t, torch.tensor([2, 4]))


@few
@given(st.floats(0, 1), st.integers(1, 4))
def test_centred_and_pixels_undo_each_other(value, n):
    x = torch.full((n, 1, 2, 2), value, dtype=torch.float64)
    torch.testing.assert_close(GaussianDiffusion.pixels(GaussianDiffusion.centred(x)), x)


# ---- another library -------------------------------------------------------------------------------------------------


class Answers(nn.Module):
    """Some smooth function of x_t and the noise level, whatever is asked."""

    def forward(self, x_t: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        return (x_t + 0.1 * log_snr.to(x_t.dtype).view(-1, 1, 1, 1)).sin()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_parity_with_diffusers_ddpm(prediction, variance, kind):
    diffusers = pytest.importorskip("diffusers")
    theirs = {"noise": "epsilon", "x0": "sample", "velocity": "v_prediction"}
    peer = diffusers.DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule={"linear": "linear", "cosine": "squaredcos_cap_v2"}[kind],
        variance_type={"posterior": "fixed_small", "beta": "fixed_large"}[variance],
        prediction_type=theirs[prediction],
        clip_sample=True,
    )
    model = GaussianDiffusion(
        DiffusionConfig(prediction=prediction, variance=variance, schedule=NoiseSchedule(kind=kind)), Answers()
    )
    network, schedule = model.network, model.schedule
    # Their tables are float32, where 1 − ᾱ_1 keeps three digits. The same tables in float64 show the steps themselves.
    torch.testing.assert_close(peer.alphas_cumprod, schedule.alpha_bar(whole(schedule)).float(), rtol=5e-6, atol=1e-9)
    peer.betas = schedule.beta(whole(schedule))
    peer.alphas = 1 - peer.betas
    peer.alphas_cumprod = peer.alphas.cumprod(0)
    x_0, noise = torch.randn(2, 3, 1, 4, 4, generator=seeded(), dtype=torch.float64)
    worst = 0.0
    for t in (1000, 999, 700, 300, 50, 2, 1):
        at = torch.full((3,), t)
        x_t = model.noised(x_0, at, noise)
        torch.testing.assert_close(peer.add_noise(x_0, noise, at - 1), x_t, **exact)  # they count from 0
        wanted = peer.step(network(x_t, schedule.log_snr(at)), t - 1, x_t, generator=seeded(t)).prev_sample
        got = model.ancestral_step(x_t, t, generator=seeded(t))
        worst = max(worst, ((got - wanted).abs().max() / wanted.abs().max()).item())
    assert worst < 5e-6
