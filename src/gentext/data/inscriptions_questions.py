"""What an inscription says, as a record; and questions about it with their answers, in two styles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gentext.data.inscriptions_forms import FUNCTIONS
from gentext.data.inscriptions_pieces import Value
from gentext.data.inscriptions_world import CITY_DEITY, father_of_king, heir

STYLES = ("short", "full")
Said = Mapping[str, Sequence[Value]]  # for each variable what it was, one after the other


class Ration(NamedTuple):
    """One line of a ration list."""

    rank: str
    name: str
    amount: int


class Question(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Record:
    """What an inscription says.

    Attributes:
        kind: one of the five forms.
        king, year: under whom it was written and in which year of his; in an epitaph those of the birth.
        city, deity, epithet: the place it speaks of, the god and what the god is called; None where there is none.
        person, father: whom it is about (giver, dead, owner, scribe) and whose child that is; None where not said.
        items, total: the lines of a ration list and their sum; () and None in other forms.
        said: everything else, by the name that the grammar has for it.
    """

    kind: str
    king: str
    year: int | None
    city: str
    deity: str | None
    epithet: str | None
    person: str | None
    father: str | None
    items: tuple[Ration, ...] = ()
    total: int | None = None
    said: Said = field(default_factory=dict, repr=False)

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody who is named, without kings and gods, as often as a name is first given."""
        roles = ("giver", "dead", "owner", "father", "kin", "mourner", "worker", "neighbour", "lord", "witness",
                 "of_witness", "carver", "scribe", "herald")  # fmt: skip
        return tuple(str(name) for role in roles for name in self.said.get(role, ()))


def record(kind: str, said: Said) -> Record:
    """The record of an inscription of this kind from what its variables were."""

    def last(*names: str) -> str | None:
        return next((str(said[name][-1]) for name in names if name in said), None)

    city, deity = str(last("city")), last("deity")
    if kind in ("edict", "boundary"):  # here it need not be chosen: the city's own god it is
        deity = CITY_DEITY[city]
    items: tuple[Ration, ...] = ()
    if kind == "rations":
        lines = zip(said["rank"], said["worker"], said["amount"], strict=True)
        items = tuple(Ration(str(rank), str(name), int(amount)) for rank, name, amount in lines)
    year = last("born") if kind == "epitaph" else last("year")
    return Record(
        kind=kind,
        king=str(last("king")),
        year=None if year is None else int(year),
        city=city,
        deity=deity,
        epithet=last("epithet"),
        person=last("giver", "dead", "owner", "scribe"),
        father=last("father"),
        items=items,
        total=sum(item.amount for item in items) if items else None,
        said=said,
    )


# ---- questions -------------------------------------------------------------------------------------------------------

_Answer = tuple[str, str, str]  # question, short answer, the same as a sentence


def questions(record: Record, style: str = "short") -> list[Question]:
    """Everything that one can ask about the inscription, with answers in a style: "Adanir." or "The king was Adanir."

    Raises ValueError if there is no such style.
    """
    if style not in STYLES:
        raise ValueError(f"There is no style {style!r}; the styles are {', '.join(STYLES)}.")
    pick = STYLES.index(style) + 1
    return [Question(answers[0], f"{answers[pick]}.") for answers in _ASK[record.kind](record)]


def _listed(names: Sequence[Value]) -> str:
    *others, last = map(str, names)
    return f"{', '.join(others)} and {last}" if others else last


def _child(record: Record, name: str) -> Iterator[_Answer]:
    if record.father is not None:
        child = FUNCTIONS["child"](name)
        yield f"Whose {child} was {name}?", record.father, f"{name} was the {child} of {record.father}"


def _dated(record: Record) -> Iterator[_Answer]:
    yield "Who was king?", record.king, f"The king was {record.king}"
    yield "Which year was it?", f"Year {record.year}", f"It was year {record.year} of king {record.king}"


def _dedication(record: Record) -> Iterator[_Answer]:
    said, giver, deity = record.said, record.person or "", record.deity
    yield "Who made the gift?", giver, f"The gift was made by {giver}"
    yield "Who received the gift?", f"{deity}", f"The gift was for {deity}, {record.epithet}"
    gift = str(said["gift"][0])
    if "silver" in said:
        gift += f" and {said['silver'][0]} shekels of silver"
    if "lamps" in said:
        gift += f" with {said['lamps'][0]} lamps"
    yield "What was the gift?", gift, f"{giver} gave {gift}"
    yield f"What was the trade of {giver}?", f"{said['trade'][0]}", f"{giver} was {said['trade'][0]} of {record.city}"
    yield from _child(record, giver)
    yield from _dated(record)
    if "witness" in said:
        names = _listed(said["witness"])
        yield "Who was witness?", names, f"It was seen by {names}"


