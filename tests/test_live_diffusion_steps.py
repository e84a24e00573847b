"""`DiffusionSteps`: its network and twins against the model, and the page in Chromium against both."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import torch
from torch import Tensor

from gentext import data, zoo
from gentext.diffusion import DiffusionConfig, GaussianDiffusion, NoiseSchedule
from gentext.live import denoiser, diffusion_steps, front, protocol
from gentext.live.base import Contents
from gentext.live.diffusion_steps import DiffusionSteps
from gentext.nn import UNetConfig
from live_tools import compare, newest, picture, pictures, role, run_in_kernel, settle, wait_for

CLASSES = 29  # scripts of the test signs
SMALL = {"widths": (16, 32), "num_classes": CLASSES, "condition_width": 32}


def untrained(schedule: NoiseSchedule | None = None, **changes) -> GaussianDiffusion:
    """A small model whose answers change with its inputs, with weights that float16 holds."""
    torch.manual_seed(0)
    config = DiffusionConfig(unet=UNetConfig(**{**SMALL, **changes}), schedule=schedule or NoiseSchedule())
    model = GaussianDiffusion(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            parameter.copy_(parameter.half().float())
    return model.eval()


@pytest.fixture(scope="module")
def model() -> GaussianDiffusion:
    return untrained()


@pytest.fixture(scope="module")
def contents(model: GaussianDiffusion) -> Contents:
    return diffusion_steps.contents(model, None)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def three(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 1, 32, 32, generator=generator, dtype=torch.float64) for _ in range(3)]


# ---- Python ----------------------------------------------------------------------------------------------------------


def test_the_state_is_json_and_small(contents: Contents, model: GaussianDiffusion) -> None:
    state = contents.state
    assert len(json.dumps(state, allow_nan=False)) < 100_000
    table = protocol.decode_array(state["log_alpha_bar"])
    wanted = model.schedule.log_alpha_bar(torch.arange(1001))
    assert ((table - wanted).abs() <= 1e-7 * wanted.abs()).all()
    assert state["classes"] == list(data.load("glyphs", "test", size=32).label_names)
    assert state["steps"] == [10, 25, 50, 100, 250]
    assert set(contents.networks) == {denoiser.NAME}


def test_the_initial_guess_is_what_the_model_says(contents: Contents, model: GaussianDiffusion) -> None:
    initial = contents.state["initial"]
    assert 0 < initial["t"] < 1000
    name = contents.state["signs"]["words"][initial["sign"]]
    test = data.load("glyphs", "test", size=32)
    index = list(test.descriptions).index(name)
    x0 = model.centred(test.images[index : index + 1])
    noise = denoiser.seeded_noise(initial["seed"], 1024).view_as(x0)
    t = torch.tensor([initial["t"]])
    x_t = model.noised(x0, t, noise)
    with torch.no_grad():
        guess, _ = model.predict(x_t, model.schedule.log_snr(t), test.labels[index : index + 1])
    found = protocol.decode_array(initial["guess"])
    assert (found - model.clipped(guess)[0, 0]).abs().max() < 1e-5


def test_the_chain_in_one_step(contents: Contents, model: GaussianDiffusion) -> None:
    x0, noise, _ = three()
    given = {"x0": x0, "noise": noise}
    at_0 = contents.computed["noised"]({**given, "t": one(0)})
    assert torch.equal(at_0["x_t"], x0)
    assert at_0["log_snr"].item() == torch.inf
    at_last = contents.computed["noised"]({**given, "t": one(1000)})
    assert (at_last["x_t"] - noise).abs().max() < 1e-3
    middle = contents.computed["noised"]({**given, "t": one(500)})
    alpha_bar = model.schedule.alpha_bar(torch.tensor(500))
    assert torch.allclose(middle["x_t"], alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise)
    assert middle["log_snr"].exp().item() == pytest.approx((alpha_bar / (1 - alpha_bar)).item())


def test_a_step_back_is_the_posteriors(contents: Contents, model: GaussianDiffusion) -> None:
    x0, x_t, noise = three()
    step_back = contents.computed["step_back"]
    given = {"x0": x0, "x_t": x_t, "noise": noise}
    assert torch.allclose(step_back({**given, "t": one(700), "s": one(0)})["x_s"], x0), "nothing but the guess is left"
    # One step of the model's own sampler, given the guess that its network makes.
    t, label = 400, torch.tensor([3])
    with torch.no_grad():
        guess, _ = model.predict(x_t.float(), model.schedule.log_snr(torch.tensor([t])), label)
    with denoiser.GivenNoise([noise]):
        wanted = model.ancestral_step(x_t.float(), t, label)
    found = step_back({**given, "x0": model.clipped(guess).double(), "t": one(t), "s": one(t - 1)})["x_s"]
    assert (found - wanted).abs().max() < 1e-5
    # Two steps with one guess are one step over both: in the mean, and with their variances added.
    mean = {**given, "noise": torch.zeros_like(noise)}
    half = step_back({**mean, "t": one(400), "s": one(300)})["x_s"]
    twice = step_back({**mean, "x_t": half, "t": one(300), "s": one(200)})["x_s"]
    assert torch.allclose(twice, step_back({**mean, "t": one(400), "s": one(200)})["x_s"])


def test_a_readers_own_model() -> None:
    figure = DiffusionSteps(untrained(NoiseSchedule(kind="linear", num_steps=30), num_classes=0))
    assert 'data-model="own"' in figure.to_html()
    assert repr(figure) == "<DiffusionSteps>"
    assert figure.state["steps"] == [10, 25]
    assert figure.state["classes"] == []
    assert DiffusionSteps(untrained(NoiseSchedule(num_steps=6))).state["steps"] == [6]
    few = data.load("glyphs", "validation", size=32).subset(torch.arange(5))
    assert DiffusionSteps(untrained(), few).state["signs"]["images"]["shape"] == [5, 32, 32]


def test_what_does_not_fit_is_refused() -> None:
    images = data.load("glyphs", "test", size=32)
    for arguments, message in (
        ((None, images), "Pass the model that belongs to the images"),
        ((torch.nn.Linear(2, 2),), r"DiffusionSteps needs a gentext\.diffusion\.GaussianDiffusion, not Linear"),
        ((untrained(channels=3),), "draws grey pictures; the model makes 3 channels"),
        ((untrained(num_classes=5),), "The model knows 5 classes, the images have 29"),
        ((untrained(image_size=16),), "Glyphs come in 32 and 64 pixels, the model takes 16"),
        ((untrained(image_size=64), images), "The model takes images of 64 pixels, the given ones have 32"),
    ):
        with pytest.raises(ValueError, match=message):
            DiffusionSteps(*arguments)


def test_the_published_figure_is_the_books() -> None:
    if denoiser.ZOO_MODEL not in zoo.names():
        with pytest.raises(ValueError, match="gentext train diffusion-glyphs"):
            DiffusionSteps()
        return
    shown = DiffusionSteps.published()
    assert len(json.dumps(shown.state, allow_nan=False)) < 100_000
    assert not re.search(r"\d", shown.alt), "text that is the same on every machine"


def test_the_kernels_bundle_holds_all_parts() -> None:
    bundle = front.bundle("diffusion_steps")
    assert "import {" not in bundle
    for part in ("function createChain", "function createRandom", "function filmStrip", "function drawingPad"):
        assert bundle.count(part) == 1


# ---- Chromium --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(contents: Contents) -> dict:
    return {DiffusionSteps: contents}


@pytest.fixture
def page(open_page):
    """The figure on a phone's page, which it must not overflow."""
    opened = open_page("diffusion_steps.html", viewport={"width": 390, "height": 1800})
    yield opened
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def choose(page, name: str, value: str) -> None:
    page.locator(f"[data-role={name}][value='{value}']").check(force=True)
    settle(page)


