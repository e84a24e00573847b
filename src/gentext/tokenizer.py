"""Text to numbers and back: characters, or byte-pair encoding (Gage 1994; Sennrich et al. 2016; Radford et al. 2019).

Byte-pair encoding starts from the 256 bytes, so that it can write anything, and learns merges: the pair of neighbouring
tokens that occurs most often becomes a token, then the next, until the vocabulary is full. Text is cut into pieces
(words with the space before them, numbers, marks) and no token crosses a cut.

Reads from top to bottom: what all tokenizers can do, characters, byte pairs and how they are learned, files.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from gentext._cuts import CUTS, cut

END_OF_TEXT = "<|endoftext|>"
FORMAT = "gentext tokenizer 1"

Pair = tuple[int, int]


class Tokenizer(Protocol):
    """What every tokenizer can do. Ids are 0, 1, ..., vocab_size − 1."""

    special_ids: dict[str, int]  # tokens that no text can contain by accident, such as <|endoftext|>

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def save(self, path: str | Path) -> Path: ...


# ---- characters ------------------------------------------------------------------------------------------------------


class CharTokenizer:
    """One token for each character, in the order of their code points; special tokens come first.

    Raises:
        ValueError: a character is longer than one, or there twice, or there is none.
    """

    def __init__(self, characters: Sequence[str], special_tokens: Sequence[str] = ()) -> None:
        _check_specials(special_tokens)
        if not characters or any(len(c) != 1 for c in characters) or len(set(characters)) < len(characters):
            raise ValueError(f"a character tokenizer needs different single characters, got {list(characters)!r}")
        self.special_ids = {token: k for k, token in enumerate(special_tokens)}
        self.characters = tuple(characters)
        self._tokens = (*special_tokens, *characters)
        self._ids = {c: k for k, c in enumerate(characters, start=len(special_tokens))}

    @classmethod
    def train(cls, text: str | Iterable[str], special_tokens: Sequence[str] = ()) -> CharTokenizer:
        """A tokenizer for all characters that occur in the text or texts."""
        return cls(sorted(set().union(*_texts(text))), special_tokens)

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    def encode(self, text: str) -> list[int]:
        """Ids of the characters. Raises ValueError for a character that was not in the training text."""
        try:
            return [self._ids[c] for c in text]
        except KeyError as error:
            raise ValueError(f"{error.args[0]!r} is none of the {len(self._ids)} known characters") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The characters. Raises ValueError for an id that is no token."""
        return "".join([self._tokens[k] for k in _checked(ids, self.vocab_size)])

    def tokens(self, text: str) -> list[str]:
        """The text cut into its tokens."""
        return list(text)

    def save(self, path: str | Path) -> Path:
        """Write a JSON file that `load` reads."""
        return _write(path, {"kind": "characters", "special_tokens": [*self.special_ids], "tokens": [*self.characters]})


# ---- byte-pair encoding ----------------------------------------------------------------------------------------------

# The bytes in the order of their ids. GPT-2 writes each byte as one visible character: the visible ones of Latin-1 as
# themselves, the other 68 as the characters from code point 256 on. In the order of these, visible bytes come first.
_VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = bytes([*_VISIBLE, *sorted(set(range(256)) - set(_VISIBLE))])
_CHARACTER = {byte: chr(byte if byte in _VISIBLE else 256 + k - len(_VISIBLE)) for k, byte in enumerate(BYTES)}
_BYTE = {character: byte for byte, character in _CHARACTER.items()}


def visible(token: bytes) -> str:
    """A token in GPT-2's alphabet of visible bytes: the space is Ġ, the line break Ċ."""
    return "".join([_CHARACTER[byte] for byte in token])


def invisible(token: str) -> bytes:
    """What `visible` made, back. Raises KeyError for a character outside the alphabet."""
    return bytes([_BYTE[character] for character in token])


