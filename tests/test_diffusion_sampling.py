"""Samplers against the exact flow of Gaussians, their order of convergence measured, and against another library."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_toys import ExactNetwork, GaussianData, MixtureData, seeded
from gentext.diffusion import DiffusionConfig, GaussianDiffusion
from gentext.diffusion_sampling import (
    SAMPLERS,
    Denoiser,
    Step,
    ancestral,
    classifier_free_guidance,
    classifier_guidance,
    ddim,
    dpm_solver_2m,
    heun,
    inpaint,
    karras_grid,
    log_snr_grid,
    start_from,
    starting_noise,
)
from gentext.diffusion_schedule import NoiseSchedule, convert
from gentext.nn import UNetConfig

few = settings(max_examples=25, deadline=None)
ONE_PIXEL = UNetConfig(image_size=1, widths=(4,), groups=2, head_dim=4)
DATA = GaussianData.example(3)


def affine_result(sampler, denoiser: Denoiser, sigmas: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """A sampler without noise is an affine map if its denoiser is: slope (d, d) and value at 0, from d + 1 points."""
    points = torch.cat([torch.zeros(1, d), torch.eye(d)]).double()
    ends = sampler(denoiser, points, sigmas)
    return (ends[1:] - ends[0]).T, ends[0]


# ---- convergence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (heun, 2), (dpm_solver_2m, 2)])
@pytest.mark.parametrize("grid", [karras_grid, log_snr_grid])
def test_order_of_convergence(sampler, order, grid):
    """Errors against the exact flow of a Gaussian, at twice as many steps again and again."""
    x = 10 * torch.randn(20, 3, generator=seeded(5), dtype=torch.float64)
    wanted, errors = DATA.flow(x, 10.0, 0.05), []
    for num_steps in (80, 160, 320):
        sigmas = grid(num_steps + 1, 0.05, 10.0)[:-1]  # the last step, to 0, has an error of its own
        errors.append((sampler(DATA.denoise, x, sigmas) - wanted).abs().max().item())
    slopes = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert all(abs(slope - order) < 0.15 for slope in slopes), slopes


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm-solver++2m"])
def test_samples_of_a_gaussian_have_its_mean_and_covariance(name):
    """In closed form: the sampler is an affine map, so it carries N(0, (1 + σ²) I) to a Gaussian that we can write."""
    sigmas = karras_grid(200, 0.002, 400.0)
    slope, offset = affine_result(SAMPLERS[name], DATA.denoise, sigmas, 3)
    cov = (1 + sigmas[0] ** 2) * slope @ slope.T
    tolerance = 0.02 if name == "ddim" else 2e-3
    torch.testing.assert_close(offset, DATA.mean, atol=tolerance, rtol=0)
    torch.testing.assert_close(cov, DATA.cov, atol=tolerance, rtol=0)


def test_second_order_beats_first_at_equal_calls():
    x = 80 * torch.randn(20, 3, generator=seeded(5), dtype=torch.float64)
    wanted = DATA.flow(x, 80.0, 0.0)
    error = {
        "ddim": ddim(DATA.denoise, x, karras_grid(80)) - wanted,
        "heun": heun(DATA.denoise, x, karras_grid(40)) - wanted,  # 79 calls
        "2m": dpm_solver_2m(DATA.denoise, x, karras_grid(80)) - wanted,
    }
    worst = {name: value.abs().max().item() for name, value in error.items()}
    assert worst["2m"] < worst["ddim"] / 4
    assert worst["heun"] < worst["ddim"] / 2


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_samplers_with_noise_reach_the_gaussian_too(eta):
    """Mean and covariance by recursion: each step is an affine map, read off from the sampler, and noise."""
    points = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    z = torch.randn(1, 3, generator=seeded(), dtype=torch.float64)  # the step's draw
    errors = []
    for num_steps in (20, 40, 80):
        sigmas = karras_grid(num_steps, 0.002, 80.0)
        mean, cov = torch.zeros(3).double(), (1 + sigmas[0] ** 2) * torch.eye(3).double()
        for before, after in itertools.pairwise(sigmas):
            grid = torch.stack([before, after])
            ends = torch.cat([ddim(DATA.denoise, p[None], grid, eta=eta, generator=seeded()) for p in points])
            fresh = eta * after * (1 - (after / before) ** 2).sqrt()  # Song et al. 2020, equation 16
            slope = (ends[1:] - ends[0]).T
            mean, cov = slope @ mean + (ends[0] - fresh * z[0]), slope @ cov @ slope.T + fresh**2 * torch.eye(3)
        errors.append((cov - DATA.cov).abs().max().item())
        torch.testing.assert_close(mean, DATA.mean, atol=0.02, rtol=0)
    assert errors[0] > 1.6 * errors[1] > 2.5 * errors[2]
    sigmas, n = karras_grid(80), 4000
    x = starting_noise((n, 3), sigmas, generator=seeded(), dtype=torch.float64)
    drawn = ddim(DATA.denoise, x, sigmas, eta=eta, generator=seeded(1))
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), cov, atol=0.05, rtol=0)


def test_ancestral_is_ddim_with_eta_one_and_chapter_tens_chain():
    schedule = NoiseSchedule(num_steps=15)
    config = DiffusionConfig(clip=False, schedule=schedule, unet=ONE_PIXEL)
    model = GaussianDiffusion(config, ExactNetwork(DATA, "velocity"))
    x_t = torch.randn(6, 3, generator=seeded(), dtype=torch.float64)
    sigmas = schedule.sigmas(15)
    x = x_t * (1 + sigmas[0] ** 2).sqrt()
    wanted, generator = x_t, seeded(1)
    for t in range(15, 0, -1):
        wanted = model.ancestral_step(wanted, t, generator=generator)
    got = ancestral(model.denoise, x, sigmas, generator=seeded(1))
    torch.testing.assert_close(got, wanted.detach(), rtol=1e-9, atol=1e-9)
    again = ddim(model.denoise, x, sigmas, eta=1.0, generator=seeded(1))
    torch.testing.assert_close(again, got, rtol=1e-9, atol=1e-9)


def test_ddim_in_the_chains_own_units():
    """Song et al. 2020, equation 12 with σ_t = 0: x_s = √ᾱ_s x̂₀ + √(1 − ᾱ_s) ε̂."""
    schedule = NoiseSchedule(kind="linear", num_steps=40)
    x_t, times = torch.randn(4, 3, generator=seeded(), dtype=torch.float64), torch.linspace(40, 0, 9).long()
    sigmas = schedule.sigma(times)
    got = ddim(DATA.denoise, x_t / schedule.signal_scale(times[:1]), sigmas)
    for t, s in itertools.pairwise(times):
        log_snr = schedule.log_snr(t.expand(4))
        x0 = DATA.denoise(x_t / schedule.signal_scale(t), schedule.sigma(t.expand(4)))
        noise = convert(x0, x_t, log_snr, "x0", "noise")
        x_t = schedule.signal_scale(s) * x0 + schedule.noise_scale(s) * noise
    torch.testing.assert_close(got, x_t, rtol=1e-9, atol=1e-9)


# ---- what all samplers promise ---------------------------------------------------------------------------------------


@few
@given(st.sampled_from(sorted(SAMPLERS)), st.integers(1, 4), st.integers(2, 12), st.sampled_from([(2,), (1, 4, 4)]))
def test_shapes_states_seeds_and_dtypes(name, n, num_steps, shape):
    sampler, sigmas = SAMPLERS[name], karras_grid(num_steps)

    def shrink(x: Tensor, sigma: Tensor) -> Tensor:
        assert sigma.shape == (n,)
        assert sigma.dtype == x.dtype
        return x / (1 + sigma.view(-1, *[1] * len(shape)) ** 2)

    for dtype in (torch.float32, torch.float64):
        x, seen = starting_noise((n, *shape), sigmas, generator=seeded(), dtype=dtype), list[Step]()
        end = sampler(shrink, x, sigmas, generator=seeded(1), on_step=seen.append)
        assert end.shape == (n, *shape)
        assert end.dtype == dtype
        assert torch.isfinite(end).all()
        assert [step.index for step in seen] == list(range(1, num_steps + 1))
        assert [step.sigma for step in seen] == sigmas[1:].tolist()
        assert torch.equal(seen[-1].x, end)
        assert torch.equal(seen[-1].x0, end)  # at σ = 0 the estimate is the sample
        assert torch.equal(end, sampler(shrink, x, sigmas, generator=seeded(1)))
        if name == "ancestral":
            assert not torch.equal(end, sampler(shrink, x, sigmas, generator=seeded(2)))


@pytest.mark.parametrize(("name", "calls"), [("ancestral", 9), ("ddim", 9), ("heun", 17), ("dpm-solver++2m", 9)])
def test_calls_of_the_network(name, calls):
    count = 0

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal count
        count += 1
        assert not torch.is_grad_enabled()
        return DATA.denoise(x, sigma)

    SAMPLERS[name](denoiser, torch.randn(2, 3).double(), karras_grid(9), generator=seeded())
    assert count == calls


@few
@given(st.integers(2, 50), st.floats(1e-3, 0.5), st.floats(1, 500), st.floats(1, 10))
def test_grids_fall_from_the_largest_level_to_nothing(num_steps, low, high, rho):
    for grid in (karras_grid(num_steps, low, high, rho), log_snr_grid(num_steps, low, high)):
        assert grid.dtype == torch.float64
        assert grid.shape == (num_steps + 1,)
        assert (grid.diff() < 0).all()
        assert grid[-1] == 0
        torch.testing.assert_close(grid[[0, -2]], torch.tensor([high, low], dtype=torch.float64))
    steps = log_snr_grid(num_steps, low, high)[:-1].log().diff()
    torch.testing.assert_close(steps, steps[:1].expand(num_steps - 1))


def test_bad_grids_and_settings_are_refused():
    x = torch.zeros(2, 3)
    for sigmas in ([1.0], [1.0, 1.0], [0.5, 1.0], [1.0, -0.1], [math.inf, 1.0], [math.nan, 0.0], [[1.0, 0.0]]):
        for sampler in SAMPLERS.values():
            with pytest.raises(ValueError, match="at least two noise levels that fall, the last not below 0"):
                sampler(DATA.denoise, x, torch.tensor(sigmas))
    for grid in (karras_grid, log_snr_grid):
        with pytest.raises(ValueError, match="at least 2 steps"):
            grid(1)
    for eta in (-0.1, 1.1):
        with pytest.raises(ValueError, match="eta must lie between 0, no new noise, and 1, ancestral sampling"):
            ddim(DATA.denoise, x, karras_grid(3), eta=eta)


def test_starting_noise_is_the_chains():
    sigmas = karras_grid(3, 0.1, 2.0)
    x = starting_noise((20_000, 2), sigmas, generator=seeded())
    torch.testing.assert_close(x.var(0), torch.full((2,), 5.0), atol=0.2, rtol=0)
    assert torch.equal(x, starting_noise((20_000, 2), sigmas, generator=seeded()))


# ---- guidance --------------------------------------------------------------------------------------------------------

EYE = torch.eye(2, dtype=torch.float64)
TWO = MixtureData(
    [
        GaussianData(torch.tensor([1.0, 0.5]), 0.05 * EYE),
        GaussianData(torch.tensor([-1.0, 0.0]), 0.2 * EYE + 0.1),
    ],
    torch.tensor([0.3, 0.7]),
)


def class_log_prob(k: int):
    return lambda x, sigma: TWO.log_joint(x, sigma).log_softmax(1)[:, k]


@pytest.mark.parametrize("k", [0, 1])
def test_the_exact_classifier_gives_the_exact_conditional_denoiser(k):
    x = 2 * torch.randn(10, 2, generator=seeded(), dtype=torch.float64)
    sigma = torch.logspace(-1, 1, 10, dtype=torch.float64)
    guided = classifier_guidance(TWO.denoise, class_log_prob(k))
    torch.testing.assert_close(guided(x, sigma), TWO.parts[k].denoise(x, sigma), rtol=1e-9, atol=1e-9)
    assert not x.requires_grad
    ends = heun(guided, 80 * x, karras_grid(30))
    torch.testing.assert_close(ends, heun(TWO.parts[k].denoise, 80 * x, karras_grid(30)), rtol=1e-5, atol=1e-5)


def test_both_guidances_are_one():
    """log p(y∣x) = log p(x∣y) − log p(x) + constant: the classifier's slope is conditional − unconditional."""
    x = 2 * torch.randn(10, 2, generator=seeded(), dtype=torch.float64)
    sigma = torch.logspace(-1, 1, 10, dtype=torch.float64)
    for weight in (0.0, 0.5, 1.0, 4.0):
        free = classifier_free_guidance(TWO.parts[0].denoise, TWO.denoise, weight)(x, sigma)
        with_classifier = classifier_guidance(TWO.denoise, class_log_prob(0), weight)(x, sigma)
        torch.testing.assert_close(free, with_classifier, rtol=1e-9, atol=1e-9)


