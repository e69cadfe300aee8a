"""Derivatives of outputs by inputs."""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from nbfc._arrays import Array
from nbfc.jit._calls import (
    body_of,
    callable_from_python,
    caller,
    check_direction,
    check_samples,
    dtype_of,
    empty_like,
    rows_of,
)
from nbfc.kernels import frozen_derivatives
from nbfc.kernels.frozen import Policy
from nbfc.kernels.frozen_derivatives import HESSIAN_VECTOR, JACOBIAN, JVP, VJP
from nbfc.kernels.layers import N_IN, N_OUT
from nbfc.kernels.passed import write_block, write_integer, write_network, write_samples

_work_size = caller(frozen_derivatives.work_size, write_integer, write_network, *[write_samples] * 3)
_derivative = caller(
    frozen_derivatives.derivative, write_integer, write_network, *[write_samples] * 3, *[write_block] * 3
)
_jacobian = caller(frozen_derivatives.jacobian, write_network, write_samples, write_block, write_block)


@callable_from_python
def jacobian(policy: Policy, x: Array) -> Array:  # type: ignore[empty-body]
    """Return ∂y/∂x: row j is the gradient by x of output j.

    Parameters
    ----------
    policy : Policy
    x : (n_in,) or (N, n_in), float32 or float64

    Returns
    -------
    (n_out, n_in) or (N, n_out, n_in), of the network's dtype

    Raises
    ------
    ValueError
        If x has another number of columns than the network has inputs.
    """


@body_of(jacobian)
def _overload_jacobian(policy, x):
    dtype = dtype_of(policy)
    check_samples(x)
    one = x.ndim == 1

    def implementation(policy, x):
        work = np.empty(_work_size(JACOBIAN, policy, x, None, None), dtype)
        n_in, n_out = policy.layers[0, N_IN], policy.layers[-1, N_OUT]
        J = np.empty((rows_of(x), n_out, n_in), dtype)
        _jacobian(policy, x, J.reshape(J.shape[0] * n_out, n_in), work)
        return J[0] if one else J

    return implementation


@register_jitable
def _with_outputs(which, policy, x, u, v, dtype):
    """Return the outputs for x, and one derivative for each sample."""
    work = np.empty(_work_size(which, policy, x, u, v), dtype)
    n_in, n_out = policy.layers[0, N_IN], policy.layers[-1, N_OUT]
    y, result = empty_like(x, n_out, dtype), empty_like(x, n_out if which == JVP else n_in, dtype)
    _derivative(which, policy, x, u, v, y, result, work)
    return y, result


@callable_from_python
def vjp(policy: Policy, x: Array, v: Array) -> tuple[Array, Array]:  # type: ignore[empty-body]
    """Return the outputs y for x, and vᵀ ∂y/∂x: the gradient by x of the weighted sum of outputs v · y.

    Parameters
    ----------
    policy : Policy
    x : (n_in,) or (N, n_in), float32 or float64
    v : (n_out,) or (N, n_out), float32 or float64

    Returns
    -------
    y : (n_out,) or (N, n_out), vᵀ ∂y/∂x : (n_in,) or (N, n_in), of the network's dtype

    Raises
    ------
    ValueError
        If a shape does not fit.
    """


@body_of(vjp)
def _overload_vjp(policy, x, v):
    dtype = dtype_of(policy)
    check_samples(x)
    check_direction(v, x, "v")

    return lambda policy, x, v: _with_outputs(VJP, policy, x, v, None, dtype)


@callable_from_python
def jvp(policy: Policy, x: Array, v: Array) -> tuple[Array, Array]:  # type: ignore[empty-body]
    """Return the outputs y for x, and ∂y/∂x v: how y changes as x moves along v.

    Parameters
    ----------
    policy : Policy
    x, v : (n_in,) or (N, n_in), float32 or float64

    Returns
    -------
    y, ∂y/∂x v : (n_out,) or (N, n_out), of the network's dtype

    Raises
    ------
    ValueError
        If a shape does not fit.
    """


@body_of(jvp)
def _overload_jvp(policy, x, v):
    dtype = dtype_of(policy)
    check_samples(x)
    check_direction(v, x, "v")

    return lambda policy, x, v: _with_outputs(JVP, policy, x, None, v, dtype)


@callable_from_python
def hessian_vector(policy: Policy, x: Array, w: Array, v: Array) -> Array:  # type: ignore[empty-body]
    """Return ∂²(w · y)/∂x² v: how the gradient by x of the weighted sum of outputs w · y changes as x moves along v.

    It is zero for a network of "relu" and "identity" alone, which is linear around nearly every x.

    Parameters
    ----------
    policy : Policy
    x, v : (n_in,) or (N, n_in), float32 or float64
    w : (n_out,) or (N, n_out), float32 or float64

    Returns
    -------
    (n_in,) or (N, n_in), of the network's dtype

    Raises
    ------
    ValueError
        If a shape does not fit, or the network has an activation other than identity, relu, tanh and sigmoid,
        or normalised layers or a softmax.
    """


@body_of(hessian_vector)
def _overload_hessian_vector(policy, x, w, v):
    dtype = dtype_of(policy)
    check_samples(x)
    check_direction(w, x, "w")
    check_direction(v, x, "v")

    def implementation(policy, x, w, v):
        work = np.empty(_work_size(HESSIAN_VECTOR, policy, x, w, v), dtype)
        result = empty_like(x, policy.layers[0, N_IN], dtype)
        _derivative(HESSIAN_VECTOR, policy, x, w, v, None, result, work)
        return result

    return implementation
