"""The variational autoencoder against what is known exactly: closed forms, quadrature, and libraries of others."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

from gentext.nn import DiagonalGaussian, standard_normal_log_prob
from gentext.vae import VAE, VAEConfig, kl_warmup

PIXELS = 4  # a 2×2 image: small enough to write everything down
finite = st.floats(-3, 3, allow_nan=False, width=32)
few = settings(max_examples=40, deadline=None)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny(seed: int = 0, **changes) -> VAE:
    """A 2×2-pixel VAE in float64 with weights far from their start, so that nothing vanishes by accident."""
    config = VAEConfig(**{"image_size": 2, "latent_dim": 2, "network": "mlp", "hidden": (6,), **changes})
    model = VAE(config).double()
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def images(n: int, seed: int = 1, size: int = 2) -> Tensor:
    return torch.rand(n, 1, size, size, generator=seeded(seed), dtype=torch.float64)


# ---- the diagonal Gaussian -------------------------------------------------------------------------------------------


@few
@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=5))
def test_kl_equals_torch_distributions(rows):
    mean, log_var, other_mean, other_log_var = torch.tensor(rows, dtype=torch.float64).T
    q, p = DiagonalGaussian(mean[None], log_var[None]), DiagonalGaussian(other_mean[None], other_log_var[None])
    peer_q = Independent(Normal(mean, (log_var / 2).exp()), 1)
    peer_p = Independent(Normal(other_mean, (other_log_var / 2).exp()), 1)
    standard = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(q.kl(p)[0], kl_divergence(peer_q, peer_p))
    torch.testing.assert_close(q.kl()[0], kl_divergence(peer_q, standard))
    torch.testing.assert_close(q.kl_per_latent().sum(), q.kl()[0])
    assert (q.kl_per_latent() >= -1e-12).all()
    assert q.kl(q).abs().max() < 1e-12


@few
@given(finite, finite, finite)
def test_log_prob_equals_torch_distributions(mean, log_var, z):
    q = DiagonalGaussian(torch.full((1, 3), mean), torch.full((1, 3), log_var))
    peer = Independent(Normal(q.mean, q.std), 1)
    torch.testing.assert_close(q.log_prob(torch.full((1, 3), z)), peer.log_prob(torch.full((1, 3), z)))
    torch.testing.assert_close(
        standard_normal_log_prob(torch.full((2, 3), z)), Normal(0.0, 1.0).log_prob(torch.tensor(z)).expand(2, 3).sum(1)
    )


def test_kl_equals_its_integral():
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)[:, None, None]  # (points, 1, 1)
    q = DiagonalGaussian(torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[-1.3]], dtype=torch.float64))
    integrand = q.log_prob(z).exp() * (q.log_prob(z) - standard_normal_log_prob(z))
    torch.testing.assert_close(torch.trapezoid(integrand[:, 0], z[:, 0, 0]), q.kl()[0], rtol=1e-9, atol=1e-9)


def test_samples_have_the_stated_moments_and_carry_gradients():
    mean = torch.tensor([[1.0, -2.0]], requires_grad=True)
    log_var = torch.tensor([[0.0, -2.0]], requires_grad=True)
    q = DiagonalGaussian(mean, log_var)
    z = q.sample(seeded(), num_samples=20_000)  # (20000, 1, 2)
    assert z.shape == (20_000, 1, 2)
    torch.testing.assert_close(z.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(0), log_var.exp(), atol=0.03, rtol=0)
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.full((1, 2), 20_000.0))  # dz/dμ = 1 for each draw
    # dz/dlog σ² = ½ σ ε = ½ (z − μ)
    torch.testing.assert_close(log_var.grad, (0.5 * (z - mean)).sum(0).detach(), rtol=1e-4, atol=1e-2)


def test_mean_and_log_var_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 4))


# ---- a linear Gaussian model: probabilistic PCA, where log p(x), posterior and ELBO are known exactly ----------------


class LinearGaussian:
    """x = W z + b + σ ε with orthogonal columns of W, so that the true posterior is diagonal and a VAE can hold it."""

    def __init__(self, seed: int = 0, latent_dim: int = 2, pixels: int = PIXELS) -> None:
        basis = torch.linalg.qr(torch.randn(pixels, pixels, generator=seeded(seed), dtype=torch.float64))[0]
        self.weight = basis[:, :latent_dim] * torch.linspace(
            2, 0.5, latent_dim, dtype=torch.float64
        )  # (pixels, latents)
        self.bias = torch.randn(pixels, generator=seeded(seed + 1), dtype=torch.float64)
        self.std = 0.6
        precision = 1 + self.weight.square().sum(0) / self.std**2  # (latents,), the posterior's, Tipping & Bishop 1999
        self.posterior_var = 1 / precision
        self.gain = self.posterior_var[:, None] * self.weight.T / self.std**2  # (latents, pixels)

    def vae(self, shift: float = 0.0, stretch: float = 0.0, beta: float = 1.0) -> VAE:
        """A VAE with this decoder. Its encoder is the true posterior, moved by `shift`, log variance by `stretch`."""
        latent_dim = self.weight.shape[1]
        size = math.isqrt(len(self.bias))
        config = VAEConfig(
            image_size=size, latent_dim=latent_dim, network="mlp", hidden=(1,), likelihood="gaussian", beta=beta
        )
        model = VAE(config)
        decoder, head = nn.Linear(latent_dim, len(self.bias)), nn.Linear(len(self.bias), 2 * latent_dim)
        with torch.no_grad():
            decoder.double().weight.copy_(self.weight)
            decoder.bias.copy_(self.bias)
            head.double().weight.copy_(torch.cat([self.gain, torch.zeros_like(self.gain)]))
            offset = -self.gain @ self.bias + shift
            head.bias.copy_(torch.cat([offset, self.posterior_var.log() + stretch]))
        model.decoder = nn.Sequential(decoder, nn.Unflatten(1, (1, size, size)))
        model.encoder, model.posterior_head = nn.Flatten(), head
        model = model.double()
        with torch.no_grad():
            model.log_std.fill_(math.log(self.std))
        return model

    def marginal(self) -> MultivariateNormal:
        noise = self.std**2 * torch.eye(len(self.bias), dtype=torch.float64)
        return MultivariateNormal(self.bias, self.weight @ self.weight.T + noise)

    def exact_elbo(self, x: Tensor, q: DiagonalGaussian) -> Tensor:
        """E_q[log p(x∣z)] − KL(q ‖ p) without any sampling, (n,)."""
        var = self.std**2
        error = (x.flatten(1) - q.mean @ self.weight.T - self.bias).square().sum(1)
        spread = (q.log_var.exp() * self.weight.square().sum(0)).sum(1)  # tr(WᵀW Σ), WᵀW being diagonal
        return -0.5 * ((error + spread) / var + len(self.bias) * math.log(2 * math.pi * var)) - q.kl()


def test_at_the_true_posterior_every_bound_is_log_p_without_noise():
    world = LinearGaussian()
    model, x = world.vae(), images(5)
    log_p = world.marginal().log_prob(x.flatten(1))
    for num_samples in (1, 3, 20):
        torch.testing.assert_close(model.iwae_bound(x, num_samples, generator=seeded()), log_p)
    torch.testing.assert_close(model.log_prob(x, num_samples=2, generator=seeded()), log_p)
    torch.testing.assert_close(world.exact_elbo(x, model.encode(x)), log_p)


@few
@given(st.floats(-1.5, 1.5), st.floats(-2, 2), st.integers(0, 20))
def test_the_bound_falls_short_by_exactly_the_kl_to_the_true_posterior(shift, stretch, seed):
    world = LinearGaussian(seed)
    x = images(3, seed)
    q, true = world.vae(shift, stretch).encode(x), world.vae().encode(x)
    log_p = world.marginal().log_prob(x.flatten(1))
    elbo = world.exact_elbo(x, q)
    torch.testing.assert_close(elbo + q.kl(true), log_p)
    assert (elbo <= log_p + 1e-9).all()


def test_the_sampled_elbo_is_unbiased():
    world = LinearGaussian()
    model, x = world.vae(shift=0.4, stretch=0.7), images(1)
    draws = model.elbo(x.expand(20_000, -1, -1, -1), generator=seeded()).elbo
    exact = world.exact_elbo(x, model.encode(x))
    assert abs(draws.mean() - exact) < 5 * draws.std() / math.sqrt(len(draws))


def test_the_iwae_bound_climbs_with_samples_and_reaches_log_p():
    world = LinearGaussian()
    model, x = world.vae(shift=0.5, stretch=1.0), images(1)
    log_p = world.marginal().log_prob(x.flatten(1)).item()
    repeats = x.expand(4_000, -1, -1, -1)
    with torch.no_grad():
        means = [model.iwae_bound(repeats, k, generator=seeded(k)).mean().item() for k in (1, 2, 5, 20, 100)]
        last = model.iwae_bound(x, 50_000, generator=seeded(), chunk=5_000).item()
    exact_elbo = world.exact_elbo(x, model.encode(x)).item()
    assert abs(means[0] - exact_elbo) < 0.1  # K = 1 is the ELBO
    assert all(low < high for low, high in itertools.pairwise(means))
    assert all(mean < log_p for mean in means[:4])
    assert abs(last - log_p) < 0.02


def test_parity_with_scikit_learns_probabilistic_pca():
    sklearn = pytest.importorskip("sklearn.decomposition")
    rows = np.random.default_rng(0).normal(size=(200, 9)) @ np.random.default_rng(1).normal(size=(9, 9))
    peer = sklearn.PCA(n_components=3).fit(rows)
    world = LinearGaussian(latent_dim=3, pixels=9)
    scale = np.sqrt(peer.explained_variance_ - peer.noise_variance_)
    world.weight = torch.tensor(peer.components_.T * scale)  # Tipping & Bishop 1999, equation 7
    world.bias, world.std = torch.tensor(peer.mean_), math.sqrt(peer.noise_variance_)
    world.posterior_var = 1 / (1 + world.weight.square().sum(0) / world.std**2)
    world.gain = world.posterior_var[:, None] * world.weight.T / world.std**2
    log_p = world.vae().iwae_bound(torch.tensor(rows).view(-1, 1, 3, 3), 1, generator=seeded())
    torch.testing.assert_close(log_p, torch.tensor(peer.score_samples(rows)), rtol=1e-8, atol=1e-8)


def test_training_a_linear_vae_finds_the_principal_subspace():
    """Lucas et al. 2019: a linear VAE's ELBO has its maximum where probabilistic PCA's likelihood has."""
    world = LinearGaussian()
    rows = _draw(world, 500)
    model = LinearGaussian(seed=7).vae(shift=1.0, stretch=1.0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    x, generator = rows.view(-1, 1, 2, 2), seeded()
    for _ in range(250):
        optimiser.zero_grad()
        model.loss((x, torch.zeros(len(x))), generator=generator).total.backward()
        optimiser.step()
    cov = torch.cov(rows.T)
    best = MultivariateNormal(rows.mean(0), _ppca_cov(cov, 2)).log_prob(rows).mean()
    learned = model.iwae_bound(x, 20, generator=generator).mean()
    assert best - 0.05 < learned < best + 0.02


def _draw(world: LinearGaussian, n: int) -> Tensor:
    z = torch.randn(n, world.weight.shape[1], generator=seeded(2), dtype=torch.float64)
    noise = torch.randn(n, len(world.bias), generator=seeded(3), dtype=torch.float64)
    return z @ world.weight.T + world.bias + world.std * noise


def _ppca_cov(cov: Tensor, latent_dim: int) -> Tensor:
    """The maximum-likelihood covariance of probabilistic PCA: keep the largest eigenvalues, level the rest."""
    values, vectors = torch.linalg.eigh(cov)  # rising
    values[:-latent_dim] = values[:-latent_dim].mean()
    return (vectors * values) @ vectors.T


# ---- a Bernoulli model with one latent, where log p(x) is a one-dimensional integral ---------------------------------


def quadrature_log_p(model: VAE, x: Tensor, points: int = 120) -> Tensor:
    """log ∫ N(z; 0, 1) p(x∣z) dz by Gauss-Hermite quadrature, (n,)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    z = torch.tensor(nodes)[:, None]  # (points, 1)
    log_weights = torch.tensor(weights).log() - 0.5 * math.log(2 * math.pi)
    rows = [model.log_likelihood(image.expand(points, -1, -1, -1), z) for image in x]
    return (torch.stack(rows) + log_weights).logsumexp(1)


