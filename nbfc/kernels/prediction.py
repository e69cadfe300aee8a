"""Prediction: rows through all layers, on one thread or on many."""

import sys
from typing import Any

from numba import prange, types
from numba.extending import register_jitable

from nbfc._arrays import Array, aligned_empty
from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels._threads import MOST_THREADS
from nbfc.kernels.dense import ROWS_TOGETHER, columns_of, forward_outputs, share_of, shares_columns
from nbfc.kernels.elementwise import IDENTITY, RELU, activate
from nbfc.kernels.few_samples import is_small
from nbfc.kernels.layers import (
    ACTIVATION,
    BIAS_AT,
    DENSE,
    KIND,
    N_IN,
    N_OUT,
    TABLE,
    WEIGHTS_AT,
    WIDEST,
    bias,
    weights,
)
from nbfc.kernels.memory import address_of, flat, matrix_at, matrix_of, size_of, vector_at, vector_of
from nbfc.kernels.multiply import LARGE_B_FOR_FEW, NARROW, is_large, multiply_vector
from nbfc.kernels.packed import copy_panels, multiply_panels_bias, size_of_panels
from nbfc.kernels.tile import BIAS, STORE, Ends, Matrix
from nbfc.kernels.tile import RELU as CUT
from nbfc.kernels.turns import begin_turns, blocks_in_turn, number_of_blocks
from nbfc.kernels.whole_rows import FORWARD, go
from nbfc.kernels.workspace import ROWS

MOST_PANELS = 2**21  # entries: a cache that threads share should hold them
FEWEST_TO_PACK = 2 * ROWS  # samples that make up for it
ROWS_OF_PACKED = 128  # in a block, where panels have been copied: few, that all threads may end at the same time
ENTRIES_OF_LINE = 16  # of the cache, at least: buffers and panels start at one
COPY, BY_ROWS = range(2)  # phases, where rows are many; where they are few, each layer is one


