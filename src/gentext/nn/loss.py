"""What a model's `loss` returns: the number to minimise, and the named terms it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A training loss and its parts.

    Attributes:
        total: scalar to differentiate, averaged over the batch.
        terms: named scalars for the log, detached or not, in the units the model states (nats unless said otherwise).
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