def test_iwae_converges_to_quadrature():
    model, x = tiny(latent_dim=1), images(3).round()
    exact = quadrature_log_p(model, x)
    with torch.no_grad():
        bound = model.iwae_bound(x, 40_000, generator=seeded(), chunk=4_000)
        elbo = model.elbo(x.repeat(5_000, 1, 1, 1), generator=seeded()).elbo.view(5_000, 3).mean(0)
    torch.testing.assert_close(bound, exact, atol=0.02, rtol=0)
    assert (elbo < exact).all()


def test_reparameterised_and_score_function_gradients_agree_but_not_in_variance():
    """∇_μ E_q[log p(x∣z)] both ways (Kingma & Welling 2014, section 2.3) against its exact value by quadrature."""
    model, x, num = tiny(latent_dim=1), images(1).round(), 40_000
    mean = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    log_var = torch.tensor([[-0.5]], dtype=torch.float64)
    q = DiagonalGaussian(mean, log_var)
    many = x.expand(num, -1, -1, -1)

    nodes, weights = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(80))
    z = mean + q.std * nodes[:, None]
    expected = (weights * model.log_likelihood(x.expand(80, -1, -1, -1), z)).sum() / math.sqrt(2 * math.pi)
    exact = torch.autograd.grad(expected, mean)[0].item()

    z = q.sample(seeded(), num)[:, 0].detach().requires_grad_()  # (num, 1)
    value = model.log_likelihood(many, z)
    pathwise = torch.autograd.grad(value.sum(), z)[0][:, 0]  # dz/dμ = 1
    score = (value * (z - mean)[:, 0] / log_var.exp()[0, 0]).detach()  # f(z) ∇_μ log q(z)
    for draws in (pathwise, score):
        assert abs(draws.mean().item() - exact) < 5 * draws.std().item() / math.sqrt(num)
    assert score.var() > 10 * pathwise.var()


