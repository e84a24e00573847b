"""The book's own Sphinx extensions on docutils nodes; `tests/test_pages.py` sees what they make of pages."""

from __future__ import annotations

import sys

import pytest
from docutils import nodes

from page_tools import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
pytest.importorskip("sphinxcontrib.katex")
from book_math import keep_punctuation
from book_search import SearchWords


def paragraph(*parts: str | nodes.Node, kind: type[nodes.TextElement] = nodes.paragraph) -> nodes.TextElement:
    """A block of text and formulas: "$x$" is a formula, everything else is what it is."""
    block = kind()
    for part in parts:
        if isinstance(part, str):
            part = nodes.math(text=part[1:-1]) if part.startswith("$") else nodes.Text(part)
        block += part
    return block


def joined(*parts: str | nodes.Node, kind: type[nodes.TextElement] = nodes.paragraph) -> str:
    """The text afterwards, with what is kept together in brackets."""
    block = paragraph(*parts, kind=kind)
    before = block.astext()
    keep_punctuation(block)
    assert block.astext() == before, "nothing is lost and nothing moves"
    assert all(child.parent is node for node in block.findall(nodes.Element) for child in node.children)
    for span in list(block.findall(nodes.inline)):
        assert span["classes"] == ["math-joined"]
        span.insert(0, nodes.Text("["))
        span.append(nodes.Text("]"))
    return block.astext()


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("take ", "$x$", ", then"), "take [x,] then"),
        (("a code (", "$z$", ")"), "a code [(z)]"),
        (("the ", "$K$", "th draw"), "the [Kth] draw"),
        (("a ", "$b$", "-VAE"), "a [b-VAE]"),
        (("“", "$x$", "”"), "[“x”]"),
        (("from ", "$x$", " to ", "$y$"), "from x to y"),
        (("noise—", "$x$", "—alone"), "noise—[x—]alone"),
        (("$a$", "/", "$b$", "."), "[a/][b.]"),
        (("(", "$x$", " ", "(", "$y$", ")"), "[(x] [(y)]"),  # equal texts are told apart by their place
        (("$a$", ", ", "$b$", ", ", "$c$", "."), "[a,] [b,] [c.]"),
        (("$x$",), "x"),
        ((), ""),
    ],
)
def test_a_formula_keeps_what_touches_it(parts: tuple[str, ...], text: str) -> None:
    assert joined(*parts) == text


def test_punctuation_is_found_beside_emphasis_and_empty_text() -> None:
    strong = nodes.strong()
    strong.extend([nodes.Text("at "), nodes.math(text="x")])
    assert joined("Stop ", strong, nodes.Text(""), ", and") == "Stop at [x,] and"
    inside = nodes.emphasis()
    inside.extend([nodes.math(text="x"), nodes.Text(" is")])
    assert joined("so (", inside, ")") == "so [(x] is)"
    assert joined(nodes.Text(""), "$x$", nodes.Text("")) == "x"


def test_titles_and_captions_too_and_a_second_time_changes_nothing() -> None:
    for kind in (nodes.title, nodes.caption, nodes.term):
        assert joined("of ", "$z$", ".", kind=kind) == "of [z.]"
    block = paragraph("of (", "$z$", ").")
    keep_punctuation(block)
    once = block.pformat()
    keep_punctuation(block)
    assert len(list(block.findall(nodes.inline))) == 1, once


def test_what_is_no_text_is_left_alone() -> None:
    image = nodes.image(uri="a.png")
    assert joined("$x$", image, ", ", nodes.reference("", "(", refuri="#"), "$y$") == "x, (y"


def test_the_search_index_has_words_and_no_whole_numbers() -> None:
    words = SearchWords({})
    assert [words.word_filter(word) for word in ("1024", "437")] == [False, False]
    assert all(words.word_filter(word) for word in ("diffus", "2d", "frechet_distance", "ε"))
    assert not words.word_filter("the")
