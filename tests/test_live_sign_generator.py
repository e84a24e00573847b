"""`SignGenerator`: network and twins in Python, and the page's own walks in Chromium against the package's."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from gentext.data import ImageSet
from gentext.diffusion import DiffusionConfig, GaussianDiffusion
from gentext.diffusion_sampling import SAMPLERS, inpaint, karras_grid, starting_noise
from gentext.live import denoiser, front, sign_generator
from gentext.live.base import Contents
from gentext.live.sign_generator import SignGenerator
from gentext.nn import UNetConfig
from live_tools import compare, picture, pictures, role, run_in_kernel, settle
from page_tools import serious

CLASSES = 29
SMALL = {"image_size": 8, "widths": (8, 16), "groups": 4, "head_dim": 8, "condition_width": 16}


def untrained(seed: int = 0, **unet: object) -> GaussianDiffusion:
    """A small model whose answers hang on all that it is told, with weights that float16 holds."""
    model = GaussianDiffusion(DiffusionConfig(unet=UNetConfig(**unet)))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        scale = 1.2 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.2
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    if model.config.shape.num_classes:
        model.network.conditioning.label_embedding.weight.data *= 5
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model.eval()


@pytest.fixture(scope="module")
def model() -> GaussianDiffusion:
    return untrained(widths=(8, 16), groups=4, head_dim=8, condition_width=32, num_classes=CLASSES)


@pytest.fixture(scope="module")
def contents(model: GaussianDiffusion) -> Contents:
    return sign_generator.contents(model)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def few(n: int = 6, classes: int = 2, side: int = 8) -> ImageSet:
    images = torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))
    return ImageSet(images, torch.arange(n) % classes, tuple("abcdef"[:classes]))


# ---- Python: the network, the noise ----------------------------------------------------------------------------------


def test_the_network_is_the_models_denoiser(model: GaussianDiffusion, contents: Contents) -> None:
    network = contents.networks["denoiser"]
    sigma = torch.tensor([0.01, 0.5, 20.0])
    x, label = noise(3, 1, 32, 32) * (1 + sigma.square()).sqrt().view(-1, 1, 1, 1), torch.tensor([0, 5, CLASSES - 1])
    told, untold = (
        network.run(
            {"x_t": x / (1 + sigma.square()).sqrt().view(-1, 1, 1, 1), "log_snr": -2 * sigma.log(), "label": at.float()}
        )["x0"]
        for at in (label, torch.full_like(label, CLASSES))
    )
    assert told.abs().max() > 1, "not clipped"
    assert (told - untold).abs().max() > 0.01
    with torch.no_grad():
        for guidance in (0.0, 1.0, 3.0):
            wanted = model.denoise(x, sigma, label, guidance)
            assert ((untold + guidance * (told - untold)).clamp(-1, 1) - wanted).abs().max() < 1e-4


def test_a_model_without_classes_is_told_none() -> None:
    model = untrained(**SMALL)
    network = denoiser.network(model)
    assert "label" not in network.inputs
    with torch.no_grad():
        wanted = model.predict(noise(2, 1, 8, 8), torch.zeros(2))[0]
    assert torch.equal(network.run({"x_t": noise(2, 1, 8, 8), "log_snr": torch.zeros(2)})["x0"], wanted)


def test_seeded_noise_is_mulberry32_and_normal() -> None:
    def words(seed: int):
        while True:
            seed = (seed + 0x6D2B79F5) % 2**32
            t = (seed ^ seed >> 15) * (seed | 1) % 2**32
            t ^= (t + (t ^ t >> 7) * (t | 61)) % 2**32
            yield t ^ t >> 14

    draw, wanted = words(2**32 - 5), []
    for _ in range(20):
        radius, angle = math.sqrt(-2 * math.log((next(draw) + 1) / 2**32)), 2 * math.pi * next(draw) / 2**32
        wanted += [radius * math.cos(angle), radius * math.sin(angle)]
    assert np.allclose(denoiser.seeded_noise(2**32 - 5, 39), wanted[:39], atol=1e-6)
    many = denoiser.seeded_noise(3, 200_000).double()
    moments = [many.mean(), many.var() - 1, many.pow(3).mean(), many.pow(4).mean() - 3]
    assert max(moment.abs().item() for moment in moments) < 0.05
    other = denoiser.seeded_noise(4, 200_000).double()
    assert abs((many * other).mean()) < 0.01


# ---- Python: the twins -----------------------------------------------------------------------------------------------


def asked_for(model: GaussianDiffusion, guidance: float, said: dict[str, list[Tensor]]):
    """A denoiser of one picture that notes what the network says, told class 2 and not told."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        signal = 1 / (1 + sigma.square()).sqrt()
        for name, label in (("told", 2), ("untold", CLASSES)):
            estimate, _ = model.predict(signal * x, -2 * sigma.log(), torch.tensor([label]))
            said[name].append(estimate.flatten())
        told, untold = said["told"][-1], said["untold"][-1]
        return model.clipped(untold + guidance * (told - untold)).view_as(x)

    return denoise


