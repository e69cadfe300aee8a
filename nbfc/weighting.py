"""What each sample's loss counts in the mean: (1/N) Σ_i w⁽ⁱ⁾ J⁽ⁱ⁾."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from nbfc import _arrays
from nbfc._arrays import Array

NO_WEIGHTS = {dtype: np.empty(0, dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


def check_weights(sample_weight: Any, N: int, dtype: np.dtype[Any]) -> Array:
    """Return weights as the kernels take them: (N,), or (0,) for None.

    Raises
    ------
    ValueError
        If there are not N, or one is negative, NaN or infinite.
    TypeError
        If they are no real numbers.
    """
    if sample_weight is None:
        return NO_WEIGHTS[dtype]
    weights = _arrays.numbers("sample_weight", sample_weight)
    _arrays.check_shape("sample_weight", weights, (N,), f"X has {N} rows")
    weights = _arrays.normal(weights, dtype)
    _arrays.check_finite("sample_weight", weights)
    if (negative := np.flatnonzero(weights < 0)).size:
        raise ValueError(f"sample_weight[{negative[0]}] is {weights[negative[0]]:g}: expected weights from 0.")
    return weights


def relative_weights(sample_weight: Any, class_weight: Any, y: Array, n_out: int, dtype: np.dtype[Any]) -> Array:
    """Return weights of all training samples with the mean 1, or (0,) where nothing is weighted.

    `y` is from ``nbfc.losses.check_targets``; `class_weight` is as for ``nbfc.fit``.

    Raises
    ------
    ValueError
        As `check_weights` does; if all weights are zero; or if `class_weight` comes for targets that are no labels, or
        names a class that they cannot have.
    TypeError
        If one is of another type.
    """
    if sample_weight is None and class_weight is None:
        return NO_WEIGHTS[dtype]
    weights = np.ones(len(y)) if sample_weight is None else check_weights(sample_weight, len(y), np.dtype(np.float64))
    if class_weight is not None:
        if y.ndim != 1:
            raise ValueError("class_weight came for targets that are no labels: expected labels, integers (N,).")
        weights = weights * _of_classes(class_weight, y, n_out)[y]
    most = weights.max()
    if not most > 0:
        raise ValueError("all weights of the samples are zero: expected one above, as nothing is learned otherwise.")
    weights = weights / most  # whose sum cannot overflow
    return _arrays.normal(weights / weights.mean(), dtype)


def _of_classes(class_weight: Any, y: Array, n_out: int) -> Array:
    """Return the weight of each class."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(y, minlength=n_out)
        return len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"class_weight is {class_weight!r}: expected 'balanced', or a dict of classes' weights.")
    weights = np.ones(n_out)
    for label, weight in class_weight.items():
        if not isinstance(label, Integral) or label not in range(n_out):
            raise ValueError(f"class_weight names the class {label!r}: expected labels from 0 to {n_out - 1}.")
        if not isinstance(weight, Real) or not 0 <= float(weight) < float("inf"):
            raise ValueError(f"class_weight[{label!r}] is {weight!r}: expected a finite number from 0.")
        weights[int(label)] = weight
    return weights
