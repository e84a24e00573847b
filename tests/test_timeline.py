"""The timeline: every entry has its source, the graph has no cycle, the fit is least squares with honest intervals."""

import itertools
import math
import re
import tomllib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentext import timeline
from gentext.timeline import Quantity, event, fit_growth, load, student_quantile, validate

ROOT = Path(__file__).resolve().parents[1]
PLAIN = {
    "id": "idea",
    "name": "Idea",
    "date": "1990-05",
    "authors": ["Somebody"],
    "family": "latent",
    "idea": "Something new.",
    "parents": [],
    "cite": "somebody1990",
}


def entry(**changes):
    return event(**{**PLAIN, **changes})


@pytest.fixture(scope="module")
def events():
    return load()


def bibliography() -> dict[str, dict[str, str]]:
    """Authors and year of every entry of the book's bibliography, by key; a small reader of our own file's layout."""
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    entries = {}
    for block in re.split(r"\n(?=@)", text):
        key = re.match(r"@\w+\{([^,]+),", block)
        if key:
            entries[key[1]] = {
                name: re.search(rf"\n\s*{name} = \{{(.*)\}},?\n", block + "\n") for name in ("author", "year", "title")
            }
            entries[key[1]] = {name: found[1] if found else "" for name, found in entries[key[1]].items()}
    return entries


ACCENTS = {r"{\'e}": "é", r"{\"a}": "ä", r"{\'a}": "á", r"{\"e}": "ë", r"{\"o}": "ö", r"{\"u}": "ü"}


# ---- the book's table ----


def test_there_are_enough_events_and_they_span_the_history(events):
    assert len(events) >= 80
    assert events[0].year == 1943
    assert events[-1].year == 2026
    assert {item.family for item in events} == set(timeline.FAMILIES)
    assert all(sum(item.family == family for item in events) >= 8 for family in timeline.FAMILIES)


def test_the_syllabus_is_there(events):
    wanted = (
        "perceptron boltzmann backprop lstm vae gan attention transformer bert gpt gpt-2 gpt-3 ddpm clip dall-e vit "
        "latent-diffusion chinchilla chatgpt llama gpt-4 sora"
    )
    assert set(wanted.split()) <= {item.id for item in events}
    chapters = {item.chapter for item in events} - {None}
    assert chapters >= set(range(4, 22)) | {1, 2}  # this chapter builds no model


def test_every_citation_is_in_the_bibliography(events):
    keys = bibliography().keys()
    for item in events:
        for source in (item, item.parameters, item.compute):
            assert source is None or source.cite in keys, f"{item.id}: {source.cite} is not in references.bib"


def test_years_and_authors_are_those_of_the_bibliography(events):
    """A preprint may come up to two years before the venue's date, never after."""
    entries = bibliography()
    for item in events:
        found = entries[item.cite]
        assert 0 <= int(found["year"]) - item.year <= 2, f"{item.id}: {item.date}, the bibliography has {found['year']}"
        author = found["author"]
        for code, letter in ACCENTS.items():
            author = author.replace(code, letter)
        position = -1
        for name in item.authors:
            if name == "others":
                assert name == item.authors[-1]
                assert "others" in author or author.count(" and ") >= len(item.authors) - 1
                continue
            position = author.find(name, position + 1)
            assert position >= 0, f"{item.id}: {name} is not where {item.cite} has it: {author}"
        if "others" not in item.authors:
            assert author.count(" and ") == len(item.authors) - 1, f"{item.id}: authors missing, {author}"


def test_no_event_is_without_source_idea_and_plausible_date(events):
    for item in events:
        assert item.cite
        assert item.authors
        assert item.idea.endswith(".")
        assert 20 < len(item.idea) < 200
        assert item.name[0].isupper() or item.name[0].isdigit() or item.name in ("word2vec", "β-VAE", "o1")
        assert item.month is None or 1 <= item.month <= 12
        assert (item.year, item.month or 1) <= (2026, 11)
        assert len(item.name) <= 32  # it must fit beside its dot


def test_numbers_are_published_and_say_by_whom(events):
    assert sum(item.compute is not None for item in events) >= 40
    for item in events:
        for quantity in (item.parameters, item.compute):
            if quantity is None:
                continue
            assert quantity.value > 0
            assert quantity.where
        if item.compute is not None:
            own = item.compute.cite == item.cite
            assert own == (item.compute.by == "authors"), f"{item.id}: a number from elsewhere is an estimate"
            assert 1e3 <= item.compute.value <= 1e27
        if item.parameters is not None:
            assert item.parameters.by == "authors"
            assert 1e3 <= item.parameters.value <= 1e13


