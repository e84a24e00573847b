"""The live figures in Chromium: on a served page with our browser host, and in the kernel's way with Python answering.

Small untrained models stand in for the zoo's; `tests/test_pages.py` looks at the built book.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page

from gentext.autoencoder import Autoencoder, AutoencoderConfig
from gentext.live import EmbeddingMap, LatentExplorer, embedding_map, latent_explorer, protocol
from gentext.vae import VAE, VAEConfig
from live_tools import compare, fetched, newest, picture, pictures, run_in_kernel, settle, wait_for, write_page
from page_tools import serious

pytestmark = pytest.mark.slow


def loud(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """An untrained model whose output changes visibly with its input, with weights that float16 holds."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        scale = 2.5 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.1
        parameter.data = (scale * torch.randn(parameter.shape, generator=generator)).half().float()
    return model.eval()


@pytest.fixture(scope="module")
def contents():
    from gentext import data

    classes = len(data.load("glyphs", "test").label_names)
    vae = {"network": "mlp", "hidden": (24,), "latent_dim": 10}
    models = {
        "β = 0.5": loud(VAE(VAEConfig(**vae, beta=0.5)), 1),
        "β = 1": loud(VAE(VAEConfig(**vae)), 2),
        "told the script": loud(VAE(VAEConfig(**vae, num_classes=classes)), 3),
    }
    autoencoders = {
        kind: [loud(Autoencoder(AutoencoderConfig(network=net, hidden=(24,), latent_dim=k)), k) for k in (2, 4)]
        for kind, net in (("nonlinear", "mlp"), ("linear", "linear"))
    }
    return {
        "latent_explorer": latent_explorer.contents(models, None),
        "embedding_map": embedding_map.contents(autoencoders, None),
    }


@pytest.fixture(scope="module")
def figures(contents):
    return {LatentExplorer: contents["latent_explorer"], EmbeddingMap: contents["embedding_map"]}


@pytest.fixture(scope="module")
def far(site):
    """The name of a page whose figure is far down."""
    page = (site.root / "latent_explorer.html").read_text(encoding="utf-8")
    (site.root / "far.html").write_text(page.replace("height: 0px", "height: 5000px"), encoding="utf-8")
    return "far.html"


# ---- before and at the first touch ----


@pytest.mark.parametrize("name", ["latent_explorer", "embedding_map"])
def test_nothing_heavy_is_fetched_before_the_first_touch(open_page, name):
    page = open_page(f"{name}.html")
    sizes = {}
    page.on("response", lambda response: sizes.update({response.url: len(response.body())}))
    page.reload()
    wait_for(page, "ready")
    page.wait_for_timeout(500)
    assert not [url for url in sizes if "/ort/" in url or url.endswith(".onnx")]
    assert sum(size for url, size in sizes.items() if url.endswith(("js", "json"))) < 300_000
    assert page.locator(".gentext-poster").count() == 0
    assert len(set(pictures(page).values())) > 1  # it shows something before any network has run
    assert page.evaluate("window.__gentextLive") is None


def test_a_figure_far_down_the_page_waits(open_page, far):
    page = open_page(far, ready=False)
    page.wait_for_timeout(500)
    assert page.locator('.gentext-live[data-state="poster"]').count() == 1
    assert not [url for url in fetched(page) if "latent_explorer" in url and not url.endswith(".html")]
    page.locator(".gentext-live").scroll_into_view_if_needed()
    wait_for(page, "ready")


def test_opened_as_a_file_the_figure_is_a_picture_that_says_why(open_page, site):
    address = (site.root / "latent_explorer.html").as_uri()
    page = open_page(address, ready=False, tolerate="CORS|ERR_FAILED|origin")
    page.wait_for_timeout(300)
    assert page.locator(".gentext-poster").is_visible()
    assert "http" in page.locator(".gentext-live-note").inner_text()


# ---- numbers ----


