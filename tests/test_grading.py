"""A class's folder, graded in one command: honest work, and everything that is not."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gentext.classroom.assignment import read_master
from gentext.classroom.judge import judge
from gentext.classroom.masters import find_master
from gentext.classroom.sandbox import Limits
from test_assignments import solved_cells

ROOT = Path(__file__).resolve().parent.parent
MASTER = find_master("05", ROOT / "assignments")
GENTEXT = [sys.executable, "-m", "gentext.cli", "grade"]
pytestmark = pytest.mark.slow


def answers() -> list[str]:
    """The solution without the cell that trains a network: the tests do not ask for it."""
    return [cell for cell in solved_cells(MASTER) if "optimizer.step()" not in cell]


FULL = sum(question.points for question in read_master(MASTER).automatic)
NO_KL = "def kl_per_latent(mean, log_var):\n    return mean"  # loses the four points of its question
BOMB = """
import os, time
for _ in range(100):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""
FORGER = """
import json, os, sys
from pathlib import Path
for place in (".", "..", os.environ["HOME"]):
    for name in ("results.json", "grades.csv", "seed"):
        try:
            (Path(place) / name).write_text(json.dumps({"score": 100, "tests": []}))
        except OSError:
            pass
import torch, gentext.classroom.check as check, gentext.classroom.answers as answers
torch.allclose = lambda *_, **__: True
check.run_test = lambda test, env: check.Checked(test.name, test.points, test.points)
answers.close = lambda *_, **__: None
class Yes:
    def __eq__(self, other): return True
    def __call__(self, *_, **__): return self
kl_per_latent = draw = elbo = importance_bound = active_latents = Yes()
"""
PICKLER = """
import pickle, os
class Trap:
    def __reduce__(self): return (os.system, ("touch /tmp/gentext-trap",))
def kl_per_latent(mean, log_var): return Trap()
"""
READER = """
from pathlib import Path
found = [path for path in Path({folder!r}).rglob("*") if path.is_file()]
kl_per_latent = None if found else kl_per_latent
"""
SHOUTER = """
import os
for number in range(3, 4096):
    try:
        os.write(number, b"\\xff" * 100)
    except OSError:
        pass
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    pass"


def write(path: Path, cells: list[str], **extra: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = [{"cell_type": "code", "source": cell.splitlines(keepends=True), "metadata": {}} for cell in cells]
    path.write_text(json.dumps({"cells": code, "nbformat": 4, "nbformat_minor": 5, "metadata": {}, **extra}))


def make_class(folder: Path, port: int, guarded: tuple[str, ...]) -> dict[str, tuple[str, float | None]]:
    """Thirty files. Returns what must come out for each: status, and total if it is graded."""
    good = answers()
    wanted: dict[str, tuple[str, float | None]] = {}

    def put(name: str, cells: list[str], status: str = "graded", total: float | None = FULL) -> None:
        write(folder / name, cells)
        wanted[name] = status, total

    for name in ("anna/05.ipynb", "berta/Copy of 05-variational-autoencoders.ipynb", "carl/deep/er/x.ipynb"):
        put(name, good)
    put("Copy of Dora (1).ipynb", good)
    put("emil_12345_6789_renamed.txt", good)  # a notebook is one by what it holds
    put("Zoë – Lösung.ipynb", ["# another order of cells", *good[:2], *reversed(good[2:])])
    put("frida.ipynb", [*good, NO_KL], total=FULL - 4)
    put("gustav.ipynb", good[:4], total=None)
    put("hanna.ipynb", ["pass"], total=0)
    put("ida.ipynb", ["import nothing_of_that_name", *good])
    put("jakob.ipynb", [*good, "raise SystemExit(0)"])
    put("klara.ipynb", [*good, "while True:\n    pass"])
    put("ludwig.ipynb", [*good, STUBBORN], "timed out", None)
    put("marta.ipynb", [*good, "import torch\nhuge = torch.ones(40_000_000_000)"])
    put("nora.ipynb", [*good, "a = []\nwhile True:\n    a.append(bytearray(50_000_000))"])
    put("otto.ipynb", [*good, BOMB], "too many processes", None)
    put("paula.ipynb", [*good, "import os\nos._exit(0)"], "crashed", None)
    put("quirin.ipynb", [*good, "import ctypes\nctypes.string_at(0)"], "crashed", None)
    put("rosa.ipynb", [FORGER], total=0)
    put("samuel.ipynb", [*good, PICKLER], total=FULL - 4)
    put("thea.ipynb", [*good, READER.format(folder=str(ROOT / "assignments"))])
    put("ulrich.ipynb", [*good, f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 3).send(b'x')"])
    put("vera.ipynb", [*good, SHOUTER], "crashed", None)
    put("willi.ipynb", [*good, "with open('big', 'wb') as file:\n    file.write(bytes(200_000_000))"])
    walled = "writing outside its home" in guarded
    put("xenia.ipynb", [*good, f"import shutil\nshutil.rmtree({str(folder)!r})" if walled else "1 / 0"])
    put("yann.ipynb", [*good, "import os\nos.kill(os.getppid(), 9)\nos.killpg(0, 15)"], total=None)
    (folder / "broken.ipynb").write_text((folder / "anna/05.ipynb").read_text()[:500])
    (folder / "essay.pdf").write_bytes(b"%PDF-1.7\x00\xff")
    (folder / "empty.ipynb").write_text("")
    (folder / "link.ipynb").symlink_to(ROOT / "pyproject.toml")
    for name in ("broken.ipynb", "essay.pdf", "empty.ipynb", "link.ipynb"):
        wanted[name] = "not readable", None
    return wanted


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def namespaces() -> tuple[str, ...]:
    return judge(["pass"], read_master(MASTER), Limits(), (str(ROOT / "tests"),)).guarded


def test_a_class_of_thirty_is_graded_in_one_command(tmp_path: Path) -> None:
    guarded = namespaces()
    folder, out = tmp_path / "submissions", tmp_path / "grades.csv"
    trap = Path("/tmp/gentext-trap")
    trap.unlink(missing_ok=True)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        wanted = make_class(folder, server.getsockname()[1], guarded)
        assert len(wanted) == 30
        command = [
            *GENTEXT,
            str(folder),
            "--assignment",
            "05",
            "--out",
            str(out),
            "--quiet",
            "--seconds",
            "90",
            "--cell-seconds",
            "15",
        ]
        began = time.monotonic()
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert time.monotonic() - began < 600
        if "network" in guarded:
            with pytest.raises(BlockingIOError):
                server.accept()
    rows = table(out)
    assert set(rows) == set(wanted)
    for name, (status, total) in wanted.items():
        row = rows[name]
        assert row["status"] == status, (name, row)
        if status != "graded":
            assert row["total"] == row["q1"] == "", f"{name}: not graded is not zero"
            assert row["reason"], name
            assert name in result.stdout, "the teacher is told"
        elif total is not None and (name != "thea.ipynb" or "tests and other submissions" in guarded):
            assert float(row["total"]) == total, (name, row)
    assert not trap.exists(), "something was unpickled"
    if "writing outside its home" in guarded:
        assert (folder / "anna/05.ipynb").exists()
    assert rows["anna/05.ipynb"]["same as"].count(";") >= 2
    assert rows["anna/05.ipynb"]["student"] == "anna"
    assert rows["Copy of Dora (1).ipynb"]["student"] == "Dora"
    pages = list((tmp_path / "grades-feedback").glob("*.md"))
    assert len(pages) == 30
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"classroom/sandbox.py" in read(p)], (
        "a process is left"
    )


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_stopped_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    folder, out = tmp_path / "submissions", tmp_path / "grades.csv"
    for number in range(6):
        write(folder / f"s{number}.ipynb", [f"# {number}", *answers()])
    command = [*GENTEXT, str(folder), "--assignment", "5", "--out", str(out), "--jobs", "1", "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    store = tmp_path / "grades-work"
    waited = time.monotonic()
    while len(list(store.glob("*.json"))) < 2 and time.monotonic() - waited < 300:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in said
    assert not out.exists()
    kept = {path: path.stat().st_mtime_ns for path in store.glob("*.json")}
    assert 2 <= len(kept) < 6
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "what was done is not done again"
    assert [float(row["total"]) for row in table(out).values()] == [FULL] * 6


def test_bad_arguments_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.ipynb").write_text("{}")
    for options, words in (
        (["nowhere", "--assignment", "05"], "nowhere is no folder"),
        ([str(tmp_path / "in"), "--assignment", "77"], "there is no assignment '77'; there are: 01-"),
        ([str(tmp_path / "in"), "--assignment", "05", "--masters", str(tmp_path)], "there are no assignments in"),
    ):
        out = ["--out", str(tmp_path / "x.csv"), "--quiet"]
        result = subprocess.run([*GENTEXT, *options, *out], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr
