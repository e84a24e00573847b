"""The classroom's parts: messages, the closed process, the judge, the table, and the self-check in a notebook."""

from __future__ import annotations

import csv
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentext.classroom import Assignment, Notebook, Question, Test, answer, close, fresh, gradients, raises
from gentext.classroom.answers import SEED
from gentext.classroom.assignment import chosen, from_json, load_shipped, read_master, to_json, vary
from gentext.classroom.batch import Graded, Unreadable, find, grade_folder, load, read_cells, student
from gentext.classroom.check import Checked, Score, run_question
from gentext.classroom.codec import Nonsense, decode, encode, receive
from gentext.classroom.judge import Channel, Gone, Outcome, judge
from gentext.classroom.masters import reorder
from gentext.classroom.report import feedback, summary, write_table
from gentext.classroom.sandbox import Limits

QUICK = Limits(seconds=60, cell_seconds=5, memory_mb=3000)


def one_question(*sources: str) -> Assignment:
    tests = [Test(f"test {i}", source, 1.0, hidden=bool(i)) for i, source in enumerate(sources)]
    return Assignment("99-toy", "Toy", (Question("q1", float(len(tests)), False, tuple(tests)),), {})


TWICE = one_question(
    "def test_two(env):\n"
    "    from gentext.classroom import answer, close\n"
    "    close(answer(env, 'f')(1.0), 2.0, 'twice one is two')",
    "def test_any(env):\n"
    "    from gentext.classroom import answer, close, fresh\n"
    "    import torch\n"
    "    x = torch.randn(3, generator=fresh())\n"
    "    close(answer(env, 'f')(x), 2 * x, 'twice')",
)
RIGHT = "def f(x):\n    return 2 * x"


def marks(outcome: Outcome) -> list[float]:
    return [score.earned for score in outcome.scores]


# ---- messages --------------------------------------------------------------------------------------------------------


def refuse(value: object) -> dict:
    raise ValueError(f"{type(value).__name__} cannot travel")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(...),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(plain)
def test_values_travel_unchanged(value: object) -> None:
    back = decode(json.loads(json.dumps(encode(value, refuse))), refuse)
    assert repr(back) == repr(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2), (2, 0, 4)])
def test_tensors_travel_unchanged(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    value = (100 * torch.rand(shape)).to(dtype)
    back = decode(json.loads(json.dumps(encode(value.requires_grad_(dtype.is_floating_point), refuse))), refuse)
    assert torch.equal(back, value.detach())
    assert back.dtype == dtype
    array = decode(json.loads(json.dumps(encode(value.detach().numpy(), refuse))), refuse)
    assert (array == value.detach().numpy()).all()


def test_a_generator_goes_on_where_it_was() -> None:
    generator = torch.Generator().manual_seed(3)
    torch.randn(5, generator=generator)
    back = decode(json.loads(json.dumps(encode(generator, refuse))), refuse)
    assert torch.equal(torch.randn(4, generator=back), torch.randn(4, generator=generator))
    assert math.isnan(decode(encode(float("nan"), refuse), refuse))


@pytest.mark.parametrize(
    "data",
    [
        {"tensor": "AAAA", "dtype": "float32", "shape": [10**9]},
        {"tensor": "!!!", "dtype": "float32", "shape": [1]},
        {"tensor": "AAAA", "dtype": "object", "shape": [1]},
        {"tensor": "", "dtype": "float32", "shape": [-1, 0]},
        {"array": "AAAA", "dtype": "O", "shape": [1]},
        {"float": "one"},
        {"dict": [[{"list": []}, 1]]},
        {"dict": [1]},
        {"generator": 3},
        {},
        [],
        1.5,
    ],
)
def test_nonsense_is_refused(data: object) -> None:
    with pytest.raises(Nonsense):
        decode(data, refuse)


def test_deep_and_long_messages_are_refused() -> None:
    deep: list = []
    for _ in range(40):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        encode(deep, refuse)
    data: object = None
    for _ in range(40):
        data = {"list": [data]}
    with pytest.raises(Nonsense):
        decode(data, refuse)
    with pytest.raises(Nonsense, match="a message of"):
        receive(lambda count: b"\xff\xff\xff\xff")
    with pytest.raises(Nonsense, match="no JSON"):
        receive(lambda count: b"\x00\x00\x00\x02" if count == 4 else b"{]")


# ---- what tests are written with ---------------------------------------------------------------------------------


def test_an_answer_must_be_there_and_be_the_students_own() -> None:
    from gentext.nn import DiagonalGaussian

    def borrowed(mean: torch.Tensor) -> torch.Tensor:
        return DiagonalGaussian(mean, mean).kl_per_latent()

    env = {"f": abs, "g": ..., "borrowed": borrowed, "library": lambda x: torch.logsumexp(x, 0), "number": 3}
    with pytest.raises(AssertionError, match="there is no `h`"):
        answer(env, "h")
    with pytest.raises(AssertionError, match=r"`g` is still `\.\.\.`"):
        answer(env, "g")
    assert answer(env, "f")(-2) == 2
    assert answer(env, "number") == 3
    with pytest.raises(AssertionError, match=r"calls gentext\.nn\.gaussian.*asked to write it yourself"):
        answer(env, "borrowed")(torch.zeros(2))
    answer(env, "borrowed", allow=("gentext.nn",))(torch.zeros(2))
    with pytest.raises(AssertionError, match="logsumexp: that is the answer"):
        answer(env, "library", banned=("logsumexp",))(torch.zeros(2))
    with pytest.raises(AssertionError, match=r"calls torch\.distributions"):
        answer({"f": lambda: torch.distributions.Normal(0.0, 1.0)}, "f", banned=("torch.distributions",))()


def test_fresh_data_is_new_each_time_unless_a_class_shares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEED, raising=False)
    assert fresh().initial_seed() != fresh().initial_seed()
    monkeypatch.setenv(SEED, "12")
    assert fresh().initial_seed() == fresh().initial_seed() != fresh(1).initial_seed()


