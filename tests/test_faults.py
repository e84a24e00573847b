"""Faults: killed, interrupted and doubled training, full disks, damaged and foreign files. Nothing is lost, and the
message is one sentence.
"""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import Tensor

from gentext import zoo
from gentext.nn import Loss
from gentext.train import FitConfig, TensorData, fit, shard
from gentext.train.checkpoint import FILE_NAME
from gentext.zoo import files
from train_toy import SIZE, Toy, ToyConfig, make_data, make_model, outcome, train_toy

HERE = Path(__file__).parent
SCRIPT = str(HERE / "train_toy.py")
pytestmark = pytest.mark.slow


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), "ACCELERATE_USE_CPU": "true"}


def start(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait, and return what was printed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for printed in process.stdout:
        if printed.startswith(line):
            return
    process.wait()
    assert process.stderr is not None
    pytest.fail(f"the process ended before {line!r}: {process.stderr.read()[-3000:]}")


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert set(a) == set(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def unbroken() -> dict[str, Tensor]:
    """What an undisturbed run gets."""
    return outcome(train_toy())


# ---- processes that end badly; another process, this one, goes on ----------------------------------------------------


def test_kill_9_in_the_middle_costs_nothing(tmp_path: Path, unbroken: dict[str, Tensor]) -> None:
    directory, out = tmp_path / "run", tmp_path / "out.safetensors"
    victim = start(out, "--directory", directory, "--wait-at", 27)
    wait_for(victim, "at step 27")
    victim.kill()
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert not out.exists()
    assert files.read_about(directory / FILE_NAME)["progress"]["step"] == 20
    seen: list[int] = []
    assert_same(outcome(train_toy(directory, on_step=seen.append)), unbroken)
    assert seen == list(range(20, 40)), "only the steps since the checkpoint are repeated"


def test_kill_9_while_a_checkpoint_is_written(tmp_path: Path, unbroken: dict[str, Tensor]) -> None:
    directory = tmp_path / "run"
    victim = start(tmp_path / "out.safetensors", "--directory", directory, "--die-writing", 30)
    victim.communicate(timeout=300)
    assert victim.returncode == -signal.SIGKILL
    assert len(list(directory.glob(f".{FILE_NAME}.*.tmp"))) == 1
    assert files.read_about(directory / FILE_NAME)["progress"]["step"] == 20
    assert_same(outcome(train_toy(directory)), unbroken)
    assert [path.name for path in directory.iterdir()] == [FILE_NAME], "the half-written file is cleared away"


def test_ctrl_c_ends_cleanly_and_goes_on(tmp_path: Path, unbroken: dict[str, Tensor]) -> None:
    directory = tmp_path / "run"
    process = start(tmp_path / "out.safetensors", "--directory", directory, "--wait-at", 13, "--slow", 0.05)
    wait_for(process, "at step 13")
    process.send_signal(signal.SIGINT)
    said = finish(process)
    stopped = files.read_about(directory / FILE_NAME)["progress"]["step"]
    assert 13 <= stopped < 40
    assert f"interrupted=True steps={stopped}" in said
    assert_same(outcome(train_toy(directory)), unbroken)


# ---- two processes ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("way", ["DDP", "FSDP"])
def test_two_processes_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """With noise in the transform and in the loss. On CPUs `accelerate launch` starts one process, torchrun two.

    Under FSDP the two go on from the checkpoint of one, so shares are made from whole tensors and back.
    """
    expected = outcome(train_toy(settings={}))
    directory, out = tmp_path / "run", tmp_path / "out.safetensors"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(way == "FSDP").lower())
    if way == "FSDP":

        def press_ctrl_c(step: int) -> None:
            if step == 16:
                os.kill(os.getpid(), signal.SIGINT)

        assert train_toy(directory, settings={}, on_step=press_ctrl_c).interrupted
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1")
    launcher = (*torchrun, f"--master_port={free_port()}")
    said = finish(start(out, "--plain", "--recipe", "--directory", directory, launcher=launcher))
    assert said.count("12 steps in") == 1, "one of the processes speaks"
    assert zoo.card(tmp_path / "toy.safetensors").steps == 12
    found = load_file(out)
    assert set(found) == set(expected)
    worst = max(float((found[name] - expected[name]).abs().max()) for name in expected)
    assert worst < 3e-6
    resumed = outcome(train_toy(directory, settings={}, on_step=lambda step: pytest.fail("the run is finished")))
    assert_same(resumed, found)


def test_a_batch_that_two_processes_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    monkeypatch.setattr("accelerate.Accelerator.distributed_type", DistributedType.MULTI_CPU)
    with pytest.raises(ValueError, match="batch_size 13 cannot be shared evenly by 2 processes"):
        train_toy(batch_size=13)


def test_launchers_that_fit_does_not_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    monkeypatch.setattr("accelerate.Accelerator.distributed_type", DistributedType.DEEPSPEED)
    with pytest.raises(ValueError, match="without DeepSpeed"):
        train_toy()


def test_sharded_training_needs_a_pytorch_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.distributed.fsdp.fully_shard")
    with pytest.raises(ValueError, match=r"FSDP needs PyTorch 2\.6 or newer"):
        shard.shard(torch.nn.Linear(1, 1), torch.device("cpu"), 2)


def test_sharing_leaves_whole_tensors_alone() -> None:
    tensor = torch.arange(3.0)
    assert shard.whole(tensor) is tensor
    assert shard.share_like(tensor, torch.zeros(3)) is tensor


# ---- losses that explode ---------------------------------------------------------------------------------------------


class Exploding(Toy):
    """NaN at the eighth batch."""

    calls = 0

    def loss(self, batch: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Loss:
        self.calls += 1
        loss = super().loss(batch, generator=generator)
        return Loss(loss.total * math.nan, loss.terms) if self.calls == 8 else loss


def test_nan_stops_with_the_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    config = FitConfig(num_steps=20, checkpoint_every=5)
    with pytest.raises(FloatingPointError, match=r"in step 8: try a lower learning_rate .*; the last checkpoint in .*"):
        fit(Exploding(ToyConfig()), make_data(), config, directory=tmp_path, progress=False, device="cpu")
    tensors, about = files.read_tensors(tmp_path / FILE_NAME)
    assert about["progress"]["step"] == 5
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values() if tensor.is_floating_point())


class OddTerm(Toy):
    """A finite loss with a term that is not; or, in evaluation mode, an infinite loss."""

    odd = "term"

    def loss(self, batch: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Loss:
        loss = super().loss(batch, generator=generator)
        if self.odd == "term":
            return Loss(loss.total, {"bits": loss.total / 0})
        return loss if self.training else Loss(loss.total / 0, {})


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("term", "loss's term 'bits' became .* between steps 1 and 4"),
        ("validation", "on the validation data after step 6"),
    ],
)
def test_terms_and_validation_must_be_finite_too(odd: str, message: str) -> None:
    model = OddTerm(ToyConfig())
    model.odd = odd
    config = FitConfig(num_steps=8, record_every=4, validate_every=6)
    with pytest.raises(FloatingPointError, match=message):
        fit(model, make_data(), config, validation=make_data(5), progress=False, device="cpu")


