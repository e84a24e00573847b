"""What the browser host needs, written at build: networks as ONNX, each figure's state, the front-end files."""

import json
import shutil
from pathlib import Path

from gentext.live import front
from gentext.live.base import LiveFigure
from gentext.live.onnx_file import export_network


def export_all(out: Path, figures: list[str] | None = None) -> list[Path]:
    """Write the published figures into `out` and return the files written.

    `out` gets the front-end files, and per figure a folder with `<network>.onnx` files and `state.json`.
    figures: names such as "latent_explorer"; all of them when None. Raises ValueError for a name that does not exist.
    """
    from gentext.live import FIGURES  # here, because the figures' own modules need not load to export one network

    unknown = sorted(set(figures or ()) - set(FIGURES))
    if unknown:
        raise ValueError(f"There is no live figure {', '.join(unknown)}; there are {', '.join(FIGURES)}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    written = [Path(shutil.copyfile(path, out / path.name)) for path in front.files()]
    for name in figures or FIGURES:
        written += export_figure(out / name, FIGURES[name])
    return written


def export_figure(folder: Path, figure: type[LiveFigure]) -> list[Path]:
    """Write one figure's networks and state into `folder`, in place of what was there, and return the files.

    All or nothing: the files are written beside it first, so that an export that fails or is stopped leaves the page
    with the figure it had.
    """
    contents = figure.published()
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        partial.mkdir(parents=True)
        written = [export_network(partial / f"{name}.onnx", network) for name, network in contents.networks.items()]
        sizes = {path.stem: path.stat().st_size for path in written}
        state = {**contents.state, "networks": sizes}  # the sizes let the page show how far a download has come
        text = json.dumps(state, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        (partial / "state.json").write_text(text, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(folder.iterdir())
