"""Running an assignment's tests on an environment, and the self-check in a student's notebook."""

from __future__ import annotations

import html
import importlib.abc
import importlib.util
import inspect
import linecache
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import Any

from gentext.classroom.assignment import Assignment, Question, Test, load_shipped

GRADING = "GENTEXT_GRADING"  # set where a submission is run to be graded: its own checks then only cost time


@dataclass(frozen=True)
class Checked:
    """What became of one test. message: why it failed, for the student."""

    test: str
    points: float
    earned: float
    message: str = ""

    @property
    def passed(self) -> bool:
        return not self.message


@dataclass(frozen=True)
class Score:
    """What became of one question."""

    question: str
    points: float
    checked: tuple[Checked, ...] = field(default=())

    @property
    def earned(self) -> float:
        return sum(one.earned for one in self.checked)


class FromSource(importlib.abc.InspectLoader):
    """Makes a module of a test's source, and keeps the source for tracebacks."""

    def __init__(self, source: str) -> None:
        self.source = source

    def get_source(self, fullname: str) -> str:
        return self.source

    def get_code(self, fullname: str) -> CodeType:
        name = f"<{fullname}>"
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(keepends=True), name)
        return self.source_to_code(self.source, name)


def function_of(test: Test) -> Callable[[Mapping[str, Any]], None]:
    """The test's function. Raises ValueError if its source defines none."""
    loader = FromSource(test.source)
    spec = importlib.util.spec_from_loader(f"test {test.name}", loader)
    assert spec is not None
    module = ModuleType(spec.name)
    loader.exec_module(module)
    for name, value in vars(module).items():
        if name.startswith("test") and inspect.isfunction(value):
            return value
    raise ValueError(f"test {test.name!r} defines no function test_…(env)")


def run_test(test: Test, env: Mapping[str, Any]) -> Checked:
    """The mark of one test. Whatever an answer raises is a wrong answer; what stops the process is not caught."""
    function = function_of(test)
    try:
        function(env)
    except AssertionError as error:
        return Checked(test.name, test.points, 0, str(error) or "the answer is not right")
    except Exception as error:
        return Checked(test.name, test.points, 0, f"{type(error).__name__}: {error}")
    return Checked(test.name, test.points, test.points)


def run_question(question: Question, env: Mapping[str, Any]) -> Score:
    return Score(question.name, question.points, tuple(run_test(test, env) for test in question.tests))


# ---- in the notebook -------------------------------------------------------------------------------------------------


class Result:
    """What `check` returns: readable in a terminal and in a notebook."""

    def __init__(self, lines: list[tuple[bool, str]], head: str) -> None:
        self.lines, self.head = lines, head

    def __repr__(self) -> str:
        return "\n".join([self.head, *(f"  {'✓' if passed else '✗'} {text}" for passed, text in self.lines)])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{'✓' if passed else '✗'} {html.escape(text)}</li>" for passed, text in self.lines)
        return f'<strong>{html.escape(self.head)}</strong><ul style="list-style:none">{items}</ul>'


class Notebook:
    """The self-check of an assignment: `grader = Notebook("05-variational-autoencoders")`, `grader.check("q1")`.

    Args:
        name: of the assignment, or its chapter's number.
        variant: the number that the teacher gave, 0 for the book's.
        env: where the answers are; the notebook's own names if None.

    Raises:
        ValueError: there is no such assignment.
    """

    def __init__(self, name: str, variant: int = 0, env: Mapping[str, Any] | None = None) -> None:
        self.assignment: Assignment = load_shipped(name).variant(variant)
        self._env = env

    @property
    def env(self) -> Mapping[str, Any]:
        if self._env is not None:
            return self._env
        import __main__

        return vars(__main__)

    def check(self, name: str) -> Result:
        """Run the public tests of one question and say what is wrong. Raises ValueError for an unknown question."""
        question = self.assignment.question(name)
        if os.environ.get(GRADING):
            return Result([], f"{name}: graded from outside")
        if question.manual:
            return Result([], f"{name}: your teacher reads this one")
        score = run_question(question, self.env)
        lines = [(one.passed, f"{one.test}{f': {one.message}' if one.message else ''}") for one in score.checked]
        right = sum(one.passed for one in score.checked)
        return Result(lines, f"{name}: {right} of {len(lines)} public tests pass")

    def check_all(self) -> list[Result]:
        """Every question, in order."""
        return [self.check(question.name) for question in self.assignment.automatic]
