"""The densities of chapter 1 against what is known exactly: closed forms, integrals, moments, and scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Uniform

from gentext.density import EMConfig, GaussianMixture, Histogram, KernelDensity, rule_of_thumb
from gentext.density_mixture import COVARIANCES, floored

few = settings(max_examples=40, deadline=None)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def seeded(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def heaps(n: int = 200, d: int = 2, seed: int = 0) -> Tensor:
    """Points of three heaps of different shape, (n, d) float64."""
    generator = seeded(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    z = torch.randint(0, 3, (n, 1), generator=generator)
    return torch.where(z == 0, 0.4 * x, torch.where(z == 1, x + 4, x * torch.linspace(0.2, 1.5, d) - 3))


def blend(d: int = 2, k: int = 3, seed: int = 0) -> GaussianMixture:
    """A mixture with tilted components, all parameters far from any symmetry."""
    generator = seeded(seed)
    root = torch.randn(k, d, d, generator=generator, dtype=torch.float64)
    weights = torch.rand(k, generator=generator, dtype=torch.float64) + 0.2
    means = 3 * torch.randn(k, d, generator=generator, dtype=torch.float64)
    covs = root @ root.transpose(1, 2) + 0.3 * torch.eye(d, dtype=torch.float64)
    return GaussianMixture(weights=weights / weights.sum(), means=means, covs=covs)


def plane(low: float, high: float, count: int) -> tuple[Tensor, float]:
    """Midpoints of a square grid on [low, high]², (count², 2), and the area of a cell."""
    step = (high - low) / count
    axis = low + step * (torch.arange(count, dtype=torch.float64) + 0.5)
    return torch.cartesian_prod(axis, axis), step**2


# ---- every density ---------------------------------------------------------------------------------------------------

MODELS = {
    "histogram": lambda x: Histogram.fit(x, bins=7, low=-12, high=12),
    "histogram with pseudo-counts": lambda x: Histogram.fit(x, bins=(7, 5), low=-12, high=12, pseudo_count=0.3),
    "kernel": lambda x: KernelDensity.fit(x, bandwidth=0.5),
    "mixture": lambda x: GaussianMixture.fit(x, EMConfig(num_components=3), generator=seeded(0, x.device.type)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_density_integrates_to_one(name):
    model = MODELS[name](heaps())
    where, area = plane(-24, 24, 840)  # a whole number of steps to a histogram's cell: none is cut
    assert model.log_prob(where).exp().sum().item() * area == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_samples_have_the_moments_of_the_density(name):
    model = MODELS[name](heaps())
    where, area = plane(-12, 12, 420)
    p = model.log_prob(where).exp() * area  # (points,), sums to 1
    mean = p @ where
    cov = (where - mean).T @ ((where - mean) * p[:, None])
    samples = model.sample(40_000, generator=seeded(3))
    assert samples.shape == (40_000, 2)
    assert samples.dtype == torch.float64
    torch.testing.assert_close(samples.mean(0), mean, atol=0.08, rtol=0)
    torch.testing.assert_close(samples.T.cov(), cov, atol=0.25, rtol=0.02)
    # −E[log p] over its own samples is the entropy: both sides know nothing of each other.
    entropy = -torch.xlogy(p, p / area).sum().item()
    log_prob = model.log_prob(samples)
    assert -log_prob.mean().item() == pytest.approx(entropy, abs=5 * log_prob.std().item() / 200)


@pytest.mark.parametrize("name", MODELS)
def test_samples_fall_where_the_density_says(name):
    """The share of samples in each of nine regions, against the density's integral over it."""
    model = MODELS[name](heaps())
    samples = model.sample(20_000, generator=seeded(4))
    where, area = plane(-12, 12, 420)
    p = model.log_prob(where).exp() * area

    def region(points):  # cut along faces of the histograms' cells
        columns = (points[:, 0] > -12 / 7).long() + (points[:, 0] > 12 * 3 / 7).long()
        return 3 * columns + (points[:, 1] > -2.4).long() + (points[:, 1] > 2.4).long()

    share = torch.zeros(9, dtype=torch.float64).index_add(0, region(where), p)
    found = torch.bincount(region(samples), minlength=9) / len(samples)
    assert ((found - share).abs() <= 5 * (share * (1 - share) / len(samples)).sqrt() + 1e-9).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_samples(name):
    model = MODELS[name](heaps())
    first, again, other = (model.sample(50, generator=seeded(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_every_device_and_precision_gives_the_same_numbers(name, dtype, device):
    x = heaps().to(device, dtype)
    model, reference = MODELS[name](x), MODELS[name](heaps())
    if name == "mixture":  # a start of its own would differ: generators of two devices do
        start = GaussianMixture.start(heaps(), EMConfig(num_components=3), generator=seeded())
        config = EMConfig(num_components=3, max_steps=5, tolerance=0)
        moved = GaussianMixture(**{key: value.to(x) for key, value in vars(start).items()})
        model, reference = (GaussianMixture.fit(a, config, start=b) for a, b in ((x, moved), (heaps(), start)))
    found = model.log_prob(x)
    assert (found.device.type, found.dtype) == (device, dtype)
    tolerance = 2e-4 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(found.double().cpu(), reference.log_prob(heaps()), rtol=tolerance, atol=tolerance)
    samples = model.sample(100, generator=seeded(0, device))
    assert (samples.device.type, samples.dtype, samples.shape) == (device, dtype, (100, 2))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5), "shape"),
        (torch.zeros(0, 2), "shape"),
        (torch.zeros(5, 2, dtype=torch.int64), "floating"),
        (torch.tensor([[0.0, math.nan]]), "finite"),
        ([[0.0, 1.0]], "list"),
    ],
)
@pytest.mark.parametrize(
    "fit",
    [
        lambda x: Histogram.fit(x, bins=3),
        lambda x: KernelDensity.fit(x, bandwidth=1.0),
        lambda x: GaussianMixture.fit(x, EMConfig(num_components=2), generator=seeded()),
    ],
)
def test_points_that_are_none_are_refused(fit, x, message):
    with pytest.raises(ValueError, match=message):
        fit(x)
    with pytest.raises(ValueError, match=message):
        fit(heaps()).log_prob(x)


