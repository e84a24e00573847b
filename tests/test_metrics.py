"""Metrics against closed forms, brute force and code no one here wrote (SciPy, scikit-learn, torchmetrics)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentext import data, metrics, zoo


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def correlated(n, d, seed):
    """Features with unequal, correlated coordinates."""
    return normal(n, d, seed=seed) @ normal(d, d, seed=seed + 1) + normal(d, seed=seed + 2)


# ---- pictures ----------------------------------------------------------------------------------------------------


def test_psnr_is_its_closed_form():
    x = torch.full((3, 1, 4, 4), 0.5)
    error = torch.tensor([0.1, 0.01, 0.5])
    expected = -20 * error.log10()  # mean squared error is error²
    torch.testing.assert_close(metrics.psnr(x, x + error[:, None, None, None]), expected, atol=1e-4, rtol=0)


def test_psnr_agrees_with_torchmetrics_image_by_image():
    peer = pytest.importorskip("torchmetrics.functional.image")
    x, x_hat = normal(5, 1, 8, 8).sigmoid(), normal(5, 1, 8, 8, seed=1).sigmoid()
    expected = torch.stack([peer.peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in zip(x, x_hat, strict=True)])
    torch.testing.assert_close(
        metrics.psnr(x, x_hat), expected, atol=2e-6, rtol=0, check_dtype=False
    )  # theirs: float32 inside


def test_psnr_of_equal_images_is_infinite():
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert metrics.psnr(x, x).isinf().all()


def test_sharpness_of_a_chessboard_by_hand_and_of_a_plane():
    chess = (torch.arange(6)[:, None] + torch.arange(6)) % 2
    images = torch.stack([chess.float(), torch.full((6, 6), 0.3), torch.arange(6.0).expand(6, 6) / 5])[:, None]
    # Every inner pixel of the chessboard answers ±4, half of them each: variance 16. A plane and a ramp answer 0.
    torch.testing.assert_close(metrics.sharpness(images), torch.tensor([16.0, 0.0, 0.0]), atol=1e-6, rtol=0)


def test_sharpness_agrees_with_scipy_and_falls_with_blur():
    ndimage = pytest.importorskip("scipy.ndimage")
    images = normal(3, 1, 12, 12).sigmoid()
    expected = [ndimage.laplace(image.numpy())[1:-1, 1:-1].var() for image in images[:, 0]]
    np.testing.assert_allclose(metrics.sharpness(images), expected, rtol=1e-10)
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    assert (metrics.sharpness(blurred) < metrics.sharpness(images)).all()


# ---- Fréchet distance --------------------------------------------------------------------------------------------


def scipy_frechet(a, b):
    linalg = pytest.importorskip("scipy.linalg")
    a, b = a.numpy(), b.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(cov_a @ cov_b).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)


@pytest.mark.parametrize("width", [2, 16, 64])
def test_frechet_distance_agrees_with_scipys_matrix_root(width):
    a, b = correlated(300, width, 0), correlated(200, width, 7)
    assert metrics.frechet_distance(a, b) == pytest.approx(scipy_frechet(a, b), rel=1e-8)


def test_frechet_distance_agrees_with_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")

    class AsTheyAre(torch.nn.Module):
        """A feature network for which the features are the input."""

        num_features = 16

        def forward(self, x):
            return x

    a, b = correlated(300, 16, 0), correlated(200, 16, 7)
    peer = fid.FrechetInceptionDistance(feature=AsTheyAre())
    peer.update(a, real=True)
    peer.update(b, real=False)
    assert metrics.frechet_distance(a, b) == pytest.approx(peer.compute().item(), rel=1e-8)


def test_frechet_distance_of_diagonal_gaussians_in_closed_form():
    mean, std_a, std_b = normal(5), normal(5, seed=1).exp(), normal(5, seed=2).exp()
    expected = mean.square().sum() + (std_a - std_b).square().sum()
    measured = metrics.gaussian_frechet_distance(mean, std_a.square().diag(), torch.zeros(5), std_b.square().diag())
    assert measured == pytest.approx(expected.item(), rel=1e-12)


def test_the_limit_of_many_examples_takes_the_noise_of_few_away():
    """Of one distribution the distance of 400 points is far from 0, its limit is not; a true distance stays."""
    coin = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 400, 40, generator=coin, dtype=torch.float64)
    few = metrics.frechet_distance(a, b)
    assert few > 2
    assert abs(metrics.frechet_limit(a, b, generator=coin)) < 0.2 * few
    wider = 1.5 * b + 0.5
    wanted = 40 * (0.5**2 + 0.5**2)  # (σ − σ')² and (μ − μ')² of each coordinate
    assert metrics.frechet_limit(a, wider, generator=coin) == pytest.approx(wanted, rel=0.05)
    assert metrics.frechet_distance(a, wider) > 1.05 * wanted
    with pytest.raises(ValueError, match="n at least 16"):
        metrics.frechet_limit(a[:15], b)


def test_frechet_distance_with_fewer_points_than_coordinates():
    a = normal(10, 40)  # covariances of rank 9
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert metrics.frechet_distance(a, a + 2) == pytest.approx(4 * 40, rel=1e-7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 6), shift=st.floats(-3, 3))
def test_frechet_distance_is_symmetric_and_not_negative(seed, width, shift):
    a, b = correlated(20, width, seed), correlated(25, width, seed + 3) + shift
    there, back = metrics.frechet_distance(a, b), metrics.frechet_distance(b, a)
    assert there >= 0
    assert there == pytest.approx(back, rel=1e-7, abs=1e-7)


# ---- precision and recall, neighbours ----------------------------------------------------------------------------


def brute_force_coverage(points, centres, k):
    """Share of points in a ball of the centres, as the definition reads, one distance at a time."""
    points, centres = points.numpy(), centres.numpy()
    radii = []
    for i, centre in enumerate(centres):
        distances = sorted(np.sqrt(((centre - other) ** 2).sum()) for j, other in enumerate(centres) if j != i)
        radii.append(distances[k - 1])
    inside = [
        any(np.sqrt(((p - centre) ** 2).sum()) <= radius for centre, radius in zip(centres, radii, strict=True))
        for p in points
    ]
    return np.mean(inside)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("width", [2, 10])
def test_precision_and_recall_agree_with_brute_force(width, k):
    real, fake = normal(40, width), 0.6 * normal(30, width, seed=1) + 0.4
    expected = (brute_force_coverage(fake, real, k), brute_force_coverage(real, fake, k))
    measured = metrics.precision_recall(real, fake, k=k)
    assert (measured.precision, measured.recall) == pytest.approx(expected)
    assert 0 < measured.precision  # a case that tells something
    assert 0 < measured.recall < 1


def test_precision_and_recall_in_blocks(monkeypatch):
    real, fake = normal(40, 3), normal(30, 3, seed=1)
    whole = metrics.precision_recall(real, fake)
    monkeypatch.setattr("gentext.metrics.samples._BLOCK", 100)
    assert metrics.precision_recall(real, fake) == whole


def test_precision_and_recall_of_telling_cases():
    real = normal(50, 4)
    assert metrics.precision_recall(real, real.clone()) == (1.0, 1.0)
    assert metrics.precision_recall(real, real + 100) == (0.0, 0.0)
    collapsed = real[:1] + 1e-6 * normal(50, 4, seed=1)  # one real sign over and over
    precision, recall = metrics.precision_recall(real, collapsed)
    assert precision == 1.0
    assert recall < 0.1


def test_precision_does_not_suffer_far_from_the_origin():
    real, fake = normal(40, 3), 0.7 * normal(30, 3, seed=1)
    assert metrics.precision_recall(real + 1e6, fake + 1e6) == metrics.precision_recall(real, fake)


def test_nearest_neighbours_agree_with_cdist():
    a, b = normal(7, 1, 4, 4, dtype=torch.float32), normal(9, 1, 4, 4, seed=1, dtype=torch.float32)
    distances, indices = metrics.nearest_neighbours(a, b, k=3)
    expected = torch.cdist(a.flatten(1), b.flatten(1)).sort(1)
    assert indices.equal(expected.indices[:, :3])
    torch.testing.assert_close(distances, expected.values[:, :3])


def test_a_row_is_its_own_neighbour_at_distance_zero():
    a = normal(6, 5, dtype=torch.float32)
    distances, indices = metrics.nearest_neighbours(a, a)
    assert indices[:, 0].tolist() == list(range(6))
    assert distances.eq(0).all()


# ---- codes -------------------------------------------------------------------------------------------------------


def blobs(n, classes, d, seed):
    labels = torch.arange(n) % classes
    return normal(classes, d, seed=99)[labels] + normal(n, d, seed=seed), labels


@pytest.mark.parametrize("inverse_penalty", [0.01, 1.0, 100.0])
def test_linear_probe_agrees_with_scikit_learn(inverse_penalty):
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    pipeline = pytest.importorskip("sklearn.pipeline")
    (codes, labels), (test_codes, test_labels) = blobs(200, 5, 6, 0), blobs(300, 5, 6, 1)
    codes, test_codes = codes * torch.logspace(-2, 2, 6), test_codes * torch.logspace(-2, 2, 6)
    peer = pipeline.make_pipeline(
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(C=inverse_penalty, tol=1e-8, max_iter=5000),
    ).fit(codes, labels)
    accuracy = metrics.linear_probe(codes, labels, test_codes, test_labels, inverse_penalty=inverse_penalty)
    assert accuracy == pytest.approx(peer.score(test_codes, test_labels), abs=1e-12)
    assert 0.3 < accuracy < 0.95  # neither chance nor certainty: a case that tells something


def test_linear_probe_with_gaps_among_labels_constant_codes_and_unseen_classes():
    codes = torch.tensor([[0.0, 5.0], [0.1, 5.0], [1.0, 5.0], [0.9, 5.0]])
    labels = torch.tensor([7, 7, 42, 42])
    test = torch.tensor([[0.0, 5.0], [1.0, 5.0], [1.0, 5.0]])
    with torch.no_grad():  # chapters evaluate under no_grad
        assert metrics.linear_probe(codes, labels, test, torch.tensor([7, 42, 3])) == pytest.approx(2 / 3)


def test_linear_probe_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    codes, labels = blobs(20, 2, 3, 0)
    metrics.linear_probe(codes, labels, codes, labels)
    assert torch.rand(1) == expected


def test_active_units_counts_latents_that_move_with_x():
    means = normal(500, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0])  # variances 1, 0.04, 0.0025, 0
    assert metrics.active_units(means) == 2
    assert metrics.active_units(means, threshold=0.5) == 1
    assert metrics.active_units(means + 10) == 2  # a constant offset carries nothing


# ---- features ----------------------------------------------------------------------------------------------------


@pytest.fixture
def classifier():
    return zoo.load("glyph-classifier")


def test_glyph_features_do_not_depend_on_the_batch(classifier):
    images = data.load("glyphs", "test").images[:20]
    features = metrics.glyph_features(images)
    assert features.shape == (20, 128)
    assert not features.requires_grad
    torch.testing.assert_close(metrics.glyph_features(images, batch_size=7), features, atol=1e-5, rtol=1e-4)


def test_glyph_features_find_damage(classifier):
    """Noise moves the features away from the signs', more noise moves them further."""
    images = data.load("glyphs", "test").images[:200]
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    real = metrics.glyph_features(images)
    near, far = (metrics.glyph_features(images.lerp(noise, share)) for share in (0.1, 0.5))
    assert metrics.frechet_distance(real, near) < metrics.frechet_distance(real, far)
    assert metrics.precision_recall(real, near).precision > metrics.precision_recall(real, far).precision