class BytePairTokenizer:
    """Byte-pair encoding on bytes. Ids: special tokens, the 256 bytes in the order of `BYTES`, one for each merge.

    Args:
        merges: pairs of tokens in the order in which they were learned.
        pattern: one of `CUTS`.
        special_tokens: names of tokens outside all text.

    Raises:
        ValueError: a merge needs a token that no earlier merge made, or is there twice; no such pattern.
    """

    def __init__(
        self,
        merges: Iterable[tuple[bytes, bytes]],
        pattern: str = "gpt2",
        special_tokens: Sequence[str] = (END_OF_TEXT,),
    ) -> None:
        _check_specials(special_tokens)
        _check_pattern(pattern)
        self.pattern = pattern
        self.special_ids = {token: k for k, token in enumerate(special_tokens)}
        self.merges = tuple(merges)
        first = len(special_tokens)
        self._tokens = [token.encode() for token in special_tokens] + [bytes([byte]) for byte in BYTES]
        self._ids = {token: k for k, token in enumerate(self._tokens[first:], start=first)}
        self._merged: dict[Pair, tuple[int, int]] = {}  # pair of ids -> (rank, id of what they become)
        for rank, (left, right) in enumerate(self.merges):
            if left not in self._ids or right not in self._ids:
                raise ValueError(f"merge {rank} joins {left!r} and {right!r}, and not both are tokens by then")
            pair = self._ids[left], self._ids[right]
            if pair in self._merged:
                raise ValueError(f"merge {rank} joins {left!r} and {right!r}, as an earlier one does")
            joined = left + right
            if joined not in self._ids:  # two ways to build one token are two merges
                self._ids[joined] = len(self._tokens)
                self._tokens.append(joined)
            self._merged[pair] = rank, self._ids[joined]
        self._start = [self._ids[bytes([byte])] for byte in range(256)]
        self._known: dict[str, list[int]] = {}  # pieces met before

    @classmethod
    def train(
        cls,
        text: str | Iterable[str],
        vocab_size: int,
        pattern: str = "gpt2",
        special_tokens: Sequence[str] = (END_OF_TEXT,),
    ) -> BytePairTokenizer:
        """Learn merges from a text, or from texts, until there are `vocab_size` tokens or nothing is left to merge.

        Raises ValueError if `vocab_size` does not even hold the bytes and the special tokens.
        """
        least = 256 + len(special_tokens)
        if vocab_size < least:
            raise ValueError(f"vocab_size must be at least {least}, for the bytes and special tokens; got {vocab_size}")
        _check_pattern(pattern)
        pieces: Counter[str] = Counter()
        for one in _texts(text):
            pieces.update(cut(one, pattern))
        words = {_to_bytes(piece): count for piece, count in pieces.items()}
        return cls(learn_merges(words, vocab_size - least), pattern, special_tokens)

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    def token(self, token_id: int) -> bytes:
        """The bytes of a token."""
        return self._tokens[_checked([token_id], self.vocab_size)[0]]

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of the text's tokens.

        With `specials`, the names of special tokens in the text become these tokens: for text that one wrote oneself.
        Without, they are spelled like anything else, so that a stranger's text cannot end the text.
        """
        if not specials or not self.special_ids:
            return self._encode(text)
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        ids: list[int] = []
        for part in re.split(f"({'|'.join(map(re.escape, longest_first))})", text):
            ids += [self.special_ids[part]] if part in self.special_ids else self._encode(part)
        return ids

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        known = self._known
        for piece in cut(text, self.pattern):
            found = known.get(piece)
            if found is None:
                found = self.merge(_to_bytes(piece))
                if len(known) < 100_000:  # enough for a language's words, too little to fill the memory
                    known[piece] = found
            ids += found
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids for any bytes, cut where the text that they encode is cut, as far as they encode one."""
        pieces = cut(data.decode("utf-8", "surrogateescape"), self.pattern)
        return [token for piece in pieces for token in self.merge(piece.encode("utf-8", "surrogateescape"))]

    def merge(self, word: bytes) -> list[int]:
        """Ids for a piece: of all merges that apply the one learned first, the leftmost first, until none applies."""
        start, merged = self._start, self._merged
        ids: list[int] = [start[byte] for byte in word]
        end = len(ids)
        after, before = list(range(1, end + 1)), list(range(-1, end))  # neighbours, as merging leaves gaps
        queue = [(*merged[pair], place) for place, pair in enumerate(itertools.pairwise(ids)) if pair in merged]
        heapq.heapify(queue)  # (rank, what the pair becomes, where its left half stands)
        while queue:
            rank, joined, place = heapq.heappop(queue)
            right = after[place]
            if right == end or merged.get((ids[place], ids[right])) != (rank, joined):
                continue  # an earlier merge took one of the two
            ids[place], ids[right] = joined, -1
            after[place] = after[right]
            before[after[place]] = place
            for left in (before[place], place):
                if left >= 0 and after[left] < end:
                    pair = ids[left], ids[after[left]]
                    if pair in merged:
                        heapq.heappush(queue, (*merged[pair], left))
        return [k for k in ids if k >= 0]

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the tokens. Raises ValueError for an id that is no token."""
        return b"".join([self._tokens[k] for k in _checked(ids, self.vocab_size)])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the tokens. Where they are no text (half a character, say) the sign U+FFFD stands."""
        data = self.decode_bytes(ids)
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return data.decode("utf-8", "replace")

    def tokens(self, text: str) -> list[str]:
        """The text cut into its tokens, each written in visible characters (a space is Ġ)."""
        return [visible(self._tokens[k]) for k in self.encode(text)]

    def save(self, path: str | Path) -> Path:
        """Write a JSON file that `load` reads."""
        merges = [f"{visible(left)} {visible(right)}" for left, right in self.merges]
        content = {"kind": "byte pairs", "pattern": self.pattern, "special_tokens": [*self.special_ids]}
        return _write(path, {**content, "merges": merges})


