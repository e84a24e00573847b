"""The land in which the inscriptions are set: its kings, gods, cities, names and trades. All of it is invented.

Facts stay the same in every text (whose son a king was, which city a god protects), so that a model can learn them;
what varies does so by weights, common things often and rare ones rarely.
"""

from __future__ import annotations

from dataclasses import dataclass

from gentext.data.inscriptions_pieces import Table, zipf

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
    "Dagoval": 13,
    "Mursheth": 33,
    "Yazdir": 21,
    "Inshubar": 17,
}
KINGS = tuple(REIGNS)
# By the number of their inscriptions: long reigns leave many, but not only they.
_FAME = """Hattuvar Teshurim Palukin Mursheth Ilkamar Belshun Sharrut Yazdir Nabruk Ermenak Kuramil Zimrash Inshubar
Orosheth Dagoval Adanir""".split()


def father_of_king(king: str) -> str:
    """The king before, or the founder."""
    place = KINGS.index(king)
    return KINGS[place - 1] if place else FOUNDER


def heir(king: str, generations: int = 1) -> str:
    """The king's son (1), grandson (2), or the king himself (0)."""
    return KINGS[KINGS.index(king) + generations]


def year(king: str, after: int = 0) -> Table:
    """A year of the king's reign later than `after`; soon after it more is written than late."""
    return Table({y: 1 / (6 + y - after) for y in range(after + 1, REIGNS[king] + 1)})


# ---- gods ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deity:
    """A god or goddess: where they live, what they are called, what they are given."""

    name: str
    is_goddess: bool
    city: str
    epithets: tuple[str, ...]
    gifts: tuple[str, ...]


def _deity(name: str, kind: str, city: str, epithets: str, gifts: str) -> Deity:
    return Deity(name, kind == "goddess", city, tuple(epithets.split(", ")), tuple(gifts.split(", ")))


_DEITIES = (
    _deity(
        *("Namu", "goddess", "Karum", "lady of the deep, mother of rivers, who counts the waves"),
        "a bronze anchor, a boat of cedar, a string of pearls, a net of new cord",
    ),
    _deity(
        *("Ishkar", "god", "Tel Arin", "lord of thunder, rider of the storm, who breaks the drought"),
        "a bronze axe, a yoke of oxen, a great drum, a mace of black stone",
    ),
    _deity(
        *("Shalit", "goddess", "Ninvar", "lady of the moon, keeper of oaths, who sees in the dark"),
        "a silver mirror, a lamp of alabaster, a white veil, a crescent of tin",
    ),
    _deity(
        *("Utarru", "god", "Larakh", "lord of the sun, judge of the four quarters, who is never late"),
        "a disc of gold, a golden bowl, a sundial of marble, a red horse",
    ),
    _deity(
        *("Gesh", "god", "Borsun", "lord of battle, breaker of gates, who does not turn back"),
        "a shield of hide, a spear with a silver point, a captured banner, a helmet",
    ),
    _deity(
        *("Annike", "goddess", "Eshmar", "lady of the hearth, mother of the newborn, who hears the small"),
        "a cradle of willow, a woven girdle, a loaf of the first flour, a copper kettle",
    ),
    _deity(
        *("Dumuk", "god", "Kesh Amar", "lord of the sheepfold, shepherd of the hills, who finds the lost"),
        "a fleece, a milk jar, a flute of bone, a staff of olive wood",
    ),
    _deity(
        *("Ninaz", "goddess", "Shurat", "lady of healing, washer of wounds, who calls back the dying"),
        "an eye of silver, a hand of clay, a box of salves, a foot of wax",
    ),
    _deity(
        *("Enkul", "god", "Urmash", "lord of the reed pen, scribe of the gods, who forgets nothing"),
        "a tablet of lapis, an ivory pen, a seal of jasper, a chest for letters",
    ),
    _deity(
        *("Marat", "goddess", "Dibar", "lady of the orchard, giver of honey, who wakes the seed"),
        "a jar of honey, a golden apple, a basket of figs, a garland of barley",
    ),
    _deity(
        *("Hadul", "god", "Tor Kal", "lord of the forge, father of smiths, who bends iron"),
        "an iron tripod, a hammer, a pair of bronze doors, a chain without a seam",
    ),
    _deity(
        *("Belat", "goddess", "Sippuran", "lady of the gate, queen below the earth, who asks every name"),
        "a black ewe, a key of bronze, a cup without a handle, a coin for the ferry",
    ),
    _deity(
        *("Wadun", "god", "Akhetta", "lord of the desert, master of wells, who walks before the caravan"),
        "a skin of water, a saddle of red leather, a bell for camels, a tent of goat hair",
    ),
    _deity(
        *("Tishe", "goddess", "Madbara", "lady of the loom, spinner of days, who cuts the thread"),
        "a spindle of ivory, a purple robe, a comb of boxwood, a carpet",
    ),
    _deity(
        *("Kothan", "god", "Pel Turin", "lord of the feast, presser of grapes, who loosens tongues"),
        "a jar of old wine, a wreath of ivy, a mask of linen, a mixing bowl",
    ),
    _deity(
        *("Ereshti", "goddess", "Gubarra", "lady of the mountain, mistress of beasts, who draws the bow"),
        "a quiver of arrows, a deer of terracotta, a falcon hood, a cedar beam",
    ),
)
DEITIES = {deity.name: deity for deity in _DEITIES}
CITY_DEITY = {deity.city: deity.name for deity in _DEITIES}  # each city's own god
CITIES = tuple(CITY_DEITY)
RIVERS = ("Ishal", "Turnat", "Khabir", "Zab Ulai", "Aranza")
COMMON_GIFTS = (
    "a bronze bowl, a small statue, a silver cup, a stone basin, ten measures of oil, a painted jar, an altar, "
    "two doves of clay, a carved stool, a white ox, a lamp, three goats, a robe, a bench of cedar"
).split(", ")

