"""`fit`: the training loop of every chapter after the one that wrote its own.

Reads from top to bottom: what comes out, the function, then the loop. Three decisions make it short:

- Each draw is a function of (seed, number of the step). A checkpoint then needs weights, optimiser and counters only,
  and a resumed run repeats the unbroken one bit for bit (on a GPU as far as its kernels repeat themselves).
- Data is a tuple of tensors on the device; a batch is one `index_select` for each.
- In several processes each takes its rows of the same global batch and of the same noise, so N processes compute
  what one would, up to the order of the sums. Only dropout and batch norm, which see a process's own rows, differ.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentext._device import device as pick_device
from gentext.train import shard as sharding
from gentext.train.checkpoint import Progress, collect, load_checkpoint, prepare_directory, save_checkpoint
from gentext.train.config import FitConfig, autocast_dtype
from gentext.train.interrupt import Interrupt
from gentext.train.noise import SharedNoise
from gentext.train.progress import Reporter
from gentext.train.tensors import DROPOUT, NOISE, VALIDATION, BatchOrder, TensorData, in_order, step_seed
from gentext.zoo.store import unique_state

History = dict[str, dict[str, list[float]]]


@dataclass
class FitResult:
    """What a fit leaves.

    Attributes:
        model: the trained model in evaluation mode, with the averaged weights if the configuration asked for them.
        history: {"train": {"step": [...], "total": [...], <term>: [...]}, "validation": the same}, plain numbers ready
            for JSON. "train" holds averages over the steps since the last record.
        steps: optimiser steps done, those before a resume included; likewise `wall_seconds`.
        interrupted: Ctrl-C came before the last step.
    """

    model: nn.Module
    history: History
    steps: int
    wall_seconds: float
    device: torch.device
    interrupted: bool


def fit(
    model: nn.Module,
    train: TensorData,
    config: FitConfig,
    *,
    validation: TensorData | None = None,
    directory: str | Path | None = None,
    resume: bool = True,
    on_step: Callable[[int], None] | None = None,
    progress: bool = True,
    device: torch.device | str | None = None,
) -> FitResult:
    """Minimise `model.loss(batch, generator=...).total` over random batches of `train`.

    Args:
        model: has `loss(batch, *, generator=None)` returning an object with `total` (a scalar) and `terms`. It is
            trained in place.
        validation: measured every `validate_every` steps and at the end, in order, always with the same noise.
        directory: where the checkpoint lives; None for none. With `resume` a run found there goes on where it stopped.
        on_step: called before each step with the number of steps done, e.g. to move a weight of the loss.
        device: `gentext.device()` if None; under `accelerate launch` or torchrun, the process's own.

    Raises:
        ValueError: the model, data or directory cannot be used, or the checkpoint is damaged or of another run.
        FloatingPointError: the loss became infinite or NaN. The last checkpoint is from before.
    """
    loop = Loop(model, train, config, validation, directory, device)
    with loop.own_randomness():
        return loop.run(resume, on_step, progress)


class Objective(nn.Module):
    """Calls `model.loss`. A module, because DistributedDataParallel synchronises the gradients of `forward` only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        loss: Any = self.model.loss(batch, generator=generator)  # type: ignore[operator]
        if loss.total.ndim:
            raise ValueError(f"a loss's total must be a scalar, got shape {tuple(loss.total.shape)}: average it")
        return loss.total, {name: term.detach() for name, term in loss.terms.items() if name != "total"}


