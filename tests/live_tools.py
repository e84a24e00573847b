"""What the browser tests of the live figures stand on: a served page for each figure, and a recorder of its answers."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

import pytest
import torch
from playwright.sync_api import Browser, Locator, Page

from gentext.live import FIGURES, front, protocol
from gentext.live.base import Contents, LiveFigure
from gentext.live.export import export_all
from gentext.live.network import Network
from page_tools import ROOT, Visit

TIMEOUT = 90_000  # milliseconds; a busy machine compiles 14 MB of WebAssembly slowly
RUNTIME = [ROOT / "book" / "vendor" / "_static" / "ort", ROOT / "node_modules" / "onnxruntime-web" / "dist"]
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{name}</title>
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ margin: 0 }} main {{ max-width: 44rem; margin: auto; padding: 0 1rem }} nav a {{ color: inherit }}
html[data-theme="dark"] {{ background: #14171b; color: #ddd }}</style></head>
<body><main><h1>{name}</h1><p>Before.</p><div style="height: 0px"></div>{figure}<p>After.</p></main>
<script type="module" src="_static/live/host.mjs"></script></body></html>"""
EMPTY = '<!doctype html><html lang="en"><title>kernel</title><link rel="icon" href="data:,"><body></body></html>'


# ---- the pages -------------------------------------------------------------------------------------------------------


class Site(NamedTuple):
    """A served folder."""

    root: Path
    address: str


def write_page(root: Path, name: str, figure: str) -> None:
    """Write `name`.html: a figure's HTML on a page that starts it."""
    (root / f"{name}.html").write_text(PAGE.format(name=name, figure=figure), encoding="utf-8")


def lay_out(root: Path, figures: Mapping[type[LiveFigure], Contents]) -> None:
    """What `gentext export` and the book's build make of these figures, as if the contents were the published ones."""
    if any(contents.networks for contents in figures.values()):
        runtime = next((folder for folder in RUNTIME if (folder / RUNTIME_FILES[0]).is_file()), None)
        if runtime is None:
            pytest.skip("onnxruntime-web is not here; `make book` or `npm ci` fetches it")
        (root / "_static" / "ort").mkdir(parents=True)
        for name in RUNTIME_FILES:
            shutil.copyfile(runtime / name, root / "_static" / "ort" / name)
    with pytest.MonkeyPatch.context() as patch:
        for figure, contents in figures.items():
            patch.setitem(FIGURES, figure.figure, figure)
            patch.setattr(figure, "published", classmethod(lambda cls, contents=contents: contents))
        export_all(root / "_static" / "live", [figure.figure for figure in figures])
        for figure in figures:
            write_page(root, figure.figure, figure().to_html())
    (root / "kernel.html").write_text(EMPTY, encoding="utf-8")


# ---- what happens on them --------------------------------------------------------------------------------------------

# Every answer of every figure, with `wait`, the milliseconds since the reader's last touch (where `window.counting`,
# only its name: whoever generates a lot makes megabytes). And whether anything is still to come: a call, a timer.
RECORD = """(() => {
    window.answers = [];
    window.asked = 0;
    for (const kind of ["input", "change", "click", "keydown", "pointerdown"])
        addEventListener(kind, () => { window.asked ||= performance.now(); }, { capture: true });
    const plain = (arrays) => Object.fromEntries(
        Object.entries(arrays).map(([name, { shape, values }]) => [name, { shape, values: [...values] }]));
    addEventListener("gentext-live", ({ detail: { network, inputs, outputs, milliseconds } }) => {
        window.answers.push(window.counting ? { network } : { network, inputs: plain(inputs), outputs: plain(outputs),
            milliseconds, wait: performance.now() - window.asked });
        window.asked = 0;
    });
    const { setTimeout, clearTimeout, setInterval, clearInterval } = window;
    const timers = new Set();
    window.setTimeout = (work, delay = 0, ...rest) => {
        const id = setTimeout((...given) => { timers.delete(id); work(...given); }, delay, ...rest);
        if (delay <= 500) timers.add(id); // longer ones: the voice, and the patience with a busy kernel
        return id;
    };
    window.clearTimeout = (id) => { timers.delete(id); clearTimeout(id); };
    window.setInterval = (...given) => { const id = setInterval(...given); timers.add(id); return id; };
    window.clearInterval = (id) => { timers.delete(id); clearInterval(id); };
    window.atRest = async () => {
        const begun = performance.now();
        for (let calm = 0; calm < 3; calm = timers.size || window.__gentextLive?.pending ? 0 : calm + 1) {
            await new Promise((go) => requestAnimationFrame(() => setTimeout(go)));
            if (performance.now() - begun > 60_000) throw new Error("The page does not come to rest.");
        }
    };
})()"""