@pytest.mark.parametrize("name", MODELS)
def test_points_of_another_dimension_are_refused(name):
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        MODELS[name](heaps()).log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="at least 1"):
        MODELS[name](heaps()).sample(0)


def test_noise_is_pushed_to_where_the_cumulative_distribution_says():
    u = torch.tensor([0.0, 0.19, 0.21, 0.999], dtype=torch.float64)
    zero = torch.zeros(4, 2, dtype=torch.float64)
    model = blend()
    steps = model.weights.cumsum(0)
    expected = [int((steps <= value).sum()) for value in u]
    torch.testing.assert_close(model.push(u, zero), model.means[expected])
    hills = KernelDensity.fit(heaps(10), bandwidth=2.0)
    torch.testing.assert_close(hills.push(u, zero + 1), hills.points[[0, 1, 2, 9]] + 2)
    cells = Histogram.fit(torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double(), bins=2, pseudo_count=0.5)  # half uniform
    pushed = cells.push(torch.tensor([0.4, 0.6, 0.9]).double(), torch.full((3, 2), 0.5, dtype=torch.float64))
    torch.testing.assert_close(pushed, torch.tensor([[0.5, 0.5], [0.25, 0.25], [0.75, 0.75]]).double())


# ---- histogram -------------------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 10_000))
def test_histogram_equals_numpy(bins, d, seed):
    x = torch.rand(37, d, generator=seeded(seed), dtype=torch.float64)
    density, _ = np.histogramdd(x.numpy(), bins=bins, range=[(0, 1)] * d, density=True)
    model = Histogram.fit(x, bins=bins, low=0, high=1)
    query = torch.rand(100, d, generator=seeded(seed + 1), dtype=torch.float64)
    expected = density[tuple((query * bins).long().clamp(max=bins - 1).T.numpy())]
    np.testing.assert_allclose(model.log_prob(query).exp().numpy(), expected, rtol=1e-12)


