"""Shared layers: shapes, refusals, and the diagonal Gaussian against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

import gentext
from gentext.nn import (
    ClassifierConfig,
    ConvDecoder,
    ConvEncoder,
    DiagonalGaussian,
    GlyphClassifier,
    check_codes,
    check_images,
    check_labels,
    mlp,
    standard_normal_log_prob,
)

numbers = st.floats(-3, 3, allow_nan=False)


def peer(gaussian: DiagonalGaussian) -> Independent:
    return Independent(Normal(gaussian.mean, gaussian.std), 1)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers, numbers), min_size=1, max_size=6))
def test_diagonal_gaussian_agrees_with_torch_distributions(rows: list[tuple[float, ...]]) -> None:
    values = torch.tensor(rows, dtype=torch.float64)
    first, second = DiagonalGaussian(values[:, :2], values[:, 2:4]), DiagonalGaussian(values[:, 1:3], values[:, 3:5])
    torch.testing.assert_close(first.log_prob(values[:, 3:5]), peer(first).log_prob(values[:, 3:5]))
    torch.testing.assert_close(first.kl(second), kl_divergence(peer(first), peer(second)))
    prior = DiagonalGaussian(torch.zeros_like(first.mean), torch.zeros_like(first.mean))
    torch.testing.assert_close(first.kl(), first.kl(prior))
    torch.testing.assert_close(first.kl_per_latent().sum(-1), first.kl())
    torch.testing.assert_close(standard_normal_log_prob(first.mean), prior.log_prob(first.mean))
    assert (first.kl(second) > -1e-9).all()


def test_samples_have_the_stated_moments_and_follow_the_generator() -> None:
    gaussian = DiagonalGaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, math.log(4.0)]]))
    draws = gaussian.sample(torch.Generator().manual_seed(0), num_samples=20_000)
    assert draws.shape == (20_000, 1, 2)
    torch.testing.assert_close(draws.mean(0), gaussian.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(draws.std(0), gaussian.std, atol=0.05, rtol=0)
    assert torch.equal(draws, gaussian.sample(torch.Generator().manual_seed(0), num_samples=20_000))


def test_gradients_reach_both_parameters() -> None:
    mean, log_var = torch.zeros(1, 3, requires_grad=True), torch.zeros(1, 3, requires_grad=True)
    DiagonalGaussian(mean, log_var).sample(torch.Generator().manual_seed(0)).square().sum().backward()
    assert mean.grad is not None
    assert log_var.grad is not None
    assert (mean.grad != 0).all()
    assert (log_var.grad != 0).all()


def test_a_gaussian_needs_one_shape() -> None:
    with pytest.raises(ValueError, match="one shape"):
        DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize("image_size", [8, 16, 32, 64])
def test_encoder_and_decoder_mirror_each_other(image_size: int) -> None:
    x = torch.rand(3, 2, image_size, image_size)
    code = ConvEncoder(2, image_size, 4, 5)(x)
    assert code.shape == (3, 5)
    assert ConvDecoder(5, 2, image_size, 4)(code).shape == x.shape


@pytest.mark.parametrize("image_size", [0, -8, 4, 28, 33])
def test_sides_that_cannot_be_halved_to_four_are_refused(image_size: int) -> None:
    with pytest.raises(ValueError, match="8, 16, 32"):
        ConvEncoder(1, image_size, 4, 5)


def test_widths_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConvDecoder(5, 1, 32, 0)


def test_mlp_is_the_chain_of_its_layers() -> None:
    network = mlp([3, 4, 2], torch.nn.Tanh)
    x = torch.rand(5, 3)
    torch.testing.assert_close(network(x), network[2](network[0](x).tanh()))
    with pytest.raises(ValueError, match="input and an output"):
        mlp([3])


def test_classifier_learns_a_trivial_task_and_its_head_reads_its_features() -> None:
    torch.manual_seed(0)
    model = GlyphClassifier(ClassifierConfig(num_classes=2, image_size=8, width=4, num_features=6, dropout=0.0))
    labels = torch.arange(2).repeat(16)
    images = labels.float()[:, None, None, None].expand(-1, 1, 8, 8).clone()  # blank or full
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = model.loss((images, labels))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.terms["accuracy"] == 1
    assert model.features(images).shape == (32, 6)
    torch.testing.assert_close(model(images), model.head(model.features(images)))


def test_classifier_refuses_one_class_and_wrong_images() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        GlyphClassifier(ClassifierConfig(num_classes=1))
    with pytest.raises(ValueError, match=r"\(n, 1, 32, 32\)"):
        GlyphClassifier(ClassifierConfig(num_classes=3))(torch.rand(2, 1, 28, 28))


def test_checks_say_what_would_be_right() -> None:
    with pytest.raises(ValueError, match=r"add the batch dimension with x\[None\]"):
        check_images(torch.rand(1, 8, 8), 1, 8)
    with pytest.raises(ValueError, match="divide by 255"):
        check_images(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), 1, 8)
    with pytest.raises(ValueError, match=r"h must have shape \(n, 4\)"):
        check_codes(torch.zeros(2, 3), 4, "h")
    assert check_labels(None, 3, 0) is None
    assert check_labels(torch.tensor([7]), 3, 0) is None  # an unconditional model does not look at labels
    with pytest.raises(ValueError, match="class-conditional"):
        check_labels(None, 3, 5)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        check_labels(torch.zeros(2, dtype=torch.long), 3, 5)
    with pytest.raises(ValueError, match=r"integers in 0\.\.4"):
        check_labels(torch.tensor([0, 1, 5]), 3, 5)


def test_device_is_picked_or_refused_in_one_sentence() -> None:
    assert gentext.device("cpu") == torch.device("cpu")
    assert gentext.device().type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="unknown device"):
        gentext.device("abacus")
    for name, available in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not available:
            with pytest.raises(ValueError, match="use 'cpu'"):
                gentext.device(name)