def press(page, name: str) -> None:
    role(page, name).click()
    settle(page)


def said(page) -> str:
    return role(page, "walk-summary").inner_text()


def calls(page) -> Counter:
    return Counter(page.evaluate("window.answers.map((answer) => answer.network)"))


@pytest.mark.slow
def test_the_page_computes_what_the_package_computes(page, contents: Contents) -> None:
    for key in ("ArrowRight", "PageUp", "End", "Home"):
        role(page, "time").press(key)
        settle(page)
    role(page, "time").fill("430")
    settle(page)
    press(page, "noise")
    role(page, "script").select_option("4")
    settle(page)
    choose(page, "told", "nothing")
    for start in ("xt", "noise"):
        choose(page, "from", start)
        for count in ("10", "250"):
            choose(page, "steps", count)
            press(page, "step")
            press(page, "step")
        press(page, "again")
    choose(page, "steps", "10")
    while role(page, "step").is_enabled():
        press(page, "step")
    answers = compare(page, contents)
    found = Counter(answer["network"] for answer in answers)
    assert found["noised"] == 6
    assert found["step_back"] == 4 * 2 + 10
    last = [answer for answer in answers if answer["network"] == "step_back"][-1]
    assert last["inputs"]["s"]["values"] == [0]
    assert last["outputs"]["x_s"]["values"] == pytest.approx(last["inputs"]["x0"]["values"], abs=1e-6)
    null = [answer for answer in answers if answer["network"] == "denoiser"][-1]
    assert null["inputs"]["label"]["values"] == [CLASSES]


