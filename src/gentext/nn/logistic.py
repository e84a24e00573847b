"""Multinomial logistic regression, solved to its minimum: the discriminative yardstick of chapter 2 and of probes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gentext.nn.checks import check_codes


@dataclass(frozen=True)
class LogisticRegression:
    """p(y = k∣x) = softmax(xᵀ W + b)_k, with the weights and nothing else.

    Attributes:
        weight: (d, num_classes), float64 on the CPU.
        bias: (num_classes,).
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, rows: Tensor, labels: Tensor, *, inverse_penalty: float = 1.0) -> LogisticRegression:
        """Minimise  Σᵢ −log softmax(xᵢᵀ W + b)[yᵢ] + ‖W‖² / (2 C)  over W and b by L-BFGS.

        The penalty is on weights of standardised rows (mean 0, variance 1), so that no choice of units moves the
        answer. The problem is convex and solved to its minimum: the answer hangs on no seed and no step size.

        Args:
            rows: (n, d).
            labels: (n,) integers 0..K−1, every class present.
            inverse_penalty: C; larger is less regularised.

        Raises:
            ValueError: shapes do not match, labels are not such integers, or C is not positive.
        """
        if rows.ndim != 2 or len(rows) == 0 or labels.shape != rows.shape[:1]:
            raise ValueError(
                f"rows must have shape (n, d) with one label each, got {tuple(rows.shape)} and {tuple(labels.shape)}"
            )
        if labels.is_floating_point() or int(labels.min()) < 0 or not bool(labels.bincount().all()):
            raise ValueError("labels must be integers from 0 on, with an example of every class up to the largest")
        if not inverse_penalty > 0:
            raise ValueError(f"inverse_penalty must be positive, got {inverse_penalty}")
        num_classes = int(labels.max()) + 1
        if num_classes < 2:
            raise ValueError("logistic regression needs at least two classes among the labels")

        # Float64 on the CPU: the problem is small, the minimum exact, and Apple's GPUs have no float64.
        rows, labels = rows.detach().cpu().double(), labels.cpu()
        mean, std = rows.mean(0), rows.std(0, correction=0)
        std = torch.where(std > 1e-12 * (1 + mean.abs()), std, 1.0)  # a constant coordinate tells nothing: leave it 0
        standard = (rows - mean) / std  # (n, d)

        # Zeros, not nn.Linear's random start: nothing here draws from a generator.
        weight = torch.zeros(rows.shape[1], num_classes, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=1000, tolerance_grad=1e-5, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def objective() -> Tensor:
            optimiser.zero_grad()
            penalty = weight.square().sum() / (2 * inverse_penalty * len(standard))
            loss = F.cross_entropy(standard @ weight + bias, labels) + penalty
            loss.backward()
            return loss

        with torch.enable_grad():  # chapters evaluate under no_grad
            optimiser.step(objective)
        # Fold the standardisation into the weights: ((x − m) / s)ᵀ W + b = xᵀ (W / s) + b − (m / s)ᵀ W.
        weight, bias = weight.detach(), bias.detach()
        return cls(weight / std[:, None], bias - (mean / std) @ weight)

    def logits(self, rows: Tensor) -> Tensor:
        """xᵀ W + b of rows (n, d): (n, num_classes), float64 on the CPU."""
        check_codes(rows, len(self.weight), name="rows")
        return rows.detach().cpu().double() @ self.weight + self.bias

    def log_posterior(self, rows: Tensor) -> Tensor:
        """log p(y = k∣x) in nats, (n, num_classes)."""
        return self.logits(rows).log_softmax(dim=1)

    def predict(self, rows: Tensor) -> Tensor:
        """The most probable class of each row, (n,)."""
        return self.logits(rows).argmax(dim=1)
