"""From master notebooks to what students and teachers get (`make assignments`).

    python -m gentext.classroom.masters [--seed 7] [--out _build/assignments] [NAME ...]

For each assignment a folder with the student's notebook, the autograder's zip for Gradescope (both made by
Otter-Grader), and the hidden tests' file for `gentext grade`. `--ship` writes the public parts into the package,
`--hand-out` the student notebooks to which the chapters link.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gentext.classroom.assignment import (
    SHIPPED,
    Assignment,
    chosen,
    from_json,
    read_master,
    settings,
    source_of,
    to_json,
    vary,
)

MASTERS = Path("assignments")
OUT = Path("_build/assignments")
NUMBER = "<<number>>"  # in a question's text: its place among the questions
VARIANT = "<<variant>>"
PACKAGE = "gentext @ git+https://github.com/gentext-book/gentext"
COLAB = {"accelerator": "GPU", "colab": {"provenance": [], "gpuType": "T4"}}


def masters(folder: Path = MASTERS) -> list[Path]:
    """The master notebooks. Raises ValueError if there are none."""
    found = sorted(folder.glob("[0-9][0-9]-*/[0-9][0-9]-*.ipynb"))
    if not found:
        raise ValueError(f"there are no assignments in {folder}: run this in the project's folder, or name one")
    return found


def find_master(name: str, folder: Path = MASTERS) -> Path:
    """The master of an assignment, by name or chapter number. Raises ValueError if there is none."""
    found = masters(folder)
    for path in found:
        if path.stem == name or path.stem.partition("-")[0] == name.zfill(2):
            return path
    raise ValueError(f"there is no assignment {name!r}; there are: {', '.join(path.stem for path in found)}")


# ---- variants --------------------------------------------------------------------------------------------------------


def make_variant(notebook: dict[str, Any], seed: int) -> dict[str, Any]:
    """A master with its placeholders filled in and its questions in the variant's order."""
    said = settings(notebook)
    cells = reorder(notebook["cells"], said.get("shuffle", []), seed)
    place, filled = 0, []
    for cell in cells:
        text = source_of(cell)
        place += cell["cell_type"] == "raw" and text.startswith("# BEGIN QUESTION")
        text = text.replace(NUMBER, str(place)).replace(VARIANT, str(seed))
        filled.append({**cell, "source": vary(text, said.get("choices", {}), seed)})
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "gentext"}
    return {**notebook, "cells": filled, "metadata": {**metadata, **COLAB}}


def reorder(cells: list[dict[str, Any]], groups: list[list[str]], seed: int) -> list[dict[str, Any]]:
    """Questions of a group trade places; all else stays."""
    blocks = question_blocks(cells)
    order = list(cells)
    for group in groups:
        turn = int(chosen(f"order of {group}", [str(i) for i in range(len(group))], seed))
        turned = group[turn:] + group[:turn]
        pieces: list[dict[str, Any]] = []
        slots = {blocks[name][0]: turned[index] for index, name in enumerate(group)}
        position = 0
        while position < len(cells):
            if position in slots:
                start, stop = blocks[slots[position]]
                pieces += cells[start:stop]
                position = next(end for begin, end in blocks.values() if begin == position)
            else:
                pieces.append(cells[position])
                position += 1
        order = pieces
        cells, blocks = order, question_blocks(order)
    return order


def question_blocks(cells: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Where each question begins and where the next cell after it stands."""
    blocks, name, begin = {}, "", 0
    for position, cell in enumerate(cells):
        text = source_of(cell)
        if cell["cell_type"] == "raw" and text.startswith("# BEGIN QUESTION"):
            name = next(line.removeprefix("name:").strip() for line in text.splitlines() if line.startswith("name:"))
            begin = position
        elif cell["cell_type"] == "raw" and text.startswith("# END QUESTION"):
            blocks[name] = (begin, position + 1)
    return blocks


# ---- building --------------------------------------------------------------------------------------------------------


def build(master: Path, out: Path, seed: int = 0) -> Path:
    """Make `out/NAME/` of one master and return it: NAME.ipynb, NAME-autograder.zip, NAME-tests.json.

    All or nothing: a build that fails leaves the folder as it was. Raises RuntimeError with Otter's words if it does.
    """
    assignment = read_master(master).variant(seed)
    name, folder = master.stem, out / master.stem
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        notebook = make_variant(json.loads(master.read_text(encoding="utf-8")), seed)
        (work / f"{name}.ipynb").write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
        (work / "requirements.txt").write_text(f"{PACKAGE}\n")  # for Gradescope's machine
        otter = [sys.executable, "-m", "otter", "assign", "--no-run-tests", f"{name}.ipynb", "dist"]
        result = subprocess.run(otter, cwd=work, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"otter assign failed on {master}:\n{result.stdout}{result.stderr}")
        ready = work / "ready"
        ready.mkdir()
        student = json.loads((work / f"dist/student/{name}.ipynb").read_text(encoding="utf-8"))
        text = json.dumps(finish_student(student), ensure_ascii=False, indent=1)
        (ready / f"{name}.ipynb").write_text(text + "\n", encoding="utf-8")
        (zipped,) = (work / "dist/autograder").glob("*.zip")
        shutil.copyfile(zipped, ready / f"{name}-autograder.zip")
        (ready / f"{name}-tests.json").write_text(to_json(assignment), encoding="utf-8")
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(ready, folder)
    return folder


def finish_student(notebook: dict[str, Any]) -> dict[str, Any]:
    """Otter's student notebook without outputs, the same each time it is made; opens in Colab on a GPU if wanted."""
    for place, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{place}"
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    notebook["metadata"] = {**notebook["metadata"], **COLAB}
    notebook["metadata"].pop("otter", None)
    return notebook


def student_copy(master: Path) -> Path:
    """Where the student's notebook of variant 0 lies, for the link on the chapter's page."""
    return master.parent / "student" / master.name


def hand_out(master: Path) -> Path:
    """Write the student's notebook of variant 0 beside the master."""
    path = student_copy(master)
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(master, Path(scratch))
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / master.name, path)
    return path


def ship(master: Path, into: Path = SHIPPED) -> Path:
    """Write the public part of an assignment into the package: questions, points, public tests."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{master.stem}.json"
    path.write_text(to_json(read_master(master).public()), encoding="utf-8")
    return path


def load_tests(path: Path) -> Assignment:
    """The tests that `build` wrote."""
    return from_json(path.read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names or chapter numbers; all if none is given")
    parser.add_argument("--seed", type=int, default=0, help="of the variant; 0 is the book's")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--ship", action="store_true", help="only write the public tests into the package")
    parser.add_argument("--hand-out", action="store_true", help="only write the student notebooks beside the masters")
    arguments = parser.parse_args()
    try:
        chosen_ones = [find_master(name) for name in arguments.names] or masters()
        for master in chosen_ones:
            if arguments.ship or arguments.hand_out:
                made = ([ship(master)] if arguments.ship else []) + ([hand_out(master)] if arguments.hand_out else [])
            else:
                made = [build(master, arguments.out, arguments.seed)]
            print(*made, sep="\n", flush=True)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