def test_the_browser_agrees_with_torch(open_page, contents):
    page = open_page("latent_explorer.html")
    page.locator("[data-role=latent]").first.press("ArrowRight")
    wait_for(page, "live")
    for act in (
        lambda: page.get_by_role("button", name="Random").click(),
        lambda: page.locator("[data-role=beta]").press("ArrowLeft"),
        lambda: page.get_by_label("between two signs").check(),
        lambda: page.get_by_label("picture and script").check(),
    ):
        act()
        settle(page)
    called = {answer["network"] for answer in compare(page, contents["latent_explorer"])}
    assert {"decoder-0", "decoder-1", "encoder-2", "decoder-2"} <= called


def test_the_first_picture_is_what_the_network_would_draw(open_page, contents):
    """Before the first touch the figure shows an answer that came with the page: the network must give the same."""
    page = open_page("latent_explorer.html")
    before = picture(page, "decoded")
    page.locator("[data-role=sign-next]").click()
    settle(page)
    assert picture(page, "decoded") != before
    sign = contents["latent_explorer"].state["initial"]["sign"]
    page.locator("[data-role=sign]").select_option(str(sign))
    settle(page)
    image = newest(page)["outputs"]["image"]["values"]
    initial = protocol.decode_array(contents["latent_explorer"].state["initial"]["image"]).flatten()
    assert np.abs(np.array(image) - initial.numpy()).max() < 1e-4


def test_the_map_decodes_where_the_cursor_is(open_page, contents):
    page = open_page("embedding_map.html")
    box = page.locator("[data-role=map]").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    settle(page)
    call = compare(page, contents["embedding_map"])[-1]
    assert call["network"] == "nonlinear-2-decoder"
    (x_low, x_high), (y_low, y_high) = contents["embedding_map"].state["maps"]["nonlinear"]["range"]
    margin = 34
    side = box["width"] - margin
    expected = [
        x_low + (0.75 * box["width"] - margin) / side * (x_high - x_low),
        y_low + (side - 0.25 * box["height"]) / side * (y_high - y_low),
    ]
    assert np.abs(np.array(call["inputs"]["h"]["values"]) - expected).max() < 0.02 * (x_high - x_low)


def test_squared_errors_are_those_of_torch(open_page, contents):
    page = open_page("embedding_map.html")
    page.locator("[data-role=bottleneck]").press("End")
    settle(page)
    shown = contents["embedding_map"]
    packed = shown.state["signs"]["images"]
    sign = shown.state["initial"]["sign"]
    pixels = unpacked(packed)[sign]
    for kind in ("linear", "nonlinear"):
        h = shown.networks[f"{kind}-4-encoder"].run({"x": pixels[None, None]})["h"]
        error = float((shown.networks[f"{kind}-4-decoder"].run({"h": h})["image"] - pixels).square().sum())
        found = float(page.locator(f"[data-role=error-{kind}]").inner_text().replace("−", "-"))
        assert found == pytest.approx(error, abs=0.06 if error < 100 else 0.6)
    label = page.locator("[data-role=errors]").get_attribute("aria-label")
    assert re.search(r"Non-linear: 2 numbers [\d.]+, 4 numbers [\d.]+", label)


def unpacked(packed: dict) -> torch.Tensor:
    import base64
    import zlib

    pixels = np.frombuffer(zlib.decompress(base64.b64decode(packed["deflate"])), np.uint8).reshape(packed["shape"])
    return torch.from_numpy(pixels.astype(np.float32) / packed["levels"])


# ---- every control, by keyboard and by mouse ----


def changes(page: Page, act) -> set[str]:
    """The roles of the pictures that differ after `act`."""
    before = pictures(page)
    act()
    settle(page)
    after = pictures(page)
    return {role for role in after if after[role] != before.get(role)}


