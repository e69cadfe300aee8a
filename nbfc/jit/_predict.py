"""Outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.core.typing.typeof import Purpose
from numba.extending import lower_builtin, type_callable, typeof_impl

from nbfc._arrays import Array
from nbfc.jit._calls import (
    body_of,
    callable_from_python,
    caller,
    check_result,
    check_samples,
    dtype_of,
    empty_like,
    real_of,
    write_call,
)
from nbfc.kernels import frozen
from nbfc.kernels.frozen import Policy
from nbfc.kernels.further_activations import own_of
from nbfc.kernels.layers import N_OUT
from nbfc.kernels.passed import write_block, write_integer, write_network, write_samples


@typeof_impl.register(Policy)
def _typeof_policy(policy: Policy, context: Any) -> Any:
    """Refuse globals with activations of one's own: their codes, compiled in, would be others' in other processes."""
    if context.purpose is Purpose.constant and own_of(policy.layers):
        raise TypingError(
            "a policy of nbfc.jit with an activation of your own came to compiled code as a global: expected it as an "
            "argument."
        )
    return typeof_impl.dispatch(tuple)(policy, context)


_INTO = write_network, write_samples, write_block, write_block
_scratch_size = caller(frozen.scratch_size, write_network, write_integer)
_scratch_for = caller(frozen.scratch_for, write_network, write_samples)


@callable_from_python
def scratch(policy: Policy, rows: int = 1) -> Array:  # type: ignore[empty-body]
    """Return memory for `predict_into`, enough for so many samples at a time.

    Parameters
    ----------
    policy : Policy
    rows : int
        A call with more samples takes at least half as many at a time. More than 256 gain nothing.

    Returns
    -------
    (size,), of the network's dtype

    Raises
    ------
    ValueError
        If `rows` is below 1.
    """


@body_of(scratch)
def _scratch(policy, rows=1):
    dtype = dtype_of(policy)
    number = getattr(rows, "value", rows)  # the default comes as it is
    if not isinstance(number, (int, types.Integer)):
        raise TypingError(f"nbfc.jit: rows is {rows}: expected a whole number.")
    return lambda policy, rows=1: np.empty(_scratch_size(policy, rows), dtype)


@callable_from_python
def predict_into(policy: Policy, x: Array, y: Array, scratch: Array) -> None:
    """Write the network's outputs for x to y. Nothing is allocated, and no references are counted.

    Parameters
    ----------
    policy : Policy
    x : (n_in,) or (N, n_in), float32 or float64
        One sample, or one a row, of any layout.
    y : (n_out,) or (N, n_out), of the network's dtype
        C-contiguous. It may be x itself where the network has no more outputs than inputs, and a part of x for one
        sample; otherwise it has memory of its own, and is no part of the policy.
    scratch : (size,), of the network's dtype
        From ``scratch(policy)``. Each thread needs its own, and nothing else may lie in it: what x and y share with it
        is overwritten, unseen, as a look would take 8 ns a call.

    Raises
    ------
    ValueError
        If a shape does not fit, `scratch` is too small, or y shares memory with x otherwise.
    """


@type_callable(predict_into)
def _type_predict_into(context: Any) -> Any:
    def typer(policy: Any, x: Any, y: Any, scratch: Any) -> Any:
        real = real_of(policy)
        check_samples(x)
        check_result(y, "y", real, x.ndim)
        check_result(scratch, "scratch", real, 1)
        frozen.predict.load(real)
        return types.none(policy, x, y, scratch)

    return typer


@lower_builtin(predict_into, types.VarArg(types.Any))  # type: ignore[untyped-decorator]
def _lower_predict_into(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Not by `overload`, whose function would count references to its arguments."""
    write_call(frozen.predict, _INTO, context, builder, signature.args, args)
    return context.get_dummy_value()


@callable_from_python
def predict(policy: Policy, x: Array) -> Array:  # type: ignore[empty-body]
    """Return the network's outputs for x.

    Parameters
    ----------
    policy : Policy
    x : (n_in,) or (N, n_in), float32 or float64
        One sample, or one a row, of any layout.

    Returns
    -------
    (n_out,) or (N, n_out), of the network's dtype

    Raises
    ------
    ValueError
        If x has another number of columns than the network has inputs.
    """


@body_of(predict)
def _predict(policy, x):
    dtype = dtype_of(policy)
    check_samples(x)

    def implementation(policy, x):
        memory = np.empty(_scratch_for(policy, x), dtype)  # first, as it looks at both
        y = empty_like(x, policy.layers[-1, N_OUT], dtype)
        predict_into(policy, x, y, memory)
        return y

    return implementation
