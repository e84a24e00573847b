"""Attention against torch's, its properties, the small network, and what heads do in numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from gentext import attention as attention_module
from gentext import zoo
from gentext.attention import (
    AttentionConfig,
    MultiHeadAttention,
    attention,
    attention_mass,
    causal_mask,
    fast_attention,
    has_bf16_tiles,
    induction_targets,
    online_softmax_attention,
    previous_token_targets,
    same_name_targets,
    uniform_mass,
)
from gentext.attention_model import AttentionModel, AttentionModelConfig
from gentext.nn import Rotary, sinusoidal_positions
from gentext.zoo import Card, Measurement

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}
MASKS = ("none", "causal", "bool", "numbers", "causal and bool", "causal and numbers", "per head", "blind rows")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def make_mask(kind: str, queries: int, keys: int, dtype: torch.dtype) -> tuple[Tensor | None, bool]:
    """The `mask` and `causal` of a kind; every row can look somewhere unless its name says otherwise."""
    generator = torch.Generator().manual_seed(5)
    mask: Tensor | None = None
    if "bool" in kind:
        mask = torch.rand(2, 1, queries, keys, generator=generator) < 0.6
        mask[..., 0] = True
    elif "numbers" in kind:
        mask = torch.randn(queries, keys, generator=generator, dtype=dtype)
    elif kind == "per head":
        mask = torch.rand(2, 4, queries, keys, generator=generator) < 0.6
        mask[..., 0] = True
    elif kind == "blind rows":
        mask = torch.ones(queries, keys, dtype=torch.bool)
        mask[1] = False
    return mask, "causal" in kind


def whole_mask(mask: Tensor | None, causal: bool, queries: int, keys: int) -> Tensor | None:
    """Mask and causality in one, for torch."""
    if not causal:
        return mask
    seen = torch.tensor([[s <= t + keys - queries for s in range(keys)] for t in range(queries)])
    if mask is None:
        return seen
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -math.inf)


# ---- the operation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize(("queries", "keys", "kv_heads"), [(7, 7, 4), (3, 9, 4), (1, 5, 2), (6, 6, 1)])
def test_equals_torchs(kind: str, dtype: torch.dtype, queries: int, keys: int, kv_heads: int) -> None:
    if kind == "blind rows" and queries == 1:
        pytest.skip("there is one row")
    q = draw(2, 4, queries, 8, seed=1, dtype=dtype)
    k, v = draw(2, kv_heads, keys, 8, seed=2, dtype=dtype), draw(2, kv_heads, keys, 5, seed=3, dtype=dtype)
    mask, causal = make_mask(kind, queries, keys, dtype)
    output, weights = attention(q, k, v, mask=mask, causal=causal)
    group = 4 // kv_heads
    theirs = F.scaled_dot_product_attention(
        q,
        torch.stack([k[:, head // group] for head in range(4)], 1),
        torch.stack([v[:, head // group] for head in range(4)], 1),
        attn_mask=whole_mask(mask, causal, queries, keys),
    )
    close(output, theirs.nan_to_num(), TOLERANCE[dtype])  # torch before 2.5: a blind row is NaN
    close(fast_attention(q, k, v, mask=mask, causal=causal).nan_to_num(), output, TOLERANCE[dtype])
    assert weights.shape == (2, 4, queries, keys)
    assert bool((weights >= 0).all())
    seen = whole_mask(mask, causal, queries, keys)
    rows = torch.ones(2, 4, queries, dtype=dtype)
    if seen is not None and seen.dtype == torch.bool:
        assert bool((weights.masked_select(~seen.expand_as(weights)) == 0).all())
        rows = rows * seen.any(-1).expand(2, 4, queries)
    close(weights.sum(-1), rows, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gradients_equal_torchs(dtype: torch.dtype) -> None:
    inputs = [draw(2, 2, 5, 4, seed=seed, dtype=dtype).requires_grad_() for seed in range(3)]
    ours = torch.autograd.grad(attention(*inputs, causal=True)[0].square().sum(), inputs)
    fast = torch.autograd.grad(fast_attention(*inputs, causal=True).square().sum(), inputs)
    theirs = torch.autograd.grad(F.scaled_dot_product_attention(*inputs, is_causal=True).square().sum(), inputs)
    for a, b, c in zip(ours, fast, theirs, strict=True):
        close(a, c, 10 * TOLERANCE[dtype])
        close(b, c, 10 * TOLERANCE[dtype])


def test_scale_and_the_reason_for_it() -> None:
    """Products of unit-variance queries and keys have variance d_k; divided by its root, variance 1."""
    q, k = draw(1, 1, 500, 256, seed=1), draw(1, 1, 500, 256, seed=2)
    scores = q @ k.transpose(-2, -1)
    assert scores.var().item() == pytest.approx(256, rel=0.05)
    entropy = []
    for scale in (None, 1.0):
        weights = attention(q, k, k, scale=scale)[1]
        entropy.append(-(weights * weights.clamp(min=1e-300).log()).sum(-1).mean().item())
    assert entropy[0] > 5 > 1 > entropy[1], "unscaled, each query looks at one key only"
    close(attention(q, k, k, scale=1 / 16)[0], attention(q, k, k)[0], 1e-14)
    close(fast_attention(q, k, k, scale=0.3), attention(q, k, k, scale=0.3)[0], 1e-13)


def test_dropout_drops_weights() -> None:
    q = draw(1, 2, 64, 8)
    torch.manual_seed(0)
    weights = attention(q, q, q, dropout=0.25)[1]
    assert (weights == 0).double().mean().item() == pytest.approx(0.25, abs=0.03)
    kept = weights[weights > 0] / attention(q, q, q)[1][weights > 0]
    close(kept, torch.full_like(kept, 1 / 0.75), 1e-12)


def test_shapes_that_do_not_go_together_are_refused() -> None:
    q = torch.zeros(2, 4, 3, 8)
    for k, v in (
        (torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 5, 8)),  # 3 heads for 4
        (torch.zeros(2, 4, 5, 6), torch.zeros(2, 4, 5, 8)),  # narrower keys
        (torch.zeros(1, 4, 5, 8), torch.zeros(1, 4, 5, 8)),  # another batch
        (torch.zeros(2, 4, 5, 8), torch.zeros(2, 4, 6, 8)),  # more values than keys
    ):
        for function in (attention, fast_attention):
            with pytest.raises(ValueError, match="keys and values must match"):
                function(q, k, v)
    with pytest.raises(ValueError, match=r"must have shape \(batch, heads, tokens, head_dim\)"):
        attention(q[0], q[0], q[0])


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 50), st.floats(0, 300), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_online_softmax_equals_the_naive_one(queries: int, keys: int, block: int, size: float, seed: int) -> None:
    """Also where e^score alone would overflow."""
    q, k, v = size * draw(2, 2, queries, 4, seed=seed), draw(2, 2, keys, 4, seed=seed + 1), draw(2, 2, keys, 3, seed=7)
    close(online_softmax_attention(q, k, v, block=block), attention(q, k, v)[0], 1e-12)


# ---- positions -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(1, 8), st.sampled_from([10.0, 1e4, 5e5]))
@settings(max_examples=80, deadline=None)
def test_rotary_products_know_the_distance_only(m: int, n: int, shift: int, half: int, base: float) -> None:
    rotary = Rotary(2 * half, 128, base).double()
    q, k = draw(1, 2 * half, seed=m), draw(1, 2 * half, seed=n + 100)
    here = (rotary(q, m) * rotary(k, n)).sum()
    there = (rotary(q, m + shift) * rotary(k, n + shift)).sum()
    close(here, there, 1e-12)
    close(rotary(q, m).norm(), q.norm(), 1e-12)
    close(rotary(q, 0), q, 0)


def test_rotary_turns_complex_numbers() -> None:
    """Pair (i, i + d/2) as a complex number, multiplied by e^(i·angle): another way to write the same."""
    rotary, x = Rotary(6, 20).double(), draw(2, 3, 9, 6)
    frequency = torch.tensor([10_000 ** (-2 * i / 6) for i in range(3)], dtype=torch.float64)
    turn = torch.polar(torch.ones(9, 3, dtype=torch.float64), torch.arange(4, 13)[:, None] * frequency)
    product = torch.complex(x[..., :3], x[..., 3:]) * turn
    close(rotary(x, 4), torch.cat([product.real, product.imag], -1), 1e-14)


def test_rotary_keeps_its_digits_through_casts() -> None:
    rotary = nn.Sequential(Rotary(8, 50)).half().double()[0]
    assert rotary.cos.dtype == torch.float64
    angle = torch.arange(50, dtype=torch.float64) * 10_000 ** (-2 / 8)
    close(rotary.cos[:, 1], angle.cos(), 1e-15)
    assert not rotary.state_dict(), "positions are no weights"
    with pytest.raises(ValueError, match="an even width"):
        Rotary(5, 10)
    with pytest.raises(ValueError, match="positive base"):
        Rotary(4, 10, 0.0)


def test_sinusoids() -> None:
    table = sinusoidal_positions(40, 8)
    assert (table.shape, table.dtype) == ((40, 8), torch.float64)
    for s, i in ((0, 0), (3, 1), (39, 3)):
        angle = s / 10_000 ** (2 * i / 8)
        assert table[s, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-14)
        assert table[s, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-14)
    shift = torch.linalg.lstsq(table[:-5], table[5:]).solution  # one matrix moves every position on by 5
    close(table[:-5] @ shift, table[5:], 1e-12)


# ---- several heads ---------------------------------------------------------------------------------------------------


def pair(dtype: torch.dtype, bias: bool = True) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    """Ours and torch's with the same random weights."""
    torch.manual_seed(1)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True, bias=bias, dtype=dtype)
    ours = MultiHeadAttention(AttentionConfig(width=12, num_heads=3, causal=False, bias=bias)).to(dtype)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_()  # torch's biases begin at 0
        ours.query_key_value.weight.copy_(theirs.in_proj_weight)
        ours.output.weight.copy_(theirs.out_proj.weight)
        if bias:
            ours.query_key_value.bias.copy_(theirs.in_proj_bias)
            ours.output.bias.copy_(theirs.out_proj.bias)
    return ours, theirs


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["none", "causal", "numbers", "bool"])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_several_heads_equal_torchs(kind: str, cross: bool, dtype: torch.dtype, bias: bool) -> None:
    ours, theirs = pair(dtype, bias)
    x, context = draw(2, 5, 12, seed=1, dtype=dtype), draw(2, 8, 12, seed=2, dtype=dtype)
    keys = 8 if cross else 5
    mask, causal = make_mask(kind, 5, keys, dtype)
    if mask is not None and mask.ndim == 4:
        mask = mask[0, 0]
    if causal:
        mask = causal_mask(5, keys)
    source = context if cross else x
    # torch's True means "not there"
    theirs_mask = ~mask if mask is not None and mask.dtype == torch.bool else mask
    expected, table = theirs(x, source, source, attn_mask=theirs_mask, average_attn_weights=False)
    tolerance = 30 * TOLERANCE[dtype]
    for asked in (False, True):
        output, weights = ours(x, context if cross else None, mask=mask, return_weights=asked)
        close(output, expected, tolerance)
        assert (weights is not None) is asked
    assert weights is not None
    close(weights, table, tolerance)