def test_histogram_outside_its_box_and_on_its_faces():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.25], [0.75, 1.0]], dtype=torch.float64)
    model = Histogram.fit(x, bins=2)
    assert torch.equal(model.low, torch.zeros(2))
    assert torch.equal(model.high, torch.ones(2))
    # Upper faces belong to the last cells, the middle to the upper ones: (0,0): 1 point, (1,0): 1, (1,1): 2.
    query = torch.tensor([[0.2, 0.2], [0.5, 0.0], [1.0, 1.0], [0.1, 0.9], [1.0001, 0.5], [0.5, -1.0]])
    expected = torch.tensor([0.25, 0.25, 0.5, 0.0, 0.0, 0.0]).double() * 4
    torch.testing.assert_close(model.log_prob(query.double()).exp(), expected)
    softened = Histogram.fit(x, bins=2, pseudo_count=1.0)  # (c + 1) / (4 + 4)
    expected = torch.tensor([2, 2, 3, 1, 0, 0]).double() / 8 * 4
    torch.testing.assert_close(softened.log_prob(query.double()).exp(), expected)


def test_histogram_is_the_likeliest_of_its_kind():
    x = torch.rand(60, 2, generator=seeded(), dtype=torch.float64)
    model = Histogram.fit(x, bins=3, low=0, high=1)
    best = model.log_prob(x).mean()
    for seed in range(20):
        noise = (0.3 * torch.randn(len(model.mass), generator=seeded(seed), dtype=torch.float64)).exp()
        mass = model.mass * noise / (model.mass * noise).sum()
        other = Histogram(low=model.low, high=model.high, bins=model.bins, cells=model.cells, mass=mass)
        assert other.log_prob(x).mean() < best


def test_histogram_entropy_is_exact():
    x = heaps()
    for pseudo_count in (0.0, 0.7):
        model = Histogram.fit(x, bins=6, low=-12, high=12, pseudo_count=pseudo_count)
        where, area = plane(-12, 12, 240)
        log_prob = model.log_prob(where)
        p = log_prob.exp()
        assert model.entropy().item() == pytest.approx(-(torch.xlogy(p, p).sum() * area).item(), abs=1e-10)
    uniform = Histogram.fit(torch.tensor([[0.0, 0.0], [2.0, 3.0]]).double(), bins=1)
    assert uniform.entropy().item() == pytest.approx(math.log(6))


def test_histogram_keeps_only_occupied_cells():
    x = torch.rand(50, 20, generator=seeded(), dtype=torch.float64)
    model = Histogram.fit(x, bins=8, low=0, high=1, pseudo_count=1e-9)  # 8^20 is 2^60 cells
    assert len(model.cells) == 50
    peer = Independent(Uniform(torch.zeros(20).double(), torch.ones(20).double()), 1)
    assert (peer.log_prob(x) == 0).all()
    assert model.log_prob(x).isfinite().all()
    torch.testing.assert_close(model.cell_of(model.sample(9, generator=seeded())) >= 0, torch.ones(9, dtype=torch.bool))


def test_a_picture_is_a_density_of_ink():
    image = torch.zeros(2, 4, dtype=torch.float64)
    image[0, 3], image[1, 0] = 1.0, 3.0  # top right and bottom left
    ink = Histogram.of_image(image)
    query = torch.tensor([[0.9, 0.9], [0.1, 0.1], [0.9, 0.1], [0.6, 0.9]], dtype=torch.float64)
    torch.testing.assert_close(ink.log_prob(query).exp(), torch.tensor([2.0, 6.0, 0.0, 0.0], dtype=torch.float64))
    samples = ink.sample(2000, generator=seeded())
    assert ink.log_prob(samples).isfinite().all()
    assert (samples[:, 0] > 0.5).double().mean().item() == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bins": 0}, "bins"),
        ({"bins": (2, 2, 2)}, "bins"),
        ({"bins": 2, "low": 1.0, "high": 0.0}, "width"),
        ({"bins": 2, "low": -1.0, "high": 1.0}, "outside"),
        ({"bins": 2, "pseudo_count": -1.0}, "pseudo_count"),
        ({"bins": 2**40}, "cannot be numbered"),
    ],
)
def test_histogram_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Histogram.fit(heaps(), **arguments)


