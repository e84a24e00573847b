"""The harness on work of known duration, by a clock that the test moves; and each benchmark in its smallest form.

No speed is asserted here: it depends on the machine.
"""

import importlib
import json
import runpy
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def harness():
    return importlib.import_module("benchmarks.harness")


class Clock:
    """A machine whose clock only work moves, and which grows slower and slower."""

    def __init__(self, monkeypatch, drift=0.0):
        self.now, self.slowness, self.drift, self.order = 0.0, 1.0, drift, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def work(self, name, seconds):
        def run():
            self.now += seconds * self.slowness
            self.slowness *= 1 + self.drift
            self.order.append(name)

        return run


def test_a_known_ratio_is_found(harness, monkeypatch):
    clock = Clock(monkeypatch)
    found = harness.compare("dummy", clock.work("ours", 0.3), clock.work("reference", 0.4), rounds=5)
    assert found.ratio == pytest.approx(0.75)
    assert found.interval() == pytest.approx((0.75, 0.75))
    assert found.ours == pytest.approx([0.3] * 5)
    assert found.calls == (1, 1)


def test_both_take_turns_and_the_first_changes(harness, monkeypatch):
    clock = Clock(monkeypatch)
    harness.compare("dummy", clock.work("o", 1.0), clock.work("r", 1.0), rounds=4, warmup=1)
    assert "".join(clock.order) == "or" + "or" + "ro" + "or" + "ro"


def test_a_machine_that_slows_down_tenfold_leaves_the_ratio(harness, monkeypatch):
    clock = Clock(monkeypatch, drift=0.06)
    found = harness.compare("dummy", clock.work("ours", 1.0), clock.work("reference", 2.0), rounds=20)
    assert found.reference[-1] > 8 * found.reference[0]
    assert found.ratio == pytest.approx(0.5, rel=0.02)
    low, high = found.interval()
    assert low <= found.ratio <= high


def test_short_work_is_repeated_within_a_timing(harness, monkeypatch):
    clock = Clock(monkeypatch)
    found = harness.compare("dummy", clock.work("o", 0.001), clock.work("r", 0.02), rounds=2, seconds_per_timing=0.0495)
    assert found.calls == (50, 3)
    assert found.ratio == pytest.approx(0.05)


def test_a_known_ratio_by_the_real_clock(harness):
    found = harness.compare("sleep", lambda: time.sleep(0.01), lambda: time.sleep(0.04), rounds=5, warmup=1)
    assert 0.1 < found.ratio < 0.75


def test_one_odd_round_does_not_move_the_ratio_but_shows_in_the_spread(harness):
    found = harness.Comparison("dummy", [1.0, 1.0, 1.0, 9.0, 1.1], [2.0, 2.0, 2.0, 2.0, 2.0], (1, 1))
    assert found.ratio == 0.5
    assert found.interval()[1] > 0.5
    assert found.quartiles() == pytest.approx((0.5, 0.55))


def test_the_table_and_the_json_say_the_same(harness, capsys, tmp_path):
    report = harness.Report("Title", torch.device("cpu"))
    report.comparisons.append(harness.Comparison("case", [2e-3, 2e-3], [4e-3, 4e-3], (1, 1)))
    report.comparisons.append(harness.Comparison("other", [2e-6], [5e-10], (1, 1)))
    report.deliver(str(tmp_path / "out.json"))
    table = capsys.readouterr().out
    for expected in ("Title", "ours / reference", "2 ms", "4 ms", "0.50 to 0.50", "2 µs", "0.5 ns"):
        assert expected in table
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["comparisons"][0]["ratio"] == 0.5
    assert written["environment"]["torch"] == torch.__version__
    report.deliver("-")
    assert json.loads(capsys.readouterr().out) == written


def test_the_harness_refuses_no_rounds(harness):
    with pytest.raises(ValueError, match="at least 1, got 0 and 2"):
        harness.compare("dummy", int, int, rounds=0)


SMALL = {
    "vae_step": ["--rounds", "1", "--batch-size", "4", "--steps", "2", "--device", "cpu"],
    "data_loading": ["--rounds", "1", "--batch-size", "4", "--signs", "8", "--device", "cpu"],
    "tokenizer": ["--rounds", "1", "--texts", "20", "--vocab-size", "300"],
    "gpt": "--rounds 1 --batch-size 2 --context 6 --prompt 2 --width 16 --device cpu".split(),
    "diffusion": "--rounds 1 --batch-size 2 --widths 8 32 --steps 3 --signs 2 --device cpu".split(),
}
PEERS = {"gpt": "transformers", "diffusion": "diffusers"}


def test_every_benchmark_is_tried_here():
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"harness"}
    assert files == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs(name, capsys):
    if name in PEERS:
        pytest.importorskip(PEERS[name])
    assert importlib.import_module(f"benchmarks.{name}").main([*SMALL[name], "--json", "-"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["environment"]["device"].startswith("cpu")
    assert all(case["ratio"] > 0 for case in out["comparisons"])
    assert len({case["name"] for case in out["comparisons"]}) == len(out["comparisons"]) >= 2


def test_a_benchmark_runs_as_a_script(monkeypatch, capsys):
    script = ROOT / "benchmarks" / "data_loading.py"
    monkeypatch.setattr(sys, "argv", [str(script), *SMALL["data_loading"]])
    monkeypatch.syspath_prepend(str(script.parent))  # as Python does for a script
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(script), run_name="__main__")
    assert not stopped.value.code
    assert "One epoch of 8 signs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vae_step", ["--rounds", "0"], "--rounds must be at least 1, got 0"),
        ("vae_step", ["--batch-size", "99999", "--device", "cpu"], "--batch-size must be at most"),
        ("data_loading", ["--batch-size", "9", "--signs", "8", "--device", "cpu"], "--batch-size must be at most 8"),
        ("diffusion", ["--steps", "1"], "--steps must be at least 2 and --signs 1, got 1 and 16"),
        ("diffusion", ["--widths", "7"], "groups must divide every width and head_dim the last"),
    ],
)
def test_a_benchmark_refuses_wrong_options(name, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"benchmarks.{name}").main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_vae_benchmark_notices_when_both_sides_differ():
    module = importlib.import_module("benchmarks.vae_step")
    model, plain = module.VAE(module.CONFIG), module.PlainVAE()
    images, labels = (
        torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)),
        torch.zeros(4, dtype=torch.int64),
    )
    with pytest.raises(AssertionError):
        module.check_agreement(model, plain, images, labels)  # other weights
    module.same_weights(model, plain)
    module.check_agreement(model, plain, images, labels)
    with torch.no_grad():
        next(plain.parameters()).add_(0.1)
    with pytest.raises(AssertionError):
        module.check_agreement(model, plain, images, labels)
