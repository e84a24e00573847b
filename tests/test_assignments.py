"""Every assignment: its form, its solution, the untouched notebook, and planted answers, wrong and unusual."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gentext.classroom.assignment import SHIPPED, Assignment, from_json, read_master, settings, source_of
from gentext.classroom.batch import read_cells
from gentext.classroom.check import GRADING, run_question
from gentext.classroom.judge import Outcome, judge
from gentext.classroom.masters import build, make_variant, masters, student_copy
from gentext.classroom.sandbox import Limits

ROOT = Path(__file__).resolve().parent.parent
MASTERS = masters(ROOT / "assignments")
ANSWERS = {path.stem: path.parent / "answers.toml" for path in MASTERS}
PLANTED = {name: tomllib.loads(path.read_text()) if path.exists() else {} for name, path in ANSWERS.items()}
CASES = [
    pytest.param(path, question, kind, name, id=f"{path.stem[:2]}-{question}-{kind}-{name}")
    for path in MASTERS
    for question, kinds in PLANTED[path.stem].items()
    for kind, answers in kinds.items()
    for name in answers
]
every_master = pytest.mark.parametrize("master", MASTERS, ids=lambda path: path.stem)


def raw(master: Path) -> dict[str, Any]:
    return json.loads(master.read_text(encoding="utf-8"))


def solved_cells(master: Path, seed: int = 0) -> list[str]:
    """The code of the solution notebook: the master without tests and without the graders' marks."""
    cells, in_tests = [], False
    for cell in make_variant(raw(master), seed)["cells"]:
        text = source_of(cell)
        if cell["cell_type"] == "raw" and text.startswith(("# BEGIN TESTS", "# END TESTS")):
            in_tests = text.startswith("# BEGIN TESTS")
        elif cell["cell_type"] == "code" and not in_tests:
            cells.append(text)
    return cells


@pytest.fixture(scope="module")
def solved() -> Iterator[Any]:
    """The names of a solution notebook that was run in this process, by master and variant; run once each."""
    known: dict[tuple[Path, int], dict[str, Any]] = {}

    def run(master: Path, seed: int = 0) -> dict[str, Any]:
        if (master, seed) not in known:
            env: dict[str, Any] = {"__name__": "__main__"}
            for cell in solved_cells(master, seed):
                exec(compile(cell, f"<{master.stem}>", "exec"), env)
            known[master, seed] = env
        return known[master, seed]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(GRADING, "1")
        patch.setenv("MPLBACKEND", "Agg")
        yield run


# ---- form ------------------------------------------------------------------------------------------------------------


@every_master
def test_it_asks_enough_and_not_too_much(master: Path) -> None:
    assignment = read_master(master)
    assert 4 <= len(assignment.questions) <= 6
    assert any(question.manual for question in assignment.questions), "a person reads at least one answer"
    for question in assignment.automatic:
        assert any(test.hidden for test in question.tests), f"{question.name} has no hidden test"
        assert any(not test.hidden for test in question.tests), f"{question.name} cannot be checked by the student"
        hidden = sum(test.points for test in question.tests if test.hidden)
        assert hidden >= question.points / 2, f"{question.name}: what is public can be fitted"
        for test in question.tests:
            if test.hidden:
                assert "fresh(" in test.source, f"{question.name}, {test.name}: the same data every time"
            assert test.source.count("assert") + test.source.count("close(") + test.source.count("raises("), test.name
    names = [test.name for question in assignment.questions for test in question.tests]
    assert len(set(names)) == len(names)


