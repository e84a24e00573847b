"""Execute chapters from a clean kernel, in order, and store their outputs (`make run`).

A chapter that fails leaves its file as it was and the error on the screen.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT_S = 600  # per cell; a chapter is meant to take at most 120 s


def execute(path: Path, python: str = sys.executable, extra_env: dict[str, str] | None = None) -> float:
    """Run one notebook with the given interpreter, store it, and return the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=TIME_LIMIT_S, resources={"metadata": {"path": str(path.parent)}}, record_timing=False
    )
    client.create_kernel_manager()
    assert client.km is not None
    client.km.kernel_spec.argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    # A progress bar, a warning and an address differ from run to run and would be stored.
    env = {**os.environ, "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", **(extra_env or {})}
    start = time.perf_counter()
    client.execute(env=env, cleanup_kc=True)
    seconds = time.perf_counter() - start
    clean(notebook)
    nbformat.write(notebook, path)
    return seconds


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what one machine leaves behind: widget state (figures carry a poster), kernel and Python versions."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    chosen = parser.parse_args().notebooks or sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb"))
    failed = 0
    for path in chosen:
        print(f"{path.name}: running", flush=True)
        try:
            print(f"{path.name}: stored, {execute(path):.0f} s", flush=True)
        except CellExecutionError as error:
            failed += 1
            print(f"{path.name}: not stored, a cell failed\n{error}", file=sys.stderr, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
