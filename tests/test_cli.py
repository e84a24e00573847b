"""The command line: what each command prints, writes and refuses, and its exit status."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from packaging.requirements import Requirement
from torch import Tensor
from typer.testing import CliRunner

from gentext import _doctor, _sheet, cli, zoo
from gentext.train import recipe, recipes
from gentext.vae import VAE, VAEConfig
from gentext.zoo import Card, store
from train_toy import TOY, make_model

assert recipes.names(), "the book's recipes register themselves before a test puts its own in their place"

CARD = Card(name="mine", summary="mine")


def call(*arguments: object, status: int = 0) -> str:
    """Run the command line; returns what was printed, errors included."""
    result = CliRunner().invoke(cli.app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def sentence(output: str) -> str:
    """The one line of an expected failure."""
    assert output.count("\n") == 1, output
    assert output.startswith("gentext: ")
    return output


@pytest.fixture
def toy_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "_RECIPES", {"toy": lambda: TOY})


@pytest.fixture
def vae_file(tmp_path: Path) -> Path:
    config = VAEConfig(image_size=8, network="mlp", hidden=(8,), latent_dim=2, num_classes=3)
    return zoo.save(tmp_path / "mine.safetensors", VAE(config), CARD)


# ---- train -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("toy_recipe")
def test_train_lists_trains_and_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("train").split() == ["toy", "chapter", "0,", "12", "steps:", "a", "toy"]
    assert call("train", "--list") == call("train")
    weights = tmp_path / "weights"
    monkeypatch.setattr(zoo, "WEIGHTS", weights)
    monkeypatch.setattr(store, "WEIGHTS", weights)
    threads = torch.get_num_threads()
    try:
        said = call("train", "toy", "--out", tmp_path, "--threads", 1, "--device", "cpu", "--quiet", "--publish")
    finally:
        torch.set_num_threads(threads)
    assert "12 steps in" in said
    assert "on cpu, threads: 1" in said
    assert "sum: " in said
    assert f"published to {weights / 'toy.safetensors'}" in said
    assert zoo.names() == ["toy"]
    assert [path.name for path in weights.iterdir()] == ["toy.safetensors"]


@pytest.mark.usefixtures("toy_recipe")
def test_train_refuses_in_one_sentence(tmp_path: Path) -> None:
    assert "did you mean 'toy'" in sentence(call("train", "tuy", status=1))
    assert "num_steps" in sentence(call("train", "toy", "--steps", 0, status=1))
    assert "no CUDA" in call("train", "toy", "--device", "cuda", status=1) or torch.cuda.is_available()
    (tmp_path / "file").write_text("")
    assert "cannot be written" in sentence(call("train", "toy", "--out", tmp_path / "file", "--quiet", status=1))
    assert "--threads" in call("train", "toy", "--threads", 0, status=2)


def test_train_stopped_by_ctrl_c_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(step: int) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    stopping = replace(TOY, on_step=lambda model: press)
    monkeypatch.setattr(recipe, "_RECIPES", {"toy": lambda: stopping})
    said = call("train", "toy", "--out", tmp_path, "--quiet", status=130)
    assert said == "gentext: stopped; the same command goes on from the checkpoint\n"
    assert "12 steps in" in call("train", "toy", "--out", tmp_path, "--quiet")


# ---- sample ----------------------------------------------------------------------------------------------------------


def test_sample_writes_a_sheet(tmp_path: Path, vae_file: Path) -> None:
    one, same, other, classed = (tmp_path / "new" / f"{name}.png" for name in ("one", "same", "other", "classed"))
    assert call("sample", vae_file, "-n", 5, "--out", one, "--device", "cpu") == f"5 samples of {vae_file} in {one}\n"
    call("sample", vae_file, "-n", 5, "--out", same, "--device", "cpu")
    call("sample", vae_file, "-n", 5, "--out", other, "--seed", 1, "--device", "cpu")
    call("sample", vae_file, "-n", 5, "--out", classed, "--label", 2, "--temperature", 0, "--device", "cpu")
    pixels = imread(one)
    assert pixels.shape[:2] == (2 * 3 * 12, 3 * 3 * 12), "two rows and three columns of 8 + 2·2 pixels, three times"
    assert np.array_equal(pixels, imread(same))
    assert not np.array_equal(pixels, imread(other))
    tile = imread(classed)[6:30, 6:30]
    assert np.array_equal(tile, imread(classed)[6:30, 42:66]), "temperature 0 draws the same image each time"


def test_sample_refuses(tmp_path: Path, vae_file: Path) -> None:
    assert "no weights are called" in sentence(call("sample", "nothing", status=1))
    assert ".png file" in sentence(call("sample", vae_file, "--out", tmp_path / "sheet.bmp", status=1))
    assert "below 3, got 3" in sentence(call("sample", vae_file, "--label", 3, status=1))
    assert "-n" in call("sample", vae_file, "-n", 0, status=2)
    toy = zoo.save(tmp_path / "toy.safetensors", make_model(), CARD)
    assert "a Toy does not sample" in sentence(call("sample", toy, status=1))
    vae_file.write_bytes(vae_file.read_bytes()[:-8])
    assert "damaged" in sentence(call("sample", vae_file, status=1))


@dataclass
class Settings:
    num_classes: int = 0


class Sampler(torch.nn.Module):
    """Samples what it is told to, with no options."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.config, self.weight = shape, Settings(), torch.nn.Parameter(torch.zeros(1))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(n, *self.shape)


