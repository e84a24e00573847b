"""The front-end files: `.mjs` beside this one, bundled for the kernel, copied for the browser."""

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
STYLES = ("live.css", "live_models.css")  # the second needs the first
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z_]+\.mjs)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function|class|const|let)", re.MULTILINE)


def style() -> str:
    """The style sheets of all live figures, as one."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in STYLES)


@cache
def bundle(figure: str) -> str:
    """One ECMAScript module for a figure: its file with all that it imports written above it.

    anywidget takes a single module. Our files import by name from files beside them and never rename, so pasting
    each once, in the order of need, without its `import` and `export` words, is a bundler.
    """
    return _with_imports(f"{figure}.mjs", set())


def _with_imports(name: str, done: set[str]) -> str:
    done.add(name)
    source = (FOLDER / name).read_text(encoding="utf-8")
    needed = [
        re.sub(_EXPORT, "", _with_imports(imported, done))
        for imported in _IMPORT.findall(source)
        if imported not in done
    ]
    return "".join(needed) + re.sub(_IMPORT, "", source)


def files() -> list[Path]:
    """Every file that a published page needs: the figures, what they share, the host, the style sheets."""
    return [*sorted(FOLDER.glob("*.mjs")), *(FOLDER / name for name in STYLES)]
