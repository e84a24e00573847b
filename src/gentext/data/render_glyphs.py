"""Draw the glyph set from the Noto fonts: `python -m gentext.data.render_glyphs`.

Writes `glyphs.png`, one 4-bit grey sheet with 64 signs of 64x64 pixels in a row, and `glyphs.tsv`, one line for each sign in the
order of the sheet. Needs Debian's fonts-noto-core and the packages fonttools and Pillow; using the glyph set needs none of the fonts.

Each sign is drawn eight times too large as an outline, centred by its bounding box, and averaged down. Its longest side is 52 of 64
pixels. Strokes that would come out too thin to survive at 32 pixels are thickened, each sign by as much as it needs.
"""

from __future__ import annotations

import argparse
import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gentext.data.scripts import SCRIPTS, Script, describe

FONTS = Path("/usr/share/fonts/truetype/noto")
SIZE = 64  # pixels, the side of a cell of the sheet
INNER = 52  # pixels, the longest side of a sign
OVERSAMPLE = 8  # outlines are filled at 8 x 64 pixels, then averaged
COLUMNS = 64  # cells in a row of the sheet
LEVELS = 15  # grey levels of the sheet: 0 ground ... 15 ink (4 bits)
MIN_STROKE = 3.5  # pixels of 64: no sign's mean stroke is thinner, if thickening can help it
MAX_FILL = 0.6  # but thickening stops before more of the sign's box than this is ink
HELD_OUT = 0.1  # fraction of every script in "test", and again in "validation"

# Letters, numbers that are signs of their own (cuneiform, runic) and pictures. Punctuation, marks and decimal digits stay out.
CATEGORIES = {"Lo", "Lu", "Nl", "So"}


@dataclass(frozen=True)
class Glyph:
    """One sign: `pixels` is (64, 64) uint8 with values 0 (ground) to 15 (ink)."""

    codepoint: int
    script: Script
    name: str
    pixels: np.ndarray


def signs_of(script: Script, fonts: Path) -> list[int]:
    """The code points of `script` that its font can draw, in order."""
    from fontTools.ttLib import TTFont

    with TTFont(font_path(script, fonts), lazy=True) as font:
        characters = font.getBestCmap()
    return sorted(
        codepoint
        for codepoint, glyph in characters.items()
        if glyph != ".notdef"
        and unicodedata.category(chr(codepoint)) in CATEGORIES
        and unicodedata.name(chr(codepoint), "").startswith(script.prefix)
    )


def font_path(script: Script, fonts: Path) -> Path:
    """Where the font of `script` lies; FileNotFoundError with what to install when it does not."""
    path = fonts / f"{script.font}-Regular.ttf"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install Debian's fonts-noto-core or pass --fonts FOLDER.")
    return path


def mean_stroke(ink: np.ndarray) -> float:
    """Mean width of the strokes of `ink` (height, width) in [0, 1], in its pixels: twice the area over the length of the outline."""
    down, across = np.gradient(np.pad(ink, 1))
    outline = np.hypot(down, across).sum()
    return float(2 * ink.sum() / outline) if outline > 0 else 0.0


def _filled(character: str, path: Path, stroke: float) -> np.ndarray | None:
    """`character` as ink in [0, 1], (512, 512), grown outwards by `stroke` pixels of the 512; None when the font draws nothing."""
    frame, longest = SIZE * OVERSAMPLE, INNER * OVERSAMPLE
    left, top, right, bottom = ImageFont.truetype(path, 1000, layout_engine=ImageFont.Layout.BASIC).getbbox(
        character, anchor="ls"
    )
    if right <= left or bottom <= top:
        return None
    points = 1000 * (longest - 2 * stroke) / max(right - left, bottom - top)
    font = ImageFont.truetype(path, points, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = font.getbbox(character, anchor="ls")
    picture = Image.new("L", (frame, frame))
    corner = ((frame - right - left) / 2, (frame - bottom - top) / 2)
    ImageDraw.Draw(picture).text(corner, character, fill=255, font=font, anchor="ls", stroke_width=stroke)
    return np.asarray(picture, dtype=np.float32) / 255


def draw(codepoint: int, path: Path) -> np.ndarray | None:
    """The sign as (64, 64) uint8 from 0 (ground) to 15 (ink), or None when the font draws nothing for it."""
    ink = _filled(chr(codepoint), path, stroke=0)
    if ink is None or ink.max() < 0.5:
        return None
    box = ink[np.ix_(np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0)))]
    lacking = max(0.0, MIN_STROKE * OVERSAMPLE - mean_stroke(ink)) / 2
    # Every pixel of growth adds about one pixel along the outline, which is 2 * area / stroke long.
    room = max(0.0, MAX_FILL - box.mean()) * box.size * mean_stroke(ink) / (2 * ink.sum())
    stroke = round(min(lacking, room), 1)
    if stroke > 0:
        ink = _filled(chr(codepoint), path, stroke)
        assert ink is not None
    small = ink.reshape(SIZE, OVERSAMPLE, SIZE, OVERSAMPLE).mean((1, 3))  # (64, 64)
    return np.rint(small * LEVELS).astype(np.uint8)


