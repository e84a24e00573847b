"""The density playground: its contents in Python; in Chromium, its numbers against the package's and its controls."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from gentext.density import EMConfig, GaussianMixture, Histogram, KernelDensity
from gentext.live import DensityPlayground, density_playground, protocol
from live_tools import compare, newest, picture, run_in_kernel
from page_tools import serious


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dots(n: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 2, generator=seeded(seed), dtype=torch.float64)


def question(n: int = 40, **more) -> dict[str, torch.Tensor]:
    """What the page would pass along for n dots in the unit square."""
    vector = {"low": [0.0, 0.0], "side": [1.0], "count": [8.0]}
    given = {name: torch.tensor(value, dtype=torch.float64) for name, value in (vector | more).items()}
    noise = torch.randn(n, 2, generator=seeded(2), dtype=torch.float64)
    return {"points": dots(n), "held_out": dots(30, 1), "u": dots(n, 3)[:, 0], "noise": noise, **given}


# ---- in Python -------------------------------------------------------------------------------------------------------


def test_the_published_sets_are_what_they_say():
    contents = DensityPlayground.published()
    assert json.loads(json.dumps(contents.state, allow_nan=False)) == contents.state
    truths = {**density_playground.inks(), **density_playground.shapes()}
    assert [entry["name"] for entry in contents.state["presets"]] == list(truths)
    for entry, truth in zip(contents.state["presets"], truths.values(), strict=True):
        points, held_out = (protocol.decode_array(entry[name]).double() for name in ("points", "held_out"))
        assert points.shape == (400, 2)
        assert held_out.shape == (300, 2)
        both = torch.cat([points, held_out])
        assert ((both >= 0) & (both <= 1)).all()
        assert len(both.unique(dim=0)) == 700  # no held-out dot is a training dot
        # On its own dots the truth scores what is called the best possible, within the noise of 700 draws.
        log_prob = truth.log_prob(both)
        inside = log_prob[log_prob.isfinite()]  # a dot on a pixel's edge may fall beside it when rounded to float32
        assert len(inside) >= 699
        assert inside.mean().item() == pytest.approx(entry["best"], abs=4 * inside.std().item() / math.sqrt(700))


def test_the_best_possible_score_of_a_shape_is_its_integral():
    wide = Histogram.fit(dots(), bins=3, low=0, high=1)
    assert density_playground.negative_entropy(wide, count=30) == pytest.approx(-wide.entropy().item(), abs=1e-12)
    for truth in density_playground.shapes().values():
        fine, finer = (density_playground.negative_entropy(truth, count) for count in (100, 200))
        assert fine == pytest.approx(finer, abs=2e-3)


@pytest.mark.parametrize(
    ("points", "held_out", "message"),
    [
        (torch.zeros(20, 3), None, "points"),
        (torch.zeros(20), None, "points"),
        (torch.full((20, 2), math.nan), None, "finite"),
        ([[0.0, 1.0]], None, "points"),
        (torch.zeros(4, 2), None, "8 to 1000"),
        (torch.zeros(2000, 2), None, "8 to 1000"),
        (torch.zeros(20, 2), torch.zeros(5, 3), "held_out"),
        (torch.zeros(20, 2), torch.zeros(0, 2), "to judge by"),
        (None, torch.zeros(5, 2), "learn from"),
    ],
)
def test_wrong_dots_are_refused(points, held_out, message):
    with pytest.raises(ValueError, match=message):
        DensityPlayground(points, held_out)


def test_a_readers_own_dots():
    points = 100 + 50 * torch.randn(40, 2, generator=seeded())
    figure = DensityPlayground(points)
    state = figure.state
    mine, judged = (protocol.decode_array(state["presets"][0][name]) for name in ("points", "held_out"))
    assert (len(mine), len(judged)) == (30, 10)
    torch.testing.assert_close(torch.cat([mine, judged]).sum(0), points.sum(0))
    low, side = torch.tensor(state["low"]), state["side"]
    assert ((points > low) & (points < low + side)).all()
    assert 'data-model="own"' in figure.to_html()
    DensityPlayground(torch.ones(10, 2))  # all in one place: still a box with a width


def test_the_poster_is_a_picture_with_words(tmp_path):
    figure = DensityPlayground.published().poster()
    figure.savefig(tmp_path / "poster.png", dpi=60)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "poster.png").convert("L")))) > 30
    html = DensityPlayground().to_html()
    assert density_playground.ALT.split(",")[0] in html
    assert not any(character.isdigit() for character in density_playground.ALT)  # no measured number in the text


def test_what_the_page_computes_is_the_package():
    histogram = density_playground.compute_histogram(question(bins=[4.0]))
    model = Histogram.fit(dots(), bins=4, low=0, high=1, pseudo_count=1 / 16)
    torch.testing.assert_close(histogram["train"], model.log_prob(dots()).mean().view(1))
    kernel = density_playground.compute_kernel(question(bandwidth=[0.1]))
    unseen = KernelDensity.fit(dots(), bandwidth=0.1).log_prob(dots(30, 1))
    torch.testing.assert_close(kernel["held_out"], torch.stack([unseen.mean(), unseen.std() / math.sqrt(30)]))
    torch.testing.assert_close(kernel["density"].sum() / 64, torch.tensor(0.9, dtype=torch.float64), atol=0.1, rtol=0)
    start = GaussianMixture.start(dots(), EMConfig(num_components=3), generator=seeded())
    asked = question(steps=[5.0], covariance=[1.0], var_floor=[1e-4]) | vars(start)
    mixture = density_playground.compute_mixture(asked)
    assert mixture["covs"][:, 0, 1].abs().max() == 0
    config = EMConfig(num_components=3, covariance="diagonal", var_floor=1e-4, max_steps=5, tolerance=0)
    expected = GaussianMixture.fit(dots(), config, start=start)
    torch.testing.assert_close(mixture["means"], expected.means)


# ---- in Chromium -----------------------------------------------------------------------------------------------------

browser_only = pytest.mark.slow


@pytest.fixture(scope="module")
def figures():
    return {DensityPlayground: DensityPlayground.published()}


@pytest.fixture
def open_figure(open_page):
    def open_it(**options):
        return open_page("density_playground.html", **{"viewport": {"width": 1000, "height": 1300}, **options})

    return open_it


def press(page, role: str, *keys: str) -> None:
    for key in keys:
        page.locator(f"[data-role={role}]").first.press(key)


def choose(page, kind: str) -> None:
    page.locator(f"[data-role=kind][value={kind}]").check()


def check_against_package(page) -> int:
    """Every answer of the page computed again; returns how many there were."""
    return len(compare(page, DensityPlayground.published()))


@browser_only
def test_every_setting_of_every_model_equals_the_package(open_figure):
    page = open_figure()
    for kind in ("histogram", "kernel", "mixture"):
        choose(page, kind)
        for keys in (["Home"], ["ArrowRight"] * 7, ["End"]):
            press(page, "complexity", *keys)
    for covariance in ("1", "2"):
        page.locator("[data-role=covariance]").select_option(covariance)
        press(page, "complexity", "Home", "ArrowRight", "End")
    press(page, "floor", "Home")  # twenty components on two hundred dots, and next to no floor
    press(page, "count", "Home")  # more components than dots
    assert check_against_package(page) > 30


@browser_only
def test_every_set_of_dots_equals_the_package(open_figure):
    page = open_figure()
    choose(page, "mixture")
    for index in range(1, 6):
        page.locator("[data-role=preset]").select_option(str(index))
    assert check_against_package(page) == 6


@browser_only
def test_dots_move_by_mouse_and_keyboard(open_figure):
    page = open_figure()
    box = page.locator("[data-role=dots]").bounding_box()

    def last():
        return torch.tensor(newest(page)["inputs"]["points"]["values"]).view(-1, 2)

    def at(x, y):  # a place in the unit square
        return box["x"] + x * box["width"], box["y"] + (1 - y) * box["height"]

    page.mouse.click(*at(0.05, 0.9))  # free ground: a new dot
    assert len(last()) == 201
    torch.testing.assert_close(last()[-1], torch.tensor([0.05, 0.9]), atol=0.01, rtol=0)
    page.mouse.move(*at(0.05, 0.9))
    page.mouse.down()
    page.mouse.move(*at(0.2, 0.1), steps=3)
    page.mouse.up()
    assert len(last()) == 201
    torch.testing.assert_close(last()[-1], torch.tensor([0.2, 0.1]), atol=0.01, rtol=0)
    page.mouse.move(*at(0.2, 0.1))
    page.mouse.down()
    page.mouse.move(box["x"] - 40, box["y"] + 50, steps=3)  # off the edge
    page.mouse.up()
    assert len(last()) == 200
    page.locator("[data-role=dots]").focus()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Space")  # makes one
    assert len(last()) == 201
    placed = last()[-1]
    for key in ("Space", "Shift+ArrowRight", "ArrowUp", "Space"):  # takes it, carries it, puts it down
        page.keyboard.press(key)
    torch.testing.assert_close(last()[-1], placed + torch.tensor([0.1, 0.02]), atol=1e-5, rtol=0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Delete")
    assert len(last()) == 200
    press(page, "next", "Enter")
    press(page, "remove", "Enter")
    assert len(last()) == 199
    press(page, "add", "Enter")
    assert len(last()) == 200
    press(page, "restore", "Enter")
    assert page.locator("[data-role=restore]").is_disabled()
    assert check_against_package(page) > 8


@browser_only
def test_a_finger_adds_a_dot(open_figure):
    page = open_figure(has_touch=True, viewport={"width": 390, "height": 900})
    canvas = page.locator("[data-role=dots]")
    canvas.scroll_into_view_if_needed()
    assert canvas.evaluate("c => getComputedStyle(c).touchAction") == "none"
    box = canvas.bounding_box()
    page.touchscreen.tap(box["x"] + 12, box["y"] + 30)
    assert page.evaluate("window.answers.at(-1).inputs.points.shape[0]") == 201


@browser_only
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_em_step_by_step_climbs_and_stops(open_figure, motion):
    page = open_figure(reduced_motion=motion)
    choose(page, "mixture")
    assert page.locator("[data-role=em-step]").is_disabled()  # it has settled already
    press(page, "em-start", "Enter")
    press(page, "em-step", "Enter", "Enter")
    assert "EM step 2" in page.locator("[data-role=em]").inner_text()
    press(page, "em-run", "Enter")
    if motion == "no-preference":
        assert page.locator("[data-role=em-run]").inner_text() == "Pause"
        page.wait_for_function("document.querySelector('[data-role=em]').textContent.includes('step 4')")
        press(page, "em-run", "Enter")
        seen = page.evaluate("window.answers.length")
        page.wait_for_timeout(500)
        assert page.evaluate("window.answers.length") == seen
        press(page, "complexity", "ArrowRight")
    assert "settled" in page.locator("[data-role=em]").inner_text()
    climbed = [a["outputs"]["train"]["values"][0] for a in page.evaluate("window.answers")]
    steps = [a["inputs"]["steps"]["values"][0] for a in page.evaluate("window.answers")]
    first = steps.index(0)
    last = len(steps) if motion == "reduce" else len(steps) - 1
    assert last - first > 3
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(climbed[first:last]))
    check_against_package(page)


@browser_only
def test_the_memorising_kernel_is_named(open_figure):
    page = open_figure()
    press(page, "complexity", "End")
    assert "remembers" in page.locator("[data-role=verdict]").inner_text()
    press(page, "complexity", "Home")
    assert "too smooth" in page.locator("[data-role=verdict]").inner_text()


@browser_only
def test_the_chart_compares_all_settings(open_figure):
    page = open_figure()
    page.wait_for_function("document.querySelectorAll('[data-role=scores] polyline').length === 2")
    page.wait_for_function(
        "document.querySelector('[data-role=scores] polyline').getAttribute('points').split(' ').length === 31"
    )
    label = page.locator("[data-role=scores]").get_attribute("aria-label")
    assert "Held-out dots score best" in label
    before = page.locator("[data-role=scores]").evaluate("s => s.outerHTML")
    press(page, "complexity", "ArrowRight")
    assert page.locator("[data-role=scores]").evaluate("s => s.outerHTML") != before


@browser_only
def test_other_samples_the_held_out_dots_and_the_theme(open_figure):
    page = open_figure()
    samples, shown = picture(page, "samples"), picture(page, "dots")
    press(page, "draw", "Enter")
    assert picture(page, "samples") != samples
    assert picture(page, "dots") == shown
    press(page, "peek", "Space")
    assert picture(page, "dots") != shown
    light = picture(page, "samples")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function("light => document.querySelector('[data-role=samples]').toDataURL() !== light", arg=light)


@browser_only
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_figure, theme):
    page = open_figure()
    page.evaluate(f"document.documentElement.dataset.theme = {theme!r}")
    for kind in ("kernel", "mixture"):
        choose(page, kind)
        assert not serious(page)


@browser_only
def test_nothing_overflows_a_phone(open_figure):
    page = open_figure(viewport={"width": 390, "height": 800})
    for kind in ("histogram", "mixture"):
        choose(page, kind)
        page.wait_for_timeout(1500)  # the chart has come
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for control in page.locator(".gl button:visible, .gl select:visible").all():
        assert control.bounding_box()["height"] >= 24


@browser_only
def test_the_bundle_of_the_kernel_runs_and_closes(open_page):
    page = open_page("kernel.html", ready=False)
    run_in_kernel(page, "density_playground", DensityPlayground(dots(60)).state)
    press(page, "complexity", "ArrowLeft")
    assert check_against_package(page) == 1
    assert page.evaluate("window.sent") == 0
    page.evaluate("window.closeFigure()")
