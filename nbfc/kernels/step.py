"""The training step of a whole network, in two parallel passes.

Rows of a batch are independent in the forward pass, in the loss and in ③; only ① and ② mix them. So

- pass 1 goes over blocks of rows, and takes each through all layers forward, the loss, and all layers back, while it
  is hot in the cache;
- pass 2 goes over blocks of parameters: ① or ② over the whole batch, and at once the optimizer's update.

Where rows are few, pass 1 takes them all through one layer before the next, and shares out its columns (see ``rows``).

Where parameters are few and rows are many, the batch is cut into parts instead. Pass 1 takes each part through ① and ②
as well, in memory that the next part uses again, and what cores then have to send each other in pass 2 is no longer
the rows but the parts' gradients. How a batch is cut depends on its size and on the network alone.

No two threads ever add into one number: the bits are the same for any number of threads.

Arrays, for P parameters in L layers (see ``layers``), N samples and S = the sum of the layers' outputs::

    X          (N or more, m)     inputs                                                            read
    order      int64 (N,) or (0,) the rows of X that are the batch, in this order; none: X is       read
    labels     int64 (N,) or (0,) targets, as the loss takes them (see ``losses``)                  read
    targets    (N, n) or (0, n)   the same                                                          read
    layers     int64 (L, 6)       the layer table                                                   read
    parameters (P,)               W and b of all layers                                             updated
    state      (1 + moments, P)   gradient, then the optimizer's moments (see ``updates``)          updated
    work       (size_of_work,)    memory (see ``workspace``)                                        overwritten
"""

import numpy as np
from numba import prange, types

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import (
    ROWS_TOGETHER,
    WHOLE,
    bias_gradient_outputs,
    share_of,
    weight_gradient_inputs,
)
from nbfc.kernels.layers import BIAS_AT, N_IN, N_OUT, TABLE, WEIGHTS_AT, bias, weights
from nbfc.kernels.rows import INTEGERS, forward_and_back, is_serial, phase_of_columns, phases
from nbfc.kernels.updates import CODE, KEEP, update
from nbfc.kernels.workspace import (
    ROWS,
    batch_size,
    gradient_of_part,
    gradients,
    inputs,
    losses,
    number_of_parts,
    outputs,
    room,
)

WEIGHTS = 2**15  # entries of dW in a block, at least: few enough to be in the cache when they are updated ...
INPUTS = 128  # ... and rows, at least: enough to make up for copying panels of dY
# Entries that are not shared out further: what vectors fill and what is left to single numbers, whose last bits differ,
# is then the same wherever the cuts fall.
TOGETHER = 64
SUMS = 1024  # entries of the gradient that are added up at a time

RULE = types.float64[::1]


@kernel(parallel=True)
def train_step(X, order, labels, targets, loss, layers, parameters, state, work, rule, threads):
    """Take one step by `rule`; return the mean loss before it, and whether the step was taken.

    It is not taken where the loss or an updated parameter is not finite: the parameters are then as they were. With
    the rule KEEP there is no update, and state[0] holds the gradient of the mean loss.
    """
    N = batch_size(X, order)
    for phase in range(phases(layers, N)):
        if threads == 1 or is_serial(layers, N, phase):
            pass_of_rows(X, order, labels, targets, loss, layers, parameters, work, phase, 0, 1)
        else:
            for share in prange(threads):
                pass_of_rows(X, order, labels, targets, loss, layers, parameters, work, phase, share, threads)

    J = mean_loss(layers, work, N)
    if not np.isfinite(J) and rule[CODE] != KEEP:
        return J, False

    work[-1] = 0
    if threads == 1:
        pass_of_parameters(X, order, layers, parameters, state, work, rule, 0, 1)
    else:
        for share in prange(threads):
            pass_of_parameters(X, order, layers, parameters, state, work, rule, share, threads)

    if rule[CODE] != KEEP and np.isnan(work[-1]):
        for p in range(parameters.shape[0]):
            parameters[p] = state[0, p]
        return J, False
    return J, True


