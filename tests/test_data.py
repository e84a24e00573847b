"""`data.load`, `ImageSet`, `augment` and `binarise`."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentext import data
from gentext.data.augment import change_stroke
from gentext.data.images import ImageSet

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")),
    pytest.param("mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no Apple GPU here")),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=3, height=16, width=None, seed=0):
    return torch.rand(n, 1, height, width or height, generator=seeded(seed))


def small_set():
    return ImageSet(
        images=pictures(4),
        labels=torch.tensor([0, 1, 1, 0]),
        label_names=("a", "b"),
        names=("w", "x", "y", "z"),
        codepoints=(1, 2, 3, 4),
    )


# ---- load ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runes",), "no data set 'runes'; the names are glyphs, mnist, fashion_mnist"),
        (("glyphs", "training"), "no split 'training'; the splits are train, validation, test"),
        (("glyphs", "train", 48), "Glyphs come in sizes 32 and 64, not 48"),
        (("mnist", "train", 64), "mnist comes in sizes 28 and 32, not 64"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(*arguments)


def test_loading_twice_gives_sets_that_do_not_share_pixels():
    first = data.load("glyphs", "test")
    before = first.images.sum()
    first.images.zero_()
    assert data.load("glyphs", "test").images.sum() == before


# ---- ImageSet -----------------------------------------------------------------------------------------------------


def test_a_subset_keeps_everything_in_step():
    part = small_set().subset([3, 1])
    assert len(part) == 2
    assert part.labels.tolist() == [0, 1]
    assert part.names == ("z", "x")
    assert part.codepoints == (4, 2)
    assert part.descriptions == ()
    assert torch.equal(part.images, small_set().images[[3, 1]])


def test_a_subset_by_mask_by_tensor_and_by_nothing():
    whole = small_set()
    assert whole.subset(whole.labels == 1).names == ("x", "y")
    assert whole.subset(torch.tensor([-1])).names == ("z",)
    assert len(whole.subset([])) == 0
    assert whole.subset(range(2)).names == ("w", "x")


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([4], "between 0 and 3"),
        ([-5], "between 0 and 3"),
        (torch.tensor([True, False]), "needs 4 entries"),
        ([0.5], "Indices must be integers or a boolean mask"),
    ],
)
def test_a_wrong_subset_is_refused(indices, message):
    with pytest.raises(ValueError, match=message):
        small_set().subset(indices)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(4, 16, 16)}, r"must be \(n, 1, height, width\)"),
        ({"images": torch.zeros(4, 3, 16, 16)}, r"must be \(n, 1, height, width\)"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, r"labels of shape \(4,\)"),
        ({"names": ("only one",)}, "names must have one entry for each of the 4 images"),
        ({"codepoints": (1, 2)}, "codepoints must have one entry"),
    ],
)
def test_a_set_out_of_step_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(small_set(), **change)


@pytest.mark.parametrize("device", DEVICES)
def test_a_set_moves_whole(device):
    moved = small_set().to(device)
    assert moved.images.device.type == moved.labels.device.type == device
    assert moved.names == small_set().names
    assert moved.subset(torch.tensor([0])).images.device.type == device


# ---- augment ------------------------------------------------------------------------------------------------------

amounts = st.fixed_dictionaries(
    {
        "rotate": st.floats(0, 45),
        "shear": st.floats(0, 0.5),
        "scale": st.floats(0, 0.5),
        "shift": st.floats(0, 0.3),
        "stroke": st.floats(0, 1),
    }
)
sizes = st.integers(3, 40)


@settings(max_examples=40, deadline=None)
@given(amounts, st.integers(0, 3), sizes, sizes, st.integers(0, 2**31))
def test_augmented_pictures_keep_shape_type_and_range(amounts, n, height, width, seed):
    images = pictures(n, height, width)
    changed = data.augment(images, seeded(seed), **amounts)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert ((changed >= 0) & (changed <= 1)).all()


@settings(max_examples=20, deadline=None)
@given(amounts, st.integers(0, 2**31))
def test_the_generator_alone_decides_the_augmentation(amounts, seed):
    images = pictures()
    assert torch.equal(
        data.augment(images, seeded(seed), **amounts), data.augment(images.clone(), seeded(seed), **amounts)
    )


def test_augmenting_by_nothing_changes_nothing_and_returns_a_copy():
    images = pictures()
    same = data.augment(images, seeded(), rotate=0, shear=0, scale=0, shift=0, stroke=0)
    assert torch.equal(same, images)
    assert same.data_ptr() != images.data_ptr()


def test_each_picture_of_a_batch_is_augmented_its_own_way():
    sign = data.load("glyphs", "test").images[:1]
    batch = data.augment(sign.expand(8, -1, -1, -1), seeded())
    assert len({row.numpy().tobytes() for row in batch}) == 8


def test_augmented_signs_keep_most_of_their_ink():
    signs = data.load("glyphs", "test").images
    changed = data.augment(signs, seeded(), stroke=0)
    ratio = changed.sum((1, 2, 3)) / signs.sum((1, 2, 3))
    assert 0.7 < ratio.min()
    assert ratio.max() < 1.4


@pytest.mark.parametrize(
    ("setting", "direction"), [({"shift": 0.25}, "place"), ({"scale": 0.4}, "size"), ({"rotate": 40.0}, "angle")]
)
def test_each_amount_does_what_it_is_called(setting, direction):
    bar = torch.zeros(64, 1, 33, 33)
    bar[:, :, 10:23, 15:18] = 1  # upright, centred
    none = {"rotate": 0.0, "shear": 0.0, "scale": 0.0, "shift": 0.0, "stroke": 0.0}
    changed = data.augment(bar, seeded(), **{**none, **setting})[:, 0]
    y, x = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    mass = changed.sum((1, 2))
    mean_x, mean_y = (changed * x).sum((1, 2)) / mass, (changed * y).sum((1, 2)) / mass
    tilt = (changed * x * y).sum((1, 2)) / mass - mean_x * mean_y
    moved, grown, tilted = mean_x.abs().max() + mean_y.abs().max(), (mass / 39).log().abs().max(), tilt.abs().max()
    assert (moved > 4) == (direction == "place")
    assert (grown > 0.4) == (direction == "size")
    assert (tilted > 3) == (direction == "angle")


@pytest.mark.parametrize("device", DEVICES)
def test_a_cpu_generator_gives_the_same_variants_on_every_device(device):
    images = pictures()
    there = data.augment(images.to(device), seeded(3))
    assert there.device.type == device
    torch.testing.assert_close(there.cpu(), data.augment(images, seeded(3)), atol=1e-4, rtol=0)


def test_augmentation_works_in_half_precision_and_double():
    for dtype in (torch.float64, torch.bfloat16):
        assert data.augment(pictures().to(dtype), seeded()).dtype == dtype


@pytest.mark.parametrize("name", ["rotate", "shear", "scale", "shift", "stroke"])
def test_a_negative_amount_is_refused(name):
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=f"{name} must be 0 or more"):
            data.augment(pictures(), seeded(), **{name: wrong})


def test_stroke_width_moves_both_ways_and_keeps_order():
    signs = data.load("glyphs", "test").images[:50]
    ink = [change_stroke(signs, torch.full((50,), amount)).mean((1, 2, 3)) for amount in (-1.0, -0.4, 0.0, 0.4, 1.0)]
    for thinner, thicker in itertools.pairwise(ink):
        assert (thinner < thicker).all()
    assert torch.equal(change_stroke(signs, torch.zeros(50)), signs)


# ---- binarise -----------------------------------------------------------------------------------------------------


def test_binarised_pictures_are_black_and_white_with_the_grey_as_probability():
    grey = torch.tensor([0.0, 0.25, 0.75, 1.0]).view(1, 1, 2, 2).expand(4000, -1, -1, -1)
    drawn = data.binarise(grey, seeded())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    share = drawn.mean(0).flatten()
    assert share[0] == 0
    assert share[3] == 1
    # Four standard errors of a share over 4,000 draws.
    assert (share[1:3] - torch.tensor([0.25, 0.75])).abs().max() < 4 * (0.25 * 0.75 / 4000) ** 0.5


def test_binarising_draws_anew_at_each_call_and_repeats_with_the_seed():
    images, generator = pictures(), seeded(1)
    first, second = data.binarise(images, generator), data.binarise(images, generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, data.binarise(images, seeded(1)))


@pytest.mark.parametrize("function", [data.augment, data.binarise])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 16, 16), r"must be \(n, 1, height, width\), not \(3, 16, 16\)"),
        (torch.zeros(3, 3, 16, 16), r"must be \(n, 1, height, width\)"),
        (torch.zeros(3, 1, 16, 16, dtype=torch.uint8), "must be floating point"),
        (torch.full((3, 1, 16, 16), 255.0), r"must lie in \[0, 1\]"),
        (torch.full((3, 1, 16, 16), float("nan")), r"must lie in \[0, 1\]"),
        (-torch.ones(3, 1, 16, 16), r"must lie in \[0, 1\]"),
    ],
)
def test_pictures_of_another_kind_are_refused(function, images, message):
    with pytest.raises(ValueError, match=message):
        function(images, seeded())
