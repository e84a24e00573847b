"""Measures of codes: what a linear reader finds in them, and how many of their numbers are in use."""

from __future__ import annotations

from torch import Tensor

from gentext.nn import LogisticRegression


def linear_probe(
    codes: Tensor, labels: Tensor, test_codes: Tensor, test_labels: Tensor, *, inverse_penalty: float = 1.0
) -> float:
    """Share of test examples whose class multinomial logistic regression reads off their code.

    `nn.LogisticRegression` is fitted to the training codes: each coordinate brought to mean 0 and variance 1, a penalty
    ‖W‖² / (2 C) on the weights, the minimum exact.

    Args:
        codes, test_codes: (n, d) and (m, d).
        labels, test_labels: (n,) and (m,) integers; a test class that no training example has counts as missed.
        inverse_penalty: C; larger is less regularised.

    Returns:
        the accuracy, in [0, 1].

    Raises:
        ValueError: shapes do not match, labels are not integers, or there is only one class to learn.
    """
    for name, rows, marks in (("codes", codes, labels), ("test_codes", test_codes, test_labels)):
        if rows.ndim != 2 or marks.shape != rows.shape[:1] or rows.shape[1] != codes.shape[-1] or len(rows) == 0:
            raise ValueError(
                f"{name} must have shape (n, {codes.shape[-1]}) with one label a row, "
                f"got {tuple(rows.shape)} and labels {tuple(marks.shape)}"
            )
        if marks.is_floating_point():
            raise ValueError(f"labels must be integers, got {marks.dtype}")
    classes, target = labels.cpu().unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError("a probe needs at least two classes among the training labels")

    model = LogisticRegression.fit(codes, target, inverse_penalty=inverse_penalty)
    predicted = classes[model.predict(test_codes)]
    return (predicted == test_labels.cpu()).double().mean().item()


def active_units(means: Tensor, threshold: float = 0.01) -> int:
    """How many latents tell something about x: Var_x(E_q[z_j∣x]) > threshold (Burda et al. 2016, section 5).

    A latent that the decoder ignores falls back to the prior: its posterior mean is the same for every x.

    Args:
        means: posterior means of many x, (n, latent_dim), n at least 2.

    Raises:
        ValueError: the means have another shape.
    """
    if means.ndim != 2 or len(means) < 2:
        raise ValueError(f"means must have shape (n, latent_dim) with n at least 2, got {tuple(means.shape)}")
    return int((means.var(0) > threshold).sum())
