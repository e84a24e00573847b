"""`AttentionExplorer`: contents and errors in Python, ONNX against torch, and the figure driven in Chromium."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest
import torch

from gentext import zoo
from gentext.attention_model import AttentionModel, AttentionModelConfig
from gentext.gpt import GPT, GPTConfig
from gentext.live import AttentionExplorer, attention_explorer, front, protocol
from gentext.live.base import Contents
from gentext.tokenizer import BytePairTokenizer, CharTokenizer

LINES = ["the king took the", "one two three, one two"]


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.train("the king took the town; the king sold the town " * 5, 270)


def network(vocab_size: int, **settings: object) -> AttentionModel:
    torch.manual_seed(0)
    model = AttentionModel(AttentionModelConfig(vocab_size=vocab_size, width=32, num_heads=2, context=24, **settings))  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model.eval()


@pytest.fixture(scope="module")
def contents(tokenizer: BytePairTokenizer) -> Contents:
    return attention_explorer.contents(network(tokenizer.vocab_size), tokenizer, LINES, attention_explorer.ALT_OWN)


# ---- Python ----------------------------------------------------------------------------------------------------------


def test_the_state_is_json_and_opens_with_an_answer(contents: Contents, tokenizer: BytePairTokenizer) -> None:
    state = json.loads(json.dumps(contents.state, allow_nan=False))
    row = [state["start"], *tokenizer.encode(LINES[0])]
    assert (state["length"], state["layers"], state["heads"]) == (24, 2, 2)
    weights = protocol.decode_array(state["initial"]["weights"])
    assert weights.shape == (2, 2, len(row), len(row))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, len(row)))
    model = network(tokenizer.vocab_size)
    with torch.no_grad():
        log_probs = model(torch.tensor([row])).log_softmax(-1)[0]
    torch.testing.assert_close(protocol.decode_array(state["initial"]["log_probs"]), log_probs[-1], atol=1e-5, rtol=0)
    nats = -log_probs[torch.arange(len(row) - 1), row[1:]]
    torch.testing.assert_close(protocol.decode_array(state["initial"]["nats"]), nats, atol=1e-5, rtol=0)
    assert [len(trade["scores"]) for trade in state["trades"]] == [4, 4, 4]


def test_the_network_pads_and_ablates(contents: Contents, tokenizer: BytePairTokenizer) -> None:
    asked, row = contents.networks["attention"], tokenizer.encode(LINES[1])
    model = network(tokenizer.vocab_size)
    heads = torch.tensor([1.0, 0, 1, 1])
    answer = attention_explorer.ask(asked, row, 2, heads)
    with torch.no_grad():
        trace = model.trace(torch.tensor([row]), head_mask=heads.view(2, 2))
    count = len(row)
    torch.testing.assert_close(answer["weights"][..., :count, :count], trace.weights, atol=1e-6, rtol=0)
    torch.testing.assert_close(answer["log_probs"][0], trace.logits[0, 2].log_softmax(-1), atol=1e-5, rtol=0)
    whole = attention_explorer.ask(asked, row, 2)
    assert (whole["log_probs"] - answer["log_probs"]).abs().max() > 1e-3
    both = asked.run(
        {
            name: torch.cat([a, b])
            for (name, a), b in zip(
                _inputs(row, 2, heads).items(), _inputs(row, 2, torch.ones(4)).values(), strict=True
            )
        }
    )
    torch.testing.assert_close(both["log_probs"][1:], whole["log_probs"], atol=1e-5, rtol=0)


def _inputs(row: list[int], place: int, heads: torch.Tensor) -> dict[str, torch.Tensor]:
    tokens, chosen = torch.zeros(1, 24), torch.zeros(1, 24)
    tokens[0, : len(row)] = torch.tensor(row).float()
    chosen[0, place] = 1
    return {"tokens": tokens, "place": chosen, "heads": heads[None]}


def test_a_readers_own_models(tokenizer: BytePairTokenizer) -> None:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig.llama(tokenizer.vocab_size, context=16, num_layers=2, num_heads=2, width=16))
    figure = AttentionExplorer(gpt, tokenizer, {"mine": "the king"})
    assert 'data-model="own"' in figure.to_html()
    assert figure.state["length"] == 16
    characters = CharTokenizer.train("the king")
    plain = AttentionExplorer(network(characters.vocab_size), characters, ["the king"])
    assert plain.state["start"] is None


def test_what_does_not_fit_is_refused(tokenizer: BytePairTokenizer) -> None:
    model = network(tokenizer.vocab_size)
    with pytest.raises(ValueError, match="Pass a model and its tokenizer"):
        AttentionExplorer(model)
    with pytest.raises(ValueError, match="Pass a model and its tokenizer"):
        AttentionExplorer(lines=["a"])
    with pytest.raises(ValueError, match="needs a model with trace"):
        AttentionExplorer(torch.nn.Linear(2, 2), tokenizer)
    with pytest.raises(ValueError, match="the model knows 20"):
        AttentionExplorer(network(20), tokenizer)
    with pytest.raises(ValueError, match="at least one line"):
        AttentionExplorer(model, tokenizer, {"empty": ""})
    with pytest.raises(ValueError, match="at least one line"):
        attention_explorer.contents(model, tokenizer, [], "")


@pytest.mark.skipif(attention_explorer.ZOO_MODEL not in zoo.names(), reason="the zoo has no such network")
def test_the_published_figure() -> None:
    found = AttentionExplorer.published()
    assert len(json.dumps(found.state)) < 150_000
    trades = {trade["name"]: trade["scores"] for trade in found.state["trades"]}
    assert [*trades] == ["token before", "what followed last time", "itself", "same name"]
    before, again = trades["token before"], trades["what followed last time"]
    assert max(before[:4]) > 0.3, "a head of the first layer looks at the token before"
    assert max(again[4:]) > 0.3 > max(again[:4]), "heads of the second layer look at what followed the last time"
    assert len(found.alt) > 100


# ---- the browser -----------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>attention</title>
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ margin: 0 }} main {{ max-width: 44rem; margin: auto; padding: 0 1rem }}
html[data-theme="dark"] {{ background: #14171b; color: #ddd }}</style></head>
<body><main><h1>Attention</h1>{figure}</main>
<script type="module" src="_static/live/host.mjs"></script></body></html>"""
ROOT = Path(__file__).resolve().parents[1]
RUNTIME = [ROOT / "book" / "vendor" / "_static" / "ort", ROOT / "node_modules" / "onnxruntime-web" / "dist"]
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def page(contents, tmp_path_factory):
    """The figure on a served page, its network run by onnxruntime-web."""
    sync_api = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("onnx")
    from gentext.live.export import export_figure

    runtime = next((folder for folder in RUNTIME if (folder / RUNTIME_FILES[0]).is_file()), None)
    if runtime is None:
        pytest.skip("onnxruntime-web is not here; `make vendor` fetches it")
    root = tmp_path_factory.mktemp("site")
    (root / "_static" / "ort").mkdir(parents=True)
    for name in RUNTIME_FILES:
        shutil.copyfile(runtime / name, root / "_static" / "ort" / name)
    live = root / "_static" / "live"
    live.mkdir()
    for path in front.files():
        shutil.copyfile(path, live / path.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AttentionExplorer, "published", classmethod(lambda cls: contents))
        export_figure(live / "attention_explorer", AttentionExplorer)
        (root / "index.html").write_text(PAGE.format(theme="light", figure=AttentionExplorer().to_html()), "utf-8")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_api.sync_playwright() as playwright:
        system = Path("/usr/bin/chromium")
        try:
            browser = playwright.chromium.launch(
                args=["--no-sandbox", "--disable-gpu"], **({"executable_path": str(system)} if system.is_file() else {})
            )
        except Exception as error:
            pytest.skip(f"no Chromium to run: {error}")
        opened = browser.new_page(viewport={"width": 1100, "height": 1000})
        opened.set_default_timeout(90_000)
        opened.errors = []
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.on("console", lambda message: message.type == "error" and opened.errors.append(message.text))
        opened.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        opened.wait_for_selector('.gentext-live[data-state="ready"]')
        opened.evaluate("window.all = []; addEventListener('gentext-live', ({ detail }) => window.all.push(detail))")
        yield opened
        browser.close()
    server.shutdown()


