"""Chapter 4's module: autoencoders, PCA, principal angles."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentext.autoencoder import (
    PCA,
    Autoencoder,
    AutoencoderConfig,
    linear_layers,
    orthonormal_basis,
    principal_angles,
    squared_error,
)
from gentext.data import DAMAGE_KINDS

SIDE = 8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(**options) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        AutoencoderConfig(**{"image_size": SIDE, "latent_dim": 3, "hidden": (10, 6), "width": 4} | options)
    )


def pictures(count: int = 12, seed: int = 0, channels: int = 1) -> torch.Tensor:
    return torch.rand(count, channels, SIDE, SIDE, generator=seeded(seed))


def spread_rows(count: int = 60, pixels: int = 12, seed: int = 0) -> torch.Tensor:
    """Rows whose variances fall clearly from direction to direction, around a mean that is not zero."""
    spread = torch.linspace(3, 0.3, pixels, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(pixels, pixels, dtype=torch.float64, generator=seeded(seed)))[0]
    return torch.randn(count, pixels, dtype=torch.float64, generator=seeded(seed + 1)) * spread @ rotation + 2.0


VARIANTS = [
    {"network": "linear"},
    {"network": "linear", "tied": True},
    {"network": "mlp"},
    {"network": "mlp", "tied": True, "nonnegative": True, "sparsity": 0.1},
    {"network": "conv"},
    {"network": "conv", "corruption": DAMAGE_KINDS},
    {"network": "mlp", "hidden": (), "channels": 2},
]


# --- the model ---


@pytest.mark.parametrize("options", VARIANTS)
def test_shapes_ranges_and_a_finite_loss_for_every_variant(options):
    model = build(**options)
    x = pictures(channels=model.config.channels)
    h = model.encode(x)
    x_hat = model.decode(h)
    assert h.shape == (12, 3)
    assert x_hat.shape == x.shape
    assert torch.equal(model(x), x_hat)
    if model.config.network != "linear":
        assert 0 < x_hat.min()
        assert x_hat.max() < 1
    if model.config.nonnegative:
        assert h.min() >= 0
    loss = model.loss((x, torch.zeros(12)), generator=seeded())
    assert loss.total.isfinite()
    torch.testing.assert_close(loss.total, sum(loss.terms.values()))
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_loss_is_squared_error_summed_over_pixels_and_averaged_over_images():
    model, x = build(network="conv"), pictures()
    by_hand = torch.stack([((image - model(image[None])[0]) ** 2).sum() for image in x]).mean()
    torch.testing.assert_close(model.loss((x,)).total, by_hand)
    assert set(model.loss((x,)).terms) == {"squared_error"}


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_squared_error_is_a_distance_squared(seed, rows):
    a, b = pictures(rows, seed), pictures(rows, seed + 1)
    error = squared_error(a, b)
    assert error.shape == (rows,)
    assert (error >= 0).all()
    torch.testing.assert_close(error, squared_error(b, a))
    assert torch.equal(squared_error(a, a), torch.zeros(rows))


@pytest.mark.parametrize("options", [{"network": "conv"}, {"network": "mlp"}, {"network": "mlp", "tied": True}])
def test_a_decoder_starts_pale(options):
    drawn = build(**options).decode(torch.zeros(1, 3))
    assert 0.1 < drawn.mean() < 0.25


def test_images_are_encoded_one_by_one_whatever_the_batch():
    for options in VARIANTS[:5]:
        model, x = build(**options), pictures()
        torch.testing.assert_close(model(x)[4:5], model(x[4:5]))


def test_a_linear_autoencoder_is_an_affine_map():
    model, x = build(network="linear").double(), pictures().double()
    (encode, decode) = linear_layers(model)
    by_hand = (x.flatten(1) @ encode.weight.T + encode.bias) @ decode.weight.T + decode.bias
    torch.testing.assert_close(model(x).flatten(1), by_hand)
    assert torch.equal(model.code_directions(), decode.weight)
    mixture = 0.3 * x[:1] + 0.7 * x[1:2]
    torch.testing.assert_close(model(mixture), 0.3 * model(x[:1]) + 0.7 * model(x[1:2]))


def test_training_reduces_the_loss_of_every_variant():
    x = (pictures(16) > 0.6).float()
    for options in VARIANTS[:6]:
        model = build(**options)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        first = model.loss((x,), generator=seeded()).total.item()
        for step in range(60):
            optimiser.zero_grad()
            model.loss((x,), generator=seeded(step)).total.backward()
            optimiser.step()
        assert model.loss((x,), generator=seeded()).total.item() < 0.9 * first, options


def test_double_precision_and_copies_work():
    for options in VARIANTS[:5]:
        model = build(**options)
        twin = copy.deepcopy(model)
        x = pictures()
        torch.testing.assert_close(twin(x), model(x))
        assert model.double()(x.double()).dtype == torch.float64
        for parameter in twin.parameters():  # the copy's tied decoder follows the copy, not the original
            nn.init.zeros_(parameter)
        assert not torch.allclose(twin(x).double(), model(x.double()))


# --- tied weights ---


def test_a_tied_decoder_uses_the_encoders_matrices_transposed():
    model, x = build(network="mlp", tied=True), pictures()
    first, second, third = linear_layers(model.encoder)
    h = model.encode(x)
    out = nn.functional.silu(h @ third.weight + model.decoder.biases[0])
    out = nn.functional.silu(out @ second.weight + model.decoder.biases[1])
    out = torch.sigmoid(out @ first.weight + model.decoder.biases[2])
    torch.testing.assert_close(model.decode(h), out.view_as(x))
    assert torch.equal(model.code_directions(), third.weight.T)


def test_tying_saves_the_decoders_matrices_and_registers_nothing_twice():
    free, tied = build(network="mlp"), build(network="mlp", tied=True)
    matrices = sum(layer.weight.numel() for layer in linear_layers(tied.encoder))
    assert count(free) - count(tied) == matrices
    assert set(tied.state_dict()) == {name for name, _ in tied.named_parameters()}
    restored = build(network="mlp", tied=True)
    restored.load_state_dict(tied.state_dict())
    assert torch.equal(restored(pictures()), tied(pictures()))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_gradient_of_a_tied_matrix_is_the_sum_of_its_two_uses():
    tied = build(network="linear", tied=True).double()
    x = pictures().double()
    (layer,) = linear_layers(tied.encoder)
    tied.loss((x,)).total.backward()

    free = build(network="linear").double()
    encode, decode = linear_layers(free)
    with torch.no_grad():
        encode.weight.copy_(layer.weight)
        encode.bias.copy_(layer.bias)
        decode.weight.copy_(layer.weight.T)
        decode.bias.copy_(tied.decoder.biases[0])
    free.loss((x,)).total.backward()
    torch.testing.assert_close(layer.weight.grad, encode.weight.grad + decode.weight.grad.T)
    torch.testing.assert_close(layer.bias.grad, encode.bias.grad)


def test_gradients_agree_with_finite_differences():
    model = build(network="mlp", tied=True, hidden=(5,), sparsity=0.2).double()
    x = pictures(4).double()
    names, parameters = zip(*model.named_parameters(), strict=True)

    def total(*values):
        replaced = dict(zip(names, values, strict=True))
        h = nn.functional.silu(x.flatten(1) @ replaced["encoder.0.weight"].T + replaced["encoder.0.bias"])
        h = h @ replaced["encoder.2.weight"].T + replaced["encoder.2.bias"]
        lengths = replaced["encoder.2.weight"].norm(dim=1)
        out = nn.functional.silu(h @ replaced["encoder.2.weight"] + replaced["decoder.biases.0"])
        out = torch.sigmoid(out @ replaced["encoder.0.weight"] + replaced["decoder.biases.1"])
        error = (x.flatten(1) - out).square().sum(1).mean()
        return error + 0.2 * (h.abs() * lengths).sum(1).mean()

    loss = model.loss((x,)).total
    torch.testing.assert_close(loss, total(*parameters))
    for ours, reference in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(total(*parameters), parameters), strict=True
    ):
        torch.testing.assert_close(ours, reference)
    assert torch.autograd.gradcheck(total, parameters)


# --- sparse ---


def test_the_sparsity_penalty_cannot_be_evaded_by_rescaling():
    model = build(network="linear", sparsity=1.0).double()
    h = torch.randn(5, 3, generator=seeded(), dtype=torch.float64)
    before, picture = model.sparsity_penalty(h), model.decode(h)
    with torch.no_grad():
        linear_layers(model.decoder)[0].weight.mul_(10)
    torch.testing.assert_close(model.decode(h / 10), picture)
    torch.testing.assert_close(model.sparsity_penalty(h / 10), before)


def test_the_sparsity_penalty_by_hand():
    model = build(network="linear", sparsity=0.5)
    with torch.no_grad():
        linear_layers(model.decoder)[0].weight.copy_(torch.zeros(SIDE * SIDE, 3))
        linear_layers(model.decoder)[0].weight[0] = torch.tensor([1.0, 2.0, 3.0])
    h = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 2.0]])
    assert model.sparsity_penalty(h).item() == pytest.approx(((1 + 2) + 6) / 2)
    loss = model.loss((pictures(),))
    expected = 0.5 * model.sparsity_penalty(model.encode(pictures()))
    torch.testing.assert_close(loss.terms["sparsity"], expected)


def test_a_price_on_the_code_empties_it():
    x = (pictures(32) > 0.7).float()
    used = []
    for sparsity in (0.0, 2.0):
        model = build(network="linear", latent_dim=40, nonnegative=True, tied=True, sparsity=sparsity)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(200):
            optimiser.zero_grad()
            model.loss((x,)).total.backward()
            optimiser.step()
        used.append((model.encode(x) > 1e-3).float().mean().item())
    assert used[1] < 0.5 * used[0]


# --- denoising ---


def test_a_denoising_autoencoder_damages_its_input_and_is_judged_by_the_whole_image():
    model, x = build(network="conv", corruption=DAMAGE_KINDS, corruption_strength=0.8), pictures()
    seen = model.corrupt(x, seeded(1))
    assert seen.shape == x.shape
    assert not torch.equal(seen, x)
    expected = squared_error(x, model(seen)).mean()
    torch.testing.assert_close(model.loss((x,), generator=seeded(1)).total, expected)
    assert torch.equal(x, pictures()), "the caller's images must stay whole"


def test_each_image_draws_its_own_kind_of_damage():
    model = build(network="conv", corruption=("noise", "missing"), corruption_strength=1.0)
    x = pictures(1).expand(16, -1, -1, -1)
    seen = model.corrupt(x, seeded())
    assert len({tuple(image.flatten().tolist()) for image in seen}) > 2


def test_the_generator_alone_decides_the_damage():
    model, x = build(network="conv", corruption=DAMAGE_KINDS), pictures()
    first = model.corrupt(x, seeded(3))
    torch.manual_seed(123)
    assert torch.equal(first, model.corrupt(x, seeded(3)))
    assert not torch.equal(first, model.corrupt(x, seeded(4)))
    loss = model.loss((x,), generator=seeded(3)).total
    assert torch.equal(loss, model.loss((x,), generator=seeded(3)).total)


def test_without_corruption_nothing_is_drawn():
    model, x, generator = build(), pictures(), seeded()
    state = generator.get_state()
    assert model.corrupt(x) is x
    model.loss((x,), generator=generator)
    assert torch.equal(state, generator.get_state())


def test_an_empty_batch_passes_through():
    model = build(network="conv", corruption=DAMAGE_KINDS)
    assert model.corrupt(pictures(0), seeded()).shape == (0, 1, SIDE, SIDE)
    assert model(pictures(0)).shape == (0, 1, SIDE, SIDE)


# --- configuration ---


@given(
    latent_dim=st.integers(1, 64),
    hidden=st.lists(st.integers(1, 64), max_size=3),
    tied=st.booleans(),
    kinds=st.sets(st.sampled_from(DAMAGE_KINDS)),
)
@settings(max_examples=30, deadline=None)
def test_a_configuration_survives_json(latent_dim, hidden, tied, kinds):
    config = AutoencoderConfig(
        network="mlp", latent_dim=latent_dim, hidden=tuple(hidden), tied=tied, corruption=tuple(sorted(kinds))
    )
    assert AutoencoderConfig(**json.loads(json.dumps(asdict(config)))) == config
    hash(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "transformer"}, "network must be"),
        ({"latent_dim": 0}, "latent_dim must be at least 1"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"hidden": (10, 0)}, "hidden layers"),
        ({"network": "conv", "tied": True}, 'not "conv"'),
        ({"network": "conv", "sparsity": 0.1}, 'not "conv"'),
        ({"network": "mlp", "sparsity": -1.0}, "sparsity must be"),
        ({"network": "mlp", "sparsity": math.nan}, "sparsity must be"),
        ({"corruption": ("rust",)}, "unknown corruption rust"),
        ({"corruption": ("noise",), "corruption_strength": 0.0}, "corruption_strength must lie"),
        ({"corruption": ("noise",), "corruption_strength": 1.5}, "corruption_strength must lie"),
        ({"network": "conv", "image_size": 28}, "image_size"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_string_is_no_tuple_of_kinds():
    with pytest.raises(ValueError, match="unknown corruption"):
        AutoencoderConfig(corruption="noise")  # type: ignore[arg-type]


@pytest.mark.parametrize("network", ["linear", "conv"])
def test_wrong_input_is_refused_in_one_sentence(network):
    model = build(network=network)
    with pytest.raises(ValueError, match=r"images must have shape \(n, 1, 8, 8\)"):
        model.encode(torch.rand(2, 1, 16, 16))
    with pytest.raises(ValueError, match="add the batch dimension"):
        model(torch.rand(1, SIDE, SIDE))
    with pytest.raises(ValueError, match="floating point"):
        model(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"h must have shape \(n, 3\)"):
        model.decode(torch.rand(2, 4))
    with pytest.raises(ValueError, match="images must have shape"):
        model.loss((torch.rand(2, 64),))
    with pytest.raises(ValueError, match="same shape"):
        squared_error(pictures(2), pictures(3))


def test_damage_without_a_generator_and_directions_of_a_convnet_are_refused():
    with pytest.raises(ValueError, match="pass generator"):
        build(network="conv", corruption=("noise",)).loss((pictures(),))
    with pytest.raises(ValueError, match="no such matrix"):
        build(network="conv").code_directions()


# --- PCA ---


@pytest.mark.parametrize("num_components", [1, 4, 12])
def test_pca_agrees_with_scikit_learn(num_components):
    peer = pytest.importorskip("sklearn.decomposition").PCA(num_components, svd_solver="full")
    rows, new_rows = spread_rows(), spread_rows(seed=5)
    ours = PCA.fit(rows, num_components)
    peer.fit(rows.numpy())
    np.testing.assert_allclose(ours.mean, peer.mean_, atol=1e-12)
    np.testing.assert_allclose(ours.variance, peer.explained_variance_, rtol=1e-10)
    theirs = torch.tensor(peer.components_)
    assert principal_angles(ours.components.T, theirs.T).max() < 1e-8
    signs = (ours.components * theirs).sum(dim=1).sign()
    np.testing.assert_allclose(ours.components, signs[:, None] * theirs, atol=1e-10)
    np.testing.assert_allclose(ours.encode(new_rows) * signs, peer.transform(new_rows.numpy()), atol=1e-10)
    rebuilt = peer.inverse_transform(peer.transform(new_rows.numpy()))
    np.testing.assert_allclose(ours.reconstruct(new_rows), rebuilt, atol=1e-10)


def test_pca_with_more_pixels_than_rows_agrees_with_scikit_learn():
    peer = pytest.importorskip("sklearn.decomposition").PCA(5, svd_solver="full")
    rows = spread_rows(count=9, pixels=30)
    rebuilt = peer.inverse_transform(peer.fit_transform(rows.numpy()))
    np.testing.assert_allclose(PCA.fit(rows, 5).reconstruct(rows), rebuilt, atol=1e-10)


@given(seed=st.integers(0, 10_000), num_components=st.integers(1, 8), pixels=st.integers(8, 14))
@settings(max_examples=25, deadline=None)
def test_pca_projects_and_leaves_the_smallest_variance_behind(seed, num_components, pixels):
    rows = spread_rows(20, pixels, seed)
    pca = PCA.fit(rows, num_components)
    identity = torch.eye(num_components, dtype=torch.float64)
    torch.testing.assert_close(pca.components @ pca.components.T, identity)
    once = pca.reconstruct(rows)
    torch.testing.assert_close(pca.reconstruct(once), once)  # a projection, done twice, is done once
    torch.testing.assert_close(pca.encode(pca.decode(pca.encode(rows))), pca.encode(rows))
    # Eckart and Young: the error is the sum of the variances left out, and no other projection does better.
    every = PCA.fit(rows, min(len(rows) - 1, pixels)).variance
    torch.testing.assert_close(squared_error(rows, once).sum() / (len(rows) - 1), every[num_components:].sum())
    other = orthonormal_basis(torch.randn(pixels, num_components, generator=seeded(seed)))
    centred = rows - pca.mean
    assert squared_error(centred, centred @ other @ other.T).sum() >= squared_error(rows, once).sum() - 1e-9


def test_pca_keeps_its_dtype_and_fixes_its_signs():
    rows = spread_rows()
    pca = PCA.fit(rows.float(), 3)
    assert pca.components.dtype == torch.float32
    largest = pca.components.gather(1, pca.components.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()
    flipped = PCA.fit(rows.flip(0), 3)
    torch.testing.assert_close(flipped.components, PCA.fit(rows, 3).components)


def test_pca_refuses_what_it_cannot_do():
    rows = spread_rows(6, 12)
    with pytest.raises(ValueError, match=r"num_components must lie in 1\.\.5"):
        PCA.fit(rows, 6)
    with pytest.raises(ValueError, match="num_components must lie"):
        PCA.fit(rows, 0)
    with pytest.raises(ValueError, match="flatten"):
        PCA.fit(pictures(), 2)
    with pytest.raises(ValueError, match="floating-point"):
        PCA.fit(torch.zeros(4, 4, dtype=torch.int64), 2)
    pca = PCA.fit(rows, 2)
    with pytest.raises(ValueError, match="rows must have shape"):
        pca.encode(torch.rand(3, 11))
    with pytest.raises(ValueError, match="h must have shape"):
        pca.decode(torch.rand(3, 3))


# --- principal angles ---


@given(seed=st.integers(0, 10_000), d=st.integers(3, 12), p=st.integers(1, 3), q=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_principal_angles_agree_with_scipy(seed, d, p, q):
    linalg = pytest.importorskip("scipy.linalg")
    generator = seeded(seed)
    a = torch.randn(d, p, generator=generator, dtype=torch.float64)
    b = torch.randn(d, q, generator=generator, dtype=torch.float64)
    angles = principal_angles(a, b)
    # Where p + q > d some angle is 0: SciPy finds it to the root of the rounding error, about 1e-8.
    np.testing.assert_allclose(angles, linalg.subspace_angles(a.numpy(), b.numpy()), atol=1e-7)
    assert angles.shape == (min(p, q),)
    assert (angles.diff() <= 1e-12).all()
    torch.testing.assert_close(angles, principal_angles(b, a), atol=1e-7, rtol=0)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_principal_angles_belong_to_the_subspace_not_to_its_basis(seed):
    generator = seeded(seed)
    a, b = (torch.randn(9, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    mix = torch.randn(3, 3, generator=generator, dtype=torch.float64) + 4 * torch.eye(3)
    torch.testing.assert_close(principal_angles(a @ mix, b), principal_angles(a, b), atol=1e-7, rtol=0)
    assert principal_angles(a, a @ mix).max() < 1e-7


@pytest.mark.parametrize("angle", [1e-12, 1e-6, 0.1, math.pi / 4, 1.5, math.pi / 2])
def test_a_known_angle_is_found_however_small(angle):
    a = torch.eye(4, dtype=torch.float64)[:, :2]
    b = a.clone()
    b[:, 1] = torch.tensor([0, math.cos(angle), math.sin(angle), 0], dtype=torch.float64)
    found = principal_angles(a, b)
    assert found[0].item() == pytest.approx(angle, rel=1e-9)
    assert found[1].item() == pytest.approx(0, abs=1e-12)


def test_principal_angles_refuse_what_spans_nothing():
    a = torch.eye(4)[:, :2]
    with pytest.raises(ValueError, match="as many rows"):
        principal_angles(a, torch.eye(5))
    with pytest.raises(ValueError, match="as many rows"):
        principal_angles(a, torch.ones(4))
    with pytest.raises(ValueError, match="columns of b must be linearly independent"):
        principal_angles(a, torch.ones(4, 2))
    with pytest.raises(ValueError, match="columns of a must be linearly independent"):
        principal_angles(torch.rand(2, 3, generator=seeded()), torch.eye(2))
    with pytest.raises(ValueError, match="entries of a must be finite"):
        principal_angles(a / 0, a)


# --- the theorem of the chapter ---


def fit_linear(rows: torch.Tensor, side: int, **options) -> Autoencoder:
    torch.manual_seed(1)
    config = AutoencoderConfig(network="linear", image_size=side, latent_dim=3, **options)
    model = Autoencoder(config).double()
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=800, history_size=50, line_search_fn="strong_wolfe", tolerance_change=1e-14
    )
    x = rows.view(-1, 1, side, side)

    def closure():
        optimiser.zero_grad()
        loss = model.loss((x,)).total
        loss.backward()
        return loss

    optimiser.step(closure)
    return model


@pytest.mark.parametrize("tied", [False, True])
def test_a_linear_autoencoder_learns_the_subspace_of_pca(tied):
    rows = spread_rows(80, 16)
    model, pca = fit_linear(rows, 4, tied=tied), PCA.fit(rows, 3)
    angles = torch.rad2deg(principal_angles(model.code_directions(), pca.components.T))
    assert angles.max() < 0.1
    torch.testing.assert_close(model(rows.view(-1, 1, 4, 4)).flatten(1), pca.reconstruct(rows), atol=1e-3, rtol=0)
    if tied:  # tying leaves only a rotation free: the encoder's rows come out orthonormal
        directions = model.code_directions().detach()
        torch.testing.assert_close(directions.T @ directions, torch.eye(3).double(), atol=1e-3, rtol=0)


def test_replacing_a_field_checks_again():
    with pytest.raises(ValueError, match="latent_dim"):
        replace(AutoencoderConfig(), latent_dim=0)