def test_padding_is_a_mask() -> None:
    ours, theirs = pair(torch.float64)
    x = draw(2, 6, 12)
    there = torch.arange(6) < torch.tensor([[6], [4]])  # (B, S)
    expected, _ = theirs(x, x, x, key_padding_mask=~there)
    close(ours(x, mask=there[:, None, None])[0], expected, 1e-12)


def test_causal_flag_and_grouped_heads() -> None:
    torch.manual_seed(0)
    grouped = MultiHeadAttention(AttentionConfig(width=24, num_heads=6, num_kv_heads=2)).double()
    full = MultiHeadAttention(AttentionConfig(width=24, num_heads=6)).double()
    with torch.no_grad():  # each key and value head serves three queries in a row
        q, k, v = grouped.query_key_value.weight.split(grouped.sizes)
        repeated = [part.view(2, 4, 24).repeat_interleave(3, 0).flatten(0, 1) for part in (k, v)]
        full.query_key_value.weight.copy_(torch.cat([q, *repeated]))
        q, k, v = grouped.query_key_value.bias.split(grouped.sizes)
        repeated = [part.view(2, 4).repeat_interleave(3, 0).flatten(0, 1) for part in (k, v)]
        full.query_key_value.bias.copy_(torch.cat([q, *repeated]))
        full.output.load_state_dict(grouped.output.state_dict())
    x = draw(2, 7, 24)
    close(grouped(x)[0], full(x)[0], 1e-14)
    close(grouped(x, return_weights=True)[0], full(x)[0], 1e-14)
    changed = x.clone()
    changed[:, 4:] += 1
    close(grouped(changed)[0][:, :4], grouped(x)[0][:, :4], 1e-15)


