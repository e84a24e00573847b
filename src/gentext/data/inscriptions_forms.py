"""The five forms of inscription, as templates for the grammar. How to read a template: `inscriptions_grammar`."""

from __future__ import annotations

import math
from collections.abc import Callable

from gentext.data.inscriptions_grammar import Rules
from gentext.data.inscriptions_pieces import Table, Value, zipf
from gentext.data.inscriptions_world import (
    CITY,
    CITY_DEITY,
    DEITIES,
    DEITY,
    KING,
    KINGS,
    MAN,
    PERSON,
    REIGNS,
    RIVERS,
    WOMAN,
    city_of_deity,
    deity_of_city,
    elsewhere,
    epithet,
    father_of_king,
    gift,
    heir,
    is_woman,
    trade,
    year,
)

MONTHS = (
    "sowing, first fruits, barley, lamps, the long sun, honey, vintage, the flood, returning boats, rest, weaving, "
    "new reeds"
).split(", ")
KINDS = {"dedication": 0.28, "epitaph": 0.24, "edict": 0.18, "rations": 0.16, "boundary": 0.14}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# ---- numbers that depend on each other -------------------------------------------------------------------------------

RANKS = {  # who is fed: the list goes from the highest to the lowest; usual measures for each
    "overseer": 20,
    "scribe": 15,
    "smith": 12,
    "mason": 12,
    "brewer": 10,
    "weaver": 10,
    "potter": 9,
    "gardener": 8,
    "herdsman": 8,
    "boatman": 6,
    "porter": 5,
    "child": 3,
}
_LADDER = ("", *RANKS)


def rank(before: str) -> Table:
    """The next worker in the list: of the same rank or, more likely, of one a little lower."""
    place = _LADDER.index(before)
    return Table({r: 1 / (2 + abs(k - place - 1)) for k, r in enumerate(_LADDER) if k >= max(1, place)})


def amount(of_rank: str) -> Table:
    """Measures for a worker: the usual ones, or up to three more or fewer."""
    usual = RANKS[of_rank]
    return Table({max(1, usual + d): w for d, w in zip((0, 1, -1, 2, -2, 3), (6, 3, 3, 2, 1, 1), strict=True)})


