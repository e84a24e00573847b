"""N-grams against the recursion written down with dictionaries."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gentext.metrics import NGram

VOCAB = 4
rows = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=40)


def tensor(row):
    return torch.tensor(row, dtype=torch.int64)


def by_the_book(train, order, context, token):
    """Witten-Bell as the docstring states it, for one token after a context of at most order − 1."""
    p = 1 / VOCAB
    for length in range(min(order, len(context) + 1)):
        history = tuple(context[len(context) - length :])
        after = Counter(train[k] for k in range(length, len(train)) if tuple(train[k - length : k]) == history)
        if after:
            p = (after[token] + len(after) * p) / (after.total() + len(after))
    return p


@settings(max_examples=40, deadline=None)
@given(rows, rows, st.integers(1, 5))
@example([0, 0, 0], [0, 0, 0], 5)  # a text that is shorter than a context
def test_it_is_the_recursion(train, text, order):
    model = NGram(tensor(train), VOCAB, order)
    expected = [
        math.log(by_the_book(train, order, text[max(0, k - order + 1) : k], token)) for k, token in enumerate(text)
    ]
    torch.testing.assert_close(model.log_prob(tensor(text)), torch.tensor(expected, dtype=torch.float64))
    assert model.cross_entropy(tensor(text)) == pytest.approx(-sum(expected) / len(text))
    p = model.next_token(tensor(text))
    recent = text[max(0, len(text) - order + 1) :] if order > 1 else []
    torch.testing.assert_close(
        p, torch.tensor([by_the_book(train, order, recent, w) for w in range(VOCAB)], dtype=p.dtype)
    )
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    assert (p > 0).all()


def test_longer_contexts_learn_a_rhythm():
    rhythm = tensor([0, 1, 2, 1] * 50)
    one, two, three = (NGram(rhythm, VOCAB, order).cross_entropy(rhythm) for order in (1, 2, 3))
    assert one == pytest.approx(1.5 * math.log(2), abs=0.05)
    assert two == pytest.approx(0.5 * math.log(2), abs=0.1)
    assert three < 0.1


def test_samples_follow_the_counts_and_the_seed():
    model = NGram(tensor([0, 1, 1, 2] * 30), VOCAB, 2)

    def draw(seed):
        return model.sample(1000, tensor([0]), torch.Generator().manual_seed(seed))

    ids = draw(1)
    assert len(ids) == 1001
    assert torch.equal(ids, draw(1))
    assert not torch.equal(ids, draw(2))
    after_one = ids[1:][ids[:-1] == 1].bincount(minlength=VOCAB) / (ids[:-1] == 1).sum()
    torch.testing.assert_close(after_one.double(), model.next_token(tensor([1])), atol=0.08, rtol=0)
    assert torch.equal(model.sample(0, tensor([3, 2])), tensor([3, 2]))
    assert len(model.sample(2, tensor([]))) == 2


@pytest.mark.parametrize(
    ("ids", "vocab_size", "order", "message"),
    [
        ([], 4, 2, "needs at least one token"),
        ([4], 4, 2, r"ids must lie in 0\.\.3"),
        ([-1], 4, 2, r"ids must lie in 0\.\.3"),
        ([1], 4, 0, "order and vocab_size must be at least 1, got 0 and 4"),
        ([1], 0, 1, "order and vocab_size must be at least 1, got 1 and 0"),
    ],
)
def test_wrong_counts_are_refused(ids, vocab_size, order, message):
    with pytest.raises(ValueError, match=message):
        NGram(tensor(ids), vocab_size, order)


@pytest.mark.parametrize("ids", [torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64), torch.tensor([True])])
def test_what_is_no_row_of_integers_is_refused(ids):
    with pytest.raises(ValueError, match=r"ids must be integers of shape \(n,\)"):
        NGram(ids, 4, 2)
    with pytest.raises(ValueError, match=r"ids must be integers of shape \(n,\)"):
        NGram(tensor([1, 2]), 4, 2).log_prob(ids)
    with pytest.raises(ValueError, match="num_tokens must be at least 0"):
        NGram(tensor([1, 2]), 4, 2).sample(-1, tensor([1]))
