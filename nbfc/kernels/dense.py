"""The four equations of a fully connected layer, each beside its formula.

Shapes, in the notes' letters: N samples, m inputs, n outputs. Loop letters: i sample, j output, k input::

    X (N, m)   inputs, one sample a row          dX (N, m)   row i is ∂J⁽ⁱ⁾/∂x⁽ⁱ⁾
    W (m, n)   weights, one column per output    dW (m, n)   ∂J/∂W, a mean over samples
    b (n,)     bias                              db (n,)     ∂J/∂b, a mean over samples
    Y (N, n)   outputs                           dY (N, n)   row i is ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, without 1/N

All arrays are C-contiguous and of one dtype, float32 or float64. Outputs are only written, inputs only read.

Each equation stands here as a serial function on a block; the training step calls these. Behind it is the same equation
for whole arrays, cut into blocks over threads. A number is always summed in an order that is the same wherever the cuts
fall: that is why the bits do not depend on the number of threads.
"""

from numba import prange, types

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.elementwise import IDENTITY, RELU, activate, multiply_by_derivative
from nbfc.kernels.memory import flat
from nbfc.kernels.multiply import (
    NARROW,
    mean_of_rows,
    multiply_bias,
    multiply_mask,
    multiply_scale,
    multiply_scale_and_ask,
)

WHOLE = 16  # rows or columns that are not shared out further: whole tiles, and whole cache lines
INPUTS_TOGETHER = 8  # rows of W likewise: a whole tile
ROWS_TOGETHER = 4  # samples likewise: a tile of half the height, with the widest registers
# Fewer rows than this are few: not they are shared out then, but columns, so that each thread reads a part of the large
# matrix alone. Nor are fewer than the second number, where a matrix has more entries than the third: each thread would
# read it all, and no cache near it holds so many.
FEW_ROWS, MORE_ROWS, LARGE = 32, 128, 2**19
# Of a single product columns are shared out where they are so many times the rows, so that less is read and copied. But
# each row then has a place where what one thread writes ends and another's begins, which costs time: not for sums of so
# few terms, unless rows are few.
WIDE, SHORT = 2, 16