# ---- likelihoods -----------------------------------------------------------------------------------------------------


@few
@given(st.tuples(finite, finite), st.integers(0, 5))
def test_the_bernoulli_likelihood_sums_to_one(z, seed):
    model = tiny(seed)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=PIXELS)), dtype=torch.float64).view(-1, 1, 2, 2)
    code = torch.tensor(z, dtype=torch.float64).expand(16, 2)
    log_p = model.log_likelihood(every, code)
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    peer = Independent(Bernoulli(logits=model.decode_logits(code)), 3, validate_args=False)
    torch.testing.assert_close(log_p, peer.log_prob(every))


def test_the_gaussian_likelihood_integrates_to_one():
    model = tiny(image_size=1, likelihood="gaussian")
    grid = torch.linspace(-40, 40, 20_001, dtype=torch.float64)
    z = torch.tensor([[0.5, -1.0]], dtype=torch.float64).expand(len(grid), 2)
    density = model.log_likelihood(grid.view(-1, 1, 1, 1), z).exp()
    torch.testing.assert_close(torch.trapezoid(density, grid), torch.tensor(1.0, dtype=torch.float64))
    x = images(3, size=2)
    model = tiny(likelihood="gaussian")
    codes = torch.randn(3, 2, generator=seeded(), dtype=torch.float64)
    peer = Independent(Normal(model.decode(codes), model.log_std.exp()), 3)
    torch.testing.assert_close(model.log_likelihood(x, codes), peer.log_prob(x))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_bound_integrates_over_all_images_to_at_most_one(likelihood):
    """exp(log p) is a distribution over images, so the bounds of all of them cannot add up to more."""
    model = tiny(likelihood=likelihood, latent_dim=1)
    if likelihood == "bernoulli":
        every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=PIXELS)), dtype=torch.float64).view(-1, 1, 2, 2)
        assert abs(quadrature_log_p(model, every).exp().sum().item() - 1) < 1e-6
        bound = model.log_prob(every, num_samples=4_000, generator=seeded()).exp().sum().item()
        assert 0.9 < bound < 1.05
    else:
        draws = model.sample(4, generator=seeded())
        assert torch.isfinite(model.log_prob(draws, num_samples=10, generator=seeded())).all()


