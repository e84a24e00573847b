"""The worker that runs a page's networks: it leaves the page free, and it can be lost and found again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gentext.live import LatentExplorer, latent_explorer
from gentext.live.network import Network
from gentext.live.onnx_file import export_network
from gentext.vae import VAE, VAEConfig
from live_tools import compare, settle, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def contents():
    torch.manual_seed(0)
    return latent_explorer.contents({"model": VAE(VAEConfig(network="mlp", hidden=(24,), latent_dim=4)).eval()}, None)


@pytest.fixture(scope="module")
def figures(contents):
    return {LatentExplorer: contents}


class Slow(nn.Module):
    """Squares a matrix again and again: seconds of work, and no weights to fetch."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(40):
            x = (x @ x).softmax(-1)
        return x


@pytest.fixture(scope="module")
def slow(site) -> int:
    """The size of the file of a slow network beside the figure's own."""
    path = export_network(
        Path(site.root) / "_static" / "live" / "slow" / "slow.onnx", Network(Slow(), {"x": (320, 320)}, ("y",))
    )
    return path.stat().st_size


OPEN = """async (bytes) => {
    const { openNetworks } = await import(new URL("_static/live/runtime.mjs", location));
    const run = openNetworks(new URL("_static/live/slow/", location), { slow: bytes }, () => {});
    const values = (size) => new Float32Array(size * size).fill(0.5);
    window.ask = (size) => run("slow", { x: { shape: [1, size, size], values: values(size) } });
    await window.ask(320); // the network has come
}"""
WATCH = """async () => {
    const gaps = [];
    let last = performance.now();
    let frame = requestAnimationFrame(function tick() {
        gaps.push(performance.now() - last);
        last = performance.now();
        frame = requestAnimationFrame(tick);
    });
    const begun = performance.now();
    const [first, second] = await Promise.all([window.ask(320), window.ask(320)]);
    const took = performance.now() - begun;
    cancelAnimationFrame(frame);
    return { took, frames: gaps.length, longest: Math.max(...gaps), shape: second.y.shape,
        sum: second.y.values.reduce((a, b) => a + b), apart: first.y.values.buffer !== second.y.values.buffer };
}"""


def test_the_page_goes_on_while_a_network_runs(open_page, slow):
    page = open_page("latent_explorer.html")
    page.evaluate(OPEN, slow)
    seen = page.evaluate(WATCH)
    print(
        f"{seen['took']:.0f} ms of work, {seen['frames']} frames, the longest wait between two {seen['longest']:.0f} ms"
    )
    assert seen["shape"] == [1, 320, 320]
    assert seen["sum"] == pytest.approx(320, rel=1e-4), "rows of a softmax"
    assert seen["apart"]
    assert seen["took"] > 200, "too short to tell anything"
    assert seen["longest"] < seen["took"] / 3
    assert seen["frames"] > seen["took"] / 200


def test_one_worker_serves_all_and_what_is_asked_of_it_stays_the_askers(open_page, slow):
    page = open_page("latent_explorer.html")
    page.locator("[data-role=latent]").first.press("End")
    settle(page)
    page.evaluate(OPEN, slow)
    assert len(page.workers) == 1
    kept = page.evaluate(
        """async () => {
            const all = new Float32Array(2 * 320 * 320).fill(0.5);
            const half = all.subarray(320 * 320);
            const { openNetworks } = await import(new URL("_static/live/runtime.mjs", location));
            const run = openNetworks(new URL("_static/live/slow/", location), { slow: 1 }, () => {});
            await run("slow", { x: { shape: [1, 320, 320], values: half } });
            const two = { shape: [1, 2, 2], values: new Float32Array(4) };
            const wrong = await run("slow", { x: two }).catch((error) => error.message);
            const none = await run("quick", {}).catch((error) => error.message);
            return { length: all.length, value: half[0], wrong, none };
        }"""
    )
    assert kept["length"] == 2 * 320 * 320
    assert kept["value"] == 0.5
    assert "320" in kept["wrong"]
    assert kept["none"] == "There is no network quick for this figure."
    page.locator("[data-role=latent]").first.press("Home")
    settle(page)
    assert len(page.workers) == 1


@pytest.mark.parametrize("missing", ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.wasm", "runtime_worker.mjs"])
def test_a_runtime_that_does_not_come_is_reported_and_a_later_touch_recovers(open_page, contents, missing):
    page = open_page("latent_explorer.html", tolerate="404|ERR_|wasm|[Ww]orker|Failed|[Aa]bort|falling back")
    page.route(f"**/{missing}", lambda route: route.fulfill(status=404))
    page.locator("[data-role=latent]").first.press("Home")
    wait_for(page, "error")
    assert len(page.locator(".gl-status").inner_text()) > 10
    page.unroute(f"**/{missing}")
    page.locator("[data-role=latent]").first.press("End")
    wait_for(page, "live")
    assert page.locator(".gl-status").inner_text() == ""
    assert compare(page, contents)


def test_a_worker_that_dies_is_replaced(open_page, contents):
    page = open_page("latent_explorer.html", tolerate="lost")
    page.evaluate(
        """() => {
            const Real = window.Worker;
            window.made = [];
            window.Worker = class extends Real { constructor(...given) { super(...given); window.made.push(this); } };
        }"""
    )
    slider = page.locator("[data-role=latent]").first
    slider.press("End")
    settle(page)
    page.evaluate("window.made[0].dispatchEvent(new ErrorEvent('error', { message: 'The worker was lost.' }))")
    slider.press("Home")
    settle(page)
    assert page.locator(".gl-status").inner_text() == ""
    assert page.evaluate("window.made.length") == 2
    assert compare(page, contents)
