"""The mean of a sum over all texts of a grammar, exactly and without a single sample.

A text has more variables than could be tabulated together: a ration list alone some 10³⁰ combinations. But each term
of the sum depends on few of them, and so does its mean over the choice before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gentext.data.inscriptions_pieces import Branch, Draw, Literal, Piece, Pieces, Remember, Show, Table, Value, Values


class Score(NamedTuple):
    """What a piece adds to a sum over the text: written words, a value drawn from a table, a way chosen from one."""

    text: Callable[[str], float]
    draw: Callable[[Table], float]
    way: Callable[[Table], float]


class Factor(NamedTuple):
    """A number that depends on the values of the variables in `scope` and on nothing else."""

    scope: frozenset[str]
    value: Callable[[Values], float]


def expectation(pieces: Pieces, after: list[Factor], score: Score) -> list[Factor]:
    """The expected sum of scores over `pieces` and all that follows them, as a sum of factors; `after` is what follows.

    It goes from the last piece to the first. A factor that depends on a choice is replaced by its mean over the choice,
    and so depends on what the choice depends on. Factors stay apart, each with its few variables: the mean of a sum is
    the sum of the means.
    """
    factors = after
    for piece in reversed(pieces):
        if isinstance(piece, Branch):
            factors = _branch_mean(piece, [expectation(way, factors, score) for way in piece.ways])
        elif isinstance(piece, Draw):
            factors = [_draw_mean(factor, piece) if piece.name in factor.scope else factor for factor in factors]
        elif isinstance(piece, Remember):
            factors = [_substitute(factor, piece) if piece.name in factor.scope else factor for factor in factors]
        factors = _merge([*factors, _own(piece, score)])
    return factors


def _own(piece: Piece, score: Score) -> Factor:
    """What the piece itself adds to the sum."""
    if isinstance(piece, Literal):
        return _factor((), lambda values: score.text(piece.text))
    if isinstance(piece, Show):
        return _factor(piece.given, lambda values: score.text(str(piece.compute(values))))
    if isinstance(piece, Draw):
        return _factor(piece.given, lambda values: score.draw(piece.table(values)))
    if isinstance(piece, Branch):
        return _factor(piece.given, lambda values: score.way(piece.table(values)))
    return _factor((), lambda values: 0.0)


def _substitute(factor: Factor, piece: Remember) -> Factor:
    """`factor` before the piece, which gives one of its variables a value."""
    scope = (factor.scope - {piece.name}).union(piece.given)
    return _factor(scope, lambda values: factor.value(values | {piece.name: piece.compute(values)}))


def _draw_mean(factor: Factor, piece: Draw) -> Factor:
    """The mean of `factor` over the draw."""

    def mean(values: Values) -> float:
        chances = piece.table(values).probabilities
        return math.fsum(p * factor.value(values | {piece.name: value}) for value, p in chances.items())

    return _factor((factor.scope - {piece.name}).union(piece.given), mean)


def _branch_mean(piece: Branch, ways: list[list[Factor]]) -> list[Factor]:
    """The mean over the ways, each a sum of factors. A factor that is in all of them stays as it is."""
    shared = set(map(id, ways[0])).intersection(*(map(id, way) for way in ways[1:]))
    factors = [factor for factor in ways[0] if id(factor) in shared]
    changed = [(way, factor) for way, of_way in enumerate(ways) for factor in of_way if id(factor) not in shared]
    for scope in {factor.scope for _, factor in changed}:
        same = [(way, factor.value) for way, factor in changed if factor.scope == scope]

        def mean(values: Values, same: list[tuple[int, Callable[[Values], float]]] = same) -> float:
            chances = piece.table(values).probabilities
            return math.fsum(chances[way] * value(values) for way, value in same if way in chances)

        factors.append(_factor(scope.union(piece.given), mean))
    return factors


def _merge(factors: list[Factor]) -> list[Factor]:
    """The same sum with one factor for each scope."""
    by_scope: dict[frozenset[str], list[Factor]] = {}
    for factor in factors:
        by_scope.setdefault(factor.scope, []).append(factor)
    return [same[0] if len(same) == 1 else _sum(scope, same) for scope, same in by_scope.items()]


def _sum(scope: frozenset[str], factors: list[Factor]) -> Factor:
    return _factor(scope, lambda values: math.fsum(factor.value(values) for factor in factors))


def _factor(scope: Iterable[str], value: Callable[[Values], float]) -> Factor:
    """A factor that computes each of its values once."""
    names = tuple(sorted(scope))
    cache: dict[tuple[Value, ...], float] = {}

    def cached(values: Values) -> float:
        key = tuple([values[name] for name in names])
        if key not in cache:
            cache[key] = value({name: values[name] for name in names})
        return cache[key]

    return Factor(frozenset(names), cached)