def test_lines_of_the_file_are_ours_to_read(events):
    text = timeline.TABLE.read_text(encoding="utf-8")
    raw = tomllib.loads(text)["event"]
    assert [item["date"][:4] for item in raw] == sorted(item["date"][:4] for item in raw), "oldest first"
    assert len(raw) == len(events)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"date": "1942"}, "1943"),
        ({"date": "2027-01"}, "2026"),
        ({"date": "1990-13"}, "month"),
        ({"date": "1990-00"}, "month"),
        ({"date": "May 1990"}, "YYYY"),
        ({"date": 1990}, "YYYY"),
        ({"name": ""}, "name"),
        ({"idea": None}, "idea"),
        ({"authors": "Somebody"}, "list"),
        ({"parents": [3]}, "list"),
        ({"colour": "red"}, "colour"),
        ({"parameters": {"value": 3}}, "cite"),
        ({"parameters": {"value": 0, "cite": "a", "where": "b"}}, "positive"),
        ({"compute": {"value": -1.0, "cite": "a", "where": "b"}}, "positive"),
        ({"compute": {"value": True, "cite": "a", "where": "b"}}, "positive"),
        ({"compute": {"value": math.inf, "cite": "a", "where": "b"}}, "positive"),
        ({"compute": {"value": 1.0, "cite": "a", "where": "b", "by": "rumour"}}, "estimate"),
        ({"compute": {"value": 1.0, "cite": "", "where": "b"}}, "source"),
        ({"compute": 3e20}, "cite"),
    ],
)
def test_a_wrong_field_is_refused_with_a_sentence(changes, says):
    with pytest.raises(ValueError, match=says) as caught:
        entry(**changes)
    assert str(caught.value).startswith("idea")


def test_a_missing_field_is_named():
    for field in PLAIN:
        with pytest.raises(ValueError, match=field):
            event(**{name: value for name, value in PLAIN.items() if name != field})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([entry(), entry()], "Two events"),
        ([entry(family="magic")], "magic"),
        ([entry(authors=[])], "authors"),
        ([entry(chapter=22)], "21"),
        ([entry(parents=["nothing"])], "nothing"),
        ([entry(parents=["idea"])], "later"),
        ([entry(), entry(id="b", parents=["idea"], date="1990-05")], "later"),
        ([entry(), entry(id="b", parents=["idea"], date="1989")], "later"),
        ([entry(), entry(id="b", parents=["idea", "idea"], date="1999")], "twice"),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(table, says):
    with pytest.raises(ValueError, match=says):
        validate(table)


def test_a_cycle_cannot_be_written():
    a = entry(id="a", parents=["b"], date="1990")
    b = entry(id="b", parents=["a"], date="1990")
    with pytest.raises(ValueError, match="later"):
        validate([a, b])


def test_a_reader_can_load_a_table_of_their_own(tmp_path, events):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[event]]\nid = "a"\nname = "A"\ndate = "2000"\nauthors = ["X"]\nfamily = "latent"\nidea = "Y."\n'
        'parents = []\ncite = "x2000"\ncompute = { value = 5, cite = "x2000", where = "table 1" }\n'
    )
    (only,) = load(path)
    assert (only.time, only.date, only.month) == (2000.5, "2000", None)
    assert only.compute == Quantity(value=5.0, cite="x2000", where="table 1", by="authors")
    assert validate([*events, only])[-1].id != "a"  # merged by date
    path.write_text('title = "no events"\n')
    with pytest.raises(ValueError, match="event"):
        load(path)


def test_load_gives_the_same_table_and_nobody_can_change_it(events):
    assert load() is events
    with pytest.raises(AttributeError):
        events[0].name = "Mine"


# ---- the graph ----


def test_select_by_window_and_family(events):
    assert timeline.select(events) == events
    chosen = timeline.select(events, start=2014, end=2019, families=["adversarial"])
    assert {"gan", "wgan", "progressive-gan", "stylegan"} <= {item.id for item in chosen}
    assert all(item.family == "adversarial" and 2014 <= item.time <= 2019 for item in chosen)
    assert timeline.select(events, families=[]) == ()
    edge = timeline.find(events, "gan").time
    assert timeline.find(timeline.select(events, start=edge, end=edge), "gan")
    with pytest.raises(ValueError, match="magic"):
        timeline.select(events, families=["magic"])
    with pytest.raises(ValueError, match="end before"):
        timeline.select(events, start=2000, end=1990)