@pytest.mark.parametrize("tiles", [False, True])
def test_bfloat16_is_close_by_both_ways(tiles: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "has_bf16_tiles", lambda: tiles)
    torch.manual_seed(0)
    layer = MultiHeadAttention(AttentionConfig(width=32, num_heads=4))
    x = draw(2, 20, 32, dtype=torch.float32)
    exact = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(x)[0]
    close(rough.float(), exact, 0.05)
    assert has_bf16_tiles() in (False, True)


def test_heads_can_be_switched_off() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(AttentionConfig(width=12, num_heads=3)).double()
    x = draw(2, 5, 12)
    alone = [layer(x, head_mask=torch.eye(3)[head])[0] - layer.output.bias for head in range(3)]
    close(sum(alone), layer(x)[0] - layer.output.bias, 1e-14)
    close(layer(x, head_mask=torch.zeros(3))[0], layer.output.bias.expand(2, 5, 12), 1e-15)
    assert not torch.equal(alone[0], alone[1])


def test_layers_that_make_no_sense_are_refused() -> None:
    for change, message in (
        ({"width": 10}, "multiple of num_heads"),
        ({"num_heads": 0}, "multiple of num_heads"),
        ({"num_kv_heads": 3}, "must divide num_heads"),
        ({"num_kv_heads": 0}, "must divide num_heads"),
        ({"dropout": 1.0}, "dropout"),
    ):
        with pytest.raises(ValueError, match=message):
            AttentionConfig(**{"width": 12, "num_heads": 4, **change})
    layer = MultiHeadAttention(AttentionConfig(width=12, num_heads=3, context=4, rotary_base=100.0))
    with pytest.raises(ValueError, match=r"shape \(batch, tokens, 12\)"):
        layer(torch.zeros(2, 3, 6))
    with pytest.raises(ValueError, match="rotary positions go up to 4, token 5"):
        layer(torch.zeros(2, 5, 12))
    with pytest.raises(ValueError, match="cross attention needs causal=False"):
        layer(torch.zeros(2, 3, 12), torch.zeros(2, 3, 12))
    for change in ({"bias": False}, {"rotary_base": None}):
        with pytest.raises(ValueError, match="biases and rotary positions"):
            MultiHeadAttention(replace(layer.config, **change)).start_near_sighted(1.0)


