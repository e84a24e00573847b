"""Chapter 2's module: class-conditional Gaussians, shrinkage, probabilistic PCA; parity with scikit-learn and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gentext.gaussian import (
    CLASSIFIERS,
    COVARIANCES,
    PCA,
    ClassConditionalGaussian,
    ProbabilisticPCA,
    ledoit_wolf,
    shrink,
)
from gentext.gaussian_images import GaussianImages, GaussianImagesConfig
from gentext.metrics import learning_curves, share_of_each_class
from gentext.nn import LogisticRegression

SEEDS = st.integers(0, 10_000)


def gen(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy(seed: int = 0, n: int = 90, d: int = 4, num_classes: int = 3) -> tuple[Tensor, Tensor]:
    """Correlated rows (n, d), float64, of classes of unequal size that overlap."""
    generator = gen(seed)
    labels = (torch.arange(n) % (2 * num_classes)).clamp(max=num_classes - 1)
    mix = torch.randn(num_classes, d, d, generator=generator, dtype=torch.float64)
    mean = 2 * torch.randn(num_classes, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return mean[labels] + torch.einsum("nij,nj->ni", mix[labels], noise), labels


def close(a: object, b: object, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


# ---- parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [None, 0.1, 0.7, 1.0])
def test_linear_discriminant_analysis_is_scikit_learns(shrinkage: float | None) -> None:
    peer = pytest.importorskip("sklearn.discriminant_analysis").LinearDiscriminantAnalysis
    x, y = toy(d=6)
    fresh = toy(1, d=6)[0]
    theirs = peer(solver="lsqr", shrinkage=shrinkage, store_covariance=True).fit(x.numpy(), y.numpy())
    ours = ClassConditionalGaussian.fit(x, y, "shared", shrinkage=shrinkage or 0.0)
    close(ours.mean, theirs.means_)
    close(ours.cov[0], theirs.covariance_)
    close(ours.log_prior.exp(), theirs.priors_)
    close(ours.log_posterior(fresh), theirs.predict_log_proba(fresh.numpy()), 1e-7)
    weight, bias = ours.linear_form()
    close(weight.T, theirs.coef_, 1e-8)
    close(bias, theirs.intercept_, 1e-8)
    assert (ours.predict(fresh).numpy() == theirs.predict(fresh.numpy())).all()


@pytest.mark.parametrize("shrinkage", [None, 0.3])
def test_quadratic_discriminant_analysis_is_scikit_learns(shrinkage: float | None) -> None:
    peer = pytest.importorskip("sklearn.discriminant_analysis").QuadraticDiscriminantAnalysis
    x, y = toy(d=5)
    fresh = toy(1, d=5)[0]
    try:
        options = {"solver": "eigen", "shrinkage": shrinkage} if shrinkage else {}
        theirs = peer(store_covariance=True, **options).fit(x.numpy(), y.numpy())
    except TypeError:
        pytest.skip("this scikit-learn's QDA does not shrink")
    # Releases of scikit-learn differ in the divisor: n_k or n_k − 1.
    unbiased = bool(np.isclose(np.trace(theirs.covariance_[0]), (x[y == 0].T.cov()).trace().item()))
    ours = ClassConditionalGaussian.fit(x, y, "full", shrinkage=shrinkage or 0.0, unbiased=unbiased)
    close(ours.cov, np.stack(theirs.covariance_))
    close(ours.log_posterior(fresh), theirs.predict_log_proba(fresh.numpy()), 1e-8)


def test_unbiased_divides_by_the_degrees_of_freedom() -> None:
    x, y = toy()
    close(ClassConditionalGaussian.fit(x, y, "full", unbiased=True).cov[1], x[y == 1].T.cov())
    close(ClassConditionalGaussian.fit(x, y, "full").cov[1], x[y == 1].T.cov(correction=0))
    close(ClassConditionalGaussian.fit(x, y, "diagonal", unbiased=True).cov[1], x[y == 1].var(0))
    shared = sum(x[y == k].T.cov() * (int((y == k).sum()) - 1) for k in range(3)) / (len(x) - 3)
    close(ClassConditionalGaussian.fit(x, y, unbiased=True).cov[0], shared)


def test_diagonal_is_gaussian_naive_bayes() -> None:
    peer = pytest.importorskip("sklearn.naive_bayes").GaussianNB
    x, y = toy()
    fresh = toy(1)[0]
    theirs = peer(var_smoothing=0).fit(x.numpy(), y.numpy())
    ours = ClassConditionalGaussian.fit(x, y, "diagonal")
    close(ours.cov, theirs.var_)
    close(ours.log_posterior(fresh), theirs.predict_log_proba(fresh.numpy()), 1e-8)
    close(ours.log_joint(fresh), theirs.predict_joint_log_proba(fresh.numpy()), 1e-8)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_densities_are_scipys(covariance: str) -> None:
    stats = pytest.importorskip("scipy.stats")
    x, y = toy(n=60)
    ours = ClassConditionalGaussian.fit(x, y, covariance, shrinkage=0.2)
    for k in range(3):
        cov = ours.cov[k].diag() if covariance == "diagonal" else ours.cov[k if covariance == "full" else 0]
        expected = stats.multivariate_normal(ours.mean[k].numpy(), cov.numpy()).logpdf(x.numpy())
        close(ours.log_likelihood(x)[:, k], expected)
        close(ours.log_prob(x, torch.full((60,), k)), expected)


@pytest.mark.parametrize(("n", "d"), [(12, 30), (200, 5), (40, 40)])
def test_shrinkage_intensity_is_scikit_learns(n: int, d: int) -> None:
    covariance = pytest.importorskip("sklearn.covariance")
    x = toy(n=n, d=d, num_classes=2)[0]
    x = x - x.mean(0)
    close(ledoit_wolf(x), covariance.ledoit_wolf_shrinkage(x.numpy(), assume_centered=True))
    cov = x.T @ x / n
    expected = covariance.shrunk_covariance(cov.numpy(), 0.3)
    close(shrink(cov[None], 0.3)[0], expected)


@pytest.mark.parametrize(("n", "d", "q"), [(80, 6, 2), (300, 12, 5), (20, 8, 7)])
def test_probabilistic_pca_is_scikit_learns(n: int, d: int, q: int) -> None:
    peer = pytest.importorskip("sklearn.decomposition").PCA
    x = toy(n=n, d=d, num_classes=1)[0]
    theirs = peer(q, svd_solver="full").fit(x.numpy())
    ours = ProbabilisticPCA.fit(x, q)
    unbiased = n / (n - 1)  # scikit-learn divides by n − 1, the likelihood's maximum by n
    close(ours.noise_var * unbiased, theirs.noise_variance_)
    close(ours.cov * unbiased, theirs.get_covariance())
    scaled = ProbabilisticPCA(ours.mean, ours.weight * unbiased**0.5, ours.noise_var * unbiased)
    close(scaled.log_prob(x), theirs.score_samples(x.numpy()), 1e-8)
    close(scaled.log_prob(x).mean(), theirs.score(x.numpy()), 1e-9)


def test_logistic_regression_is_scikit_learns() -> None:
    peer = pytest.importorskip("sklearn.linear_model").LogisticRegression
    x, y = toy(n=150)
    z = (x - x.mean(0)) / x.std(0, correction=0)
    theirs = peer(C=0.7, tol=1e-10, max_iter=5000).fit(z.numpy(), y.numpy())
    ours = LogisticRegression.fit(x, y, inverse_penalty=0.7)
    close(ours.log_posterior(x).exp(), theirs.predict_proba(z.numpy()), 1e-4)
    assert (ours.predict(x).numpy() == theirs.predict(z.numpy())).all()


# ---- class-conditional Gaussians -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(2, 5), st.sampled_from(COVARIANCES), st.floats(0.01, 1))
def test_posteriors_sum_to_one_and_follow_bayes(seed: int, d: int, k: int, covariance: str, shrinkage: float) -> None:
    x, y = toy(seed, n=20 * k, d=d, num_classes=k)
    model = ClassConditionalGaussian.fit(x, y, covariance, shrinkage=shrinkage)
    fresh = 3 * toy(seed + 1, d=d, num_classes=k)[0]
    posterior = model.log_posterior(fresh).exp()
    close(posterior.sum(1), torch.ones(len(fresh)))
    close(model.log_prob(fresh), (model.log_likelihood(fresh) + model.log_prior).logsumexp(1))
    close(model.log_posterior(fresh), model.log_joint(fresh) - model.log_prob(fresh)[:, None], 1e-8)
    assert torch.equal(model.predict(fresh), posterior.argmax(1))
    close(model.log_prior.exp().sum(), 1.0)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 5))
def test_the_shared_posterior_is_a_softmax_of_a_linear_function(seed: int, d: int) -> None:
    x, y = toy(seed, d=d)
    model = ClassConditionalGaussian.fit(x, y, "shared", shrinkage=0.05)
    weight, bias = model.linear_form()
    close(model.log_posterior(x), (x @ weight + bias).log_softmax(1), 1e-7)
    for other in ("full", "diagonal"):
        with pytest.raises(ValueError, match="only a shared covariance"):
            ClassConditionalGaussian.fit(x, y, other, shrinkage=0.05).linear_form()


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 5), st.sampled_from(["shared", "full"]))
def test_turning_the_axes_turns_everything_along(seed: int, d: int, covariance: str) -> None:
    x, y = toy(seed, d=d)
    turn = torch.linalg.qr(torch.randn(d, d, generator=gen(seed), dtype=torch.float64))[0]
    first = ClassConditionalGaussian.fit(x, y, covariance, shrinkage=0.1)
    second = ClassConditionalGaussian.fit(x @ turn, y, covariance, shrinkage=0.1)
    close(first.mean @ turn, second.mean, 1e-8)
    close(first.log_likelihood(x), second.log_likelihood(x @ turn), 1e-7)
    close(first.spectrum[0], second.spectrum[0], 1e-8)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_moments_of_samples_come_to_the_estimate(covariance: str) -> None:
    x, y = toy(3, d=3)
    model = ClassConditionalGaussian.fit(x, y, covariance, shrinkage=0.1)
    n = 40_000
    for k in range(3):
        drawn = model.sample(n, torch.full((n,), k), generator=gen(k))
        cov = model.cov[k].diag() if covariance == "diagonal" else model.cov[k if covariance == "full" else 0]
        spread = cov.diagonal().sqrt()
        assert ((drawn.mean(0) - model.mean[k]).abs() < 5 * spread / n**0.5).all()
        # The standard error of a sample covariance is √((Σᵢᵢ Σⱼⱼ + Σᵢⱼ²) / n).
        error = ((spread[:, None] * spread).square() + cov.square()).div(n).sqrt()
        assert ((drawn.T.cov() - cov).abs() < 5 * error).all()
    labels = model.sample_labels(n, gen(9))
    share = labels.bincount(minlength=3) / n
    assert ((share - model.log_prior.exp()).abs() < 5 * (0.25 / n) ** 0.5).all()
    assert torch.equal(model.sample(5, generator=gen(1)), model.sample(5, generator=gen(1)))
    assert not torch.equal(model.sample(5, generator=gen(1)), model.sample(5, generator=gen(2)))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0, 1))
def test_shrinkage_keeps_directions_and_levels_eigenvalues(seed: int, intensity: float) -> None:
    x, y = toy(seed, d=5)
    plain = ClassConditionalGaussian.fit(x, y, "full")
    shrunk = ClassConditionalGaussian.fit(x, y, "full", shrinkage=intensity)
    before, after = plain.spectrum[0].square(), shrunk.spectrum[0].square()
    close(after, (1 - intensity) * before + intensity * before.mean(1, keepdim=True), 1e-8)
    close(shrunk.cov, shrink(plain.cov, intensity))
    close(shrunk.cov.diagonal(dim1=1, dim2=2).sum(1), plain.cov.diagonal(dim1=1, dim2=2).sum(1))
    variances = ClassConditionalGaussian.fit(x, y, "diagonal", shrinkage=intensity).cov
    close(variances.mean(1), ClassConditionalGaussian.fit(x, y, "diagonal").cov.mean(1))
    if intensity < 0.9:
        close((shrunk.spectrum[1] * plain.spectrum[1]).sum(1).abs(), torch.ones(3, 5), 1e-4)


def test_the_estimated_intensity_falls_with_the_number_of_rows() -> None:
    found = []
    for n in (10, 100, 1000, 10_000):
        x = torch.randn(n, 20, generator=gen(0), dtype=torch.float64) * torch.linspace(0.2, 2, 20)
        found.append(ledoit_wolf(x - x.mean(0)))
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 0.02
    assert found[0] > 0.3
    assert ledoit_wolf(torch.eye(3, dtype=torch.float64) * 3) == 1.0, "as round as can be"
    x, y = toy(d=6)
    model = ClassConditionalGaussian.fit(x, y, "full", shrinkage="ledoit-wolf")
    assert model.shrinkage.shape == (3,)
    close(model.shrinkage[1], ledoit_wolf(x[y == 1] - x[y == 1].mean(0)))


@pytest.mark.parametrize("covariance", ["shared", "full"])
def test_fewer_rows_than_dimensions_have_samples_and_no_density(covariance: str) -> None:
    x, y = toy(n=12, d=20)
    model = ClassConditionalGaussian.fit(x, y, covariance)
    whose = "the shared covariance" if covariance == "shared" else "the covariance of class 0"
    left = 11 if covariance == "shared" else 19  # 12 rows less 3 means; 2 rows less 1 mean
    with pytest.raises(ValueError, match=f"{whose} is singular: {left} of its 20 directions.*shrinkage above 0"):
        model.log_prob(x)
    drawn = model.sample(50, torch.zeros(50, dtype=torch.int64), generator=gen(0))
    assert torch.linalg.matrix_rank(drawn - model.mean[0], atol=1e-6) == 20 - left
    assert ClassConditionalGaussian.fit(x, y, covariance, shrinkage=0.01).log_prob(x).isfinite().all()
    blank = torch.cat([x, (y != 1)[:, None] * x[:, :1]], dim=1)  # the last pixel never varies in one class
    naive = ClassConditionalGaussian.fit(blank, y, "diagonal")
    with pytest.raises(ValueError, match="class 1 is singular: 1 of its 21"):
        naive.log_prob(blank)


def test_two_gaussians_on_a_line_by_hand() -> None:
    x = torch.tensor([[0.0], [2.0], [4.0], [6.0]], dtype=torch.float64)
    model = ClassConditionalGaussian.fit(x, torch.tensor([0, 0, 1, 1]))
    close(model.mean[:, 0], [1, 5])
    close(model.cov, [[[1.0]]])
    middle = torch.tensor([[3.0], [3.5]], dtype=torch.float64)
    close(model.log_posterior(middle).exp()[:, 1], [0.5, 1 / (1 + math.exp(-2))])  # the slope is (5 − 1) / σ² = 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_works_in_the_type_it_is_given(dtype: torch.dtype) -> None:
    x, y = toy()
    for covariance in COVARIANCES:
        model = ClassConditionalGaussian.fit(x.to(dtype), y, covariance, shrinkage=0.1)
        exact = ClassConditionalGaussian.fit(x, y, covariance, shrinkage=0.1)
        assert model.log_posterior(x.to(dtype)).dtype == model.sample(2, generator=gen(0)).dtype == dtype
        close(model.log_prob(x.to(dtype)), exact.log_prob(x), 1e-4)


@pytest.mark.parametrize(
    ("rows", "labels", "options", "message"),
    [
        (torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64), {}, "flatten"),
        (torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), {}, "floating-point"),
        (torch.full((4, 2), math.nan), torch.zeros(4, dtype=torch.int64), {}, "finite"),
        (torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64), {}, "labels must be 4 integers"),
        (torch.zeros(4, 2), torch.zeros(4), {}, "labels must be 4 integers"),
        (torch.zeros(4, 2), torch.tensor([0, 0, 2, 2]), {}, "class 1 has no example"),
        (torch.zeros(4, 2), torch.tensor([0, 0, -1, 2]), {}, "from 0 on"),
        (torch.rand(4, 2), torch.tensor([0, 0, 1, 1]), {"covariance": "round"}, "one of shared, full, diagonal"),
        (torch.rand(4, 2), torch.tensor([0, 0, 1, 1]), {"shrinkage": 1.5}, "between 0 and 1"),
        (torch.rand(4, 2), torch.tensor([0, 0, 1, 1]), {"shrinkage": math.nan}, "between 0 and 1"),
        (torch.rand(4, 2), torch.tensor([0, 0, 0, 1]), {"covariance": "full", "unbiased": True}, "more than 1"),
        (
            torch.rand(4, 2),
            torch.tensor([0, 0, 1, 1]),
            {"covariance": "diagonal", "shrinkage": "ledoit-wolf"},
            "give a number",
        ),
    ],
)
def test_bad_input_is_refused(rows: Tensor, labels: Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ClassConditionalGaussian.fit(rows, labels, **options)
    assert "\n" not in str(caught.value)


def test_bad_questions_are_refused() -> None:
    model = ClassConditionalGaussian.fit(*toy())
    with pytest.raises(ValueError, match=r"x must have shape \(n, 4\)"):
        model.log_prob(torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"labels must be integers in 0\.\.2"):
        model.sample(2, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"label must have shape \(2,\)"):
        model.sample(2, torch.tensor([0]))
    with pytest.raises(ValueError, match="labels must be integers"):
        model.log_prob(torch.zeros(2, 4, dtype=torch.float64), torch.tensor([0, 5]))
    for rows, labels, penalty, message in (
        (torch.zeros(2), torch.tensor([0, 1]), 1.0, "rows must have shape"),
        (torch.zeros(2, 1), torch.tensor([0, 2]), 1.0, "every class"),
        (torch.zeros(2, 1), torch.tensor([0, 0]), 1.0, "two classes"),
        (torch.zeros(2, 1), torch.tensor([0, 1]), 0.0, "inverse_penalty must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            LogisticRegression.fit(rows, labels, inverse_penalty=penalty)


# ---- probabilistic PCA -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(3, 8), st.integers(1, 2))
def test_em_never_loses_likelihood_nor_passes_the_closed_form(seed: int, d: int, q: int) -> None:
    x = toy(seed, n=60, d=d, num_classes=1)[0]
    best = float(ProbabilisticPCA.fit(x, q).log_prob(x).mean())
    found, history = ProbabilisticPCA.fit_em(x, q, generator=gen(seed), num_steps=60, tolerance=0)
    assert all(later >= earlier - 1e-10 for earlier, later in itertools.pairwise(history))
    assert history[-1] <= best + 1e-9
    close(found.log_prob(x).mean(), history[-1])
    assert len(history) <= 61


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(4, 10), st.integers(1, 3))
def test_em_reaches_the_closed_form(seed: int, d: int, q: int) -> None:
    """Where the directions stand out from the noise; where they hardly do, EM crawls."""
    generator = gen(seed)
    z = torch.randn(200, q, generator=generator, dtype=torch.float64) * torch.tensor([6.0, 4.0, 3.0])[:q]
    axes = torch.linalg.qr(torch.randn(d, q, generator=generator, dtype=torch.float64))[0]
    x = z @ axes.T + torch.randn(200, d, generator=generator, dtype=torch.float64)
    best = ProbabilisticPCA.fit(x, q)
    found, history = ProbabilisticPCA.fit_em(x, q, generator=generator, num_steps=3000, tolerance=1e-12)
    assert len(history) < 3000, "the stop rule holds"
    close(history[-1], best.log_prob(x).mean(), 1e-7)
    close(found.cov, best.cov, 1e-3)


def test_em_finds_the_closed_forms_covariance() -> None:
    x = toy(5, n=400, d=8, num_classes=1)[0] * torch.tensor([4.0, 3, 2, 1, 1, 1, 1, 1], dtype=torch.float64)
    best = ProbabilisticPCA.fit(x, 3)
    found, _ = ProbabilisticPCA.fit_em(x, 3, generator=gen(0), num_steps=4000, tolerance=1e-15)
    close(found.cov, best.cov, 1e-5)
    close(found.noise_var, best.noise_var, 1e-6)
    step = best.em_step(x)  # the maximum is a fixed point
    close(step.weight, best.weight, 1e-9)
    close(step.noise_var, best.noise_var, 1e-9)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 7))
def test_densities_and_posteriors_by_brute_force(seed: int, d: int) -> None:
    x = toy(seed, n=50, d=d, num_classes=1)[0]
    model = ProbabilisticPCA.fit(x, 1 if d == 2 else 2)
    whole = torch.distributions.MultivariateNormal(model.mean, model.cov)
    close(model.log_prob(x), whole.log_prob(x), 1e-8)
    # p(z∣x) from the joint Gaussian of (z, x): mean Σ_zx Σ_xx⁻¹ (x − μ), covariance I − Σ_zx Σ_xx⁻¹ Σ_xz.
    gain = torch.linalg.solve(model.cov, model.weight).T
    mean, cov = model.posterior(x)
    close(mean, (x - model.mean) @ gain.T, 1e-8)
    close(cov, torch.eye(len(cov), dtype=torch.float64) - gain @ model.weight, 1e-8)
    close(model.encode(x), mean)


def test_any_rotation_of_the_latents_is_as_good() -> None:
    x = toy(2, d=6, num_classes=1)[0]
    model = ProbabilisticPCA.fit(x, 3)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=gen(0), dtype=torch.float64))[0]
    turned = ProbabilisticPCA(model.mean, model.weight @ turn, model.noise_var)
    close(turned.log_prob(x), model.log_prob(x))
    close(turned.encode(x), model.encode(x) @ turn)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=gen(1), dtype=torch.float64))[0]
    close(ProbabilisticPCA.fit(x @ axes, 3).log_prob(x @ axes), model.log_prob(x), 1e-8)


def test_reconstructions_shrink_towards_the_mean() -> None:
    x = toy(4, d=6, num_classes=1)[0]
    model, pca = ProbabilisticPCA.fit(x, 2), PCA.fit(x, 2)
    variance = pca.variance * (len(x) - 1) / len(x)
    keep = 1 - model.noise_var / variance  # each coordinate shrinks by the share of noise in its variance
    close(model.decode(model.encode(x)), pca.decode(pca.encode(x) * keep), 1e-8)


def test_moments_of_its_samples() -> None:
    model = ProbabilisticPCA.fit(toy(1, d=4, num_classes=1)[0], 2)
    n = 40_000
    drawn, smooth = model.sample(n, generator=gen(0)), model.sample(n, generator=gen(0), noise=False)
    spread = model.cov.diagonal().sqrt()
    error = ((spread[:, None] * spread).square() + model.cov.square()).div(n).sqrt()
    assert ((drawn.mean(0) - model.mean).abs() < 5 * spread / n**0.5).all()
    assert ((drawn.T.cov() - model.cov).abs() < 5 * error).all()
    assert torch.linalg.matrix_rank(smooth - model.mean, rtol=1e-9) == 2


def test_probabilistic_pca_refuses_what_it_cannot_do() -> None:
    x = toy(n=6, d=10, num_classes=1)[0]
    with pytest.raises(ValueError, match="5 latents leave no variance for the noise"):
        ProbabilisticPCA.fit(x, 5)
    with pytest.raises(ValueError, match="leave no variance"):
        ProbabilisticPCA.fit(toy(d=3, num_classes=1)[0], 3)
    blank = torch.cat([toy(d=4, num_classes=1)[0], torch.zeros(90, 4, dtype=torch.float64)], dim=1)
    with pytest.raises(ValueError, match="4 latents leave no variance"):  # but for rounding
        ProbabilisticPCA.fit(blank, 4)
    with pytest.raises(ValueError, match=r"num_latents must lie in 1\.\.5"):
        ProbabilisticPCA.fit_em(x, 6)
    with pytest.raises(ValueError, match="floating-point"):
        ProbabilisticPCA.fit(x.long(), 2)
    model = ProbabilisticPCA.fit(x, 2)
    with pytest.raises(ValueError, match=r"z must have shape \(n, 2\)"):
        model.decode(torch.zeros(1, 3, dtype=torch.float64))
    for question in (model.log_prob, model.posterior):
        with pytest.raises(ValueError, match=r"x must have shape \(n, 10\)"):
            question(torch.zeros(1, 3, dtype=torch.float64))


# ---- images ----------------------------------------------------------------------------------------------------------


def pictures(seed: int = 0, n: int = 60) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % 2
    images = torch.rand(n, 1, 6, 6, generator=gen(seed))
    images[labels == 1, :, :3] *= 0.3
    return images, labels


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("components", [0, 4])
def test_images_in_images_out(covariance: str, components: int) -> None:
    images, labels = pictures()
    config = GaussianImagesConfig(num_classes=2, image_size=6, num_components=components, covariance=covariance)
    model = GaussianImages(config).fit(images, labels, shrinkage=0.2)
    rows = images.flatten(1).double()
    if components:
        rows = PCA.fit(rows, components).encode(rows)
    plain = ClassConditionalGaussian.fit(rows, labels, covariance, shrinkage=0.2)
    close(model.log_posterior(images), plain.log_posterior(rows), 1e-4)
    close(model.gaussian.cov, plain.cov, 1e-6)
    assert (model.predict(images) == labels).double().mean() > 0.9
    drawn = model.sample(3, torch.tensor([0, 1, 1]), generator=gen(0))
    assert drawn.shape == (3, 1, 6, 6)
    assert torch.equal(drawn, model.sample(3, torch.tensor([0, 1, 1]), generator=gen(0)))
    if not components:
        close(model.decode(model.features(images)), images)
    fresh = GaussianImages(config)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.log_posterior(images), model.log_posterior(images))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_images_that_do_not_fit_are_refused() -> None:
    images, labels = pictures()
    with pytest.raises(ValueError, match="the model has 3 classes, the labels 2"):
        GaussianImages(GaussianImagesConfig(num_classes=3, image_size=6)).fit(images, labels)
    with pytest.raises(ValueError, match="images must have shape"):
        GaussianImages(GaussianImagesConfig(num_classes=2, image_size=8)).fit(images, labels)
    with pytest.raises(ValueError, match="covariance must be one of"):
        GaussianImagesConfig(num_classes=2, covariance="round")
    with pytest.raises(ValueError, match="num_components"):
        GaussianImagesConfig(num_classes=2, num_components=-1)


# ---- learning curves -------------------------------------------------------------------------------------------------


def test_a_share_of_each_class() -> None:
    labels = torch.tensor([0] * 40 + [1] * 10 + [2] * 2)
    places = share_of_each_class(labels, 0.25, gen(0))
    assert labels[places].bincount().tolist() == [10, 3, 2], "a quarter, but three of each where there are three"
    assert len(places.unique()) == len(places)
    assert torch.equal(places, share_of_each_class(labels, 0.25, gen(0)))
    assert not torch.equal(places, share_of_each_class(labels, 0.25, gen(1)))
    assert share_of_each_class(labels, 1.0, gen(0)).sort().values.tolist() == list(range(52))
    for share in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
            share_of_each_class(labels, share, gen(0))


def test_learning_curves_are_means_over_draws() -> None:
    x, y = toy(n=600)
    fresh, wanted = toy(0, n=600)
    curves = learning_curves(CLASSIFIERS, x, y, fresh, wanted, [0.05, 1.0], repeats=3)
    assert list(curves) == list(CLASSIFIERS)
    by_hand = []
    for seed in range(3):
        places = share_of_each_class(y, 0.05, gen(seed))
        by_hand.append(100 * (CLASSIFIERS["LDA"](x[places], y[places]).predict(fresh) != wanted).double().mean())
    close(curves["LDA"]["error"][0], torch.stack(by_hand).mean())
    close(curves["LDA"]["deviation"][0], torch.stack(by_hand).std())
    for curve in curves.values():
        assert curve["examples"] == [30, 600]
        assert curve["error"][0] > curve["error"][1]
        assert curve["deviation"][1] < 1e-12, "all examples, every time"
    with pytest.raises(ValueError, match="at least 2"):
        learning_curves(CLASSIFIERS, x, y, fresh, wanted, [1.0], repeats=1)
