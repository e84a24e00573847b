"""A linear layer that is not slow to train in bf16 on processors which have no arithmetic for it."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """`nn.Linear`: the same weights, the same function, the same gradients.

    A CPU without bf16 arithmetic emulates it, and torch's product is then five times slower when neither factor is
    transposed. The gradient of the input is such a product; this layer turns the weights round for it.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and torch.is_grad_enabled() and in_bf16(input) and bf16_is_emulated():
            return TurnedLinear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return super().forward(input)


class TurnedLinear(torch.autograd.Function):
    """x Wᵀ + b in bf16, whose backward pass multiplies by transposed factors only."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)  # (..., in) -> (..., out)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)  # (n, out)
        return (
            F.linear(grad, weight.T.contiguous()) if of_x else None,
            rows.T @ x.flatten(0, -2) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def in_bf16(x: Tensor) -> bool:
    """Whether a product with x is taken in bf16."""
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16


@functools.cache
def bf16_is_emulated() -> bool:
    """Whether this CPU lacks bf16 arithmetic that torch knows how to use."""
    try:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # a torch without oneDNN, or on another kind of processor
        return False
