"""The land in which the inscriptions are set: its kings, gods, cities, names and trades. All of it is invented.

Facts stay the same in every text (whose son a king was, which city a god protects), so that a model can learn them;
what varies does so by weights, common things often and rare ones rarely.
"""

from __future__ import annotations

from dataclasses import dataclass

from gentext.data.inscriptions_grammar import Table, zipf

# ---- kings: one dynasty, each the son of the one before --------------------------------------------------------------

FOUNDER = "Ashkar"  # the father of the first king; no inscription is dated by him
REIGNS = {  # king: years, in the order in which they ruled
    "Zimrash": 16,
    "Belshun": 24,
    "Teshurim": 31,
    "Adanir": 12,
    "Ilkamar": 27,
    "Nabruk": 19,
    "Hattuvar": 35,
    "Orosheth": 14,
    "Ermenak": 22,
    "Palukin": 29,
    "Kuramil": 18,
    "Sharrut": 25,
}
KINGS = tuple(REIGNS)
_FAME = ("Hattuvar", "Teshurim", "Palukin", "Ilkamar", "Belshun", "Sharrut", "Nabruk", "Ermenak", "Kuramil", "Zimrash", "Orosheth", "Adanir")  # fmt: skip


def father_of_king(king: str) -> str:
    """The king before, or the founder."""
    place = KINGS.index(king)
    return KINGS[place - 1] if place else FOUNDER


def heir(king: str, generations: int = 1) -> str:
    """The king's son, grandson..."""
    return KINGS[KINGS.index(king) + generations]


def year(king: str, after: int = 0) -> Table:
    """A year of the king's reign later than `after`; in early years people write more."""
    return Table({y: 1 / (6 + y - after) for y in range(after + 1, REIGNS[king] + 1)})


# ---- gods ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deity:
    """A god or goddess: what they are called, where they live, what they are given."""

    name: str
    she: bool
    city: str
    emblem: str
    epithets: tuple[str, ...]
    gifts: tuple[str, ...]


DEITIES = {
    deity.name: deity
    for deity in (
        Deity("Namu", True, "Karum", "dolphin", ("lady of the deep", "mother of rivers", "who counts the waves"), ("a bronze anchor", "a boat of cedar", "a string of pearls")),
        Deity("Ishkar", False, "Tel Arin", "bull", ("lord of thunder", "rider of the storm", "who breaks the drought"), ("a bronze axe", "a yoke of oxen", "a great drum")),
        Deity("Shalit", True, "Ninvar", "owl", ("lady of the moon", "keeper of oaths", "who sees in the dark"), ("a silver mirror", "a lamp of alabaster", "a white veil")),
        Deity("Utarru", False, "Larakh", "falcon", ("lord of the sun", "judge of the four quarters", "who is never late"), ("a disc of gold", "a golden bowl", "a sundial of marble")),
        Deity("Gesh", False, "Borsun", "lion", ("lord of battle", "breaker of gates", "who does not turn back"), ("a shield of hide", "a spear with a silver point", "a captured banner")),
        Deity("Annike", True, "Eshmar", "dove", ("lady of the hearth", "mother of the newborn", "who hears the small"), ("a cradle of willow", "a woven girdle", "a loaf of the first flour")),
        Deity("Dumuk", False, "Kesh Amar", "ram", ("lord of the sheepfold", "shepherd of the hills", "who finds the lost"), ("a fleece", "a milk jar", "a flute of bone")),
        Deity("Ninaz", True, "Shurat", "serpent", ("lady of healing", "washer of wounds", "who calls back the dying"), ("an eye of silver", "a hand of clay", "a box of salves")),
        Deity("Enkul", False, "Urmash", "ibis", ("lord of the reed pen", "scribe of the gods", "who forgets nothing"), ("a tablet of lapis", "an ivory pen", "a seal of jasper")),
        Deity("Marat", True, "Dibar", "bee", ("lady of the orchard", "giver of honey", "who wakes the seed"), ("a jar of honey", "a golden apple", "a basket of figs")),
        Deity("Hadul", False, "Opis Kal", "boar", ("lord of the forge", "father of smiths", "who bends iron"), ("an iron tripod", "a hammer", "a pair of bronze doors")),
        Deity("Belat", True, "Sippuran", "scorpion", ("lady of the gate", "queen below the earth", "who asks every name"), ("a black ewe", "a key of bronze", "a cup without a handle")),
    )
}  # fmt: skip
CITY_DEITY = {deity.city: deity.name for deity in DEITIES.values()}
COMMON_GIFTS = ("a bronze bowl", "a small statue", "a silver cup", "a stone basin", "ten measures of oil", "a painted jar", "an altar", "two doves of clay")  # fmt: skip
RIVERS = ("Ishal", "Turnat", "Khabir", "Zab Ulai", "Aranza")


