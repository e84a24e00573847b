"""`NextTokenExplorer`: its network against the model, twins in Python, and the page in Chromium against both."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest
import torch
from torch import Tensor

from gentext import data
from gentext.gpt import GPT, GPTConfig
from gentext.live import front, next_token, protocol
from gentext.live.base import Contents
from gentext.live.next_token import NextTokenExplorer
from gentext.tokenizer import BytePairTokenizer, CharTokenizer
from live_tools import compare, role

TOLERANCE = 1e-4
TOKENS_A_SECOND = 20  # on a quiet machine
NOISE = float(os.environ.get("GENTEXT_NOISE", "3"))
PROMPT = "To Shalit, keeper of oaths,\nTabi, son of Nuram,\n"


def untrained(config: GPTConfig, seed: int = 0) -> GPT:
    """Weights that float16 holds, loud enough that the distribution is not flat."""
    model = GPT(config)
    model.initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((3 * parameter if parameter.dim() > 1 else parameter).half().float())
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.train(data.load("inscriptions", "train", size=150).texts, 400, pattern="digits")


@pytest.fixture(scope="module")
def model() -> GPT:
    """Of the shape of the book's."""
    return untrained(GPTConfig.llama(400, context=192, num_layers=4, num_heads=4, width=128, tied=True))


@pytest.fixture(scope="module")
def contents(model: GPT, tokenizer: BytePairTokenizer) -> Contents:
    prompts = {"a gift": PROMPT, "a king": "I am Ermenak, king of Gubarra.\n", "one letter": "I"}
    return next_token.contents(model, tokenizer, prompts)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


# ---- Python ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        GPTConfig.llama(50, context=24, num_layers=2, num_heads=4, num_kv_heads=2, width=32),
        GPTConfig.gpt2(50, context=24, num_layers=2, num_heads=2, width=32),
    ],
)
def test_reading_in_parts_is_reading_at_once(config: GPTConfig) -> None:
    model = untrained(config)
    tokenizer = CharTokenizer([chr(64 + k) for k in range(50)])
    network = next_token.contents(model, tokenizer, {"": "ABC"}).networks["step"]
    ids = torch.randint(50, (1, 20), generator=torch.Generator().manual_seed(1))
    trace = model.trace(ids)
    given = next_token.opening(network, [0])
    keys, values = given["keys"], given["values"]
    for start, stop in ((0, 1), (1, 13), (13, 14), (14, 20)):
        place = torch.arange(start, stop).float()[None]
        found = network.run({"tokens": ids[:, start:stop].float(), "positions": place, "keys": keys, "values": values})
        assert (found["logits"] - trace.logits[:, stop - 1]).abs().max() < 1e-5
        wanted = trace.weights[..., start:stop, :stop]
        assert (found["attention"][..., 1:] - wanted).abs().max() < 1e-6
        assert found["attention"][..., 0].abs().max() == 0, "nobody looks at the place holder"
        keys, values = torch.cat([keys, found["keys_out"]], 3), torch.cat([values, found["values_out"]], 3)