def test_close_says_what_is_wrong() -> None:
    close(1.0, 1.0, "")
    close([1.0, 2.0], torch.tensor([1.0, 2.0]), "")
    for found, wanted, words in (
        (..., 1.0, r"still `\.\.\.`"),
        (None, 1.0, "is a `return` missing"),
        ("x", 1.0, "a number or tensor is wanted, not str"),
        (torch.zeros(2), 1.0, r"the shape must be \(\), not \(2,\)"),
        (float("nan"), 1.0, "the answer is NaN"),
        (torch.tensor([0.0, float("nan")]), torch.zeros(2), "contains NaN"),
        (2.0, 1.0, "got 2 where 1 is right. Halve it"),
        (torch.tensor([[0.0, 5.0]]), torch.zeros(1, 2), r"at \[0, 1\] got 5 where 0 is right"),
        (torch.tensor([float("inf")]), torch.zeros(1), "infinite"),
        (torch.tensor([1.0, float("inf")]), torch.tensor([2.0, float("inf")]), r"at \[0\] got 1 where 2 is right"),
    ):
        with pytest.raises(AssertionError, match=words):
            close(found, wanted, "Halve it")


def test_raises_and_gradients() -> None:
    with raises(ValueError, "bad input"):
        raise ValueError
    with (
        pytest.raises(AssertionError, match=r"this should raise ValueError\. bad input"),
        raises(ValueError, "bad input"),
    ):
        pass
    value, (slope,) = gradients(lambda x, n: x**n, torch.tensor([3.0]), 2)
    assert value.item() == 9
    assert slope.item() == 6
    with pytest.raises(AssertionError, match="no gradient reaches the arguments"):
        gradients(lambda x: x.detach(), torch.tensor([3.0]))


# ---- assignments -----------------------------------------------------------------------------------------------------


def test_variants_are_fixed_and_differ() -> None:
    options = ["a", "b", "c"]
    assert chosen("x", options, 0) == "a"
    assert [chosen("x", options, seed) for seed in range(9)] == [chosen("x", options, seed) for seed in range(9)]
    assert {chosen("x", options, seed) for seed in range(20)} == set(options)
    assert vary("<<x>> and <<x>>", {"x": options}, 0) == "a and a"
    with pytest.raises(ValueError, match="<<y>> has no choices: there are x"):
        vary("<<y>>", {"x": options}, 0)


def test_questions_trade_places() -> None:
    def block(name: str) -> list[dict]:
        return [
            {"cell_type": "raw", "source": f"# BEGIN QUESTION\nname: {name}\npoints: 1"},
            {"cell_type": "code", "source": name},
            {"cell_type": "raw", "source": "# END QUESTION"},
        ]

    cells = [*block("q1"), {"cell_type": "markdown", "source": "between"}, *block("q2"), *block("q3"), *block("q4")]
    seen = set()
    for seed in range(20):
        order = [cell["source"] for cell in reorder(cells, [["q2", "q3", "q4"]], seed) if cell["cell_type"] != "raw"]
        assert order[:2] == ["q1", "between"]
        assert sorted(order[2:]) == ["q2", "q3", "q4"]
        seen.add(tuple(order))
    assert len(seen) == 3
    assert reorder(cells, [["q1", "q2"]], 0) == cells


