"""`data.damage`: what holds for every kind, and what each kind does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentext import data
from gentext.data.damage import MAX_MISSING

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")),
    pytest.param("mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no Apple GPU here")),
]
kinds = st.sampled_from(data.DAMAGE_KINDS)
each_kind = pytest.mark.parametrize("kind", data.DAMAGE_KINDS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def signs():
    return data.load("glyphs", "test").images[::40]  # (11, 1, 32, 32)


def pictures(n, height, width, seed):
    return torch.rand(n, 1, height, width, generator=seeded(seed))


@settings(max_examples=60, deadline=None)
@given(kinds, st.floats(0, 1), st.integers(0, 3), st.integers(4, 40), st.integers(4, 40), st.integers(0, 2**31))
def test_every_damage_keeps_shape_type_and_range(kind, strength, n, height, width, seed):
    images = pictures(n, height, width, seed)
    before = images.clone()
    damaged = data.damage(images, kind, strength, seeded(seed))
    assert damaged.shape == images.shape
    assert damaged.dtype == images.dtype
    assert ((damaged >= 0) & (damaged <= 1)).all()
    assert torch.equal(images, before)  # the argument is left alone


@settings(max_examples=40, deadline=None)
@given(kinds, st.integers(4, 40), st.integers(4, 40), st.integers(0, 2**31))
def test_strength_zero_is_identity_to_the_last_bit(kind, height, width, seed):
    images = pictures(2, height, width, seed)
    for same in (images, images.double() / 3, images.half()):
        assert torch.equal(data.damage(same, kind, 0.0, seeded(seed)), same)


@settings(max_examples=30, deadline=None)
@given(kinds, st.floats(0, 1), st.integers(0, 2**31))
def test_the_generator_alone_decides_the_damage(kind, strength, seed):
    images = pictures(2, 16, 16, 0)
    torch.manual_seed(0)
    first = data.damage(images, kind, strength, seeded(seed))
    torch.manual_seed(1)
    assert torch.equal(first, data.damage(images, kind, strength, seeded(seed)))


@each_kind
def test_another_seed_is_another_damage_and_so_is_each_picture_of_a_batch(kind, signs):
    batch = signs[:1].expand(6, -1, -1, -1)
    first, second = data.damage(batch, kind, 0.6, seeded(1)), data.damage(batch, kind, 0.6, seeded(2))
    assert not torch.equal(first, second)
    assert len({row.numpy().tobytes() for row in first}) == 6


@each_kind
def test_more_strength_is_more_damage(kind, signs):
    error = [
        (data.damage(signs, kind, strength, seeded(4)) - signs).square().mean().item()
        for strength in (0.0, 0.1, 0.3, 0.6, 1.0)
    ]
    assert error == sorted(error)
    assert error[0] == 0
    assert error[1] > 0
    assert error[-1] > 0.02


@each_kind
def test_strength_for_each_picture(kind, signs):
    strength = torch.linspace(0, 1, len(signs))
    together = data.damage(signs, kind, strength, seeded(7))
    assert torch.equal(together[0], signs[0])
    assert torch.equal(together[-1:], data.damage(signs, kind, 1.0, seeded(7))[-1:])


@each_kind
@pytest.mark.parametrize("device", DEVICES)
def test_a_cpu_generator_gives_the_same_damage_on_every_device(kind, device, signs):
    there = data.damage(signs.to(device), kind, 0.7, seeded(5))
    assert there.device.type == device
    torch.testing.assert_close(there.cpu(), data.damage(signs, kind, 0.7, seeded(5)), atol=1e-3, rtol=0)


@each_kind
def test_damage_looks_alike_at_both_sizes(kind):
    """The share of ink that survives must not hang on the resolution (grain is finer at 64: twice the room)."""
    kept = []
    for size in (32, 64):
        signs = data.load("glyphs", "test", size=size).images[::3]
        kept.append((data.damage(signs, kind, 0.5, seeded(0)) * signs).sum() / signs.square().sum())
    assert abs(kept[0] - kept[1]) < 0.1


def test_erosion_and_loss_only_take_ink_away(signs):
    soft_edges = 0.35  # blurring puts a little ink beside a stroke
    eroded = data.damage(signs, "erosion", 0.8, seeded())
    assert (eroded - signs).max() < soft_edges
    assert eroded.sum() < 0.7 * signs.sum()
    assert (data.damage(signs, "missing", 0.8, seeded()) <= signs).all()


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
def test_the_missing_piece_is_as_large_as_it_says(strength):
    black = torch.ones(20, 1, 64, 64)
    gone = 1 - data.damage(black, "missing", strength, seeded())
    touched = (gone > 0).float().mean((1, 2, 3))
    torch.testing.assert_close(touched, torch.full((20,), MAX_MISSING * strength), atol=1e-3, rtol=0)


def test_the_missing_piece_lies_at_a_side_and_not_in_the_middle():
    gone = 1 - data.damage(torch.ones(400, 1, 32, 32), "missing", 0.3, seeded())
    share = gone.mean((0, 1))
    assert share[12:20, 12:20].mean() < 0.05
    assert share[0].mean() > 0.25


def test_cracks_are_thin_lines_of_one_shade():
    ground = data.damage(torch.zeros(50, 1, 64, 64), "cracks", 0.5, seeded())
    ink = data.damage(torch.ones(50, 1, 64, 64), "cracks", 0.5, seeded())
    share = (ground > 0).float().mean((1, 2, 3))
    assert share.min() > 0
    assert share.mean() < 0.3
    assert torch.equal(ground > 0, ink < 1)  # the same lines, whatever they cross


def test_noise_leaves_no_pixel_as_it_was_and_no_trend():
    grey = torch.full((20, 1, 32, 32), 0.5)
    noisy = data.damage(grey, "noise", 0.4, seeded())
    assert (noisy != grey).float().mean() > 0.99
    assert abs(noisy.mean() - 0.5) < 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@each_kind
def test_damage_returns_the_type_it_was_given(kind, dtype, signs):
    assert data.damage(signs.to(dtype), kind, 0.5, seeded()).dtype == dtype


def test_an_unknown_kind_is_refused_with_the_names(signs):
    with pytest.raises(ValueError, match="no damage 'rust'; the kinds are erosion, cracks, missing, noise"):
        data.damage(signs, "rust", 0.5)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), torch.tensor([0.5] * 10 + [2.0])])
def test_a_strength_outside_the_range_is_refused(strength, signs):
    with pytest.raises(ValueError, match=r"strength must lie in \[0, 1\]"):
        data.damage(signs, "noise", strength)


def test_strengths_out_of_step_are_refused(signs):
    with pytest.raises(ValueError, match=r"one number or \(11,\) numbers, not \(3,\)"):
        data.damage(signs, "noise", torch.zeros(3))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(16, 16), r"must be \(n, 1, height, width\)"),
        (torch.zeros(1, 1, 16, 16, dtype=torch.long), "must be floating point"),
        (torch.full((1, 1, 16, 16), 7.0), r"must lie in \[0, 1\]"),
    ],
)
def test_pictures_of_another_kind_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        data.damage(images, "noise", 0.5)