class Loop:
    """The state of one fit."""

    def __init__(
        self,
        model: nn.Module,
        train: TensorData,
        config: FitConfig,
        validation: TensorData | None,
        directory: str | Path | None,
        device: torch.device | str | None,
    ) -> None:
        from accelerate import Accelerator  # here: it takes a second to import, and not every reader trains

        if not callable(getattr(model, "loss", None)):
            raise ValueError(
                f"fit needs a model with a loss(batch, *, generator=None) method, {type(model).__name__} has none"
            )
        self.accelerator = Accelerator(device_placement=False, mixed_precision="no")
        self.world, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        if self.world > 1 and self.accelerator.distributed_type.value not in ("MULTI_CPU", "MULTI_GPU", "FSDP"):
            raise ValueError(
                "fit runs in one process or in several with DDP or FSDP: start it without DeepSpeed or TPU"
            )
        if config.batch_size % self.world:
            raise ValueError(f"batch_size {config.batch_size} cannot be shared evenly by {self.world} processes")
        self.config = config
        self.device = self.accelerator.device if self.world > 1 else pick_device(str(device) if device else None)
        self.model = model.to(self.device)
        self.train = train.to(self.device)
        self.validation = validation.to(self.device) if validation is not None else None
        self.directory = prepare_directory(Path(directory)) if directory is not None else None
        self.identity = identity(model, train, validation, config)
        self.names = tuple(unique_state(model))  # now: shares of tied weights cannot be told apart
        self.parameters = trainable(model)
        if not self.parameters:
            raise ValueError(f"{type(model).__name__} has no parameters to train")
        self.optimizer = make_optimizer(self.parameters, config, self.device)
        self.average = [parameter.detach().clone() for parameter in self.parameters] if config.ema_decay else None
        self.own_objective = Objective(model)  # and the one that knows of the other processes
        self.sharded = self.world > 1 and sharding.wanted()
        spread = self.world > 1 and not self.sharded
        self.objective: nn.Module = self.accelerator.prepare(self.own_objective) if spread else self.own_objective
        self.bf16 = autocast_dtype(config.precision, self.device)
        self.generator = torch.Generator(self.device)
        self.order = BatchOrder(len(train), config.batch_size, config.seed, self.device)
        self.sums: Tensor | None = None
        self.progress = Progress(0, 0.0, {"train": {"step": []}, "validation": {"step": []}}, [], 0)

    # ---- the run ---------------------------------------------------------------------------------------------------

    def run(self, resume: bool, on_step: Callable[[int], None] | None, visible: bool) -> FitResult:
        config, state = self.config, self.progress
        if resume and self.directory is not None:
            found = load_checkpoint(self.directory, self.model, self.optimizer, self.average, self.identity)
            if found is not None:
                self.progress, sums = found
                state, self.sums = self.progress, None if sums is None else sums.to(self.device)
            self.check_agreement()
        if self.sharded:
            self.shard()
        began = time.perf_counter() - state.wall_seconds
        reporter = Reporter(config.num_steps, state.step, visible and self.accelerator.is_main_process)
        self.model.train()
        with Interrupt() as interrupt:
            while state.step < config.num_steps and not self.stops(interrupt):
                if on_step is not None:
                    on_step(state.step)
                self.step(state.step)
                state.step += 1
                reporter.advance()
                last = state.step == config.num_steps
                if last or state.step % config.record_every == 0:
                    reporter.record(state.step, self.record())
                if self.validation is not None and (last or state.step % config.validate_every == 0):
                    self.validate()
                if last or state.step % config.checkpoint_every == 0:
                    state.wall_seconds = time.perf_counter() - began
                    self.checkpoint()
            interrupted = state.step < config.num_steps
            if interrupted:
                state.wall_seconds = time.perf_counter() - began
                self.checkpoint()
        where = f"; continue from the checkpoint in {self.directory}" if self.directory is not None else ""
        reporter.finish(state.step, f"interrupted{where}" if interrupted else "done")
        if self.average is not None:
            exchange(self.parameters, self.average)
        if self.sharded:
            sharding.unshard(self.model)
        self.model.eval()
        return FitResult(self.model, state.history, state.step, state.wall_seconds, self.device, interrupted)

    def shard(self) -> None:
        """Leave each process its share of all that has been set up so far, or read from the checkpoint."""
        remembered = self.optimizer.state_dict()["state"]
        sharding.shard(self.objective, self.device, self.world)
        self.parameters = trainable(self.model)
        self.optimizer = make_optimizer(self.parameters, self.config, self.device)
        sharding.share_optimizer(self.optimizer, remembered)
        if self.average is not None:
            self.average = [sharding.share_like(a, p) for a, p in zip(self.average, self.parameters, strict=True)]

    def step(self, step: int) -> None:
        """One optimiser step, without waiting for the device."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        self.seed_globally(step)
        self.generator.manual_seed(step_seed(config.seed, NOISE, step))
        batch = self.batch(step)
        with self.autocast(), self.shared_noise(len(batch[0])):
            total, terms = self.objective(batch, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(total)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, config.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - config.ema_decay_at(step))
        self.count(total.detach(), terms)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """This process's rows of the step's global batch. A transform sees the global batch, whose noise it draws."""
        indices, share = self.order.indices(step), self.config.batch_size // self.world
        own = slice(self.rank * share, (self.rank + 1) * share)
        transform = self.train.transform_at(step)
        if transform is None:
            return self.train.rows(indices[own])
        batch = transform(self.train.rows(indices), self.generator)
        return tuple(tensor[own] for tensor in batch)

    # ---- bookkeeping -----------------------------------------------------------------------------------------------

    def count(self, total: Tensor, terms: dict[str, Tensor]) -> None:
        """Add this step's terms to the running sums, on the device."""
        state = self.progress
        if self.device.type == "cpu" and self.world == 1 and not math.isfinite(total.item()):
            raise FloatingPointError(self.diverged(f"in step {state.step + 1}"))
        names = ["total", *terms]
        values = torch.stack([total.float(), *(term.float() for term in terms.values())])
        if self.sums is None or state.count == 0:
            state.terms, self.sums = names, values
        elif state.terms == names:
            self.sums += values
        else:
            raise ValueError(f"a loss must return the same terms each time, got {names} after {state.terms}")
        state.count += 1

    def record(self) -> dict[str, float]:
        """Average the terms since the last record, over all processes, into the history."""
        state = self.progress
        assert self.sums is not None
        means = self.accelerator.reduce(self.sums / state.count, "mean").tolist()
        record = dict(zip(state.terms, means, strict=True))
        self.check_finite(record, f"between steps {state.step - state.count + 1} and {state.step}")
        append(state.history["train"], state.step, record)
        state.count, self.sums = 0, None
        return record

    @torch.no_grad()
    def validate(self) -> None:
        """Average the terms over all of the validation data, with the averaged weights if there are any.

        Every process measures all of it: they agree without talking, and the book's validation sets are small.
        """
        assert self.validation is not None
        data = self.validation
        sums: dict[str, Tensor] = {}
        self.generator.manual_seed(step_seed(self.config.seed, VALIDATION, 0))
        self.model.eval()
        with self.averaged_weights(), self.autocast():
            for indices in in_order(len(data), self.config.batch_size, self.device):
                batch = data.rows(indices)
                if data.transform is not None:
                    batch = data.transform(batch, self.generator)
                total, terms = self.own_objective(batch, self.generator)
                for name, term in {**terms, "total": total}.items():
                    share = term.float() * (len(indices) / len(data))
                    sums[name] = sums[name] + share if name in sums else share
        self.model.train()
        record = {name: float(value) for name, value in sums.items()}
        self.check_finite(record, f"on the validation data after step {self.progress.step}")
        append(self.progress.history["validation"], self.progress.step, record)

    def checkpoint(self) -> None:
        """Write a checkpoint if there is a folder for it. A full disk is no reason to throw the training away."""
        if self.directory is None or not (self.sharded or self.accelerator.is_main_process):
            return
        state = self.model.state_dict()
        state = {name: sharding.whole(state[name]) for name in self.names}
        tensors = collect(state, self.optimizer, self.average, self.sums)
        if not self.accelerator.is_main_process:
            return
        if not all_finite([tensor for tensor in state.values() if tensor.is_floating_point()]):
            raise FloatingPointError(self.diverged(f"by step {self.progress.step}, in the weights"))
        try:
            save_checkpoint(self.directory, tensors, self.progress, self.identity)
        except OSError as error:
            warnings.warn(
                f"no checkpoint was written at step {self.progress.step} ({error.strerror or error}); training goes "
                f"on, and an older checkpoint in {self.directory} is still whole",
                RuntimeWarning,
                stacklevel=4,
            )

    def check_finite(self, record: dict[str, float], where: str) -> None:
        bad = [name for name, value in record.items() if not math.isfinite(value)]
        if bad:
            raise FloatingPointError(self.diverged(where, "loss" if "total" in bad else f"loss's term {bad[0]!r}"))

    def diverged(self, where: str, what: str = "loss") -> str:
        kept = f"; the last checkpoint in {self.directory} is from before" if self.directory is not None else ""
        return f"the {what} became infinite or NaN {where}: try a lower learning_rate or a smaller clip_norm{kept}"

    def check_agreement(self) -> None:
        """Machines that do not share a disk would resume from different steps, and wait for each other for ever."""
        steps = torch.tensor([self.progress.step], device=self.device)
        if self.world > 1 and bool((self.accelerator.gather(steps) != steps).any()):
            raise ValueError(f"the processes find different checkpoints: {self.directory} must be on a disk they share")

    # ---- contexts --------------------------------------------------------------------------------------------------

    def stops(self, interrupt: Interrupt) -> bool:
        """Whether Ctrl-C was pressed. Processes must stop at the same step, so several ask each other every tenth."""
        if self.world == 1:
            return interrupt.requested
        if self.progress.step % 10:
            return False
        flag = torch.tensor(float(interrupt.requested), device=self.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.bf16) if self.bf16 is not None else nullcontext()

    def shared_noise(self, rows: int) -> AbstractContextManager[Any]:
        return SharedNoise(self.generator, self.rank, self.world, rows) if self.world > 1 else nullcontext()

    def seed_globally(self, step: int) -> None:
        """Dropout knows only torch's global generators: seed them too, differently in each process."""
        seed = step_seed(self.config.seed, DROPOUT, step * self.world + self.rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)

    def own_randomness(self) -> AbstractContextManager[None]:
        """Leaves the caller's global generators as they were."""
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        if self.average is None:
            yield
            return
        exchange(self.parameters, self.average)
        try:
            yield
        finally:
            exchange(self.parameters, self.average)