def test_more_refusals_of_the_histogram():
    with pytest.raises(ValueError, match="width"):
        Histogram.fit(torch.ones(3, 2), bins=2)
    for image in (torch.zeros(3, 3), torch.ones(1, 3, 3), -torch.ones(2, 2), torch.ones(2, 2, dtype=torch.int64)):
        with pytest.raises(ValueError, match="of_image"):
            Histogram.of_image(image)


# ---- kernel density estimate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("bandwidth", [0.05, 0.3, 2.0])
def test_kernel_density_equals_scikit_learn(d, bandwidth):
    neighbors = pytest.importorskip("sklearn.neighbors")
    x, query = heaps(150, d), heaps(80, d, seed=1)
    # With one leaf the peer sums over all points. With a tree its sum stops early, and far out it is off by whole nats.
    peer = neighbors.KernelDensity(bandwidth=bandwidth, leaf_size=1000).fit(x.numpy())
    found = KernelDensity.fit(x, bandwidth=bandwidth).log_prob(query, chunk=7)
    np.testing.assert_allclose(found.numpy(), peer.score_samples(query.numpy()), rtol=1e-9, atol=1e-9)


def test_kernel_density_equals_torch_distributions():
    x, query = heaps(60), heaps(40, seed=1)
    hills = Independent(torch.distributions.Normal(x, 0.4), 1)
    peer = MixtureSameFamily(Categorical(probs=torch.ones(60)), hills)
    torch.testing.assert_close(KernelDensity.fit(x, bandwidth=0.4).log_prob(query), peer.log_prob(query))


def test_left_out_log_prob_equals_fits_without_each_point():
    x = heaps(25)
    found = KernelDensity.fit(x, bandwidth=0.7).log_prob_left_out()
    for i in range(len(x)):
        others = KernelDensity.fit(torch.cat([x[:i], x[i + 1 :]]), bandwidth=0.7)
        torch.testing.assert_close(found[i], others.log_prob(x[i : i + 1])[0])


def test_rules_of_thumb():
    stats = pytest.importorskip("scipy.stats")
    x = heaps(90, 3)
    peer = stats.gaussian_kde(x.T.numpy())
    spread = x.var(0).mean().sqrt().item()
    assert rule_of_thumb(x, "scott") == pytest.approx(peer.scotts_factor() * spread, rel=1e-12)
    assert rule_of_thumb(x, "silverman") == pytest.approx(peer.silverman_factor() * spread, rel=1e-12)
    assert KernelDensity.fit(x, bandwidth="scott").bandwidth == rule_of_thumb(x, "scott")


def test_silvermans_rule_is_best_on_a_gaussian():
    """Against the exact expected squared error of a Gaussian kernel on a Gaussian truth, one dimension, σ = 1."""
    n = 2000

    def error(h):  # Fryer 1976: mean integrated squared error in closed form, times 2 √π
        return 1 / (n * h) + (1 - 1 / n) / math.sqrt(1 + h**2) - 2 * math.sqrt(2) / math.sqrt(2 + h**2) + 1

    x = torch.randn(n, 1, generator=seeded(), dtype=torch.float64)
    rule = rule_of_thumb(x / x.std(), "silverman")
    best = min(np.linspace(0.05, 1, 2000), key=error)
    assert rule == pytest.approx(best, rel=0.05)  # the rule is the limit for many points


def test_select_takes_the_best_on_held_out_points():
    x, held_out = heaps(80), heaps(80, seed=1)
    widths = [0.01, 0.1, 0.4, 1.0, 5.0]
    chosen = KernelDensity.select(x, held_out, widths)
    scores = [KernelDensity.fit(x, bandwidth=h).log_prob(held_out).mean() for h in widths]
    assert chosen.bandwidth == widths[int(torch.stack(scores).argmax())]
    assert chosen.bandwidth not in (0.01, 5.0)