def stock(given_out: int) -> Table:
    """What the store held: a multiple of ten that is enough."""
    least = -(-given_out // 10) * 10
    return Table({least + 10 * k: 1 / (k + 1) for k in range(1, 9)})


GROWN, OLD = 16, 95  # the ages at death that are written down


def _age_at_death(age: int) -> float:
    return math.exp(-(((age - 55) / 22) ** 2)) if GROWN <= age <= OLD else 0.0


def age(king: str, born: int, generations: int, died: int) -> int:
    """Years from year `born` of `king` to year `died` of his heir: reigns follow each other without a gap."""
    first = KINGS.index(king)
    return sum(REIGNS[ruler] for ruler in KINGS[first : first + generations]) + died - born


def _deaths(king: str, born: int, generations: int) -> dict[Value, float]:
    ruler = heir(king, generations)
    return {died: _age_at_death(age(king, born, generations, died)) for died in range(1, REIGNS[ruler] + 1)}


def year_of_death(king: str, born: int, generations: int) -> Table:
    return Table(_deaths(king, born, generations))


def _under(generations: int) -> Callable[[str, int], float]:
    """How likely somebody born then dies under the king himself (0), his son (1), his grandson (2)."""
    return lambda king, born: sum(_deaths(king, born, generations).values())


def part(fine: int) -> Table:
    """A god's share of a fine."""
    return Table({tenths * fine // 10: w for tenths, w in ((5, 4), (2, 3), (4, 2), (8, 1))})


def _years_left(king: str, now: int) -> float:
    return 1.5 if now < REIGNS[king] else 0.0


def _exactly(number: str) -> Callable[[str], float]:
    return lambda size: float(size == number)


# ---- templates -------------------------------------------------------------------------------------------------------

DEDICATION: Rules = {
    "dedication": [
        (
            3,
            "To <deity:deity>, <epithet:epithet|deity>,\n"
            "<giver:person>, <child(giver)> of <father:man>, <trade:trade|giver> of <city:city_of_deity|deity>,\n"
            "[gave] <gift:gift|deity>[besides]\n[because].\n"
            "It was under king <king:king>, in his year <year:year|king>.\n[witness]"
            "May <deity> [bless], and may king <king> [prosper].",
        ),
        (
            2,
            "Under king <king:king>, son of <father_of_king(king)>, in his year <year:year|king>,\n"
            "<giver:person>, <child(giver)> of <father:man>, <trade:trade|giver> of <city:city>,\n"
            "[gave] to <deity:deity_of_city|city>, <epithet:epithet|deity>,\n"
            "<gift:gift|deity>[besides]\n[because].\n[witness]"
            "[guard] while <king> is king:\n"
            "<deity>, <epithet>, knows the name of <giver>.",
        ),
    ],
    "gave": [(4, "gave"), (2, "offered"), (1, "brought"), (1, "promised")],
    "besides": [(3, ""), (2, " and <silver:shekels> shekels of silver"), (1, " with <lamps:few> lamps")],
    "because": [
        (4, "because <she(deity)> heard <his(giver)> voice"),
        (4, "for the life of <his(giver)> [kin]"),
        (3, "as <he(giver)> had vowed"),
        (2, "in thanks for <number:few> good harvests"),
        (2, "after a journey to <place:elsewhere|city>"),
        (1, "since <his(giver)> [limb] were healed"),
        (1, "when the <river:river> had not flooded <his(giver)> fields"),
    ],
    "kin": [
        (3, "son <kin:man>"),
        (2, "daughter <kin:woman>"),
        (2, "brother <kin:man>"),
        (1, "sister <kin:woman>"),
        (1, "mother <kin:woman>"),
    ],
    "limb": [(2, "eyes"), (2, "hands"), (1, "knees"), (1, "ears")],
    "witness": [
        (2, ""),
        (3, "Witness: <witness:person>, <trade_of_witness:trade|witness>.\n"),
        (2, "Witnesses: <witness:person> and <witness:person>.\n"),
        (1, "<witness:person>, <child(witness)> of <of_witness:man>, saw it.\n"),
    ],
    "bless": [
        (4, "remember <giver>"),
        (3, "keep the house of <father>"),
        (2, "lengthen the days of <giver>"),
        (1, "walk beside <giver>"),
        (1, "send <him(giver)> sleep"),
    ],
    "prosper": [(3, "live long"), (2, "rule in peace"), (1, "see the sons of his sons"), (1, "sit firm on his throne")],
    "guard": [(2, "Let no one carry it away"), (1, "No hand shall move it"), (1, "Here it shall stay")],
}

EDICT: Rules = {
    "edict": [
        (
            1,
            "I am <king:king>, son of <father_of_king(king)>, king of <city:city>, [title].\n"
            "<year=none()>[deed][again|king,year]"
            "Hear my word: [law].\n"
            "Whoever breaks it shall pay <fine:fine> shekels of silver,\n"
            "<part:part|fine> to <deity=patron(city)><deity>, <epithet:epithet|deity>,"
            " and <less(fine,part)> to the palace.\n"
            "[written]The word of <king> [stands].",
        )
    ],
    "title": [
        (3, "king of the five rivers"),
        (2, "shepherd of his people"),
        (1, "strong ox of the land"),
        (1, "servant of the gods"),
    ],
    "deed": [(1, "In my year <year:year|king,year> I [work].\n")],
    "again": [(_years_left, "[deed][twice|king,year]"), (0.8, "")],
    "twice": [(_years_left, "[deed][thrice|king,year]"), (1.5, "")],
    "thrice": [(_years_left, "[deed]"), (4, "")],
    "work": [
        (4, "built the wall of <place:city>"),
        (3, "raised the house of <god:deity>, <praise:epithet|god>"),
        (3, "took <place:elsewhere|city> and counted <captives:hundreds> captives"),
        (2, "dug a canal from the <river:river> to <place:city>"),
        (2, "made peace with <lord:man>, lord of <place:elsewhere|city>"),
        (1, "gave <measures:hundreds> measures of <good:good> to the poor of <place:city>"),
        (1, "planted <palms:dozens> palms before the gate of <place:city>"),
        (1, "hunted <beasts:dozens> lions beyond the <river:river>"),
    ],
    "law": [
        (4, "no one shall move the stone of his neighbour"),
        (3, "the market of <place:city> is free of toll in the month of <month:month>"),
        (2, "none shall turn the water of the <river:river>"),
        (2, "whoever hires a <hired:worker> shall pay before sunset"),
        (2, "in <place:city> let <good:good> be sold by the measure of <god:deity>"),
        (1, "let the widow keep her house"),
    ],
    "written": [
        (3, "Written by <scribe:person>, <child(scribe)> of <father:man>.\n"),
        (2, "Read out by <herald:person>, <trade:trade|herald>.\n"),
    ],
    "stands": [
        (3, "stands in <city>"),
        (1, "stands while the <river:river> runs"),
        (1, "is not water, it is stone"),
    ],
}

EPITAPH: Rules = {
    "epitaph": [
        (
            1,
            "[here] <dead:person>, <child(dead)> of <father:man>, <trade:trade|dead> of <city:city>.\n"
            "Under king <king:king_of_birth>, in year <born:year|king>, <he(dead)> was born;\n"
            "under [then|king,born], in year <died:year_of_death|king,born,generations>, <he(dead)> died.\n"
            "<He(dead)> saw <age(king,born,generations,died)> harvests[life].\n"
            "<His(dead)> [mourners|dead] set up this stone.\n[carver][farewell]",
        )
    ],
    "here": [(3, "Here lies"), (2, "This is the house of"), (1, "Beneath this stone sleeps")],
    "then": [
        (_under(0), "the same king<generations=none()>"),
        (_under(1), "that king's son <generations=once()><heir(king,generations)>"),
        (_under(2), "that king's grandson <generations=twice()><heir(king,generations)>"),
    ],
    "life": [
        (3, ""),
        (3, " and served <deity:deity_of_city|city>, <epithet:epithet|deity>"),
        (2, " and came home from <number:few> wars"),
        (2, " and planted <trees:dozens> trees"),
        (1, " and crossed the <river:river> <number:few> times"),
        (1, ", and the walls of <place:city> and <place:elsewhere|place>"),
        (1, " and wronged no one"),
    ],
    "mourners": [
        (lambda dead: 3.0 * is_woman(dead), "husband <mourner:man>"),
        (lambda dead: 3.0 * (not is_woman(dead)), "wife <mourner:woman>"),
        (2, "son <mourner:man>"),
        (2, "daughter <mourner:woman>"),
        (2, "two sons, <mourner:man> and <mourner:man>,"),
        (1.5, "two daughters, <mourner:woman> and <mourner:woman>,"),
        (1.5, "three sons, <mourner:man>, <mourner:man> and <mourner:man>,"),
        (1, "three daughters, <mourner:woman>, <mourner:woman> and <mourner:woman>,"),
        (1, "brother <mourner:man>"),
    ],
    "carver": [(1, ""), (1, "<carver:person> carved it.\n")],
    "farewell": [
        (3, "Stranger, say the name of <dead> and go in peace."),
        (2, "May <deity:deity_of_city|city>, <epithet:epithet|deity>, be gentle to <him(dead)>."),
        (2, "The house of <father> is dark without <him(dead)>."),
        (1, "What <dead> was, you are; what <he(dead)> is, you will be."),
    ],
}

RATIONS: Rules = {
    "rations": [
        (
            1,
            "King <king:king>, year <year:year|king>, month of <month:month>.\n"
            "[measured] <good:good> from the house of <deity:deity> at <city:city_of_deity|deity>,"
            " for <size:size> workers:\n"
            "<rank=nobody()><total=none()>[list|size]"
            "For <size> workers, <total> measures of <good>.\n"
            "The store held <stock:stock|total> and holds <less(stock,total)>.\n"
            "[sealed] <scribe:person>, <child(scribe)> of <father:man>, servant of <deity>, <epithet:epithet|deity>.",
        )
    ],
    "measured": [(3, "Rations of"), (1, "Given out:")],
    "list": [
        (_exactly("two"), "[line]" * 2),
        (_exactly("three"), "[line]" * 3),
        (_exactly("four"), "[line]" * 4),
        (_exactly("five"), "[line]" * 5),
        (_exactly("six"), "[line]" * 6),
    ],
    "line": [(1, "<rank:rank|rank> <worker:person>, <amount:amount|rank>\n<total=plus(total,amount)>")],
    "sealed": [(2, "Seal of"), (1, "Counted by")],
}

BOUNDARY: Rules = {
    "boundary": [
        (
            1,
            "This stone king <king:king> set in his year <year:year|king>\n"
            "for <owner:person>, <child(owner)> of <father:man>, [land] <city:city>.\n"
            "North, <length:length> cords, [beside].\nEast, <width:width> cords, [beside].\n"
            "South, <length> cords, [beside].\nWest, <width> cords, [beside].\n"
            "Around it <around(length,width)> cords, within it <times(length,width)> squares.\n"
            "The word of <king> stands. Whoever moves this stone,\n"
            "may <deity=patron(city)><deity>, <epithet:epithet|deity>, [curse].",
        )
    ],
    "land": [(3, "in the fields of"), (2, "in the orchards of"), (1, "outside the gate of")],
    "beside": [
        (9, "by the field of <neighbour:person>"),
        (2, "by the canal of <place:city>"),
        (2, "by the river <river:river>"),
        (1, "by the road to <place:elsewhere|city>"),
    ],
    "curse": [
        (4, "take away his name"),
        (3, "dry up his wells"),
        (2, "turn his barley to thorns"),
        (1, "close every door to him"),
        (1, "feed his house to the crows"),
    ],
}

RULES: Rules = {**DEDICATION, **EDICT, **EPITAPH, **RATIONS, **BOUNDARY}

# ---- what the templates ask for --------------------------------------------------------------------------------------

TABLES: dict[str, Table | Callable[..., Table]] = {
    "amount": amount,
    "city": CITY,
    "city_of_deity": city_of_deity,
    "deity": DEITY,
    "deity_of_city": deity_of_city,
    "dozens": zipf([12 * k for k in range(1, 16)], 0.6),
    "elsewhere": elsewhere,
    "epithet": epithet,
    "few": zipf(NUMBERS[2:], 0.5),
    "fine": zipf([10, 20, 60, 30, 40, 50, 100, 90, 80, 70]),
    "gift": gift,
    "good": zipf("barley oil beer dates wool flour wine salt".split(), 0.8),
    "hundreds": zipf([100 * k + 20 * j for j in range(5) for k in range(1, 10)], 0.4),
    "king": KING,
    "king_of_birth": Table({king: p for king, p in KING.probabilities.items() if king in KINGS[:-2]}),
    "length": zipf(range(20, 61), 0.3),
    "man": MAN,
    "month": zipf(MONTHS, 0.6),
    "part": part,
    "person": PERSON,
    "rank": rank,
    "river": zipf(RIVERS, 0.7),
    "size": zipf(["four", "five", "three", "six", "two"], 0.7),
    "shekels": zipf(range(2, 31), 0.4),
    "stock": stock,
    "trade": trade,
    "width": zipf(range(10, 50, 10), 0.5),
    "woman": WOMAN,
    "worker": zipf([*RANKS][2:-1], 0.5),
    "year": year,
    "year_of_death": year_of_death,
}


def _pronoun(his: str, her: str, whose: Callable[[str], bool] = is_woman) -> Callable[[str], str]:
    return lambda name: her if whose(name) else his


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "He": _pronoun("He", "She"),
    "His": _pronoun("His", "Her"),
    "age": age,
    "around": lambda length, width: 2 * (length + width),
    "child": _pronoun("son", "daughter"),
    "father_of_king": father_of_king,
    "he": _pronoun("he", "she"),
    "heir": heir,
    "him": _pronoun("him", "her"),
    "his": _pronoun("his", "her"),
    "less": lambda whole, part: whole - part,
    "nobody": lambda: "",
    "none": lambda: 0,
    "once": lambda: 1,
    "patron": lambda city: CITY_DEITY[city],
    "plus": lambda a, b: a + b,
    "she": _pronoun("he", "she", lambda deity: DEITIES[deity].is_goddess),
    "times": lambda length, width: length * width,
    "twice": lambda: 2,
}
