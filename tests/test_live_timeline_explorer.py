"""The timeline explorer: its contents in Python, and its behaviour in Chromium, held against `gentext.timeline`."""

import json
import re
from pathlib import Path

import pytest
import torch

from gentext import timeline
from gentext.live import front
from gentext.live.timeline_explorer import CHAPTERS, TimelineExplorer, contents
from gentext.timeline import FAMILIES, event
from live_tools import compare, picture, run_in_kernel
from page_tools import serious

ROOT = Path(__file__).resolve().parents[1]


def made_up(id: str = "mine", **changes):
    plain = {"name": "Mine", "date": "2026-10", "authors": ["Me"], "family": "latent", "idea": "New.", "parents": []}
    return event(**{"id": id, "cite": "me2026", **plain, **changes})


@pytest.fixture(scope="module")
def published():
    return TimelineExplorer.published()


# ---- in Python ----


def test_the_state_holds_the_whole_table(published):
    events = timeline.load()
    state = json.loads(json.dumps(published.state, allow_nan=False))
    assert len(json.dumps(state, ensure_ascii=False).encode()) < 120_000
    assert [entry["name"] for entry in state["events"]] == [item.name for item in events]
    sources = {entry["cite"] for entry in state["events"]}
    assert {"Shannon 1948", "Kingma and Welling 2014", "Rosenblatt 1958", "OpenAI 2022"} <= sources
    assert "Tipping and Bishop 1999" in sources
    for entry, item in zip(state["events"], events, strict=True):
        numbers = [entry[name]["cite"] for name in ("parameters", "compute") if entry[name]]
        assert all(re.fullmatch(r".+ \d{4}", source) for source in [entry["cite"], *numbers]), entry
        assert [events[place].id for place in entry["parents"]] == list(item.parents)
        assert list(FAMILIES)[entry["family"]] == item.family
        assert (entry["compute"] or {}).get("value") == (item.compute.value if item.compute else None)
    low, high = state["range"]
    assert low < events[0].time
    assert events[-1].time < high
    start, end = state["initial"]["window"]
    assert low <= start < events[state["initial"]["event"]].time < end <= high
    assert state["events"][state["initial"]["event"]]["name"] == "Transformer"


