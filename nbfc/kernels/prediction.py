"""Prediction: rows through all layers, on one thread or on many."""

from numba import prange, types

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import ROWS_TOGETHER, columns_of, forward_outputs, share_of, shares_columns
from nbfc.kernels.layers import ACTIVATION, N_OUT, TABLE, bias, weights
from nbfc.kernels.memory import matrix_at
from nbfc.kernels.rows import is_small
from nbfc.kernels.workspace import ROWS


@kernel(parallel=True)
def predict(X, layers, parameters, work, Y, threads):
    """Y (N, n) = the network's outputs for X (N, m).

    Each thread owns whole rows of Y, and a row of `work`. Where rows are few they go through one layer after the other,
    in the first row of `work`, and each thread owns whole columns of a layer's outputs.
    """
    by_columns = threads > 1 and shares_columns(X.shape[0], parameters.shape[0])
    for phase in range(layers.shape[0] if by_columns else 1):
        layer = phase if by_columns else -1
        if threads == 1 or (by_columns and is_small(layers, layer, X.shape[0], N_OUT)):
            predict_share(X, layers, parameters, work, Y, layer, 0, 1)
        else:
            for share in prange(threads):
                predict_share(X, layers, parameters, work, Y, layer, share, threads)


@kernel(
    once=lambda real: (
        real[:, ::1],
        TABLE,
        real[::1],
        real[:, ::1],
        real[:, ::1],
        types.intp,
        types.intp,
        types.intp,
    )
)
def predict_share(X, layers, parameters, work, Y, layer, share, shares):
    """Take a share of the rows through all layers, or fill a share of the columns of one layer's outputs."""
    if layer < 0:
        predict_rows(X, layers, parameters, work[share], Y, share, shares)
    else:
        predict_columns(X, layers, parameters, work[0], Y, layer, share, shares)


@kernel
def predict_rows(X, layers, parameters, work, Y, share, shares):
    """Take the rows in blocks of `ROWS`, by way of two buffers in turns.

    Each buffer is half of `work`, and holds the widest hidden layer's outputs for a block.
    """
    first, end = share_of(X.shape[0], share, shares, ROWS_TOGETHER)
    last = layers.shape[0] - 1
    half = work.shape[0] // 2
    here, there = work[:half], work[half:]
    for r in range(first, end, ROWS):
        s = min(end, r + ROWS)
        source = X[r:s]
        for layer in range(last):
            n_out = layers[layer, N_OUT]
            hidden = matrix_at(here, 0, s - r, n_out)
            W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
            forward_outputs(source, W, b, layers[layer, ACTIVATION], hidden, 0, n_out)
            source = hidden
            here, there = there, here
        W, b = weights(layers, parameters, last), bias(layers, parameters, last)
        forward_outputs(source, W, b, layers[last, ACTIVATION], Y[r:s], 0, Y.shape[1])


@kernel
def predict_columns(X, layers, parameters, work, Y, layer, share, shares):
    """Fill the columns, from one buffer to the other."""
    N, n_out, half = X.shape[0], layers[layer, N_OUT], work.shape[0] // 2
    j0, j1 = columns_of(n_out, share, shares)
    W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
    source, target = X, Y
    if layer > 0:
        at = (layer - 1) % 2 * half
        source = matrix_at(work, at, N, W.shape[0])
    if layer < layers.shape[0] - 1:
        at = layer % 2 * half
        target = matrix_at(work, at, N, n_out)
    forward_outputs(source, W, b, layers[layer, ACTIVATION], target, j0, j1)
