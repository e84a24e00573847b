"""Byte-pair encoding: gentext's Python against the Rust of the `tokenizers` library, training, encoding, decoding.

Both learn the same number of tokens from the same texts, and before anything is timed they must agree on every merge
and every id. Both run on one thread. Encoding is timed on many texts and on one long one, by tokenizers that have met
the words before, and then by tokenizers that have not: both keep words, and forget them before each round.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from gentext import data
from gentext.tokenizer import END_OF_TEXT, BytePairTokenizer, visible

if __package__:
    from .harness import Report, compare, parse, parser
else:  # python benchmarks/tokenizer.py
    from harness import Report, compare, parse, parser


def train_library(texts: Sequence[str], vocab_size: int) -> Any:
    """The library's tokenizer with our settings."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError:
        raise SystemExit("This benchmark needs the tokenizers library: pip install tokenizers") from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def check_agreement(ours: BytePairTokenizer, theirs: Any, text: str) -> None:
    """The same merges, ids and text, or there is nothing to compare."""
    merges = [tuple(merge) for merge in json.loads(theirs.to_str())["model"]["merges"]]
    assert merges == [(visible(left), visible(right)) for left, right in ours.merges]
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False) == text


def forgetful(encode: Callable[[str], object], forget: Callable[[], None], text: str) -> Callable[[], object]:
    """Encoding by a tokenizer that has met no word yet."""

    def run() -> object:
        forget()
        return encode(text)

    return run


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--texts", type=int, default=1000, help="inscriptions to train on and to encode")
    options.add_argument("--vocab-size", type=int, default=1024, help="tokens to learn")
    arguments = parse(options, argv)
    if arguments.vocab_size < 257:
        options.error(f"--vocab-size must be at least 257, got {arguments.vocab_size}")
    texts = list(data.load("inscriptions", "train", size=arguments.texts).texts)
    text = "\n\n".join(texts)
    ours, theirs = BytePairTokenizer.train(texts, arguments.vocab_size), train_library(texts, arguments.vocab_size)
    check_agreement(ours, theirs, text)
    ids = ours.encode(text)

    title = f"{len(text) / 1e6:.2f} M characters of inscriptions, {ours.vocab_size} tokens, {len(ids) / 1e6:.2f} M ids"
    report = Report(title, torch.device("cpu"))
    for name, our_work, their_work in (
        (
            "training",
            lambda: BytePairTokenizer.train(texts, arguments.vocab_size),
            lambda: train_library(texts, arguments.vocab_size),
        ),
        (
            "encoding many texts",
            lambda: [ours.encode(one) for one in texts],
            lambda: [one.ids for one in theirs.encode_batch(texts)],
        ),
        ("encoding one long text", lambda: ours.encode(text), lambda: theirs.encode(text).ids),
        (
            "the same, words new",
            forgetful(ours.encode, ours._known.clear, text),
            forgetful(lambda text: theirs.encode(text).ids, theirs.model._clear_cache, text),
        ),
        ("decoding", lambda: ours.decode(ids), lambda: theirs.decode(ids)),
    ):
        report.comparisons.append(compare(name, our_work, their_work, rounds=arguments.rounds))
    report.deliver(arguments.json)
    if arguments.json != "-":
        for one in report.comparisons[1:]:
            speeds = [len(text) / 1e6 / statistics.median(seconds) for seconds in (one.ours, one.reference)]
            print("{}: {:.1f} against {:.1f} million characters a second".format(one.name, *speeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