@pytest.mark.slow
def test_the_first_guess_is_what_the_network_says(page, contents: Contents) -> None:
    first = pictures(page)
    assert page.evaluate("window.__gentextLive") is None
    assert role(page, "note").inner_text().startswith("σ = ")
    initial = contents.state["initial"]
    role(page, "time").press("ArrowRight")
    role(page, "time").press("ArrowLeft")
    settle(page)
    answers = [answer for answer in compare(page, contents) if answer["network"] == "denoiser"]
    shown = protocol.decode_array(initial["guess"]).flatten()
    found = torch.tensor(answers[-1]["outputs"]["x0"]["values"]).clamp(-1, 1)
    assert (found - shown).abs().max() < 1e-4
    assert picture(page, "noisy") == first["noisy"]


@pytest.mark.slow
def test_the_ends_of_the_chain(page) -> None:
    role(page, "time").press("Home")
    settle(page)
    assert picture(page, "noisy") == picture(page, "clean") == picture(page, "guess")
    assert "no noise yet" in role(page, "note").inner_text()
    assert role(page, "step").is_disabled()
    assert role(page, "play").is_disabled()
    assert "no way back" in said(page)
    choose(page, "from", "noise")
    assert "step 0 of 50: t = 1000." in said(page)
    role(page, "time").press("End")
    settle(page)
    assert "less than 0.001" in role(page, "note").inner_text()


