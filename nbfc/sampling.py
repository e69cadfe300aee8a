"""The samples of an epoch, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import whole_number


def batches(X: Any, y: Any, batch_size: int, rng: np.random.Generator | None = None) -> Iterator[tuple[Array, Array]]:
    """Iterate once over the samples in batches; the last is smaller where batch_size does not divide N.

    Parameters
    ----------
    X : (N, …)
        Inputs, one sample a row; N ≥ 1.
    y : (N, …)
        Targets, one for each sample.
    batch_size : int
        Samples in a batch.
    rng : numpy.random.Generator, optional
        Shuffles the samples, so that they come in a new order at each call. Without one they come in their own order.

    Returns
    -------
    iterator of (X_batch, y_batch)
        Each a copy of the samples' rows.

    Raises
    ------
    ValueError
        If X is empty, X and y differ in length, or batch_size < 1.
    TypeError
        If batch_size is not an integer or rng not a Generator.
    """
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim == 0 or len(X) == 0:
        raise ValueError(f"X has shape {X.shape}: expected at least one sample.")
    if y.ndim == 0:
        raise ValueError("y is a single number: expected a target for each sample.")
    _arrays.check_rows(X, y)
    batch_size = whole_number("batch_size", batch_size, least=1)
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is {rng!r}: expected a generator, such as numpy.random.default_rng(seed), or None.")
    order = np.arange(len(X)) if rng is None else rng.permutation(len(X))
    parts = (order[start : start + batch_size] for start in range(0, len(X), batch_size))
    return ((X[part], y[part]) for part in parts)