@kernel(
    once=lambda real: (
        real[:, ::1],
        INTEGERS,
        INTEGERS,
        real[:, ::1],
        types.intp,
        TABLE,
        real[::1],
        real[::1],
        types.intp,
        types.intp,
        types.intp,
    )
)
def pass_of_rows(X, order, labels, targets, loss, layers, parameters, work, phase, share, shares):
    """Pass 1 for a share of the rows in blocks, of the parts, or of the columns that a phase fills."""
    N = batch_size(X, order)
    if phases(layers, N) > 1:
        here = room(layers, work, N, 0)
        phase_of_columns(X, order, labels, targets, loss, layers, parameters, here, phase, share, shares)
        return
    parts = number_of_parts(layers, N)
    if parts == 0:
        first, end = share_of(N, share, shares, ROWS_TOGETHER)
        for r in range(first, end, ROWS):
            s = min(end, r + ROWS)
            forward_and_back(X, order, labels, targets, loss, layers, parameters, room(layers, work, N, 0), r, s, r)
        return
    for part in range(parts * share // shares, parts * (share + 1) // shares):
        r, s = share_of(N, part, parts, WHOLE)
        here = room(layers, work, N, share)
        forward_and_back(X, order, labels, targets, loss, layers, parameters, here, r, s, 0)
        gradient = gradient_of_part(layers, work, part)
        rows = inputs(layers, here, 0, s - r) if order.shape[0] > 0 else X[r:s]
        for layer in range(layers.shape[0]):
            weight_gradient(rows, layers, here, layer, 0, layers[layer, N_IN], gradient)
            bias_gradient(rows, layers, here, layer, gradient)
        gradient[-1] = sum_of_losses(layers, here, s - r) / (s - r)


@kernel
def sum_of_losses(layers, room, N):
    """Return Σ_i J⁽ⁱ⁾ in float64."""
    J = losses(layers, room, 0, N)
    total = 0.0
    for i in range(N):
        total += J[i]
    return total


@kernel
def mean_loss(layers, work, N):
    """Return the mean of J⁽ⁱ⁾, or of the parts' means."""
    parts = number_of_parts(layers, N)
    if parts == 0:
        return sum_of_losses(layers, room(layers, work, N, 0), N) / N
    total = 0.0
    for part in range(parts):
        r, s = share_of(N, part, parts, WHOLE)
        gradient = gradient_of_part(layers, work, part)
        total += (s - r) * gradient[-1]
    return total / N


@kernel(
    once=lambda real: (
        real[:, ::1],
        INTEGERS,
        TABLE,
        real[::1],
        real[:, ::1],
        real[::1],
        RULE,
        types.intp,
        types.intp,
    )
)
def pass_of_parameters(X, order, layers, parameters, state, work, rule, share, shares):
    """Pass 2 for a share of the parameters: ① or ② over the whole batch, and the update, in blocks.

    Shares are equal in the number of parameters, and so nearly in work. A row of a W belongs to the share in which its
    tile starts. Where a parameter is no longer finite, the last entry of `work` becomes NaN: that several threads write
    the same there does no harm, and a sum over threads would need memory.
    """
    N, P = batch_size(X, order), parameters.shape[0]
    start, end = P * share // shares, P * (share + 1) // shares
    overflow = parameters.dtype.type(0)
    if number_of_parts(layers, N) > 0:
        start, end = share_of(P, share, shares, TOGETHER)
        mean_of_parts(layers, work, N, start, end, state[0])
        overflow += update(parameters, state, rule, start, end)
    else:
        here = room(layers, work, N, 0)
        rows = inputs(layers, here, 0, N) if order.shape[0] > 0 else X
        for layer in range(layers.shape[0]):
            n_out = layers[layer, N_OUT]
            size = max(INPUTS, WEIGHTS // n_out)
            first, last = row_at(layers, layer, start), row_at(layers, layer, end)
            for k0 in range(first, last, size):
                k1 = min(last, k0 + size)
                at = layers[layer, WEIGHTS_AT]
                weight_gradient(rows, layers, here, layer, k0, k1, state[0])
                overflow += update(parameters, state, rule, at + k0 * n_out, at + k1 * n_out)
            at = layers[layer, BIAS_AT]
            if start <= at < end:
                bias_gradient(rows, layers, here, layer, state[0])
                overflow += update(parameters, state, rule, at, at + n_out)
    if overflow != 0:  # NaN
        work[-1] = overflow


@kernel
def mean_of_parts(layers, work, N, start, end, gradient):
    """Fill entries start to end of the gradient by the mean of the parts' gradients, each counted by its rows."""
    parts = number_of_parts(layers, N)
    for p0 in range(start, end, SUMS):
        p1 = min(end, p0 + SUMS)
        mean = gradient[p0:p1]
        for part in range(parts):
            r, s = share_of(N, part, parts, WHOLE)
            weight, values = gradient.dtype.type((s - r) / N), gradient_of_part(layers, work, part)[p0:p1]
            if part == 0:
                for p in range(p1 - p0):
                    mean[p] = weight * values[p]
            else:
                for p in range(p1 - p0):
                    mean[p] += weight * values[p]


@kernel
def row_at(layers, layer, place):
    """Return the first row of a W whose tile starts at or after a place in the flat vector; n_in if none does."""
    n_in, n_out = layers[layer, N_IN], layers[layer, N_OUT]
    tile = WHOLE * n_out
    tiles = (max(0, place - layers[layer, WEIGHTS_AT]) + tile - 1) // tile
    return min(n_in, tiles * WHOLE)


@kernel(
    once=lambda real: (
        real[:, ::1],
        TABLE,
        real[:, ::1],
        types.intp,
        types.intp,
        types.intp,
        real[::1],
    )
)
def weight_gradient(X, layers, room, layer, k0, k1, gradient):
    """② for rows k0 to k1 of a layer's dW, from the rows of a room that belong to those of X."""
    N = X.shape[0]
    dY, dW = gradients(layers, room, layer, 0, N), weights(layers, gradient, layer)
    if layer == 0:
        weight_gradient_inputs(X, dY, dW, k0, k1, 0, dW.shape[1])
    else:
        weight_gradient_inputs(outputs(layers, room, layer - 1, 0, N), dY, dW, k0, k1, 0, dW.shape[1])


@kernel
def bias_gradient(X, layers, room, layer, gradient):
    """① for a layer, likewise."""
    db = bias(layers, gradient, layer)
    bias_gradient_outputs(gradients(layers, room, layer, 0, X.shape[0]), db, 0, db.shape[0])