def recorded(said: dict[str, list[Tensor]], noises: list[Tensor]) -> dict[str, Tensor]:
    rows = {**said, "noise": [drawn.flatten() for drawn in noises]}
    return {name: torch.stack(row).double() if row else torch.zeros(0, 1024).double() for name, row in rows.items()}


def same_draws(count: int) -> list[Tensor]:
    """What a sampler draws, one after the other, from a generator of seed 7."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(1, 1, 32, 32, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_twin_of_a_sampler_retraces_it(name: str, model: GaussianDiffusion, contents: Contents) -> None:
    sigmas, said, states = karras_grid(6, 0.01, 80.0), {"told": [], "untold": []}, []
    x = starting_noise((1, 1, 32, 32), sigmas, generator=torch.Generator().manual_seed(0))
    SAMPLERS[name](
        asked_for(model, 2.0, said), x, sigmas,
        generator=torch.Generator().manual_seed(7), on_step=lambda step: states.append(step.x.flatten()),
    )  # fmt: skip
    given = recorded(said, same_draws(5) if name == "ancestral" else [])
    number = torch.tensor([float(list(SAMPLERS).index(name))])
    given |= {"sampler": number, "sigmas": sigmas, "start": x.flatten().double(), "guidance": torch.tensor([2.0])}
    found = contents.computed["sample"](given)["x"]
    assert found.shape == (6, 1024)
    assert (found - torch.stack(states)).abs().max() < 2e-4
    alone = contents.computed["sample"](given | {"untold": torch.zeros(0, 1024), "guidance": torch.tensor([1.0])})["x"]
    assert (alone - found).abs().max() > 0.01, "with one of the two answers nothing is mixed"


def test_the_twin_of_inpainting_retraces_it(model: GaussianDiffusion, contents: Contents) -> None:
    sigmas, said, states = karras_grid(4, 0.01, 80.0), {"told": [], "untold": []}, []
    x = starting_noise((1, 1, 32, 32), sigmas, generator=torch.Generator().manual_seed(0))
    known, whole = noise(1, 1, 32, 32, seed=3) > 0, noise(1, 1, 32, 32, seed=4).clamp(-1, 1)
    inpaint(
        asked_for(model, 1.0, said), whole, known, sigmas,
        resample=3, x=x, generator=torch.Generator().manual_seed(7),
        on_step=lambda step: states.append(step.x.flatten()),
    )  # fmt: skip
    given = recorded({"told": said["told"], "untold": []}, same_draws(3 * (3 * 2 + 2) + 2))
    given |= {
        "sigmas": sigmas,
        "start": x.flatten().double(),
        "guidance": torch.ones(1),
        "resample": torch.tensor([3.0]),
    }
    given |= {"picture": whole.flatten().double(), "known": known.flatten().double()}
    found = contents.computed["restore"](given)["x"]
    assert (found - torch.stack(states)).abs().max() < 2e-4
    assert torch.equal(found[-1][known.flatten()], whole.double()[known])


@pytest.mark.parametrize(("sampler", "calls"), [(0, 9), (1, 9), (2, 17), (3, 9), (4, 36)])
def test_the_plan_counts_what_a_sampler_asks(contents: Contents, sampler: int, calls: int) -> None:
    given = {"steps": [9.0], "levels": [0.01, 60.0], "sampler": [float(sampler)], "resample": [4.0]}
    found = contents.computed["plan"]({name: torch.tensor(value).double() for name, value in given.items()})
    assert found["calls"].tolist() == [calls]
    assert torch.allclose(found["sigmas"], karras_grid(9, 0.01, 60.0))


# ---- Python: the figure ----------------------------------------------------------------------------------------------


def test_the_state_is_json_and_small(contents: Contents, model: GaussianDiffusion) -> None:
    state = contents.state
    assert len(json.dumps(state, allow_nan=False)) < 120_000
    assert state["levels"][0] == pytest.approx(model.schedule.sigma(torch.ones(1)).item())
    assert state["levels"][1] == 80
    assert [name for name, _ in state["samplers"]] == list(SAMPLERS)
    assert state["classes"][state["initial"]["label"]] == "Runic"
    assert state["initial"]["pictures"]["shape"] == [16, 32, 32]


def test_the_poster_stands_for_the_figure(contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignGenerator, "published", classmethod(lambda cls: contents))
    html = SignGenerator().to_html()
    assert sign_generator.ALT[:40] in html
    assert 'data-figure="sign_generator" data-model="published"' in html


def test_a_readers_own_model_and_what_does_not_fit(model: GaussianDiffusion) -> None:
    own = untrained(**SMALL, num_classes=2)
    figure = SignGenerator(own, few())
    assert 'data-model="own"' in figure.to_html()
    assert repr(figure) == "<SignGenerator>"
    assert figure.state["initial"]["label"] == 0
    free = SignGenerator(untrained(**SMALL), few()).state
    assert free["classes"] == []
    assert free["initial"]["label"] is None
    for arguments, message in (
        ((None, few()), "Pass the model that belongs to the images"),
        ((torch.nn.Linear(2, 2),), r"needs a gentext\.diffusion\.GaussianDiffusion, not Linear"),
        ((own,), "Glyphs come in 32 and 64 pixels, the model takes 8"),
        ((own, few(side=16)), "takes images of 8 pixels, the given ones have 16"),
        ((own, few(classes=3)), "knows 2 classes, the images have 3"),
        ((untrained(**SMALL, channels=3), few()), "the model makes 3 channels"),
    ):
        with pytest.raises(ValueError, match=message):
            SignGenerator(*arguments)


def test_without_the_books_weights_it_says_how_to_train_them(monkeypatch: pytest.MonkeyPatch) -> None:
    SignGenerator.published.__func__.cache_clear()
    monkeypatch.setattr(denoiser.zoo, "names", list)
    with pytest.raises(ValueError, match="gentext train diffusion-glyphs"):
        SignGenerator()


def test_the_kernels_bundle_holds_all_parts() -> None:
    bundle = front.bundle("sign_generator")
    assert "import {" not in bundle
    for part in ("function* walk", "function createRestoration", "function createWalker", "function levelChart"):
        assert bundle.count(part) == 1


# ---- Chromium --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(contents: Contents) -> dict:
    return {SignGenerator: contents}


@pytest.fixture
def page(open_page):
    """The figure on a phone's page, which it must not overflow."""
    opened = open_page("sign_generator.html", viewport={"width": 390, "height": 1600})
    yield opened
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def counts(page) -> Counter:
    return Counter(page.evaluate("window.answers.map((answer) => answer.network)"))


