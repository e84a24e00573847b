"""The book's recipes, one function each: `gentext train NAME` trains what the zoo ships."""

from __future__ import annotations

from gentext.train.recipe import Recipe, get, names, recipe

__all__ = ["Recipe", "get", "names", "recipe"]