def test_more_guidance_is_surer_and_less_diverse():
    x = starting_noise((400, 2), karras_grid(25), generator=seeded(), dtype=torch.float64)
    sure, spread = [], []
    for weight in (0.0, 1.0, 3.0):
        guided = classifier_free_guidance(TWO.parts[0].denoise, TWO.denoise, weight)
        ends = dpm_solver_2m(guided, x, karras_grid(25))
        sure.append(class_log_prob(0)(ends, torch.zeros(400).double()).exp().mean().item())
        spread.append(ends.var(0).sum().item())
    assert sure[0] < 0.5 < 0.95 < sure[1] < sure[2]
    assert spread[0] > spread[1] > spread[2]


def test_a_mixture_is_sampled_in_its_shares():
    x = starting_noise((2000, 2), karras_grid(40), generator=seeded(), dtype=torch.float64)
    zero = torch.zeros(2000).double()
    for name in sorted(SAMPLERS):
        ends = SAMPLERS[name](TWO.denoise, x, karras_grid(40), generator=seeded(1))
        share = class_log_prob(0)(ends, zero).exp().mean().item()
        assert share == pytest.approx(0.3, abs=0.05), name


def test_a_classifier_must_answer_for_each_example():
    guided = classifier_guidance(TWO.denoise, lambda x, sigma: x.sum())
    with pytest.raises(ValueError, match=r"one number an example, \(n,\), got shape \(\)"):
        guided(torch.zeros(3, 2).double(), torch.ones(3).double())