def test_layers_that_start_near_sighted() -> None:
    config = AttentionConfig(width=64, num_heads=4, num_kv_heads=2, context=40, rotary_base=100.0)
    layer = MultiHeadAttention(config)
    layer.start_near_sighted(1.5, torch.Generator().manual_seed(0))
    _, weights = layer(0.01 * draw(3, 40, 64).float(), return_weights=True)
    last_four = torch.ones(40, 40).tril().triu(-3).bool().expand(3, -1, -1)
    assert attention_mass(weights, last_four).min() > 2 * uniform_mass(last_four), "every head, shared keys or not"


# ---- what heads do ---------------------------------------------------------------------------------------------------


def test_previous_token_score() -> None:
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    perfect = torch.zeros(2, 3, 4, 4)
    perfect[:, 0, range(1, 4), range(3)] = 1  # head 0 looks one back
    perfect[:, 1] = torch.eye(4)  # head 1 at itself
    perfect[:, 2] = causal_mask(4, 4) / torch.arange(1, 5)[:, None]  # head 2 everywhere
    targets = previous_token_targets(tokens)
    scores = attention_mass(perfect, targets)
    even = (1 / 2 + 1 / 3 + 1 / 4) / 3
    torch.testing.assert_close(scores, torch.tensor([1.0, 0.0, even]))
    assert uniform_mass(targets) == pytest.approx(even)