def test_a_master_that_is_wrong_is_refused(tmp_path: Path) -> None:
    def write(*cells: tuple[str, str]) -> Path:
        path = tmp_path / "x.ipynb"
        path.write_text(json.dumps({"metadata": {}, "cells": [{"cell_type": k, "source": s} for k, s in cells]}))
        return path

    begin, end = ("raw", "# BEGIN QUESTION\nname: q1\npoints: 2"), ("raw", "# END QUESTION")
    tests = ("raw", "# BEGIN TESTS"), ("raw", "# END TESTS")
    config = '""" # BEGIN TEST CONFIG\nname: a\npoints: 1\n""" # END TEST CONFIG\ndef test_a(env):\n    pass'
    with pytest.raises(ValueError, match="has no questions"):
        read_master(write(("code", "1")))
    with pytest.raises(ValueError, match="a question ends that has not begun"):
        read_master(write(end))
    with pytest.raises(ValueError, match="either tests or a person"):
        read_master(write(begin, end))
    with pytest.raises(ValueError, match=r"2\.0 points, but its tests have 1\.0"):
        read_master(write(begin, tests[0], ("code", config), tests[1], end))
    for broken, words in (("name: a: b\npoints: 1", "is no YAML"), ("name: a", "needs a name and points")):
        text = f'""" # BEGIN TEST CONFIG\n{broken}\n""" # END TEST CONFIG\ndef test_a(env):\n    pass'
        with pytest.raises(ValueError, match=f"x.ipynb, cell 2: its configuration {words}"):
            read_master(write(begin, tests[0], ("code", text), tests[1], end))
    with pytest.raises(ValueError, match="a test begins with its configuration"):
        read_master(write(begin, tests[0], ("code", "def test_a(env): pass"), tests[1], end))


def test_assignments_travel_as_json() -> None:
    assert from_json(to_json(TWICE)) == TWICE
    assert [test.hidden for test in TWICE.public().questions[0].tests] == [False]
    with pytest.raises(ValueError, match=r"there is no assignment 'x'; there are: "):
        load_shipped("x")


# ---- in the student's notebook -------------------------------------------------------------------------------------


def test_the_self_check_runs_public_tests_and_teaches() -> None:
    env: dict = {}
    grader = Notebook("5", env=env)
    assert grader.assignment.name == "05-variational-autoencoders"
    assert "✗" in repr(grader.check("q1"))
    assert "there is no `kl_per_latent`" in repr(grader.check("q1"))
    env["kl_per_latent"] = lambda mean, log_var: 0.5 * (mean**2 + log_var.exp() - log_var - 1)
    assert repr(grader.check("q1")).startswith("q1: 1 of 1 public tests pass")
    assert "<li>✓" in grader.check("q1")._repr_html_()
    assert "your teacher reads this one" in repr(grader.check("q6"))
    assert len(grader.check_all()) == 5
    with pytest.raises(ValueError, match=r"has the questions q1, q2, .*, not 'q9'"):
        grader.check("q9")


def test_the_self_check_needs_nothing_that_colab_lacks() -> None:
    code = """
import sys
for name in ("otter", "nbformat", "nbconvert", "yaml", "jupytext", "fica", "sklearn", "scipy"):
    sys.modules[name] = None  # as if it were not installed
from gentext.classroom import Notebook
from gentext.classroom.assignment import shipped
for name in shipped():
    for result in Notebook(name, env={}).check_all():
        assert "there is no" in repr(result) or "passes" not in repr(result), result
print(len(shipped()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 1


def test_names_of_the_notebook_are_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    monkeypatch.setattr(__main__, "kl_per_latent", "no function", raising=False)
    assert "TypeError" in repr(Notebook("05").check("q1"))
    monkeypatch.setenv("GENTEXT_GRADING", "1")
    assert "graded from outside" in repr(Notebook("05").check("q1"))


# ---- the judge -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_submission_is_asked_from_outside() -> None:
    question = one_question(
        """def test_many(env):
    from gentext.classroom import answer, close, gradients, raises
    import torch
    close(answer(env, "apply")(lambda x, y=0: x + y, 3.0), 4.0, "the test's own function is called")
    with raises(ValueError, "negative"):
        answer(env, "apply")(None, -1.0)
    layer = answer(env, "layer")
    assert layer.in_features == 2
    assert layer(torch.ones(1, 2)).shape == (1, 1)
    assert answer(env, "pair")() == (1, {"a": [None, ...]})
    _, (slope,) = gradients(answer(env, "cube"), torch.tensor([2.0]))
    close(slope, torch.tensor([12.0]), "3 x²")
    state = torch.Generator().manual_seed(5)
    close(answer(env, "noise")(state), torch.randn(3, generator=torch.Generator().manual_seed(5)), "the generator")
