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
from nbfc.kernels.exponential import exp, number_in_order, place_in_order
from nbfc.kernels.layers import INTEGERS, KIND, SOFTMAX_OF_ROWS
from nbfc.kernels.logarithm import log, log1p
from nbfc.kernels.memory import flat

# Pickled states hold these numbers; 1 and 9 were losses once.
MEAN_SQUARED_ERROR, CROSS_ENTROPY, BINARY_CROSS_ENTROPY = 0, 2, 3
MEAN_ABSOLUTE_ERROR, HUBER, QUANTILE, POISSON, GAUSSIAN_NLL = range(4, 9)
OWN = 10  # from here on: users' own


class Objective(NamedTuple):
    """What a batch of N samples is to learn.

    labels int64 (N,) or (0,), rows (N, n) or (0, n): targets, as the loss takes them. weights (N,): what each sample's
    loss counts, or (0,). loss: its code. number: its own number. key: of the step's dropout, or 0 (see ``dropout``).
    longest: to what length each sample's gradient is shortened, or 0 (see ``sample_norms``).
    """

    labels: Array
    rows: Array
    weights: Array
    loss: int
    number: float
    key: int
    longest: float


def objective(real):
    """Return the type of an `Objective`."""
    arrays, numbers = (INTEGERS, real[:, ::1], real[::1]), (types.intp, types.float64, types.intp, types.float64)
    return types.NamedTuple(arrays + numbers, Objective)


def arguments(real):
    """Return the types of what the table's losses take: Y, labels, targets, the loss's own number, J and dY."""
    return real[:, ::1], INTEGERS, real[:, ::1], types.float64, real[::1], real[:, ::1]


@register_jitable
def depth_for(layers: Array, loss: int) -> int:
    """Return how many layers, from the first, a loss is taken of: all, but for cross entropy after a softmax.

    It takes that by itself, of the logits before, without what exp would lose.
    """
    return len(layers) - 1 if loss == CROSS_ENTROPY and layers[-1, KIND] == SOFTMAX_OF_ROWS else len(layers)


LOSS_TABLE = Table("losses", arguments)
call_of_table, has_loss = LOSS_TABLE.call, LOSS_TABLE.has


@kernel
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


@kernel
def take_means(terms, J):
    """J⁽ⁱ⁾ ← (1/n) Σ_j terms_ij. Apart from the terms, which no sum then keeps from being computed as vectors."""
    share = J.dtype.type(1 / terms.shape[1])
    for i in range(J.shape[0]):
        J[i] = share * sum_of(terms[i])


