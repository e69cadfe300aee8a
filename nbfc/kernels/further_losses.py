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
    arguments,
    sum_of,
    take_means,
)
from nbfc.kernels.memory import flat


@kernel(once=arguments)
def mean_absolute_error(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j |y_j − t_j|; ∂J/∂y_j = sign(y_j − t_j) / n, 0 where they are equal."""
    share, zero = Y.dtype.type(1 / Y.shape[1]), Y.dtype.type(0)
    y, t, dy = flat(Y), flat(T), flat(dY)
    for k in range(y.shape[0]):
        dy[k] = abs(y[k] - t[k])
    take_means(dY, J)
    for k in range(y.shape[0]):
        error = y[k] - t[k]
        dy[k] = share if error > zero else (-share if error < zero else zero * error)  # NaN stays NaN


@kernel(once=arguments)
def huber(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j e²/2 where |e| ≤ δ, else δ (|e| − δ/2), for e = y_j − t_j; ∂J/∂y_j = e / n, cut to ± δ / n.

    Huber, 1964, section 3. `number` is δ.
    """
    real = Y.dtype.type
    share, delta, half, zero = real(1 / Y.shape[1]), real(number), real(0.5), real(0)
    y, t, dy = flat(Y), flat(T), flat(dY)
    for k in range(y.shape[0]):
        size = abs(y[k] - t[k])
        dy[k] = half * size * size if size <= delta else delta * (size - half * delta)
    take_means(dY, J)
    for k in range(y.shape[0]):
        error = y[k] - t[k]
        dy[k] = share * (error if abs(error) <= delta else (delta if error > zero else -delta))


@kernel(once=arguments)
def quantile(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j max(q e, (q − 1) e) for e = t_j − y_j; its minimum is the q-quantile of t.

    Koenker and Bassett, 1978, equation 2.1. `number` is q.
    """
    real = Y.dtype.type
    share, q, below, zero = real(1 / Y.shape[1]), real(number), real(number - 1), real(0)
    y, t, dy = flat(Y), flat(T), flat(dY)
    for k in range(y.shape[0]):
        error = t[k] - y[k]
        dy[k] = q * error if error > zero else below * error
    take_means(dY, J)
    for k in range(y.shape[0]):
        error = t[k] - y[k]
        dy[k] = -share * (q if error > zero else (below if error < zero else zero * error))


@kernel(once=arguments)
def poisson(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j exp y_j − t_j − t_j (y_j − log t_j); ∂J/∂y_j = (exp y_j − t_j) / n.

    Half the deviance of counts t ≥ 0; Y holds logarithms of rates. McCullagh and Nelder, 1989, section 2.3.
    """
    share = Y.dtype.type(1 / Y.shape[1])
    y, t, dy = flat(Y), flat(T), flat(dY)
    poisson_terms(y, t, dy)
    take_means(dY, J)
    for k in range(y.shape[0]):
        dy[k] = share * (exp(y[k]) - t[k])


@kernel
def poisson_terms(y, t, terms):
    """Fill what `poisson` is the mean of (here, as Numba warns of an exp beside another)."""
    zero = y.dtype.type(0)
    for k in range(y.shape[0]):
        terms[k] = exp(y[k]) - t[k] - (t[k] * (y[k] - log(t[k])) if t[k] > zero else zero)


@kernel(once=arguments)
def gaussian_nll(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j (s_j + (t_j − μ_j)² exp(−s_j)) / 2, for outputs μ_1 … μ_n, s_1 … s_n: means and log variances.

    The negative logarithm of the likelihood without its constant, log(2π) / 2. Nix and Weigend, 1994, equation 3.
    """
    N, n = T.shape
    real = Y.dtype.type
    share, half, one = real(1 / n), real(0.5), real(1)
    for i in range(N):
        means, variances = dY[i, :n], dY[i, n:]
        for j in range(n):
            s, error = Y[i, n + j], Y[i, j] - T[i, j]
            variances[j] = exp(-s)  # the precision
            means[j] = half * (s + error * error * variances[j])
        J[i] = share * sum_of(means)
        for j in range(n):
            error, precision = Y[i, j] - T[i, j], variances[j]
            means[j] = share * error * precision
            variances[j] = share * half * (one - error * error * precision)


for _code, _loss in (
    (MEAN_ABSOLUTE_ERROR, mean_absolute_error),
    (HUBER, huber),
    (QUANTILE, quantile),
    (POISSON, poisson),
    (GAUSSIAN_NLL, gaussian_nll),
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
