"""Draw the picture on the first page from the book's own data and network.

Each row starts and ends with a sign of the glyph set; between them the network `vae-glyphs` of chapter 5 decodes the
codes on the straight line from one to the other. Drawn again only when network, signs or this file have changed.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

logger = logging.getLogger(__name__)
HERE = Path(__file__).resolve()
COVER = HERE.parents[1] / "vendor" / "_static" / "cover.png"
MODEL = "vae-glyphs"

# The signs at the left and right end of each row, by code point: twelve signs of twelve scripts.
PAIRS = (
    (0x10337, 0x10A70),  # Gothic hagl, Old South Arabian fe
    (0x121FA, 0x10303),  # cuneiform LISH, Old Italic de
    (0x144C4, 0x03E6),  # Anatolian hieroglyph A169, Coptic khei
    (0x10A84, 0x16A6),  # Old North Arabian qaf, runic thorn
    (0x101DF, 0x103A4),  # a saw on the Phaistos disc, Old Persian ku
    (0x1681, 0x10380),  # Ogham beith, Ugaritic alpa
)
STEPS = 9  # signs in a row, the two real ones included
PIXELS = 68  # a sign's width in the picture


def inputs() -> str:
    """A fingerprint of all that the picture depends on."""
    spec = find_spec("gentext")
    if spec is None or not spec.submodule_search_locations:
        raise ExtensionError("The package gentext is not installed; run `make book`.")
    package = Path(spec.submodule_search_locations[0])
    weights = package / "zoo" / "weights" / f"{MODEL}.safetensors"
    if not weights.is_file():
        raise ExtensionError(f"The zoo has no {MODEL}; train it with `gentext train {MODEL}`.")
    total = hashlib.sha256()
    for path in (HERE, weights, package / "data" / "glyphs.png"):
        total.update(path.read_bytes())
    return total.hexdigest()


def draw(path: Path) -> None:
    """Write the picture: dark ink on a transparent ground, so that the dark page can turn it over."""
    import torch
    from PIL import Image

    from gentext import data, zoo

    sets = [data.load("glyphs", split, size=32) for split in ("train", "validation", "test")]
    signs = {point: image for found in sets for point, image in zip(found.codepoints, found.images, strict=True)}
    absent = sorted({point for pair in PAIRS for point in pair} - signs.keys())
    if absent:
        raise ExtensionError(f"The glyph set has no sign U+{absent[0]:X}; change PAIRS in {HERE.name}.")
    model = zoo.load(MODEL)
    steps = torch.linspace(0, 1, STEPS)[:, None]
    rows = []
    with torch.no_grad():
        for pair in PAIRS:
            ends = torch.stack([signs[point] for point in pair])  # (2, 1, 32, 32)
            first, last = model.encode(ends).mean  # (latents,) each
            images = model.decode(first + steps * (last - first))  # (STEPS, 1, 32, 32)
            images[0], images[-1] = ends
            rows.append(images)
    ink = torch.nn.functional.interpolate(torch.cat(rows), size=(PIXELS, PIXELS), mode="bicubic").clamp(0, 1)

    gap, wide_gap = 10, 26  # the real signs stand a little apart
    lefts = [0] + [PIXELS + wide_gap + i * (PIXELS + gap) for i in range(STEPS - 2)]
    lefts.append(lefts[-1] + PIXELS + wide_gap)
    picture = torch.zeros(len(PAIRS) * (PIXELS + gap) - gap, lefts[-1] + PIXELS)
    for index, sign in enumerate(ink[:, 0]):
        top, left = (index // STEPS) * (PIXELS + gap), lefts[index % STEPS]
        picture[top : top + PIXELS, left : left + PIXELS] = sign
    alpha = Image.fromarray((picture * 255).round().to(torch.uint8).numpy(), mode="L")
    image = Image.new("LA", alpha.size, 22)  # near-black everywhere; how much of it shows is the alpha channel
    image.putalpha(alpha)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def draw_if_changed(app: Sphinx) -> None:
    stamp = COVER.with_suffix(".inputs")
    wanted = inputs()
    if COVER.is_file() and stamp.is_file() and stamp.read_text() == wanted:
        return
    logger.info("drawing the picture of the first page")
    draw(COVER)
    stamp.write_text(wanted)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", draw_if_changed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