ANSWERS = """() => window.all.map(({ inputs, outputs }) => [inputs, outputs].map((arrays) => Object.fromEntries(
    Object.entries(arrays).map(([name, { shape, values }]) => [name, { shape, values: [...values] }]))))"""


def settle(page) -> None:
    page.wait_for_timeout(250)
    page.wait_for_function("!window.__gentextLive || window.__gentextLive.pending === 0")
    page.wait_for_timeout(100)


@pytest.mark.slow
def test_in_the_browser(page, contents: Contents) -> None:
    def text(role):
        return page.locator(f"[data-role={role}]").inner_text()

    def map_of(name):
        return page.evaluate(f"document.querySelector('[data-role=\"map-{name}\"]').toDataURL()")

    pieces = page.locator("[data-role=tokens] span")
    assert pieces.first.inner_text() == "▷"
    opening = {name: map_of(name) for name in ("1.1", "1.2", "2.1", "2.2")}
    assert len(set(opening.values())) == 4, "it shows something before any network has run"
    assert page.evaluate("window.__gentextLive") is None

    page.locator("[data-role=token]").press("ArrowLeft")  # one token back
    settle(page)
    assert map_of("1.1") != opening["1.1"]
    page.locator("[data-role=token]").press("ArrowRight")
    settle(page)
    assert map_of("1.1") == opening["1.1"], "the page's answer is the one that it opened with"

    before = text("next")
    page.locator('[data-role="head-1.2"]').uncheck()
    settle(page)
    assert "→" in text("next") != before
    assert "without 1.2" in text("summary")
    assert map_of("2.1") != opening["2.1"], "the second layer reads what the first wrote"
    page.locator("[data-role=all-heads]").click()
    settle(page)
    assert text("next") == before
    assert page.locator("[data-role=all-heads]").is_disabled()

    page.locator("[data-role=text]").fill("town " * 40)
    settle(page)
    assert page.locator("[data-role=tokens] span").count() == 24
    assert page.get_by_text("Only the first 24 tokens are read.").is_visible()
    pieces.nth(3).hover()
    settle(page)
    assert page.locator("[data-role=token]").input_value() == "3"
    page.locator("[data-role=line]").select_option("1")
    settle(page)
    assert not page.get_by_text("Only the first").is_visible()

    worst = 0.0
    answers = page.evaluate(ANSWERS)
    assert len(answers) > 5
    for inputs, outputs in answers:
        given, found = (
            {name: torch.tensor(array["values"]).view(array["shape"]) for name, array in arrays.items()}
            for arrays in (inputs, outputs)
        )
        expected = contents.networks["attention"].run(given)
        worst = max(worst, *(float((found[name] - values).abs().max()) for name, values in expected.items()))
    assert worst < 1e-4
    assert not page.errors
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