def generate(page) -> None:
    """Press the button and wait for sixteen signs."""
    role(page, "play").first.click()
    page.wait_for_function("document.querySelector('[data-role=play]').textContent.startsWith('Generate')")


@pytest.mark.slow
def test_one_sign_follows_the_controls_and_the_page_computes_what_the_package_does(page, contents: Contents) -> None:
    role(page, "steps").fill("6")
    settle(page)
    assert counts(page) == {"plan": 1, "noise": 1, "denoiser": 6, "sample": 1}
    before = pictures(page)
    for sampler in SAMPLERS:
        page.locator(f"[data-role=sampler][value='{sampler}']").check(force=True)
        settle(page)
    for guidance in ("0", "1", "4.25"):
        role(page, "guidance").fill(guidance)
        settle(page)
    role(page, "script").select_option("3")
    settle(page)
    role(page, "script").select_option("-1")
    settle(page)
    assert role(page, "guidance").is_disabled()
    assert "not told the script" in role(page, "plan").inner_text()
    role(page, "seed").fill("17")
    settle(page)
    after = pictures(page)
    assert all(after[name] != before[name] for name in ("guess", "noisy"))
    assert counts(page)["sample"] == 11
    asked = {answer["network"] for answer in compare(page, contents)}
    assert asked == {"plan", "noise", "denoiser", "sample"}