@every_master
def test_its_form_is_the_books(master: Path) -> None:
    notebook = raw(master)
    code = [source_of(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    template = (ROOT / "assignments/setup_cell.py").read_text().replace("{name}", master.stem)
    assert code[0].strip() == template.strip()
    text = "\n".join(source_of(cell) for cell in notebook["cells"])
    assert (ROOT / "book" / f"{master.stem}.ipynb").exists(), "an assignment has its chapter's name"
    assert re.search(r"About \d+ minutes", text)
    assert int(re.search(r"About (\d+) minutes", text)[1]) <= 90
    assert "**Rubric.**" in text
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    assert master.stat().st_size < 200_000


@every_master
def test_what_ships_with_the_package_is_the_masters_public_part(master: Path) -> None:
    text = (SHIPPED / f"{master.stem}.json").read_text()
    assert from_json(text) == from_json(json.dumps(json.loads(text)))
    assert from_json(text) == Assignment(
        **{**vars(read_master(master).public()), "choices": dict(read_master(master).choices)}
    ), "run: python -m gentext.classroom.masters --ship"
    assert '"hidden": true' not in text


def test_every_chapter_has_an_assignment() -> None:
    chapters = {path.stem for path in (ROOT / "book").glob("[0-9][0-9]-*.ipynb")}
    assert {path.stem for path in MASTERS} == chapters
    assert {path.stem for path in SHIPPED.glob("*.json")} == chapters


# ---- answers ---------------------------------------------------------------------------------------------------------


@every_master
def test_every_automatic_question_has_planted_answers(master: Path) -> None:
    planted, assignment = PLANTED[master.stem], read_master(master)
    assert set(planted) == {question.name for question in assignment.automatic}
    for name, kinds in planted.items():
        assert len(kinds["wrong"]) >= 3, f"{name}: three misconceptions at least"
        assert len(kinds["right"]) >= 1, f"{name}: an unusual right answer"
    assert any("imported" in kinds["wrong"] for kinds in planted.values()), "the package's own function, handed in"


@pytest.mark.parametrize(("master", "question", "kind", "name"), CASES)
def test_planted_answers(master: Path, question: str, kind: str, name: str, solved: Any) -> None:
    """A wrong answer loses at least half of the points, an unusual right one none."""
    env = dict(solved(master))
    exec(PLANTED[master.stem][question][kind][name], env)
    score = run_question(read_master(master).variant(0).question(question), env)
    said = {one.test: one.message for one in score.checked}
    if kind == "right":
        assert score.earned == score.points, said
        return
    assert score.earned <= score.points / 2, said
    if name.startswith("imported"):
        assert any("you are asked to write it yourself" in message for message in said.values()), said


@every_master
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_solution_is_right_in_every_variant(master: Path, seed: int, solved: Any) -> None:
    env = solved(master, seed)
    for question in read_master(master).variant(seed).automatic:
        score = run_question(question, env)
        assert score.earned == score.points, {one.test: one.message for one in score.checked}


@every_master
def test_variants_differ_and_are_equally_long(master: Path) -> None:
    notebook = raw(master)
    assert settings(notebook)["choices"], "nothing differs between two classes"
    texts = [json.dumps([source_of(c) for c in make_variant(notebook, seed)["cells"]]) for seed in range(6)]
    assert len(set(texts)) >= 3
    assert not re.search(r"<<\w+>>", "".join(texts))
    names = [sorted(re.findall(r"name: (q\d+)", text)) for text in texts]
    assert all(one == names[0] for one in names)


@pytest.mark.slow
@every_master
def test_solution_and_untouched_notebook_through_the_graders_door(master: Path, tmp_path: Path) -> None:
    """In a process of their own, as a class is graded: full marks for the one and none for the other."""
    folder = build(master, tmp_path)
    assert {path.name.removeprefix(master.stem) for path in folder.iterdir()} == {
        ".ipynb",
        "-autograder.zip",
        "-tests.json",
    }
    assignment = from_json((folder / f"{master.stem}-tests.json").read_text())
    student = (folder / f"{master.stem}.ipynb").read_text()
    assert student == student_copy(master).read_text(), "run: python -m gentext.classroom.masters --hand-out"
    for word in ("BEGIN SOLUTION", "SOLUTION", "BEGIN TEST", "Rubric", "hidden"):
        assert word not in student
    full: Outcome = judge(solved_cells(master), assignment, Limits())
    assert full.status == "graded", full.reason
    assert full.reason == "", "a cell of the solution raised"
    assert sum(score.earned for score in full.scores) == sum(question.points for question in assignment.automatic)
    none = judge(read_cells(folder / f"{master.stem}.ipynb"), assignment, Limits())
    assert none.status == "graded"
    assert none.reason == "", "a cell of the untouched notebook raised"
    assert sum(score.earned for score in none.scores) == 0


@pytest.mark.slow
def test_the_zip_for_gradescope_gives_full_marks_to_the_solution(tmp_path: Path) -> None:
    """As Gradescope runs it, with Otter and the tests in the student's own process; one assignment stands for all."""
    (master,) = (path for path in MASTERS if path.stem.startswith("05-"))
    folder = build(master, tmp_path)
    cells = [cell for cell in solved_cells(master) if "optimizer.step()" not in cell]
    code = [
        {"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None} for cell in cells
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = {"cells": code, "nbformat": 4, "nbformat_minor": 4, "metadata": kernel}
    (tmp_path / "handed_in.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "out").mkdir()
    zipped = folder / f"{master.stem}-autograder.zip"
    command = [sys.executable, "-m", "otter", "run", "-a", str(zipped), "-o", "out", "handed_in.ipynb", "--no-logo"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "out/results.json").read_text())
    points = {test["name"]: test["score"] for test in found["tests"] if test.get("max_score")}
    assert points == {question.name: question.points for question in read_master(master).automatic}