def learn_merges(words: dict[bytes, int], num_tokens: int) -> list[tuple[bytes, bytes]]:
    """Merges that make `num_tokens` new tokens, or fewer where nothing is left to merge; `words` with their counts.

    The most frequent pair goes first, of equally frequent ones that with the smaller ids (left, then right). Counting
    all pairs anew after each merge would be slow; only words with that pair change, and in them the pairs beside it.
    """
    tokens = [bytes([byte]) for byte in BYTES]
    ids = {token: k for k, token in enumerate(tokens)}
    spelled = [[ids[bytes([byte])] for byte in word] for word in words]
    frequency = list(words.values())
    count: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # the words in which a pair occurs, or once did
    for index, spelling in enumerate(spelled):
        for pair in itertools.pairwise(spelling):
            count[pair] += frequency[index]
            where[pair].add(index)
    queue = [(-n, pair) for pair, n in count.items()]
    heapq.heapify(queue)
    merges: list[tuple[bytes, bytes]] = []
    wanted = len(tokens) + num_tokens
    while queue and len(tokens) < wanted:
        n, pair = heapq.heappop(queue)
        if -n != count[pair]:  # it became rarer since it was queued
            if count[pair] > 0:
                heapq.heappush(queue, (-count[pair], pair))
            continue
        joined = tokens[pair[0]] + tokens[pair[1]]
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        if joined not in ids:
            ids[joined] = len(tokens)
            tokens.append(joined)
        more: set[Pair] = set()
        for index in where.pop(pair, ()):
            for changed, by in _join(spelled[index], pair, ids[joined]):
                count[changed] += by * frequency[index]
                if by > 0:
                    where[changed].add(index)
                    more.add(changed)
        for changed in more:
            if count[changed] > 0:
                heapq.heappush(queue, (-count[changed], changed))
    return merges


def _join(spelling: list[int], pair: Pair, joined: int) -> Iterator[tuple[Pair, int]]:
    """Join `pair` wherever it stands, from left to right; which pairs that adds (+1) and takes away (−1)."""
    place = 0
    while place < len(spelling) - 1:
        if (spelling[place], spelling[place + 1]) == pair:
            spelling[place : place + 2] = [joined]
            if place > 0:
                yield (spelling[place - 1], pair[0]), -1
                yield (spelling[place - 1], joined), 1
            if place + 1 < len(spelling):
                yield (pair[1], spelling[place + 1]), -1
                yield (joined, spelling[place + 1]), 1
        place += 1


# ---- files and checks ------------------------------------------------------------------------------------------------


def load(path: str | Path) -> CharTokenizer | BytePairTokenizer:
    """The tokenizer that `save` wrote. The file is only read, never run.

    Raises:
        ValueError: there is no such file, it is no tokenizer of ours, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file ({error}): make or fetch it again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is no tokenizer that this gentext can read: it does not say {FORMAT!r}")
    try:
        specials = _strings(content, "special_tokens")
        if content.get("kind") == "characters":
            return CharTokenizer(_strings(content, "tokens"), specials)
        if content.get("kind") == "byte pairs":
            merges = [_read_merge(merge) for merge in _strings(content, "merges")]
            return BytePairTokenizer(merges, str(content.get("pattern")), specials)
        raise ValueError(f"there is no kind {content.get('kind')!r} of tokenizer")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _write(path: str | Path, content: dict[str, Any]) -> Path:
    """Write the JSON in one step: a reader sees the old file or the new one."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        part.write_text(json.dumps({"format": FORMAT, **content}, ensure_ascii=True, indent=0), "utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _strings(content: dict[str, Any], entry: str) -> list[str]:
    found = content.get(entry)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"its {entry!r} must be a list of strings")
    return found


def _read_merge(merge: str) -> tuple[bytes, bytes]:
    left, _, right = merge.partition(" ")
    if not left or not right or not set(left + right) <= set(_BYTE):
        raise ValueError(f"{merge!r} is no merge: two tokens in visible bytes with a space between them")
    return invisible(left), invisible(right)


def _to_bytes(piece: str) -> bytes:
    return piece.encode("utf-8", "surrogatepass")  # a lone half of a surrogate pair is no text, and yet comes back


def _texts(text: str | Iterable[str]) -> Iterable[str]:
    return [text] if isinstance(text, str) else text


def _checked(ids: Iterable[int], vocab_size: int) -> list[int]:
    ids = [int(k) for k in ids]
    for k in ids:
        if not 0 <= k < vocab_size:
            raise ValueError(f"{k} is no token: ids go from 0 to {vocab_size - 1}")
    return ids


def _check_specials(special_tokens: Sequence[str]) -> None:
    if isinstance(special_tokens, str) or len(set(special_tokens)) < len(special_tokens) or "" in special_tokens:
        raise ValueError(f"special_tokens must be different, non-empty strings, got {special_tokens!r}")


def _check_pattern(pattern: str) -> None:
    if pattern not in CUTS:
        raise ValueError(f"there is no pattern {pattern!r}; the patterns are {', '.join(CUTS)}")
