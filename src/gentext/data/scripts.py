"""The scripts of the glyph set: which signs of Unicode belong to them, which font draws them, what they are called."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Script:
    """One class of the glyph set."""

    name: str  # as shown to a reader, "Egyptian hieroglyphs"
    sign: str  # one of its signs, in words: "Egyptian hieroglyph"
    prefix: str  # what its Unicode names begin with, "EGYPTIAN HIEROGLYPH"
    font: str  # the font's file name without "-Regular.ttf"


# Alphabetical. The position of a script is its label, so a later script goes to the end, never into the middle.
SCRIPTS: tuple[Script, ...] = (
    Script("Anatolian hieroglyphs", "Anatolian hieroglyph", "ANATOLIAN HIEROGLYPH", "NotoSansAnatolianHieroglyphs"),
    Script("Avestan", "Avestan letter", "AVESTAN LETTER", "NotoSansAvestan"),
    Script("Brahmi", "Brahmi letter", "BRAHMI LETTER", "NotoSansBrahmi"),
    Script("Carian", "Carian letter", "CARIAN LETTER", "NotoSansCarian"),
    Script("Coptic", "Coptic letter", "COPTIC CAPITAL LETTER", "NotoSansCoptic"),
    Script("Cuneiform", "Cuneiform sign", "CUNEIFORM", "NotoSansCuneiform"),
    Script("Cypriot syllabary", "Cypriot syllable", "CYPRIOT SYLLABLE", "NotoSansCypriot"),
    Script("Egyptian hieroglyphs", "Egyptian hieroglyph", "EGYPTIAN HIEROGLYPH", "NotoSansEgyptianHieroglyphs"),
    Script("Glagolitic", "Glagolitic letter", "GLAGOLITIC CAPITAL LETTER", "NotoSansGlagolitic"),
    Script("Gothic", "Gothic letter", "GOTHIC LETTER", "NotoSansGothic"),
    Script("Imperial Aramaic", "Imperial Aramaic letter", "IMPERIAL ARAMAIC LETTER", "NotoSansImperialAramaic"),
    Script("Kharoshthi", "Kharoshthi letter", "KHAROSHTHI LETTER", "NotoSansKharoshthi"),
    Script("Linear A", "Linear A sign", "LINEAR A SIGN", "NotoSansLinearA"),
    Script("Linear B", "Linear B sign", "LINEAR B", "NotoSansLinearB"),
    Script("Lycian", "Lycian letter", "LYCIAN LETTER", "NotoSansLycian"),
    Script("Lydian", "Lydian letter", "LYDIAN LETTER", "NotoSansLydian"),
    Script("Meroitic cursive", "Meroitic cursive letter", "MEROITIC CURSIVE LETTER", "NotoSansMeroitic"),
    Script("Meroitic hieroglyphs", "Meroitic hieroglyph", "MEROITIC HIEROGLYPHIC LETTER", "NotoSansMeroitic"),
    Script("Ogham", "Ogham letter", "OGHAM LETTER", "NotoSansOgham"),
    Script("Old Hungarian", "Old Hungarian letter", "OLD HUNGARIAN CAPITAL LETTER", "NotoSansOldHungarian"),
    Script("Old Italic", "Old Italic letter", "OLD ITALIC LETTER", "NotoSansOldItalic"),
    Script("Old North Arabian", "Old North Arabian letter", "OLD NORTH ARABIAN LETTER", "NotoSansOldNorthArabian"),
    Script("Old Persian", "Old Persian sign", "OLD PERSIAN SIGN", "NotoSansOldPersian"),
    Script("Old South Arabian", "Old South Arabian letter", "OLD SOUTH ARABIAN LETTER", "NotoSansOldSouthArabian"),
    Script("Old Turkic", "Old Turkic letter", "OLD TURKIC LETTER", "NotoSansOldTurkic"),
    Script("Phaistos disc", "Phaistos disc sign", "PHAISTOS DISC SIGN", "NotoSansSymbols2"),
    Script("Phoenician", "Phoenician letter", "PHOENICIAN LETTER", "NotoSansPhoenician"),
    Script("Runic", "Runic letter", "RUNIC", "NotoSansRunic"),
    Script("Ugaritic", "Ugaritic letter", "UGARITIC LETTER", "NotoSansUgaritic"),
)

# The categories of the sign list in A. H. Gardiner, Egyptian Grammar (3rd ed. 1957), by the letters of a sign's number.
GARDINER: dict[str, str] = {
    "A": "man and his occupations",
    "B": "woman and her occupations",
    "C": "anthropomorphic deities",
    "D": "parts of the human body",
    "E": "mammals",
    "F": "parts of mammals",
    "G": "birds",
    "H": "parts of birds",
    "I": "amphibious animals, reptiles",
    "K": "fishes and parts of fishes",
    "L": "invertebrates and lesser animals",
    "M": "trees and plants",
    "N": "sky, earth, water",
    "NL": "nomes of Lower Egypt",
    "NU": "nomes of Upper Egypt",
    "O": "buildings and parts of buildings",
    "P": "ships and parts of ships",
    "Q": "domestic and funerary furniture",
    "R": "temple furniture and sacred emblems",
    "S": "crowns, dress, staves",
    "T": "warfare, hunting, butchery",
    "U": "agriculture, crafts and professions",
    "V": "rope, fibre, baskets, bags",
    "W": "vessels of stone and earthenware",
    "X": "loaves and cakes",
    "Y": "writings, games, music",
    "Z": "strokes and figures",
    "AA": "unclassified",
}

_CATALOGUE = re.compile(r"([A-Z]+)0*(\d+)([A-Z]*(?:-[A-Z0-9]+)?)")  # A014A, AB001, B105F, A404-VAS
_CATALOGUED = {"Anatolian hieroglyphs", "Egyptian hieroglyphs", "Linear A", "Linear B"}


def describe(script: Script, name: str) -> str:
    """Words for the sign of `script` whose Unicode name is `name`: "Egyptian hieroglyph A1, man and his occupations".

    Catalogue numbers lose their leading zeros. The rest becomes lower case and keeps the order of the Unicode name.
    """
    rest = name.removeprefix(script.prefix).lstrip("-").split()
    sign = script.sign
    if script.name == "Linear B" and rest[0] in {"SYLLABLE", "IDEOGRAM", "MONOGRAM", "SYMBOL"}:
        sign = f"Linear B {rest[0].lower()}"
        rest = rest[1:]
    if script.name == "Cuneiform" and rest[:2] == ["NUMERIC", "SIGN"]:
        sign, rest = "Cuneiform number", rest[2:]
    elif rest[0] in {"SIGN", "LETTER"}:
        rest = rest[1:]
    numbers = [_CATALOGUE.fullmatch(word) for word in rest] if script.name in _CATALOGUED else []
    number = next(filter(None, numbers), None)
    if number is None:
        return f"{sign} {' '.join(rest).lower()}".strip()
    rest.remove(number.string)
    letters, digits, variant = number.groups()
    words = [f"{sign} {letters.capitalize() if letters == 'AA' else letters}{digits}{variant.lower()}"]
    if script.name == "Egyptian hieroglyphs":
        words.append(GARDINER[letters])
    if rest:
        words.append(" ".join(rest).lower())
    return ", ".join(words)
