"""What `gentext doctor` looks at: each finding says what is there and, where something is wrong, what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

NEWEST_TRIED = (3, 13)  # the Python versions that the project's tests and Colab's job cover
FREE_DISK_WANTED = 0.5e9  # bytes: both torchvision sets, with room for checkpoints


@dataclass(frozen=True)
class Finding:
    """One line of the report. `advice` is empty if nothing needs doing; `serious` means that the book will not run."""

    what: str
    found: str
    advice: str = ""
    serious: bool = False


def examine() -> Iterator[Finding]:
    """All findings, in an order that helps: the ground first."""
    yield check_gentext()
    yield check_python(
        sys.version_info[:3], (importlib.metadata.metadata("gentext").get_all("Requires-Python") or [""])[0]
    )
    yield check_place(on_colab())
    for requirement in requirements():
        yield check_package(requirement)
    yield check_torchvision()
    yield from check_device()
    yield check_threads()
    yield check_data_folder(data_folder())
    yield check_zoo()


def check_gentext() -> Finding:
    return Finding("gentext", f"{importlib.metadata.version('gentext')} in {Path(__file__).parent}")


def check_python(version: tuple[int, ...], required: str) -> Finding:
    text = ".".join(map(str, version))
    found = f"{text} on {platform.system()} {platform.machine()}"
    if required and text not in SpecifierSet(required):
        return Finding("Python", found, f"gentext needs Python {required}: make a new environment with one", True)
    if version[:2] > NEWEST_TRIED:
        newest = ".".join(map(str, NEWEST_TRIED))
        return Finding(
            "Python", found, f"newer than what gentext is tested with (3.11 to {newest}): use {newest} if it fails"
        )
    return Finding("Python", found)


def on_colab() -> bool:
    """Google Colab's runtimes carry a package of their own and name their release in the environment."""
    if "COLAB_RELEASE_TAG" in os.environ:
        return True
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # no package `google` at all
        return False


def check_place(colab: bool) -> Finding:
    if colab:
        return Finding("place", f"Google Colab (release {os.environ.get('COLAB_RELEASE_TAG', 'unknown')})")
    inside = sys.prefix != sys.base_prefix
    return Finding(
        "place", f"not Colab; Python environment {sys.prefix}" if inside else "not Colab; the system's Python"
    )


def requirements() -> list[Requirement]:
    """The core dependencies as the installed package states them, without the extras."""
    stated = [Requirement(text) for text in importlib.metadata.requires("gentext") or []]
    return [
        requirement
        for requirement in stated
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]


def check_package(requirement: Requirement) -> Finding:
    """Compare an installed version with its supported range."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(requirement.name, "not installed", f'pip install "{requirement}"', True)
    if not requirement.specifier.contains(version, prereleases=True):
        wanted = str(requirement.specifier)
        return Finding(requirement.name, f"{version}, needs {wanted}", f'pip install --upgrade "{requirement}"', True)
    return Finding(requirement.name, f"{version} (needs {requirement.specifier})")


def check_torchvision() -> Finding:
    """Builds of torch and torchvision from different places install together and fail on import."""
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        advice = "torch and torchvision are builds that do not fit: reinstall both together, from the same place"
        return Finding("torch with torchvision", reason, advice, True)
    return Finding("torch with torchvision", f"work together ({torchvision.__version__})")


def check_device() -> Iterator[Finding]:
    import torch

    import gentext
    from gentext.train.config import has_fast_bf16

    chosen = gentext.device()
    arithmetic = "bf16" if has_fast_bf16(chosen) else "fp32"
    if chosen.type == "cuda":
        properties = torch.cuda.get_device_properties(chosen)
        memory = properties.total_memory / 2**30
        yield Finding("device", f"{properties.name}, {memory:.0f} GiB, trains in {arithmetic}")
        return
    advice = ""
    if chosen.type == "cpu" and shutil.which("nvidia-smi"):
        advice = f"there is an NVIDIA driver, but this torch ({torch.__version__}) cannot use it: install a CUDA build"
    elif chosen.type == "cpu" and on_colab():
        advice = "the book runs on a CPU; for a GPU choose Runtime > Change runtime type"
    name = "Apple GPU (mps)" if chosen.type == "mps" else "CPU"
    yield Finding("device", f"{name}, trains in {arithmetic}", advice)


def check_threads() -> Finding:
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    found = f"torch uses {threads} of {cores} cores"
    variable = os.environ.get("OMP_NUM_THREADS")
    if threads > cores:
        return Finding("threads", found, "more threads than cores slow each other down: unset OMP_NUM_THREADS")
    if threads < cores and variable:
        found += f" (OMP_NUM_THREADS={variable})"
    return Finding("threads", found)


def data_folder() -> Path:
    """Where downloaded data sets live."""
    from gentext import data

    return data.folder()


def check_data_folder(folder: Path) -> Finding:
    """The glyphs come with the package; only MNIST and Fashion-MNIST need a folder."""
    present = [name for name in ("MNIST", "FashionMNIST") if (folder / name / "raw").is_dir()]
    found = f"glyphs in the package; {folder} holds {' and '.join(present) or 'nothing yet'}"
    if len(present) == 2:
        return Finding("data", found)
    ground = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not ground.is_dir() or not os.access(ground, os.W_OK):
        return Finding("data", found, "downloads cannot be written there: set GENTEXT_DATA to a folder of yours")
    if shutil.disk_usage(ground).free < FREE_DISK_WANTED:
        return Finding("data", found, "under 0.5 GB free: make room, or set GENTEXT_DATA to a folder on another disk")
    return Finding("data", f"{found}; missing sets are downloaded when first asked for")


def check_zoo() -> Finding:
    """Read each card, not the weights."""
    from gentext import zoo

    broken = []
    for name in zoo.names():
        try:
            zoo.card(name)
        except ValueError:
            broken.append(name)
    found = f"{len(zoo.names())} trained models"
    if broken:
        return Finding("zoo", found, f"{', '.join(broken)} cannot be read: reinstall gentext", True)
    if not zoo.names():
        return Finding("zoo", found, "this installation has no trained weights: reinstall gentext", True)
    return Finding("zoo", found)
