"""Decisions from the outputs of a classifier or a controller."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.core.errors import TypingError

from nbfc._arrays import Array
from nbfc.jit._calls import body_of, callable_from_python
from nbfc.kernels._addresses import REALS, belongs_to_these_sources


def _check_logits(logits):
    if not (isinstance(logits, types.Array) and logits.ndim == 1 and logits.dtype in REALS):
        raise TypingError(f"nbfc.jit: logits are {logits}: expected the outputs for one sample, a vector of floats.")


@callable_from_python
def argmax(logits: Array) -> int:  # type: ignore[empty-body]
    """Return the place of the largest of the outputs (n,) for one sample: the first of them, or of a NaN."""


@body_of(argmax)
def _argmax(logits):
    _check_logits(logits)

    def implementation(logits):
        belongs_to_these_sources()
        if logits.shape[0] == 0:
            raise ValueError("nbfc.jit: logits are empty: expected at least one")
        best = 0
        for j in range(1, logits.shape[0]):
            if np.isnan(logits[best]):
                break
            if not logits[j] <= logits[best]:
                best = j
        return best

    return implementation


@callable_from_python
def softmax(logits: Array) -> Array:  # type: ignore[empty-body]
    """Return exp(y_j) / Σ exp(y) for the outputs (n,) of one sample: probabilities, of the same dtype.

    Outputs of a network that ends with a softmax are such already. Its logits are those of a policy without that layer:
    ``policy._replace(layers=policy.layers[:-1])``.
    """


@body_of(softmax)
def _softmax(logits):
    _check_logits(logits)

    def implementation(logits):
        highest = logits[argmax(logits)]
        p = np.empty_like(logits)
        total = 0.0
        for j in range(logits.shape[0]):
            p[j] = math.exp(logits[j] - highest)
            total += p[j]
        for j in range(logits.shape[0]):
            p[j] /= total
        return p

    return implementation


@callable_from_python
def sample(logits: Array, u: float) -> int:  # type: ignore[empty-body]
    """Return j with the probability softmax(logits)_j, for a uniform random number u.

    Parameters
    ----------
    logits : (n,)
        The outputs for one sample, before a softmax (see `softmax`).
    u : float in [0, 1)
        Such as ``rng.random()`` of a NumPy generator, or ``np.random.random()``, both of which compiled code can call.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If u is no number in [0, 1), or the logits are NaN, empty, or none of them is above −∞.
    """


@body_of(sample)
def _sample(logits, u):
    _check_logits(logits)
    if not isinstance(u, (types.Float, types.Integer)):
        raise TypingError(f"nbfc.jit: u is {u}: expected a uniform random number, such as rng.random().")

    def implementation(logits, u):
        highest = float(logits[argmax(logits)])
        if not 0 <= u < 1:
            raise ValueError("nbfc.jit: u is no number in [0, 1)")
        if not math.isfinite(highest):
            raise ValueError("nbfc.jit: logits hold NaN or infinity, or none is above minus infinity")
        total = 0.0
        for j in range(logits.shape[0]):
            total += math.exp(logits[j] - highest)
        rest, last = u * total, 0
        for j in range(logits.shape[0]):
            weight = math.exp(logits[j] - highest)
            if weight > 0:
                last = j  # what rounding leaves over belongs to the last that is possible
                rest -= weight
                if rest < 0:
                    break
        return last

    return implementation
