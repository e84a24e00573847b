"""Set-up, sources and reports, alone and together in a real kernel."""

import math
import os
import random

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from gentext import metrics, notebook
from gentext._device import device


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(notebook, "display", lambda bundle, *, raw: outputs.append(bundle) if raw else None)
    return outputs


def test_setup_seeds_everything_and_returns_the_device():
    draws = []
    for _ in range(2):
        assert notebook.setup(seed=3) == device()
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
    assert draws[0] == draws[1]


def test_setup_uses_the_cores_it_may_use_unless_told(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr(notebook, "usable_cores", lambda: 1)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        notebook.setup()
        assert torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        torch.set_num_threads(3)
        notebook.setup()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_setup_silences_nothing():
    import warnings

    before = list(warnings.filters)
    notebook.setup()
    assert warnings.filters == before


def test_usable_cores_are_at_most_the_machines():
    assert 1 <= notebook.usable_cores() <= os.cpu_count()


@pytest.mark.parametrize(("text", "cores"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8), (None, 8)])
def test_usable_cores_of_a_container(monkeypatch, tmp_path, text, cores):
    limit = tmp_path / "cpu.max"
    if text is not None:
        limit.write_text(text)
    monkeypatch.setattr(notebook, "CPU_LIMIT", limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert notebook.usable_cores() == cores


def test_show_source_shows_code_with_its_docstring(shown):
    notebook.show_source(metrics.psnr, metrics.active_units)
    (bundle,) = shown
    text = bundle["text/markdown"]
    assert text.startswith("```python\ndef psnr(")
    assert text.endswith("\n```")
    assert "Peak signal-to-noise ratio" in text
    assert "\n\n\ndef active_units(" in text


def test_show_source_takes_methods_properties_and_classes_with_their_decorators(shown):
    from gentext.nn import DiagonalGaussian

    notebook.show_source(DiagonalGaussian.kl, DiagonalGaussian.std)
    notebook.show_source(DiagonalGaussian)
    assert shown[0]["text/plain"].startswith("def kl(self")  # flush left, though it stands inside a class
    assert "@property\ndef std(self)" in shown[0]["text/plain"]
    assert shown[1]["text/plain"].startswith("@dataclass(frozen=True)\nclass DiagonalGaussian")


@pytest.mark.parametrize("arguments", [(), (len,), (3,)])
def test_show_source_refuses_what_has_no_source(arguments):
    with pytest.raises(ValueError, match=r"pass (at least one|a) function"):
        notebook.show_source(*arguments)


@pytest.mark.parametrize(
    ("value", "unit", "line"),
    [
        (86.82, "nats", "−ELBO: 86.8 nats (± 0.1)"),
        (torch.tensor(86.75), "", "−ELBO: 86.8 (± 0.1)"),
        (87.3, "nats", "−ELBO: 87.3 nats; the book has 86.8 nats (± 0.1)"),
        (math.nan, "", "−ELBO: nan; the book has 86.8 (± 0.1)"),
        (math.inf, "", "−ELBO: inf; the book has 86.8 (± 0.1)"),
    ],
)
def test_report_prints_the_books_number_within_its_tolerance_and_the_measured_one_beyond(value, unit, line, capsys):
    notebook.report("−ELBO", value, book=86.8, within=0.1, unit=unit)
    assert capsys.readouterr().out == line + "\n"


def test_report_takes_the_tolerance_to_the_last_digit(capsys):
    notebook.report("a", 0.3, book=0.2, within=0.1)  # 0.3 − 0.2 is 0.09999… in floating point; 0.2 − 0.1 likewise
    notebook.report("b", 1.1, book=1.0, within=0.1)  # 0.10000000000000009
    assert "the book has" not in capsys.readouterr().out


@pytest.mark.parametrize("within", [-0.1, math.nan])
def test_report_refuses_a_senseless_tolerance(within):
    with pytest.raises(ValueError, match="at least 0"):
        notebook.report("a", 1.0, book=1.0, within=within)


CELLS = [
    "from gentext import notebook, plots\ndevice = notebook.setup(seed=0)",
    "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([0, 1])\nplots.show(fig, 'It rises.')",
    "import plotly.graph_objects as go\nposter, ax = plt.subplots()\nax.plot([0, 1])\n"
    "plots.interactive(go.Figure(go.Scatter(y=[0, 1])), poster, 'It rises too.')",
    "notebook.show_source(notebook.report)",
    "notebook.report('loss', 1.04, book=1.0, within=0.1, unit='nats')",
]


@pytest.mark.slow
def test_all_of_it_in_a_kernel():
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    book = NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=300, kernel_name="python3").execute()
    nbformat.validate(book)
    outputs = [cell["outputs"] for cell in book.cells]
    assert outputs[0] == []
    assert [len(output) for output in outputs[1:]] == [1, 1, 1, 1]  # each figure once, none left over
    assert outputs[1][0]["metadata"]["image/png"]["alt"] == "It rises."
    assert set(outputs[2][0]["data"]) == {"text/plain", "image/png", "application/vnd.plotly.v1+json"}
    assert outputs[3][0]["data"]["text/markdown"].startswith("```python\ndef report(")
    assert outputs[4][0]["text"] == "loss: 1.0 nats (± 0.1)\n"
