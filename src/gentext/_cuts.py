"""Where byte-pair encoding cuts a text: GPT-2's rules (Radford et al. 2019), written for the `re` of Python."""

from __future__ import annotations

import itertools
import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache

# GPT-2's cuts, and a variant in which digits stand alone. L are letters, N numbers, S white space.
CUTS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?[L]+| ?[N]+| ?[^SLN]+|[S]+(?![^S])|[S]+",
    "digits": r"'s|'t|'re|'ve|'m|'ll|'d| ?[L]+|[N]| ?[^SLN]+|[S]+(?![^S])|[S]+",
}
_ASCII = {"L": "A-Za-z", "N": "0-9", "S": r"\t-\r "}


@cache
def _unicode_classes() -> dict[str, str]:
    """Letters, numbers and white space of Unicode as ranges: `re` has no names for them."""
    kinds = itertools.groupby(range(sys.maxunicode + 1), key=lambda code: unicodedata.category(chr(code))[0])
    ranges: dict[str, list[str]] = {"L": [], "N": []}
    for kind, codes in kinds:
        if kind in ranges:
            first, *rest = codes
            ranges[kind].append(rf"\U{first:08x}-\U{(rest or [first])[-1]:08x}")
    # Unicode's property White_Space. `\s` would add four control characters.
    space = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    return {"L": "".join(ranges["L"]), "N": "".join(ranges["N"]), "S": space}


@cache
def _cutter(pattern: str, ascii_only: bool) -> Callable[[str], list[str]]:
    classes = _ASCII if ascii_only else _unicode_classes()
    expression = re.sub(r"(?<![a-z'])[LNS](?=[LNS\]])", lambda match: classes[match[0]], CUTS[pattern])
    return re.compile(expression).findall


def cut(text: str, pattern: str = "gpt2") -> list[str]:
    """The pieces of `text`: joined they are the text again."""
    return _cutter(pattern, text.isascii())(text)  # the ASCII pattern is faster, and most texts need no other