# ---- people ----------------------------------------------------------------------------------------------------------

STEMS = ("Iddin", "Bel", "Ar", "Nur", "Tab", "Shem", "Kal", "Up", "Im", "Zer", "Hun", "Lib", "Ward", "Git", "Es", "Mann", "Qur", "Od", "Pash", "Yal", "Vash", "Fen")  # fmt: skip
MALE_ENDINGS = ("am", "ilu", "adim", "ush", "enlu", "omar", "ekur", "ishta", "urta", "ebal", "anshu", "okh")
FEMALE_ENDINGS = ("iya", "eti", "atum", "innat", "umi", "elit", "ona", "arbel")
CITIES = tuple(CITY_DEITY)
MEN_TRADES = ("the potter", "the smith", "the scribe", "the merchant", "the captain", "the gardener", "the mason", "the physician", "the singer", "the royal cupbearer", "the keeper of seals", "the boatman")  # fmt: skip
WOMEN_TRADES = ("the weaver", "the priestess", "the merchant", "the midwife", "the brewer", "the singer", "the scribe", "the physician", "the keeper of doves", "the lady of the palace")  # fmt: skip
MONTHS = ("sowing", "first fruits", "barley", "lamps", "the long sun", "honey", "vintage", "the flood", "returning boats", "rest", "weaving", "new reeds")  # fmt: skip


def _names(endings: tuple[str, ...]) -> dict[str, float]:
    """Every stem with every ending. Ending and stem are independent, and both have a favourite."""
    return {s + e: 1 / ((3 + k) * (2 + j)) for k, s in enumerate(STEMS) for j, e in enumerate(endings)}


MAN = Table(_names(MALE_ENDINGS))
WOMAN = Table(_names(FEMALE_ENDINGS))
PERSON = Table(
    {name: 0.65 * p for name, p in MAN.probabilities.items()}
    | {name: 0.35 * p for name, p in WOMAN.probabilities.items()}
)


def is_woman(name: str) -> bool:
    """A name's ending tells."""
    return name in WOMAN.probabilities


# ---- tables ----------------------------------------------------------------------------------------------------------


def favour(table: Table, chosen: dict[str, float]) -> Table:
    """`table` with something added to the probabilities of the chosen values: local habits over general ones."""
    return Table({value: p + chosen.get(str(value), 0.0) for value, p in table.probabilities.items()})


KING = zipf(_FAME, 0.7)
CITY = zipf(CITIES, 0.7)
DEITY = zipf(tuple(DEITIES), 0.7)


def city_of_deity(deity: str) -> Table:
    """Where a god is worshipped: mostly at home."""
    return favour(CITY, {DEITIES[deity].city: 1.5})


def deity_of_city(city: str) -> Table:
    """Whom a city worships: mostly its own god."""
    return favour(DEITY, {CITY_DEITY[city]: 1.5})


def epithet(deity: str) -> Table:
    return zipf(DEITIES[deity].epithets)


def gift(deity: str) -> Table:
    """What the god likes, or what anybody likes."""
    own = {name: 2 / (k + 1) for k, name in enumerate(DEITIES[deity].gifts)}
    return Table(own | {name: 1 / (k + 2) for k, name in enumerate(COMMON_GIFTS)})


def trade(name: str) -> Table:
    return zipf(WOMEN_TRADES if is_woman(name) else MEN_TRADES, 0.8)
