"""What the functions of ``nbfc.jit`` are made of: checks of types, calls of kernels, and calls from Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from nbfc.kernels._addresses import JOBS, REALS
from nbfc.kernels._cache import KernelCache
from nbfc.kernels.frozen import Policy
from nbfc.kernels.passed import write_network, write_place

Function = TypeVar("Function", bound=Callable[..., Any])


def callable_from_python(function: Function) -> Function:
    """Let a function for compiled code, whose body is an overload, be called from Python too."""
    signature = inspect.signature(function)

    def call(*args: Any) -> Any:
        return from_python(*args)

    for name in ("__module__", "__name__", "__qualname__"):  # which give it a place of its own on disk
        setattr(call, name, getattr(function, name))
    compiled = numba.njit(call)
    compiled._cache = KernelCache(compiled.py_func, JOBS.missed, allocates=True)
    compiled.compile = partial(JOBS.get, compiled.compile)

    @wraps(function)
    def from_python(*args: Any, **keywords: Any) -> Any:
        if keywords:
            args = signature.bind(*args, **keywords).args
        check_byte_order(args)
        return compiled(*args)

    return from_python  # type: ignore[return-value]


def body_of(function: Any, **options: Any) -> Any:
    """Give a function for compiled code its body, as `numba.extending.overload` does.

    It is compiled without the fast mathematics that the calling function may have, which would lose NaN.
    """
    return overload(function, jit_options={"fastmath": False}, **options)


def check_byte_order(values: Any) -> None:
    """Raise a TypingError where an array is not in the machine's byte order.

    Numba would take it as if it were, once it has compiled the function for one that is.
    """
    for value in values:
        if isinstance(value, tuple):
            check_byte_order(value)
        elif isinstance(value, np.ndarray) and not value.dtype.isnative:
            raise TypingError(
                f"nbfc.jit: an array has dtype {value.dtype.str!r}: expected the machine's byte order, such as "
                "array.astype(np.float32)."
            )


# ---- types, checked where a function is compiled --------------------------------------------------------------------


def real_of(policy: Any) -> Any:
    """Return float32 or float64, of the type of a policy; raise a TypingError for any other type."""
    if isinstance(policy, types.NamedTuple) and policy.instance_class is Policy:
        layers, parameters, *scaling = policy.types
        if (
            is_contiguous(parameters, 1, REALS)
            and is_contiguous(layers, 2, [types.int64])
            and not layers.mutable
            and all(is_contiguous(array, 1, [types.float64]) for array in scaling)
        ):
            return parameters.dtype
    raise TypingError(
        f"nbfc.jit: policy is {policy}: expected what net.freeze() returns (of a state: state.policy), or a Policy of "
        "such a one's own read-only layers (a copy of this array is writable) and contiguous arrays like its others."
    )


def dtype_of(policy: Any) -> np.dtype[Any]:
    """Return the network's dtype, of the type of a policy."""
    return np.dtype(str(real_of(policy)))


def is_contiguous(array: Any, ndim: int, numbers: Any) -> bool:
    """Return whether a type is that of a C-contiguous array."""
    return isinstance(array, types.Array) and (array.ndim, array.layout) == (ndim, "C") and array.dtype in numbers


def check_samples(x: Any, name: str = "x") -> None:
    """Raise a TypingError unless a type is that of one sample or of rows of them."""
    array = isinstance(x, types.Array) and x.ndim in (1, 2)
    if not (array and x.dtype in REALS):
        such = f"{name}.astype(np.float32)" if array else "np.array([1.0, 2.0]) for two inputs"
        raise TypingError(
            f"nbfc.jit: {name} is {x}: expected an array of float32 or float64, one sample or one a row, such as "
            f"{such}."
        )


def check_direction(v: Any, x: Any, name: str) -> None:
    """Raise a TypingError unless a type is that of a vector for each sample of x."""
    check_samples(v, name)
    if v.ndim != x.ndim:
        raise TypingError(f"nbfc.jit: {name} has {v.ndim} axes and x has {x.ndim}: expected a vector for each sample.")


def check_result(array: Any, name: str, real: Any, ndim: int) -> None:
    """Raise a TypingError unless a kernel can write to arrays of a type."""
    if not (is_contiguous(array, ndim, [real]) and array.mutable):
        kind = "vector" if ndim == 1 else "matrix"
        raise TypingError(
            f"nbfc.jit: {name} is {array}: expected a {kind} of {real}, the network's dtype, writable and "
            "C-contiguous, because it is written to as it is."
        )


# ---- calls of kernels -----------------------------------------------------------------------------------------------


def write_call(kernel: Any, parts: Any, context: Any, builder: Any, kinds: Any, values: Any) -> Any:
    """Write a call of an exported kernel, with what the `parts` make of the values, one of which is a policy."""
    real = real_of(kinds[parts.index(write_network)])
    given = [part(context, builder, kind, value) for part, kind, value in zip(parts, kinds, values, strict=True)]
    return kernel.write_call(context, builder, real, [*given, context.get_constant(real, 0)])


def caller(kernel: Any, *parts: Any, number: bool = False) -> Any:
    """Return what calls an exported kernel in compiled code, and returns what it returns, or the `number` it writes."""

    @intrinsic
    def call(typingctx: Any, *given: Any) -> Any:
        kernel.load(real_of(given[parts.index(write_network)]))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = [builder.extract_value(args[0], index) for index in range(len(given))]
            if not number:
                return write_call(kernel, parts, context, builder, given, values)
            place = cgutils.alloca_once(builder, context.get_value_type(types.float64))
            kinds, all_parts = [*given, types.float64], [*parts, write_place]
            write_call(kernel, all_parts, context, builder, kinds, [*values, place])
            return builder.load(place)

        return (types.float64 if number else types.intp)(types.StarArgTuple(given)), codegen

    return call


# ---- shapes ---------------------------------------------------------------------------------------------------------


def rows_of(x):
    """Return how many samples x has."""
    raise NotImplementedError


def empty_like(x, n, dtype):
    """Return an array for n numbers of each sample of x: (n,) or (N, n)."""
    raise NotImplementedError


@overload(rows_of)
def _rows_of(x):
    return (lambda x: 1) if x.ndim == 1 else (lambda x: x.shape[0])


@overload(empty_like)
def _empty_like(x, n, dtype):
    if x.ndim == 1:
        return lambda x, n, dtype: np.empty(n, dtype)
    return lambda x, n, dtype: np.empty((x.shape[0], n), dtype)