def test_kernel_density_refuses():
    for bandwidth in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive"):
            KernelDensity.fit(heaps(), bandwidth=bandwidth)
    with pytest.raises(ValueError, match="rule"):
        KernelDensity.fit(heaps(), bandwidth="best")
    with pytest.raises(ValueError, match="two points"):
        rule_of_thumb(heaps(1), "scott")
    with pytest.raises(ValueError, match="two points"):
        KernelDensity.fit(heaps(1), bandwidth=1.0).log_prob_left_out()
    with pytest.raises(ValueError, match="bandwidth"):
        KernelDensity.select(heaps(), heaps(), [])


# ---- Gaussian mixture ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 4])
def test_mixture_equals_torch_distributions(d):
    model = blend(d)
    peer = MixtureSameFamily(Categorical(model.weights), MultivariateNormal(model.means, model.covs))
    x = 3 * heaps(50, d)
    torch.testing.assert_close(model.log_prob(x), peer.log_prob(x))


SKLEARN_KINDS = {"full": "full", "diagonal": "diag", "spherical": "spherical"}


@pytest.mark.parametrize("steps", [1, 10, 60])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_em_equals_scikit_learn_from_the_same_start(covariance, d, steps):
    mixture = pytest.importorskip("sklearn.mixture")
    x = heaps(300, d)
    config = EMConfig(num_components=3, covariance=covariance, var_floor=1e-12, max_steps=steps, tolerance=0)
    start = GaussianMixture.start(x, config, generator=seeded(1))
    precision = torch.linalg.inv(start.covs)
    kinds = {
        "full": precision,
        "diagonal": precision.diagonal(dim1=1, dim2=2),
        "spherical": precision[:, 0, 0],
    }
    peer = mixture.GaussianMixture(
        3,
        covariance_type=SKLEARN_KINDS[covariance],
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init=kinds[covariance].numpy(),
        reg_covar=0,
        tol=0,
        max_iter=steps,
    )
    with pytest.warns(match="converge"):  # no step is small enough for a tolerance of 0
        peer.fit(x.numpy())
    model = start
    for _ in range(steps):
        model = model.m_step(x, model.e_step(x)[0], covariance, config.var_floor)
    np.testing.assert_allclose(model.log_prob(x).numpy(), peer.score_samples(x.numpy()), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.e_step(x)[0].numpy(), peer.predict_proba(x.numpy()), atol=1e-6)
    assert model.log_prob(x).mean().item() == pytest.approx(peer.score(x.numpy()), abs=1e-6)


@few
@given(
    st.integers(0, 100_000),
    st.sampled_from(COVARIANCES),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(1, 40),
    st.sampled_from([1e-6, 1e-2, 1.0]),
    st.booleans(),
)
def test_em_never_lowers_the_likelihood(seed, covariance, k, d, n, var_floor, repeated):
    """Also with more components than points, with points that coincide, and with an active floor."""
    x = heaps(n, d, seed)
    if repeated:
        x = x.round()
    config = EMConfig(num_components=k, covariance=covariance, var_floor=var_floor)
    model = GaussianMixture.start(x, config, generator=seeded(seed))
    scores = []
    for _ in range(15):
        responsibilities, log_prob = model.e_step(x)
        scores.append(log_prob.mean().item())
        torch.testing.assert_close(responsibilities.sum(1), torch.ones(n, dtype=torch.float64))
        model = model.m_step(x, responsibilities, covariance, var_floor)
        assert torch.linalg.eigvalsh(model.covs).min() >= var_floor * (1 - 1e-6)
    assert all(later >= earlier - 1e-9 * (1 + abs(earlier)) for earlier, later in itertools.pairwise(scores))