@inlined
def share_of(total, share, shares, whole):
    """Return where one of so many shares of `total` rows starts and stops: nearly equal, in so many rows together."""
    units = (total + whole - 1) // whole
    return min(total, units * share // shares * whole), min(total, units * (share + 1) // shares * whole)


@kernel
def shares_columns(N, entries):
    """Return whether threads share the columns of a matrix, or of several of so many entries, and not the N rows."""
    return N < FEW_ROWS or is_too_large(N, entries)


@inlined
def is_too_large(rows, entries):
    """Return whether a matrix has too many entries for each thread to read them all for some of so many rows."""
    return rows < MORE_ROWS and entries > LARGE


@inlined
def shares_columns_of_product(rows, columns, terms):
    """Return whether threads share a product's columns, and not its rows, where its sums have so many terms."""
    wide = columns >= WIDE * rows and (terms > SHORT or rows < FEW_ROWS)
    return columns >= 2 * WHOLE and (wide or is_too_large(rows, columns * terms))


@inlined
def columns_of(total, share, shares):
    """Return where a share of columns starts and stops: empty, or more than `NARROW` unless there are fewer in all.

    A product with few columns may sum in another order (see ``multiply``), and the bits would depend on the cuts.
    """
    units = max(1, (total + WHOLE - NARROW - 1) // WHOLE)
    start, stop = units * share // shares * WHOLE, units * (share + 1) // shares * WHOLE
    return min(total, start), total if share + 1 == shares else min(total, stop)


@kernel(once=lambda real: (real[:, ::1], real[:, ::1], real[::1], types.intp, real[:, ::1], types.intp, types.intp))
def forward_outputs(X, W, b, activation, Y, j0, j1):
    """Y = activation(X W + b), in the notes: y_i = Σ_j w_ij x_j + b_i, then relu; for outputs j0 to j1."""
    multiply_bias(X, W[:, j0:j1], b[j0:j1], activation == RELU, Y[:, j0:j1])
    if activation != RELU:
        activate_columns(activation, Y, j0, j1)


@kernel
def activate_columns(activation, Y, j0, j1):
    """Replace columns j0 to j1 of Y by their activations."""
    if j1 - j0 == Y.shape[1]:
        activate(activation, flat(Y))
    else:
        for i in range(Y.shape[0]):
            activate(activation, Y[i, j0:j1])


@kernel(once=lambda real: (real[:, ::1], real[:, ::1], real[::1], real[:, ::1], *[types.intp] * 4))
def forward_chain(X, W, b, Y, k0, k1, j0, j1):
    """Y = the part of X W + b that is over inputs k0 to k1, b being with the first of them; for outputs j0 to j1."""
    if k0 == 0:
        multiply_bias(X[:, k0:k1], W[k0:k1, j0:j1], b[j0:j1], False, Y[:, j0:j1])
    else:
        multiply_scale(X[:, k0:k1], W[k0:k1, j0:j1], Y.dtype.type(1), False, Y[:, j0:j1])


@kernel(parallel=True)
def forward(X, W, b, activation, Y, threads):
    """`forward_outputs` on all of X. Each thread owns whole rows of Y, or whole columns."""
    N, n = Y.shape
    for share in prange(threads):
        if shares_columns_of_product(N, n, W.shape[0]):
            j0, j1 = columns_of(n, share, threads)
            forward_outputs(X, W, b, activation, Y, j0, j1)
        else:
            r, s = share_of(N, share, threads, ROWS_TOGETHER)
            forward_outputs(X[r:s], W, b, activation, Y[r:s], 0, n)


@kernel
def bias_gradient_outputs(dY, db, j0, j1):
    """① db = (1/N) Σ_i ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, for outputs j0 to j1."""
    mean_of_rows(dY, j0, j1, db[j0:j1])


@kernel(parallel=True)
def bias_gradient(dY, db, threads):
    """`bias_gradient_outputs` on all outputs. Each thread owns whole entries of db."""
    n = dY.shape[1]
    for share in prange(threads):
        j0, j1 = share_of(n, share, threads, WHOLE)
        bias_gradient_outputs(dY, db, j0, j1)


@kernel(once=lambda real: (*[real[:, ::1]] * 3, *[types.intp] * 5))
def weight_gradient_inputs(X, dY, dW, shift, k0, k1, j0, j1):
    """② dW = (1/N) Σ_i x⁽ⁱ⁾ ⊗ ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, for inputs k0 to k1 and outputs j0 to j1.

    The N × m × n numbers of the notes are never stored. If W, which is updated next, lies `shift` bytes after dW, it is
    asked for meanwhile: another thread's cache may have it. (0: nothing is.)
    """
    scale = dW.dtype.type(1 / dY.shape[0])
    multiply_scale_and_ask(X[:, k0:k1].T, dY[:, j0:j1], scale, shift, dW[k0:k1, j0:j1])


@kernel(parallel=True)
def weight_gradient(X, dY, dW, threads):
    """`weight_gradient_inputs` on all inputs. Each thread owns whole rows of dW, or whole columns."""
    m, n = dW.shape
    for share in prange(threads):
        if shares_columns_of_product(m, n, dY.shape[0]):
            j0, j1 = columns_of(n, share, threads)
            weight_gradient_inputs(X, dY, dW, 0, 0, m, j0, j1)
        else:
            k0, k1 = share_of(m, share, threads, INPUTS_TOGETHER)
            weight_gradient_inputs(X, dY, dW, 0, k0, k1, 0, n)


@kernel(
    once=lambda real: (
        real[:, ::1],
        real[:, ::1],
        types.intp,
        real[:, ::1],
        real[:, ::1],
        types.boolean,
        types.intp,
        types.intp,
    )
)
def input_gradient_inputs(dY, W, activation, X, dX, few, k0, k1):
    """③ ∂J/∂x = w × ∂J/∂y: row i of dX is W · ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, for inputs k0 to k1.

    Times the derivative at X of its activation. `few` says that the rows are all there are, and few (see ``multiply``).
    """
    if activation == RELU:
        multiply_mask(dY, W[k0:k1].T, X[:, k0:k1], few, dX[:, k0:k1])
        return
    multiply_scale(dY, W[k0:k1].T, dX.dtype.type(1), few, dX[:, k0:k1])
    if activation != IDENTITY and k1 - k0 == dX.shape[1]:
        multiply_by_derivative(activation, flat(X), flat(dX))
    elif activation != IDENTITY:
        for i in range(dX.shape[0]):
            multiply_by_derivative(activation, X[i, k0:k1], dX[i, k0:k1])


@kernel(parallel=True)
def input_gradient(dY, W, dX, threads):
    """`input_gradient_inputs` on all of dY. Each thread owns whole rows of dX, or whole columns."""
    N, m = dX.shape
    few = N < FEW_ROWS
    for share in prange(threads):
        if shares_columns_of_product(N, m, W.shape[1]):
            k0, k1 = columns_of(m, share, threads)
            input_gradient_inputs(dY, W, IDENTITY, dX, dX, few, k0, k1)
        else:
            r, s = share_of(N, share, threads, ROWS_TOGETHER)
            input_gradient_inputs(dY[r:s], W, IDENTITY, dX[r:s], dX[r:s], few, 0, m)
