"""`TimelineExplorer` (chapter 3): move along the history, choose what to see, and follow the lineage of a model."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gentext import plots, timeline
from gentext.live import posters
from gentext.live.base import Computed, Contents, LiveFigure
from gentext.timeline import FAMILIES, Event, Quantity

CHAPTERS = {
    1: "What is a generative model?",
    2: "From classifier to generator",
    3: "Timeline",
    4: "Autoencoders",
    5: "Variational autoencoders",
    6: "Deep-feature-consistent VAE",
    7: "Generative adversarial networks",
    8: "When GANs fail",
    9: "Progressive growing",
    10: "Denoising diffusion",
    11: "Sampling and guidance",
    12: "Attention",
    13: "Transformer",
    14: "Masked language models",
    15: "Language models",
    16: "Compute-optimal training",
    17: "Evaluating language models",
    18: "Vision transformer",
    19: "CLIP",
    20: "DALL·E 2",
    21: "Video",
}
OPENING_EVENT, OPENING_WINDOW = "transformer", (2009.0, 2027.0)
COLLECTIONS = {"epoch2025": ("Epoch AI",)}  # sources of numbers that are no events themselves
SHORTEST = 1.5  # years: the closest that one can look
# Names that the poster gives room first.
NAMED = (
    "perceptron backprop alexnet resnet em boltzmann vae nvae gan stylegan score-matching ddpm latent-diffusion lstm "
    "neural-lm transformer gpt-3 chatgpt deepseek-v4 clip video-lstm sora"
).split()
ALT = (
    "A timeline in six lanes, one for each family, from 1943 to 2026. Until 2010 the events are few and far between; "
    "from 2014 on they crowd in every lane. The Transformer of 2017 is marked, with lines to what it was built on and "
    "to the many later models that were built on it."
)
ALT_OWN = "A timeline with a lane for each family of events. One event is marked, with lines to its lineage."


class TimelineExplorer(LiveFigure):
    """Zoom along the history of generative models, filter it by family, and follow any event's lineage.

    Args:
        events: events of yours, made with `timeline.event` or read with `timeline.load`, also together with the book's:
            `[*timeline.load(), my_event]`. The book's own when None.
        chosen: id of the event that is open at first; the one with the most descendants when None.

    Raises ValueError where the events do not fit together (see `timeline.validate`) or `chosen` is not among them.
    """

    figure = "timeline_explorer"

    def __init__(self, events: Iterable[Event] | None = None, chosen: str | None = None) -> None:
        if events is None:
            super().__init__(self.published() if chosen is None else contents(timeline.load(), chosen), own=False)
        else:
            super().__init__(own_contents(events, chosen), own=True)

    @classmethod
    def published(cls) -> Contents:
        """The book's table, opened at the Transformer."""
        return contents(timeline.load(), OPENING_EVENT)


def own_contents(events: Iterable[Event], chosen: str | None) -> Contents:
    try:
        listed = list(events)
    except TypeError:
        raise ValueError(f"TimelineExplorer needs a list of events, not {type(events).__name__}.") from None
    for item in listed:
        if not isinstance(item, Event):
            raise ValueError(f"TimelineExplorer needs events (see timeline.event), not {type(item).__name__}.")
    if not listed:
        raise ValueError("TimelineExplorer needs at least one event to show.")
    table = timeline.validate(listed)
    if chosen is None:
        chosen = max(table, key=lambda item: len(timeline.descendants(table, item.id))).id
    return contents(table, chosen)


def contents(events: tuple[Event, ...], chosen: str) -> Contents:
    """State, poster and the functions that the front end must agree with."""
    place = {item.id: index for index, item in enumerate(events)}
    authors = {item.cite: item.authors for item in events} | COLLECTIONS
    timeline.find(events, chosen)
    margin = max(0.6, 1 - (events[-1].time - events[0].time) / 2)  # two years at least, or there is nothing to zoom
    low, high = events[0].time - margin, events[-1].time + margin
    start, end = OPENING_WINDOW
    if not (low <= start and timeline.find(events, chosen).time >= start and end <= high + 1):
        start, end = low, high
    state = {
        "families": [{"key": key, "name": name} for key, name in FAMILIES.items()],
        "chapters": CHAPTERS,
        "events": [entry(item, place, authors) for item in events],
        "range": [round(low, 3), round(high, 3)],
        "shortest": SHORTEST,
        "initial": {"event": place[chosen], "window": [round(start, 3), round(min(end, high), 3)]},
    }
    book = events is timeline.load()
    return Contents({}, state, lambda: draw(events, chosen), ALT if book else ALT_OWN, twins(events))