class BadGradient(Toy):
    """A finite loss with an infinite gradient: √x at 0."""

    def loss(self, batch: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Loss:
        return Loss((self.first.weight - self.first.weight.detach()).abs().sum().sqrt(), {})


def test_weights_that_are_nan_are_never_checkpointed(tmp_path: Path) -> None:
    config = FitConfig(num_steps=1, checkpoint_every=1)
    with pytest.raises(FloatingPointError, match="in the weights"):
        fit(BadGradient(ToyConfig()), make_data(), config, directory=tmp_path, progress=False, device="cpu")
    assert not (tmp_path / FILE_NAME).exists()


# ---- disks that refuse -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: dict[str, Tensor], call: str
) -> None:
    original, calls = getattr(os, call), 0

    def full(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    monkeypatch.setattr(os, call, full)
    with pytest.warns(RuntimeWarning, match=r"no checkpoint was written at step \d+ \(No space left on device\)"):
        result = train_toy(tmp_path)
    assert_same(outcome(result), unbroken)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert files.read_tensors(tmp_path / FILE_NAME)[1]["progress"]["step"] in (10, 20)
    assert_same(outcome(train_toy(tmp_path)), unbroken)


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"checkpoints cannot be written to .* name another folder"):
            train_toy(bad, on_step=lambda step: pytest.fail("trained all the same"))


def test_a_full_disk_leaves_old_weights_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, path = zoo.Card(name="toy", summary="first"), tmp_path / "toy.safetensors"
    zoo.save(path, make_model(), card)
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        zoo.save(path, make_model(), zoo.Card(name="toy", summary="second"))
    assert zoo.card(path).summary == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy.safetensors"]


# ---- files that are damaged or not ours ------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def truncate_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def flip_bit(path: Path) -> None:
    """In the last byte: the numbers, where safetensors itself notices nothing."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x10
    path.write_bytes(content)


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xff" * 4096)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def edit_header(path: Path, change) -> None:
    """Rewrite our part of the header, leaving the numbers alone."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    entry = json.loads(header["__metadata__"]["gentext"])
    change(entry)
    header["__metadata__"]["gentext"] = json.dumps(entry) if entry else "{"
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