@pytest.mark.slow
def test_the_sixteen_it_opens_with_are_those_it_generates(open_page, contents: Contents) -> None:
    page = open_page("sign_generator.html")
    page.evaluate("window.counting = true")
    ink = "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
    role(page, "sixteen").evaluate(f"(c) => {{ window.before = ({ink})(c); }}")
    generate(page)
    gap = role(page, "sixteen").evaluate(
        f"(c) => ({ink})(c).reduce((m, v, i) => Math.max(m, Math.abs(v - before[i])), 0)"
    )
    assert gap <= 8, "of 255: the browser's rounding and the grey levels of the stored pictures"
    assert role(page, "film").input_value() == "20"
    assert "640 of 640 questions" in role(page, "counted").inner_text()


@pytest.mark.slow
def test_signs_form_can_be_stopped_and_looked_at_step_by_step(page, contents: Contents) -> None:
    page.evaluate("window.counting = true")
    role(page, "steps").fill("50")
    assert role(page, "film").is_disabled()
    role(page, "play").first.click()
    page.wait_for_function("document.querySelector('[data-role=caption]').textContent.includes('step 2 of 50')")
    role(page, "play").first.click()
    assert role(page, "play").first.inner_text() == "Generate 16 signs"
    settle(page)
    done = counts(page)["denoiser"]
    page.wait_for_timeout(300)
    assert counts(page)["denoiser"] == done, "it was told to stop"
    seen = set()
    for step in ("0", "1", "2"):
        role(page, "film").fill(step)
        seen |= {picture(page, "sixteen"), picture(page, "noisy")}
    page.locator("[data-role=view][value=x]").check(force=True)
    seen.add(picture(page, "sixteen"))
    role(page, "sixteen").press("ArrowDown")
    seen |= {picture(page, "sixteen"), picture(page, "noisy")}
    assert len(seen) == 9
    role(page, "seed").fill("9")
    assert "Made with other settings." in role(page, "caption").inner_text()
    role(page, "seed").fill("1")
    assert "Made with other settings." not in role(page, "caption").inner_text()


@pytest.mark.slow
def test_a_change_of_the_settings_stops_the_sixteen(page) -> None:
    page.evaluate("window.counting = true")
    role(page, "play").first.click()
    page.wait_for_function("window.answers.filter((answer) => answer.network === 'denoiser').length >= 3")
    role(page, "steps").fill("7")
    assert role(page, "play").first.inner_text() == "Generate 16 signs"
    settle(page)
    assert "Made with other settings." in role(page, "caption").inner_text()
    assert counts(page)["sample"] == 1, "one sign with the new settings"