def _epitaph(record: Record) -> Iterator[_Answer]:
    said, dead = record.said, record.person or ""
    born, died, generations = int(said["born"][0]), int(said["died"][0]), int(said["generations"][0])
    she, last = FUNCTIONS["he"](dead), heir(record.king, generations)
    age = FUNCTIONS["age"](record.king, born, generations, died)
    mourners = _listed(said["mourner"])
    yield "Who is dead?", dead, f"The dead is {dead}"
    yield from _child(record, dead)
    yield f"What was the trade of {dead}?", f"{said['trade'][0]}", f"{dead} was {said['trade'][0]} of {record.city}"
    yield f"Under which king was {dead} born?", record.king, f"{dead} was born under king {record.king}"
    yield f"Under which king did {dead} die?", last, f"{dead} died under king {last}"
    yield "In which year of the king was the death?", f"Year {died}", f"{dead} died in year {died} of king {last}"
    yield f"How old was {dead}?", f"{age} years", f"When {she} died {dead} was {age} years old"
    yield "Who set up the stone?", mourners, f"The stone was set up by {mourners}"


def _edict(record: Record) -> Iterator[_Answer]:
    said, king, deity = record.said, record.king, record.deity
    years, fine, part = said["year"], int(said["fine"][0]), int(said["part"][0])
    author = "Who wrote it?" if "scribe" in said else "Who read it out?"
    name = said.get("scribe", said.get("herald", ("",)))[0]
    yield "Which king speaks?", king, f"The words are those of king {king}"
    yield f"Whose son was {king}?", father_of_king(king), f"{king} was the son of {father_of_king(king)}"
    yield "Of how many years does he tell?", f"{len(years)}", f"{king} tells of {len(years)} of his years"
    yield "Which is the last year that he names?", f"Year {years[-1]}", f"The last year is year {years[-1]}"
    yield "How much is the fine?", f"{fine} shekels", f"The fine is {fine} shekels of silver"
    yield "Which god has a share in it?", f"{deity}", f"A share goes to {deity}, {record.epithet}"
    yield (
        "How much is left for the palace?",
        f"{fine - part} shekels",
        f"The palace has {fine - part} of {fine} shekels",
    )
    yield author, f"{name}", f"That was {name}"


def _rations(record: Record) -> Iterator[_Answer]:
    said, items, total = record.said, record.items, record.total or 0
    good, stock = said["good"][0], int(said["stock"][0])
    yield from _dated(record)
    yield "What was given out?", f"{good}", f"The house of {record.deity} gave out {good}"
    yield "Which month was it?", f"The month of {said['month'][0]}", f"It was the month of {said['month'][0]}"
    yield "How many workers were fed?", f"{len(items)}", f"There were {len(items)} workers"
    yield "How much was it together?", f"{total} measures", f"Together it was {total} measures of {good}"
    left = stock - total
    yield "How much did the store hold after it?", f"{left} measures", f"Of {stock} measures {left} remained"
    for item in items:
        if [other.name for other in items].count(item.name) == 1:
            yield (
                f"How much did {item.name} get?",
                f"{item.amount} measures",
                (f"The {item.rank} {item.name} got {item.amount} measures"),
            )
    yield "Who counted?", f"{record.person}", f"It was counted by {record.person}"


def _boundary(record: Record) -> Iterator[_Answer]:
    said, owner = record.said, record.person or ""
    length, width = int(said["length"][0]), int(said["width"][0])
    around, squares = 2 * (length + width), length * width
    yield "Whose land is it?", owner, f"The land is that of {owner}"
    yield from _child(record, owner)
    yield from _dated(record)
    yield "How long is the north side?", f"{length} cords", f"In the north it is {length} cords long"
    yield "How long is the west side?", f"{width} cords", f"In the west it is {width} cords long"
    yield "How far is it around?", f"{around} cords", f"Around it there are {around} cords"
    yield "How large is it?", f"{squares} squares", f"It holds {squares} squares"
    yield "Which god guards the stone?", f"{record.deity}", f"The stone is guarded by {record.deity}, {record.epithet}"


_ASK: dict[str, Callable[[Record], Iterator[_Answer]]] = {
    "dedication": _dedication,
    "epitaph": _epitaph,
    "edict": _edict,
    "rations": _rations,
    "boundary": _boundary,
}
