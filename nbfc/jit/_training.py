"""Losses, their gradients by the parameters, and training steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.core.typing.typeof import Purpose
from numba.extending import overload, typeof_impl

from nbfc._arrays import Array
from nbfc._checks import choice
from nbfc.jit._calls import body_of, callable_from_python, caller, check_result, check_samples, dtype_of, real_of
from nbfc.kernels import frozen_training
from nbfc.kernels._addresses import JOBS, REALS
from nbfc.kernels.frozen import Policy
from nbfc.kernels.frozen_training import State
from nbfc.kernels.losses import LOSS_TABLE
from nbfc.kernels.passed import (
    write_block,
    write_column,
    write_integer,
    write_labels,
    write_network,
    write_samples,
    write_targets,
)
from nbfc.kernels.updates import CODE, KEEP, LENGTH, NUMBER
from nbfc.losses import LOSSES


def _callers(write_floats: Any) -> tuple[Any, Any]:
    """Return what calls the kernels for memory and for a step, on targets as `write_floats` takes them."""
    batch = write_network, write_samples, write_labels, write_floats, write_samples, write_integer
    size = caller(frozen_training.work_size, *batch)
    return size, caller(frozen_training.train_step, *batch, *[write_block] * 3, number=True)


_BY_ROWS, _BY_COLUMN = _callers(write_targets), _callers(write_column)


def _callers_for(t: Any, x: Any) -> tuple[Any, Any]:
    """Return `_callers` for targets and samples of these types; raise a TypingError where they do not fit."""
    check_samples(x)
    kinds = t.dtype if isinstance(t, types.Array) else t
    axes = 0
    if isinstance(t, types.Array):
        axes = t.ndim or -1  # no number
    by_label = kinds == types.int64 or (axes == 0 and isinstance(kinds, types.Integer))
    if by_label and axes == x.ndim - 1 and (axes == 0 or t.layout == "C"):
        return _BY_ROWS
    if kinds in REALS and axes in (x.ndim, x.ndim - 1):
        return _BY_ROWS if axes in (0, x.ndim) else _BY_COLUMN
    such = "np.array([0.5])"
    if isinstance(t, types.Boolean):
        such = "int(t)"
    elif isinstance(t, types.Array):
        such = "t.astype(np.int64) of labels" if axes == x.ndim - 1 else "t.astype(np.float64)"
    raise TypingError(
        f"nbfc.jit: targets are {t} for x {x}: expected floats, a vector for each sample (or a number, where the "
        f"network has one output), or contiguous int64 labels, one for each sample, such as {such}."
    )


def weights_of(sample_weight):
    """Return weights, or None where they were left out."""
    raise NotImplementedError


@overload(weights_of)
def _weights_of(sample_weight):
    if sample_weight == types.none or isinstance(sample_weight, types.Omitted):
        return lambda sample_weight: None
    if not (isinstance(sample_weight, types.Array) and sample_weight.ndim == 1 and sample_weight.dtype in REALS):
        raise TypingError(
            f"nbfc.jit: sample_weight is {sample_weight}: expected a vector of floats, one for each sample, or None."
        )
    return lambda sample_weight: sample_weight


def loss_gradient(
    policy: Policy, x: Array, t: Array, loss: str, sample_weight: Array | None = None
) -> tuple[float, Array]:
    """Return the mean loss over samples and its gradient by the parameters, as ``net.loss_and_gradient`` does.

    Parameters
    ----------
    policy : Policy
    x : (n_in,) or (N, n_in), float32 or float64
        One sample, or one a row; N ≥ 1.
    t
        Targets, as the loss takes them (``nbfc.losses``): for one sample a vector (n_out,) or a label, for several rows
        (N, n_out) or labels (N,). Floats of any layout, or contiguous int64 labels.
    loss : a name of ``nbfc.losses``
        In compiled code a constant: written there, or made one by ``numba.literally``.
    sample_weight : (N,), ≥ 0, float32 or float64, optional
        What each sample's loss counts: the mean is (1/N) Σ_i w⁽ⁱ⁾ J⁽ⁱ⁾.

    Returns
    -------
    loss : float
    gradient : (P,), of the network's dtype

    Raises
    ------
    ValueError
        If a shape does not fit, a target lies outside what the loss takes, or a weight is negative or not finite.
    """
    found = choice("loss", loss, LOSSES)
    if isinstance(policy, Policy):
        LOSS_TABLE.ask(found.code, policy.parameters.dtype)
        JOBS.finish()
    return _loss_gradient(policy, x, t, found.code, found.number, sample_weight)  # type: ignore[no-any-return]


@callable_from_python
def _loss_gradient(policy, x, t, code, number, sample_weight):
    """`loss_gradient` by the loss's code."""


