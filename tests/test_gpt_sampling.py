"""Filters of the next token: exact support and renormalised probabilities, against references written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gentext.gpt_sampling import (
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_token_probabilities,
    penalise_repetition,
)

# Binary fractions, so that sums hit a bound exactly. Their order is not that of the ids.
P = torch.tensor([0.125, 0.5, 0.0625, 0.25, 0.0625], dtype=torch.float64)
LOGITS = P.log()[None]


def support(filtered: Tensor) -> list[int]:
    return (filtered[0] > -math.inf).nonzero()[:, 0].tolist()


def renormalised(kept: list[int]) -> Tensor:
    expected = torch.zeros(5, dtype=torch.float64)
    expected[kept] = P[kept] / P[kept].sum()
    return expected[None]


@pytest.mark.parametrize(
    ("k", "kept"),
    [(1, [1]), (2, [1, 3]), (3, [0, 1, 3]), (4, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])],
)
def test_top_k_by_hand(k: int, kept: list[int]) -> None:
    """With k = 4 the fourth is tied with the fifth, and both stay."""
    assert support(keep_top_k(LOGITS, k)) == kept
    torch.testing.assert_close(next_token_probabilities(LOGITS, top_k=k), renormalised(kept), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (1e-6, [1]),
        (0.5, [1]),
        (0.5001, [1, 3]),
        (0.75, [1, 3]),
        (0.8, [0, 1, 3]),
        (0.9, [0, 1, 2, 3]),  # of two equals the smaller id
        (0.95, [0, 1, 2, 3, 4]),
        (1.0, [0, 1, 2, 3, 4]),
    ],
)
def test_top_p_by_hand(p: float, kept: list[int]) -> None:
    exact = torch.tensor([[0.125, 0.5, 0.0625, 0.25, 0.0625]], dtype=torch.float64).log()
    # softmax of a logarithm rounds: move the bound off the edge by less than any probability
    assert support(keep_top_p(exact, p if p == 1 else max(p - 1e-12, 1e-12))) == kept
    torch.testing.assert_close(
        next_token_probabilities(LOGITS, top_p=p if p == 1 else max(p - 1e-12, 1e-12)),
        renormalised(kept),
        rtol=0,
        atol=1e-15,
    )


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.0, [0, 1, 2, 3, 4]), (0.12, [0, 1, 2, 3, 4]), (0.13, [0, 1, 3]), (0.3, [1, 3]), (0.6, [1]), (1.0, [1])],
)
def test_min_p_by_hand(p: float, kept: list[int]) -> None:
    assert support(keep_min_p(LOGITS, p)) == kept
    torch.testing.assert_close(next_token_probabilities(LOGITS, min_p=p), renormalised(kept), rtol=0, atol=1e-15)


def test_temperature_by_hand() -> None:
    for temperature in (0.25, 0.5, 2.0):
        powered = P ** (1 / temperature)
        torch.testing.assert_close(
            next_token_probabilities(LOGITS, temperature=temperature)[0], powered / powered.sum(), rtol=0, atol=1e-15
        )
    assert next_token_probabilities(LOGITS, temperature=0).tolist() == [[0, 1, 0, 0, 0]]
    tied = torch.tensor([[1.0, 3.0, 3.0]])
    assert next_token_probabilities(tied, temperature=0).tolist() == [[0, 1, 0]], "the first of equals"


def test_repetition_penalty_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 0.0], [2.0, -1.0, 0.5, 0.0]])
    previous = torch.tensor([[0, 1, 1, 0], [2, 2, 2, 2]])  # a token counts once, however often it was said
    expected = torch.tensor([[1.0, -2.0, 0.5, 0.0], [2.0, -1.0, 0.25, 0.0]])
    torch.testing.assert_close(penalise_repetition(logits, previous, 2.0), expected)
    torch.testing.assert_close(next_token_probabilities(logits, previous, repetition_penalty=2.0), expected.softmax(-1))
    assert penalise_repetition(logits, previous, 1.0) is logits
    with pytest.raises(ValueError, match="needs the text so far"):
        next_token_probabilities(logits, repetition_penalty=2.0)


def test_the_order_of_the_filters() -> None:
    """Temperature before top-p: what is flatter has a larger nucleus. Top-k before it: shares of what is left."""
    assert support(next_token_probabilities(LOGITS, temperature=1.0, top_p=0.65).log()) == [1, 3]
    assert support(next_token_probabilities(LOGITS, temperature=4.0, top_p=0.65).log()) == [0, 1, 3]
    assert support(next_token_probabilities(LOGITS, top_k=2, top_p=0.6).log()) == [1], "0.5 of 0.75 is 0.67"
    assert support(next_token_probabilities(LOGITS, top_p=0.6).log()) == [1, 3]
    # the nucleus of 0.9 leaves out id 4; min-p is judged after it
    assert support(next_token_probabilities(LOGITS, top_p=0.9, min_p=0.2).log()) == [0, 1, 3]


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12),
    st.floats(0.3, 3),
    st.integers(1, 12),
    st.floats(0.05, 1),
    st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_filters_against_plain_loops(values: list[float], temperature: float, k: int, p: float, least: float) -> None:
    logits = torch.tensor([values], dtype=torch.float64)
    found = next_token_probabilities(logits, temperature=temperature, top_k=k, top_p=p, min_p=least)[0].tolist()

    scaled = [value / temperature for value in values]
    floor = sorted(scaled, reverse=True)[min(k, len(scaled)) - 1]
    kept = [i for i, value in enumerate(scaled) if value >= floor]
    share = {i: math.exp(scaled[i]) / sum(math.exp(scaled[j]) for j in kept) for i in kept}
    nucleus, total = [], 0.0
    for i in sorted(kept, key=lambda i: (-scaled[i], i)):
        if total >= p and p < 1:
            break
        if abs(total - p) < 1e-9:
            return  # rounding decides here
        nucleus.append(i)
        total += share[i]
    best = max(share[i] for i in nucleus)
    if any(abs(share[i] / best - least) < 1e-9 for i in nucleus):
        return
    left = [i for i in nucleus if share[i] >= least * best]
    expected = [share[i] / sum(share[j] for j in left) if i in left else 0.0 for i in range(len(values))]
    assert found == pytest.approx(expected, abs=1e-12)
    assert [i for i, value in enumerate(found) if value > 0] == sorted(left)


def test_filters_against_transformers() -> None:
    warpers = pytest.importorskip("transformers.generation.logits_process")
    logits = torch.randn(50, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ids = torch.randint(200, (50, 7), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        penalise_repetition(logits, ids, 1.3), warpers.RepetitionPenaltyLogitsProcessor(1.3)(ids, logits.clone())
    )
    for ours, theirs in (
        (keep_top_k(logits, 20), warpers.TopKLogitsWarper(20)),
        (keep_top_p(logits, 0.8), warpers.TopPLogitsWarper(0.8)),
        (keep_min_p(logits, 0.1), warpers.MinPLogitsWarper(0.1)),
    ):
        torch.testing.assert_close(ours, theirs(ids, logits.clone()), rtol=0, atol=0)


def test_draws() -> None:
    rows = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]).repeat(400, 1)
    tokens = draw(rows, torch.Generator().manual_seed(0)).view(400, 3)
    assert torch.equal(tokens[:, 0], torch.ones(400, dtype=torch.int64))
    assert torch.equal(tokens[:, 2], torch.full((400,), 2))
    assert set(tokens[:, 1].tolist()) == {0, 2}
    assert tokens[:, 1].float().mean().item() == pytest.approx(1, abs=0.15)
    assert torch.equal(draw(rows, torch.Generator().manual_seed(0)).view(400, 3), tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -0.1}, "temperature must be a number of at least 0"),
        ({"temperature": math.nan}, "temperature must be a number"),
        ({"temperature": math.inf}, "temperature must be a number"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must lie in"),
        ({"top_p": 1.1}, "top_p must lie in"),
        ({"min_p": -0.1}, "min_p must lie in"),
        ({"min_p": 1.1}, "min_p must lie in"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be positive"),
    ],
)
def test_settings_out_of_range(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next_token_probabilities(LOGITS, torch.zeros(1, 1, dtype=torch.int64), **change)
