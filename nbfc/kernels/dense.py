"""The four equations of a fully connected layer, each beside its formula.

Shapes, in the notes' letters: N samples, m inputs, n outputs. Loop letters: i sample, j output, k input::

    X (N, m)   inputs, one sample a row          dX (N, m)   row i is ∂J⁽ⁱ⁾/∂x⁽ⁱ⁾
    W (m, n)   weights, one column per output    dW (m, n)   ∂J/∂W, a mean over samples
    b (n,)     bias                              db (n,)     ∂J/∂b, a mean over samples
    Y (N, n)   outputs                           dY (N, n)   row i is ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, without 1/N

All arrays are C-contiguous and of one dtype, float32 or float64. Outputs are only written, inputs only read.

Each equation stands here once, as a serial function on a block; the training step calls these. Behind it is the same
equation for whole arrays, cut into blocks over threads. A number is always summed by one thread, in the order of its
terms, wherever the cuts fall: that is why the bits do not depend on the number of threads.
"""

from numba import prange

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.elementwise import IDENTITY, RELU, activate, multiply_by_derivative
from nbfc.kernels.multiply import mean_of_rows, multiply_bias, multiply_mask, multiply_scale

WHOLE = 16  # rows or columns that are not shared out further: whole tiles, and whole cache lines of db


@inlined
def share_of(total, share, shares):
    """Return where one of so many nearly equal shares of `total` rows or columns starts and stops."""
    tiles = (total + WHOLE - 1) // WHOLE
    return min(total, tiles * share // shares * WHOLE), min(total, tiles * (share + 1) // shares * WHOLE)


@kernel
def forward_rows(X, W, b, activation, Y):
    """Y = activation(X W + b), in the notes: y_i = Σ_j w_ij x_j + b_i, then relu."""
    multiply_bias(X, W, b, activation == RELU, Y)
    if activation != RELU:
        activate(activation, Y)


@kernel(parallel=True)
def forward(X, W, b, activation, Y, threads):
    """`forward_rows` on all of X. Each thread owns whole rows of Y."""
    if threads == 1:
        forward_rows(X, W, b, activation, Y)
    else:
        for share in prange(threads):
            r, s = share_of(X.shape[0], share, threads)
            forward_rows(X[r:s], W, b, activation, Y[r:s])


@kernel
def bias_gradient_outputs(dY, db, j0, j1):
    """① db = (1/N) Σ_i ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, for outputs j0 to j1."""
    mean_of_rows(dY, j0, j1, db[j0:j1])


@kernel(parallel=True)
def bias_gradient(dY, db, threads):
    """`bias_gradient_outputs` on all outputs. Each thread owns whole entries of db."""
    n = dY.shape[1]
    if threads == 1:
        bias_gradient_outputs(dY, db, 0, n)
    else:
        for share in prange(threads):
            j0, j1 = share_of(n, share, threads)
            bias_gradient_outputs(dY, db, j0, j1)


@kernel
def weight_gradient_inputs(X, dY, dW, k0, k1):
    """② dW = (1/N) Σ_i x⁽ⁱ⁾ ⊗ ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, for inputs k0 to k1; N × m × n numbers that are never stored."""
    multiply_scale(X[:, k0:k1].T, dY, dW.dtype.type(1 / dY.shape[0]), dW[k0:k1])


@kernel(parallel=True)
def weight_gradient(X, dY, dW, threads):
    """`weight_gradient_inputs` on all inputs. Each thread owns whole rows of dW."""
    m = dW.shape[0]
    if threads == 1:
        weight_gradient_inputs(X, dY, dW, 0, m)
    else:
        for share in prange(threads):
            k0, k1 = share_of(m, share, threads)
            weight_gradient_inputs(X, dY, dW, k0, k1)


@kernel
def input_gradient_rows(dY, W, activation, X, dX):
    """③ ∂J/∂x = w × ∂J/∂y: row i of dX is W · ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾. Times the derivative at X of its activation."""
    if activation == RELU:
        multiply_mask(dY, W.T, X, dX)
    else:
        multiply_scale(dY, W.T, dX.dtype.type(1), dX)
        multiply_by_derivative(activation, X, dX)


@kernel(parallel=True)
def input_gradient(dY, W, dX, threads):
    """`input_gradient_rows` on all of dY. Each thread owns whole rows of dX."""
    if threads == 1:
        input_gradient_rows(dY, W, IDENTITY, dX, dX)
    else:
        for share in prange(threads):
            r, s = share_of(dY.shape[0], share, threads)
            input_gradient_rows(dY[r:s], W, IDENTITY, dX[r:s], dX[r:s])
