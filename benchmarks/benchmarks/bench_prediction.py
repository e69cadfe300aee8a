"""Prediction of one row, as a controller needs it, of few, and of many."""

from functools import cache

import numpy as np

import nbfc

NETWORKS = {"controller": (8, 64, 64, 4), "mnist": (784, 256, 128, 10), "wide": (512, 1024, 1024, 100)}
ROWS = [1, 4, 32, 1024, 4096]


@cache
def network(name, rows, dtype):
    """Return a network, inputs, and where to write outputs, after holding these to NumPy's."""
    widths = NETWORKS[name]
    net = nbfc.MLP(widths, dtype=dtype, seed=0)
    X = np.random.default_rng(0).standard_normal((rows, widths[0])).astype(dtype)
    Y = X
    for layer, (W, b) in enumerate(zip(net.weights, net.biases, strict=True), 1):
        Y = Y @ W + b
        Y = np.maximum(Y, 0) if layer < len(net.weights) else Y
    np.testing.assert_allclose(net.predict(X), Y, rtol=1e-3, atol=1e-3)
    return net, X, np.empty_like(Y)


def time_predict(name, rows, dtype):
    net, X, out = network(name, rows, dtype)
    net.predict(X, out=out)


time_predict.params = (list(NETWORKS), ROWS, ["float32", "float64"])
time_predict.param_names = ("network", "rows", "dtype")