def test_every_control_of_the_explorer_changes_the_picture(open_page):
    page = open_page("latent_explorer.html")
    keyboard = page.keyboard

    def press(role, key):
        def act():
            page.locator(f"[data-role={role}]:visible").first.focus()
            keyboard.press(key)

        return act

    for index in range(10):  # each latent, by keyboard
        assert "decoded" in changes(
            page, lambda index=index: page.locator("[data-role=latent]").nth(index).press("Home")
        )
    track = page.locator("[data-role=latent]").nth(3).bounding_box()
    assert "decoded" in changes(
        page, lambda: page.mouse.click(track["x"] + 0.9 * track["width"], track["y"] + track["height"] / 2)
    )
    for role in ("random", "reset"):
        assert "decoded" in changes(page, press(role, "Enter"))
    assert {"decoded", "source"} <= changes(page, press("sign-next", "Enter"))
    assert {"decoded", "source"} <= changes(page, press("sign-script", "ArrowDown"))
    assert {"decoded", "source"} <= changes(
        page, lambda: page.locator("[data-role=sign-script]").select_option(label="Cuneiform")
    )
    assert {"decoded", "source"} <= changes(page, press("sign", "ArrowDown"))
    assert "decoded" in changes(page, press("beta", "Home"))
    assert {"source", "pad"} <= changes(page, press("origin", "ArrowRight"))  # an empty pad: the code stays
    assert {"decoded", "source", "pad"} <= changes(page, lambda: draw_by_keyboard(page))
    assert "decoded" in changes(page, lambda: page.get_by_label("between two signs").check())
    for role in ("mix", "from-script", "to-script"):
        assert "decoded" in changes(page, press(role, "ArrowDown"))
    for role in ("from", "to"):
        page.locator(f"[data-role={role}-script]").select_option(label="Cuneiform")
        settle(page)
        assert {"decoded", f"{role}-picture"} <= changes(page, press(role, "ArrowDown"))
        assert "decoded" in changes(page, press(f"{role}-next", "Enter"))
    assert "decoded" in changes(page, lambda: page.get_by_label("picture and script").check())
    assert "decoded" in changes(page, press("class", "ArrowUp"))


def draw_by_keyboard(page: Page) -> None:
    pad = page.locator("[data-role=pad]")
    pad.focus()
    for key in ("ArrowLeft", "Space", *["Shift+ArrowUp"] * 3, *["ArrowRight"] * 5, "Space"):
        page.keyboard.press(key)


def test_play_walks_from_one_sign_to_the_other_until_paused(open_page):
    page = open_page("latent_explorer.html")
    page.get_by_label("between two signs").check()
    settle(page)
    page.get_by_role("button", name="Play").click()
    first = picture(page, "decoded")
    page.wait_for_function("(first) => document.querySelector('[data-role=decoded]').toDataURL() !== first", arg=first)
    page.get_by_role("button", name="Pause").click()
    settle(page)
    still = picture(page, "decoded")
    page.wait_for_timeout(400)
    assert picture(page, "decoded") == still


def test_every_control_of_the_map_changes_the_picture(open_page):
    page = open_page("embedding_map.html")
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowLeft", "Shift+ArrowDown"):
        assert {"map", "map-decoded"} <= changes(page, lambda key=key: page.locator("[data-role=map]").press(key))
    for role in ("h1", "h2"):
        assert {"map", "map-decoded"} <= changes(
            page, lambda role=role: page.locator(f"[data-role={role}]").press("PageUp")
        )
    assert {"map", "map-decoded"} <= changes(page, lambda: page.get_by_label("Linear", exact=True).check())
    assert "map" in changes(page, lambda: page.locator("[data-role=highlight]").press("ArrowDown"))
    assert "map" in changes(page, lambda: page.locator("[data-role=ground]").press("Space"))
    assert page.evaluate("window.__gentextLive.last.inputs.h.shape") == [12, 2]
    copies = {"reconstruction-linear", "reconstruction-nonlinear"}
    assert copies <= changes(page, lambda: page.locator("[data-role=bottleneck]").press("ArrowRight"))
    for role, key in (("sign-script", "ArrowUp"), ("sign-next", "Enter")):
        found = changes(page, lambda role=role, key=key: page.locator(f"[data-role={role}]").press(key))
        assert copies | {"input", "map"} <= found  # the map too: it marks the sign
    page.locator("[data-role=sign-script]").select_option(label="Cuneiform")
    settle(page)
    assert copies | {"input"} <= changes(page, lambda: page.locator("[data-role=sign]").press("ArrowDown"))
    page.locator("[data-role=origin]:checked").press("ArrowRight")
    settle(page)
    assert copies | {"input", "pad", "map"} <= changes(page, lambda: draw_by_keyboard(page))


# ---- drawing ----


