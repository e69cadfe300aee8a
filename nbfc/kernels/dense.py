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

from nbfc.kernels._jit import kernel
from nbfc.kernels.elementwise import RELU, activate
from nbfc.kernels.multiply import multiply
from nbfc.kernels.tile import BIAS, ZERO

ROWS = 32  # samples in a block: few enough that a block's inputs and outputs stay in the L1 and L2 caches
INPUTS = 64  # rows of dW in a block, at least: enough to make up for copying panels of dY
WIDE_INPUTS = 256
WEIGHTS = 16384  # entries of dW in a block of narrow rows
OUTPUTS = 64  # entries of db in a block: four cache lines of float32, so that no two threads write to one


@kernel
def count_blocks(total, size):
    """Return how many blocks of `size` it takes to hold `total`."""
    return (total + size - 1) // size


@kernel
def span(block, size, total):
    """Return where a block starts and stops."""
    return block * size, min(total, (block + 1) * size)


@kernel
def inputs_in_block(n):
    """Return how many rows of a dW with n outputs make a block."""
    return WIDE_INPUTS if n >= 512 else max(INPUTS, WEIGHTS // n)


@kernel
def forward_rows(X, W, b, activation, Y):
    """Y = activation(X W + b), in the notes: y_i = Σ_j w_ij x_j + b_i, then relu."""
    multiply(X, W, Y, BIAS, b, activation == RELU)
    if activation != RELU:
        activate(activation, Y)


@kernel(parallel=True)
def forward(X, W, b, activation, Y, threads):
    """`forward_rows` on all of X. Each thread owns whole rows of Y."""
    N = X.shape[0]
    if threads > 1:
        for block in prange(count_blocks(N, ROWS)):
            r, s = span(block, ROWS, N)
            forward_rows(X[r:s], W, b, activation, Y[r:s])
    else:
        forward_rows(X, W, b, activation, Y)


@kernel
def bias_gradient_outputs(dY, db, j0, j1):
    """① db = (1/N) Σ_i ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, for outputs j0 to j1."""
    N = dY.shape[0]
    for j in range(j0, j1):
        db[j] = 0
    for i in range(N):
        for j in range(j0, j1):
            db[j] += dY[i, j]
    count = db.dtype.type(N)
    for j in range(j0, j1):
        db[j] /= count


@kernel(parallel=True)
def bias_gradient(dY, db, threads):
    """`bias_gradient_outputs` on all outputs. Each thread owns whole entries of db."""
    n = dY.shape[1]
    if threads > 1:
        for block in prange(count_blocks(n, OUTPUTS)):
            j0, j1 = span(block, OUTPUTS, n)
            bias_gradient_outputs(dY, db, j0, j1)
    else:
        bias_gradient_outputs(dY, db, 0, n)


@kernel
def weight_gradient_inputs(X, dY, dW, k0, k1):
    """② dW = (1/N) Σ_i x⁽ⁱ⁾ ⊗ ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, for inputs k0 to k1; N × m × n numbers that are never stored."""
    block = dW[k0:k1]
    multiply(X[:, k0:k1].T, dY, block, ZERO, dW[0], False)
    count = dW.dtype.type(dY.shape[0])
    for k in range(k1 - k0):
        for j in range(dW.shape[1]):
            block[k, j] /= count


@kernel(parallel=True)
def weight_gradient(X, dY, dW, threads):
    """`weight_gradient_inputs` on all inputs. Each thread owns whole rows of dW."""
    m, n = dW.shape
    size = inputs_in_block(n)
    if threads > 1:
        for block in prange(count_blocks(m, size)):
            k0, k1 = span(block, size, m)
            weight_gradient_inputs(X, dY, dW, k0, k1)
    else:
        for block in range(count_blocks(m, size)):
            k0, k1 = span(block, size, m)
            weight_gradient_inputs(X, dY, dW, k0, k1)


@kernel
def input_gradient_rows(dY, W, dX):
    """③ ∂J/∂x = w × ∂J/∂y: row i of dX is W · ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾."""
    multiply(dY, W.T, dX, ZERO, W[0], False)


@kernel(parallel=True)
def input_gradient(dY, W, dX, threads):
    """`input_gradient_rows` on all of dY. Each thread owns whole rows of dX."""
    N = dY.shape[0]
    if threads > 1:
        for block in prange(count_blocks(N, ROWS)):
            r, s = span(block, ROWS, N)
            input_gradient_rows(dY[r:s], W, dX[r:s])
    else:
        input_gradient_rows(dY, W, dX)
