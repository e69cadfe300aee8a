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
    goal       Objective          targets, weights and loss (see ``losses``)                        read
    layers     int64 (L, 10)      the layer table                                                   read
    parameters (P,)               W and b of all layers                                             updated
    state      (1 + moments, P)   gradient, then the optimizer's moments (see ``updates``)          updated
    work       (size_of_work,)    memory (see ``workspace``)                                        overwritten
"""

import numpy as np
from numba import prange, types

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import ROWS_TOGETHER, WHOLE, share_of
from nbfc.kernels.dropout import key_of
from nbfc.kernels.layers import W_ROWS
from nbfc.kernels.losses import Objective
from nbfc.kernels.parameters import bias_gradient, pass_of_parameters, weight_gradient
from nbfc.kernels.per_sample import CLIP_ROWS, clip
from nbfc.kernels.regularization import between, phases_of_parameters
from nbfc.kernels.rows import batch_and_network, forward_and_back, is_serial, phase_of_columns, phases
from nbfc.kernels.updates import CLIP, CODE, KEEP, NUMBER, RULE, STEP, update
from nbfc.kernels.workspace import ROWS, batch_size, gradient_of_part, inputs, losses, number_of_parts, room


@kernel(parallel=True)
def train_step(X, order, labels, targets, weights, loss, layers, parameters, state, work, rule, threads):
    """Take one step by `rule`; return the mean loss before it, and whether the step was taken.

    It is not taken where the loss or an updated parameter is not finite: the parameters are then as they were. With
    the rule KEEP there is no update, and state[0] holds the gradient of the mean loss. Other rules count the steps that
    are taken, in this very call: where Ctrl-C keeps its result from Python, the count still belongs to the parameters.
    """
    if rule[CODE] != KEEP:
        rule[STEP] += 1
    goal = Objective(labels, targets, weights, loss, rule[NUMBER], key_of(rule))
    N = batch_size(X, order)
    for phase in range(phases(layers, N)):
        if is_serial(layers, N, phase):
            pass_of_rows(X, order, goal, layers, parameters, work, rule, phase, 0, 1)
        else:
            for share in prange(threads):
                pass_of_rows(X, order, goal, layers, parameters, work, rule, phase, share, threads)
    clip_few_rows(X, order, layers, work, rule)
    J = mean_loss(layers, work, N)
    if np.isfinite(J) or rule[CODE] == KEEP:
        work[-1] = 0
        for phase in range(phases_of_parameters(rule)):
            between(layers, parameters, state, rule, phase)
            for share in prange(threads):
                pass_of_parameters(X, order, layers, parameters, state, work, rule, phase, share, threads)
    taken = is_taken(J, parameters, state, work, rule)
    if not taken:
        rule[STEP] -= 1
    return J, taken


@kernel
def clip_few_rows(X, order, layers, work, rule):
    """Shorten samples' gradients if the rule says so, where pass 1 went by columns: then all rows are done at once."""
    N = batch_size(X, order)
    if rule[CLIP] > 0 and phases(layers, N) > 1:
        here = room(layers, work, N, 0)
        rows = inputs(layers, here, 0, N) if order.shape[0] > 0 else X[:N]
        clip(CLIP_ROWS, rows, layers, here, 0, rule[CLIP])


@kernel
def is_taken(J, parameters, state, work, rule):
    """Return whether loss and updated parameters are finite; otherwise undo the update."""
    if rule[CODE] == KEEP:
        return True
    if not np.isfinite(J):
        return False
    return is_finite(work[-1], parameters, state)


@kernel
def is_finite(overflow, parameters, state):
    """Return whether an update's overflow is 0, and not NaN; undo the update where it is."""
    if np.isnan(overflow):
        for p in range(parameters.shape[0]):
            parameters[p] = state[0, p]
        return False
    return True


@kernel(once=lambda real: (*batch_and_network(real), real[::1], RULE, *[types.intp] * 3))
def pass_of_rows(X, order, goal, layers, parameters, work, rule, phase, share, shares):
    """Pass 1 for a share of the rows in blocks, of the parts, or of the columns that a phase fills.

    Where the rule says so, the gradient of each sample is then shortened.
    """
    N = batch_size(X, order)
    if phases(layers, N) > 1:
        here = room(layers, work, N, 0)
        phase_of_columns(X, order, goal, layers, parameters, here, phase, share, shares)
        return
    parts = number_of_parts(layers, N)
    if parts == 0:
        first, end = share_of(N, share, shares, ROWS_TOGETHER)
        for r in range(first, end, ROWS):
            s, here = min(end, r + ROWS), room(layers, work, N, 0)
            forward_and_back(X, order, goal, layers, parameters, here, r, s, r)
            if rule[CLIP] > 0:
                rows = inputs(layers, here, r, s) if order.shape[0] > 0 else X[r:s]
                clip(CLIP_ROWS, rows, layers, here, r, rule[CLIP])
        return
    for part in range(parts * share // shares, parts * (share + 1) // shares):
        r, s = share_of(N, part, parts, WHOLE)
        here = room(layers, work, N, share)
        forward_and_back(X, order, goal, layers, parameters, here, r, s, 0)
        gradient = gradient_of_part(layers, work, part)
        rows = inputs(layers, here, 0, s - r) if order.shape[0] > 0 else X[r:s]
        if rule[CLIP] > 0:
            clip(CLIP_ROWS, rows, layers, here, 0, rule[CLIP])
        for layer in range(layers.shape[0]):
            if layers[layer, W_ROWS] > 0:
                weight_gradient(rows, layers, here, layer, 0, layers[layer, W_ROWS], gradient)
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


@kernel(entry=True)
def update_alone(parameters, state, rule):
    """Update all parameters by the gradient in the state, on the caller's thread, as a step does; return as it does."""
    rule[STEP] += 1
    taken = is_finite(update(parameters, state, rule, 0, parameters.shape[0]), parameters, state)
    if not taken:
        rule[STEP] -= 1
    return taken
