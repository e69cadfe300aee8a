"""Prediction: rows through all layers, on one thread or on many."""

from numba import prange, types

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import forward_rows, share_of
from nbfc.kernels.layers import ACTIVATION, N_OUT, TABLE, bias, weights
from nbfc.kernels.workspace import ROWS


@kernel(parallel=True)
def predict(X, layers, parameters, work, Y, threads):
    """Y (N, n) = the network's outputs for X (N, m). Each thread owns whole rows of Y, and a row of `work`."""
    if threads == 1:
        predict_rows(X, layers, parameters, work, Y, 0, 1)
    else:
        for share in prange(threads):
            predict_rows(X, layers, parameters, work, Y, share, threads)


@kernel(once=lambda real: (real[:, ::1], TABLE, real[::1], real[:, ::1], real[:, ::1], types.intp, types.intp))
def predict_rows(X, layers, parameters, work, Y, share, shares):
    """Take a share of the rows through all layers, in blocks of `ROWS`, by way of two buffers in turns.

    Each buffer is half of a row of `work`, and holds the widest hidden layer's outputs for a block.
    """
    first, end = share_of(X.shape[0], share, shares)
    last = layers.shape[0] - 1
    half = work.shape[1] // 2
    here, there = work[share, :half], work[share, half:]
    for r in range(first, end, ROWS):
        s = min(end, r + ROWS)
        source = X[r:s]
        for layer in range(last):
            n_out = layers[layer, N_OUT]
            hidden = here[: (s - r) * n_out].reshape(s - r, n_out)
            W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
            forward_rows(source, W, b, layers[layer, ACTIVATION], hidden)
            source = hidden
            here, there = there, here
        W, b = weights(layers, parameters, last), bias(layers, parameters, last)
        forward_rows(source, W, b, layers[last, ACTIVATION], Y[r:s])