def test_samplers_of_other_kinds(tmp_path: Path) -> None:
    colour = _sheet.draw(Sampler((3, 4, 5)), 2, 0, None, 1.0)
    _sheet.write_sheet(colour, tmp_path / "colour.png")
    assert imread(tmp_path / "colour.png").shape[:2] == (3 * 8, 3 * 2 * 9)
    assert imread(tmp_path / "colour.png")[7, 7, :3].tolist() == [0, 0, 0], "colours are drawn as they are"
    with pytest.raises(ValueError, match="does not sample images"):
        _sheet.draw(Sampler((7,)), 2, 0, None, 1.0)
    with pytest.raises(ValueError, match="knows no classes"):
        _sheet.draw(Sampler((1, 4, 4)), 2, 0, 1, 1.0)
    with pytest.raises(ValueError, match="no temperature"):
        _sheet.draw(Sampler((1, 4, 4)), 2, 0, None, 0.5)


# ---- export and bench ------------------------------------------------------------------------------------------------


def test_export_names_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gentext.live import export

    asked: list[object] = []

    def export_all(out: Path, figures: list[str] | None = None) -> list[Path]:
        asked.append((out, figures))
        (out / "state.json").write_text("{}")
        return [out / "state.json"]

    monkeypatch.setattr(export, "export_all", export_all)
    assert call("export", "--out", tmp_path) == f"1 files, 0.0 MB in {tmp_path}\n"
    call("export", "--out", tmp_path, "--figure", "a", "--figure", "b")
    assert asked == [(tmp_path, None), (tmp_path, ["a", "b"])]

    def lacking(out: Path, figures: list[str] | None = None) -> list[Path]:
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

    monkeypatch.setattr(export, "export_all", lacking)
    assert "needs the package 'onnxscript': pip install" in sentence(call("export", "--out", tmp_path, status=1))


def test_bench_finds_and_runs_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "vae_step" in call("bench").split()
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    (folder / "harness.py").write_text("def helper():\n    pass\n")
    (folder / "sums.py").write_text("def main(argv=None):\n    print('ran with', argv)\n    return 3\n")
    monkeypatch.setattr(cli, "checkout", lambda: tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    assert call("bench") == "sums\n"
    assert call("bench", "sums", "--rounds", 4, status=3) == "ran with ['--rounds', '4']\n"
    assert "no benchmark is called 'products'; there are: sums" in sentence(call("bench", "products", status=1))
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def test_bench_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "cli.py"))
    monkeypatch.chdir(tmp_path)
    assert "run this in a checkout" in sentence(call("bench", status=1))