def test_induction_targets_by_hand() -> None:
    """a b c a b: the second a should look at the first b, the second b at c."""
    targets = induction_targets(torch.tensor([[0, 1, 2, 0, 1]]))
    assert targets[0].nonzero().tolist() == [[3, 1], [4, 2]]
    targets = induction_targets(torch.tensor([[0, 0, 0]]))  # the copy before counts, and what came after it
    assert targets[0].nonzero().tolist() == [[1, 1], [2, 1], [2, 2]]


def test_same_name_targets_by_hand() -> None:
    """Name 1 at 1-2 and again at 5-6; name 2 once. Who predicts 5 and 6 (that is, 4 and 5) should look at 1 and 2."""
    names = torch.tensor([[0, 1, 1, 0, 2, 1, 1, 0]])
    assert same_name_targets(names)[0].nonzero().tolist() == [[4, 1], [4, 2], [5, 1], [5, 2]]


def test_scores_of_layers_at_once_and_refusals() -> None:
    weights = torch.rand(2, 3, 4, 6, 6)
    tokens = torch.tensor([[0, 1, 0, 1, 0, 1], [5, 4, 3, 2, 1, 0]])
    scores = attention_mass(weights, induction_targets(tokens))
    assert scores.shape == (3, 4)
    # the second text repeats nothing and counts for nothing
    torch.testing.assert_close(scores, attention_mass(weights[:1], induction_targets(tokens[:1])))
    by_hand = torch.stack([weights[0, 1, 2][2, 1], weights[0, 1, 2][3, 2]])
    by_hand = torch.cat([by_hand, weights[0, 1, 2][4, [1, 3]].sum()[None], weights[0, 1, 2][5, [2, 4]].sum()[None]])
    torch.testing.assert_close(scores[1, 2], by_hand.mean())
    with pytest.raises(ValueError, match="no query has a target"):
        attention_mass(weights[1:], induction_targets(tokens[1:]))
    with pytest.raises(ValueError, match="targets must have shape"):
        attention_mass(weights, induction_targets(tokens[:, :4]))


# ---- the small network -----------------------------------------------------------------------------------------------

SMALL = AttentionModelConfig(vocab_size=11, context=12, width=16, num_layers=2, num_heads=2)


def small(**changes: object) -> AttentionModel:
    torch.manual_seed(0)
    return AttentionModel(replace(SMALL, **changes)).double().eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "none"])
