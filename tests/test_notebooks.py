"""Hygiene of the chapters: what nbval cannot see. (nbval itself compares every output, `make notebooks`.)"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb"))
LOOSE_TAGS = {"nbval-ignore-output", "nbval-skip"}
SETUP = (ROOT / "book/setup_cell.py").read_text().strip()


def source(cell: dict) -> str:
    return "".join(cell["source"])


def code_cells(chapter: dict) -> list[dict]:
    return [cell for cell in chapter["cells"] if cell["cell_type"] == "code" and source(cell).strip()]


def outputs(chapter: dict) -> list[dict]:
    return [output for cell in code_cells(chapter) for output in cell["outputs"]]


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request: pytest.FixtureRequest) -> dict:
    loaded = json.loads(request.param.read_text())
    loaded["path"] = request.param
    return loaded


def test_there_are_chapters() -> None:
    assert CHAPTERS


def test_executed_in_order_from_a_clean_kernel(chapter: dict) -> None:
    counts = [cell["execution_count"] for cell in code_cells(chapter)]
    assert counts == list(range(1, len(counts) + 1))
    assert len(outputs(chapter)) > len(counts) / 3, "a chapter without outputs passes nbval without being compared"


def test_no_cell_is_empty(chapter: dict) -> None:
    assert all(source(cell).strip() for cell in chapter["cells"])


def test_no_output_is_an_error_or_a_complaint(chapter: dict) -> None:
    for output in outputs(chapter):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output["text"]


def test_every_reported_number_lies_within_its_tolerance(chapter: dict) -> None:
    text = "".join("".join(output.get("text", "")) for output in outputs(chapter))
    assert "the book has" not in text, "a stored number is not the one the chapter states: change the `book=` argument"


def test_first_code_cell_is_the_setup_template(chapter: dict) -> None:
    assert source(code_cells(chapter)[0]).strip() == SETUP


def test_code_cells_are_short(chapter: dict) -> None:
    for cell in code_cells(chapter)[1:]:
        lines = source(cell).strip().splitlines()
        assert len(lines) <= 25, f"{len(lines)} lines, starting {lines[0]!r}"


def test_at_most_one_cell_in_ten_escapes_comparison_and_says_why(chapter: dict) -> None:
    cells = code_cells(chapter)
    loose = [cell for cell in cells if LOOSE_TAGS & set(cell["metadata"].get("tags", []))]
    assert len(loose) <= len(cells) / 10
    for cell in loose:
        reason = cell["metadata"].get("nbval", {}).get("reason", "")
        assert len(reason) > 20, f"no reason in metadata.nbval.reason: {source(cell)[:80]!r}"
    for cell in cells:  # a marker in a comment is easily lost (nbval ignores it when anything follows)
        assert not re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", source(cell))


def test_every_picture_has_a_text_alternative(chapter: dict) -> None:
    for output in outputs(chapter):
        data = output.get("data", {})
        if "image/png" in data:
            alt = output["metadata"].get("image/png", {}).get("alt", "")
            assert len(alt) > 40, f"too short to say what a sighted reader would conclude: {alt!r}"
        for image in re.findall(r"<img\b[^>]*>", "".join(data.get("text/html", ""))):
            assert re.search(r'alt="[^"]{20,}', image), image[:120]


def test_numbers_are_printed_beside_pictures(chapter: dict) -> None:
    """nbval does not compare pictures, so a chapter that only draws is not checked."""
    streams = [output for output in outputs(chapter) if output["output_type"] == "stream"]
    pictures = [output for output in outputs(chapter) if "image/png" in output.get("data", {})]
    assert len(streams) >= len(pictures) / 2


def test_no_trace_of_one_machine(chapter: dict) -> None:
    text = chapter["path"].read_text()
    assert not re.search(r"/(home|root|Users|tmp|work)/", re.sub(r"https?://\S+", "", text))
    assert "widgets" not in chapter["metadata"], "widget state is stored; figures carry their own poster"
    assert chapter["metadata"]["language_info"] == {"name": "python"}


def test_colab_metadata(chapter: dict) -> None:
    assert chapter["metadata"]["accelerator"] == "GPU"
    assert chapter["metadata"]["colab"] == {"provenance": [], "gpuType": "T4"}


def test_size(chapter: dict) -> None:
    assert chapter["path"].stat().st_size < 1_500_000


def test_chapter_has_its_parts_in_order(chapter: dict) -> None:
    text = "\n".join(source(cell) for cell in chapter["cells"] if cell["cell_type"] == "markdown")
    position = -1
    for part in ("Where the field went", "Summary", "Exercises", "Self-check", "Assignment", "Further reading"):
        found = re.search(rf"^#+ .*{part}", text, flags=re.MULTILINE | re.IGNORECASE)
        assert found, f"no heading {part!r}"
        assert found.start() > position, f"{part!r} is out of order"
        position = found.start()
    assert text.count("```{exercise") >= 4
    assert text.count("```{exercise") == text.count("```{solution")
    assert text.count("<details") >= 6, "the quiz folds an explanation behind every answer"


def test_it_opens_its_assignment_in_colab(chapter: dict) -> None:
    text = "\n".join(source(cell) for cell in chapter["cells"] if cell["cell_type"] == "markdown")
    name = chapter["path"].stem
    student = f"assignments/{name}/student/{name}.ipynb"
    assert f"https://colab.research.google.com/github/gentext-book/gentext/blob/main/{student})" in text
    assert (ROOT / student).is_file()
    notebook = json.loads((ROOT / student).read_text())
    assert source(code_cells(notebook)[0]).startswith(SETUP.split("from gentext")[0].strip())


def test_chapter_has_module_tests_and_one_live_figure(chapter: dict) -> None:
    text = "\n".join(source(cell) for cell in code_cells(chapter))
    assert re.search(r"from gentext\.live import \w+", text)
    html = ["".join(o.get("data", {}).get("text/html", "")) for o in outputs(chapter)]
    assert any("gentext-live" in piece for piece in html)
