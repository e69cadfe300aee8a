"""Pass 2 of a training step: blocks of parameters, ① or ② over the whole batch, and the update. See ``step``."""

from numba import types
from numba.extending import register_jitable

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import INPUTS_TOGETHER, LARGE, WHOLE, bias_gradient_outputs, share_of, weight_gradient_inputs
from nbfc.kernels.few_samples import shares_weights
from nbfc.kernels.layers import BIAS_AT, DENSE, INTEGERS, KIND, N_OUT, SIZE, TABLE, W_ROWS, WEIGHTS_AT, bias, weights
from nbfc.kernels.memory import address_of
from nbfc.kernels.regularization import TOGETHER, blocks_of_update, finish, phase_of_update
from nbfc.kernels.turns import blocks_in_turn, number_of_blocks
from nbfc.kernels.updates import RULE
from nbfc.kernels.whole_rows import GAINS, go_in_room
from nbfc.kernels.workspace import (
    batch_size,
    gradient_of_part,
    gradients,
    number_of_parts,
    outputs,
    room,
    rows_of_batch,
)

WEIGHTS = 2**15  # entries of dW in a block, at least: few enough to be in the cache when they are updated ...
# ... and rows, at least, or so many for a sample: enough to make up for copying panels of dY, or for reading it again
INPUTS, INPUTS_FOR_SAMPLE = 128, 4
AFTER_ROWS = 2**20  # phases of pass 1 are fewer
SUMS = 1024  # entries of the gradient that are added up at a time


@kernel(
    once=lambda real: (
        real[:, ::1],
        INTEGERS,
        TABLE,
        real[::1],
        real[:, ::1],
        real[::1],
        RULE,
        *[types.intp] * 3,
    )
)
def pass_of_parameters(X, order, layers, parameters, state, work, rule, phase, share, shares):
    """Pass 2 for blocks of parameters in turns: ① or ② over the whole batch, and the update.

    A block is some rows of a W; where parts' gradients are added, and in later phases, it is a share of all parameters.
    Each thread has its share of every W: nearly the one it has in ③ where samples are few, so that W need not go from
    one thread's cache to another's. Where a parameter is no longer finite, the last entry of `work` becomes NaN: that
    several threads write the same there does no harm; a sum over threads would need memory.
    """
    N, P = batch_size(X, order), parameters.shape[0]
    parts = number_of_parts(layers, N)
    here = room(layers, work, N, 0)
    rows = rows_of_batch(X, order, layers, here, 0, N, 0)
    # Where pass 1 has left all of W in the caches of all threads, its lines are asked for before they are updated.
    asks = shares > 1 and not shares_weights(layers, N) and layers[-1, SIZE] <= LARGE
    shift = address_of(parameters) - address_of(state) if asks else 0
    of_share, blocks = 1, shares
    if phase > 0:
        blocks = blocks_of_update(rule, phase, shares)
    elif parts == 0:
        of_share = 0
        for layer in range(layers.shape[0]):
            of_share += blocks_of_share(layers, layer, N, shares)
        blocks = of_share * shares
    for block in blocks_in_turn(AFTER_ROWS + phase, blocks, share, shares):
        overflow = parameters.dtype.type(0)
        if phase > 0:
            overflow += phase_of_update(layers, parameters, state, rule, phase, block, blocks, work[-1])
        elif parts > 0:
            start, end = share_of(P, block, blocks, TOGETHER)
            mean_of_parts(layers, work, N, start, end, state[0])
            overflow += finish(layers, parameters, state, rule, start, end)
        else:
            layer, k0, k1 = rows_of_block(layers, block, of_share, N, shares)
            if k0 < k1:
                overflow += pass_of_block(rows, layers, parameters, state, here, rule, layer, k0, k1, shift)
        if overflow != 0:  # NaN
            work[-1] = overflow


@register_jitable
def blocks_of_share(layers, layer, N, shares):
    """Return into how many blocks each thread's share of a W is cut."""
    rows = layers[layer, W_ROWS]
    if rows * layers[layer, N_OUT] <= WEIGHTS:  # without a division, which would show in the smallest steps
        return min(rows, 1)
    together = rows_together(layers, layer, N)
    most = max(min(INPUTS, INPUTS_FOR_SAMPLE * N), WEIGHTS // layers[layer, N_OUT])
    return number_of_blocks(rows, (most + together - 1) // together * together, shares) // shares


@kernel
def rows_of_block(layers, block, of_share, N, shares):
    """Return which layer a block is of, and which rows of its W; `of_share` blocks in a row are a share's."""
    owner = block // of_share
    place, layer = block - owner * of_share, 0
    count = blocks_of_share(layers, layer, N, shares)
    while place >= count:
        place -= count
        layer += 1
        count = blocks_of_share(layers, layer, N, shares)
    rows = layers[layer, W_ROWS]
    if shares * count == 1:  # likewise
        return layer, 0, rows
    k0, k1 = share_of(rows, owner * count + place, shares * count, rows_together(layers, layer, N))
    return layer, k0, k1


@kernel
def pass_of_block(rows, layers, parameters, state, room, rule, layer, k0, k1, shift):
    """Fill the gradient of rows k0 to k1 of a W, with the last ones also that of b, and update; return as `update`."""
    n_out, at = layers[layer, N_OUT], layers[layer, WEIGHTS_AT]
    weight_gradient(rows, layers, room, layer, k0, k1, shift, state[0])
    overflow = finish(layers, parameters, state, rule, at + k0 * n_out, at + k1 * n_out)
    if k1 == layers[layer, W_ROWS]:
        at = layers[layer, BIAS_AT]
        bias_gradient(rows, layers, room, layer, state[0])
        overflow += finish(layers, parameters, state, rule, at, at + n_out)
    return overflow


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


@register_jitable
def rows_together(layers, layer, N):
    """Return how many rows of a W are not shared out further: whole tiles, and `TOGETHER` entries or so many times.

    Where samples are few, threads shall have the rows that they have in ③, where these are columns.
    """
    rows = WHOLE if shares_weights(layers, N) else INPUTS_TOGETHER
    while rows * layers[layer, N_OUT] % TOGETHER != 0:
        rows *= 2
    return rows


@kernel(once=lambda real: (real[:, ::1], TABLE, real[:, ::1], *[types.intp] * 4, real[::1]))
def weight_gradient(X, layers, room, layer, k0, k1, shift, gradient):
    """② for rows k0 to k1 of a layer's dW, from the rows of a room that belong to those of X.

    What lies `shift` bytes after the gradient is asked for meanwhile, if that is not 0 (see ``dense``).
    """
    N = X.shape[0]
    dY, dW = gradients(layers, room, layer, 0, N), weights(layers, gradient, layer)
    if layer == 0:
        weight_gradient_inputs(X, dY, dW, shift, k0, k1, 0, dW.shape[1])
        return
    if layers[layer, KIND] == DENSE:
        weight_gradient_inputs(outputs(layers, room, layer - 1, 0, N), dY, dW, shift, k0, k1, 0, dW.shape[1])
    else:
        go_in_room(GAINS, layers, gradient, room, layer, 0, N, dY, dW)


@kernel
def bias_gradient(X, layers, room, layer, gradient):
    """① for a layer, likewise."""
    db = bias(layers, gradient, layer)
    bias_gradient_outputs(gradients(layers, room, layer, 0, X.shape[0]), db, 0, db.shape[0])