def test_a_drawing_by_mouse_becomes_a_centred_sign(open_page):
    page = open_page("latent_explorer.html")
    page.get_by_label("your drawing").check()
    box = page.locator("[data-role=pad]").bounding_box()
    # A short vertical stroke in a corner: it must come out in the middle, enlarged.
    x, y = box["x"] + 0.2 * box["width"], box["y"] + 0.1 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 0.3 * box["height"], steps=6)
    page.mouse.up()
    settle(page)
    drawn = page.evaluate(
        """() => { const c = document.querySelector("[data-role=source]");
            return [...c.getContext("2d").getImageData(0, 0, 32, 32).data].filter((_, i) => i % 4 === 3); }"""
    )
    ink = np.array(drawn).reshape(32, 32) / 255
    rows, columns = np.nonzero(ink > 0.5)
    assert abs(rows.mean() - 15.5) < 0.6
    assert abs(columns.mean() - 15.5) < 0.6
    assert 22 <= np.ptp(rows) + 1 <= 27
    assert np.ptp(columns) + 1 <= 4
    assert "1 stroke" in page.locator("[data-role=pad]").get_attribute("aria-label")
    page.get_by_role("button", name="Undo").click()
    assert "empty" in page.locator("[data-role=pad]").get_attribute("aria-label")


def test_a_finger_draws_too(open_page):
    page = open_page("latent_explorer.html", has_touch=True, viewport={"width": 390, "height": 800})
    page.get_by_label("your drawing").check()
    pad = page.locator("[data-role=pad]")
    pad.scroll_into_view_if_needed()
    assert pad.evaluate("(element) => getComputedStyle(element).touchAction") == "none"
    box = pad.bounding_box()
    page.touchscreen.tap(box["x"] + 60, box["y"] + 60)
    settle(page)
    assert "1 stroke" in pad.get_attribute("aria-label")


# ---- many requests, failures ----


def test_a_drag_never_queues_and_ends_on_its_last_value(open_page):
    page = open_page("latent_explorer.html")
    first = page.locator("[data-role=latent]").first
    first.press("Home")
    settle(page)
    before = page.evaluate("window.__gentextLive.calls")
    page.evaluate(
        """() => { const slider = document.querySelector("[data-role=latent]");
            for (let step = 0; step <= 100; step++) {
                slider.value = -3 + 0.06 * step;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
            } }"""
    )
    settle(page)
    assert page.evaluate("window.__gentextLive.calls") - before <= 3
    call = newest(page)
    assert max(call["inputs"]["z"]["values"]) == pytest.approx(3)
    assert call["milliseconds"] < 2000


def test_a_missing_network_is_reported_and_a_later_touch_recovers(open_page):
    page = open_page("latent_explorer.html", tolerate="404|ERR_ABORTED")
    page.route("**/decoder-1.onnx", lambda route: route.fulfill(status=404))
    page.locator("[data-role=latent]").first.press("Home")
    wait_for(page, "error")
    assert "decoder-1.onnx could not be loaded (404)" in page.locator(".gl-status").inner_text()
    page.unroute("**/decoder-1.onnx")
    page.locator("[data-role=latent]").first.press("End")
    wait_for(page, "live")
    assert page.locator(".gl-status").inner_text() == ""


def test_without_its_files_the_figure_stays_a_picture(open_page, far):
    page = open_page(far, ready=False, tolerate="404|ERR_ABORTED")
    page.route("**/state.json", lambda route: route.fulfill(status=404))
    page.locator(".gentext-live").scroll_into_view_if_needed()
    wait_for(page, "error")
    assert page.locator(".gentext-poster").is_visible()
    assert "state.json answered 404" in page.locator(".gentext-live-note").inner_text()


# ---- for everybody ----


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["latent_explorer", "embedding_map"])
def test_axe_finds_nothing_serious(open_page, name, theme):
    page = open_page(f"{name}.html")
    page.evaluate(f"document.documentElement.dataset.theme = {theme!r}")
    for origin in page.locator("[data-role=origin]").all():  # each panel in turn
        origin.check()
        settle(page)
        assert not serious(page)


