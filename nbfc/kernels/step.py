"""The training step of a whole network, in two parallel passes.

Rows of a batch are independent in the forward pass, in the loss and in ③; only ① and ② mix them. So

- pass 1 goes over blocks of rows, and takes each through all layers forward, the loss, and all layers back, while it
  is hot in the cache;
- pass 2 goes over blocks of parameters: ① or ② over the whole batch, and at once the optimizer's update.

Where rows are few, also beside the weights, pass 1 takes them all through one layer before the next, and shares out
weights instead (see ``few_samples``).

Where parameters are few and rows are many, and both are work for several threads, the batch is cut into parts instead.
Pass 1 takes each part through ① and ② as well, in memory that the next part uses again, and what cores then have to
send each other in pass 2 is no longer the rows but the parts' gradients. How a batch is cut depends on its size and on
the network alone.

Threads take blocks of rows and of parameters, or parts, in turns, and go through all of both passes in one launch (see
``turns``).

No two threads ever add into one number: the bits are the same for any number of threads.

Arrays, for P parameters in L layers (see ``layers``), N samples and S = the sum of the layers' outputs::

    X          (N or more, m)     inputs                                                            read
    order      int64 (N,) or (0,) the rows of X that are the batch, in this order; none: X is       read
    goal       Objective          targets, weights and loss (see ``losses``)                        read
    layers     int64 (L, 12)      the layer table                                                   read
    parameters (P,)               W and b of all layers                                             updated
    state      (1 + moments, P)   gradient, then the optimizer's moments (see ``updates``)          updated
    work       (size_of_work,)    memory (see ``workspace``)                                        overwritten
"""

import numpy as np
from numba import prange, types

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import ROWS_TOGETHER, WHOLE, share_of
from nbfc.kernels.dropout import key_of
from nbfc.kernels.few_samples import blocks_of_phase, phase_of_weights, phases, shares_weights
from nbfc.kernels.layers import W_ROWS
from nbfc.kernels.losses import Objective
from nbfc.kernels.memory import read, stack_bytes, write
from nbfc.kernels.parameters import bias_gradient, pass_of_parameters, weight_gradient
from nbfc.kernels.regularization import phases_of_parameters
from nbfc.kernels.rows import batch_and_network, forward_and_back
from nbfc.kernels.turns import begin_turns, blocks_in_turn, number_of_blocks
from nbfc.kernels.updates import CLIP, CODE, KEEP, NUMBER, RULE, STEP, update
from nbfc.kernels.workspace import (
    ROWS,
    batch_size,
    gradient_of_part,
    losses,
    number_of_parts,
    room,
    rows_of_batch,
)


@kernel(parallel=True)
def train_step(X, order, labels, targets, weights, loss, layers, parameters, state, work, rule, threads):
    """Take one step by `rule`; return the mean loss before it, and whether the step was taken.

    It is not taken where the loss or an updated parameter is not finite: the parameters are then as they were. With
    the rule KEEP there is no update, and state[0] holds the gradient of the mean loss. Other rules count the steps that
    are taken, in this very call: where Ctrl-C keeps its result from Python, the count still belongs to the parameters.
    """
    if rule[CODE] != KEEP:
        rule[STEP] += 1
    goal = Objective(labels, targets, weights, loss, rule[NUMBER], key_of(rule), rule[CLIP])
    result = stack_bytes(8)
    work[-1] = 0
    begin_turns(threads)
    for share in prange(threads):
        J = passes(X, order, goal, layers, parameters, state, work, rule, share, threads)
        if share == 0:  # it is the same for all
            write(result, J)
    J = read(result, 0.0)
    return J, is_taken(J, work[-1], parameters, state, rule)


@kernel(once=lambda real: types.float64(*batch_and_network(real), real[:, ::1], real[::1], RULE, *[types.intp] * 2))
def passes(X, order, goal, layers, parameters, state, work, rule, share, shares):
    """Take one thread through both passes, phase by phase; return the mean loss."""
    N = batch_size(X, order)
    for phase in range(phases(layers, N)):
        pass_of_rows(X, order, goal, layers, parameters, work, phase, share, shares)
    J = mean_loss(layers, work, N)
    if np.isfinite(J) or rule[CODE] == KEEP:
        for phase in range(phases_of_parameters(rule)):
            pass_of_parameters(X, order, layers, parameters, state, work, rule, phase, share, shares)
    return J


@kernel
def is_taken(J, overflow, parameters, state, rule):
    """Return whether loss and updated parameters are finite, as `overflow` tells; else undo update and count."""
    if rule[CODE] == KEEP or (np.isfinite(J) and not np.isnan(overflow)):
        return True
    if np.isfinite(J):
        for p in range(parameters.shape[0]):
            parameters[p] = state[0, p]
    rule[STEP] -= 1
    return False


@kernel(once=lambda real: (*batch_and_network(real), real[::1], *[types.intp] * 3))
def pass_of_rows(X, order, goal, layers, parameters, work, phase, share, shares):
    """Pass 1 for blocks of rows in turns, or for parts, or for shares of what a phase does with few samples."""
    N = batch_size(X, order)
    few, parts = shares_weights(layers, N), number_of_parts(layers, N)
    place, together = 0, ROWS_TOGETHER
    if few:
        blocks = blocks_of_phase(layers, order, goal, N, phase, shares)
    elif parts > 0:
        blocks, together, place = parts, WHOLE, share
    else:
        blocks = number_of_blocks(N, ROWS, shares)
    here = room(layers, work, N, place)
    for block in blocks_in_turn(phase, blocks, share, shares):
        if few:
            phase_of_weights(X, order, goal, layers, parameters, here, phase, block, blocks)
            continue
        r, s = share_of(N, block, blocks, together)
        forward_and_back(X, order, goal, layers, parameters, here, r, s, 0 if parts > 0 else r)
        if parts > 0:
            gradients_of_part(X, order, layers, work, here, block, r, s)


@kernel
def gradients_of_part(X, order, layers, work, room, part, r, s):
    """Fill a part's gradient, and its mean loss, from a room that holds rows r to s."""
    gradient, rows = gradient_of_part(layers, work, part), rows_of_batch(X, order, layers, room, r, s, 0)
    for layer in range(layers.shape[0]):
        if layers[layer, W_ROWS] > 0:
            weight_gradient(rows, layers, room, layer, 0, layers[layer, W_ROWS], 0, gradient)
            bias_gradient(rows, layers, room, layer, gradient)
    gradient[-1] = sum_of_losses(layers, room, s - r) / (s - r)


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


@kernel(entry=True)
def update_alone(parameters, state, rule):
    """Update all parameters by the gradient in the state, on the caller's thread, as a step does; return as it does."""
    rule[STEP] += 1
    return is_taken(0.0, update(parameters, state, rule, 0, parameters.shape[0]), parameters, state, rule)