def newer(path: Path) -> None:
    edit_header(path, lambda entry: entry.update(format=99))


def unreadable_header(path: Path) -> None:
    edit_header(path, lambda entry: entry.clear())


def no_checksum(path: Path) -> None:
    edit_header(path, lambda entry: entry.pop("checksum"))


DAMAGE = [
    (truncate, "is damaged"),
    (truncate_header, "is damaged"),
    (flip_bit, "do not match their checksum"),
    (overwrite, "is damaged"),
    (empty, "is damaged"),
    (foreign, "was not written by gentext"),
    (newer, "has file format 99 .* upgrade gentext"),
    (unreadable_header, "header cannot be read"),
    (no_checksum, "header is incomplete"),
]


def assert_sentence(message: str) -> None:
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize(("spoil", "message"), DAMAGE, ids=lambda value: getattr(value, "__name__", ""))
def test_damaged_checkpoints_are_refused(tmp_path: Path, spoil, message: str) -> None:
    train_toy(tmp_path, num_steps=10)
    path = tmp_path / FILE_NAME
    spoil(path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        train_toy(tmp_path, num_steps=10, on_step=lambda step: pytest.fail("trained all the same"))
    assert_sentence(str(caught.value))
    assert "resume=False" in str(caught.value)
    assert path.read_bytes() == content, "a file that cannot be read is left for its owner to look at"


@pytest.mark.parametrize(("spoil", "message"), DAMAGE, ids=lambda value: getattr(value, "__name__", ""))
def test_damaged_weights_are_refused(tmp_path: Path, spoil, message: str) -> None:
    path = zoo.save(tmp_path / "toy.safetensors", make_model(), zoo.Card(name="toy", summary="a toy"))
    spoil(path)
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load(path)
    assert_sentence(str(caught.value))
    assert str(path) in str(caught.value)


def test_checkpoints_of_other_runs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_toy(tmp_path, num_steps=10)
    content = (tmp_path / FILE_NAME).read_bytes()
    for options, message in (
        ({"num_steps": 20}, "fit num_steps is 10 there and 20 here"),
        ({"num_steps": 10, "learning_rate": 0.5}, "fit learning_rate"),
        ({"num_steps": 10, "seed": 5}, "fit seed"),
        ({"num_steps": 10, "ema_decay": None}, "fit ema_decay"),
        ({"num_steps": 10, "settings": {"noise": 0.3}}, "config .*noise|config batch_norm"),
    ):
        with pytest.raises(
            ValueError, match=f"is of another run \\(({message}).*name another folder, or pass resume=False"
        ):
            train_toy(tmp_path, **options)
    monkeypatch.setattr("train_toy.make_data", lambda n=50: TensorData((torch.zeros(n + 1, SIZE),)))
    with pytest.raises(ValueError, match=r"train data is \[\[50, 6, .* and \[\[51, 6, "):
        train_toy(tmp_path, num_steps=10)
    monkeypatch.undo()
    frozen = make_model(dropout=0.2, batch_norm=True)
    frozen.first.requires_grad_(False)
    monkeypatch.setattr("train_toy.make_model", lambda **settings: frozen)
    with pytest.raises(ValueError, match=r"trained weights first\.bias is \[8\] there and None here"):
        train_toy(tmp_path, num_steps=10)
    monkeypatch.undo()
    assert (tmp_path / FILE_NAME).read_bytes() == content
    assert train_toy(tmp_path, num_steps=10, checkpoint_every=3).steps == 10, "how often to save is no other run"


def test_checkpoints_with_missing_parts_are_refused(tmp_path: Path) -> None:
    train_toy(tmp_path, num_steps=10)
    path = tmp_path / FILE_NAME
    tensors, about = files.read_tensors(path)
    files.write_tensors(path, {name: t for name, t in tensors.items() if name != "model.last.bias"}, about)
    with pytest.raises(ValueError, match=r"does not fit the model Toy: it lacks 'last.bias'"):
        train_toy(tmp_path, num_steps=10)
    files.write_tensors(path, {**tensors, "model.extra": torch.zeros(1)}, about)
    with pytest.raises(ValueError, match=r"it has 'extra', which the model has not"):
        train_toy(tmp_path, num_steps=10)
    files.write_tensors(path, {**tensors, "model.first.weight": torch.zeros(2, 2)}, about)
    with pytest.raises(ValueError, match=r"'first.weight' has shape \(2, 2\)"):
        train_toy(tmp_path, num_steps=10)
    files.write_tensors(path, tensors, {"identity": about["identity"]})
    with pytest.raises(ValueError, match="not a checkpoint"):
        train_toy(tmp_path, num_steps=10)
