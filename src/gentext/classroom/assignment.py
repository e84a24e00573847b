"""An assignment: its questions, their tests, its variants. Read from a master notebook, or from the package.

The master notebook, in Otter's format, is the one source. What a student's self-check needs of it (questions, points,
public tests) is shipped with the package as a JSON file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parent / "assignments"
TEST_CONFIG = re.compile(r'\A""" # BEGIN TEST CONFIG\n(.*?)\n""" # END TEST CONFIG\n', re.DOTALL)
PLACEHOLDER = re.compile(r"<<(\w+)>>")
Choices = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Test:
    """One test of one question: the source of a function `test_…(env)` that raises if an answer is wrong.

    A hidden test is not shipped to students.
    """

    __test__ = False  # pytest takes a class of this name for its own

    name: str
    source: str
    points: float
    hidden: bool = False


@dataclass(frozen=True)
class Question:
    """A question and its tests; a manual one is read by a person, with a rubric, and has none."""

    name: str
    points: float
    manual: bool = False
    tests: tuple[Test, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """choices: for each placeholder `<<name>>` its values in the variants; the first is the book's."""

    name: str
    title: str
    questions: tuple[Question, ...]
    choices: Choices

    @property
    def automatic(self) -> tuple[Question, ...]:
        return tuple(question for question in self.questions if not question.manual)

    def question(self, name: str) -> Question:
        """Raises ValueError if there is none of that name."""
        for question in self.questions:
            if question.name == name:
                return question
        raise ValueError(f"{self.name} has the questions {', '.join(q.name for q in self.questions)}, not {name!r}")

    def public(self) -> Assignment:
        """Without what students do not get."""
        cut = [replace(q, tests=tuple(test for test in q.tests if not test.hidden)) for q in self.questions]
        return replace(self, questions=tuple(cut))

    def variant(self, seed: int) -> Assignment:
        """The tests of variant `seed`."""

        def fill(test: Test) -> Test:
            return replace(test, source=vary(test.source, self.choices, seed))

        return replace(
            self, questions=tuple(replace(q, tests=tuple(fill(test) for test in q.tests)) for q in self.questions)
        )


# ---- variants --------------------------------------------------------------------------------------------------------


def chosen(name: str, options: Sequence[str], seed: int) -> str:
    """The option of variant `seed`; variant 0 has the first."""
    if seed == 0:
        return options[0]
    number = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")
    return options[number % len(options)]


def vary(text: str, choices: Choices, seed: int) -> str:
    """`text` with each `<<name>>` filled in. Raises ValueError for a name without choices."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in choices:
            raise ValueError(f"<<{name}>> has no choices: there are {', '.join(sorted(choices)) or 'none'}")
        return chosen(name, choices[name], seed)

    return PLACEHOLDER.sub(fill, text)


# ---- master notebooks ------------------------------------------------------------------------------------------------


def source_of(cell: Mapping[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def settings(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """What the master says of its variants: {"choices": {...}, "shuffle": [[question, ...], ...]}."""
    return dict(notebook["metadata"].get("gentext", {}))


def read_master(path: Path) -> Assignment:
    """The assignment of a master notebook. Raises ValueError with the place if it is not one."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    questions: list[Question] = []
    tests: list[Test] = []
    header: dict[str, Any] | None = None
    in_tests, title = False, path.stem
    for number, cell in enumerate(notebook["cells"]):
        text = source_of(cell)
        if cell["cell_type"] == "markdown" and title == path.stem and text.startswith("# "):
            title = text.splitlines()[0].removeprefix("# ")
        if cell["cell_type"] == "raw":
            mark, _, rest = text.partition("\n")
            if mark == "# BEGIN QUESTION":
                header, tests = parse(rest, path, number), []
            elif mark in ("# BEGIN TESTS", "# END TESTS"):
                in_tests = mark == "# BEGIN TESTS"
            elif mark == "# END QUESTION":
                if header is None:
                    raise ValueError(f"{path.name}, cell {number}: a question ends that has not begun")
                questions.append(make_question(path, header, tests))
                header = None
        elif in_tests and cell["cell_type"] == "code":
            tests.append(make_test(path, number, text))
    if not questions:
        raise ValueError(f"{path.name} has no questions: it is no master notebook")
    return Assignment(path.stem, title, tuple(questions), settings(notebook).get("choices", {}))


def make_question(path: Path, header: Mapping[str, Any], tests: list[Test]) -> Question:
    question = Question(header["name"], float(header["points"]), bool(header.get("manual", False)), tuple(tests))
    total = sum(test.points for test in tests)
    if question.manual == bool(tests):
        raise ValueError(f"{path.name}, {question.name}: a question has either tests or a person who reads it")
    if tests and abs(total - question.points) > 1e-9:
        raise ValueError(f"{path.name}, {question.name}: {question.points} points, but its tests have {total}")
    return question


def parse(text: str, path: Path, number: int) -> dict[str, Any]:
    """The YAML of a question or a test. Raises ValueError with the place."""
    import yaml  # only teachers read masters; Otter brings it

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}, cell {number}: its configuration is no YAML: {error}") from None
    if not isinstance(found, dict) or not {"name", "points"} <= set(found):
        raise ValueError(f"{path.name}, cell {number}: its configuration needs a name and points")
    return found


def make_test(path: Path, number: int, text: str) -> Test:
    config = TEST_CONFIG.match(text)
    if config is None:
        raise ValueError(f"{path.name}, cell {number}: a test begins with its configuration (name, points, hidden)")
    header = parse(config[1], path, number)
    return Test(header["name"], text[config.end() :], float(header["points"]), bool(header.get("hidden", False)))


# ---- shipped with the package ----------------------------------------------------------------------------------------


def to_json(assignment: Assignment) -> str:
    return json.dumps(asdict(assignment), ensure_ascii=False, indent=1) + "\n"


def from_json(text: str) -> Assignment:
    found = json.loads(text)
    questions = tuple(
        Question(q["name"], q["points"], q["manual"], tuple(Test(**test) for test in q["tests"]))
        for q in found["questions"]
    )
    return Assignment(found["name"], found["title"], questions, found["choices"])


def shipped() -> list[str]:
    """Names of the assignments whose public tests come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def load_shipped(name: str) -> Assignment:
    """The public part of an assignment, by its name or its chapter's number. Raises ValueError if there is none."""
    for known in shipped():
        if known == name or known.partition("-")[0] == name.zfill(2):
            return from_json((SHIPPED / f"{known}.json").read_text(encoding="utf-8"))
    raise ValueError(f"there is no assignment {name!r}; there are: {', '.join(shipped()) or 'none'}")
