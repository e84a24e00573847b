"""Is the book at home in Colab? (`make colab`)

    colab.py dry-run            resolve gentext against Colab's package list: nothing of Colab's may change
    colab.py run CHAPTER...     a virtual environment with Colab's versions, and the chapters run in it

The list is `tests/colab/packages.txt`; the variable COLAB_PACKAGES names another, such as this week's.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-colab"
PYTHON = os.environ.get("COLAB_PYTHON", "3.13")
# What Colab itself uses to run a notebook; gentext's own dependencies come from pyproject.toml.
KERNEL = ("ipykernel", "ipython")
# Colab builds torch against its own CUDA; the registry's wheel of the same version asks for other libraries.
BUNDLED_WITH_TORCH = ("nvidia-", "cuda-", "triton")
# Colab's own IPython asks for jedi and Colab leaves it out; any pip install there adds it back.
MISSING_THERE = ("jedi",)


def uv() -> str:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        sys.exit("uv is missing: run this through make, or pip install uv")
    return found


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def colab_packages() -> dict[str, str]:
    """Colab's packages, normalised name -> version, without local parts (2.11.0+cpu is 2.11.0 on the registry)."""
    path = Path(os.environ.get("COLAB_PACKAGES", ROOT / "tests/colab/packages.txt"))
    if not path.exists():
        sys.exit(f"no package list at {path}: set COLAB_PACKAGES to the output of pip freeze in Colab")
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;+]+)", path.read_text(), flags=re.MULTILINE)
    return {normalise(name): version for name, version in pins if not name.startswith(BUNDLED_WITH_TORCH)}


def resolve(requirements: list[str]) -> dict[str, str]:
    """What installing `requirements` over Colab's packages would give, as uv resolves it."""
    constraints = "\n".join(f"{name}=={version}" for name, version in colab_packages().items())
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(constraints)
        file.flush()
        command = [uv(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", "3.13"]
        command += ["--python-platform", "x86_64-manylinux_2_28", "--constraint", file.name, "-"]
        result = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        sys.exit(f"gentext cannot be installed beside Colab's packages:\n{result.stderr}")
    return {normalise(n): v for n, v in re.findall(r"^([\w.-]+)==(\S+)", result.stdout, flags=re.MULTILINE)}


def gentext_dependencies() -> list[str]:
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def dry_run() -> int:
    have = colab_packages()
    wanted = resolve(gentext_dependencies())
    changed = {name: (have[name], v) for name, v in wanted.items() if name in have and v != have[name]}
    added = sorted(name for name in wanted if name not in have)
    added = [name for name in added if not name.startswith(BUNDLED_WITH_TORCH) and name not in MISSING_THERE]
    print(f"{len(wanted)} packages needed, {len(changed)} of Colab's changed, {len(added)} added: {', '.join(added)}")
    for name, (old, new) in changed.items():
        print(f"  {name} {old} -> {new}")
    return int(bool(changed) or bool(added))


def find_python() -> str:
    """An interpreter of Colab's version: on the PATH, or where pyenv keeps them, or whatever uv can fetch."""
    found = shutil.which(f"python{PYTHON}")
    if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
        return found
    pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{PYTHON}*/bin/python"))
    return str(pyenv[-1]) if pyenv else PYTHON


def run(chapters: list[Path]) -> int:
    pins = {**resolve([*gentext_dependencies(), *KERNEL])}
    print(f"building {VENV.name}: Python {PYTHON}, {len(pins)} packages at Colab's versions", flush=True)
    subprocess.run([uv(), "venv", "--quiet", "--clear", "--python", find_python(), str(VENV)], check=True)
    install = [uv(), "pip", "install", "--quiet", "--python", str(VENV / "bin/python")]
    subprocess.run([*install, *(f"{n}=={v}" for n, v in pins.items())], check=True)
    subprocess.run([*install, "--no-deps", "-e", str(ROOT)], check=True)

    from execute import execute  # beside this file

    failed = 0
    with tempfile.TemporaryDirectory() as folder:  # a chapter runs on a copy: this job stores nothing
        for chapter in chapters:
            copy = Path(folder) / chapter.name
            shutil.copy(chapter, copy)
            try:
                print(f"{chapter.name}: {execute(copy, str(VENV / 'bin/python')):.0f} s", flush=True)
            except Exception as error:
                failed += 1
                print(f"{chapter.name}: FAILED\n{error}", flush=True)
    print(f"{len(chapters) - failed} passed, {failed} failed", flush=True)
    return int(failed > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dry-run", "run"))
    parser.add_argument("chapters", nargs="*", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "dry-run":
        return dry_run()
    return run(arguments.chapters or sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb")))


if __name__ == "__main__":
    sys.exit(main())