# ---- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    said = call("doctor", status=0 if zoo.names() else 1)
    for part in ("gentext: 0.", "Python: 3.", "place: ", "torch: 2.", "device: ", "threads: ", "data: ", "zoo: "):
        assert part in said
    broken = [_doctor.Finding("torch", "not installed", 'pip install "torch"', True), _doctor.Finding("x", "1", "hm")]
    monkeypatch.setattr(_doctor, "examine", lambda: iter(broken))
    said = call("doctor", status=1)
    assert said.splitlines() == [
        "✗ torch: not installed",
        '    pip install "torch"',
        "! x: 1",
        "    hm",
        "1 thing needs doing before the book runs here.",
    ]


def test_doctor_compares_versions_with_the_package_s_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {requirement.name for requirement in _doctor.requirements()}
    assert {"torch", "torchvision", "numpy", "accelerate", "safetensors", "typer"} <= stated
    assert not {"jupyter-book", "pytest"} & stated, "extras are not needed to read the book"
    assert not _doctor.check_package(Requirement("torch>=2.2")).advice
    old = _doctor.check_package(Requirement("torch>=99"))
    assert old.serious
    assert old.advice == 'pip install --upgrade "torch>=99"'
    assert (
        _doctor.check_package(Requirement("surely-not-installed>=1")).advice == 'pip install "surely-not-installed>=1"'
    )


def test_doctor_on_python() -> None:
    assert not _doctor.check_python((3, 11, 7), ">=3.11").advice
    assert _doctor.check_python((3, 10, 1), ">=3.11").serious
    new = _doctor.check_python((3, 99, 0), ">=3.11")
    assert new.advice
    assert not new.serious
    assert not _doctor.check_python((3, 12, 0), "").advice


def test_doctor_on_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert not _doctor.on_colab()
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_1")
    assert _doctor.on_colab()
    assert "release-colab_1" in _doctor.check_place(True).found
    monkeypatch.setattr("gentext.device", lambda: torch.device("cpu"))
    monkeypatch.setattr(_doctor.shutil, "which", lambda name: None)
    assert "Change runtime type" in next(iter(_doctor.check_device())).advice
    monkeypatch.setattr(_doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "install a CUDA build" in next(iter(_doctor.check_device())).advice
    monkeypatch.setattr("gentext.device", lambda: torch.device("mps"))
    assert "Apple" in next(iter(_doctor.check_device())).found


def test_doctor_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Properties:
        name: str = "Big GPU"
        total_memory: int = 80 * 2**30

    monkeypatch.setattr("gentext.device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    assert next(iter(_doctor.check_device())).found == "Big GPU, 80 GiB, trains in bf16"


def test_doctor_on_mismatched_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    finding = _doctor.check_torchvision()
    assert finding.serious
    assert "from the same place" in finding.advice


def test_doctor_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    assert "unset OMP_NUM_THREADS" in _doctor.check_threads().advice
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert _doctor.check_threads().found == "torch uses 2 of 4 cores (OMP_NUM_THREADS=2)"


def test_doctor_on_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path / "to" / "come"))
    folder = _doctor.data_folder()
    assert folder == tmp_path / "to" / "come"
    assert "downloaded when first asked for" in _doctor.check_data_folder(folder).found
    (tmp_path / "file").write_text("")
    assert "set GENTEXT_DATA" in _doctor.check_data_folder(tmp_path / "file" / "below").advice
    monkeypatch.setattr(_doctor, "FREE_DISK_WANTED", 1e18)
    assert "make room" in _doctor.check_data_folder(tmp_path).advice
    for name in ("MNIST", "FashionMNIST"):
        (tmp_path / name / "raw").mkdir(parents=True)
    finding = _doctor.check_data_folder(tmp_path)
    assert "MNIST and FashionMNIST" in finding.found
    assert not finding.advice


def test_doctor_on_a_broken_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WEIGHTS", tmp_path)
    assert "no trained weights" in _doctor.check_zoo().advice
    (tmp_path / "broken.safetensors").write_bytes(b"")
    assert "broken cannot be read" in _doctor.check_zoo().advice


def test_the_command_is_installed() -> None:
    entries = importlib.metadata.entry_points(group="console_scripts", name="gentext")
    assert [entry.load() for entry in entries] == [cli.app]
    assert all(name in call("--help") for name in ("train", "sample", "export", "bench", "doctor"))