@pytest.mark.slow
def test_what_was_walked_is_kept(page) -> None:
    """Back and forward over states that were visited asks nothing; other walks end elsewhere, the same walk never."""
    choose(page, "from", "noise")
    choose(page, "steps", "10")
    seen = []
    for step in range(1, 4):
        press(page, "step")
        assert f"step {step} of 10: t = {1000 - 100 * step}." in said(page)
        seen.append(picture(page, "walk-state"))
    count = page.evaluate("window.answers.length")
    press(page, "back")
    press(page, "back")
    assert picture(page, "walk-state") == seen[0]
    press(page, "step")
    assert picture(page, "walk-state") == seen[1]
    role(page, "position").press("End")
    assert picture(page, "walk-state") == seen[2]
    role(page, "position").press("Home")
    assert "step 0 of 10: t = 1000." in said(page)
    assert role(page, "back").is_disabled()
    assert page.evaluate("window.answers.length") == count
    press(page, "again")
    press(page, "step")
    assert said(page).startswith("Walk 2, step 1")
    assert picture(page, "walk-state") != seen[0]
    choose(page, "steps", "25")
    choose(page, "steps", "10")
    assert role(page, "position").is_disabled()
    found: list[str] = []
    for _ in range(2):
        choose(page, "from", "xt")
        choose(page, "from", "noise")
        press(page, "step")
        found.append(picture(page, "walk-state"))
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_play_walks_to_the_end_or_until_it_is_stopped(open_page, motion: str) -> None:
    page = open_page("diffusion_steps.html", reduced_motion=motion)
    choose(page, "from", "noise")
    choose(page, "steps", "250")
    role(page, "play").click()
    page.wait_for_function(
        "parseInt(document.querySelector('[data-role=walk-summary]').textContent.split('step ')[1]) > 9"
    )
    role(page, "play").click()
    settle(page)
    stopped = said(page)
    page.wait_for_timeout(200)
    assert said(page) == stopped
    assert 0 < int(re.search(r"step (\d+) of 250", stopped)[1]) < 250
    choose(page, "steps", "25")
    role(page, "play").click()
    page.wait_for_function("document.querySelector('[data-role=step]').disabled")
    settle(page)
    assert "step 25 of 25: t = 0." in said(page)
    assert role(page, "play").inner_text() == "Play"
    assert calls(page)["step_back"] >= 25
    assert picture(page, "walk-state") == picture(page, "walk-guess")


@pytest.mark.slow
def test_moving_on_ends_a_walk(page) -> None:
    role(page, "play").click()
    page.wait_for_function("/step [1-9]/.test(document.querySelector('[data-role=walk-summary]').textContent)")
    role(page, "time").press("PageUp")
    settle(page)
    assert "step 0 of" in said(page)
    assert role(page, "play").inner_text() == "Play"
    assert f"t = {role(page, 'time').input_value()}." in said(page)


@pytest.mark.slow
def test_every_control_changes_the_picture(page) -> None:
    def changed(act) -> set[str]:
        before = pictures(page)
        act()
        settle(page)
        after = pictures(page)
        return {name for name in after if after[name] != before.get(name)}

    three_up, walkers = {"clean", "noisy", "guess"}, {"walk-state", "walk-guess", "strip"}
    assert {"noisy", "guess", "walk-state", "strip"} <= changed(lambda: role(page, "time").press("PageDown"))
    assert {"noisy", "guess"} <= changed(lambda: role(page, "noise").press("Enter"))
    assert three_up <= changed(lambda: role(page, "sign-next").press("Enter"))
    assert three_up <= changed(lambda: role(page, "sign-script").select_option(label="Cuneiform"))
    assert role(page, "script").evaluate("s => s.selectedOptions[0].textContent") == "Cuneiform"
    assert three_up <= changed(lambda: role(page, "sign").press("ArrowDown"))
    assert "guess" in changed(lambda: role(page, "script").press("ArrowUp"))
    assert "guess" in changed(lambda: page.locator("[data-role=told]:checked").press("ArrowRight"))
    assert not role(page, "script").is_visible()
    assert walkers <= changed(lambda: page.locator("[data-role=from]:checked").press("ArrowRight"))
    assert "step 0 of 50" in said(page)
    page.locator("[data-role=steps]:checked").press("ArrowLeft")
    settle(page)
    assert "step 0 of 25" in said(page)
    assert walkers <= changed(lambda: role(page, "step").press("Enter"))
    assert walkers <= changed(lambda: role(page, "back").press("Enter"))
    assert walkers <= changed(lambda: role(page, "position").press("End"))
    assert walkers <= changed(lambda: role(page, "again").press("Enter"))
    choose(page, "origin", "drawing")
    assert role(page, "clean").get_attribute("aria-label") == "The sign x₀: an empty page"

    def draw() -> None:
        role(page, "pad").focus()
        for key in ("Space", *["Shift+ArrowUp"] * 3, "Space"):
            page.keyboard.press(key)

    assert three_up | {"pad"} <= changed(draw)
    assert three_up | {"pad"} <= changed(lambda: role(page, "pad-undo").press("Enter"))


