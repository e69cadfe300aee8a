"""Losses: one number J⁽ⁱ⁾ per sample and its gradient row ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, without 1/N.

The mean over the batch is taken elsewhere: of J where the cost is reported, of the gradient in equations ① and ②.
A loss is an integer code; ``nbfc.losses`` holds the names. Some take their targets as integer labels (N,), the others
as rows (N, n); every function is given both arrays and reads one. The losses of most networks are here, the others in
``further_losses``; all are called by way of a table, and compiled when first wanted.
"""

from typing import NamedTuple

from numba import types
from numba.extending import register_jitable

from nbfc._arrays import Array
from nbfc.kernels._addresses import Table
from nbfc.kernels._jit import kernel
from nbfc.kernels.exponential import exp
from nbfc.kernels.layers import INTEGERS, KIND, SOFTMAX_OF_ROWS
from nbfc.kernels.logarithm import log, log1p

# Pickled states hold these numbers; 1 was a loss once.
MEAN_SQUARED_ERROR, CROSS_ENTROPY, BINARY_CROSS_ENTROPY = 0, 2, 3
MEAN_ABSOLUTE_ERROR, HUBER, QUANTILE, POISSON, GAUSSIAN_NLL, SMOOTHED_CROSS_ENTROPY = range(4, 10)
OWN = 10  # from here on: users' own


class Objective(NamedTuple):
    """What a batch of N samples is to learn.

    labels int64 (N,) or (0,), rows (N, n) or (0, n): targets, as the loss takes them. weights (N,): what each sample's
    loss counts, or (0,). loss: its code. number: its own number. key: of the step's dropout, or 0 (see ``dropout``).
    """

    labels: Array
    rows: Array
    weights: Array
    loss: int
    number: float
    key: int


def objective(real):
    """Return the type of an `Objective`."""
    return types.NamedTuple((INTEGERS, real[:, ::1], real[::1], types.intp, types.float64, types.intp), Objective)


def arguments(real):
    """Return the types of what the table's losses take: Y, labels, targets, the loss's own number, J and dY."""
    return real[:, ::1], INTEGERS, real[:, ::1], types.float64, real[::1], real[:, ::1]


@register_jitable
def depth_for(layers: Array, loss: int) -> int:
    """Return how many layers, from the first, a loss is taken of: all, but for cross entropy after a softmax.

    It takes that by itself, of the logits before, without what exp would lose.
    """
    by_logits = loss in (CROSS_ENTROPY, SMOOTHED_CROSS_ENTROPY)
    return len(layers) - 1 if by_logits and layers[-1, KIND] == SOFTMAX_OF_ROWS else len(layers)


LOSS_TABLE = Table("losses", arguments)
call_of_table, has_loss = LOSS_TABLE.call, LOSS_TABLE.has


@kernel(entry=True)
def loss_rows(loss, number, Y, labels, targets, J, dY):
    """Fill J (N,) and dY (N, n) for outputs Y (N, n) and labels int64 (N,) or targets (N, n)."""
    call_of_table(loss, Y, labels, targets, number, J, dY)


@kernel
def weigh(weights, J, dY):
    """Multiply samples' losses and their gradients by what each counts."""
    for i in range(weights.shape[0]):
        J[i] *= weights[i]
        for j in range(dY.shape[1]):
            dY[i, j] *= weights[i]


@kernel(once=arguments)
def mean_squared_error(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j (y_j − t_j)²; ∂J/∂y_j = 2 (y_j − t_j) / n."""
    N, n = Y.shape
    share = Y.dtype.type(1 / n)
    two = Y.dtype.type(2)
    for i in range(N):
        total = Y.dtype.type(0)
        for j in range(n):
            error = Y[i, j] - T[i, j]
            total += error * error
            dY[i, j] = two * share * error
        J[i] = total * share


@kernel
def softmax(y, p):
    """p_j = exp(y_j) / Σ exp(y), for one row; return h = max y and log Σ exp(y − h), whose sum is log Σ exp(y).

    The maximum is taken out of the exponents, so that nothing overflows, and is returned apart, so that a small
    loss is not lost in the rounding of large logits: J = log Σ exp(y − h) − (y_label − h).
    """
    n = y.shape[0]
    highest = y[0]
    for j in range(1, n):
        highest = max(highest, y[j])
    for j in range(n):
        p[j] = exp(y[j] - highest)
    total = sum_of(p)
    for j in range(n):
        p[j] /= total
    return highest, log(total)


@kernel(reassociate=True)
def sum_of(p):
    """Return Σ_j p_j."""
    total = p.dtype.type(0)
    for j in range(p.shape[0]):
        total += p[j]
    return total


@kernel(once=arguments)
def cross_entropy(Y, labels, T, number, J, dY):
    """J = Σ_j t_j (log Σ exp(y) − y_j); ∂J/∂y = (Σ t) softmax(y) − t. Y holds logits, T probabilities.

    Of a label t has a one, and zeros: J = log Σ exp(y) − y_label; ∂J/∂y = softmax(y) − e_label.
    """
    N, n = Y.shape
    for i in range(N):
        highest, log_sum = softmax(Y[i], dY[i])
        if labels.shape[0] > 0:
            J[i] = log_sum - (Y[i, labels[i]] - highest)
            dY[i, labels[i]] -= Y.dtype.type(1)
            continue
        total = Y.dtype.type(0)
        mass = Y.dtype.type(0)  # Σ t is 1 but for rounding; with it J and its gradient agree to the last bit or two
        for j in range(n):
            total += T[i, j] * (log_sum - (Y[i, j] - highest))
            mass += T[i, j]
        for j in range(n):
            dY[i, j] = mass * dY[i, j] - T[i, j]
        J[i] = total


@kernel(once=arguments)
def binary_cross_entropy(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j −t log σ(y) − (1 − t) log(1 − σ(y)); ∂J/∂y = (σ(y) − t) / n. Y holds logits, T lies in [0, 1].

    Both logarithms are written with e = exp(−|y|), which never overflows:
    J = (1/n) Σ_j max(y, 0) − t y + log(1 + e), and σ(y) is 1/(1 + e) or e/(1 + e).
    """
    N, n = Y.shape
    zero, one = Y.dtype.type(0), Y.dtype.type(1)
    share = Y.dtype.type(1 / n)
    for i in range(N):
        total = zero
        for j in range(n):
            y, t = Y[i, j], T[i, j]
            e = exp(-abs(y))
            total += max(y, zero) - t * y + log1p(e)
            sigma = (one if y >= zero else e) / (one + e)
            dY[i, j] = (sigma - t) * share
        J[i] = total * share


for _code, _loss in (
    (MEAN_SQUARED_ERROR, mean_squared_error),
    (CROSS_ENTROPY, cross_entropy),
    (BINARY_CROSS_ENTROPY, binary_cross_entropy),
):
    LOSS_TABLE.add(_code, _loss.kernel)


@kernel(entry=True)
def first_invalid(loss, labels, T, n):
    """Return the first sample whose targets the loss does not allow for n outputs, or −1."""
    for i in range(labels.shape[0]):
        if labels[i] < 0 or labels[i] >= n:
            return i
    if loss not in (CROSS_ENTROPY, BINARY_CROSS_ENTROPY, SMOOTHED_CROSS_ENTROPY):
        return -1
    for i in range(T.shape[0]):
        mass = 0.0
        for j in range(n):
            if not 0 <= T[i, j] <= 1:  # this way round a NaN is found
                return i
            mass += T[i, j]
        if loss != BINARY_CROSS_ENTROPY and abs(mass - 1) > 0.01:  # float16 probabilities come within this
            return i
    return -1
