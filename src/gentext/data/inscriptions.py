"""Inscriptions of an invented land, written by a grammar that knows how likely each of its texts is.

Dedications, royal edicts, epitaphs, ration lists and boundary stones in plain English. What is said early binds what
comes late: kings and gods return, totals add up, years follow each other. The probability of every text is known
exactly (`log_prob`), and so is the entropy: the loss that no model of these texts can go below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from gentext.data.inscriptions_forms import FUNCTIONS, KINDS, RULES, TABLES
from gentext.data.inscriptions_grammar import Grammar, Step
from gentext.data.inscriptions_pieces import Value, Values, Weight
from gentext.data.inscriptions_questions import Question, Record, questions, record

__all__ = ["SEPARATOR", "Inscriptions", "InscriptionsConfig", "Question", "Record", "Step", "questions"]

SEPARATOR = "\n\n"  # between two inscriptions; none contains it


@dataclass(frozen=True, kw_only=True)
class InscriptionsConfig:
    """Which forms are written, and how often: weights from `KINDS`, made to sum to one."""

    kinds: tuple[str, ...] = tuple(KINDS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if not self.kinds or not set(self.kinds) <= set(KINDS) or len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds must be some of {', '.join(KINDS)}, each once; got {self.kinds}.")


class Inscriptions:
    """The distribution over inscriptions."""

    def __init__(self, config: InscriptionsConfig | None = None) -> None:
        self.config = config or InscriptionsConfig()
        start: list[tuple[Weight, str]] = [(KINDS[kind], f"[{kind}]") for kind in self.config.kinds]
        self.grammar = Grammar({**RULES, "text": start}, TABLES, FUNCTIONS)

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.config.kinds

    def sample(self, n: int, generator: torch.Generator) -> list[str]:
        """`n` inscriptions. The first of many are the same as of few.

        Raises ValueError if n is negative or the generator is not on the CPU, where texts are written.
        """
        if n < 0:
            raise ValueError(f"n must be at least 0, got {n}.")
        if generator.device.type != "cpu":
            raise ValueError(
                f"Inscriptions are written on the CPU: the generator must be there, not on {generator.device}."
            )
        return [self.grammar.sample(generator) for _ in range(n)]

    def steps(self, text: str) -> list[Step]:
        """The choices that made `text`, each with its place and its surprise in nats. Errors as `parse`."""
        return self._derive(text)[0]

    def parse(self, text: str) -> Record:
        """What the inscription says. Raises ValueError if it is none of ours."""
        steps, values = self._derive(text)
        said: dict[str, list[Value]] = {}
        for step in steps:
            said.setdefault(step.name, []).append(step.value)
        kind = int(said["[text]"][0]) if "[text]" in said else 0  # a single kind is no choice
        variables: dict[str, tuple[Value, ...]] = {name: (value,) for name, value in values.items()}
        variables |= {name: tuple(several) for name, several in said.items() if name in values}
        return record(self.kinds[kind], variables)

    def log_prob(self, text: str) -> float:
        """log p(text) in nats, exact; −∞ for what is no inscription."""
        derivation = self.grammar.derive(text)
        return -math.inf if derivation is None else -math.fsum(step.nats for step in derivation[0])

    def _derive(self, text: str) -> tuple[list[Step], Values]:
        derivation = self.grammar.derive(text)
        if derivation is None:
            raise ValueError(f"The grammar cannot have written {text[:60]!r}: give one whole inscription of its kinds.")
        return derivation

    def entropy(self) -> float:
        """E[−log p(text)] in nats per text, exact."""
        return self._entropy

    def mean_length(self) -> float:
        """E[len(text)] in characters, exact, without the separator."""
        return self._mean_length

    def entropy_per_character(self) -> float:
        """Nats per character of many inscriptions with `SEPARATOR` between them: H / (E[len(text)] + 2).

        The separator costs nothing: where a text ends is clear from the text.
        """
        return self.entropy() / (self.mean_length() + len(SEPARATOR))

    @cached_property
    def _entropy(self) -> float:
        return self.grammar.entropy()

    @cached_property
    def _mean_length(self) -> float:
        return self.grammar.mean_length()