def render(fonts: Path = FONTS) -> list[Glyph]:
    """Every sign of every script, in the order of `SCRIPTS` and of Unicode. Of signs that look the same only the first is kept."""
    glyphs, seen = [], set()
    for script in SCRIPTS:
        path = font_path(script, fonts)
        for codepoint in signs_of(script, fonts):
            pixels = draw(codepoint, path)
            if pixels is None or pixels.tobytes() in seen:
                continue
            seen.add(pixels.tobytes())
            glyphs.append(Glyph(codepoint, script, unicodedata.name(chr(codepoint)), pixels))
    return glyphs


def assign_splits(codepoints: list[int]) -> list[str]:
    """The split of each sign of one script: sorted by a hash of the code point, the first tenth is "test", the next "validation"."""
    order = sorted(codepoints, key=lambda codepoint: hashlib.sha256(f"U+{codepoint:04X}".encode()).digest())
    held_out = max(1, round(HELD_OUT * len(order)))
    test, validation = set(order[:held_out]), set(order[held_out : 2 * held_out])
    return ["test" if c in test else "validation" if c in validation else "train" for c in codepoints]


def write(glyphs: list[Glyph], folder: Path) -> None:
    """Write `glyphs.png` and `glyphs.tsv` into `folder`."""
    rows = -(-len(glyphs) // COLUMNS)
    sheet = np.zeros((rows, COLUMNS, SIZE, SIZE), dtype=np.uint8)
    sheet.reshape(-1, SIZE, SIZE)[: len(glyphs)] = [glyph.pixels for glyph in glyphs]
    picture = Image.fromarray(sheet.swapaxes(1, 2).reshape(rows * SIZE, COLUMNS * SIZE), mode="P")
    picture.putpalette([level * 17 for level in range(16) for _ in range(3)])
    picture.save(folder / "glyphs.png", bits=4, optimize=True)

    splits: dict[int, str] = {}
    for script in SCRIPTS:
        codepoints = [glyph.codepoint for glyph in glyphs if glyph.script == script]
        splits.update(zip(codepoints, assign_splits(codepoints), strict=True))
    lines = ["codepoint\tscript\tsplit\tname\tdescription"]
    for glyph in glyphs:
        description = describe(glyph.script, glyph.name)
        fields = (f"{glyph.codepoint:04X}", glyph.script.name, splits[glyph.codepoint], glyph.name, description)
        lines.append("\t".join(fields))
    (folder / "glyphs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Command line: draw everything, write both files, say how much."""
    parser = argparse.ArgumentParser(description="Draw the glyph set from the Noto fonts.")
    parser.add_argument("--fonts", type=Path, default=FONTS, help="folder with the Noto fonts (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: the package)"
    )
    arguments = parser.parse_args()
    glyphs = render(arguments.fonts)
    write(glyphs, arguments.out)
    size = sum((arguments.out / name).stat().st_size for name in ("glyphs.png", "glyphs.tsv"))
    print(f"{len(glyphs)} signs of {len(SCRIPTS)} scripts, {size / 1e6:.2f} MB in {arguments.out}")


if __name__ == "__main__":
    main()
