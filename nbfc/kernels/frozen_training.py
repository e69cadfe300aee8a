"""What users' compiled code calls for losses, their gradients by the parameters, and training steps.

Targets come as `labels`, int64, or as `targets`, rows of numbers; the other one is empty (see ``losses``).
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import register_jitable

from nbfc._arrays import Array, aligned_copy, aligned_empty
from nbfc.kernels._jit import kernel
from nbfc.kernels.exported import (
    DIVERGED,
    EMPTY_FAULT,
    INPUTS_FAULT,
    POLICY_FAULT,
    SCRATCH_FAULT,
    TARGET_FAULT,
    VECTOR_FAULT,
    exported,
)
from nbfc.kernels.frozen import (
    BLOCK,
    INT64,
    NETWORK,
    SAMPLES,
    Policy,
    Samples,
    copy_samples,
    fits,
    is_like,
    is_plain,
    parameters_of,
    table_of,
)
from nbfc.kernels.layers import N_IN, N_OUT
from nbfc.kernels.losses import CROSS_ENTROPY_OF_LABELS, CROSS_ENTROPY_OF_ROWS, first_invalid
from nbfc.kernels.memory import matrix_of, size_of, vector_of, write
from nbfc.kernels.step import train_step_alone
from nbfc.kernels.updates import LENGTH, STEP
from nbfc.kernels.workspace import size_of_work

FLOAT64 = np.float64(0)


class State(NamedTuple):
    """A network in training, as compiled code holds it: see ``nbfc.Trainer.freeze``.

    Attributes
    ----------
    policy : Policy
        The network. Steps update its `parameters`.
    moments : (1 + moments, P)
        What the optimizer accumulates, in rows 1 and 2 (see ``nbfc.kernels.updates``). Row 0 is for steps' own use.
    rule : float64 (8,)
        The optimizer's numbers; entry ``nbfc.jit.LEARNING_RATE`` may be changed between steps.
    loss : int
        The loss's code.
    work : (size,)
        Memory for steps on as many samples as ``freeze`` was told.
    """

    policy: Policy
    moments: Array
    rule: Array
    loss: int
    work: Array


def state_of(policy: Policy, moments: Array, rule: Array, loss: int, batch_size: int) -> State:
    """Return a state with copies of a trainer's arrays, and memory for batches of so many samples."""
    work = aligned_empty((int(size_of_all(policy.layers, batch_size)),), moments.dtype)
    return State(policy, aligned_copy(moments), rule.copy(), loss, work)


@exported
@kernel(once=lambda real: (NETWORK, types.intp, real))
def work_size(net, rows, number):
    """Return how many entries `work` has for a batch of so many samples."""
    return size_of_all(table_of(net), rows) if fits(net) else -POLICY_FAULT


@register_jitable
def size_of_all(layers, rows):
    """Return that of a step's memory, and of copies of x and of the targets."""
    return rows * (layers[0, N_IN] + layers[-1, N_OUT]) + size_of_work(layers, rows, 1)


@exported
@kernel(once=lambda real: (NETWORK, SAMPLES, BLOCK, SAMPLES, types.intp, *[BLOCK] * 3, types.intp, real))
def train_step(net, x, labels, targets, loss, state, rule, work, result, number):
    """Take a step of ``nbfc.kernels.step``, by a rule with the last one's number; write the loss to an address.

    The rule KEEP only writes the gradient to the state (1, P).
    """
    if not fits(net) or rule.columns != LENGTH or state.columns != net.size:
        return -POLICY_FAULT
    layers = table_of(net)
    n_in, n_out = layers[0, N_IN], layers[-1, N_OUT]
    if x.columns != n_in:
        return -INPUTS_FAULT
    if x.rows == 0:
        return -EMPTY_FAULT
    by_label = labels.rows > 0
    if by_label and loss != CROSS_ENTROPY_OF_ROWS:
        return -TARGET_FAULT
    if by_label:
        loss = CROSS_ENTROPY_OF_LABELS
    if not by_label and targets.rows == 1 and targets.columns == x.rows and n_out == 1:
        targets = Samples(targets.address, x.rows, 1, targets.column, targets.column, targets.double)
    if not (is_like(labels, 1, x.rows) if by_label else is_like(targets, x.rows, n_out)):
        return -VECTOR_FAULT
    if work.columns < size_of_all(layers, x.rows):
        return -SCRATCH_FAULT
    size = size_of(number)
    own = size_of_work(layers, x.rows, 1)
    inputs, rows = x.address, targets.address
    if net.standardised > 0 or not is_plain(x, size):
        inputs = work.address + own * size
        copy_samples(net, x, 0, x.rows, inputs, net.standardised > 0, number)
    if not by_label and not is_plain(targets, size):
        rows = work.address + (own + x.rows * n_in) * size
        copy_samples(net, targets, 0, x.rows, rows, False, number)
    X, T = matrix_of(inputs, x.rows, n_in, number), matrix_of(rows, 0 if by_label else x.rows, n_out, number)
    numbers, order = vector_of(labels.address, labels.columns, INT64), vector_of(0, 0, INT64)
    if first_invalid(loss, numbers, T, n_out) >= 0:
        return -TARGET_FAULT
    moments, memory = matrix_of(state.address, state.rows, net.size, number), vector_of(work.address, own, number)
    numbers_of_rule = vector_of(rule.address, rule.columns, FLOAT64)
    parameters = parameters_of(net, number)
    numbers_of_rule[STEP] += 1
    J, taken = train_step_alone(X, order, numbers, T, loss, layers, parameters, moments, memory, numbers_of_rule)
    write(result, J)
    if not taken:
        numbers_of_rule[STEP] -= 1
    return 0 if taken else -DIVERGED