def memory(layers: Array, samples: int, dtype: Any) -> tuple[int, Array]:
    """Return memory for predictions, a row for each thread, and for how many samples at most it serves.

    A row has two buffers (see `predict_rows`). Further rows end with the panels, where there are any.
    """
    most = samples if samples <= ROWS else FEWEST_TO_PACK - 1 if samples < FEWEST_TO_PACK else sys.maxsize
    columns = max(ENTRIES_OF_LINE, 2 * size_of_buffer.py_func(layers, samples))  # one layer needs no buffers
    rows = MOST_THREADS - (-size_of_all_panels(samples, layers, dtype.itemsize) // columns)
    return most, aligned_empty((rows, columns), dtype)


@kernel(parallel=True)
def predict(X, layers, parameters, work, Y, threads):
    """Y (N, n) = the network's outputs for X (N, m).

    Threads take blocks of rows in turns; each has a row of `work`. Where rows are many, the panels of large weights are
    copied to the end of `work` first. Where they are few they go through one layer after the other, in the first row of
    `work`, and threads share the columns of a layer's outputs.
    """
    begin_turns(threads)
    for share in prange(threads):
        predict_share(X, layers, parameters, work, Y, share, threads)


@kernel(once=lambda real: (real[:, ::1], TABLE, real[::1], *[real[:, ::1]] * 2, *[types.intp] * 2))
def predict_share(X, layers, parameters, work, Y, share, shares):
    """Take one thread through a prediction, phase by phase."""
    N = X.shape[0]
    if shares > 1 and shares_columns(N, parameters.shape[0]):
        for layer in range(layers.shape[0]):
            blocks = 1 if is_small(layers, layer, N, N_OUT) else shares
            for block in blocks_in_turn(layer, blocks, share, shares):
                predict_columns(X, layers, parameters, work[0], Y, layer, block, blocks)
    elif N == 1:
        number, half = work.dtype.type(1), work.shape[1] // 2
        x, y, buffers = address_of(X), address_of(Y), address_of(work)
        predict_row(layers, address_of(parameters), x, buffers, half, y, number)
    else:
        blocks = shares if size_of_all_panels(N, layers, Y.itemsize) > 0 else 0
        for block in blocks_in_turn(COPY, blocks, share, shares):
            copy_all_panels(N, layers, parameters, work, block, blocks)
        predict_rows(X, layers, parameters, work, Y, share, shares)


@kernel
def predict_rows(X, layers, parameters, work, Y, share, shares):
    """Take blocks of rows, of nearly the same size, from one buffer to the other, layer by layer.

    Each buffer holds a block of the widest outputs of a layer before the last.
    """
    N, last, size = X.shape[0], layers.shape[0] - 1, size_of_buffer(layers, X.shape[0])
    here, there = work[share, :size], work[share, size : 2 * size]
    panels = size_of_all_panels(N, layers, Y.itemsize)
    blocks = number_of_blocks(N, ROWS_OF_PACKED if panels > 0 else ROWS, shares)
    for block in blocks_in_turn(BY_ROWS, blocks, share, shares):
        r, s = share_of(N, block, blocks, ROWS_TOGETHER)
        source = X[r:s]
        for layer in range(last + 1):
            n_in, n_out = layers[layer, N_IN], layers[layer, N_OUT]
            target = matrix_at(here, 0, s - r, n_out) if layer < last else Y[r:s]
            W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
            if layers[layer, KIND] != DENSE:
                forward_whole_rows(source, layers, layer, W, b, target)
            elif panels > 0 and has_panels(n_in, n_out, Y.itemsize):
                copies = panels_of_layer(work, panels, layers, layer)
                forward_panels(source, copies, b, layers[layer, ACTIVATION], target)
            else:
                forward_outputs(source, W, b, layers[layer, ACTIVATION], target, 0, n_out)
            source = target
            here, there = there, here


@kernel(within=True)
def predict_row(layers, parameters, x, work, half, y, number):
    """Take one row through all layers, as `predict_rows` would, in two thirds of the time: all but layers by address.

    `work` has two buffers, each of `half` entries.
    """
    size, last = size_of(number), layers.shape[0] - 1
    for layer in range(last + 1):
        n_out, activation = layers[layer, N_OUT], layers[layer, ACTIVATION]
        target = y if layer == last else work + layer % 2 * half * size
        W, b = parameters + layers[layer, WEIGHTS_AT] * size, parameters + layers[layer, BIAS_AT] * size
        if layers[layer, KIND] == DENSE:
            ends = Ends(BIAS, b, CUT if activation == RELU else STORE, 0, number)
            matrix = Matrix(W, n_out, 1)
            multiply_vector(Matrix(x, 0, 1), matrix, Matrix(target, 0, 1), n_out, layers[layer, N_IN], ends)
            if activation not in (IDENTITY, RELU):
                activate(activation, vector_of(target, n_out, number))
        else:
            source, row = matrix_of(x, 1, n_out, number), matrix_of(target, 1, n_out, number)
            gains, shifts = matrix_of(W, 1, n_out, number), vector_of(b, n_out, number)
            forward_whole_rows(source, layers, layer, gains, shifts, row)
        x = target


@kernel(once=lambda real: (real[:, ::1], TABLE, types.intp, real[:, ::1], real[::1], real[:, ::1]))
def forward_whole_rows(X, layers, layer, W, b, Y):
    """Fill the outputs of a layer that goes over whole rows."""
    go(FORWARD, layers[layer, KIND], X, Y, W, b, matrix_at(X, 0, 0, 0), X, Y)
    activate(layers[layer, ACTIVATION], flat(Y))


@kernel
def size_of_buffer(layers, N):
    """Return how many entries the widest outputs of a layer before the last have, for a block of N rows or of fewer."""
    return (layers[-1, WIDEST] * min(N, ROWS) + ENTRIES_OF_LINE - 1) // ENTRIES_OF_LINE * ENTRIES_OF_LINE


@register_jitable
def size_of_all_panels(N, layers, itemsize):
    """Return how many entries the panels have that are copied for N rows: none for few rows, or beyond the cache.

    (It depends on nothing that other processes could have otherwise, as they share what is compiled.)
    """
    size = panels_before(layers, len(layers), itemsize) if N >= FEWEST_TO_PACK else 0
    return size if size <= MOST_PANELS else 0


@inlined
def panels_of_layer(work, panels, layers, layer):
    """Return a layer's panels, and those behind it, in a memory that ends with so many entries of panels."""
    size = panels - panels_before(layers, layer, work.itemsize)
    return vector_at(work, work.size - size, size)


@register_jitable
def panels_before(layers, layer, itemsize):
    """Return how many entries the panels of large weights before a layer have, or of all for the number of layers."""
    size = 0
    for below in range(layer):
        if layers[below, KIND] == DENSE and has_panels(layers[below, N_IN], layers[below, N_OUT], itemsize):
            size += size_of_panels(layers[below, N_IN], layers[below, N_OUT], itemsize)
    return size


@register_jitable
def has_panels(n_in, n_out, itemsize):
    """Return whether a layer's weights are such that panels of them are copied: as ``multiply`` does, on some CPUs."""
    return n_out > NARROW and (is_large(n_in, n_out, itemsize) or n_in * n_out * itemsize >= LARGE_B_FOR_FEW)


@kernel
def copy_all_panels(N, layers, parameters, work, share, shares):
    """Copy a share of the panels of large weights, layer by layer."""
    panels = size_of_all_panels(N, layers, parameters.itemsize)
    for layer in range(layers.shape[0]):
        if layers[layer, KIND] == DENSE and has_panels(layers[layer, N_IN], layers[layer, N_OUT], parameters.itemsize):
            copies = panels_of_layer(work, panels, layers, layer)
            copy_panels(weights(layers, parameters, layer), copies, share, shares)


@kernel
def forward_panels(X, panels, b, activation, Y):
    """`forward_outputs` by panels of W."""
    multiply_panels_bias(X, panels, b, activation == RELU, Y)
    if activation != RELU:
        activate(activation, flat(Y))


@kernel
def predict_columns(X, layers, parameters, work, Y, layer, share, shares):
    """Fill the columns, or the rows of a layer that goes over whole ones, from one buffer to the other."""
    N, n_out = X.shape[0], layers[layer, N_OUT]
    size = size_of_buffer(layers, N)
    W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
    source, target = X, Y
    if layer > 0:
        at = (layer - 1) % 2 * size
        source = matrix_at(work, at, N, layers[layer, N_IN])
    if layer < layers.shape[0] - 1:
        at = layer % 2 * size
        target = matrix_at(work, at, N, n_out)
    if layers[layer, KIND] != DENSE:
        r, s = share_of(N, share, shares, 1)
        forward_whole_rows(source[r:s], layers, layer, W, b, target[r:s])
        return
    j0, j1 = columns_of(n_out, share, shares)
    forward_outputs(source, W, b, layers[layer, ACTIVATION], target, j0, j1)