def make_optimizer(parameters: list[nn.Parameter], config: FitConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW in its fused form where torch has one: at this book's sizes the step is otherwise mostly overhead."""
    decayed = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    if config.weight_decay:
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
    else:  # each group costs a call a step
        groups = [{"params": decayed + others, "weight_decay": 0.0}]
    try:
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.adam_betas, fused=True)
    except RuntimeError:  # torch before 2.4 on a CPU
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.adam_betas)


@torch.no_grad()
def exchange(parameters: list[nn.Parameter], average: list[Tensor]) -> None:
    """Swap the values of two lists of tensors."""
    for parameter, other in zip(parameters, average, strict=True):
        held = parameter.detach().clone()
        parameter.copy_(other)
        other.copy_(held)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def all_finite(tensors: list[Tensor]) -> bool:
    norms = torch._foreach_norm([tensor.detach() for tensor in tensors])
    return bool(torch.isfinite(torch.stack([norm.float() for norm in norms])).all())


def append(curves: dict[str, list[float]], step: int, terms: dict[str, float]) -> None:
    curves["step"].append(step)
    for name, value in terms.items():
        curves.setdefault(name, []).append(value)


def identity(model: nn.Module, train: TensorData, validation: TensorData | None, config: FitConfig) -> dict[str, Any]:
    """What must be the same for a checkpoint to be continued."""
    settings: Any = getattr(model, "config", None)
    entries = {
        "fit": {name: value for name, value in asdict(config).items() if name != "checkpoint_every"},
        "model": type(model).__name__,
        "config": asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else {},
        "trained weights": {name: list(p.shape) for name, p in model.named_parameters() if p.requires_grad},
        "train data": train.shapes(),
        "validation data": validation.shapes() if validation is not None else None,
    }
    return json.loads(json.dumps(entries, default=str))