def entry(item: Event, place: Mapping[str, int], authors: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """One event as the front end reads it: parents by their places in the list, the family by its place among them."""
    return {
        "name": item.name,
        "date": item.date,
        "time": item.time,
        "authors": list(item.authors),
        "family": list(FAMILIES).index(item.family),
        "idea": item.idea,
        "parents": [place[parent] for parent in item.parents],
        "cite": reference(item.cite, item.authors),
        "chapter": item.chapter,
        "parameters": quantity(item.parameters, authors),
        "compute": quantity(item.compute, authors),
    }


def quantity(found: Quantity | None, authors: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
    if found is None:
        return None
    source = reference(found.cite, authors.get(found.cite, ()))
    return {"value": found.value, "cite": source, "where": found.where, "by": found.by}


def reference(key: str, authors: tuple[str, ...]) -> str:
    """A source as the book's pages name it, "Vaswani et al. 2017"; its key where the authors are not known."""
    year = re.search(r"\d{4}", key)
    if not authors or year is None:
        return key
    if len(authors) > 2 or authors[-1] == "others":
        return f"{authors[0]} et al. {year[0]}"
    return f"{' and '.join(authors)} {year[0]}"


def twins(events: tuple[Event, ...]) -> dict[str, Computed]:
    """What the front end works out, as the package does; n events, F families.

    visible: window (2,) in years, families (F,) of 0 and 1 -> visible (n,) of 0 and 1.
    lineage: event (1,), a place in the list -> ancestors (n,) and descendants (n,) of 0 and 1.
    """

    def marks(ids: Iterable[str]) -> Tensor:
        found = set(ids)
        return torch.tensor([float(item.id in found) for item in events], dtype=torch.float64)

    def visible(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        start, end = inputs["window"].tolist()
        families = [key for key, on in zip(FAMILIES, inputs["families"].tolist(), strict=True) if on]
        seen = timeline.select(events, start=start, end=end, families=families)
        return {"visible": marks(item.id for item in seen)}

    def lineage(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        id = events[int(inputs["event"].item())].id
        return {
            "ancestors": marks(timeline.ancestors(events, id)),
            "descendants": marks(timeline.descendants(events, id)),
        }

    return {"visible": visible, "lineage": lineage}


def draw(events: tuple[Event, ...], chosen: str) -> Figure:
    """The whole history in lanes: dots in time, lines along the chosen event's lineage, the best-known ones named."""
    figure = posters.blank(6.4, 4.6)
    axes = figure.subplots()
    lane = {key: index for index, key in enumerate(FAMILIES)}
    middle = timeline.find(events, chosen)
    stretch = (events[0].time - 1, events[-1].time + 4)
    # Time is stretched towards today, where the events are: the square root of the years that are left.
    where = {item.id: -((stretch[1] - item.time) ** 0.5) for item in events}
    before, after = timeline.ancestors(events, chosen), timeline.descendants(events, chosen)
    family = {chosen} | before | after
    for item in events:
        for parent in item.parents:
            if item.id in family and parent in family:
                other = timeline.find(events, parent)
                ends = [(where[other.id], lane[other.family]), (where[item.id], lane[item.family])]
                axes.plot(*zip(*ends, strict=True), color=plots.GREY, linewidth=0.6, alpha=0.35, zorder=1)
    reach = {item.id: len(timeline.descendants(events, item.id)) for item in events}
    for index, (key, name) in enumerate(FAMILIES.items()):
        here = [item for item in events if item.family == key]
        colour = plots.GREY if index == 0 else plots.color(index - 1)
        axes.scatter([where[item.id] for item in here], [index] * len(here), s=16, color=colour, linewidths=0, zorder=2)
        axes.text(-((stretch[1] - stretch[0]) ** 0.5), index - 0.38, name, fontsize=9, color=colour, weight="bold")
        taken: list[tuple[float, float]] = []
        for item in sorted(here, key=lambda item: (item.id != chosen, item.id not in NAMED, -reach[item.id])):
            left, right = where[item.id] - 0.068 * len(item.name), where[item.id] + 0.068 * len(item.name)
            if all(right + 0.1 < other or left - 0.1 > end for other, end in taken):
                taken.append((left, right))
                axes.text(where[item.id], index + 0.16, item.name, fontsize=8, ha="center", va="top")
    axes.scatter([where[chosen]], [lane[middle.family]], s=90, facecolors="none", edgecolors=plots.TEXT, zorder=3)
    years = [
        year for year in (1943, 1960, 1980, 1990, 2000, 2010, 2015, 2020, 2026) if stretch[0] <= year <= stretch[1]
    ]
    axes.set_xticks([-((stretch[1] - year) ** 0.5) for year in years], [str(year) for year in years])
    axes.set(yticks=[], ylim=(len(FAMILIES) - 0.45, -0.65))
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    return figure
