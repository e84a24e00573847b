"""`AttentionExplorer`: contents and errors in Python, ONNX against torch, and the figure driven in Chromium."""

from __future__ import annotations

import json

import pytest
import torch

from gentext import zoo
from gentext.attention_model import AttentionModel, AttentionModelConfig
from gentext.gpt import GPT, GPTConfig
from gentext.live import AttentionExplorer, attention_explorer, protocol
from gentext.live.base import Contents
from gentext.tokenizer import BytePairTokenizer, CharTokenizer
from live_tools import compare, picture, settle

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


@pytest.fixture(scope="module")
def figures(contents: Contents) -> dict:
    return {AttentionExplorer: contents}


@pytest.mark.slow
def test_in_the_browser(open_page, contents: Contents) -> None:
    page = open_page("attention_explorer.html", viewport={"width": 1100, "height": 1000})

    def text(role):
        return page.locator(f"[data-role={role}]").inner_text()

    def map_of(name):
        return picture(page, f"map-{name}")

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

    assert len(compare(page, contents)) > 5
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
