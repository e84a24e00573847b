"""Trained weights with their cards: `zoo.load("vae-glyphs")` gives the model, `zoo.card("vae-glyphs")` its story.

A weights file is safetensors; its header holds the card as JSON, and the card holds all that is needed to build the
model again. Files are small (float16) and are what was measured: the card's numbers are those of the rounded weights.
"""

from gentext.zoo.card import Card, Measurement, thin_curve
from gentext.zoo.store import KINDS, WEIGHTS, card, load, names, round_weights, save

__all__ = [
    "KINDS",
    "WEIGHTS",
    "Card",
    "Measurement",
    "card",
    "load",
    "names",
    "round_weights",
    "save",
    "thin_curve",
]
