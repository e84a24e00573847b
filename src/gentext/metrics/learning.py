"""Learning curves: how the error of classifiers falls with the number of examples they learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Classifier(Protocol):
    def predict(self, rows: Tensor, /) -> Tensor: ...


def learning_curves(
    methods: Mapping[str, Callable[[Tensor, Tensor], Classifier]],
    rows: Tensor,
    labels: Tensor,
    test_rows: Tensor,
    test_labels: Tensor,
    shares: Sequence[float],
    repeats: int = 5,
) -> dict[str, dict[str, list[float]]]:
    """Test error against the number of training examples.

    Every class gives the same share of its examples, drawn anew in each repeat (seeds 0, 1, ...) and the same for all
    methods.

    Args:
        methods: name -> function that fits a classifier to (rows, labels).
        rows, test_rows: (n, d) and (m, d).
        labels, test_labels: (n,) and (m,), integers 0..K−1.
        shares: in (0, 1], one for each point of the curves.
        repeats: at least 2, for there to be a deviation.

    Returns:
        by method: the number of "examples", the mean "error" in %, and its standard "deviation" between the repeats.
    """
    if repeats < 2:
        raise ValueError(f"repeats must be at least 2, so that there is a deviation, got {repeats}")
    curves: dict[str, dict[str, list[float]]] = {
        name: {"examples": [], "error": [], "deviation": []} for name in methods
    }
    for share in shares:
        draws = [share_of_each_class(labels, share, torch.Generator().manual_seed(seed)) for seed in range(repeats)]
        for name, fit in methods.items():
            errors = []
            for places in draws:
                predicted = fit(rows[places], labels[places]).predict(test_rows)
                errors.append(100 * (predicted.cpu() != test_labels.cpu()).double().mean())
            error = torch.stack(errors)  # (repeats,)
            curves[name]["examples"].append(len(draws[0]))
            curves[name]["error"].append(error.mean().item())
            curves[name]["deviation"].append(error.std().item())
    return curves


def share_of_each_class(labels: Tensor, share: float, generator: torch.Generator, at_least: int = 3) -> Tensor:
    """Places (m,) of a random `share` of every class's examples, and of `at_least` so many (or all that there are).

    Raises ValueError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    chosen = []
    for k in labels.unique().tolist():
        places = (labels == k).nonzero()[:, 0]
        count = max(at_least, round(share * len(places)))
        order = torch.randperm(len(places), generator=generator)[:count]
        chosen.append(places[order.to(places.device)])
    return torch.cat(chosen)
