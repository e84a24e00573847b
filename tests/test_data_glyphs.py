"""The glyph set: what ships, what its card says, and that the script still draws it."""

import csv
import io
import re
import runpy
import sys
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gentext import data
from gentext.data import render_glyphs
from gentext.data.scripts import GARDINER, SCRIPTS, describe

PACKAGE = files("gentext.data")
BY_NAME = {script.name: script for script in SCRIPTS}
needs_fonts = pytest.mark.skipif(
    not all((render_glyphs.FONTS / f"{script.font}-Regular.ttf").exists() for script in SCRIPTS),
    reason="Debian's fonts-noto-core is not installed",
)


@pytest.fixture(scope="module")
def rows():
    text = PACKAGE.joinpath("glyphs.tsv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def card():
    return PACKAGE.joinpath("GLYPHS.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawable():
    """What the fonts can draw: for each script, outlines by code point."""
    return {
        script.name: {outline.codepoint: outline for outline in render_glyphs.outlines(script, render_glyphs.FONTS)}
        for script in SCRIPTS
    }


@pytest.fixture(scope="module")
def sets():
    return {split: data.load("glyphs", split, size=64) for split in data.SPLITS}


@pytest.fixture(scope="module")
def pixels(sets):
    """Every sign's picture (1, 64, 64) by code point."""
    return {
        codepoint: image
        for part in sets.values()
        for codepoint, image in zip(part.codepoints, part.images, strict=True)
    }


# ---- what ships ---------------------------------------------------------------------------------------------------


def test_enough_signs_and_scripts_in_little_room(rows):
    assert len(rows) >= 4_000
    assert len({row["script"] for row in rows}) == len(SCRIPTS) >= 20
    size = sum(len(PACKAGE.joinpath(name).read_bytes()) for name in ("glyphs.png", "glyphs.tsv", "GLYPHS.md"))
    assert size <= 3_000_000


def test_every_split_has_every_script_and_all_its_metadata(sets):
    for part in sets.values():
        assert part.label_names == tuple(script.name for script in SCRIPTS)
        assert set(part.labels.tolist()) == set(range(len(SCRIPTS)))
        assert part.labels.dtype == torch.int64
        assert len(part) == len(part.names) == len(part.codepoints) == len(part.descriptions)
        assert all(part.names)
        assert all(part.descriptions)


def test_pictures_are_ink_on_ground_with_a_margin(sets):
    for part in sets.values():
        assert part.images.shape[1:] == (1, 64, 64)
        assert part.images.dtype == torch.float32
        assert part.images.amin() == 0
        assert (part.images.amax((1, 2, 3)) > 0.9).all()  # real ink in every picture: none is empty
        margin = part.images.clone()
        margin[:, :, 5:-5, 5:-5] = 0
        assert margin.sum() == 0  # nothing is clipped
        ink = part.images.mean((1, 2, 3))
        assert ink.min() > 0.005
        assert ink.max() < 0.6  # and none is a full block


def test_signs_are_centred_and_fill_the_frame(sets, card):
    small = 0
    for part in sets.values():
        rows, columns = part.images.amax(3)[:, 0] > 0, part.images.amax(2)[:, 0] > 0  # (n, 64) each
        sides = []
        for inked in (rows, columns):
            first, last = inked.int().argmax(1), 63 - inked.flip(1).int().argmax(1)
            assert ((first + last) / 2 - 31.5).abs().max() <= 1
            sides.append(last - first + 1)
        longest = torch.maximum(*sides)
        assert longest.max() <= 54
        small += int((longest < 51).sum())
    assert f"Small signs ({small} of them)" in " ".join(card.split())


def test_size_32_is_the_average_of_size_64(sets):
    small = data.load("glyphs", "validation", size=32).images
    large = sets["validation"].images
    assert torch.equal(small, torch.nn.functional.avg_pool2d(large, 2))


def test_no_two_signs_share_a_picture_a_code_point_or_a_name(sets, pixels, rows):
    assert len(pixels) == len(rows)
    assert len({row["name"] for row in rows}) == len(rows)
    flat = torch.cat([part.images for part in sets.values()]).flatten(1)  # (4380, 4096)
    ink = flat.square().sum(1)
    some = slice(None, None, 8)  # one in eight against all: the whole table takes a minute
    distance = ink[some, None] + ink - 2 * flat[some] @ flat.T  # (n / 8, n), squared
    alike = distance < 0.99 * render_glyphs.LOOK_ALIKE * torch.minimum(ink[some, None], ink)
    assert (alike.sum(1) == 1).all()  # each sign is like itself and no other


def test_labels_names_and_code_points_agree(sets):
    for part in sets.values():
        for label, name in zip(part.labels.tolist(), part.names, strict=True):
            assert name.startswith(SCRIPTS[label].prefix)
            assert BY_NAME[part.label_names[label]] is SCRIPTS[label]
    owl = [
        (part.codepoints[place], part.descriptions[place])
        for part in sets.values()
        for place, name in enumerate(part.names)
        if name == "EGYPTIAN HIEROGLYPH G017"
    ]
    assert owl == [(0x13153, "Egyptian hieroglyph G17, birds")]


# ---- the split ----------------------------------------------------------------------------------------------------


def test_the_split_is_disjoint_and_complete(sets, rows):
    points = {split: set(part.codepoints) for split, part in sets.items()}
    assert not points["train"] & points["test"]
    assert not points["train"] & points["validation"]
    assert not points["validation"] & points["test"]
    assert set.union(*points.values()) == {int(row["codepoint"], 16) for row in rows}


def test_the_split_is_what_the_hash_says(rows):
    for script in SCRIPTS:
        own = [row for row in rows if row["script"] == script.name]
        splits = render_glyphs.assign_splits([int(row["codepoint"], 16) for row in own])
        assert splits == [row["split"] for row in own]


def test_some_signs_keep_their_split_for_ever(rows):
    """Recorded once. A trained model's test set must not move into its training set with a new version."""
    split = {row["name"]: row["split"] for row in rows}
    assert split["CARIAN LETTER C-18"] == "test"
    assert split["EGYPTIAN HIEROGLYPH G036A"] == "test"
    assert split["LINEAR B SYLLABLE B077 KA"] == "validation"
    assert split["EGYPTIAN HIEROGLYPH E001"] == "train"


@given(st.sets(st.integers(0x10000, 0x1FFFF), min_size=10, max_size=80), st.randoms(use_true_random=False))
def test_splits_hang_on_the_sign_and_not_on_the_order(codepoints, random):
    order = sorted(codepoints)
    by_sign = dict(zip(order, render_glyphs.assign_splits(order), strict=True))
    random.shuffle(order)
    assert by_sign == dict(zip(order, render_glyphs.assign_splits(order), strict=True))
    counts = Counter(by_sign.values())
    assert counts["test"] == counts["validation"] == max(1, round(0.1 * len(order)))


# ---- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "name", "words"),
    [
        ("Egyptian hieroglyphs", "EGYPTIAN HIEROGLYPH A001", "Egyptian hieroglyph A1, man and his occupations"),
        ("Egyptian hieroglyphs", "EGYPTIAN HIEROGLYPH NU010A", "Egyptian hieroglyph NU10a, nomes of Upper Egypt"),
        ("Egyptian hieroglyphs", "EGYPTIAN HIEROGLYPH AA031", "Egyptian hieroglyph Aa31, unclassified"),
        ("Anatolian hieroglyphs", "ANATOLIAN HIEROGLYPH A045A", "Anatolian hieroglyph A45a"),
        ("Linear A", "LINEAR A SIGN AB001", "Linear A sign AB1"),
        ("Linear A", "LINEAR A SIGN A709-2 L2", "Linear A sign A709-2, l2"),
        ("Linear B", "LINEAR B SYLLABLE B008 A", "Linear B syllable B8, a"),
        ("Linear B", "LINEAR B IDEOGRAM B231 ARROW", "Linear B ideogram B231, arrow"),
        ("Linear B", "LINEAR B IDEOGRAM VESSEL B204", "Linear B ideogram B204, vessel"),
        ("Cuneiform", "CUNEIFORM SIGN KA TIMES KID", "Cuneiform sign ka times kid"),
        ("Cuneiform", "CUNEIFORM NUMERIC SIGN NINE GESH2", "Cuneiform number nine gesh2"),
        ("Runic", "RUNIC LETTER FEHU FEOH FE F", "Runic letter fehu feoh fe f"),
        ("Runic", "RUNIC ARLAUG SYMBOL", "Runic letter arlaug symbol"),
        ("Phaistos disc", "PHAISTOS DISC SIGN PEDESTRIAN", "Phaistos disc sign pedestrian"),
        ("Coptic", "COPTIC CAPITAL LETTER CROSSED SHEI", "Coptic letter crossed shei"),
    ],
)
def test_words_of_a_sign(script, name, words):
    assert describe(BY_NAME[script], name) == words


def test_shipped_descriptions_are_what_the_code_makes_of_the_names(rows):
    for row in rows:
        assert row["description"] == describe(BY_NAME[row["script"]], row["name"])
        assert row["description"].startswith(BY_NAME[row["script"]].sign.split()[0])


def test_every_egyptian_sign_has_its_category(rows):
    egyptian = [row["description"] for row in rows if row["script"] == "Egyptian hieroglyphs"]
    assert {text.split(", ", 1)[1] for text in egyptian} == set(GARDINER.values())


# ---- the data card ------------------------------------------------------------------------------------------------


def test_the_cards_counts_are_the_datas(card, rows):
    counts = Counter((row["script"], row["split"]) for row in rows)
    table = {}
    for line in re.findall(r"^\|(.+)\|$", card, flags=re.MULTILINE):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and cells[1].replace(",", "").isdigit():
            table[cells[0]] = [int(cell.replace(",", "")) for cell in cells[1:6]]
    everything = table.pop("**all**")
    assert list(table) == [script.name for script in SCRIPTS]
    for script, (signs, *splits, _) in table.items():
        assert splits == [counts[script, split] for split in data.SPLITS]
        assert signs == sum(splits)
    assert everything == [sum(column) for column in zip(*table.values(), strict=True)]
    assert f"Pictures of {len(rows):,} signs of {len(SCRIPTS)} ancient scripts" in card


def test_the_cards_categories_are_the_datas(card, rows):
    letters = [re.match(r"EGYPTIAN HIEROGLYPH ([A-Z]+)\d", row["name"]) for row in rows]
    counts = Counter(match[1] for match in letters if match)
    flowing = " ".join(card.split())
    for category, words in GARDINER.items():
        label = "Aa" if category == "AA" else category
        assert f" {label} {words} ({counts[category]})" in flowing


def test_the_card_names_source_licence_and_what_is_left_out(card):
    for part in ("fonts-noto-core", "SIL Open Font License", "Unicode", "What is left out", "Gardiner"):
        assert part in card


# ---- drawing ------------------------------------------------------------------------------------------------------


@needs_fonts
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_script_draws_what_is_shipped(script, rows, pixels, drawable):
    shipped = [int(row["codepoint"], 16) for row in rows if row["script"] == script.name]
    outlines = drawable[script.name]
    assert set(shipped) <= set(outlines)
    for codepoint in shipped[:: max(1, len(shipped) // 4)]:
        drawn = torch.from_numpy(render_glyphs.draw(outlines[codepoint])) / render_glyphs.LEVELS
        # Another FreeType may place an edge a little differently, never a stroke.
        assert (drawn - pixels[codepoint][0]).abs().mean() < 0.01, f"U+{codepoint:04X}"


@needs_fonts
def test_the_card_counts_the_signs_that_look_alike(card, rows, drawable):
    left_out = sum(map(len, drawable.values())) - len(rows)
    assert f"- {left_out} signs that look like an earlier one" in card


@needs_fonts
def test_the_command_writes_a_set_that_reads_back(tmp_path, monkeypatch, capsys):
    two = tuple(script for script in SCRIPTS if script.name in {"Lydian", "Phoenician"})
    monkeypatch.setattr("gentext.data.scripts.SCRIPTS", two)
    monkeypatch.setattr(sys, "argv", ["render_glyphs", "--out", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "gentext.data.render_glyphs")
    runpy.run_module("gentext.data.render_glyphs", run_name="__main__")
    assert re.match(r"\d+ signs of 2 scripts, 0\.0\d MB", capsys.readouterr().out)
    lines = (tmp_path / "glyphs.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == ["codepoint", "script", "split", "name", "description"]
    assert lines[-1].startswith("10915\tPhoenician\t")
    with Image.open(tmp_path / "glyphs.png") as sheet:
        levels = np.array(sheet)
        assert sheet.size == (64 * 64, 64)
    assert set(np.unique(levels)) <= set(range(16))
    last = levels[:, 64 * (len(lines) - 2) : 64 * (len(lines) - 1)]
    assert last.max() == 15
    assert levels[:, 64 * (len(lines) - 1) :].max() == 0


def test_missing_fonts_are_named_with_what_to_install(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"NotoSans.*-Regular\.ttf is missing: install Debian's fonts-noto-core"
    ):
        render_glyphs.render(tmp_path)


def test_of_two_signs_that_look_alike_the_first_is_kept(monkeypatch, tmp_path):
    stripe, ring = np.zeros((2, 64, 64), dtype=np.uint8)
    stripe[6:58, 30:34] = 15
    ring[6:58, 6:58] = 15
    ring[10:54, 10:54] = 0
    almost = stripe.copy()
    almost[6, 30] = 14
    pictures = {0x10840: stripe, 0x10841: almost, 0x10842: ring}
    aramaic = BY_NAME["Imperial Aramaic"]
    monkeypatch.setattr(render_glyphs, "SCRIPTS", (aramaic,))
    monkeypatch.setattr(
        render_glyphs,
        "outlines",
        lambda script, fonts: [render_glyphs.Outline(c, tmp_path, (0, 0, 1, 1), 1.0) for c in pictures],
    )
    monkeypatch.setattr(render_glyphs, "draw", lambda outline: pictures[outline.codepoint])
    assert [glyph.codepoint for glyph in render_glyphs.render(tmp_path)] == [0x10840, 0x10842]