def test_chapters_are_those_of_the_book(published):
    """Numbers and, where a chapter exists, its title."""
    assert set(CHAPTERS) == set(range(1, timeline.LAST_CHAPTER + 1))
    for path in (ROOT / "book").glob("[0-9][0-9]-*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
        number = int(path.name[:2])
        if number in (3, 4, 5):
            assert CHAPTERS[number].split()[0].lower() == title.split()[0].lower(), f"{path.name}: {title}"


def test_the_poster_says_something_without_a_page(published):
    html = TimelineExplorer().to_html()
    assert 'data-figure="timeline_explorer"' in html
    assert 'data-model="published"' in html
    assert len(html) < 120_000
    alt = re.search(r'alt="([^"]+)"', html)[1]
    assert "Transformer" in alt
    assert len(alt) > 100
    assert repr(TimelineExplorer()) == "<TimelineExplorer>"
    assert "timelineLanes" in TimelineExplorer._esm
    assert not re.search(r"^import ", TimelineExplorer._esm, flags=re.MULTILINE)


def test_front_end_names_do_not_collide_when_bundled():
    names = re.findall(
        r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", front.bundle("timeline_explorer"), re.M
    )
    assert len(names) == len(set(names))


def test_visible_is_the_packages_select(published):
    events = timeline.load()
    for window, families in (
        ((1943, 2027), [1] * 6),
        ((2014.5, 2018), [0, 0, 1, 0, 1, 0]),
        ((1950, 1950), [1] * 6),
        ((2000, 2020), [0] * 6),
    ):
        inputs = {"window": torch.tensor(window, dtype=torch.float64), "families": torch.tensor(families).double()}
        (seen,) = published.computed["visible"](inputs).values()
        keys = [key for key, on in zip(FAMILIES, families, strict=True) if on]
        expected = timeline.select(events, start=window[0], end=window[1], families=keys)
        assert [events[i].id for i in seen.nonzero()[:, 0].tolist()] == [item.id for item in expected]
    edge = timeline.find(events, "gan").time
    window = torch.tensor([edge, edge], dtype=torch.float64)
    (seen,) = published.computed["visible"]({"window": window, "families": torch.ones(6)}).values()
    assert seen.sum() == 2  # both ends belong to the window: GAN and the encoder-decoder came in one month


def test_lineage_is_the_packages(published):
    events = timeline.load()
    for index in (0, 1, 57, len(events) - 1):
        found = published.computed["lineage"]({"event": torch.tensor([float(index)])})
        for name, ask in (("ancestors", timeline.ancestors), ("descendants", timeline.descendants)):
            assert {events[i].id for i in found[name].nonzero()[:, 0].tolist()} == ask(events, events[index].id)


def test_a_readers_own_events_join_the_books():
    mine = made_up(parents=["transformer", "ddpm"])
    figure = TimelineExplorer([*timeline.load(), mine], chosen="mine")
    state = figure.state
    assert state["events"][state["initial"]["event"]]["name"] == "Mine"
    assert state["events"][-1]["name"] == "Mine"
    assert 'data-model="own"' in figure.to_html()
    alone = TimelineExplorer([mine_alone := made_up()])
    low, high = alone.state["range"]
    assert high - low >= 2
    assert low < mine_alone.time < high
    assert alone.state["initial"] == {"event": 0, "window": alone.state["range"]}
    pair = TimelineExplorer([made_up("a", date="1990"), made_up("b", date="2000", parents=["a"])])
    assert pair.state["initial"]["event"] == 0  # the one with descendants


def test_the_published_figure_may_open_elsewhere():
    figure = TimelineExplorer(chosen="gan")
    assert figure.state["events"][figure.state["initial"]["event"]]["name"] == "GAN"
    early = TimelineExplorer(chosen="perceptron").state
    start, end = early["initial"]["window"]
    assert start <= early["events"][early["initial"]["event"]]["time"] <= end


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([],), "at least one"),
        ((["transformer"],), "not str"),
        ((5,), "not int"),
        (([made_up(), made_up()],), "Two events"),
        (([made_up(parents=["transformer"])],), "not in the table"),
        (([made_up()], "other"), "no event 'other'"),
        ((None, "skynet"), "no event 'skynet'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        TimelineExplorer(*arguments)


# ---- in the browser ----

NAV = """<nav aria-label="book"><a href="05-variational-autoencoders.html">5</a><a href="#">3</a>
<a href="bibliography.html">bibliography</a></nav>"""


@pytest.fixture(scope="module")
def figures(published):
    return {TimelineExplorer: published}


@pytest.fixture(scope="module")
def book(site):
    """The name of a page that leads to other chapters."""
    page = (site.root / "timeline_explorer.html").read_text(encoding="utf-8")
    (site.root / "book.html").write_text(page.replace("<main>", f"{NAV}<main>"), encoding="utf-8")
    return "book.html"


@pytest.fixture
def open_figure(open_page, book, published):
    """A page with the figure; at the end every answer must be exactly the package's."""
    pages = []

    def open_it(**options):
        pages.append(open_page(book, **{"viewport": {"width": 1100, "height": 1400}, **options}))
        return pages[-1]

    yield open_it
    for page in pages:
        compare(page, published, tolerance=0)


def chosen(page) -> str:
    return page.locator(".gl-card-title strong").inner_text()


def drawing(page) -> str:
    return picture(page, "lanes")


def sight(page) -> tuple[int, int, int]:
    """First year, last year and number of events in sight."""
    return tuple(map(int, re.match(r"(\d+) to (\d+): (\d+) of", page.locator(".gl-help").first.inner_text()).groups()))


@pytest.mark.slow
def test_it_shows_the_opening_event_before_any_touch(open_figure):
    page = open_figure()
    assert chosen(page) == "Transformer"
    assert page.locator(".gentext-poster").count() == 0
    assert page.evaluate("window.__gentextLive") is None
    assert "Transformer" in page.locator("[data-role=lanes]").get_attribute("aria-label")
    assert page.locator("[data-role=event] option").count() == len(timeline.load())
    card = page.locator(".gl-card").inner_text()
    assert "2.3 × 10¹⁹ FLOP (published: Vaswani et al. 2017, table 2, big)" in card
    assert "213 million" in card


@pytest.mark.slow
def test_sliders_and_buttons_move_and_zoom(open_figure):
    page = open_figure()
    for role, key in (("middle", "ArrowLeft"), ("span", "PageUp"), ("span", "PageDown")):
        before = drawing(page), sight(page)
        page.locator(f"[data-role={role}]").press(key)
        assert drawing(page) != before[0]
    start, end, count = sight(page)
    for role in ("zoom-in", "zoom-out", "all"):
        before = drawing(page)
        page.locator(f"[data-role={role}]").click()
        assert drawing(page) != before
    assert sight(page)[2] == len(timeline.load())
    assert page.locator("[data-role=zoom-out]").is_disabled()
    assert page.locator("[data-role=all]").is_disabled()
    for _ in range(20):
        if page.locator("[data-role=zoom-in]").is_enabled():
            page.locator("[data-role=zoom-in]").click()
    assert page.locator("[data-role=zoom-in]").is_disabled()
    start, end, count = sight(page)
    assert end - start <= 3
    assert count >= 1  # zooming keeps the chosen event in sight
    assert max(answer["milliseconds"] for answer in page.evaluate("window.answers")) < 50


@pytest.mark.slow
def test_families_are_filtered_and_come_back_when_followed(open_figure):
    page = open_figure()
    for index, name in enumerate(FAMILIES.values()):
        before, count = drawing(page), sight(page)[2]
        page.get_by_label(name, exact=True).press("Space")
        assert drawing(page) != before
        if index < 5:
            assert 0 < sight(page)[2] < count
    assert sight(page)[2] == 0
    page.locator("[data-role=event]").select_option(label="2014-06  GAN")
    assert chosen(page) == "GAN"
    assert page.get_by_label("Adversarial", exact=True).is_checked()
    assert 0 < sight(page)[2] <= 12


@pytest.mark.slow
def test_lineage_can_be_walked_from_the_card_and_by_keyboard(open_figure):
    page = open_figure()
    page.get_by_role("button", name="Attention", exact=True).press("Enter")
    assert chosen(page) == "Attention"
    assert page.evaluate("document.activeElement.className") == "gl-card"  # the reader stays where the answer is
    page.locator("[data-role=child]").first.click()
    lanes = page.locator("[data-role=lanes]")
    events = {item.name: item for item in timeline.load()}
    here = chosen(page)
    lanes.press("ArrowUp")
    assert events[chosen(page)].id == events[here].parents[-1]
    here = chosen(page)
    lanes.press("ArrowDown")
    assert events[chosen(page)].id == timeline.children(timeline.load(), events[here].id)[0]
    order = [item.name for item in timeline.load()]
    here = order.index(chosen(page))
    lanes.press("ArrowRight")
    assert chosen(page) == order[here + 1]
    lanes.press("ArrowLeft")
    lanes.press("ArrowLeft")
    assert chosen(page) == order[here - 1]
    for key in ("Shift+ArrowLeft", "Shift+ArrowRight", "Shift+ArrowUp", "Shift+ArrowDown", "Home", "+", "-"):
        before = sight(page)[:2], drawing(page)
        lanes.press(key)
        assert (sight(page)[:2], drawing(page)) != before, key
    lanes.press("Shift+ArrowUp")
    for _ in range(6):
        lanes.press("Shift+ArrowRight")
    before = drawing(page)
    lanes.press("Space")  # back to the chosen event
    assert drawing(page) != before
    for role in ("earlier", "later"):
        before = chosen(page)
        page.locator(f"[data-role={role}]").click()
        assert chosen(page) != before


@pytest.mark.slow
def test_the_ends_of_the_history_are_ends(open_figure):
    page = open_figure()
    page.locator("[data-role=event]").select_option(index=0)
    assert chosen(page) == "Artificial neuron"
    assert page.locator("[data-role=earlier]").is_disabled()
    page.locator("[data-role=lanes]").press("ArrowUp")  # no parents: nothing happens
    assert chosen(page) == "Artificial neuron"
    page.locator("[data-role=event]").select_option(index=len(timeline.load()) - 1)
    assert page.locator("[data-role=later]").is_disabled()
    start, end, _ = sight(page)
    assert start <= 2026 <= end


@pytest.mark.slow
def test_mouse_drags_clicks_and_the_wheel(open_figure):
    page = open_figure()
    box = page.locator("[data-role=lanes]").bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
    before = sight(page)
    page.mouse.move(*at(0.3, 0.3))
    page.mouse.down()
    page.mouse.move(*at(0.7, 0.6), steps=4)
    page.mouse.up()
    moved = sight(page)
    assert moved[0] < before[0]
    assert chosen(page) == "Transformer"  # a drag is no click
    page.mouse.move(*at(0.5, 0.5))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    page.wait_for_function("n => window.answers.length > n", arg=page.evaluate("window.answers.length") - 1)
    page.wait_for_timeout(100)
    zoomed = sight(page)
    assert zoomed[1] - zoomed[0] < moved[1] - moved[0]
    page.mouse.click(*at(0.2, 0.985))  # the strip: the whole history, small
    assert sight(page)[0] < 1965
    page.locator("[data-role=event]").select_option(label="1986-10  Back-propagation")
    page.locator("[data-role=lanes]").press("Space")
    for _ in range(3):
        page.locator("[data-role=zoom-in]").click()
    page.locator("[data-role=later]").click()
    assert chosen(page) == "NETtalk"
    # The chosen event stands in the middle of the picture, in the first lane; a click there chooses it again.
    page.locator("[data-role=event]").select_option(label="1986-10  Back-propagation")
    page.locator("[data-role=lanes]").press("Space")
    page.locator("[data-role=event]").select_option(label="1987  NETtalk")
    for y in [i / 200 for i in range(1, 40)]:
        page.mouse.click(*at(0.5, y))
        if chosen(page) == "Back-propagation":
            break
    assert chosen(page) == "Back-propagation"


@pytest.mark.slow
def test_without_focus_a_plain_wheel_scrolls_the_page(open_figure):
    page = open_figure(viewport={"width": 1100, "height": 500})
    box = page.locator("[data-role=lanes]").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.wheel(0, 200)
    page.wait_for_function("window.scrollY > 100")
    assert page.evaluate("window.answers.length") == 0


@pytest.mark.slow
def test_two_fingers_pinch_and_one_finger_moves(open_figure):
    page = open_figure(has_touch=True, viewport={"width": 390, "height": 844})
    page.locator("[data-role=lanes]").scroll_into_view_if_needed()
    touch = """([kind, id, x, y]) => { const c = document.querySelector('[data-role=lanes]');
        const b = c.getBoundingClientRect();
        c.setPointerCapture = () => {};
        c.dispatchEvent(new PointerEvent(kind, { pointerId: id, pointerType: 'touch', button: 0, bubbles: true,
          clientX: b.left + x * b.width, clientY: b.top + y * b.height })); }"""
    before = sight(page)
    for step in (
        ("pointerdown", 1, 0.4, 0.4),
        ("pointerdown", 2, 0.6, 0.4),
        ("pointermove", 1, 0.2, 0.4),
        ("pointermove", 2, 0.8, 0.4),
    ):
        page.evaluate(touch, list(step))
    after = sight(page)
    assert after[1] - after[0] < 0.6 * (before[1] - before[0])
    for step in (("pointerup", 1, 0.2, 0.4), ("pointerup", 2, 0.8, 0.4)):
        page.evaluate(touch, list(step))
    assert chosen(page) == "Transformer"
    for step in (("pointerdown", 3, 0.3, 0.4), ("pointermove", 3, 0.9, 0.4), ("pointerup", 3, 0.9, 0.4)):
        page.evaluate(touch, list(step))
    assert sight(page)[0] < after[0]
    assert page.evaluate("getComputedStyle(document.querySelector('[data-role=lanes]')).touchAction") == "pan-y"


@pytest.mark.slow
def test_the_card_links_to_chapters_that_exist_and_names_the_others(open_figure):
    page = open_figure()
    assert "chapter 13, Transformer (to come)" in page.locator(".gl-card").inner_text()
    source = page.locator(".gl-card a")  # the only link: to the bibliography
    assert source.get_attribute("href").endswith("/bibliography.html")
    assert "Vaswani et al. 2017, in the bibliography" in page.locator(".gl-card").inner_text()
    page.locator("[data-role=event]").select_option(label="2013-12  Variational autoencoder")
    assert "Kingma and Welling 2014" in page.locator(".gl-card").inner_text()
    link = page.locator(".gl-card a").last
    assert link.inner_text() == "chapter 5, Variational autoencoders"
    assert link.get_attribute("href").endswith("/05-variational-autoencoders.html")
    page.locator("[data-role=event]").select_option(label="2025-02  Grok 3")
    card = page.locator(".gl-card").inner_text()
    assert "an estimate: Epoch AI 2025, entry Grok 3" in card
    assert "In this book" not in card


@pytest.mark.slow
def test_no_name_covers_another_at_any_zoom(open_figure):
    """The canvas tells nobody where it wrote, so its pen is watched: no two names of one drawing may overlap."""
    page = open_figure(viewport={"width": 390, "height": 844})
    page.evaluate(
        """() => { window.pen = []; const proto = CanvasRenderingContext2D.prototype; const write = proto.fillText;
        proto.fillText = function (text, x, y) { const m = this.measureText(text); const w = m.width;
          const left = this.textAlign === 'right' ? x - w : this.textAlign === 'center' ? x - w / 2 : x;
          window.pen.push({ text, left, right: left + w, y }); return write.call(this, text, x, y); }; }"""
    )
    for act in ("all", "zoom-in", "zoom-in", "zoom-in", "zoom-in", "zoom-in", "later", "zoom-in", "zoom-in", "earlier"):
        page.evaluate("window.pen = []")
        page.locator(f"[data-role={act}]").click()
        marks = page.evaluate("window.pen")
        # One change may draw more than once; look at the last drawing, which begins with the years.
        years = [i for i, mark in enumerate(marks) if mark["text"].isdecimal()]
        first = next(i for i in reversed(years) if i == 0 or not marks[i - 1]["text"].isdecimal())
        last = marks[first:]
        assert len(last) > 6
        for index, a in enumerate(last):
            assert a["left"] >= -1
            assert a["right"] <= 359
            for b in last[:index]:
                apart = abs(a["y"] - b["y"]) >= 11 or a["right"] <= b["left"] or b["right"] <= a["left"]
                assert apart, f"after {act}: {a} covers {b}"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_sized_and_accessible(open_figure, theme):
    page = open_figure(viewport={"width": 390, "height": 844})
    bright = drawing(page)
    if theme == "dark":
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_timeout(200)
        assert drawing(page) != bright  # redrawn in the theme's colours
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not serious(page)
    heights = page.evaluate("[...document.querySelectorAll('.gl button, .gl select')].map(e => e.offsetHeight)")
    assert min(heights) >= 28


@pytest.mark.slow
def test_in_a_kernel_the_same_front_end_works_without_asking_python(open_page):
    page = open_page("kernel.html", ready=False)
    run_in_kernel(page, "timeline_explorer", contents(timeline.load(), "gan").state)
    assert chosen(page) == "GAN"
    page.locator("[data-role=later]").click()
    assert chosen(page) != "GAN"
    assert "to come" in page.locator(".gl-card").inner_text() or page.locator(".gl-card a").count() == 0
    assert page.evaluate("window.sent") == 0
