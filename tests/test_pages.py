"""The built book as a reader meets it: every page in Chromium, with every other host out of reach."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from page_tools import HTML, ROOT, Document, Visit, broken, page_names, serious, visit

pytestmark = pytest.mark.page
PAGES = page_names()
SCRIPT_LIMIT = 300_000  # bytes before a figure is touched


@pytest.fixture(scope="module")
def documents(base: str) -> dict[str, Document]:
    return {name: Document(HTML / name) for name in PAGES}


@pytest.fixture(scope="module", params=PAGES)
def seen(browser: Browser, base: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Each page in turn, on a wide screen: one visit serves all its tests."""
    with visit(browser, base, request.param) as opened:
        yield opened


@pytest.fixture(scope="module", params=PAGES)
def phone(browser: Browser, base: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Each page in turn, on a phone."""
    with visit(browser, base, request.param, width=390) as opened:
        yield opened.page


def test_a_page_loads_quietly_and_lightly(seen: Visit) -> None:
    scripts = seen.script_bytes()
    pictures = seen.page.evaluate(
        "() => [...document.querySelectorAll('article img')].map(i => [i.src.slice(0, 90), i.alt, i.naturalWidth])"
    )
    unnamed = seen.page.evaluate(
        """() => [...document.querySelectorAll('article canvas, article svg')]
                 .filter(c => !c.closest('[aria-hidden="true"], button') && !c.getAttribute('aria-label'))
                 .map(c => c.outerHTML.slice(0, 200))"""
    )
    states = seen.page.evaluate("[...document.querySelectorAll('.gentext-live')].map(f => f.dataset.state)")
    total = sum(scripts.values())
    print(f"{seen.page.url}: {total / 1000:.0f} KB of script")
    assert not seen.errors, "the console holds errors"
    assert not seen.outside, "a request left for another host"
    assert not seen.failed, "a request failed"
    assert "error" not in states, "a live figure did not start"
    assert total <= SCRIPT_LIMIT, scripts
    assert not [picture for picture in pictures if not picture[1].strip()], "a picture without a text alternative"
    assert not [picture for picture in pictures if not picture[2]], "a picture that did not load"
    assert not unnamed, "a drawing without a name"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(seen: Visit, scheme: Literal["light", "dark"]) -> None:
    seen.page.emulate_media(color_scheme=scheme)
    seen.page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
    # The drawn half of a formula is hidden from readers and has its paragraph's colour: thousands of spans less to
    # measure.
    assert not serious(seen.page, {"exclude": [[".katex-html"]]})


def test_a_phone_never_scrolls_sideways(phone: Page) -> None:
    overflow, widest = phone.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          const inFrame = (e) => { for (let p = e.parentElement; p; p = p.parentElement)
            if (getComputedStyle(p).overflowX !== 'visible' && p.clientWidth <= width) return true; };
          const wide = [...document.querySelectorAll('main *')].filter(e =>
            e.getBoundingClientRect().right > width + 1 && !inFrame(e)).map(e => e.outerHTML.slice(0, 120));
          return [document.documentElement.scrollWidth - width, wide.slice(0, 3)];
        }"""
    )
    assert overflow <= 0, f"{overflow} pixels too wide: {widest}"


BENT = """() => [...document.querySelectorAll("article img")].filter((i) => i.clientWidth)
  .filter((i) => Math.abs(i.clientHeight / i.clientWidth - i.naturalHeight / i.naturalWidth) > 0.02)
  .map((i) => [i.alt.slice(0, 60), i.clientWidth, i.clientHeight, i.naturalWidth, i.naturalHeight])"""


def test_pictures_keep_their_shape(seen: Visit) -> None:
    assert not seen.page.evaluate(BENT)


def test_pictures_keep_their_shape_on_a_phone(phone: Page) -> None:
    assert not phone.evaluate(BENT)


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


def test_no_line_breaks_between_a_formula_and_its_comma(seen: Visit) -> None:
    for width in range(360, 1300, 60):  # at some width or other every formula ends a line
        seen.page.set_viewport_size({"width": width, "height": 900})
        assert not seen.page.evaluate(TORN), f"{width} pixels wide"


def test_links_lead_somewhere(documents: dict[str, Document]) -> None:
    wrong = [
        f"{name}: {reason}"
        for name, document in documents.items()
        for address in {*document.links, *document.fetched}
        if address != "#" and not address.startswith("data:") and (reason := broken(name, address, documents))
    ]
    assert not wrong, "\n".join(wrong)


def test_pages_fetch_from_the_book_alone(documents: dict[str, Document]) -> None:
    foreign = [
        (name, address)
        for name, document in documents.items()
        for address in document.fetched
        if urlsplit(address).netloc and not address.startswith("data:")
    ]
    assert not foreign


def test_every_chapter_has_a_button_that_opens_it_in_colab(documents: dict[str, Document]) -> None:
    for notebook in sorted((HTML / "_sources").rglob("*.ipynb")):
        name = notebook.relative_to(HTML / "_sources").with_suffix("").as_posix()
        colab = [link for link in documents[f"{name}.html"].links if "colab.research.google.com" in link]
        assert colab, f"{name} has no Colab button"
        assert colab[0].endswith(f"/blob/main/book/{name}.ipynb")


def test_a_chapter_is_numbered_by_its_file_name() -> None:
    for page in HTML.glob("[0-9][0-9]-*.html"):
        chapter = str(int(page.name[:2]))
        text = page.read_text(encoding="utf-8")
        sections = re.findall(r'<h\d><span class="section-number">([\d.]+?)\. ?</span>', text)
        numbers = sections + re.findall(r'class="eqno">\((.+?)\)', text)
        assert sections[0] == chapter
        assert {number.split(".")[0] for number in numbers} == {chapter}


def test_mathematics_is_set_when_the_book_is_built(documents: dict[str, Document]) -> None:
    for name in documents:
        text = (HTML / name).read_text(encoding="utf-8")
        assert "katex-error" not in text
        assert not re.search(r"MathJax|katex(\.min)?\.js", text), f"{name} loads a script for mathematics"
    assert '<span class="katex">' in (HTML / "notation.html").read_text(encoding="utf-8")


def test_search_finds_a_word_of_the_glossary(browser: Browser, base: str) -> None:
    with visit(browser, base, "index.html") as seen:
        page = seen.page
        page.keyboard.press("Control+k")
        page.keyboard.type("posterior collapse")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=posterior*")
        found = page.locator("#search-results li a")
        found.first.wait_for(timeout=30_000)
        addresses = [link.get_attribute("href") for link in found.all()]
        assert any(address.startswith("glossary.html") for address in addresses)
        assert not seen.errors + seen.outside + seen.failed


def test_night_turns_pictures_over_and_can_be_chosen(browser: Browser, base: str) -> None:
    with visit(browser, base, "index.html") as seen:
        page, picture = seen.page, seen.page.locator("article img").first
        assert picture.evaluate("i => getComputedStyle(i).filter") == "none"
        for _ in range(3):  # the button goes round light, dark, as the system
            page.locator(".theme-switch-button:visible").first.click()
            if page.evaluate("document.documentElement.dataset.theme") == "dark":
                break
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert "invert(1)" in picture.evaluate("i => getComputedStyle(i).filter")


def test_vendoring_twice_does_nothing_the_second_time() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "book" / "_ext" / "vendor.py")], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip().endswith("nothing to do") or "copied" in run.stdout
    again = subprocess.run(
        [sys.executable, str(ROOT / "book" / "_ext" / "vendor.py")], capture_output=True, text=True, check=True
    )
    assert again.stdout.strip() == "vendor: nothing to do"
