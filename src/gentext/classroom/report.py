"""What comes out of grading: one table for the teacher, one page of words for each student."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

from gentext.classroom.assignment import Assignment
from gentext.classroom.batch import Graded

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute a text that begins so


def columns(assignment: Assignment) -> list[str]:
    questions = [f"{q.name} (by hand)" if q.manual else q.name for q in assignment.questions]
    return ["student", "file", "status", "reason", "total", "out of", *questions, "seconds", "same as"]


def write_table(path: Path, assignment: Assignment, graded: list[Graded]) -> None:
    """One row a submission. Points of one that could not be graded are empty, never 0.

    "same as" names other files of the very same content. Questions that a person reads have an empty column.
    """
    same = {digest: [one.file for one in graded if one.digest == digest] for digest in {g.digest for g in graded}}
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8-sig", newline="") as file:  # spreadsheets know UTF-8 by its mark
        table = csv.writer(file)
        table.writerow(columns(assignment))
        for one in graded:
            earned = {score.question: score.earned for score in one.outcome.scores} if one.complete else {}
            total = plain(sum(earned.values())) if one.complete else ""
            out_of = plain(sum(question.points for question in assignment.automatic))
            points = [plain(earned[q.name]) if q.name in earned else "" for q in assignment.questions]
            others = "; ".join(name for name in same[one.digest] if name != one.file)
            status = (one.outcome.status, one.outcome.reason)
            row = [one.student, one.file, *status, total, out_of, *points, f"{one.outcome.seconds:.1f}", others]
            table.writerow([harmless(cell) for cell in row])
    temporary.replace(path)


def plain(points: float) -> str:
    return f"{points:g}"


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: names of files and errors are a student's to choose."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def feedback(assignment: Assignment, one: Graded) -> str:
    """A page for the student, in Markdown: marks, and what the tests said. A hidden test has a name and no source."""
    lines = [f"# {assignment.title}", "", f"File: {one.file}", ""]
    if not one.complete:
        return "\n".join([*lines, f"This file could not be graded ({one.outcome.status}): {one.outcome.reason}.", ""])
    if one.outcome.reason:
        lines += [f"Cells that raised an error when the notebook was run from top to bottom: {one.outcome.reason}", ""]
    total = sum(score.earned for score in one.outcome.scores)
    out_of = sum(question.points for question in assignment.automatic)
    lines += [f"**{plain(total)} of {plain(out_of)} points**, without the questions that a person reads.", ""]
    hidden = {(q.name, test.name) for q in assignment.questions for test in q.tests if test.hidden}
    for score in one.outcome.scores:
        lines += [f"## {score.question}: {plain(score.earned)} of {plain(score.points)}", ""]
        for checked in score.checked:
            kind = " (with data of its own)" if (score.question, checked.test) in hidden else ""
            said = f": {one_line(checked.message)}" if checked.message else ""
            lines.append(f"- {'✓' if checked.passed else '✗'} {checked.test}{kind}{said}")
        lines.append("")
    for question in assignment.questions:
        if question.manual:
            lines += [f"## {question.name}: read by your teacher, {plain(question.points)} points", ""]
    return "\n".join(lines)


def one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def write_feedback(folder: Path, assignment: Assignment, graded: list[Graded]) -> None:
    """One Markdown file a submission, under a name that says whose it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in graded:
        name = re.sub(r"[^\w.-]+", "_", one.file.removesuffix(".ipynb"))
        (folder / f"{name}.md").write_text(feedback(assignment, one), encoding="utf-8")


def summary(graded: list[Graded]) -> str:
    """What to tell the teacher on the screen: counts, and every file that has no marks."""
    counts = Counter(one.outcome.status for one in graded)
    lines = [", ".join(f"{count} {status}" for status, count in counts.most_common())]
    lines += [f"  {one.file}: {one.outcome.status}: {one.outcome.reason}" for one in graded if not one.complete]
    guarded = Counter(one.outcome.guarded for one in graded if one.outcome.guarded or one.complete)
    for guards, count in guarded.items():
        what = ", ".join(guards) if guards else "nothing but the limits: this system has no user namespaces"
        lines.append(f"{count} ran kept from: {what}")
    return "\n".join(lines)