def test_glyph_features_through_any_classifier(monkeypatch):
    """What the function itself does, without the zoo's weights."""
    from gentext import nn
    from gentext.metrics import features

    torch.manual_seed(0)
    model = nn.GlyphClassifier(nn.ClassifierConfig(num_classes=3)).eval()
    monkeypatch.setattr(features.zoo, "load", lambda name, device: model.to(device))
    features._classifier.cache_clear()
    try:
        images = normal(5, 1, 32, 32, dtype=torch.float32).sigmoid()
        measured = metrics.glyph_features(images, batch_size=2)
        torch.testing.assert_close(measured, model.features(images).detach(), atol=1e-5, rtol=1e-4)
        monkeypatch.setattr(features.zoo, "load", lambda name, device: torch.nn.Linear(1, 1))
        features._classifier.cache_clear()
        with pytest.raises(ValueError, match="must be a GlyphClassifier, got Linear"):
            metrics.glyph_features(images)
    finally:
        features._classifier.cache_clear()


# ---- wrong input -------------------------------------------------------------------------------------------------

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
F = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1] * 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.psnr(X, X[:2]), "one shape"),
        (lambda: metrics.psnr(X[:0], X[:0]), "one shape"),
        (lambda: metrics.sharpness(X[0]), r"must have shape \(n, 1, H, W\)"),
        (lambda: metrics.sharpness(X[..., :2]), "at least 3"),
        (lambda: metrics.frechet_distance(F, F[:, :2]), "one width, got 3 and 2"),
        (lambda: metrics.frechet_distance(F[:1], F), "features_a must have shape .* at least 2"),
        (lambda: metrics.frechet_distance(F, X), r"features_b must have shape \(n, d\)"),
        (lambda: metrics.frechet_distance(F, F / 0), "features_b must be finite"),
        (lambda: metrics.gaussian_frechet_distance(F[0], F[:3], F[0], F[:2]), r"cov_b must have shape \(3, 3\)"),
        (lambda: metrics.precision_recall(F, F[:3]), "fake must have shape .* at least 4"),
        (lambda: metrics.precision_recall(F, F, k=0), "k must be at least 1"),
        (lambda: metrics.nearest_neighbours(F, F, k=9), r"k must lie in 1\.\.8"),
        (lambda: metrics.nearest_neighbours(F, F[:, :1]), "one width"),
        (lambda: metrics.linear_probe(F, Y[:3], F, Y), "codes must have shape .* one label a row"),
        (lambda: metrics.linear_probe(F, Y, F[:, :2], Y), r"test_codes must have shape \(n, 3\)"),
        (lambda: metrics.linear_probe(F, Y.float(), F, Y), "labels must be integers"),
        (lambda: metrics.linear_probe(F, Y * 0, F, Y), "at least two classes"),
        (lambda: metrics.linear_probe(F, Y, F, Y, inverse_penalty=0), "must be positive"),
        (lambda: metrics.active_units(F[0]), r"means must have shape \(n, latent_dim\)"),
        (lambda: metrics.glyph_features(X[0]), r"must have shape \(n, 1, 32, 32\)"),
        (lambda: metrics.glyph_features(X, batch_size=0), "batch_size must be at least 1"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