@few
@given(st.integers(0, 100_000), st.sampled_from([1e-3, 0.3, 2.0]))
def test_a_lifted_covariance_is_the_likeliest_above_the_floor(seed, var_floor):
    generator = seeded(seed)
    root = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64)
    sample = root @ root.transpose(1, 2)
    best = floored(sample, "full", var_floor)

    def score(cov):  # of points with this sample covariance: −½ (log det Σ + tr Σ⁻¹ S)
        return (-0.5 * (torch.logdet(cov) + torch.linalg.solve(cov, sample).diagonal(dim1=1, dim2=2).sum(1))).item()

    assert torch.linalg.eigvalsh(best).min() >= var_floor * (1 - 1e-9)
    for _ in range(10):
        step = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64)
        other = floored(best + 0.2 * (step + step.transpose(1, 2)), "full", var_floor)
        assert score(other) <= score(best) + 1e-9


def test_bound_plus_divergence_is_the_log_likelihood():
    model, x = blend(), 2 * heaps(40)
    truth, log_prob = model.e_step(x)
    torch.testing.assert_close(model.bound(x, truth), log_prob)
    for seed in range(5):
        q = torch.rand(40, 3, generator=seeded(seed), dtype=torch.float64)
        q = q / q.sum(1, keepdim=True)
        divergence = (q * (q.log() - truth.log())).sum(1)
        torch.testing.assert_close(model.bound(x, q) + divergence, log_prob)
        assert (divergence > 0).all()
    one_hot = torch.eye(3, dtype=torch.float64)[torch.zeros(40, dtype=torch.int64)]
    torch.testing.assert_close(model.bound(x, one_hot), model.log_joint(x)[:, 0])


def test_m_step_raises_the_bound_most():
    x = heaps(80)
    model = GaussianMixture.start(x, EMConfig(num_components=3), generator=seeded())
    q = model.e_step(x)[0]
    best = model.m_step(x, q)
    score = best.bound(x, q).mean()
    generator = seeded(5)
    for _ in range(20):
        noise = 0.1 * torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
        other = GaussianMixture(
            weights=torch.softmax(
                best.weights.log() + 0.1 * torch.randn(3, generator=generator, dtype=torch.float64), 0
            ),
            means=best.means + 0.1 * torch.randn(3, 2, generator=generator, dtype=torch.float64),
            covs=best.covs + noise @ noise.transpose(1, 2),
        )
        assert other.bound(x, q).mean() < score


def test_one_component_is_the_sample_mean_and_covariance():
    x = heaps(100, 3)
    model = GaussianMixture.fit(x, EMConfig(num_components=1), generator=seeded())
    torch.testing.assert_close(model.means[0], x.mean(0))
    torch.testing.assert_close(model.covs[0], x.T.cov(correction=0))


def test_fit_finds_heaps_that_lie_apart():
    truth = GaussianMixture(
        weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        means=torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]], dtype=torch.float64),
        covs=torch.tensor([[[1.0, 0.5], [0.5, 1.0]], [[0.3, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]]).double(),
    )
    x = truth.sample(6000, generator=seeded())
    found = GaussianMixture.fit(x, EMConfig(num_components=3, restarts=3), generator=seeded(1))
    order = found.weights.argsort(descending=True)
    torch.testing.assert_close(found.weights[order], truth.weights, atol=0.02, rtol=0)
    torch.testing.assert_close(found.means[order], truth.means, atol=0.1, rtol=0)
    torch.testing.assert_close(found.covs[order], truth.covs, atol=0.12, rtol=0)


def test_restarts_never_do_worse():
    x = heaps(120)
    scores = [
        GaussianMixture.fit(x, EMConfig(num_components=6, restarts=r), generator=seeded(2)).log_prob(x).mean().item()
        for r in (1, 4)
    ]
    assert scores[1] >= scores[0]


