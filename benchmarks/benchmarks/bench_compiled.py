"""What users' compiled code gets from a network, in a loop there: seconds of one call."""

import timeit
from functools import cache
from statistics import median

import numpy as np
from numba import njit

import nbfc
from nbfc import jit

NETWORKS = {"controller": (8, 64, 64, 4), "chains": (4, 32, 16, 4), "mnist": (784, 256, 128, 10)}
TIMES = 1000


@njit
def predict_into(policy, x, v, w):
    y, scratch = np.empty(w.size, x.dtype), jit.scratch(policy)
    for _ in range(TIMES):
        jit.predict_into(policy, x, y, scratch)


@njit
def jacobian(policy, x, v, w):
    for _ in range(TIMES):
        jit.jacobian(policy, x)


@njit
def vjp(policy, x, v, w):
    for _ in range(TIMES):
        jit.vjp(policy, x, w)


@njit
def jvp(policy, x, v, w):
    for _ in range(TIMES):
        jit.jvp(policy, x, v)


@njit
def hessian_vector(policy, x, v, w):
    for _ in range(TIMES):
        jit.hessian_vector(policy, x, w, v)


@njit
def loss_gradient(policy, x, v, w):
    for _ in range(TIMES):
        jit.loss_gradient(policy, x, w, "mse")


FUNCTIONS = {
    function.__name__: function for function in (predict_into, jacobian, vjp, jvp, hessian_vector, loss_gradient)
}


@cache
def network(name, activation, dtype):
    """Return a policy, a sample, and directions of inputs and of outputs, after holding values to the network's."""
    net, rng = nbfc.MLP(NETWORKS[name], activation=activation, dtype=dtype, seed=0), np.random.default_rng(0)
    x, v, w = (rng.standard_normal(n).astype(dtype) for n in (net.widths[0], net.widths[0], net.widths[-1]))
    policy = net.freeze()
    assert np.array_equal(jit.predict(policy, x), net.predict(x[None])[0])
    np.testing.assert_allclose(jit.vjp(policy, x, w)[1], w @ net.jacobian(x[None])[0], rtol=1e-3, atol=1e-3)
    return policy, x, v, w


def track_call(function, name, activation, dtype):
    given = network(name, activation, dtype)
    FUNCTIONS[function](*given)
    return median(timeit.repeat(lambda: FUNCTIONS[function](*given), number=1, repeat=9)) / TIMES


track_call.params = (list(FUNCTIONS), list(NETWORKS), ["relu", "tanh"], ["float32", "float64"])
track_call.param_names = ("function", "network", "activation", "dtype")
track_call.unit = "seconds"
track_call.timeout = 300
