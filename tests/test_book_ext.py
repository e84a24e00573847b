"""The book's own Sphinx extensions, by themselves on docutils nodes, and what they make of a page in Chromium."""

from __future__ import annotations

import sys

import pytest
from docutils import nodes

from page_tools import ROOT, page_names, visit

sys.path.insert(0, str(ROOT / "book" / "_ext"))
pytest.importorskip("sphinxcontrib.katex")
from book_math import keep_punctuation


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


# Text that left its formula for the next line stands left of the formula's end; text left behind, right of its start.
TORN = r"""() => {
  const torn = [];
  for (const formula of document.querySelectorAll("article span.math")) {
    const next = formula.nextSibling;
    if (!formula.closest(".math-joined") && next?.nodeType === Node.TEXT_NODE && /^[.,;:!?)]/.test(next.data))
      torn.push(`not joined: ${formula.textContent}`);
  }
  for (const joined of document.querySelectorAll("article .math-joined")) {
    const boxes = [...joined.querySelectorAll(".katex-html > :not(wbr)")].map((box) => box.getBoundingClientRect());
    if (!boxes.length || !boxes[0].width) continue; // in a folded solution
    for (const text of joined.childNodes) {
      if (text.nodeType !== Node.TEXT_NODE) continue;
      const range = document.createRange();
      range.selectNode(text);
      const { left, right } = range.getBoundingClientRect();
      const after = text !== joined.firstChild;
      if (after ? left < boxes.at(-1).right - 2 : right > boxes[0].left + 2) torn.push(joined.textContent);
    }
  }
  return torn;
}"""


@pytest.mark.page
@pytest.mark.parametrize("name", [name for name in page_names() if name[:2].isdigit()] or ["index.html"])
def test_no_line_breaks_between_a_formula_and_its_comma(browser, base: str, name: str) -> None:
    with visit(browser, base, name, read=False) as seen:
        for width in range(360, 1300, 60):  # at some width or other every formula ends a line
            seen.page.set_viewport_size({"width": width, "height": 900})
            assert not seen.page.evaluate(TORN), f"{width} pixels wide"


@pytest.mark.page
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("name", [name for name in page_names() if name[:2].isdigit()] or ["index.html"])
def test_pictures_keep_their_shape(browser, base: str, name: str, width: int) -> None:
    with visit(browser, base, name, width=width) as seen:
        bent = seen.page.evaluate(
            """() => [...document.querySelectorAll("article img")].filter((i) => i.clientWidth)
                 .filter((i) => Math.abs(i.clientHeight / i.clientWidth - i.naturalHeight / i.naturalWidth) > 0.02)
                 .map((i) => [i.alt.slice(0, 60), i.clientWidth, i.clientHeight, i.naturalWidth, i.naturalHeight])"""
        )
    assert not bent
