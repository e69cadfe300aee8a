"""What users' compiled code calls for losses, their gradients by the parameters, and training steps.

Targets come as `labels`, int64, or as `targets`, rows of numbers; the other one is empty (see ``losses``). `weights`
are one row, what each sample's loss counts, or empty, at no address.
"""

from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import register_jitable

from nbfc._arrays import Array, aligned_copy, aligned_empty
from nbfc.kernels._addresses import JOBS
from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.dropout import BACK, FORWARD, ask_for_dropout, has_dropout
from nbfc.kernels.exported import (
    DIVERGED,
    LABEL_RANGE,
    NO_SAMPLES,
    NOT_FOR_LABELS,
    RATE_FAULT,
    STATE_FAULT,
    TARGET_RANGE,
    TARGET_SHAPE,
    WEIGHTS_RANGE,
    WEIGHTS_SHAPE,
    exported,
)
from nbfc.kernels.frozen import (
    INT64,
    Policy,
    copy_samples,
    fault_of,
    is_like,
    is_plain,
    overlap,
    parameters_of,
    policy_of,
    sample_at,
    table_of,
)
from nbfc.kernels.further_losses import OWN_LOSSES
from nbfc.kernels.layers import COLUMNS, DROPOUT, N_IN, N_OUT
from nbfc.kernels.losses import (
    CROSS_ENTROPY,
    GAUSSIAN_NLL,
    LOSS_TABLE,
    depth_for,
    first_invalid,
    has_loss,
)
from nbfc.kernels.memory import matrix_of, rounded, size_of, vector_of, write
from nbfc.kernels.passed import BLOCK, NETWORK, SAMPLES
from nbfc.kernels.regularization import ask_for_rule, is_loaded
from nbfc.kernels.step import train_step as train_step_of_network
from nbfc.kernels.updates import LEARNING_RATE, LENGTH, SEED, STEP, rows_of_state
from nbfc.kernels.workspace import PARTS, ROWS, number_of_parts, size_of_work

FLOAT64 = np.float64(0)
take_step = kernel(train_step_of_network.py_func)  # on one thread: users' code has its own


class State(NamedTuple):
    """A network in training, as compiled code holds it: see ``nbfc.Trainer.freeze``.

    Attributes
    ----------
    policy : Policy
        The network. Steps update its `parameters`.
    moments : (1 + moments, P)
        What the optimizer accumulates, in rows from 1 on (see ``nbfc.kernels.updates``). Row 0 is for steps' own use.
    rule : float64 (LENGTH,)
        The optimizer's numbers and others (see ``nbfc.kernels.updates``); entry ``nbfc.jit.LEARNING_RATE`` may be
        changed between steps.
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

    def __reduce__(self) -> Any:
        """Copy and unpickle to memory as `state_of` makes it."""
        return state_of, (*self[:-1], self.work.size, OWN_LOSSES.functions().get(self.loss))


def state_of(policy: Policy, moments: Array, rule: Array, loss: int, size: int, own: Any = None) -> State:
    """Return a state with copies of a trainer's arrays, and so many entries of memory for steps.

    `own` is the user's loss, whose code is another one in each process.
    """
    loss = loss if own is None else OWN_LOSSES.code(own) or loss
    ask_for_dropout(policy.layers, moments.dtype)
    LOSS_TABLE.ask(loss, moments.dtype)
    ask_for_rule(rule, moments.dtype)
    JOBS.finish()
    return State(policy_of(*policy), aligned_copy(moments), rule.copy(), loss, aligned_empty((size,), moments.dtype))


def features(state: State) -> dict[str, Any]:
    """Return what training leaves as it is: states that agree in it can take each other's place."""
    policy, rule = state.policy, enumerate(state.rule.tolist())
    return {
        "network or dropout": policy.layers.tolist(),
        "scaling of inputs": [array.tolist() for array in (policy.mean, policy.deviation)],
        "loss": state.loss,
        "optimizer or clip_per_sample": [number for entry, number in rule if entry not in (STEP, LEARNING_RATE, SEED)],
        "shape or dtype of parameters": (policy.parameters.shape, policy.parameters.dtype),
        "shape or dtype of moments": (state.moments.shape, state.moments.dtype),
    }


def size_for_batches(layers: Array, most: int) -> int:
    """Return how many entries steps on batches of at most so many samples need.

    A smaller batch may need more: it may be one that is not cut into parts as larger ones are, or is cut into fewer and
    larger parts (see ``workspace``).
    """
    fullest = ROWS * PARTS  # from each of its multiples to the next, batches are whole first, and then in as many parts
    sizes = {*range(1, min(most, fullest)), *range(fullest, most, fullest), most}
    for start in range(fullest, most, fullest):
        batches = range(start, min(most, start + fullest))
        sizes.add(start + bisect_left(batches, 1, key=lambda rows: number_of_parts(layers, rows + 1)))
    return max(int(size_of_all(layers, rows)) for rows in sizes)