""",
        "def test_odd(env):\n    from gentext.classroom import answer\n    answer(env, 'odd')()",
        "def test_failing_callback(env):\n"
        "    from gentext.classroom import answer\n"
        "    def broken(*_, **__):\n        raise KeyError('k')\n"
        "    answer(env, 'apply')(broken, 1.0)",
    )
    cells = [
        "!pip install nothing\n%pip install nothing\nimport torch",
        "%%bash\nexit 3\n",
        "def apply(f, x):\n    if x < 0:\n        raise ValueError('negative')\n    return f(x, y=1)",
        "layer = torch.nn.Linear(2, 1)\ndef pair():\n    return 1, {'a': [None, ...]}",
        "def cube(x):\n    return x**3\ndef noise(generator):\n    return torch.randn(3, generator=generator)",
        "class Odd(Exception): pass\ndef odd():\n    raise Odd('strange')",
        "1 / 0",
    ]
    outcome = judge(cells, question, QUICK)
    assert outcome.status == "graded"
    assert outcome.reason == "cell 7: ZeroDivisionError: division by zero"
    said = [one.message for one in outcome.scores[0].checked]
    assert said[0] == ""
    assert "`odd` raised Odd: strange" in said[1]
    assert "line 3 of a cell: raise Odd" in said[1]
    assert "KeyError" in said[2]


@pytest.mark.slow
def test_what_is_borrowed_is_found_in_the_other_process() -> None:
    question = one_question(
        "def test_kl(env):\n"
        "    from gentext.classroom import answer\n"
        "    import torch\n"
        "    answer(env, 'f')(torch.zeros(2, 2))"
    )
    for cell in (
        "from gentext.nn import DiagonalGaussian\ndef f(x):\n    return DiagonalGaussian(x, x).kl_per_latent()",
        "import importlib\n"
        "def f(x):\n    return importlib.import_module('gentext.nn').DiagonalGaussian(x, x).kl_per_latent()",
    ):
        outcome = judge([cell], question, QUICK)
        assert marks(outcome) == [0]
        assert "you are asked to write it yourself" in outcome.scores[0].checked[0].message


def test_a_process_that_does_not_read_cannot_keep_the_grader_waiting() -> None:
    class Deaf:
        inward, outward = os.pipe()
        limits = Limits(seconds=0.5)

        def excess(self) -> None:
            return None

    os.set_blocking(Deaf.outward, False)
    with pytest.raises(Gone) as caught:
        Channel(Deaf(), Deaf.limits).ask({"do": "call", "args": "x" * 2_000_000})
    assert caught.value.status == "timed out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "words"),
    [
        ("os.close(n)", "its process"),
        ("os.write(n, message({'errors': [1]}))", "no answer is"),
        ("os.write(n, message({'errors': [], 'names': 3, 'value': {'float': 'x'}}) * 3)", "no answer is"),
    ],
)
def test_a_forged_reply_ends_the_submission_and_not_the_grading(write: str, words: str) -> None:
    cell = f"""
import json, os, struct
def message(value):
    text = json.dumps(value).encode()
    return struct.pack(">I", len(text)) + text
for n in range(3, 4096):
    try:
        {write}
    except OSError:
        pass