# ---- the bound, the loss and its two knobs ---------------------------------------------------------------------------


def test_the_elbo_is_its_two_forces():
    model, x = tiny(), images(6)
    bound = model.elbo(x, generator=seeded())
    torch.testing.assert_close(bound.elbo, bound.log_likelihood - bound.kl)
    torch.testing.assert_close(bound.kl_per_latent.sum(1), bound.kl)
    torch.testing.assert_close(bound.kl, model.encode(x).kl())
    z = model.encode(x).sample(seeded())
    torch.testing.assert_close(bound.log_likelihood, model.log_likelihood(x, z))
    assert bound.elbo.shape == bound.kl.shape == (6,)
    assert bound.kl_per_latent.shape == (6, 2)


def test_with_beta_one_the_loss_is_the_negative_elbo():
    model, x = tiny(), images(6)
    loss = model.loss((x, torch.zeros(6, dtype=torch.long)), generator=seeded())
    torch.testing.assert_close(loss.total, -model.elbo(x, generator=seeded()).elbo.mean())
    torch.testing.assert_close(loss.terms["negative_elbo"], loss.total.detach())
    torch.testing.assert_close(loss.terms["distortion"] + loss.terms["rate"], loss.terms["negative_elbo"])
    assert not any(term.requires_grad for term in loss.terms.values())


