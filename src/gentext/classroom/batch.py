"""Grading a folder: find the submissions, judge them side by side, lose nothing, and write one table.

What is done is kept beside the table, one file a submission, named after what was graded: a grading that is stopped
goes on where it was, and a submission that has changed, or other tests, are judged again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from gentext.classroom.answers import SEED
from gentext.classroom.assignment import Assignment, source_of, to_json
from gentext.classroom.check import Checked, Score
from gentext.classroom.judge import Outcome, judge
from gentext.classroom.sandbox import Limits, end_all

LARGEST_MB = 20  # of a submitted file
LARGEST_CELLS = 500
SKIPPED = {".ipynb_checkpoints", "__MACOSX", "__pycache__"}
Judge = Callable[[list[str], Assignment, Limits, tuple[str, ...]], Outcome]


@dataclass(frozen=True)
class Submission:
    """One file. student: the folder that it lies in, or what its name says of whose it is."""

    path: Path
    student: str
    digest: str


@dataclass(frozen=True)
class Graded:
    """One row of the table."""

    student: str
    file: str
    outcome: Outcome
    digest: str

    @property
    def complete(self) -> bool:
        return self.outcome.status == "graded"


class Unreadable(ValueError):
    """A file that is no notebook. The message says why."""


# ---- finding and reading ---------------------------------------------------------------------------------------------


def find(folder: Path) -> list[Submission]:
    """Every file below `folder`, in order, but what systems leave lying about. Raises ValueError if there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part in SKIPPED or part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not paths:
        raise ValueError(f"there is no file in {folder}")
    return [Submission(path, student(path.relative_to(folder)), digest_of(path)) for path in paths]


def student(path: Path) -> str:
    """Whose file it is: the first folder's name; at the top, the file's name without what copying adds to it."""
    if len(path.parts) > 1:
        return path.parts[0]
    name = re.sub(r"\s*\(\d+\)$", "", path.stem)
    return re.sub(r"^((Copy|Kopie) (of|von) )+", "", name)


def digest_of(path: Path) -> str:
    """Of a link, a pipe or an unreadable file: of its name."""
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST_MB << 20:
            raise OSError
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return hashlib.sha256(str(path).encode()).hexdigest()


def read_cells(path: Path) -> list[str]:
    """The code cells of a notebook, whatever its name and metadata say. Raises Unreadable."""
    if path.is_symlink():
        raise Unreadable("it is a link, not a file")
    if path.stat().st_size > LARGEST_MB << 20:
        raise Unreadable(f"it is {path.stat().st_size >> 20} MB large; at most {LARGEST_MB} MB are read")
    try:
        notebook = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise Unreadable("it is no notebook: its text is not valid JSON, perhaps a download that broke off") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise Unreadable("it is no notebook: it has no cells")
    try:
        code = [source_of(cell) for cell in cells if cell["cell_type"] == "code"]
    except (KeyError, TypeError):
        raise Unreadable("it is no notebook: a cell has no type or no text") from None
    if not any(text.strip() for text in code):
        raise Unreadable("it has no code cells")
    if len(code) > LARGEST_CELLS:
        raise Unreadable(f"it has {len(code)} code cells; at most {LARGEST_CELLS} are run")
    return code


# ---- judging ---------------------------------------------------------------------------------------------------------


def grade_one(
    submission: Submission, folder: Path, assignment: Assignment, limits: Limits, hide: tuple[str, ...], by: Judge
) -> Graded:
    try:
        outcome = by(read_cells(submission.path), assignment, limits, hide)
    except Unreadable as error:
        outcome = Outcome("not readable", str(error))
    except OSError as error:  # the machine's fault, not the student's
        outcome = Outcome("not graded", f"grading it failed: {error}; run the command again")
    return Graded(submission.student, str(submission.path.relative_to(folder)), outcome, submission.digest)


def grade_folder(
    folder: Path,
    assignment: Assignment,
    store: Path,
    *,
    limits: Limits | None = None,
    jobs: int | None = None,
    hide: Iterable[Path] = (),
    seed: int | None = None,
    progress: bool = True,
    by: Judge = judge,
) -> list[Graded]:
    """Grade every file in `folder`; what `store` has of the same files and tests is not judged again.

    Args:
        assignment: with hidden tests, of the variant that was handed out.
        store: folder of finished results; made if need be.
        jobs: submissions at a time; one a core if None.
        hide: folders that no submission shall read, beside `folder`.
        seed: of the tests' fresh data; the store's first run draws one.

    Raises:
        ValueError: there is nothing to grade.
        KeyboardInterrupt: Ctrl-C; what was finished is in the store.
    """
    from tqdm.auto import tqdm

    found, limits = find(folder), limits or Limits()
    store.mkdir(parents=True, exist_ok=True)
    tests = hashlib.sha256(f"{to_json(assignment)}{asdict(limits)}".encode()).hexdigest()
    os.environ[SEED] = str(agree_on_seed(store, seed))
    hidden = tuple(str(path.resolve()) for path in (folder, store, *hide))
    results: list[Graded] = []
    waiting: list[Submission] = []
    for one in found:
        kept = load(store / name_of(one, tests, folder))
        if kept is None or kept.outcome.status == "not graded":
            waiting.append(one)
        else:
            results.append(kept)
    pool, stopping = ThreadPoolExecutor(max_workers=jobs or os.cpu_count() or 1), Event()

    def grade_and_keep(one: Submission) -> Graded:
        graded = grade_one(one, folder, assignment, limits, hidden, by)
        if not stopping.is_set():  # else its process was ended in the middle, and not by its own fault
            save(store / name_of(one, tests, folder), graded)
        return graded

    try:
        work = [pool.submit(grade_and_keep, one) for one in waiting]
        bar = tqdm(as_completed(work), total=len(found), initial=len(results), unit="file", disable=not progress)
        for future in bar:
            graded = future.result()
            results.append(graded)
            bar.set_postfix_str(f"{graded.student}: {graded.outcome.status}")
    except BaseException:
        stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)
        end_all()
        raise
    pool.shutdown()
    return sorted(results, key=lambda one: (one.student.lower(), one.file))


def agree_on_seed(store: Path, seed: int | None) -> int:
    """The seed of this store: a class is graded with the same data, also when grading goes on the next day."""
    path = store / "seed"
    if seed is None:
        seed = int(path.read_text()) if path.exists() else int.from_bytes(os.urandom(4), "little")
    path.write_text(str(seed))
    return seed


# ---- what is kept ----------------------------------------------------------------------------------------------------


def name_of(one: Submission, tests: str, folder: Path) -> str:
    parts = (one.digest, tests, str(one.path.relative_to(folder)), os.environ[SEED])
    return f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}.json"


def save(path: Path, graded: Graded) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(graded), ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def load(path: Path) -> Graded | None:
    """A finished result, or None if there is none, or only a damaged one."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        outcome = found.pop("outcome")
        scores = [read_score(score) for score in outcome.pop("scores")]
        return Graded(outcome=Outcome(**{**outcome, "guarded": tuple(outcome["guarded"])}, scores=scores), **found)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_score(score: dict[str, Any]) -> Score:
    return Score(score["question"], score["points"], tuple(Checked(**one) for one in score["checked"]))
