"""Losses that fewer networks have, and users' own.

Each is a function (Y, labels, targets, number, J, dY) like those of ``losses``; `number` is the loss's own, such as δ.
"""

from typing import Any

import numba
import numpy as np

from nbfc.kernels._addresses import ByAddress, Own
from nbfc.kernels._jit import kernel
from nbfc.kernels.exponential import exp
from nbfc.kernels.logarithm import log
from nbfc.kernels.losses import (
    GAUSSIAN_NLL,
    HUBER,
    LOSS_TABLE,
    MEAN_ABSOLUTE_ERROR,
    OWN,
    POISSON,
    QUANTILE,
    SMOOTHED_CROSS_ENTROPY,
    arguments,
    softmax,
)


@kernel(once=arguments)
def mean_absolute_error(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j |y_j − t_j|; ∂J/∂y_j = sign(y_j − t_j) / n, 0 where they are equal."""
    N, n = Y.shape
    share, zero = Y.dtype.type(1 / n), Y.dtype.type(0)
    for i in range(N):
        total = zero
        for j in range(n):
            error = Y[i, j] - T[i, j]
            total += abs(error)
            dY[i, j] = share if error > zero else (-share if error < zero else zero * error)  # NaN stays NaN
        J[i] = total * share


@kernel(once=arguments)
def huber(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j e²/2 where |e| ≤ δ, else δ (|e| − δ/2), for e = y_j − t_j; ∂J/∂y_j = e / n, cut to ± δ / n.

    Huber, 1964, section 3. `number` is δ.
    """
    N, n = Y.shape
    real = Y.dtype.type
    share, delta, half = real(1 / n), real(number), real(0.5)
    for i in range(N):
        total = real(0)
        for j in range(n):
            error = Y[i, j] - T[i, j]
            size = abs(error)
            total += half * error * error if size <= delta else delta * (size - half * delta)
            dY[i, j] = share * (error if size <= delta else (delta if error > real(0) else -delta))
        J[i] = total * share


@kernel(once=arguments)
def quantile(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j max(q e, (q − 1) e) for e = t_j − y_j; its minimum is the q-quantile of t.

    Koenker and Bassett, 1978, equation 2.1. `number` is q.
    """
    N, n = Y.shape
    real = Y.dtype.type
    share, q, below = real(1 / n), real(number), real(number - 1)
    for i in range(N):
        total = real(0)
        for j in range(n):
            error = T[i, j] - Y[i, j]
            total += q * error if error > real(0) else below * error
            dY[i, j] = -share * (q if error > real(0) else (below if error < real(0) else real(0) * error))
        J[i] = total * share


@kernel(once=arguments)
def poisson(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j exp y_j − t_j − t_j (y_j − log t_j); ∂J/∂y_j = (exp y_j − t_j) / n.

    Half the deviance of counts t ≥ 0; Y holds logarithms of rates. McCullagh and Nelder, 1989, section 2.3.
    """
    N, n = Y.shape
    real = Y.dtype.type
    share = real(1 / n)
    for i in range(N):
        total = real(0)
        for j in range(n):
            y, t = Y[i, j], T[i, j]
            rate = exp(y)
            total += rate - t - (t * (y - log(t)) if t > real(0) else real(0))
            dY[i, j] = share * (rate - t)
        J[i] = total * share


@kernel(once=arguments)
def gaussian_nll(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j (s_j + (t_j − μ_j)² exp(−s_j)) / 2, for outputs μ_1 … μ_n, s_1 … s_n: means and log variances.

    The negative logarithm of the likelihood without its constant, log(2π) / 2. Nix and Weigend, 1994, equation 3.
    """
    N, n = T.shape
    real = Y.dtype.type
    share, half = real(1 / n), real(0.5)
    for i in range(N):
        total = real(0)
        for j in range(n):
            s, error = Y[i, n + j], Y[i, j] - T[i, j]
            precision = exp(-s)
            square = error * error * precision
            total += half * (s + square)
            dY[i, j] = share * error * precision
            dY[i, n + j] = share * half * (real(1) - square)
        J[i] = total * share


@kernel(once=arguments)
def smoothed_cross_entropy(Y, labels, T, number, J, dY):
    """Cross entropy of targets t′ = (1 − ε) t + ε/n: J = Σ_j t′_j (log Σ exp(y) − y_j); ∂J/∂y = (Σ t′) softmax(y) − t′.

    Szegedy et al., 2016, section 7. `number` is ε. Labels are rows of zeros and a one.
    """
    N, n = Y.shape
    real = Y.dtype.type
    keep, rest, by_label = real(1 - number), real(number / n), labels.shape[0] > 0
    for i in range(N):
        highest, log_sum = softmax(Y[i], dY[i])
        total, mass = real(0), real(0)
        for j in range(n):
            t = rest + keep * (real(labels[i] == j) if by_label else T[i, j])
            total += t * (log_sum - (Y[i, j] - highest))
            mass += t
        for j in range(n):
            dY[i, j] = mass * dY[i, j] - (rest + keep * (real(labels[i] == j) if by_label else T[i, j]))
        J[i] = total


for _code, _loss in (
    (MEAN_ABSOLUTE_ERROR, mean_absolute_error),
    (HUBER, huber),
    (QUANTILE, quantile),
    (POISSON, poisson),
    (GAUSSIAN_NLL, gaussian_nll),
    (SMOOTHED_CROSS_ENTROPY, smoothed_cross_entropy),
):
    LOSS_TABLE.add(_code, _loss.kernel)


# ---- users' own ------------------------------------------------------------------------------------------------------


def _enter(code: int, function: Any) -> None:
    """Make a kernel of a user's function. What that raises counts as NaN: threads could not tell anyone."""

    def own_loss(Y, labels, T, number, J, dY):
        for i in range(Y.shape[0]):
            try:
                J[i] = function(Y[i], T[i], dY[i])
            except Exception:
                J[i] = np.nan

    own_loss.__name__ = f"own_loss_{code}"
    LOSS_TABLE.add(code, ByAddress(numba.njit(own_loss, error_model="numpy", nogil=True), arguments, is_own=True))


OWN_LOSSES = Own(OWN, _enter)
