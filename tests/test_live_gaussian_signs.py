"""`GaussianSigns`: contents and twins in Python, and the page's own arithmetic in Chromium against the package's."""

import json
from collections import Counter

import pytest
import torch
from torch import Tensor

from gentext import data
from gentext.data import ImageSet
from gentext.gaussian import PCA, ClassConditionalGaussian
from gentext.live import FIGURES, GaussianSigns, front, gaussian_signs, protocol
from gentext.live.base import Contents
from live_tools import compare, newest


@pytest.fixture(scope="module")
def contents() -> Contents:
    return GaussianSigns.published()


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return data.load("glyphs", "train")


@pytest.fixture(scope="module")
def pca(train: ImageSet) -> PCA:
    """Of all sizes: the first 8 of 32 components are the 8 components."""
    return PCA.fit(train.images.flatten(1).double(), 32)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def ask(contents: Contents, size: int = 32, **changes: object) -> dict[str, Tensor]:
    """The twin's answer for the mean of the first script, or what `changes` says instead."""
    inputs: dict[str, object] = {"script": 0, "shrinkage": 0.2, "shared": 0, "classify": 0, **changes}
    inputs.setdefault("noise", torch.zeros(size, dtype=torch.float64))
    given = {name: value if isinstance(value, Tensor) else one(float(value)) for name, value in inputs.items()}
    return contents.computed["signs"](given)


def few(n: int = 40, classes: int = 2, side: int = 6) -> ImageSet:
    images = torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))
    return ImageSet(images, torch.arange(n) % classes, tuple("abcdef"[:classes]))


# ---- Python ----------------------------------------------------------------------------------------------------------


def test_the_state_is_json_and_small(contents: Contents) -> None:
    text = json.dumps(contents.state, allow_nan=False)
    assert len(text) < 230_000, "a page may hold 300 KB of script and state"
    assert contents.networks == {}
    assert contents.state["counts"] == data.load("glyphs", "train").labels.bincount().tolist()
    assert FIGURES["gaussian_signs"] is GaussianSigns


def test_rounding_for_the_page_changes_next_to_nothing(contents: Contents, train: ImageSet, pca: PCA) -> None:
    rows = train.images.flatten(1).double()
    exact = ClassConditionalGaussian.fit(pca.encode(rows), train.labels, "full", shrinkage=0.2)
    test = data.load("glyphs", "test")
    wanted = exact.log_posterior(pca.encode(test.images.flatten(1).double())).exp()
    for place in range(0, 437, 40):
        found = ask(contents, judged=test.images[place].flatten().double(), classify=1)
        assert (found["posterior"] - wanted[place]).abs().max() < 2e-3
        assert abs(float(found["posterior"].sum()) - 1) < 1e-12
    image = test.images[0].flatten().double()
    small = PCA(pca.mean, pca.components[:16], pca.variance[:16])
    kept = ask(contents, size=16, judged=image)["kept"]
    assert (kept - small.reconstruct(image[None])[0]).abs().max() < 2e-3, "components are nested"


@pytest.mark.parametrize("size", gaussian_signs.SIZES)
def test_no_noise_gives_the_mean_and_shrinkage_moves_the_rest(
    contents: Contents, train: ImageSet, pca: PCA, size: int
) -> None:
    script = train.label_names.index("Ugaritic")
    rows = train.images.flatten(1).double()
    small = PCA(pca.mean, pca.components[:size], pca.variance[:size])
    mean = small.reconstruct(rows[train.labels == script].mean(0, keepdim=True))[0]
    for shrinkage in (0.0, 0.2, 1.0):
        for shared in (0, 1):
            found = ask(contents, size, script=script, shrinkage=shrinkage, shared=shared)
            assert found.keys() == {"image"}
            assert (found["image"] - mean).abs().max() < 2e-3
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = [ask(contents, script=script, noise=noise, shrinkage=s)["image"] - mean for s in (0.0, 1.0)]
    assert (moved[0] - moved[1]).norm() > 0.3


def test_without_shrinkage_scripts_of_few_signs_have_no_density(contents: Contents) -> None:
    with pytest.raises(ValueError, match="singular"):
        ask(contents, shrinkage=0, classify=1)
    for size, shared in ((8, 0), (32, 1)):
        assert ask(contents, size, shrinkage=0, shared=shared, classify=1)["posterior"].isfinite().all()


def test_the_poster_is_drawn_and_named() -> None:
    figure = GaussianSigns()
    html = figure.to_html()
    assert 'data-figure="gaussian_signs" data-model="published"' in html
    assert "directions in which signs of one script vary most" in html
    assert repr(figure) == "<GaussianSigns>"