# ---- inpainting, image to image --------------------------------------------------------------------------------------


def test_inpainting_draws_from_the_conditional():
    """Two correlated numbers, one of them known: the other's conditional is known in closed form."""
    rho, n, seen = 0.8, 1500, 1.0
    data = GaussianData(torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]]))
    x0 = torch.tensor([[seen, 99.0]], dtype=torch.float64).expand(n, 2)
    known, sigmas = torch.tensor([True, False]), karras_grid(25, 0.01, 20.0)
    means = {}
    for resample in (1, 12):
        ends = inpaint(data.denoise, x0, known, sigmas, resample=resample, generator=seeded())
        assert torch.equal(ends[:, 0], x0[:, 0])
        means[resample] = ends[:, 1].mean().item()
    assert abs(means[12] - rho * seen) < 0.08
    assert abs(means[1] - rho * seen) > 3 * abs(means[12] - rho * seen), "one pass gives parts that do not agree"
    assert ends[:, 1].var().item() == pytest.approx(1 - rho**2, abs=0.08)


def test_inpainting_calls_states_and_start():
    x0, known = torch.rand(2, 1, 4, 4, generator=seeded()), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    known[..., :2] = True
    calls, seen = [], list[Step]()

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(sigma[0].item())
        return 0 * x

    start = torch.randn(2, 1, 4, 4, generator=seeded(1))
    ends = inpaint(denoiser, x0, known, karras_grid(5), resample=3, x=start, generator=seeded(), on_step=seen.append)
    assert len(calls) == 15
    assert [step.index for step in seen] == [1, 2, 3, 4, 5]
    assert torch.equal(ends[..., :2], x0[..., :2])
    assert (ends[..., 2:] == 0).all()


