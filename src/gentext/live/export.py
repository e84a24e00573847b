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
    """Write one figure's networks and state into `folder`, which is emptied of earlier ones first."""
    contents = figure.published()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [*folder.glob("*.onnx"), *folder.glob("state.json")]:
        stale.unlink()
    written = [export_network(folder / f"{name}.onnx", network) for name, network in contents.networks.items()]
    sizes = {path.stem: path.stat().st_size for path in written}
    state = {**contents.state, "networks": sizes}  # the sizes let the page show how far a download has come
    path = folder / "state.json"
    path.write_text(json.dumps(state, ensure_ascii=False, separators=(",", ":"), allow_nan=False), encoding="utf-8")
    return [*written, path]
