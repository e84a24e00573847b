"""Draw the glyph set from the Noto fonts: `python -m gentext.data.render_glyphs`.

Writes `glyphs.png`, one 4-bit grey sheet with 64 signs of 64x64 pixels in a row, and `glyphs.tsv`, one line for each
sign in the order of the sheet. Drawing needs Debian's fonts-noto-core and the packages fonttools and Pillow. Using the
set needs no font.

Each sign is drawn eight times too large, centred by its bounding box, and averaged down. Its longest side is 52 of the
64 pixels. Strokes too thin to survive at 32 pixels are thickened, each sign by as much as it needs and its details
allow.
"""

from __future__ import annotations

import argparse
import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from gentext.data.scripts import SCRIPTS, Script, describe

FONTS = Path("/usr/share/fonts/truetype/noto")
SIZE = 64  # pixels, the side of a cell of the sheet
INNER = 52  # pixels, the longest side of a sign
MAX_ENLARGE = 1.5  # but no sign is enlarged more than so many times as much as the median sign of its script
OVERSAMPLE = 8  # outlines are filled at 8 x 64 pixels, then averaged
COLUMNS = 64  # cells in a row of the sheet
LEVELS = 15  # grey levels of the sheet: 0 ground ... 15 ink (4 bits)
MIN_STROKE = 2.7  # pixels of 64: thickening aims at this mean stroke
CROWDED = 0.45  # and stops where the ink around a stroke, in a window of 8x8 pixels, would exceed this part
LOOK_ALIKE = 0.01  # two signs look the same when their squared difference is below this part of the ink of either
HELD_OUT = 0.1  # part of every script in "test", and again in "validation"

# Letters, numbers that are signs of their own (cuneiform, runic) and pictures. Punctuation, marks and digits stay out.
CATEGORIES = {"Lo", "Lu", "Nl", "So"}


@dataclass(frozen=True)
class Outline:
    """Where to find one sign: its font file, and its bounding box as fractions of the font size, y upwards."""

    codepoint: int
    font: Path
    box: tuple[float, float, float, float]  # left, bottom, right, top
    side: float  # what becomes INNER pixels, same unit: the box's longest side, unless the sign is very small


@dataclass(frozen=True)
class Glyph:
    """One sign: `pixels` is (64, 64) uint8 with values 0 (ground) to 15 (ink)."""

    codepoint: int
    script: Script
    name: str
    pixels: np.ndarray


def outlines(script: Script, fonts: Path) -> list[Outline]:
    """The signs of `script` that its font can draw, in the order of Unicode.

    Raises FileNotFoundError, saying what to install, where the font is missing.
    """
    from fontTools.pens.boundsPen import BoundsPen
    from fontTools.ttLib import TTFont

    path = fonts / f"{script.font}-Regular.ttf"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install Debian's fonts-noto-core or pass --fonts FOLDER.")
    boxes = {}
    with TTFont(path) as font:
        shapes, em = font.getGlyphSet(), font["head"].unitsPerEm
        for codepoint, name in sorted(font.getBestCmap().items()):
            character = chr(codepoint)
            if unicodedata.category(character) not in CATEGORIES:
                continue
            if not unicodedata.name(character, "").startswith(script.prefix):
                continue
            pen = BoundsPen(shapes)
            shapes[name].draw(pen)
            if name != ".notdef" and pen.bounds is not None:
                boxes[codepoint] = tuple(edge / em for edge in pen.bounds)
    longest = {codepoint: max(box[2] - box[0], box[3] - box[1]) for codepoint, box in boxes.items()}
    smallest = float(np.median(list(longest.values()))) / MAX_ENLARGE
    return [Outline(codepoint, path, box, max(longest[codepoint], smallest)) for codepoint, box in boxes.items()]


def fill(outline: Outline, growth: float) -> Image.Image:
    """The sign at 512x512 pixels, ink 255, centred, its outline grown by `growth` of these pixels on every side."""
    left, bottom, right, top = outline.box
    points = (INNER * OVERSAMPLE - 2 * growth) / outline.side
    font = ImageFont.truetype(outline.font, points, layout_engine=ImageFont.Layout.BASIC)
    middle = SIZE * OVERSAMPLE / 2
    origin = (
        middle - points * (left + right) / 2,
        middle + points * (bottom + top) / 2,
    )  # the picture's y runs downwards
    picture = Image.new("L", (SIZE * OVERSAMPLE, SIZE * OVERSAMPLE))
    pen = ImageDraw.Draw(picture)
    pen.text(origin, chr(outline.codepoint), fill=255, font=font, anchor="ls", stroke_width=growth)
    return picture


