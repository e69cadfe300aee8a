"""Targets, checked and in the form that the kernels take; and the loss of each sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc.kernels import losses as kernels
from nbfc.kernels._addresses import JOBS
from nbfc.kernels._jit import kernel
from nbfc.losses._classes import BinaryCrossEntropy, CrossEntropy, Loss, Poisson, resolve

_fill_rows, _find_invalid = (kernel(one.py_func, entry=True) for one in (kernels.loss_rows, kernels.first_invalid))


def check_targets(loss: Loss, y: Any, n_out: int, dtype: np.dtype[Any]) -> Array:
    """Return targets in the form that the kernels take: labels int64 (N,), or rows (N, n) of `dtype`.

    Raises
    ------
    ValueError
        If the shape is wrong, a label lies outside 0 … n_out − 1, a probability outside [0, 1], a count below 0, or a
        row of probabilities does not sum to 1.
    TypeError
        If y does not hold real numbers, or labels are not integers.
    """
    if loss.code == kernels.MEAN_SQUARED_ERROR and _arrays.is_normal(y, dtype, n_out):
        return y  # type: ignore[no-any-return]
    given = _arrays.numbers("y", y)
    targets, by_label = given, isinstance(loss, CrossEntropy)
    if by_label and targets.ndim == 1:
        if targets.dtype.kind not in "biu":
            raise TypeError(
                f"y has dtype {targets.dtype}: cross_entropy expected integer labels of shape (N,), such as "
                f"y.astype(int), or probabilities of shape (N, {n_out})."
            )
        targets = _arrays.normal(targets, np.int64)
    else:
        columns = loss.columns(n_out)
        if targets.ndim == 1 and columns == 1:
            targets = targets[:, None]  # not broadcast against (N, 1) outputs, which would pair all with all
        why = f"{loss.name} takes a target for each of {n_out} outputs"
        if columns < n_out:
            why = f"{loss.name} takes a target for each two of {n_out} outputs, its mean and log variance"
        if by_label:
            why += ", or integer labels of shape (N,), such as y.ravel()"
        _arrays.check_shape("y", targets, ("N", columns), why)
        targets = _arrays.normal(targets, dtype)
    bad = _first_invalid(loss, targets, n_out, dtype)
    if bad >= 0:
        raise ValueError(f"y[{bad}] is {given[bad]}: {_expected(loss, targets[bad], n_out)}.")
    return targets


def _first_invalid(loss: Loss, targets: Array, n_out: int, dtype: np.dtype[Any]) -> int:
    """Return the first sample whose targets the loss does not allow, or −1."""
    if isinstance(loss, Poisson):
        negative = (targets < 0).any(axis=1)
        return int(negative.argmax()) if negative.any() else -1
    code, labels, rows = loss.arguments(targets, dtype)
    return int(_find_invalid(code, labels, rows, n_out))


def _expected(loss: Loss, target: Array, n_out: int) -> str:
    if target.ndim == 0:
        hint = " (binary_cross_entropy takes one output for two classes)" if n_out == 1 else ""
        return f"expected labels from 0 to {n_out - 1}, because the number of outputs is {n_out}{hint}"
    if isinstance(loss, Poisson):
        return "poisson expected counts or rates, numbers from 0"
    if isinstance(loss, BinaryCrossEntropy):
        return "binary_cross_entropy expected probabilities, numbers from 0 to 1"
    return (
        f"its sum is {target.sum():g}, where cross_entropy expected a row of probabilities, numbers from 0 to 1 whose "
        "sum is 1 (to within 0.01)"
    )


def per_sample(loss: str | Loss, outputs: Array, y: Array) -> tuple[Array, Array]:
    """Return each sample's loss J (N,) and its gradient row dY (N, n) by the outputs, both without 1/N.

    Parameters
    ----------
    loss : Loss or its name
    outputs : (N, n)
        The network's outputs, in the form that the loss takes.
    y
        Targets, as the loss takes them (see the table of this module).

    Returns
    -------
    J : (N,), dY : (N, n)
        float32 if `outputs` fit in it, float64 otherwise.

    Raises
    ------
    ValueError, TypeError
        As `check_targets` does, if the loss is unknown, or if `outputs` is no matrix of real numbers with as many rows
        as y.
    """
    loss = resolve(loss)
    (Y,) = _arrays.alike("outputs", outputs)
    dtype = Y.dtype
    _arrays.check_shape("outputs", Y, ("N", "n"), "it has a row per sample")
    y = check_targets(loss, y, Y.shape[1], dtype)
    _arrays.check_rows(Y, y, "outputs")
    J, dY = np.empty(len(Y), dtype), np.empty_like(Y)
    code, labels, rows = loss.arguments(y, dtype)
    JOBS.finish()
    _fill_rows(code, loss.number, Y, labels, rows, J, dY)
    return J, dY
