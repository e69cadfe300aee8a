"""A whole network: the training step in two parallel passes, and prediction.

Rows of a batch are independent in the forward pass, in the loss and in ③; only ① and ② mix them. So

- pass 1 goes over blocks of rows, and takes each through all layers forward, the loss, and all layers back, while it
  is hot in the cache;
- pass 2 goes over blocks of parameters: ① or ② over the whole batch, and at once the optimizer's update.

No two threads ever add into one number: the bits are the same for any number of threads.

Arrays, for P parameters in L layers (see ``layers``), N samples and S = the sum of the layers' outputs::

    X          (N or more, m)     inputs                                                            read
    order      int64 (N,) or (0,) the rows of X that are the batch, in this order; none: X is       read
    labels     int64 (N,) or (0,) targets, as the loss takes them (see ``losses``)                  read
    targets    (N, n) or (0, n)   the same                                                          read
    layers     int64 (L, 6)       the layer table                                                   read
    parameters (P,)               W and b of all layers                                             updated
    state      (1 + moments, P)   gradient, then the optimizer's moments (see ``updates``)          updated
    work       (2 S + 1 + m, C)   C ≥ N. In its flat memory a layer's outputs lie at C · OUTPUTS_AT, their
                                  gradients C · S further on, then the samples' losses, and last the
                                  batch's inputs, where they come from `order`                      overwritten
"""

import numpy as np
from numba import prange, types

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.dense import (
    WHOLE,
    bias_gradient_outputs,
    forward_rows,
    input_gradient_rows,
    share_of,
    weight_gradient_inputs,
)
from nbfc.kernels.elementwise import multiply_by_derivative
from nbfc.kernels.layers import ACTIVATION, BIAS_AT, N_IN, N_OUT, OUTPUTS_AT, WEIGHTS_AT, bias, weights
from nbfc.kernels.losses import loss_rows
from nbfc.kernels.updates import CODE, KEEP, update

ROWS = 256  # samples in a block, at most: enough to make up for copying panels of weights
WEIGHTS = 2**15  # entries of dW in a block, at least: few enough to be in the cache when they are updated ...
INPUTS = 128  # ... and rows, at least: enough to make up for copying panels of dY

INTEGERS, TABLE, RULE = types.int64[::1], types.int64[:, ::1], types.float64[::1]


@kernel(parallel=True)
def train_step(X, order, labels, targets, loss, layers, parameters, state, work, rule, threads):
    """Take one step by `rule`; return the mean loss before it, and whether the step was taken.

    It is not taken where the loss or an updated parameter is not finite: the parameters are then as they were. With
    the rule KEEP there is no update, and state[0] holds the gradient of the mean loss.
    """
    if threads == 1:
        pass_of_rows(X, order, labels, targets, loss, layers, parameters, work, 0, 1)
    else:
        for share in prange(threads):
            pass_of_rows(X, order, labels, targets, loss, layers, parameters, work, share, threads)

    N = batch_size(X, order)
    total = sum_of_losses(layers, work, N)
    if not np.isfinite(total) and rule[CODE] != KEEP:
        return total / N, False

    if threads == 1:
        pass_of_parameters(X, order, layers, parameters, state, work, rule, 0, 1)
    else:
        for share in prange(threads):
            pass_of_parameters(X, order, layers, parameters, state, work, rule, share, threads)

    if rule[CODE] != KEEP and np.isnan(losses(layers, work)[0]):
        for p in range(parameters.shape[0]):
            parameters[p] = state[0, p]
        return total / N, False
    return total / N, True


@inlined
def batch_size(X, order):
    """Return N."""
    return order.shape[0] if order.shape[0] > 0 else X.shape[0]


@kernel
def sum_of_losses(layers, work, N):
    """Return Σ_i J⁽ⁱ⁾ in float64."""
    J = losses(layers, work)
    total = 0.0
    for i in range(N):
        total += J[i]
    return total


@kernel(
    once=lambda real: (
        real[:, ::1],
        INTEGERS,
        INTEGERS,
        real[:, ::1],
        types.intp,
        TABLE,
        real[::1],
        real[:, ::1],
        types.intp,
        types.intp,
    )
)
def pass_of_rows(X, order, labels, targets, loss, layers, parameters, work, share, shares):
    """Pass 1 for a share of the rows, in blocks."""
    first, end = share_of(batch_size(X, order), share, shares)
    for r in range(first, end, ROWS):
        s = min(end, r + ROWS)
        if order.shape[0] > 0:
            gather(X, order[r:s], inputs(layers, work)[r:s])
        forward_and_back(
            batch(X, order, layers, work)[r:s], labels[r:s], targets[r:s], loss, layers, parameters, work, r, s
        )


@kernel
def gather(X, order, rows):
    """Copy rows of X in an order."""
    for i in range(order.shape[0]):
        source, target = X[order[i]], rows[i]
        for k in range(source.shape[0]):
            target[k] = source[k]