def test_sizes_that_vary_are_checked(contents: Contents) -> None:
    network = contents.networks["step"]
    given = next_token.opening(network, [1, 2, 3])
    with pytest.raises(ValueError, match=r"input positions must have shape \(batch, tokens\)"):
        network.run({**given, "positions": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match="tokens must be from 1 to 192, not 193"):
        network.run({**given, "tokens": torch.zeros(1, 193), "positions": torch.zeros(1, 193)})
    with pytest.raises(ValueError, match="input values must have shape"):
        network.run({**given, "values": given["values"][..., :1]})


def test_the_state_is_json_and_small(contents: Contents, model: GPT, tokenizer: BytePairTokenizer) -> None:
    assert len(json.dumps(contents.state, allow_nan=False)) < 100_000
    initial = contents.state["initial"]
    ids = [contents.state["start"], *tokenizer.encode(PROMPT)]
    assert initial["ids"] == ids
    trace = model.trace(torch.tensor([ids]))
    assert (protocol.decode_array(initial["logits"]) - trace.logits[0, -1]).abs().max() < 1e-5
    assert (protocol.decode_array(initial["attention"]) - trace.weights[0, :, :, -1]).abs().max() < 1e-6


def test_twins(contents: Contents, tokenizer: BytePairTokenizer) -> None:
    logits = torch.tensor([2.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    given = {"logits": logits, "temperature": one(1), "top_k": one(0), "top_p": one(1)}

    def filtered(**changes: float) -> Tensor:
        changed = {name: one(value) for name, value in changes.items()}
        return contents.computed["filter"](given | changed)["probabilities"]

    assert torch.allclose(filtered(), logits.softmax(0))
    assert filtered(temperature=0).tolist() == [1, 0, 0, 0]
    assert (filtered(top_k=2) > 0).tolist() == [True, True, True, False], "those tied with the last one stay"
    assert (filtered(top_p=0.6) > 0).tolist() == [True, True, False, False]
    draws = [
        contents.computed["draw"]({"probabilities": filtered(top_k=1), "u": one(u)})["token"].item()
        for u in (0.0, 0.5, 0.999999)
    ]
    assert draws == [0, 0, 0]
    text = "year 12,\n½"
    ids = contents.computed["encode"]({"bytes": torch.tensor(list(text.encode()), dtype=torch.float64)})["ids"]
    assert ids.tolist() == tokenizer.encode(text)


def test_a_readers_own_model_and_what_does_not_fit(model: GPT, tokenizer: BytePairTokenizer) -> None:
    figure = NextTokenExplorer(model, tokenizer, PROMPT)
    assert 'data-model="own"' in figure.to_html()
    assert repr(figure) == "<NextTokenExplorer>"
    assert [prompt["name"] for prompt in figure.state["prompts"]] == ["your prompt"]
    assert len(NextTokenExplorer(model, tokenizer).state["prompts"]) == 5
    letters = CharTokenizer("ab")
    small = untrained(GPTConfig.gpt2(2, context=8, num_layers=1, num_heads=2, width=8))
    assert NextTokenExplorer(small, letters, "ab").state["start"] is None
    for arguments, message in (
        ((None, tokenizer), "Pass the model too"),
        ((model,), "Pass the tokenizer that belongs"),
        ((model, letters), "knows 400 tokens and the tokenizer 2"),
        ((torch.nn.Linear(2, 2), letters), r"needs a gentext\.gpt\.GPT, not Linear"),
        ((small, letters, ""), "must have 1 to 7 tokens, got 0"),
        ((small, letters, "abababab"), "must have 1 to 7 tokens, got 8"),
    ):
        with pytest.raises(ValueError, match=message):
            NextTokenExplorer(*arguments)


def test_the_kernels_bundle_holds_all_parts() -> None:
    bundle = front.bundle("next_token")
    assert "import {" not in bundle
    for part in ("class KeyValueCache", "function createTokenizer", "function createFigure"):
        assert bundle.count(part) == 1


# ---- Chromium --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(contents: Contents) -> dict:
    return {NextTokenExplorer: contents}


@pytest.fixture
def page(open_page):
    """The figure on a phone's page, which it must not overflow."""
    opened = open_page("next_token.html", viewport={"width": 390, "height": 1600})
    yield opened
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def await_answers(page, calls: int) -> None:
    """Wait for so many answers of the network."""
    page.wait_for_function("n => window.answers.filter(a => a.network === 'step').length >= n", arg=calls)


@pytest.mark.slow
def test_the_page_computes_what_the_package_computes(page, contents: Contents, tokenizer: BytePairTokenizer) -> None:
    assert page.evaluate("performance.getEntriesByType('resource').filter(e => e.name.endsWith('.onnx')).length") == 0
    for name, value in (("temperature", "0.4"), ("top-k", "4"), ("top-p", "0.5"), ("temperature", "0")):
        role(page, name).fill(value)
    role(page, "temperature").fill("1.3")
    role(page, "top-p").fill("0.9")
    role(page, "top-k").fill("7")
    assert "of 400 tokens may come next" in role(page, "summary").inner_text()
    for calls in (1, 2):
        role(page, "step").click()
        await_answers(page, calls)
    role(page, "candidate").nth(3).click()
    await_answers(page, 3)
    before = role(page, "text").inner_text()
    role(page, "back").click()
    await_answers(page, 4)
    assert before.startswith(role(page, "text").inner_text())
    role(page, "position").fill("4")
    page.wait_for_function("document.querySelector('[data-role=looking]').textContent.startsWith('Token 5,')")
    role(page, "head").select_option("6")
    role(page, "restart").click()
    await_answers(page, 5)
    role(page, "example").select_option("2")
    await_answers(page, 6)
    role(page, "prompt").fill("The stone of Tabi,\nwho counted 17 jars – ½ empty.\n" + "and so on " * 30)
    role(page, "use").click()
    await_answers(page, 8)  # more tokens than one call reads
    counts = Counter(answer["network"] for answer in compare(page, contents))
    assert counts == {"filter": counts["filter"], "draw": 2, "step": counts["step"], "encode": 2}


@pytest.mark.slow
def test_the_cached_text_is_the_text_read_anew(page, contents: Contents, model: GPT) -> None:
    """After steps and a way back, the last logits are those of a model that reads the whole text at once."""
    for calls in range(1, 5):
        role(page, "step").click()
        await_answers(page, calls)
    role(page, "back").click()
    await_answers(page, 5)
    role(page, "step").click()
    await_answers(page, 6)
    steps = [answer for answer in page.evaluate("window.answers") if answer["network"] == "step"]
    ids: list[float] = []
    for step in steps:
        start = int(step["inputs"]["positions"]["values"][0])
        ids = ids[:start] + step["inputs"]["tokens"]["values"]
    logits = torch.tensor(steps[-1]["outputs"]["logits"]["values"])
    assert (model(torch.tensor([ids]).long())[0, -1] - logits).abs().max() < TOLERANCE


@pytest.mark.slow
def test_it_generates_twenty_tokens_a_second_until_it_is_stopped_or_full(page) -> None:
    page.evaluate("window.counting = true")
    role(page, "step").click()
    await_answers(page, 1)  # the runtime and the network have come
    rates = []
    while role(page, "step").is_enabled():  # the context is not full
        role(page, "play").click()  # until the next text's end
        page.wait_for_function("document.querySelector('[data-role=play]').textContent === 'Generate'")
        rates.append(float(role(page, "speed").inner_text().split()[0]))
    print(f"{max(rates):.0f} tokens a second")
    assert max(rates) >= TOKENS_A_SECOND / NOISE
    assert "The context of 192 tokens is full" in role(page, "summary").inner_text()
    role(page, "restart").click()
    page.wait_for_function("!document.querySelector('[data-role=step]').disabled")
    role(page, "play").click()
    page.wait_for_function("document.querySelectorAll('.gl-fresh').length > 0")
    if role(page, "play").inner_text() == "Stop":
        role(page, "play").click()
    page.wait_for_timeout(300)
    length = page.locator(".gl-fresh").count()
    page.wait_for_timeout(300)
    assert page.locator(".gl-fresh").count() == length, "it was told to stop"


@pytest.mark.slow
def test_prompts_that_cannot_be_read_are_refused_and_the_figure_lives_on(page) -> None:
    role(page, "prompt").fill("word " * 400)
    role(page, "use").click()
    page.wait_for_selector(".gl-error")
    assert "make it shorter" in page.locator(".gl-status").inner_text()
    role(page, "prompt").fill("I")
    role(page, "prompt").press("Control+Enter")
    await_answers(page, 1)
    assert page.locator(".gl-status").inner_text() == ""
    assert page.locator(".gl-token").count() == 2
    role(page, "back").click()
    await_answers(page, 2)
    assert role(page, "back").is_disabled(), "only the start is left"