# ---- people ----------------------------------------------------------------------------------------------------------

# A name is a stem with an ending, and the ending tells women from men.
STEMS = """Iddin Bel Ar Nur Tab Shem Kal Up Im Zer Hun Lib Ward Git Es Mann Qur Od Pash Yal Vash Fen Rim Ter Gal Sin Dur
Hab Akk Oll Per Tuk Mel Neb Raz Hosh Uzz Kip Baz Lul""".split()
MALE_ENDINGS = (
    "am ilu adim ush enlu omar ekur ishta urta ebal anshu okh irran uppa azi evar oshim ithar unik alba".split()
)
FEMALE_ENDINGS = "iya eti atum innat umi elit ona arbel ushka ayla ezzet isha oreth anni".split()
MEN_TRADES = (
    "the potter, the smith, the scribe, the merchant, the captain, the gardener, the mason, the physician, the singer, "
    "the royal cupbearer, the keeper of seals, the boatman, the tanner, the stargazer, the baker, the ropemaker"
).split(", ")
WOMEN_TRADES = (
    "the weaver, the priestess, the merchant, the midwife, the brewer, the singer, the scribe, the physician, "
    "the keeper of doves, the lady of the palace, the perfumer, the dyer, the baker, the harper"
).split(", ")


def _names(endings: list[str]) -> Table:
    """Every stem with every ending, independent of each other; each has its favourites."""
    return Table({s + e: (k + 8) ** -0.8 * (j + 6) ** -0.8 for k, s in enumerate(STEMS) for j, e in enumerate(endings)})


MAN, WOMAN = _names(MALE_ENDINGS), _names(FEMALE_ENDINGS)
PERSON = Table(
    {name: 0.6 * p for name, p in MAN.probabilities.items()}
    | {name: 0.4 * p for name, p in WOMAN.probabilities.items()}
)


def is_woman(name: str) -> bool:
    """Whether a name is a woman's."""
    return name in WOMAN.probabilities


def trade(name: str) -> Table:
    """What somebody of this name does for a living."""
    return zipf(WOMEN_TRADES if is_woman(name) else MEN_TRADES, 0.7)


# ---- who goes with whom ----------------------------------------------------------------------------------------------


def _favour(table: Table, value: str, by: float) -> Table:
    """`table` with more weight on one value: local habits over general ones."""
    return Table({v: p + by * (v == value) for v, p in table.probabilities.items()})


KING = zipf(_FAME, 0.6)
CITY = zipf(CITIES, 0.6)
DEITY = zipf(tuple(DEITIES), 0.6)


def elsewhere(city: str) -> Table:
    """Another city."""
    return Table({other: p for other, p in CITY.probabilities.items() if other != city})


def city_of_deity(deity: str) -> Table:
    """Where a god is worshipped: mostly at home."""
    return _favour(CITY, DEITIES[deity].city, 1.0)


def deity_of_city(city: str) -> Table:
    """Whom a city worships: mostly its own god."""
    return _favour(DEITY, CITY_DEITY[city], 1.0)


def epithet(deity: str) -> Table:
    """What the god is called."""
    return zipf(DEITIES[deity].epithets, 0.8)


def gift(deity: str) -> Table:
    """What this god likes, or what anybody likes."""
    own = {name: 3 / (k + 2) for k, name in enumerate(DEITIES[deity].gifts)}
    return Table(own | {name: 2 / (k + 4) for k, name in enumerate(COMMON_GIFTS)})
