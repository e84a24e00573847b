"""Weights in shares: each process keeps its part of every tensor and borrows the rest for the time of a step (FSDP).

Weights, gradients, averages and what the optimiser remembers then take 1/N of the memory in each of N processes. The
model is one group: at the sizes of this book, gathering it block by block would save little and read worse. PyTorch
calls the sharded tensor a DTensor; operations on it go over all shares.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn


def wanted() -> bool:
    """Whether the launcher asked for it: `accelerate launch --use_fsdp` sets this, beside torchrun set it yourself."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")


def shard(objective: nn.Module, device: torch.device, world: int) -> None:
    """Leave this process its share of every parameter below `objective`, in place.

    Raises:
        ValueError: this PyTorch is too old.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise ValueError(f"FSDP needs PyTorch 2.6 or newer, this is {torch.__version__}: train without it") from None
    fully_shard(objective, mesh=init_device_mesh(device.type, (world,)), reshard_after_forward=True)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together (all processes must call it at once); any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def share_like(tensor: Tensor, sharded: Tensor) -> Tensor:
    """A whole tensor sharded as `sharded` is, if it is and has the same shape; else as it was."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(sharded, DTensor) or tensor.shape != sharded.shape:
        return tensor
    return distribute_tensor(tensor.to(sharded.device), sharded.device_mesh, sharded.placements)


def share_optimizer(optimizer: torch.optim.Optimizer, remembered: dict[int, dict[str, Tensor]]) -> None:
    """Give an optimiser over sharded parameters what one over whole parameters remembered."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: {name: share_like(value, parameters[index]) for name, value in entry.items()}
        for index, entry in remembered.items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def unshard(model: nn.Module) -> None:
    """Give the model whole parameters again, in place; tied ones stay tied."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) not in made:
                made[id(parameter)] = nn.Parameter(whole(parameter), requires_grad=parameter.requires_grad)
            setattr(module, name, made[id(parameter)])
