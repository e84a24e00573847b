"""`train.fit`: what it computes, what it records, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentext.nn import Loss
from gentext.train import FitConfig, TensorData, fit
from gentext.train import config as config_module
from gentext.train import progress as progress_module
from gentext.train.noise import SharedNoise
from gentext.train.tensors import NOISE, BatchOrder, step_seed
from train_toy import SIZE, Toy, ToyConfig, make_data, make_model, outcome, shift, train_toy

CPU = torch.device("cpu")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert set(a) == set(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


# ---- what it computes ------------------------------------------------------------------------------------------------


def test_equals_the_loop_written_out() -> None:
    """Warm-up, cosine, clipping, decay of matrices only, EMA: against a plain loop over the same batches and noise."""
    config = FitConfig(
        num_steps=30, batch_size=8, learning_rate=0.02, weight_decay=0.1, warmup_steps=4, clip_norm=0.5, ema_decay=0.8
    )
    data = make_data()
    ours = fit(make_model(), data, config, progress=False, device="cpu").model

    model = make_model()
    parameters = list(model.parameters())
    matrices, vectors = [p for p in parameters if p.ndim == 2], [p for p in parameters if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}])
    average = [p.detach().clone() for p in parameters]
    order, generator = BatchOrder(len(data), 8, 0, CPU), torch.Generator()
    for step in range(30):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        generator.manual_seed(step_seed(0, NOISE, step))
        batch = shift(data.rows(order.indices(step)), generator)
        optimizer.zero_grad()
        model.loss(batch, generator=generator).total.backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        decay = min(0.8, (1 + step) / (10 + step))
        average = [decay * a + (1 - decay) * p.detach() for a, p in zip(average, parameters, strict=True)]
    for parameter, expected in zip(ours.parameters(), average, strict=True):
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


def test_learns_and_reports() -> None:
    result = train_toy(num_steps=300, settings={})
    train, validation = result.history["train"], result.history["validation"]
    assert train["total"][-1] < 0.5 * train["total"][0]
    assert train["step"] == [*range(7, 300, 7), 300]
    assert validation["step"] == list(range(10, 301, 10))
    assert set(train) == set(validation) == {"step", "total", "error", "noise"}
    assert train["total"] == train["error"]
    assert (result.steps, result.interrupted, result.device.type) == (300, False, "cpu")
    assert result.wall_seconds > 0
    assert not result.model.training
    assert json.loads(json.dumps(result.history)) == result.history


def test_history_averages_over_the_steps_between_records() -> None:
    every = train_toy(record_every=1).history["train"]["total"]
    some = train_toy(record_every=8).history["train"]
    expected = torch.tensor(every).view(-1, 8).mean(1)
    torch.testing.assert_close(torch.tensor(some["total"]), expected)


def test_same_seed_same_numbers_and_another_seed_others() -> None:
    state = torch.random.get_rng_state()
    first, second, other = train_toy(), train_toy(), train_toy(seed=1)
    assert_same(outcome(first), outcome(second))
    assert not torch.equal(outcome(first)["last.weight"], outcome(other)["last.weight"])
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's generator was disturbed"


def test_validation_sees_the_averaged_weights_and_leaves_training_alone() -> None:
    with_validation = train_toy(validate_every=3)
    assert_same(
        {name: value for name, value in outcome(with_validation).items() if "/" not in name},
        {name: value for name, value in outcome(train_toy(validate_every=40)).items() if "/" not in name},
    )
    data, generator = make_data(17), torch.Generator().manual_seed(step_seed(0, 2, 0))
    total = 0.0
    with torch.no_grad():
        for rows in torch.arange(17).split(12):
            batch = shift(data.rows(rows), generator)
            total += with_validation.model.loss(batch, generator=generator).total.item() * len(rows) / 17
    assert with_validation.history["validation"]["total"][-1] == pytest.approx(total, rel=1e-6)


def test_on_step_comes_before_each_step() -> None:
    seen: list[int] = []
    train_toy(num_steps=5, on_step=seen.append)
    assert seen == [0, 1, 2, 3, 4]


def test_frozen_parameters_stay() -> None:
    model = make_model()
    model.first.requires_grad_(False)
    before = model.first.weight.clone()
    fit(model, make_data(), FitConfig(num_steps=5, ema_decay=0.5), progress=False, device="cpu")
    assert torch.equal(model.first.weight, before)
    assert not torch.equal(model.last.weight, make_model().last.weight)


def test_bf16_trains() -> None:
    result = train_toy(num_steps=100, precision="bf16", settings={})
    assert result.model.last.weight.dtype == torch.float32
    assert result.history["train"]["total"][-1] < result.history["train"]["total"][0]


def test_auto_precision_asks_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "cpu_flags", lambda: {"avx2"})
    assert config_module.autocast_dtype("auto", CPU) is None
    assert config_module.autocast_dtype("bf16", CPU) is torch.bfloat16
    monkeypatch.setattr(config_module, "cpu_flags", lambda: {"avx2", "amx_bf16"})
    assert config_module.autocast_dtype("auto", CPU) is torch.bfloat16
    assert config_module.autocast_dtype("fp32", CPU) is None
    assert config_module.autocast_dtype("auto", torch.device("mps")) is None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert config_module.autocast_dtype("auto", torch.device("cuda")) is None, "a T4 only emulates bf16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert config_module.autocast_dtype("auto", torch.device("cuda")) is torch.bfloat16


@given(st.integers(1, 500), st.integers(0, 300), st.sampled_from(["constant", "cosine"]))
@settings(max_examples=60, deadline=None)
def test_schedule_rises_then_never_rises_again(num_steps: int, warmup: int, schedule: str) -> None:
    config = FitConfig(num_steps=num_steps, warmup_steps=warmup, schedule=schedule, learning_rate=2.0)  # type: ignore[arg-type]
    rates = [config.learning_rate_at(step) for step in range(num_steps)]
    assert all(0 < rate <= 2.0 for rate in rates)
    rising, rest = rates[:warmup], rates[warmup:]
    assert rising == sorted(rising)
    assert rest == sorted(rest, reverse=True)
    if rest:
        assert rest[0] == 2.0
        assert schedule == "cosine" or rest[-1] == 2.0


# ---- batches ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 2**63))
@settings(max_examples=60, deadline=None)
def test_each_epoch_shows_each_example_once(length: int, batch_size: int, seed: int) -> None:
    order = BatchOrder(length, batch_size, seed, CPU)
    stream = torch.cat([order.indices(step) for step in range(2 * length)])
    epochs = stream[: len(stream) // length * length].view(-1, length)
    assert torch.equal(epochs.sort(1).values, torch.arange(length).expand_as(epochs))
    again = BatchOrder(length, batch_size, seed, CPU)
    assert torch.equal(again.indices(2 * length - 1), stream[-batch_size:]), "a batch must depend on its step only"


def test_step_seeds_do_not_collide() -> None:
    seeds = {step_seed(0, stream, step) for stream in range(4) for step in range(50_000)}
    assert len(seeds) == 200_000


def test_tensor_data_refuses_what_is_no_data_set() -> None:
    for tensors, message in (
        ((), "at least one tensor"),
        ((torch.tensor(1.0),), "first dimension"),
        ((torch.zeros(3), torch.zeros(4)), r"lengths \[3, 4\]"),
        ((torch.zeros(0, 2),), "positive length"),
        ((torch.zeros(3), torch.zeros(3, device="meta")), "one device"),
    ):
        with pytest.raises(ValueError, match=message):
            TensorData(tensors)
    data = TensorData([torch.zeros(3, 2), torch.zeros(3)]).to("meta")  # type: ignore[arg-type]
    assert len(data) == 3
    assert data.device.type == "meta"


# ---- noise of several processes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda g, b: torch.randn(b, 5, generator=g),
        lambda g, b: torch.randn((b, 5), generator=g),
        lambda g, b: torch.randn(size=(b, 2, 3), generator=g, dtype=torch.float64),
        lambda g, b: torch.rand(torch.Size([b]), generator=g),
        lambda g, b: torch.bernoulli(torch.full((b, 7), 0.3), generator=g),
        lambda g, b: torch.empty(b, 4).normal_(generator=g),
        lambda g, b: torch.empty(b, 4).uniform_(2, 3, generator=g),
        lambda g, b: torch.zeros(b, 4).bernoulli_(0.5, generator=g),
    ],
)
def test_processes_draw_their_rows_of_one_draw(draw) -> None:
    """Three processes with 4 examples each, against one with 12; twice, so that the streams stay in step."""

    def twice(generator: torch.Generator, rows: int) -> torch.Tensor:
        return torch.stack([draw(generator, rows), draw(generator, rows)])

    one = twice(torch.Generator().manual_seed(0), 12)
    parts = []
    for rank in range(3):
        generator = torch.Generator().manual_seed(0)
        with SharedNoise(generator, rank, 3, 4):
            parts.append(twice(generator, 4))
    assert torch.equal(torch.cat(parts, 1), one)


def test_processes_share_draws_that_have_samples_first_or_no_examples() -> None:
    whole = torch.randn(9, 12, 2, generator=torch.Generator().manual_seed(0))
    common = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    for rank in range(3):
        generator = torch.Generator().manual_seed(0)
        with SharedNoise(generator, rank, 3, 4):
            assert torch.equal(torch.randn(9, 4, 2, generator=generator), whole[:, 4 * rank : 4 * rank + 4])
            generator.manual_seed(0)
            assert torch.equal(torch.randn(3, 5, generator=generator), common)
            generator.manual_seed(0)
            assert torch.equal(torch.empty(3, 5).normal_(generator=generator), common)
            torch.randn(4, 2)  # a draw from another generator is none of our business
            assert torch.randint(5, (4,), generator=generator).shape == (4,)


# ---- stopping and going on -------------------------------------------------------------------------------------------


def press_ctrl_c(at: int):
    def on_step(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGINT)

    return on_step


@pytest.mark.parametrize("at", [0, 3, 20, 33])
def test_interrupted_and_resumed_equals_unbroken(tmp_path, at: int) -> None:
    unbroken = train_toy()
    handler = signal.getsignal(signal.SIGINT)
    stopped = train_toy(tmp_path, on_step=press_ctrl_c(at))
    assert (stopped.interrupted, stopped.steps) == (True, at + 1), "the step under way is finished first"
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = train_toy(tmp_path)
    assert not resumed.interrupted
    assert_same(outcome(resumed), outcome(unbroken))
    finished = train_toy(tmp_path, on_step=lambda step: pytest.fail("a finished run has nothing to do"))
    assert_same(outcome(finished), outcome(unbroken))
    assert finished.wall_seconds >= resumed.wall_seconds > 0


def test_ctrl_c_without_directory_still_returns_the_model() -> None:
    result = train_toy(on_step=press_ctrl_c(4))
    assert (result.interrupted, result.steps) == (True, 5)


def test_second_ctrl_c_stops_at_once() -> None:
    def twice(step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_toy(on_step=twice)


def test_fit_outside_the_main_thread() -> None:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(train_toy(num_steps=3).steps))
    thread.start()
    thread.join()
    assert results == [3]


def test_resume_false_starts_afresh(tmp_path) -> None:
    train_toy(tmp_path, on_step=press_ctrl_c(20))
    seen: list[int] = []
    fit(
        make_model(),
        make_data(),
        FitConfig(num_steps=3),
        directory=tmp_path,
        resume=False,
        on_step=seen.append,
        device="cpu",
    )
    assert seen == [0, 1, 2]


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": 10.0}, "num_steps"),
        ({"batch_size": True}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"schedule": "linear"}, "schedule"),
        ({"precision": "fp16"}, "precision"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
    ],
)
def test_bad_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FitConfig(**{"num_steps": 10, **change})


def test_models_that_cannot_train_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\(batch"):
        fit(nn.Linear(2, 2), make_data(), FitConfig(num_steps=1))
    with pytest.raises(ValueError, match="no parameters"):
        fit(make_model().requires_grad_(False), make_data(), FitConfig(num_steps=1), device="cpu")
    with pytest.raises(ValueError, match="unknown device"):
        fit(make_model(), make_data(), FitConfig(num_steps=1), device="abacus")


def test_wrong_shapes_are_torchs_to_name_and_change_nothing(tmp_path) -> None:
    model = make_model()
    with pytest.raises(RuntimeError, match="shapes"):
        fit(model, TensorData((torch.zeros(20, SIZE + 1),)), FitConfig(num_steps=3), directory=tmp_path, device="cpu")
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(model.first.weight, make_model().first.weight)


class Moody(Toy):
    """A loss whose terms change, or whose total is no scalar."""

    mood = "terms"

    def loss(self, batch, *, generator=None) -> Loss:
        loss = super().loss(batch, generator=generator)
        if self.mood == "terms":
            self.mood = "others"
            return loss
        if self.mood == "others":
            return Loss(loss.total, {"surprise": loss.total})
        return Loss(loss.total.expand(3), {})


@pytest.mark.parametrize(("mood", "message"), [("terms", "same terms"), ("vector", "scalar")])
def test_losses_of_the_wrong_form_are_refused(mood: str, message: str) -> None:
    model = Moody(ToyConfig())
    model.mood = mood
    with pytest.raises(ValueError, match=message):
        fit(model, make_data(), FitConfig(num_steps=5), progress=False, device="cpu")


# ---- telling ---------------------------------------------------------------------------------------------------------


def small_fit(progress: bool = True) -> None:
    fit(make_model(), make_data(), FitConfig(num_steps=4, record_every=2), progress=progress, device="cpu")


def test_plain_lines_where_nobody_sees_a_bar(monkeypatch, capsys) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    small_fit()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, "a short run says one thing: done"
    assert lines[0].startswith("step 4 of 4, 0:0")
    assert lines[0].endswith("done")
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    small_fit()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "total" in lines[0]
    assert "to go" in lines[0]


def test_silence_when_asked(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    small_fit(progress=False)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    small_fit()
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_a_bar_on_a_terminal(monkeypatch, capsys) -> None:
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    small_fit()
    assert "4/4" in capsys.readouterr().err


def test_durations() -> None:
    assert [progress_module.duration(s) for s in (0.4, 61, 3600 + 62)] == ["0:00", "1:01", "1:01:02"]