@kernel
def forward_and_back(X, labels, targets, loss, layers, parameters, work, r, s):
    """Fill rows r to s of `work`: outputs of all layers, losses, and the gradient at every layer's Y before ①②③."""
    last = layers.shape[0] - 1

    for layer in range(last + 1):
        W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
        Y = outputs(layers, work, layer)[r:s]
        if layer == 0:
            forward_rows(X, W, b, layers[layer, ACTIVATION], Y)
        else:
            forward_rows(outputs(layers, work, layer - 1)[r:s], W, b, layers[layer, ACTIVATION], Y)

    Y, dY = outputs(layers, work, last)[r:s], gradients(layers, work, last)[r:s]
    loss_rows(loss, Y, labels, targets, losses(layers, work)[r:s], dY)
    multiply_by_derivative(layers[last, ACTIVATION], Y, dY)

    for layer in range(last, 0, -1):
        dY, W = gradients(layers, work, layer)[r:s], weights(layers, parameters, layer)
        X, dX = outputs(layers, work, layer - 1)[r:s], gradients(layers, work, layer - 1)[r:s]
        input_gradient_rows(dY, W, layers[layer - 1, ACTIVATION], X, dX)


@kernel(
    once=lambda real: (
        real[:, ::1],
        INTEGERS,
        TABLE,
        real[::1],
        real[:, ::1],
        real[:, ::1],
        RULE,
        types.intp,
        types.intp,
    )
)
def pass_of_parameters(X, order, layers, parameters, state, work, rule, share, shares):
    """Pass 2 for a share of the parameters: ① or ② over the whole batch, and the update, in blocks.

    Shares are equal in the number of parameters, and so nearly in work. A row of a W belongs to the share in which its
    tile starts. Where a parameter is no longer finite, the first sample's loss becomes NaN: that several threads write
    the same there does no harm, and a sum over threads would need memory.
    """
    N, P = batch_size(X, order), parameters.shape[0]
    X = batch(X, order, layers, work)[:N]
    start, end = P * share // shares, P * (share + 1) // shares
    overflow = parameters.dtype.type(0)
    for layer in range(layers.shape[0]):
        n_out = layers[layer, N_OUT]
        size = max(INPUTS, WEIGHTS // n_out)
        first, last = row_at(layers, layer, start), row_at(layers, layer, end)
        for k0 in range(first, last, size):
            k1 = min(last, k0 + size)
            at = layers[layer, WEIGHTS_AT]
            gradient_of_weights(X, layers, state, work, layer, k0, k1)
            overflow += update(parameters, state, rule, at + k0 * n_out, at + k1 * n_out)
        at = layers[layer, BIAS_AT]
        if start <= at < end:
            bias_gradient_outputs(gradients(layers, work, layer)[:N], bias(layers, state[0], layer), 0, n_out)
            overflow += update(parameters, state, rule, at, at + n_out)
    if overflow != 0:  # NaN
        losses(layers, work)[0] = overflow


@kernel
def row_at(layers, layer, place):
    """Return the first row of a W whose tile starts at or after a place in the flat vector; n_in if none does."""
    n_in, n_out = layers[layer, N_IN], layers[layer, N_OUT]
    tile = WHOLE * n_out
    tiles = (max(0, place - layers[layer, WEIGHTS_AT]) + tile - 1) // tile
    return min(n_in, tiles * WHOLE)


@kernel
def gradient_of_weights(X, layers, state, work, layer, k0, k1):
    """② for rows k0 to k1 of a layer's dW."""
    N = X.shape[0]
    dY, dW = gradients(layers, work, layer)[:N], weights(layers, state[0], layer)
    if layer == 0:
        weight_gradient_inputs(X, dY, dW, k0, k1)
    else:
        weight_gradient_inputs(outputs(layers, work, layer - 1)[:N], dY, dW, k0, k1)


@inlined
def part(work, place, columns):
    """Return the rows (C, columns) that lie C · place entries into the memory of `work`."""
    C = work.shape[1]
    return work.reshape(work.size)[C * place : C * (place + columns)].reshape(C, columns)


@inlined
def outputs(layers, work, layer):
    """Return a layer's outputs Y (C, n_out)."""
    return part(work, layers[layer, OUTPUTS_AT], layers[layer, N_OUT])


@inlined
def gradients(layers, work, layer):
    """Return ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾ before a layer's activation, (C, n_out)."""
    return part(work, all_outputs(layers) + layers[layer, OUTPUTS_AT], layers[layer, N_OUT])


@inlined
def losses(layers, work):
    """Return the samples' losses J⁽ⁱ⁾ (C,)."""
    return work[2 * all_outputs(layers)]


@inlined
def inputs(layers, work):
    """Return where a batch's inputs are gathered, (C, m)."""
    return part(work, 2 * all_outputs(layers) + 1, layers[0, N_IN])


@inlined
def batch(X, order, layers, work):
    """Return the batch's inputs: those of `order`, once they are gathered, or X."""
    return inputs(layers, work) if order.shape[0] > 0 else X


@inlined
def all_outputs(layers):
    """Return S, the sum of the layers' outputs."""
    return layers[-1, OUTPUTS_AT] + layers[-1, N_OUT]


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