@exported
@kernel(once=lambda real: types.intp(NETWORK, SAMPLES, BLOCK, SAMPLES, SAMPLES, types.intp, real))
def work_size(net, x, labels, targets, weights, loss, number):
    """Return how many entries `work` has for a batch, after a look at its shapes and labels."""
    fault = fault_of(net, x)
    if fault > 0:
        return -fault
    n_out = table_of(net)[-1, N_OUT]
    if x.rows == 0:
        return -NO_SAMPLES
    by_label = labels.address != 0
    if by_label and loss != CROSS_ENTROPY:
        return -NOT_FOR_LABELS
    if not (is_like(labels, 1, x.rows) if by_label else is_like(targets, x.rows, columns_of_targets(loss, n_out))):
        return -TARGET_SHAPE
    if weights.address != 0 and not is_like(weights, 1, x.rows):
        return -WEIGHTS_SHAPE
    for i in range(weights.columns):
        if not 0 <= rounded(sample_at(weights, 0, i), number) < np.inf:
            return -WEIGHTS_RANGE
    nothing = matrix_of(0, 0, n_out, number)
    if by_label and first_invalid(loss, vector_of(labels.address, x.rows, INT64), nothing, n_out) >= 0:
        return -LABEL_RANGE
    return size_of_all(table_for(net, loss), x.rows)


@inlined
def table_for(net, loss):
    """Return the layers that a loss is taken of."""
    return matrix_of(net.layers, depth_for(table_of(net), loss), COLUMNS, INT64)


@register_jitable
def columns_of_targets(loss, n_out):
    """Return how many numbers the targets of a sample are."""
    return n_out // 2 if loss == GAUSSIAN_NLL else n_out


@register_jitable
def size_of_all(layers, rows):
    """Return that of a step's memory, and of copies of x, of the targets and of the weights."""
    return rows * (layers[0, N_IN] + layers[-1, N_OUT] + 1) + size_of_work(layers, rows, 1)


@kernel
def is_all_loaded(net, loss, rule, number):
    """Return whether what a state asks for is there: always, unless its numbers were changed."""
    parameters, layers = parameters_of(net, number), table_of(net)
    found = has_loss(loss, parameters)
    if rule[SEED] > 0:
        for layer in range(layers.shape[0]):
            if layers[layer, DROPOUT] > 0:
                found &= has_dropout(FORWARD, parameters) & has_dropout(BACK, parameters)
    return found & is_loaded(rule, parameters)


@exported
@kernel(
    once=lambda real: types.intp(NETWORK, SAMPLES, BLOCK, SAMPLES, SAMPLES, types.intp, *[BLOCK] * 3, types.intp, real)
)
def train_step(net, x, labels, targets, weights, loss, state, rule, work, result, number):
    """Take a step of ``nbfc.kernels.step``, by a rule with the last one's number; write the loss to an address.

    The rule KEEP only writes the gradient to the state (1, P). What `work_size` has looked at is right.
    """
    numbers_of_rule = vector_of(rule.address, rule.columns, FLOAT64)
    if rule.columns != LENGTH:
        return -STATE_FAULT
    if not is_all_loaded(net, loss, numbers_of_rule, number):
        return -STATE_FAULT
    if state.columns != net.size or state.rows == 0 or state.rows != rows_of_state(numbers_of_rule):
        return -STATE_FAULT
    if not numbers_of_rule[LEARNING_RATE] >= 0:
        return -RATE_FAULT
    layers, size = table_for(net, loss), size_of(number)
    n_in, n_out, own = x.columns, layers[-1, N_OUT], size_of_work(layers, x.rows, 1)
    by_label = labels.address != 0
    inputs, rows = x.address, targets.address
    end_of_inputs, end_of_parameters = inputs + x.rows * n_in * size, net.parameters + net.size * size
    copied = overlap(inputs, end_of_inputs, net.parameters, end_of_parameters)  # it is read while those are updated
    if copied or net.standardised > 0 or not is_plain(x, size):
        inputs = work.address + own * size
        copy_samples(net, x, 0, x.rows, inputs, net.standardised > 0, number)
    if not by_label and not is_plain(targets, size):
        rows = work.address + (own + x.rows * n_in) * size
        copy_samples(net, targets, 0, x.rows, rows, False, number)
    X, T = matrix_of(inputs, x.rows, n_in, number), matrix_of(rows, 0 if by_label else x.rows, targets.columns, number)
    numbers, nothing = vector_of(labels.address, labels.columns, INT64), vector_of(0, 0, INT64)
    if first_invalid(loss, nothing, T, n_out) >= 0:
        return -TARGET_RANGE
    place = work.address + (own + x.rows * (n_in + n_out)) * size
    for i in range(weights.columns):
        write(place + i * size, rounded(sample_at(weights, 0, i), number))
    moments, memory = matrix_of(state.address, state.rows, net.size, number), vector_of(work.address, own, number)
    parameters = parameters_of(net, number)
    each = vector_of(place, weights.columns, number)
    J, taken = take_step(X, nothing, numbers, T, each, loss, layers, parameters, moments, memory, numbers_of_rule, 1)
    write(result, J)
    return 0 if taken else -DIVERGED