def test_a_component_collapses_onto_a_point_down_to_the_floor():
    """The likelihood has no maximum: each hundredth of the floor's variance is another log 100 nats for that point."""
    x = torch.cat([heaps(50), torch.tensor([[40.0, 40.0]], dtype=torch.float64)])
    scores = []
    for var_floor in (1e-2, 1e-4, 1e-6):
        start = GaussianMixture(
            weights=torch.tensor([0.9, 0.1], dtype=torch.float64),
            means=torch.tensor([[0.0, 0.0], [40.0, 40.0]], dtype=torch.float64),
            covs=torch.eye(2, dtype=torch.float64).expand(2, 2, 2),
        )
        model = GaussianMixture.fit(x, EMConfig(num_components=2, var_floor=var_floor), start=start)
        torch.testing.assert_close(model.covs[1], var_floor * torch.eye(2, dtype=torch.float64))
        scores.append(model.log_prob(x).sum().item())
    assert scores[1] - scores[0] == pytest.approx(math.log(100), abs=1e-6)
    assert scores[2] - scores[1] == pytest.approx(math.log(100), abs=1e-6)


def test_an_empty_component_is_put_to_use():
    x = heaps(200)
    far = GaussianMixture(
        weights=torch.tensor([0.5, 0.5], dtype=torch.float64),
        means=torch.tensor([[0.0, 0.0], [500.0, 500.0]], dtype=torch.float64),
        covs=torch.eye(2, dtype=torch.float64).expand(2, 2, 2),
    )
    step = far.m_step(x, far.e_step(x)[0])
    assert step.weights[1] == 0
    assert torch.equal(step.means[1], far.means[1])
    assert step.log_prob(x).isfinite().all()
    model = GaussianMixture.fit(x, EMConfig(num_components=2), start=far)
    assert model.weights.min() > 0.1
    alone = GaussianMixture.fit(x, EMConfig(num_components=1), generator=seeded())
    assert model.log_prob(x).mean() > alone.log_prob(x).mean() + 0.1


@few
@given(st.integers(0, 100_000), st.integers(2, 6), st.integers(0, 4))
def test_fit_ends_no_lower_than_it_starts(seed, k, far):
    """Also where some components start so far away that they get no point and have to be moved."""
    x = heaps(30, 2, seed)
    config = EMConfig(num_components=k, var_floor=1e-2, max_steps=30)
    start = GaussianMixture.start(x, config, generator=seeded(seed))
    means = start.means.clone()
    means[: min(far, k - 1)] += 1e3
    start = GaussianMixture(weights=start.weights, means=means, covs=start.covs)
    plain = start
    for _ in range(config.max_steps):
        plain = plain.m_step(x, plain.e_step(x)[0], "full", config.var_floor)
    fitted = GaussianMixture.fit(x, config, start=start)
    assert fitted.log_prob(x).mean() >= plain.log_prob(x).mean() - 1e-4  # fit may stop early, by its tolerance
    assert fitted.log_prob(x).mean() >= start.log_prob(x).mean() - 1e-9


def test_reseeding_leaves_alone_what_has_points():
    model = blend()
    assert model.reseed(model.sample(50, generator=seeded())) is model
    lone = GaussianMixture(weights=torch.ones(1), means=torch.zeros(1, 2), covs=torch.eye(2)[None])
    assert lone.reseed(torch.zeros(1, 2)) is lone


def test_more_components_than_points():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    model = GaussianMixture.fit(x, EMConfig(num_components=5, var_floor=0.01), generator=seeded())
    assert model.log_prob(x).isfinite().all()
    assert model.sample(10, generator=seeded()).isfinite().all()


def test_mixture_refuses():
    model = blend()
    with pytest.raises(ValueError, match="weights must have shape"):
        GaussianMixture(weights=model.weights[:2], means=model.means, covs=model.covs)
    with pytest.raises(ValueError, match="sum to 1"):
        GaussianMixture(weights=2 * model.weights, means=model.means, covs=model.covs)
    with pytest.raises(ValueError, match="positive definite"):
        GaussianMixture(weights=model.weights, means=model.means, covs=-model.covs).log_prob(heaps())
    for arguments, message in (
        ({"num_components": 0}, "num_components"),
        ({"num_components": 2, "covariance": "round"}, "covariance"),
        ({"num_components": 2, "var_floor": 0.0}, "var_floor"),
        ({"num_components": 2, "tolerance": -1.0}, "tolerance"),
        ({"num_components": 2, "restarts": 0}, "restarts"),
    ):
        with pytest.raises(ValueError, match=message):
            EMConfig(**arguments)