def test_bad_inpainting_is_refused():
    x0 = torch.zeros(2, 3).double()
    for known in (torch.ones(2, 3), torch.ones(4, dtype=torch.bool), torch.ones(5, 2, 3, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"known must be a bool mask that fits \(2, 3\)"):
            inpaint(DATA.denoise, x0, known, karras_grid(3))
    with pytest.raises(ValueError, match="resample must be at least 1, got 0"):
        inpaint(DATA.denoise, x0, torch.ones(3, dtype=torch.bool), karras_grid(3), resample=0)


def test_image_to_image_forgets_as_much_as_it_is_told():
    sigmas, x0 = karras_grid(40), torch.tensor([[1.0, 0.5]], dtype=torch.float64).expand(300, 2)  # in the first class
    kept = []
    for strength in (0.3, 0.6, 1.0):
        x, rest = start_from(x0, sigmas, strength, seeded())
        assert len(rest) == round(40 * strength) + 1
        assert (x - x0).std().item() == pytest.approx(rest[0].item(), rel=0.1)
        ends = dpm_solver_2m(TWO.denoise, x, rest)
        kept.append(class_log_prob(0)(ends, torch.zeros(300).double()).exp().mean().item())
    assert kept[0] > 0.95
    assert kept[0] > kept[1] > kept[2]
    assert kept[2] == pytest.approx(0.3, abs=0.1)
    assert len(start_from(x0, sigmas, 1e-6, seeded())[1]) == 2  # at least one step
    for strength in (0.0, 1.1):
        with pytest.raises(ValueError, match=r"share of the steps, in \(0, 1\]"):
            start_from(x0, sigmas, strength)


# ---- another library -------------------------------------------------------------------------------------------------


def smooth(x_t: Tensor, t: float) -> Tensor:
    """A noise prediction that is nobody's: bounded, smooth in x_t and time."""
    return (x_t + 0.002 * t).sin()


class Peer:
    """A scheduler of diffusers with `smooth` as its network, and the same network as our denoiser on the same grid."""

    def __init__(self, scheduler, num_steps: int) -> None:
        scheduler.set_timesteps(num_steps)
        self.scheduler, alpha_bar = scheduler, scheduler.alphas_cumprod.double()
        self.log_sigma = (0.5 * ((1 - alpha_bar) / alpha_bar).log()).tolist()

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        s = sigma[0].item()
        t = min(range(1000), key=lambda index: abs(self.log_sigma[index] - math.log(s)))
        return x - s * smooth(x / math.sqrt(1 + s**2), t)


def start(sigma: float) -> tuple[Tensor, Tensor]:
    """The same noise in the chain's units and in those of the datum."""
    x_t = torch.randn(3, 1, 4, 4, generator=seeded(), dtype=torch.float64)
    return x_t, x_t * math.sqrt(1 + sigma**2)


def worst(pairs) -> float:
    return max(((got - wanted).abs().max() / wanted.abs().max()).item() for got, wanted in pairs)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_parity_with_diffusers_ddim(eta):
    diffusers = pytest.importorskip("diffusers")
    peer = Peer(diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True), 20)
    times = peer.scheduler.timesteps.tolist()
    sigmas = torch.tensor([*(math.exp(peer.log_sigma[t]) for t in times), 0.0], dtype=torch.float64)
    x_t, x = start(sigmas[0].item())
    seen = list[Step]()
    ddim(peer.denoise, x, sigmas, eta=eta, generator=seeded(1), on_step=seen.append)
    generator, pairs = seeded(1), []
    for t, step in zip(times, seen, strict=True):
        # Ours draws no noise in the last step, where theirs multiplies it by 0.
        x_t = peer.scheduler.step(smooth(x_t, t), t, x_t, eta=eta, generator=generator).prev_sample
        pairs.append((step.x / math.sqrt(1 + step.sigma**2), x_t))
    assert worst(pairs) < 2e-4