@few
@given(st.floats(0, 20))
def test_beta_weighs_the_rate_and_nothing_else(beta):
    model, batch = tiny(beta=beta), (images(4), torch.zeros(4, dtype=torch.long))
    loss = model.loss(batch, generator=seeded())
    torch.testing.assert_close(loss.total.detach(), loss.terms["distortion"] + beta * loss.terms["rate"])
    plain = tiny().loss(batch, generator=seeded())
    torch.testing.assert_close(loss.terms["negative_elbo"], plain.terms["negative_elbo"])


@few
@given(st.floats(0.001, 5))
def test_free_bits_cost_nothing_and_raise_no_force(free_bits):
    model, x = tiny(free_bits=free_bits), images(8)
    batch = (x, torch.zeros(8, dtype=torch.long))
    loss = model.loss(batch, generator=seeded())
    per_latent = model.encode(x).kl_per_latent().mean(0).detach()
    expected = loss.terms["distortion"] + per_latent.clamp(min=free_bits).sum()
    torch.testing.assert_close(loss.total.detach(), expected)
    # The KL of a latent under the floor must not push: what is left is the distortion's gradient and the others' KL.
    head = model.posterior_head.weight
    q = model.encode(x)
    distortion = -model.log_likelihood(x, q.sample(seeded())).mean()
    paying = (q.kl_per_latent().mean(0) * (per_latent > free_bits)).sum()
    got = torch.autograd.grad(loss.total, head)[0]
    torch.testing.assert_close(got, torch.autograd.grad(distortion + paying, head)[0])


def test_warmup_raises_the_weight_in_a_straight_line():
    model = tiny(beta=4.0)
    rule, seen = kl_warmup(model, num_steps=10), []
    for step in (0, 5, 10, 1000):
        rule(step)
        seen.append(model.kl_weight)
    assert seen == [0.0, 2.0, 4.0, 4.0]
    with pytest.raises(ValueError, match="num_steps"):
        kl_warmup(model, 0)


# ---- randomness, memory, precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_change_memory_and_nothing_else(chunk):
    model, x = tiny(), images(5)
    whole = model.iwae_bound(x, 7, generator=seeded(), chunk=7)
    torch.testing.assert_close(model.iwae_bound(x, 7, generator=seeded(), chunk=chunk), whole, rtol=1e-12, atol=1e-12)
    parameters = list(model.parameters())
    first = torch.autograd.grad(whole.sum(), parameters)
    second = torch.autograd.grad(model.iwae_bound(x, 7, generator=seeded(), chunk=chunk).sum(), parameters)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_chunks_keep_labels_with_their_images():
    model, x, label = tiny(num_classes=3), images(4), torch.tensor([0, 1, 2, 0])
    whole = model.iwae_bound(x, 6, label, seeded(), chunk=6)
    torch.testing.assert_close(model.iwae_bound(x, 6, label, seeded(), chunk=2), whole)