@kernel(once=arguments)
def mean_squared_error(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j (y_j − t_j)²; ∂J/∂y_j = 2 (y_j − t_j) / n."""
    slope = Y.dtype.type(2 / Y.shape[1])
    y, t, dy = flat(Y), flat(T), flat(dY)
    for k in range(y.shape[0]):
        error = y[k] - t[k]
        dy[k] = error * error
    take_means(dY, J)
    for k in range(y.shape[0]):
        dy[k] = slope * (y[k] - t[k])


@kernel
def subtract_highest(Y, dY):
    """dY ← y − max y, row by row: of this exp does not overflow, and a small loss is not lost in large logits."""
    for i in range(Y.shape[0]):
        highest = highest_of(Y[i])
        for j in range(Y.shape[1]):
            dY[i, j] = Y[i, j] - highest


@kernel
def highest_of(y):
    """Return max y, by integers in the same order: the compiler makes no vectors of a maximum of floats.

    NaN may be the largest or the least. The sum of exponentials is NaN either way.
    """
    highest = place_in_order(y[0])
    for j in range(1, y.shape[0]):
        place = place_in_order(y[j])
        highest = place if place > highest else highest
    return number_in_order(highest, y[0])


@kernel(reassociate=True)
def sum_of(p):
    """Return Σ_j p_j."""
    total = p.dtype.type(0)
    for j in range(p.shape[0]):
        total += p[j]
    return total


@kernel(reassociate=True)
def mean_under(t, y):
    """Return Σ_j t_j y_j, for probabilities t; what has none counts nothing, though y be −∞ there."""
    total, zero = y.dtype.type(0), y.dtype.type(0)
    for j in range(y.shape[0]):
        total += t[j] * y[j] if t[j] != zero else zero
    return total


@kernel(once=arguments)
def cross_entropy(Y, labels, T, number, J, dY):
    """J = Σ_j t_j (log Σ exp(y) − y_j); ∂J/∂y = (Σ t) softmax(y) − t. Y holds logits, T probabilities.

    Of a label t has a one, and zeros. Smoothed by `number`, ε, it is (1 − ε) t + ε/n: Szegedy et al., 2016, section 7.
    """
    N, n = Y.shape
    keep, rest, by_label = Y.dtype.type(1 - number), Y.dtype.type(number / n), labels.shape[0] > 0
    subtract_highest(Y, dY)
    for i in range(N):
        J[i] = keep * (dY[i, labels[i]] if by_label else mean_under(T[i], dY[i]))
        if rest > 0:  # or 0 · −∞ would be NaN
            J[i] += rest * sum_of(dY[i])
    dy = flat(dY)
    for k in range(dy.shape[0]):
        dy[k] = exp(dy[k])
    for i in range(N):
        total = sum_of(dY[i])
        # Σ t is 1 but for rounding: with it J and its gradient agree to the last bit or two.
        mass = keep * (Y.dtype.type(1) if by_label else sum_of(T[i])) + Y.dtype.type(number)
        J[i] = mass * log(total) - J[i]
        scale = mass / total
        for j in range(n):
            dY[i, j] = dY[i, j] * scale - rest
        if by_label:
            dY[i, labels[i]] -= keep
    if not by_label:
        t = flat(T)
        for k in range(dy.shape[0]):
            dy[k] -= keep * t[k]


@kernel
def binary_terms(y, t, terms):
    """Fill what `binary_cross_entropy` is the mean of (here, as Numba warns of an exp beside another)."""
    zero = y.dtype.type(0)
    for k in range(y.shape[0]):
        terms[k] = max(y[k], zero) - t[k] * y[k] + log1p(exp(-abs(y[k])))


@kernel(once=arguments)
def binary_cross_entropy(Y, labels, T, number, J, dY):
    """J = (1/n) Σ_j −t log σ(y) − (1 − t) log(1 − σ(y)); ∂J/∂y = (σ(y) − t) / n. Y holds logits, T lies in [0, 1].

    Both logarithms are written with e = exp(−|y|), which never overflows:
    J = (1/n) Σ_j max(y, 0) − t y + log(1 + e), and σ(y) is 1/(1 + e) or e/(1 + e).
    """
    zero, one, share = Y.dtype.type(0), Y.dtype.type(1), Y.dtype.type(1 / Y.shape[1])
    y, t, dy = flat(Y), flat(T), flat(dY)
    binary_terms(y, t, dy)
    take_means(dY, J)
    for k in range(y.shape[0]):
        e = exp(-abs(y[k]))
        sigma = (one if y[k] >= zero else e) / (one + e)
        dy[k] = (sigma - t[k]) * share


for _code, _loss in (
    (MEAN_SQUARED_ERROR, mean_squared_error),
    (CROSS_ENTROPY, cross_entropy),
    (BINARY_CROSS_ENTROPY, binary_cross_entropy),
):
    LOSS_TABLE.add(_code, _loss.kernel)


@kernel
def first_invalid(loss, labels, T, n):
    """Return the first sample whose targets the loss does not allow for n outputs, or −1."""
    for i in range(labels.shape[0]):
        if labels[i] < 0 or labels[i] >= n:
            return i
    if loss not in (CROSS_ENTROPY, BINARY_CROSS_ENTROPY):
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