def test_parity_with_diffusers_dpm_solver():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, solver_order=2, algorithm_type="dpmsolver++", final_sigmas_type="zero"
    )
    peer = Peer(scheduler, 20)
    sigmas = scheduler.sigmas.double()
    x_t, x = start(sigmas[0].item())
    seen = list[Step]()
    dpm_solver_2m(peer.denoise, x, sigmas, on_step=seen.append)
    pairs = []
    for t, step in zip(scheduler.timesteps.tolist(), seen, strict=True):
        x_t = scheduler.step(smooth(x_t, t), t, x_t).prev_sample
        pairs.append((step.x / math.sqrt(1 + step.sigma**2), x_t))
    assert worst(pairs) < 2e-4


def test_parity_with_diffusers_heun():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing="linspace")
    scheduler.set_timesteps(15)
    times = scheduler.timesteps.tolist()  # each but the first twice
    sigmas = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]]).double()
    _, x = start(sigmas[0].item())
    seen = list[Step]()

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        """Their broken times as they are."""
        s = sigma[0].item()
        index = min(range(len(times)), key=lambda i: abs(scheduler.sigmas[i].item() - s))
        return x - s * smooth(x / math.sqrt(1 + s**2), times[index])

    heun(denoise, x, sigmas, on_step=seen.append)
    pairs, theirs = [], x.clone()
    for index, t in enumerate(times):
        scaled = scheduler.scale_model_input(theirs, scheduler.timesteps[index])
        theirs = scheduler.step(smooth(scaled, t), scheduler.timesteps[index], theirs).prev_sample
        if index % 2:  # the second call of a step
            pairs.append((seen[index // 2].x, theirs))
    assert len(pairs) == len(seen) - 1
    assert worst([*pairs, (seen[-1].x, theirs)]) < 2e-4