def draws(model: VAE, x: Tensor, seed: int) -> list[Tensor]:
    batch = (x, torch.zeros(len(x), dtype=torch.long))
    return [
        model.elbo(x, generator=seeded(seed)).elbo,
        model.iwae_bound(x, 3, generator=seeded(seed)),
        model.loss(batch, generator=seeded(seed)).total,
        model.sample(3, generator=seeded(seed)),
        model.log_prob(x, num_samples=3, generator=seeded(seed)),
    ]


def test_a_generator_decides_everything_and_the_global_state_stays():
    model, x = tiny(), images(4)
    before = torch.get_rng_state()
    for first, again, other in zip(draws(model, x, 1), draws(model, x, 1), draws(model, x, 2), strict=True):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("network", ["conv", "mlp"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_every_output_keeps_the_dtype_and_the_shape(dtype, network, likelihood):
    config = VAEConfig(image_size=8, latent_dim=3, network=network, hidden=(5,), width=2, likelihood=likelihood)
    model, x = VAE(config).to(dtype), images(2, size=8).to(dtype)
    for result in draws(model, x, 0):
        assert result.dtype == dtype
    assert model.sample(5, generator=seeded()).shape == (5, 1, 8, 8)
    assert model.reconstruct(x).shape == x.shape
    assert model.log_likelihood(x, torch.zeros(2, 3, dtype=dtype)).shape == (2,)
    assert model.encode(x).mean.shape == (2, 3)


def test_single_and_double_precision_agree():
    double, x = tiny(), images(4)
    single = VAE(double.config)
    single.load_state_dict(double.state_dict())
    z, close = torch.randn(4, 2, generator=seeded(), dtype=torch.float64), {"rtol": 1e-5, "atol": 1e-5}
    got = single.log_likelihood(x.float(), z.float()).double()
    torch.testing.assert_close(got, double.log_likelihood(x, z), **close)
    torch.testing.assert_close(single.encode(x.float()).kl().double(), double.encode(x).kl(), **close)


def test_extreme_logits_stay_finite():
    model = tiny()
    with torch.no_grad():
        model.decoder[0][-1].bias.fill_(500.0)  # a decoder that is sure of ink everywhere
    log_p = model.log_likelihood(torch.zeros(1, 1, 2, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
    assert torch.isfinite(log_p).all()
    assert log_p < -1900


# ---- sampling, conditioning ------------------------------------------------------------------------------------------


def test_temperature_zero_draws_the_middle_of_the_prior():
    model = tiny()
    middle = model.decode(torch.zeros(1, 2, dtype=torch.float64))
    torch.testing.assert_close(model.sample(4, temperature=0.0, generator=seeded()), middle.expand(4, -1, -1, -1))


def test_pixel_means_are_probabilities():
    pixels = tiny().sample(50, temperature=3.0, generator=seeded())
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_reconstruction_decodes_the_posterior_mean():
    model, x = tiny(), images(3)
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x).mean).detach())
    assert not model.reconstruct(x).requires_grad
    assert not model.log_prob(x, num_samples=2, generator=seeded()).requires_grad


def test_a_class_steers_encoder_and_decoder():
    model, x = tiny(num_classes=3), images(2)
    zeros, ones = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    assert not torch.allclose(model.encode(x, zeros).mean, model.encode(x, ones).mean)
    assert not torch.allclose(model.sample(2, zeros, generator=seeded()), model.sample(2, ones, generator=seeded()))
    mixed = model.elbo(x, torch.tensor([0, 1]), seeded()).kl
    torch.testing.assert_close(mixed[0], model.elbo(x, zeros, seeded()).kl[0])
    torch.testing.assert_close(mixed[1], model.elbo(x, ones, seeded()).kl[1])


def test_an_unconditional_model_ignores_labels():
    model, x = tiny(), images(2)
    label = torch.tensor([0, 1])
    torch.testing.assert_close(model.elbo(x, label, seeded()).elbo, model.elbo(x, generator=seeded()).elbo)


@few
@given(st.permutations(range(5)), st.integers(1, 5))
def test_images_of_a_batch_do_not_see_each_other(order, count):
    model, x = tiny(), images(5)
    index = torch.tensor(order[:count])
    q, part = model.encode(x), model.encode(x[index])
    torch.testing.assert_close(part.mean, q.mean[index])
    z = q.mean.detach()
    torch.testing.assert_close(model.log_likelihood(x[index], z[index]), model.log_likelihood(x, z)[index])


def test_it_learns():
    """A few steps on four binary images: the bound rises above that of independent pixels."""
    x = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0]], dtype=torch.float64).view(4, 1, 2, 2)
    model, generator = tiny(hidden=(16,)), seeded()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        model.loss((x, torch.zeros(4)), generator=generator).total.backward()
        optimiser.step()
    log_p = model.log_prob(x, num_samples=2_000, generator=generator).mean().item()
    assert 4 * math.log(0.5) < log_p < math.log(0.25) + 1e-9  # four equally likely images: no model does better