@pytest.mark.slow
def test_the_chosen_sign_alone_is_the_one_of_the_sixteen(page) -> None:
    role(page, "steps").fill("5")
    page.locator("[data-role=sampler][value=ancestral]").check(force=True)
    for key in ("ArrowRight", "ArrowDown"):
        role(page, "sixteen").press(key)
    settle(page)
    alone = page.evaluate("window.answers.filter((answer) => answer.network === 'denoiser').at(-1).outputs.x0.values")
    generate(page)
    answers = page.evaluate("window.answers.filter((answer) => answer.network === 'denoiser').slice(-16)")
    calls, found = [answer["outputs"]["x0"]["values"] for answer in answers], []
    while len(found) < 16:  # the last step's calls, each of some signs, told the script and not told
        found = [*np.array(calls.pop()).reshape(2, -1, 1024).swapaxes(0, 1), *found]
    assert np.abs(found[5] - np.array(alone).reshape(2, 1024)).max() < 1e-3


@pytest.mark.slow
def test_a_sign_is_damaged_and_restored(page, contents: Contents) -> None:
    restore = page.locator("[data-what=restore]")
    role(page, "restore-steps").fill("5")
    role(page, "resample").fill("3")
    assert "15 questions to the network" in role(page, "restoration-plan").inner_text()
    blank = picture(page, "restored")
    restore.click()
    settle(page)
    assert picture(page, "restored") != blank
    assert "attempt 1 differs" in role(page, "verdict").inner_text()
    first = picture(page, "restored")
    restore.click()
    settle(page)
    assert picture(page, "restored") != first, "another attempt, another noise"
    role(page, "random").click()
    assert picture(page, "restored") == blank
    role(page, "reset").click()
    assert restore.is_disabled()
    eraser = role(page, "eraser")
    for key in ("Space", "Shift+ArrowLeft", "Space"):
        eraser.press(key)
    gone = role(page, "restoration-plan").inner_text().split()[0]
    eraser.scroll_into_view_if_needed()
    box = eraser.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.up()
    assert int(role(page, "restoration-plan").inner_text().split()[0]) > int(gone) + 50
    page.locator("[data-role=told][value=picture]").check(force=True)
    restore.click()
    settle(page)
    answers = compare(page, contents)
    found = [answer for answer in answers if answer["network"] == "restore"]
    assert [len(answer["inputs"]["told"]["values"]) > 0 for answer in found] == [True, True, False]
    last = found[-1]
    known = np.array(last["inputs"]["known"]["values"]) > 0
    ink = np.array(last["outputs"]["x"]["values"])[-1024:]
    assert np.array_equal(ink[known], np.array(last["inputs"]["picture"]["values"])[known])
    role(page, "restore-steps").fill("50")
    restore.click()
    page.wait_for_function("window.__gentextLive.pending > 0")
    restore.click()
    assert restore.inner_text() == "Restore again"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_is_wrong_for_a_screen_reader(open_page, theme: str) -> None:
    page = open_page("sign_generator.html", viewport={"width": 390, "height": 1600})
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    assert not serious(page)
    page.evaluate("window.counting = true")
    role(page, "play").first.click()
    page.wait_for_function("document.querySelector('[data-role=caption]').textContent.includes('step 2 of')")
    assert not serious(page)


@pytest.mark.slow
def test_in_a_notebook_python_answers(open_page) -> None:
    page = open_page("kernel.html", ready=False)
    own = untrained(**SMALL)
    contents = sign_generator.contents(own, few())
    run_in_kernel(page, "sign_generator", contents.state, contents.networks)
    assert role(page, "script").count() == 0
    role(page, "steps").fill("5")
    settle(page)
    page.locator("[data-what=restore]").click()
    settle(page)
    asked = {answer["network"] for answer in compare(page, contents)}
    assert asked == {"plan", "noise", "denoiser", "sample", "restore"}
