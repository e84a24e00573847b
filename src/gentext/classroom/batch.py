"""Grading a folder: find the submissions, judge them side by side, lose nothing, and write one table.

What is done is kept beside the table, one file a submission, named after what was graded: a grading that is stopped
goes on where it was, and a submission that has changed, or other tests, are judged again. So is one that ran into a
limit, if the limits have changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from gentext.classroom.answers import class_seed
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
    """One row of the table. limits: under which it was judged."""

    student: str
    file: str
    outcome: Outcome
    digest: str
    limits: Limits

    @property
    def complete(self) -> bool:
        return self.outcome.status == "graded"

    def stands(self, limits: Limits) -> bool:
        """Whether judging it again under these limits could give nothing else."""
        if self.outcome.status in ("graded", "not readable"):
            return True
        return self.outcome.status != "not graded" and self.limits == limits


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
    return Graded(submission.student, str(submission.path.relative_to(folder)), outcome, submission.digest, limits)


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
        ValueError: there is nothing to grade, or `folder` cannot be hidden.
        KeyboardInterrupt: Ctrl-C; what was finished is in the store.
    """
    from tqdm.auto import tqdm

    found, limits = find(folder), limits or Limits()
    hidden = tuple(str(path.resolve()) for path in (folder, store, *hide))
    for needed in (sys.prefix, sys.base_prefix, str(Path(__file__).resolve())):
        if Path(needed).is_relative_to(folder.resolve()):
            raise ValueError(f"{folder} holds this program itself: put the submissions into a folder of their own")
    store.mkdir(parents=True, exist_ok=True)
    seed = agree_on_seed(store, seed)
    tests = hashlib.sha256(f"{seed} {to_json(assignment)}".encode()).hexdigest()

    def place(one: Submission) -> Path:
        parts = (one.digest, tests, str(one.path.relative_to(folder)))
        return store / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}.json"

    results: list[Graded] = []
    waiting: list[Submission] = []
    for one in found:
        kept = load(place(one))
        if kept is None or not kept.stands(limits):
            waiting.append(one)
        else:
            results.append(kept)
    pool, stopping = ThreadPoolExecutor(max_workers=jobs or os.cpu_count() or 1), Event()
    work: list[Future[Graded]] = []

    def grade_and_keep(one: Submission) -> Graded:
        graded = grade_one(one, folder, assignment, limits, hidden, by)
        if not stopping.is_set():  # else its process was ended in the middle, and not by its own fault
            save(place(one), graded)
        return graded

    with class_seed(seed):
        try:
            work.extend(pool.submit(grade_and_keep, one) for one in waiting)
            bar = tqdm(as_completed(work), total=len(found), initial=len(results), unit="file", disable=not progress)
            for future in bar:
                graded = future.result()
                results.append(graded)
                bar.set_postfix_str(f"{graded.student}: {graded.outcome.status}")
        except BaseException:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in work):  # one may be starting its process just now
                end_all()
                wait(work, timeout=0.1)
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
        guarded, limits = tuple(outcome.pop("guarded")), Limits(**found.pop("limits"))
        return Graded(outcome=Outcome(**outcome, scores=scores, guarded=guarded), limits=limits, **found)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_score(score: dict[str, Any]) -> Score:
    return Score(score["question"], score["points"], tuple(Checked(**one) for one in score["checked"]))