def test_lineage_is_the_transitive_closure(events):
    """Against powers of the adjacency matrix: whoever is reached in any number of steps."""
    place = {item.id: index for index, item in enumerate(events)}
    adjacency = torch.zeros(len(events), len(events))
    for item in events:
        for parent in item.parents:
            adjacency[place[parent], place[item.id]] = 1
    assert torch.equal(adjacency, adjacency.triu(1)), "every parent stands before its child"
    reached = adjacency.clone()
    for _ in range(len(events)):
        grown = ((reached + reached @ adjacency) > 0).float()
        if torch.equal(grown, reached):
            break
        reached = grown
    for item in events:
        index = place[item.id]
        after = {events[i].id for i in reached[index].nonzero()[:, 0].tolist()}
        before = {events[i].id for i in reached[:, index].nonzero()[:, 0].tolist()}
        assert timeline.descendants(events, item.id) == after
        assert timeline.ancestors(events, item.id) == before
        assert set(timeline.children(events, item.id)) == {i.id for i in events if item.id in i.parents}


def test_longest_chain_against_counting_every_line(events):
    lengths = {"perceptron": 1}
    for item in events:
        found = [lengths[parent] for parent in item.parents if parent in lengths]
        if found:
            lengths[item.id] = 1 + max(found)
    chain = timeline.longest_chain(events, "perceptron")
    assert len(chain) == max(lengths.values())
    assert chain[0] == "perceptron"
    for parent, child in itertools.pairwise(chain):
        assert parent in timeline.find(events, child).parents
    to = timeline.longest_chain(events, "perceptron", "gpt-3")
    assert (to[-1], len(to)) == ("gpt-3", lengths["gpt-3"])
    assert timeline.longest_chain(events, "gpt-3", "perceptron") == ()
    assert timeline.longest_chain(events, "arena") == ("arena",)


def test_an_unknown_id_is_refused(events):
    for ask in (timeline.find, timeline.ancestors, timeline.descendants, timeline.longest_chain):
        with pytest.raises(ValueError, match="no event 'skynet'"):
            ask(events, "skynet")
    with pytest.raises(ValueError, match="skynet"):
        timeline.longest_chain(events, "gan", "skynet")


# ---- the fit ----


def test_fit_against_scipy(events):
    stats = pytest.importorskip("scipy.stats")
    for by in (None, "authors", "estimate"):
        times, flops = timeline.compute_points(events, by)
        ours = fit_growth(times, flops)
        peer = stats.linregress(times.numpy(), flops.log2().numpy())
        assert ours.rate == pytest.approx(peer.slope, rel=1e-10)
        assert ours.standard_error == pytest.approx(peer.stderr, rel=1e-9)
        assert ours.intercept - ours.rate * ours.centre == pytest.approx(peer.intercept, rel=1e-9)
        half = stats.t.ppf(0.975, len(times) - 2) * peer.stderr
        assert ours.rate_interval == pytest.approx((peer.slope - half, peer.slope + half), rel=1e-9)
    assert len(timeline.compute_points(events)[0]) == sum(item.compute is not None for item in events)
    assert timeline.compute_points([])[0].shape == (0,)


def test_student_quantile_against_scipy_and_closed_forms():
    assert student_quantile(0.5, 1) == pytest.approx(1.0, rel=1e-12)  # Cauchy's quartile
    assert student_quantile(0.9, 1) == pytest.approx(math.tan(0.45 * math.pi), rel=1e-12)
    assert student_quantile(0.95, 2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    stats = pytest.importorskip("scipy.stats")
    for dof in (1, 2, 3, 4, 7, 10, 45, 120, 1001):
        for level in (0.1, 0.5, 0.9, 0.95, 0.999):
            assert student_quantile(level, dof) == pytest.approx(stats.t.ppf((1 + level) / 2, dof), rel=1e-9)
    for level, dof in ((0.95, 0), (0.0, 5), (1.0, 5)):
        with pytest.raises(ValueError, match="Student"):
            student_quantile(level, dof)


def test_an_exact_exponential_is_found_exactly():
    times = torch.tensor([2000.0, 2003.0, 2004.5, 2010.0], dtype=torch.float64)
    growth = fit_growth(times, 7.0 * 2 ** (2.5 * (times - 2000)))
    assert growth.rate == pytest.approx(2.5, rel=1e-12)
    assert growth.doubling_months == pytest.approx(4.8, rel=1e-12)
    assert growth.scatter < 1e-9
    assert growth.predict(2002.0) == pytest.approx((7 * 2**5,) * 3, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(1950, 2026), st.floats(-20, 90)),
        min_size=3,
        max_size=30,
        unique_by=lambda p: round(p[0], 2),
    ),
    st.floats(-5, 5),
    st.floats(0.1, 3.0),
)
def test_units_do_not_matter(points, shift, scale):
    times, doublings = torch.tensor(points, dtype=torch.float64).T
    growth = fit_growth(times, 2**doublings)
    moved = fit_growth(times + shift, 2 ** (scale * doublings + shift))
    assert moved.rate == pytest.approx(scale * growth.rate, rel=1e-6, abs=1e-9)
    assert moved.standard_error == pytest.approx(scale * growth.standard_error, rel=1e-6, abs=1e-9)
    low, high = growth.rate_interval
    assert low <= growth.rate <= high
    wide = fit_growth(times, 2**doublings, level=0.99).rate_interval
    assert wide[0] <= low
    assert high <= wide[1]


