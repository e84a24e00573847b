"""The linear layer that turns its weights round: the same numbers, fewer slow products."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gentext.nn import Linear, linear


def gradients(layer: nn.Module, x: Tensor, autocast: bool) -> list[Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = layer(x)
    (y.float() * torch.arange(y.numel()).view_as(y).cos()).sum().backward()
    return [y.detach(), *(part.grad for part in (x, *layer.parameters()) if part.grad is not None)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6)])
def test_emulated_bf16_gives_the_numbers_of_torchs_layer(
    bias: bool, autocast: bool, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "bf16_is_emulated", lambda: True)
    torch.manual_seed(0)
    ours = Linear(6, 4, bias=bias)
    theirs = nn.Linear(6, 4, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape)
    if not autocast:
        ours, theirs, x = ours.bfloat16(), theirs.bfloat16(), x.bfloat16()
    called: list[bool] = []
    turned = linear.TurnedLinear.apply
    monkeypatch.setattr(linear.TurnedLinear, "apply", lambda *parts: (called.append(True), turned(*parts))[1])
    for found, wanted in zip(
        gradients(ours, x.clone().requires_grad_(), autocast),
        gradients(theirs, x.clone().requires_grad_(), autocast),
        strict=True,
    ):
        assert found.dtype == wanted.dtype
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)  # one rounding of bf16
    assert called


def test_everything_else_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear.TurnedLinear, "apply", lambda *parts: pytest.fail("not for this"))
    layer = Linear(6, 4)
    x = torch.randn(3, 6)
    monkeypatch.setattr(linear, "bf16_is_emulated", lambda: True)
    layer(x)  # float32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        layer(x)  # nothing to differentiate
    monkeypatch.setattr(linear, "bf16_is_emulated", lambda: False)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)


def test_frozen_weights_get_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "bf16_is_emulated", lambda: True)
    layer = Linear(6, 4).requires_grad_(False)
    x = torch.randn(3, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, 6), rtol=2e-2, atol=2e-2)


def test_whether_bf16_is_emulated_is_a_plain_answer() -> None:
    assert linear.bf16_is_emulated() in (True, False)
