"""A network as a live figure sees it: named float inputs, named float outputs, any batch size."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

MAX_BATCH = 1024  # a front end never asks for more at once; a broken one must not exhaust the memory


@dataclass(frozen=True)
class Network:
    """A module with names for what goes in and comes out.

    module: its `forward` takes the inputs in order, each (batch, *shape) float32, and returns a tensor or a tuple
        of tensors in the order of `outputs`.
    inputs: each input's shape without the batch dimension. A dimension that may vary from call to call, such as the
        number of tokens, is a name; where the name returns, the size must be the same.
    outputs: the outputs' names.
    axes: for each named dimension the largest size; the least is 1.
    """

    module: nn.Module
    inputs: dict[str, tuple[int | str, ...]]
    outputs: tuple[str, ...]
    axes: dict[str, int] = field(default_factory=dict)

    def example(self, batch: int) -> tuple[Tensor, ...]:
        """Inputs of the right shapes, all one half, on the CPU. Named dimensions get sizes unlike each other."""
        sizes = {name: min(largest, batch + 2 * k) for k, (name, largest) in enumerate(self.axes.items(), start=1)}
        return tuple(
            torch.full((batch, *(sizes[size] if isinstance(size, str) else size for size in shape)), 0.5)
            for shape in self.inputs.values()
        )

    @torch.no_grad()
    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the module in evaluation mode on its own device; leaves the module's mode as it was.

        Raises ValueError where a name, a shape or a number is wrong.
        """
        tensors = self._checked(inputs)
        parameter = next(self.module.parameters(), None)
        device = parameter.device if parameter is not None else torch.device("cpu")
        # A reader may ask while still training: put every submodule back as it was, dropout and all.
        modes = [(module, module.training) for module in self.module.modules()]
        self.module.eval()
        try:
            outputs = self.module(*(tensor.to(device) for tensor in tensors))
        finally:
            for module, mode in modes:
                module.training = mode
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return dict(zip(self.outputs, (output.float().cpu() for output in outputs), strict=True))

    def _checked(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        if set(inputs) != set(self.inputs):
            raise ValueError(f"the inputs must be {', '.join(self.inputs)}, not {', '.join(sorted(inputs)) or 'none'}.")
        batches = {tensor.shape[0] if tensor.dim() else 0 for tensor in inputs.values()}
        if len(batches) != 1 or not 1 <= next(iter(batches)) <= MAX_BATCH:
            raise ValueError(f"all inputs need the same batch size, from 1 to {MAX_BATCH}.")
        sizes: dict[str, int] = {}  # of named dimensions, as the first input has them
        for name, shape in self.inputs.items():
            found = tuple(inputs[name].shape[1:])
            if len(found) == len(shape):
                named = [(axis, size) for axis, size in zip(shape, found, strict=True) if isinstance(axis, str)]
                sizes = dict(named) | sizes
            wanted = tuple(sizes.get(size, 0) if isinstance(size, str) else size for size in shape)
            if found != wanted:
                raise ValueError(f"input {name} must have shape (batch, {', '.join(map(str, shape))}).")
        for axis, size in sizes.items():
            if not 1 <= size <= self.axes[axis]:
                raise ValueError(f"{axis} must be from 1 to {self.axes[axis]}, not {size}.")
        for name in self.inputs:
            if not torch.isfinite(inputs[name]).all():
                raise ValueError(f"input {name} has numbers that are not finite.")
        return [inputs[name].float() for name in self.inputs]