# ---- wrong input ends in one clear sentence --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"network": "transformer"}, "network must be one of conv, mlp"),
        ({"activation": "relu"}, "activation must be one of"),
        ({"likelihood": "poisson"}, "likelihood must be one of"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"hidden": ()}, "hidden"),
        ({"hidden": (4, 0)}, "hidden"),
        ({"beta": -1.0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"free_bits": -0.1}, "free_bits"),
        ({"num_classes": -1}, "num_classes"),
        ({"network": "conv", "hidden": (4, 4)}, "one hidden layer"),
        ({"network": "conv", "image_size": 28}, "image_size must be 8, 16, 32"),
        ({"image_size": 0}, "image_size"),
    ],
)
def test_a_bad_configuration_is_refused(changes, says):
    with pytest.raises(ValueError, match=says) as failure:
        tiny(**changes)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, x: m.encode(x[0]), r"shape \(n, 1, 2, 2\).*x\[None\]"),
        (lambda m, x: m.encode(images(2, size=3)), r"images must have shape \(n, 1, 2, 2\), got \(2, 1, 3, 3\)"),
        (lambda m, x: m.encode((255 * x).byte()), "floating point"),
        (lambda m, x: m.elbo(255 * x), r"\[0, 1\]"),
        (lambda m, x: m.loss((x - 0.5, None)), r"\[0, 1\]"),
        (lambda m, x: m.decode(torch.zeros(2, 5, dtype=torch.float64)), r"z must have shape \(n, 2\), got \(2, 5\)"),
        (lambda m, x: m.decode(torch.zeros(2, dtype=torch.float64)), r"z must have shape"),
        (lambda m, x: m.log_likelihood(x, torch.zeros(1, 2, dtype=torch.float64)), "one code for each image"),
        (lambda m, x: m.log_likelihood(x[:1], torch.zeros(3, 2, dtype=torch.float64)), "one code for each image"),
        (lambda m, x: m.iwae_bound(x, 0), "num_samples"),
        (lambda m, x: m.iwae_bound(x, 5, chunk=0), "chunk"),
        (lambda m, x: m.log_prob(x, num_samples=-1), "num_samples"),
        (lambda m, x: m.sample(0), "n must be at least 1"),
        (lambda m, x: m.sample(2, temperature=-1.0), "temperature"),
    ],
)
def test_bad_input_is_refused(call, says):
    likelihoods = ["bernoulli"] if says == r"\[0, 1\]" else ["bernoulli", "gaussian"]  # a Gaussian takes any real image
    for likelihood in likelihoods:
        with pytest.raises(ValueError, match=says) as failure:
            call(tiny(likelihood=likelihood), images(2))
        assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (None, "class-conditional"),
        (torch.tensor([0]), r"label must have shape \(2,\)"),
        (torch.tensor([0, 3]), r"integers in 0\.\.2"),
        (torch.tensor([0, -1]), r"integers in 0\.\.2"),
        (torch.tensor([0.0, 1.0]), "integers"),
    ],
)
def test_bad_labels_are_refused(label, says):
    model, x = tiny(num_classes=3), images(2)
    for call in (lambda: model.elbo(x, label), lambda: model.sample(2, label), lambda: model.iwae_bound(x, 2, label)):
        with pytest.raises(ValueError, match=says):
            call()


def test_a_configuration_can_come_back_from_json():
    config = VAEConfig(network="mlp", hidden=[8, 4])  # JSON has lists, not tuples
    assert config == VAEConfig(network="mlp", hidden=(8, 4))
    assert hash(replace(config, beta=2.0))