@pytest.mark.parametrize("name", ["latent_explorer", "embedding_map"])
def test_nothing_overflows_a_phone(open_page, name):
    page = open_page(f"{name}.html", viewport={"width": 390, "height": 800})
    for origin in page.locator("[data-role=origin]").all():
        origin.check()
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not page.evaluate(
            """[...document.querySelectorAll(".gl *")].filter((e) => e.offsetParent && !e.closest(".gl-hidden")
                && e.getBoundingClientRect().right > 390).map((e) => e.outerHTML.slice(0, 80))"""
        )
    for control in page.locator(".gl button:visible, .gl select:visible").all():
        assert control.bounding_box()["height"] >= 24  # large enough for a finger (WCAG 2.2, 2.5.8)


def test_on_a_phone_the_picture_stays_in_sight_of_the_pad(open_page):
    page = open_page("latent_explorer.html", viewport={"width": 390, "height": 760})
    page.get_by_label("your drawing").check()
    page.locator("[data-role=pad-clear]").scroll_into_view_if_needed()
    tops = page.evaluate(
        """["decoded", "pad"].map((role) => {
            const { top, bottom } = document.querySelector(`[data-role=${role}]`).getBoundingClientRect();
            return [top, bottom];
        })"""
    )
    assert all(0 <= top < bottom <= 760 for top, bottom in tops)


def test_pictures_follow_the_theme(open_page):
    page = open_page("latent_explorer.html")
    light = pictures(page)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(
        "(light) => document.querySelector('[data-role=decoded]').toDataURL() !== light", arg=light["decoded"]
    )
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_function(
        "(light) => document.querySelector('[data-role=decoded]').toDataURL() === light", arg=light["decoded"]
    )


def test_a_picture_says_in_words_what_it_shows(open_page):
    page = open_page("latent_explorer.html")
    page.get_by_role("button", name="Random").click()
    settle(page)
    assert "most like the test sign" in page.locator("[data-role=decoded]").get_attribute("aria-label")
    page.wait_for_function("document.querySelector('[aria-live]').textContent.startsWith('Decoded: most like')")
    text = page.locator("[data-role=latent]").first.get_attribute("aria-valuetext")
    assert re.fullmatch(r"−?[\d.]+ standard deviations, KL [\d.]+ nats", text)


# ---- the kernel's way: the same front end, bundled, answered by Python ----


@pytest.mark.parametrize("name", ["latent_explorer", "embedding_map"])
def test_python_answers_the_bundled_front_end(open_page, contents, name):
    found = contents[name]
    page = open_page("kernel.html", ready=False)
    run_in_kernel(page, name, found.state, found.networks)
    assert page.locator("main").get_attribute("data-state") == "ready"
    role = {"latent_explorer": "latent", "embedding_map": "map"}[name]
    page.locator(f"[data-role={role}]").first.press("ArrowRight")
    page.wait_for_selector('main[data-state="live"]')
    assert compare(page, found, tolerance=1e-6)
    assert page.evaluate("window.listeners.size") == 1
    page.evaluate("window.closeFigure()")
    assert page.evaluate("window.listeners.size") == 0


# ---- plotly plots ----


def test_a_plot_is_drawn_at_the_first_touch(open_page, site):
    plotly = pytest.importorskip("plotly")
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    if not script.is_file():
        pytest.skip("this plotly ships no plotly.min.js")
    (site.root / "_static" / "plotly").mkdir(exist_ok=True)
    shutil.copyfile(script, site.root / "_static" / "plotly" / "plotly.min.js")
    figure = (
        '<div class="gentext-plotly"><img alt="A line that rises." src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">'
        '<script type="application/json">{"data": [{"x": [1, 2], "y": [1, 3]}], "layout": {"title": {"text": "Rise"}}}'
        "</script></div>"
    )
    write_page(site.root, "plot", figure)
    page = open_page("plot.html", ready=False)
    button = page.get_by_role("button", name="Make this plot interactive")
    button.wait_for()
    assert not [url for url in fetched(page) if "plotly" in url]
    button.press("Enter")
    page.wait_for_selector('.gentext-plotly[data-state="live"] .main-svg')
    assert page.locator(".gentext-plotly img").count() == 0
    assert page.get_by_label("A line that rises.").count() == 1
