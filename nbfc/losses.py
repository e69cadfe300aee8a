"""Losses by name: what targets each takes, and its value and gradient per sample.

====================== ======================================== ============================================
name                   J⁽ⁱ⁾ of a sample with outputs y          targets
====================== ======================================== ============================================
"mse"                  (1/n) Σ_j (y_j − t_j)²                   numbers (N, n), or (N,) where n is 1
"cross_entropy"        −Σ_j t_j log softmax(y)_j                integer labels (N,) in 0 … n − 1, or rows of
                                                                probabilities (N, n)
"binary_cross_entropy" −(1/n) Σ_j t_j log σ(y_j)                numbers in [0, 1], (N, n), or (N,) where n
                       + (1 − t_j) log(1 − σ(y_j))              is 1
====================== ======================================== ============================================

The two cross entropies take logits: the network's last layer has the activation "identity".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import choice
from nbfc.kernels import losses as kernels

LOSSES = {
    "mse": kernels.MEAN_SQUARED_ERROR,
    "cross_entropy": kernels.CROSS_ENTROPY_OF_ROWS,
    "binary_cross_entropy": kernels.BINARY_CROSS_ENTROPY,
}


_NO_LABELS = np.empty(0, np.int64)
_NO_ROWS = {dtype: np.empty((0, 0), dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


def check_targets(loss: str, y: Any, n_out: int, dtype: np.dtype[Any]) -> Array:
    """Return targets in the form that the kernels take: labels int64 (N,), or rows (N, n_out) of `dtype`.

    Raises
    ------
    ValueError
        If the loss is unknown, the shape is wrong, a label lies outside 0 … n_out − 1, a probability outside [0, 1],
        or a row of probabilities does not sum to 1.
    TypeError
        If y does not hold real numbers, or labels are not integers.
    """
    if loss == "mse" and _arrays.is_normal(y, dtype, n_out):
        return y  # type: ignore[no-any-return]
    choice("loss", loss, LOSSES)
    given = _arrays.numbers("y", y)
    targets = given
    if loss == "cross_entropy" and targets.ndim == 1:
        if targets.dtype.kind not in "biu":
            raise TypeError(
                f"y has dtype {targets.dtype}: cross_entropy expected integer labels of shape (N,), such as "
                f"y.astype(int), or probabilities of shape (N, {n_out})."
            )
        targets = _arrays.normal(targets, np.int64)
    else:
        if targets.ndim == 1 and n_out == 1:
            targets = targets[:, None]  # not broadcast against (N, 1) outputs, which would pair all with all
        why = f"{loss} takes a target for each of {n_out} outputs"
        if loss == "cross_entropy":
            why += ", or integer labels of shape (N,), such as y.ravel()"
        _arrays.check_shape("y", targets, ("N", n_out), why)
        targets = _arrays.normal(targets, dtype)
    bad: int = kernels.first_invalid(*kernel_arguments(loss, targets, dtype), n_out)
    if bad >= 0:
        raise ValueError(f"y[{bad}] is {given[bad]}: {_expected(loss, targets[bad], n_out)}.")
    return targets


def _expected(loss: str, target: Array, n_out: int) -> str:
    if target.ndim == 0:
        hint = " (binary_cross_entropy takes one output for two classes)" if n_out == 1 else ""
        return f"expected labels from 0 to {n_out - 1}, because the number of outputs is {n_out}{hint}"
    if loss == "binary_cross_entropy":
        return "binary_cross_entropy expected probabilities, numbers from 0 to 1"
    return (
        f"its sum is {target.sum():g}, where cross_entropy expected a row of probabilities, numbers from 0 to 1 whose "
        "sum is 1 (to within 0.01)"
    )


def kernel_arguments(loss: str, y: Array, dtype: np.dtype[Any]) -> tuple[int, Array, Array]:
    """Return a loss's code, labels and rows for targets that `check_targets` returned; one of the arrays is empty."""
    if y.ndim == 1:
        return kernels.CROSS_ENTROPY_OF_LABELS, y, _NO_ROWS[dtype]
    return LOSSES[loss], _NO_LABELS, y


def per_sample(loss: str, outputs: Array, y: Array) -> tuple[Array, Array]:
    """Return each sample's loss J (N,) and its gradient row dY (N, n) by the outputs, both without 1/N.

    Parameters
    ----------
    loss : {"mse", "cross_entropy", "binary_cross_entropy"}
    outputs : (N, n)
        The network's outputs; for the cross entropies these are logits.
    y
        Targets, as the loss takes them (see the table of this module).

    Returns
    -------
    J : (N,), dY : (N, n)
        float32 if `outputs` fit in it, float64 otherwise.

    Raises
    ------
    ValueError, TypeError
        As `check_targets` does, and if `outputs` is no matrix of real numbers with as many rows as y.
    """
    (Y,) = _arrays.alike(outputs=outputs)
    dtype = Y.dtype
    _arrays.check_shape("outputs", Y, ("N", "n"), "it has a row per sample")
    y = check_targets(loss, y, Y.shape[1], dtype)
    _arrays.check_rows(Y, y, "outputs")
    J, dY = np.empty(len(Y), dtype), np.empty_like(Y)
    code, labels, rows = kernel_arguments(loss, y, dtype)
    kernels.loss_rows(code, Y, labels, rows, J, dY)
    return J, dY