def test_doubling_interval_turns_round_and_admits_what_it_does_not_know():
    times = torch.arange(8, dtype=torch.float64)
    noise = torch.tensor([3.0, -3.0] * 4, dtype=torch.float64)
    unsure = fit_growth(times, 2 ** (0.1 * times + noise))
    assert unsure.rate_interval[0] < 0 < unsure.rate_interval[1]
    assert unsure.doubling_interval[0] > 0
    assert unsure.doubling_interval[1] == math.inf
    sure = fit_growth(times, 2 ** (2 * times + 0.1 * noise))
    low, high = sure.doubling_interval
    assert low < sure.doubling_months < high
    assert sure.doubling_months == pytest.approx(12 / sure.rate)
    falling = fit_growth(times, 2 ** (-2 * times + 0.1 * noise))
    assert falling.doubling_months < 0
    assert falling.doubling_interval == (math.inf, math.inf)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """2,000 made-up histories with a known rate: intervals and prediction ranges of 95 % are right about that often."""
    generator = torch.Generator().manual_seed(0)
    times = torch.linspace(2010, 2026, 14, dtype=torch.float64)
    truth, hits, reached = 1.7, 0, 0
    for _ in range(2000):
        errors = 3 * torch.randn(15, generator=generator, dtype=torch.float64)
        growth = fit_growth(times, 2 ** (truth * (times - 2010) + errors[:14]))
        low, high = growth.rate_interval
        hits += low <= truth <= high
        _, bottom, top = growth.predict(2030.0)
        reached += bottom <= 2 ** (truth * 20 + errors[14].item()) <= top
    assert abs(hits / 2000 - 0.95) < 0.015
    assert abs(reached / 2000 - 0.95) < 0.015


def test_bootstrap_agrees_with_the_formula(events):
    times, flops = timeline.compute_points(timeline.select(events, start=2010))
    growth = fit_growth(times, flops)
    rates = timeline.bootstrap_rates(times, flops, 4000, torch.Generator().manual_seed(1))
    assert rates.shape == (4000,)
    assert rates.mean().item() == pytest.approx(growth.rate, rel=0.02)
    assert rates.std().item() == pytest.approx(growth.standard_error, rel=0.25)
    again = timeline.bootstrap_rates(times, flops, 4000, torch.Generator().manual_seed(1))
    assert torch.equal(rates, again)
    tiny = timeline.bootstrap_rates(times[:3], flops[:3], 500, torch.Generator().manual_seed(2))
    assert tiny.isfinite().all()
    assert len(tiny) < 500  # resamples of one date three times have no rate


def test_leave_one_out_leaves_each_out_once(events):
    times, flops = timeline.compute_points(timeline.select(events, start=2022))
    rates = timeline.leave_one_out(times, flops)
    assert rates.shape == times.shape
    for index in (0, len(times) - 1):
        keep = [i for i in range(len(times)) if i != index]
        assert rates[index].item() == pytest.approx(fit_growth(times[keep], flops[keep]).rate, rel=1e-12)


@pytest.mark.parametrize(
    ("times", "flops", "level", "says"),
    [
        ([2000.0, 2001.0], [1.0, 2.0], 0.95, "at least 3"),
        ([2000.0, 2001.0, 2002.0], [1.0, 2.0], 0.95, "shapes"),
        ([2000.0, 2001.0, 2002.0], [1.0, 0.0, 2.0], 0.95, "positive"),
        ([2000.0, 2001.0, math.nan], [1.0, 1.0, 2.0], 0.95, "finite"),
        ([2000.0, 2000.0, 2000.0], [1.0, 4.0, 2.0], 0.95, "one date"),
        ([2000.0, 2001.0, 2002.0], [1.0, 4.0, 2.0], 1.0, "level"),
    ],
)
def test_a_fit_that_cannot_be_is_refused(times, flops, level, says):
    with pytest.raises(ValueError, match=says):
        fit_growth(torch.tensor(times), torch.tensor(flops), level)