@pytest.mark.parametrize("mlp_width", [0, 20])
def test_the_network_sees_the_past_only(positions: str, mlp_width: int) -> None:
    model = small(positions=positions, mlp_width=mlp_width)
    tokens = torch.randint(11, (3, 10), generator=torch.Generator().manual_seed(0))
    logits = model(tokens)
    assert logits.shape == (3, 10, 11)
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 11
    close(model(changed)[:, :6], logits[:, :6], 1e-14)
    assert not torch.equal(model(changed)[:, 6:], logits[:, 6:])
    trace = model.trace(tokens)
    close(trace.logits, logits, 1e-13)
    assert trace.weights.shape == (3, 2, 2, 10, 10)
    swapped = tokens.clone()
    swapped[:, [0, 1]] = tokens[:, [1, 0]]
    assert not torch.allclose(model(swapped)[:, 5], logits[:, 5], atol=1e-12)
    one = small(positions=positions, mlp_width=mlp_width, num_layers=1)
    same = torch.allclose(one(swapped)[:, 5], one(tokens)[:, 5], atol=1e-12)
    assert same is (positions == "none"), "without positions one layer does not know the order; a second does"


def test_the_networks_loss_heads_and_refusals(tmp_path: Path) -> None:
    model = small(mlp_width=8)
    tokens = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(0))
    log_p = model(tokens[:, :-1]).log_softmax(-1)
    by_hand = -sum(log_p[b, t, tokens[b, t + 1]] for b in range(3) for t in range(8)) / 24
    loss = model.loss((tokens,))
    close(loss.total, by_hand, 1e-14)
    assert loss.terms["cross_entropy"] == loss.total
    mask = torch.ones(2, 2)
    close(model(tokens, mask), model(tokens), 1e-14)
    mask[0, 1] = 0
    assert not torch.allclose(model(tokens, mask), model(tokens))
    for bad, message in (
        (tokens.double(), "whole numbers"),
        (tokens[0], r"tokens\[None\]"),
        (torch.zeros(1, 13, dtype=torch.int64), "at most 12 tokens"),
        (tokens + 5, r"0..10, got 5..15"),
    ):
        with pytest.raises(ValueError, match=message):
            model(bad)
    with pytest.raises(ValueError, match=r"head_mask must have shape \(2, 2\)"):
        model(tokens, torch.ones(2))
    for change in ({"vocab_size": 0}, {"positions": "left"}, {"num_heads": 3}, {"mlp_width": -1}):
        with pytest.raises(ValueError, match="must be"):
            replace(SMALL, **change)
    card = Card(name="x", summary="x", metrics={"m": Measurement(value=1, unit="", split="", count=1)})
    path = zoo.save(tmp_path / "small.safetensors", model.float(), card, half=False)
    loaded = zoo.load(path)
    assert torch.equal(loaded(tokens), model(tokens))


# ---- what chapter 12's network adds ----------------------------------------------------------------------------------


def test_tied_and_near_sighted() -> None:
    torch.manual_seed(0)
    config = AttentionModelConfig(
        vocab_size=50, context=32, width=32, num_heads=2, tied=True, rotary_base=100.0, near_sighted=1.5
    )
    model = AttentionModel(config)
    tokens = torch.randint(50, (8, 32), generator=torch.Generator().manual_seed(1))
    trace = model.trace(tokens)
    assert trace.logits.shape == (8, 32, 50)
    assert not any(name.startswith("head.") for name, _ in model.named_parameters())
    assert trace.logits.std().item() == pytest.approx(1, rel=0.2), "read out by rows of length about one"
    recent = torch.ones(32, 32).tril().triu(-3).bool().expand(8, -1, -1)  # the last four tokens, its own included
    near = attention_mass(trace.weights, recent)
    assert near[0].min() > near[1].max() + 0.1, "the first layer looks nearby, the second anywhere"
    model.loss((tokens,)).total.backward()
    assert model.token_embedding.weight.grad is not None


def test_a_head_mask_for_each_text() -> None:
    model = AttentionModel(AttentionModelConfig(vocab_size=20, context=8, width=16, num_heads=2)).eval()
    tokens = torch.randint(20, (3, 8), generator=torch.Generator().manual_seed(1))
    masks = torch.tensor([[[1.0, 1], [1, 1]], [[0, 1], [1, 1]], [[1, 1], [1, 0]]])
    together = model(tokens, head_mask=masks)
    for row in range(3):
        close(together[row : row + 1], model(tokens[row : row + 1], head_mask=masks[row]), 1e-5)
