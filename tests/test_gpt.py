"""GPT: both forms against transformers, the cache, generation, initialisation, ablation, refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gentext import zoo
from gentext.gpt import GPT, Cache, GPTConfig, generate
from gentext.nn import RMSNorm
from gentext.zoo import Card, Measurement

GPT2 = GPTConfig.gpt2(17, context=16, num_layers=2, num_heads=4, width=16)
LLAMA = GPTConfig.llama(17, context=16, num_layers=2, num_heads=4, num_kv_heads=2, width=16)
FORMS = {"gpt2": GPT2, "llama": LLAMA, "llama, one key head": replace(LLAMA, num_kv_heads=1)}


def make(config: GPTConfig, seed: int = 0, size: float = 5.0) -> GPT:
    """A float64 model whose weights are `size` times their initial ones: attention that is sharp, not nearly even."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(size * parameter + 0.1 * torch.randn_like(parameter))
    return model


def tokens_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(17, shape, generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# ---- network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_past_only(form: str) -> None:
    model, tokens = make(FORMS[form]), tokens_of(3, 10)
    logits = model(tokens)
    assert logits.shape == (3, 10, 17)
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 17
    close(model(changed)[:, :6], logits[:, :6])
    assert not torch.allclose(model(changed)[:, 6], logits[:, 6])
    close(model(tokens, last_only=True), logits[:, -1:])


@pytest.mark.parametrize("form", FORMS)
def test_loss_by_hand_and_with_a_mask(form: str) -> None:
    model, tokens = make(FORMS[form]), tokens_of(3, 8)
    nats = -model(tokens[:, :-1]).log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
    loss = model.loss((tokens,))
    close(loss.total, nats.mean())
    assert loss.terms["cross_entropy"] == loss.total
    mask = torch.rand(3, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    close(model.loss((tokens, mask)).total, nats[mask[:, 1:]].mean())
    with pytest.raises(ValueError, match="no token to predict"):
        model.loss((tokens, torch.zeros(3, 8, dtype=torch.bool)))
    with pytest.raises(ValueError, match=r"bool of shape \(3, 8\)"):
        model.loss((tokens, mask.float()))


@pytest.mark.parametrize("form", FORMS)
def test_weights_on_request_and_heads_switched_off(form: str) -> None:
    model, tokens = make(FORMS[form]), tokens_of(2, 9)
    trace = model.trace(tokens)
    close(trace.logits, model(tokens))
    assert trace.weights.shape == (2, 2, 4, 9, 9)
    close(trace.weights.sum(-1), torch.ones(2, 2, 4, 9, dtype=torch.float64))
    assert float(trace.weights.detach().triu(1).abs().max()) == 0
    mask = torch.ones(2, 4)
    close(model(tokens, head_mask=mask), model(tokens))
    mask[1, 2] = 0
    off = model(tokens, head_mask=mask)
    assert not torch.allclose(off, model(tokens))
    dim = FORMS[form].layer(0).head_dim
    with torch.no_grad():  # the same as a head whose output nobody reads
        model.blocks[1].attention.output.weight[:, 2 * dim : 3 * dim] = 0
    close(model(tokens), off)
    with pytest.raises(ValueError, match=r"head_mask must have shape \(2, 4\), got \(4, 2\)"):
        model(tokens, head_mask=torch.ones(4, 2))


def test_rms_norm() -> None:
    norm = RMSNorm(6, 1e-3).double()
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(4, 6, dtype=torch.float64)
    close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight)
    function, torch.nn.functional.rms_norm = torch.nn.functional.rms_norm, None
    try:
        del torch.nn.functional.rms_norm  # torch before 2.4
        old = norm(x)
    finally:
        torch.nn.functional.rms_norm = function
    close(old, norm(x))


def test_sizes_and_initial_weights() -> None:
    config = GPTConfig.gpt2(1000, context=64, num_layers=8, num_heads=4, width=64)
    model = GPT(config)
    per_block = 12 * 64 * 64 + 13 * 64  # four and eight matrices of width²; biases and norms
    assert model.num_params == 1000 * 64 + 64 * 64 + 8 * per_block + 2 * 64
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert bool((parameter == 0).all()), name
        elif "norm" in name:
            assert bool((parameter == 1).all()), name
        else:
            expected = 0.02 / 4 if name.endswith("output.weight") else 0.02  # √(2 · 8) = 4
            assert parameter.std().item() == pytest.approx(expected, rel=0.1), name
    tokens = torch.randint(1000, (4, 33), generator=torch.Generator().manual_seed(0))
    assert model.loss((tokens,)).total.item() == pytest.approx(math.log(1000), abs=0.1), (
        "an untrained model knows nothing"
    )
    first, second = GPT(GPT2), GPT(GPT2)
    for twin in (first, second):
        twin.initialise(torch.Generator().manual_seed(3))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.head.weight is first.token_embedding.weight
    assert GPT(LLAMA).head.weight is not GPT(LLAMA).token_embedding.weight
    assert LLAMA.hidden == 48
    assert (replace(LLAMA, mlp_width=20).hidden, GPT2.hidden) == (20, 64)


def test_dropout_in_training_only() -> None:
    model, tokens = make(replace(GPT2, dropout=0.5)), tokens_of(2, 8)
    close(model(tokens), model(tokens), 0)
    model.train()
    assert not torch.allclose(model(tokens), model(tokens))


def test_in_the_zoo(tmp_path: Path) -> None:
    card = Card(name="x", summary="x", metrics={"m": Measurement(value=1, unit="", split="", count=1)})
    for config in (GPT2, replace(LLAMA, tied=True)):
        model = zoo.round_weights(make(config).float())
        loaded = zoo.load(zoo.save(tmp_path / "gpt.safetensors", model, card))
        assert loaded.config == config
        assert loaded.head.weight is loaded.token_embedding.weight
        assert torch.equal(loaded(tokens_of(2, 8)), model(tokens_of(2, 8)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "batch"}, "norm must be one of layer, rms, got 'batch'"),
        ({"activation": "relu"}, "activation must be one of"),
        ({"positions": "none"}, "positions must be one of"),
        ({"vocab_size": 0}, "at least 1"),
        ({"mlp_width": 0}, "at least 1"),
        ({"width": 18}, "multiple of num_heads"),
        ({"num_heads": 0}, "multiple of num_heads"),
        ({"num_kv_heads": 3}, "must divide num_heads"),
        ({"dropout": 1.0}, "dropout must lie"),
        ({"init_std": 0.0}, "must be positive"),
        ({"tied": False, "embedding_std": 0.0}, "must be positive"),
        ({"tied": True, "embedding_std": 1.0}, "embedding_std needs tied=False"),
        ({"rotary_base": -1.0}, "must be positive"),
        ({"positions": "rotary", "width": 12}, "even width of the heads, got 3"),
        ({"near_sighted": 1.0}, "needs biases and rotary positions, got 1.0"),
        ({"near_sighted": -1.0}, "must not be negative"),
    ],
)
def test_configurations_that_make_no_sense(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(GPT2, **change)


def test_tokens_that_make_no_sense() -> None:
    model = make(GPT2)
    for bad, message in (
        (tokens_of(2, 17), "at most 16 tokens, got 17: cut the text"),
        (tokens_of(5), r"add the batch dimension with tokens\[None\]"),
        (tokens_of(2, 5) + 5, r"tokens must lie in 0..16, got .*another tokenizer"),
        (tokens_of(2, 5).double(), "whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            model(bad)


# ---- cache -----------------------------------------------------------------------------------------------------------


@given(
    form=st.sampled_from(list(FORMS)),
    batch=st.integers(1, 3),
    parts=st.lists(st.integers(1, 6), min_size=1, max_size=5).filter(lambda parts: sum(parts) <= 16),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_cached_equals_uncached(form: str, batch: int, parts: list[int], seed: int) -> None:
    """Whatever the batch and however the text is cut into parts."""
    model, tokens = make(FORMS[form]), tokens_of(batch, sum(parts), seed=seed)
    cache = model.new_cache(batch)
    with torch.no_grad():
        pieces = [model(part, cache) for part in tokens.split(parts, dim=1)]
        close(torch.cat(pieces, 1), model(tokens))
    assert cache.position == sum(parts)


def test_cache_takes_its_memory_once_and_goes_back() -> None:
    model, tokens = make(LLAMA), tokens_of(2, 10)
    cache = model.new_cache(2, capacity=10)
    assert cache.keys.shape == cache.values.shape == (2, 2, 2, 10, 4)
    assert cache.keys.dtype == torch.float64
    place = cache.keys.data_ptr()
    with torch.no_grad():
        model(tokens[:, :8], cache)
        first = model(tokens[:, 8:], cache)
        cache.position = 5  # forget the rest
        again = model(tokens[:, 5:], cache)
    assert cache.keys.data_ptr() == place
    close(again[:, -2:], first)
    other = model.new_cache(2)  # two texts by turns: the model remembers nothing
    with torch.no_grad():
        model(tokens_of(2, 3, seed=9), other)
    assert (cache.position, other.position) == (10, 3)


def test_a_cache_refuses_what_it_cannot_hold() -> None:
    model = make(GPT2)
    cache = model.new_cache(2, capacity=6)
    model(tokens_of(2, 4), cache)
    before = cache.keys.clone()
    with pytest.raises(ValueError, match="holds at most 6 tokens and has 4, got 3 more: start a new one"):
        model(tokens_of(2, 3), cache)
    with pytest.raises(ValueError, match="for 2 texts at a time, got 3"):
        model(tokens_of(3, 1), cache)
    assert (cache.position, torch.equal(cache.keys, before)) == (4, True)
    for options in ({"batch_size": 0}, {"capacity": 17}, {"capacity": 0}):
        with pytest.raises(ValueError, match=r"capacity in 1..16"):
            Cache(GPT2, **options)


# ---- generation ------------------------------------------------------------------------------------------------------


def plain_greedy(model: GPT, prompt: Tensor, num_tokens: int) -> Tensor:
    """Without a cache, and for windows that move on by half a context when they are full."""
    text, first = prompt, 0
    for _ in range(num_tokens):
        if text.shape[1] - first > model.config.context:
            first = text.shape[1] - model.config.context // 2
        with torch.no_grad():
            text = torch.cat([text, model(text[:, first:])[:, -1:].argmax(-1)], dim=1)
    return text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("batch", "length", "count"), [(1, 1, 15), (3, 5, 11), (2, 16, 1), (2, 3, 40), (1, 16, 20)])
def test_greedy_equals_the_plain_loop(form: str, batch: int, length: int, count: int) -> None:
    """Also far beyond the context."""
    model, prompt = make(FORMS[form]), tokens_of(batch, length)
    assert torch.equal(generate(model, prompt, count, temperature=0), plain_greedy(model, prompt, count))


def test_each_row_draws_its_own_token_and_a_seed_repeats() -> None:
    model, prompt = make(GPT2, size=1.0), tokens_of(1, 4).repeat(64, 1)

    def run(seed: int) -> Tensor:
        return generate(model, prompt, 6, generator=torch.Generator().manual_seed(seed))

    text = run(0)
    assert text.shape == (64, 10)
    assert torch.equal(text[:, :4], prompt)
    assert len(text[:, 4].unique()) > 5, "rows must not share their draw"
    assert torch.equal(run(0), text)
    assert not torch.equal(run(1), text)


def test_draws_follow_the_distribution() -> None:
    model, prompt = make(GPT2, size=1.0), tokens_of(1, 4)
    expected = (model(prompt)[0, -1].detach() / 0.7).softmax(-1)
    drawn = generate(model, prompt.repeat(20_000, 1), 1, temperature=0.7, generator=torch.Generator().manual_seed(0))
    share = drawn[:, -1].bincount(minlength=17) / 20_000
    assert float((share - expected).abs().max()) < 4 * math.sqrt(0.25 / 20_000)


def test_settings_reach_the_draw() -> None:
    model, prompt = make(GPT2, size=1.0), tokens_of(1, 4)
    many, generator = prompt.repeat(300, 1), torch.Generator().manual_seed(0)
    logits = model(prompt)[0, -1]
    best = set(logits.topk(3).indices.tolist())
    assert set(generate(model, many, 1, top_k=3, generator=generator)[:, -1].tolist()) == best
    assert set(generate(model, many, 1, top_p=1e-9, generator=generator)[:, -1].tolist()) == {int(logits.argmax())}
    assert set(generate(model, many, 1, min_p=1.0, generator=generator)[:, -1].tolist()) == {int(logits.argmax())}
    greedy = generate(model, prompt, 12, temperature=0)
    fresh = generate(model, prompt, 12, temperature=0, repetition_penalty=1e9)
    assert len(greedy[0].unique()) < len(fresh[0].unique()) - 3


def test_stop_tokens_end_rows() -> None:
    model, prompt = make(GPT2, size=1.0), tokens_of(8, 3)
    free = generate(model, prompt, 12, generator=torch.Generator().manual_seed(0))
    stopped = generate(model, prompt, 12, stop=[2, 5], generator=torch.Generator().manual_seed(0))
    assert stopped.shape[1] <= free.shape[1]
    for row in stopped.tolist():
        ends = [i for i in range(3, len(row)) if row[i] in (2, 5)]
        if ends:  # filled up with the token that ended it
            assert set(row[ends[0] :]) == {row[ends[0]]}
    best = int(model(prompt[:1])[0, -1].argmax())
    assert generate(model, prompt[:1], 12, temperature=0, stop=best).tolist() == [[*prompt[0].tolist(), best]]


def test_generation_leaves_the_model_as_it_was_and_tells_each_token() -> None:
    model, seen = make(replace(GPT2, dropout=0.5)).train(), []
    text = generate(model, tokens_of(2, 3), 4, temperature=0, on_token=lambda token: seen.append(token.clone()))
    assert model.training
    assert torch.equal(torch.stack(seen, 1), text[:, 3:])
    assert torch.equal(text, generate(model.eval(), tokens_of(2, 3), 4, temperature=0)), "dropout was off"
    assert torch.equal(generate(model, tokens_of(2, 3), 0), tokens_of(2, 3))


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (tokens_of(2, 3), {"temperature": -1.0}, "temperature must be a number of at least 0"),
        (tokens_of(2, 3), {"top_k": 0}, "top_k must be at least 1"),
        (tokens_of(2, 3), {"top_p": 0.0}, "top_p must lie in"),
        (tokens_of(2, 3), {"min_p": 1.5}, "min_p must lie in"),
        (tokens_of(2, 3), {"repetition_penalty": 0.0}, "repetition_penalty must be positive"),
        (tokens_of(2, 0), {}, "at least one token"),
        (tokens_of(3), {}, "at least one token"),
        (tokens_of(2, 17), {}, "at most 16 tokens"),
        (tokens_of(2, 3) + 20, {}, "tokens must lie in 0..16"),
        (tokens_of(2, 3), {"num_tokens": -1}, "num_tokens must not be negative"),
    ],
)
def test_generation_refuses(prompt: Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(make(GPT2), prompt, **{"num_tokens": 5, **options})


def test_a_gpt_that_starts_near_sighted() -> None:
    torch.manual_seed(0)
    model = GPT(replace(LLAMA, bias=True, rotary_base=100.0, near_sighted=1.5, embedding_std=0.7))
    assert model.token_embedding.weight.std().item() == pytest.approx(0.7, rel=0.1)
    weights = model.trace(tokens_of(4, 16)).weights  # (B, layers, H, T, T)
    near = torch.ones(16, 16).tril().triu(-2)
    last_three = (weights * near).sum(-1)[..., 8:].mean((0, 3))  # (layers, H)
    assert last_three[0].min() > 1.2 * last_three[1].max(), "the first layer looks nearby, the second anywhere"