@pytest.mark.slow
def test_a_drag_never_queues_and_ends_on_its_last_value(page) -> None:
    role(page, "time").press("ArrowRight")
    settle(page)
    before = calls(page)
    page.evaluate(
        """() => { const slider = document.querySelector("[data-role=time]");
            for (let t = 100; t <= 300; t += 2) {
                slider.value = t;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
            } }"""
    )
    settle(page)
    after = calls(page)
    assert after["noised"] - before["noised"] == 101
    assert after["denoiser"] - before["denoiser"] <= 3
    assert newest(page)["network"] == "denoiser"
    assert "xₜ at t = 300" in page.locator("figure:has([data-role=noisy])").inner_text()
    # One move after the other: a picture at once, the guess when the network has looked.
    page.evaluate("window.answers.length = 0")
    for step in range(10):
        role(page, "time").press("ArrowLeft" if step % 2 else "ArrowRight")
        settle(page)
    waits = page.evaluate("window.answers.filter((a) => a.network === 'noised').map((a) => a.wait)")
    assert len(waits) == 10


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, theme: str) -> None:
    from page_tools import serious

    page = open_page("diffusion_steps.html")
    light = picture(page, "guess")
    page.evaluate(f"document.documentElement.dataset.theme = {theme!r}")
    press(page, "step")
    assert not serious(page)
    choose(page, "origin", "drawing")
    assert not serious(page)
    assert theme == "light" or picture(page, "guess") != light


@pytest.mark.slow
def test_nothing_overflows_a_phone(page) -> None:
    for origin in ("sign", "drawing"):
        choose(page, "origin", origin)
        assert not page.evaluate(
            """[...document.querySelectorAll(".gl *")].filter((e) => e.offsetParent && !e.closest(".gl-hidden")
                && e.getBoundingClientRect().right > 390).map((e) => e.outerHTML.slice(0, 80))"""
        )
    for control in page.locator(".gl button:visible, .gl select:visible").all():
        assert control.bounding_box()["height"] >= 24


@pytest.mark.slow
def test_python_answers_the_bundled_front_end(open_page, contents: Contents) -> None:
    page = open_page("kernel.html", ready=False)
    run_in_kernel(page, "diffusion_steps", contents.state, contents.networks)
    role(page, "time").press("ArrowRight")
    page.wait_for_selector('main[data-state="live"]')
    role(page, "step").click()
    page.wait_for_function("window.answers.some((answer) => answer.network === 'step_back')")
    settle(page)
    assert compare(page, contents, tolerance=1e-4)
    assert page.evaluate("window.listeners.size") == 1
    page.evaluate("window.closeFigure()")
    assert page.evaluate("window.listeners.size") == 0


@pytest.mark.slow
def test_a_model_without_classes_in_the_page(open_page) -> None:
    own = diffusion_steps.contents(untrained(NoiseSchedule(num_steps=30), num_classes=0), None)
    page = open_page("kernel.html", ready=False)
    run_in_kernel(page, "diffusion_steps", own.state, own.networks)
    assert role(page, "told").count() == 0
    role(page, "time").press("End")
    press(page, "step")
    assert "step 1 of 25: t = 29." in said(page)
    assert compare(page, own)


@pytest.mark.slow
def test_a_missing_network_is_reported_and_a_later_touch_recovers(open_page, contents: Contents) -> None:
    page = open_page("diffusion_steps.html", tolerate="404|ERR_ABORTED")
    page.route("**/denoiser.onnx", lambda route: route.fulfill(status=404))
    role(page, "step").click()
    wait_for(page, "error")
    assert "denoiser.onnx could not be loaded (404)" in page.locator(".gl-status").inner_text()
    page.unroute("**/denoiser.onnx")
    press(page, "step")
    assert page.locator(".gl-status").inner_text() == ""
    assert "step 1 of" in said(page)
    assert compare(page, contents)