@contextlib.contextmanager
def watched(
    browser: Browser, address: str, *, tolerate: str = "", ready: bool = True, **options: object
) -> Iterator[Page]:
    """An open page, by default with its figures standing, that is found without fault at the end.

    Faults: errors in the console, uncaught exceptions, failed requests (all three but for what `tolerate`, a regular
    expression, finds), requests for another place than the page's own. `options`: those of a browser context.
    """
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    context.add_init_script(RECORD)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    seen = Visit(page, urljoin(address, "."))
    seen.watch()
    try:
        page.goto(address)
        if ready:
            wait_for(page, "ready")
        yield page
        faults = [text for text in seen.errors + seen.failed if not (tolerate and re.search(tolerate, text))]
        assert not faults + seen.outside
    finally:
        context.close()


def wait_for(page: Page, state: str) -> None:
    page.wait_for_selector(f'.gentext-live[data-state="{state}"]')


def settle(page: Page) -> None:
    """Wait until no call is under way and no timer of the figure is about to make one."""
    page.evaluate("window.atRest()")


def fetched(page: Page) -> list[str]:
    """The addresses of all that the page has fetched."""
    return page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")


def role(page: Page, name: str) -> Locator:
    """The part of a figure with that `data-role`."""
    return page.locator(f"[data-role={name}]")


def picture(page: Page, role: str) -> str:
    """What the canvas of that role shows."""
    return page.locator(f'[data-role="{role}"]').evaluate("(canvas) => canvas.toDataURL()")


def pictures(page: Page) -> dict[str, str]:
    """What every visible canvas of the figure shows, by role."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".gl canvas")].filter((c) => c.offsetParent)
            .map((c) => [c.dataset.role, c.toDataURL()]))"""
    )


def newest(page: Page) -> dict:
    """The newest answer."""
    return page.evaluate("window.answers.at(-1)")


# ---- numbers ---------------------------------------------------------------------------------------------------------


def difference(contents: Contents, answer: dict) -> float:
    """The largest difference between an answer of the page and the package's own to the same question.

    Networks are run in float32, as in the browser; what the page computes by itself is computed in float64. Names and
    shapes must be equal. Equal infinities do not differ; a number that is none differs without bound.
    """
    name = answer["network"]
    network = contents.networks.get(name)
    given = tensors(answer["inputs"], torch.float32 if network else torch.float64)
    expected = network.run(given) if network else contents.computed[name](given)
    found = tensors(answer["outputs"], torch.float64)
    assert found.keys() == expected.keys(), name
    worst = 0.0
    for key, wanted in expected.items():
        assert found[key].shape == wanted.shape, f"{name}: {key}"
        if wanted.numel():
            gaps = (found[key] - wanted.double()).abs().masked_fill(found[key] == wanted.double(), 0)
            worst = max(worst, gaps.nan_to_num(nan=torch.inf, posinf=torch.inf).max().item())
    return worst


def tensors(arrays: Mapping[str, dict], kind: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array["values"], dtype=kind).reshape(array["shape"]) for name, array in arrays.items()}


def compare(page: Page, contents: Contents, *, tolerance: float = 1e-4) -> list[dict]:
    """Hold every answer that was recorded against the package; returns them."""
    answers = page.evaluate("window.answers")
    for answer in answers:
        assert difference(contents, answer) <= tolerance, answer["network"]
    return answers


# ---- the kernel's way ------------------------------------------------------------------------------------------------

KERNEL = """async ([source, css, state]) => {
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const { default: widget } = await import(url);
    const listeners = (window.listeners = new Set());
    window.sent = 0;
    const model = {
        get: (name) => (name === "state" ? state : undefined),
        on: (event, listener) => listeners.add(listener),
        off: (event, listener) => listeners.delete(listener),
        send: async (message) => {
            window.sent += 1;
            const reply = await window.askPython(message);
            listeners.forEach((listener) => listener(reply, []));
        },
    };
    const el = document.createElement("main");
    document.body.replaceChildren(el);
    window.closeFigure = await widget.render({ model, el });
}"""


def run_in_kernel(page: Page, figure: str, state: dict, networks: Mapping[str, Network] | None = None) -> None:
    """Draw a figure into the page as a notebook does: from one bundled module, Python answering what it asks."""
    page.expose_function("askPython", lambda message: protocol.answer(networks or {}, message))
    page.evaluate(KERNEL, [front.bundle(figure), front.style(), state])