@body_of(_loss_gradient)
def _overload_by_code(policy, x, t, code, number, sample_weight):
    dtype, (work_size, step) = dtype_of(policy), _callers_for(t, x)

    def implementation(policy, x, t, code, number, sample_weight):
        weights = weights_of(sample_weight)
        work = np.empty(work_size(policy, x, t, t, weights, code), dtype)
        gradient, rule = np.empty((1, policy.parameters.shape[0]), dtype), np.zeros(LENGTH)
        rule[CODE], rule[NUMBER] = KEEP, number
        return step(policy, x, t, t, weights, code, gradient, rule, work), gradient[0]

    return implementation


@body_of(loss_gradient, prefer_literal=True)
def _overload_loss_gradient(policy, x, t, loss, sample_weight=None):
    real_of(policy)
    _callers_for(t, x)  # before the loss, which is then the last that is wrong: this is asked of it as no constant, too
    if not isinstance(loss, types.StringLiteral) or loss.literal_value not in LOSSES:
        raise TypingError(
            f"nbfc.jit: loss is {loss}: expected one of {list(LOSSES)}, written where it is called, or "
            "numba.literally(loss) of an argument."
        )
    found = LOSSES[loss.literal_value]
    code, number, load = found.code, found.number, LOSS_TABLE.loader(found.code)

    def implementation(policy, x, t, loss, sample_weight=None):
        load(policy.parameters)
        return _loss_gradient(policy, x, t, code, number, sample_weight)

    return implementation


@typeof_impl.register(State)
def _typeof_state(state: State, context: Any) -> Any:
    """Refuse states that are globals: Numba keeps those where nothing may be written, and a step would crash."""
    if context.purpose is Purpose.constant:
        raise TypingError("a state of nbfc.jit came to compiled code as a global: expected it as an argument.")
    return typeof_impl.dispatch(tuple)(state, context)


@callable_from_python
def train_step(  # type: ignore[empty-body]
    state: State, X: Array, y: Array, sample_weight: Array | None = None
) -> float:
    """Take one optimizer step on a batch, as ``Trainer.step`` does to the bit; return the mean loss before it.

    It updates ``state.policy.parameters``, ``state.moments`` and the step's number in ``state.rule``. Nothing is
    allocated for batches up to the size that ``trainer.freeze`` was told. The learning rate may be changed between
    steps: ``state.rule[nbfc.jit.LEARNING_RATE] *= 0.99``.

    Parameters
    ----------
    state : State
        From ``trainer.freeze()``. Each thread needs its own.
    X : (n_in,) or (N, n_in), float32 or float64
        One sample, or one a row; N ≥ 1.
    y
        Targets, as for `loss_gradient`.
    sample_weight
        Likewise.

    Returns
    -------
    float

    Raises
    ------
    DivergenceError
        If that loss, or a parameter after the step, is NaN or infinite. The parameters are then as they were; the
        moments may not be, so go on with a new state.
    ValueError
        If a shape does not fit, a target lies outside what the loss takes, or a weight is negative or not finite.
    """


@body_of(train_step)
def _overload_train_step(state, X, y, sample_weight=None):
    if not (isinstance(state, types.NamedTuple) and state.instance_class is State):
        raise TypingError(f"nbfc.jit: state is {state}: expected what trainer.freeze() returns.")
    policy, moments, rule, loss, work = state.types
    real, dtype = real_of(policy), dtype_of(policy)
    check_result(moments, "state.moments", real, 2)
    check_result(rule, "state.rule", types.float64, 1)
    check_result(work, "state.work", real, 1)
    if not isinstance(loss, types.Integer):
        raise TypingError(f"nbfc.jit: state.loss is {loss}: expected the loss's code, as trainer.freeze() returns it.")
    check_result(policy.types[1], "state.policy.parameters", real, 1)
    work_size, step = _callers_for(y, X)

    def implementation(state, X, y, sample_weight=None):
        weights = weights_of(sample_weight)
        work, needed = state.work, work_size(state.policy, X, y, y, weights, state.loss)
        if work.shape[0] < needed:
            work = np.empty(needed, dtype)
        return step(state.policy, X, y, y, weights, state.loss, state.moments, state.rule, work)

    return implementation