def thickening(picture: Image.Image) -> float:
    """How far to grow the outline of `picture`, in its pixels, for strokes of MIN_STROKE that leave the gaps open."""
    ink = np.asarray(picture, dtype=np.float32) / 255
    down, across = np.gradient(ink)
    stroke = 2 * ink.sum() / np.hypot(down, across).sum()  # mean width: twice the area over the length of the outline
    around = np.asarray(picture.filter(ImageFilter.BoxBlur(4 * OVERSAMPLE)), dtype=np.float32) / 255
    crowding = np.average(around, weights=ink)  # how much ink a point of ink has around it
    lacking = (MIN_STROKE * OVERSAMPLE - stroke) / 2
    room = (
        stroke / 2 * (CROWDED / crowding - 1)
    )  # growth by g makes strokes, and so the crowding, 1 + 2g / stroke times
    return max(0.0, round(float(min(lacking, room)), 1))


def draw(outline: Outline) -> np.ndarray:
    """The sign as (64, 64) uint8 from 0 (ground) to 15 (ink)."""
    picture = fill(outline, growth=0)
    growth = thickening(picture)
    if growth > 0:
        picture = fill(outline, growth)
    ink = np.asarray(picture, dtype=np.float32) / 255
    small = ink.reshape(SIZE, OVERSAMPLE, SIZE, OVERSAMPLE).mean((1, 3))  # (64, 64)
    return np.rint(small * LEVELS).astype(np.uint8)


def render(fonts: Path = FONTS) -> list[Glyph]:
    """Every sign of every script, in the order of `SCRIPTS` and of Unicode. Of signs that look the same, the first.

    Scripts share shapes (a ring, a cross), and a picture under two labels would teach and test nonsense.
    """
    candidates = [(script, outline) for script in SCRIPTS for outline in outlines(script, fonts)]
    glyphs: list[Glyph] = []
    kept = np.empty((len(candidates), SIZE * SIZE), dtype=np.float32)
    ink = np.empty(len(candidates), dtype=np.float32)  # sum of squares of each row of `kept`
    for script, outline in candidates:
        pixels = draw(outline)
        flat = pixels.reshape(-1).astype(np.float32)
        n, own = len(glyphs), float(flat @ flat)
        distance = ink[:n] + own - 2 * kept[:n] @ flat  # |a - b|² = |a|² + |b|² - 2 ab
        if np.any(distance < LOOK_ALIKE * np.minimum(ink[:n], own)):
            continue
        kept[n], ink[n] = flat, own
        glyphs.append(Glyph(outline.codepoint, script, unicodedata.name(chr(outline.codepoint)), pixels))
    return glyphs


def assign_splits(codepoints: list[int]) -> list[str]:
    """The split of each sign of one script.

    Sorted by a hash of the code point, the first tenth is "test" and the next tenth "validation". The hash makes the
    split a fact about the signs: no seed, no order of files, no library's shuffle can change it.
    """
    order = sorted(codepoints, key=lambda codepoint: hashlib.sha256(f"U+{codepoint:04X}".encode()).digest())
    held_out = max(1, round(HELD_OUT * len(order)))
    test, validation = set(order[:held_out]), set(order[held_out : 2 * held_out])
    return ["test" if c in test else "validation" if c in validation else "train" for c in codepoints]


def write(glyphs: list[Glyph], folder: Path) -> None:
    """Write `glyphs.png` and `glyphs.tsv` into `folder`."""
    rows = -(-len(glyphs) // COLUMNS)
    cells = np.zeros((rows * COLUMNS, SIZE, SIZE), dtype=np.uint8)
    cells[: len(glyphs)] = [glyph.pixels for glyph in glyphs]
    sheet = cells.reshape(rows, COLUMNS, SIZE, SIZE).swapaxes(1, 2).reshape(rows * SIZE, COLUMNS * SIZE)
    picture = Image.fromarray(sheet)
    picture.putpalette([level * 255 // LEVELS for level in range(LEVELS + 1) for _ in "RGB"])
    picture.save(folder / "glyphs.png", bits=4, optimize=True)

    splits: dict[int, str] = {}
    for script in SCRIPTS:
        codepoints = [glyph.codepoint for glyph in glyphs if glyph.script == script]
        splits.update(zip(codepoints, assign_splits(codepoints), strict=True))
    lines = ["codepoint\tscript\tsplit\tname\tdescription"]
    for glyph in glyphs:
        words = describe(glyph.script, glyph.name)
        fields = (f"{glyph.codepoint:04X}", glyph.script.name, splits[glyph.codepoint], glyph.name, words)
        lines.append("\t".join(fields))
    (folder / "glyphs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Command line: draw everything, write both files, say how much."""
    parser = argparse.ArgumentParser(description="Draw the glyph set from the Noto fonts.")
    parser.add_argument("--fonts", type=Path, default=FONTS, help="folder of the Noto fonts (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write (default: the package)"
    )
    arguments = parser.parse_args()
    glyphs = render(arguments.fonts)
    write(glyphs, arguments.out)
    size = sum((arguments.out / name).stat().st_size for name in ("glyphs.png", "glyphs.tsv"))
    print(f"{len(glyphs)} signs of {len(SCRIPTS)} scripts, {size / 1e6:.2f} MB in {arguments.out}")


if __name__ == "__main__":
    main()
