"""A whole network: the training step in two parallel passes, and prediction.

Rows of a batch are independent in the forward pass, in the loss and in ③; only ① and ② mix them. So

- pass 1 goes over blocks of rows, and takes each through all layers forward, the loss, and all layers back, while it
  is hot in the cache;
- pass 2 goes over blocks of parameters: ① or ② over the whole batch, and at once the optimizer's update.

No two threads ever add into one number: the bits are the same for any number of threads.

Arrays, for P parameters in L layers (see ``layers``), N samples and S = the sum of the layers' outputs::

    X          (N, m)             inputs                                                            read
    labels     int64 (N,) or (0,) targets, as the loss takes them (see ``losses``)                  read
    targets    (N, n) or (0, n)   the same                                                          read
    layers     int64 (L, 6)       the layer table                                                   read
    parameters (P,)               W and b of all layers                                             updated
    state      (1 + moments, P)   gradient, then the optimizer's moments (see ``updates``)          updated
    work       (2 S + 1, C)       C ≥ N. In its flat memory a layer's outputs lie at C · OUTPUTS_AT, their
                                  gradients C · S further on, and the samples' losses in the last row     overwritten
"""

import numpy as np
from numba import prange

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import (
    bias_gradient_outputs,
    count_blocks,
    forward_rows,
    input_gradient_rows,
    inputs_in_block,
    span,
    weight_gradient_inputs,
)
from nbfc.kernels.elementwise import multiply_by_derivative
from nbfc.kernels.layers import ACTIVATION, BIAS_AT, N_IN, N_OUT, OUTPUTS_AT, WEIGHTS_AT, bias, weights
from nbfc.kernels.losses import loss_rows
from nbfc.kernels.updates import CODE, KEEP, update

MOST_ROWS = 256  # of a block: enough to make up for copying panels of weights (64: 20% slower where layers are wide)


@kernel(parallel=True)
def train_step(X, labels, targets, loss, layers, parameters, state, work, rule, threads):
    """Take one step by `rule`; return the mean loss before it, and whether the step was taken.

    It is not taken where the loss or an updated parameter is not finite: the parameters are then as they were. With
    the rule KEEP there is no update, and state[0] holds the gradient of the mean loss.
    """
    N = X.shape[0]
    rows = rows_in_block(N, threads)
    if threads > 1:
        for block in prange(count_blocks(N, rows)):
            pass_of_rows(X, labels, targets, loss, layers, parameters, work, block, rows)
    else:
        for block in range(count_blocks(N, rows)):
            pass_of_rows(X, labels, targets, loss, layers, parameters, work, block, rows)

    J = losses(work)
    total = 0.0
    for i in range(N):
        total += J[i]
    if not np.isfinite(total) and rule[CODE] != KEEP:
        return total / N, False

    blocks = 0
    for layer in range(layers.shape[0]):
        blocks += parameter_blocks(layers, layer)
    overflow = 0.0
    if threads > 1:
        for block in prange(blocks):
            overflow += pass_of_parameters(X, layers, parameters, state, work, rule, block)
    else:
        for block in range(blocks):
            overflow += pass_of_parameters(X, layers, parameters, state, work, rule, block)

    if overflow != 0:  # NaN where a parameter is not finite
        parameters[:] = state[0]
        return total / N, False
    return total / N, True


@kernel
def rows_in_block(N, threads):
    """Return how many rows make a block: few enough that every thread has some; no result depends on it."""
    return count_blocks(min(MOST_ROWS, count_blocks(N, threads)), 8) * 8  # whole tiles