"""
    outcome = judge([RIGHT, cell], TWICE, QUICK)
    assert outcome.status == "crashed"
    assert words in outcome.reason


@pytest.mark.slow
def test_a_grader_with_many_open_files_grades_all_the_same() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1400:
        pytest.skip("no process may have so many open files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1400, hard))
    kept = []
    try:
        kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        outcome = judge([RIGHT], TWICE, QUICK)
    finally:
        for number in kept:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcome.status == "graded"
    assert marks(outcome) == [2]


@pytest.mark.slow
def test_a_home_is_small() -> None:
    outcome = judge([RIGHT, "for i in range(30):\n    open(f'f{i}', 'wb').write(bytes(30_000_000))"], TWICE, QUICK)
    assert marks(outcome) == [2]
    if "writing outside its home" in outcome.guarded:
        assert "No space left" in outcome.reason


def test_limits_must_make_sense() -> None:
    with pytest.raises(ValueError, match="seconds must be positive, got 0"):
        Limits(seconds=0)


# ---- folders ---------------------------------------------------------------------------------------------------------


def write_notebook(path: Path, *cells: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": cell} for cell in cells]}))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("anna/05.ipynb", "anna"),
        ("anna/deep/er/05.ipynb", "anna"),
        ("Copy of berta.ipynb", "berta"),
        ("Kopie von Copy of berta (2).ipynb", "berta"),
        ("lee_123_456_05-vae.ipynb", "lee_123_456_05-vae"),
    ],
)
def test_whose_file_it_is(path: str, name: str) -> None:
    assert student(Path(path)) == name


def test_files_that_are_no_notebooks_are_named_with_the_reason(tmp_path: Path) -> None:
    cases = {
        "broken.ipynb": ("{", "not valid JSON"),
        "list.ipynb": ("[]", "it has no cells"),
        "odd.ipynb": ('{"cells": [1]}', "a cell has no type"),
        "empty.ipynb": ('{"cells": []}', "no code cells"),
        "essay.pdf": ("%PDF-1.7 \x00\x01", "not valid JSON"),
    }
    for name, (text, words) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(Unreadable, match=words):
            read_cells(tmp_path / name)
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "essay.pdf")
    with pytest.raises(Unreadable, match="a link"):
        read_cells(tmp_path / "link.ipynb")
    with (tmp_path / "large.ipynb").open("wb") as file:
        file.truncate(30 << 20)
    with pytest.raises(Unreadable, match="30 MB large"):
        read_cells(tmp_path / "large.ipynb")
    write_notebook(tmp_path / "long.ipynb", *["1"] * 501)
    with pytest.raises(Unreadable, match="501 code cells"):
        read_cells(tmp_path / "long.ipynb")
    (tmp_path / "mark.ipynb").write_bytes(
        b"\xef\xbb\xbf" + (b'{"cells": [{"cell_type": "code", "source": ["a = 1"]}]}')
    )
    assert read_cells(tmp_path / "mark.ipynb") == ["a = 1"]
    assert len(find(tmp_path)) == 9
    with pytest.raises(ValueError, match="is no folder"):
        find(tmp_path / "nowhere")
    (tmp_path / "hollow/.git").mkdir(parents=True)
    (tmp_path / "hollow/.git/x").touch()
    with pytest.raises(ValueError, match="there is no file"):
        find(tmp_path / "hollow")


def by_length(cells: list[str], assignment: Assignment, limits: Limits, hide: tuple[str, ...]) -> Outcome:
    """A judge for the tests of what is around it: as many points as cells."""
    checked = Checked("test 0", 1.0, float(len(cells)), "" if len(cells) == 1 else "too long")
    return Outcome("graded", "", [Score("q1", 2.0, (checked,))], 0.1, ("network",))


def test_grading_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    folder, store = tmp_path / "in", tmp_path / "work"
    for name in "abcdef":
        write_notebook(folder / f"{name}.ipynb", "1")
    calls = []

    def stops(cells: list[str], *rest: object) -> Outcome:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return by_length(cells, *rest)

    with pytest.raises(KeyboardInterrupt):
        grade_folder(folder, TWICE, store, jobs=1, progress=False, by=stops)
    kept = len(list(store.glob("*.json")))
    assert 2 <= kept < 6
    seed = (store / "seed").read_text()
    calls.clear()

    def counts(cells: list[str], *rest: object) -> Outcome:
        calls.append(1)
        return by_length(cells, *rest)

    graded = grade_folder(folder, TWICE, store, jobs=2, progress=False, by=counts)
    assert [one.file for one in graded] == [f"{name}.ipynb" for name in "abcdef"]
    assert len(calls) == 6 - kept
    assert (store / "seed").read_text() == seed
    calls.clear()
    write_notebook(folder / "a.ipynb", "1", "2")  # handed in anew
    next(iter(store.glob("*.json"))).write_text("{")  # a disk that was full
    again = grade_folder(folder, TWICE, store, jobs=2, progress=False, by=counts)
    assert len(again) == 6
    assert 1 <= len(calls) <= 2
    assert load(store / "nothing.json") is None
    calls.clear()
    grade_folder(folder, one_question("def test_other(env):\n    pass"), store, progress=False, by=counts)
    assert len(calls) == 6, "other tests, other marks"


def test_only_what_ran_into_a_limit_is_judged_again_under_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SEED, raising=False)
    write_notebook(tmp_path / "in/quick.ipynb", "1")
    write_notebook(tmp_path / "in/slow.ipynb", "1", "2")
    calls, seeds = [], set()

    def by(cells: list[str], assignment: Assignment, limits: Limits, hide: tuple[str, ...]) -> Outcome:
        calls.append(len(cells))
        seeds.add(fresh().initial_seed())
        if len(cells) == 2 and limits.seconds < 100:
            return Outcome("timed out", "too slow")
        return by_length(cells, assignment, limits, hide)

    def grade(seconds: float) -> list[str]:
        calls.clear()
        limits = Limits(seconds=seconds)
        rows = grade_folder(tmp_path / "in", TWICE, tmp_path / "work", limits=limits, jobs=1, progress=False, by=by)
        return [row.outcome.status for row in rows]

    assert grade(50) == ["graded", "timed out"]
    assert len(calls) == 2
    assert grade(50) == ["graded", "timed out"]
    assert calls == []
    assert grade(200) == ["graded", "graded"]
    assert calls == [2]
    assert len(seeds) == 1, "a class has the same data, also the next day"
    assert SEED not in os.environ, "and only the class"


def test_a_folder_that_holds_the_program_is_refused(tmp_path: Path) -> None:
    package = Path(sys.modules["gentext.classroom"].__file__).parent
    with pytest.raises(ValueError, match="holds this program itself"):
        grade_folder(package, TWICE, tmp_path / "work", progress=False, by=by_length)


def test_the_machines_fault_is_no_ones_zero(tmp_path: Path) -> None:
    write_notebook(tmp_path / "in/a.ipynb", "1")

    def fails(*_: object) -> Outcome:
        raise OSError("no space")

    (one,) = grade_folder(tmp_path / "in", TWICE, tmp_path / "work", progress=False, by=fails)
    assert one.outcome.status == "not graded"
    (one,) = grade_folder(tmp_path / "in", TWICE, tmp_path / "work", progress=False, by=by_length)
    assert one.outcome.status == "graded"


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_the_table_and_the_feedback(tmp_path: Path) -> None:
    manual = Question("q2", 3.0, manual=True)
    assignment = Assignment("99-toy", "Toy", (*TWICE.questions, manual), {})
    checked = (Checked("test 0", 1.0, 1.0), Checked("test 1", 1.0, 0.0, "twice\nis not thrice"))
    rows = [
        Graded(
            "anna", "anna/a.ipynb", Outcome("graded", "", [Score("q1", 2.0, checked)], 3.14, ("network",)), "d1", QUICK
        ),
        Graded("=berta", "=berta.ipynb", Outcome("timed out", "it ran on", [], 60.0), "d2", QUICK),
        Graded(
            "carl", "c.ipynb", Outcome("graded", "cell 1: KeyError", [Score("q1", 2.0, checked[1:])], 1.0), "d1", QUICK
        ),
    ]
    write_table(tmp_path / "grades.csv", assignment, rows)
    with (tmp_path / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        anna, berta, carl = csv.DictReader(file)
    assert (anna["total"], anna["out of"], anna["q1"], anna["q2 (by hand)"], anna["seconds"]) == (
        "1",
        "2",
        "1",
        "",
        "3.1",
    )
    assert anna["same as"] == "c.ipynb"
    assert berta["student"] == "'=berta", "no formula for a spreadsheet"
    assert (berta["total"], berta["q1"], berta["status"], berta["reason"]) == ("", "", "timed out", "it ran on")
    assert carl["total"] == "0"
    page = feedback(assignment, rows[0])
    assert "**1 of 2 points**" in page
    assert "✗ test 1 (with data of its own): twice is not thrice" in page
    assert "q2: read by your teacher, 3 points" in page
    assert "could not be graded (timed out): it ran on" in feedback(assignment, rows[1])
    told = summary(rows)
    assert "2 graded, 1 timed out" in told
    assert "=berta.ipynb: timed out: it ran on" in told
    assert "nothing but the limits" in told


def test_a_score_sums_its_tests() -> None:
    score = run_question(TWICE.questions[0], {"f": lambda x: 2.0})
    assert score.earned == 1
    assert [one.passed for one in score.checked] == [True, False]