def test_a_reader_may_bring_pictures_of_their_own() -> None:
    figure = GaussianSigns(few(), few(10), sizes=(3, 5))
    assert 'data-model="own"' in figure.to_html()
    assert figure.state["sizes"] == [3, 5]
    assert figure.state["classes"] == ["a", "b"]
    assert protocol.decode_array(figure.state["mean"]).shape == (2, 5)
    assert len(GaussianSigns(few()).state["counts"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": few()}, "Pass the images to fit to first"),
        ({"sizes": (4,)}, "Pass the images to fit to first"),
        ({"images": few(), "test": few(side=8)}, "pictures of one size"),
        ({"images": few(), "test": few(classes=3)}, "the same classes"),
        ({"images": few(), "test": few().subset([])}, "at least one to classify"),
        ({"images": few(3), "sizes": (1,)}, "The class b needs at least two pictures"),
        ({"images": few(classes=1)}, "two classes or more"),
        ({"images": few(), "sizes": ()}, "sizes of at least 1"),
        ({"images": few(), "sizes": (64,)}, r"num_components must lie in 1\.\.36"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianSigns(**arguments)


def test_the_kernels_bundle_holds_all_parts() -> None:
    bundle = front.bundle("gaussian_signs")
    assert "import {" not in bundle
    for part in ("function eigen", "function cholesky", "function drawingPad", "function createFigure"):
        assert bundle.count(part) == 1


# ---- Chromium --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(contents: Contents) -> dict:
    return {GaussianSigns: contents}


@pytest.fixture
def page(open_page):
    return open_page("gaussian_signs.html", viewport={"width": 390, "height": 1200})


@pytest.mark.slow
def test_the_page_computes_what_the_package_computes(page, contents: Contents) -> None:
    random = page.locator("[data-role=random]")
    scripts = page.locator("[data-role=script]")
    for size in gaussian_signs.SIZES:
        page.locator(f"[data-role=size][value='{size}']").check()
        for covariance in ("own", "shared"):
            page.locator(f"[data-role=covariance][value={covariance}]").check()
            for script, shrinkage in ((16, "0"), (5, "0.01"), (7, "0.37"), (28, "1")):
                scripts.select_option(str(script))
                page.locator("[data-role=shrinkage]").fill(shrinkage)
                random.click()
                page.locator("[data-role=direction]").nth(3).press("PageUp")
    page.locator("[data-role=shrinkage]").fill("0.15")
    page.get_by_label("a test sign").check()
    for _ in range(4):
        page.locator("[data-role=sign-next]").click()
    page.get_by_label("your drawing").check()
    pad = page.locator("[data-role=pad]")
    pad.focus()
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowDown", "Space"):
        pad.press(key)
    answers = compare(page, contents)
    counts = Counter(name for answer in answers for name in answer["outputs"])
    assert counts["image"] > 60
    assert counts["posterior"] > 40
    assert counts["kept"] > 7
    times = sorted(answer["milliseconds"] for answer in answers)
    print(f"{counts}, median {times[len(times) // 2]:.1f} ms, longest {times[-1]:.1f} ms")


@pytest.mark.slow
def test_a_slider_moves_along_one_direction_only(page) -> None:
    read = """() => [...document.querySelectorAll('[data-role=direction]')]
        .map((slider) => slider.parentElement.querySelector('output').textContent)"""
    page.locator("[data-role=random]").click()
    before = page.evaluate(read)
    page.locator("[data-role=direction]").nth(1).fill("2.5")
    after = page.evaluate(read)
    assert after[1] == "2.50"
    assert after[:1] + after[2:] == before[:1] + before[2:]
    page.locator("[data-role=reset]").click()
    assert set(page.evaluate(read)) == {"0.00"}


@pytest.mark.slow
def test_the_same_noise_in_another_script_and_less_spread_when_round(page) -> None:
    page.locator("[data-role=random]").click()
    before = newest(page)["inputs"]["noise"]
    page.locator("[data-role=script]").select_option("3")
    assert newest(page)["inputs"]["noise"] == before
    first = page.locator(".gl-kl").first
    share = int(first.inner_text().split()[0])
    page.locator("[data-role=shrinkage]").fill("1")
    assert int(first.inner_text().split()[0]) == 3 < share, "one part in 32 of the variance"


@pytest.mark.slow
def test_without_a_density_nothing_is_judged(page) -> None:
    bars = page.locator(".gl-odds li")
    assert bars.count() == 6
    page.locator("[data-role=shrinkage]").fill("0")
    assert bars.count() == 0
    assert "13 of 29 scripts have no density" in page.locator("[data-role=summary]").inner_text()
    page.get_by_label("one for all").check()
    assert bars.count() == 6
    page.get_by_label("each script its own").check()
    page.locator("[data-role=size][value='8']").check()
    assert bars.count() == 6


@pytest.mark.slow
def test_a_drawing_is_asked_for_then_judged_and_nothing_overflows(page) -> None:
    page.get_by_label("your drawing").check()
    assert page.locator(".gl-odds li").count() == 0
    pad = page.locator("[data-role=pad]")
    pad.focus()
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowDown", "Space"):
        pad.press(key)
    assert page.locator(".gl-odds li").count() == 6
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("[data-role=pad-clear]").click()
    assert page.locator(".gl-odds li").count() == 0