@kernel
def pass_of_rows(X, labels, targets, loss, layers, parameters, work, block, rows):
    """Pass 1 for one block of rows: outputs of all layers, losses, and the gradient at every layer's Y before ①②③."""
    r, s = span(block, rows, X.shape[0])
    last = layers.shape[0] - 1

    for layer in range(last + 1):
        W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
        Y = outputs(layers, work, layer)[r:s]
        if layer == 0:
            forward_rows(X[r:s], W, b, layers[layer, ACTIVATION], Y)
        else:
            forward_rows(outputs(layers, work, layer - 1)[r:s], W, b, layers[layer, ACTIVATION], Y)

    Y, dY = outputs(layers, work, last)[r:s], gradients(layers, work, last)[r:s]
    loss_rows(loss, Y, labels[r:s], targets[r:s], losses(work)[r:s], dY)
    multiply_by_derivative(layers[last, ACTIVATION], Y, dY)

    for layer in range(last, 0, -1):
        Y, dX = outputs(layers, work, layer - 1)[r:s], gradients(layers, work, layer - 1)[r:s]
        input_gradient_rows(gradients(layers, work, layer)[r:s], weights(layers, parameters, layer), dX)
        multiply_by_derivative(layers[layer - 1, ACTIVATION], Y, dX)


@kernel
def pass_of_parameters(X, layers, parameters, state, work, rule, block):
    """Pass 2 for one block of parameters: ① or ② over the whole batch, then the update."""
    layer = 0
    while block >= parameter_blocks(layers, layer):
        block -= parameter_blocks(layers, layer)
        layer += 1
    N = X.shape[0]
    n_in, n_out = layers[layer, N_IN], layers[layer, N_OUT]
    dY = gradients(layers, work, layer)[:N]
    if block == 0:
        bias_gradient_outputs(dY, bias(layers, state[0], layer), 0, n_out)
        start = layers[layer, BIAS_AT]
        return update(rule, parameters, state, start, start + n_out)
    k0, k1 = span(block - 1, inputs_in_block(n_out), n_in)
    dW = weights(layers, state[0], layer)
    if layer == 0:
        weight_gradient_inputs(X, dY, dW, k0, k1)
    else:
        weight_gradient_inputs(outputs(layers, work, layer - 1)[:N], dY, dW, k0, k1)
    start = layers[layer, WEIGHTS_AT]
    return update(rule, parameters, state, start + k0 * n_out, start + k1 * n_out)


@kernel
def parameter_blocks(layers, layer):
    """Return how many blocks of parameters a layer has: one for b, the rest for W."""
    return 1 + count_blocks(layers[layer, N_IN], inputs_in_block(layers[layer, N_OUT]))


@kernel
def outputs(layers, work, layer):
    """Return a layer's part of `work`, (C, n_out): its outputs Y."""
    C = work.shape[1]
    start = C * layers[layer, OUTPUTS_AT]
    n_out = layers[layer, N_OUT]
    return work.ravel()[start : start + C * n_out].reshape(C, n_out)


@kernel
def gradients(layers, work, layer):
    """Return a layer's part of `work`, (C, n_out): ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾ before its activation."""
    C = work.shape[1]
    start = C * (layers[layer, OUTPUTS_AT] + work.shape[0] // 2)
    n_out = layers[layer, N_OUT]
    return work.ravel()[start : start + C * n_out].reshape(C, n_out)


@kernel
def losses(work):
    """Return the samples' losses J⁽ⁱ⁾, the last row of `work`."""
    return work[work.shape[0] - 1]


@kernel(parallel=True)
def predict(X, layers, parameters, Y, threads):
    """Y (N, n) = the network's outputs for X (N, m). Each thread owns whole rows of Y."""
    N = X.shape[0]
    rows = rows_in_block(N, threads)
    if threads > 1:
        for block in prange(count_blocks(N, rows)):
            predict_rows(X, layers, parameters, Y, block, rows)
    else:
        for block in range(count_blocks(N, rows)):
            predict_rows(X, layers, parameters, Y, block, rows)


@kernel
def predict_rows(X, layers, parameters, Y, block, rows):
    """Take one block of rows through all layers, by way of two buffers in turns."""
    r, s = span(block, rows, X.shape[0])
    last = layers.shape[0] - 1
    widest = layers[:, N_OUT].max()
    here, there = np.empty((s - r) * widest, X.dtype), np.empty((s - r) * widest, X.dtype)
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
