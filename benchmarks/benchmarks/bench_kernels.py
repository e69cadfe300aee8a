"""The four kernels, for layers from a controller's to a large table's, in both dtypes.

There is no `setup`: asv would run it before every call and then time single calls, too coarse for microseconds. Data
are made once, by the first call, which is one of asv's warm-up calls, as is the one that compiles.
"""

from functools import cache

import numpy as np

from nbfc import kernels

# Samples, inputs, outputs: a controller, one row, few and more rows of a large layer, digits, a wide layer, odd sizes,
# few inputs or many into one output, many into a few, and so many samples into some outputs that the inputs come from
# memory.
SHAPES = [
    (32, 8, 64),
    (1, 784, 256),
    (8, 2048, 2048),
    (64, 3000, 3000),
    (128, 784, 256),
    (512, 1024, 1024),
    (333, 127, 65),
    (4096, 16, 1),
    (1000, 2000, 1),
    (512, 2048, 5),
    (4096, 2048, 20),
]
DTYPES = ["float32", "float64"]


@cache
def data(shape, dtype):
    """Return X, W, b, dY and a result for each kernel to write into, after holding each kernel to NumPy's result."""
    N, m, n = shape
    rng = np.random.default_rng(0)
    X, W, b, dY = (rng.standard_normal(size).astype(dtype) for size in ((N, m), (m, n), n, (N, n)))
    close = {"rtol": 0, "atol": 50 * max(shape) ** 0.5 * np.finfo(dtype).eps}
    np.testing.assert_allclose(kernels.forward(X, W, b) / m**0.5, (X @ W + b) / m**0.5, **close)
    np.testing.assert_allclose(kernels.bias_gradient(dY), dY.mean(axis=0), **close)
    np.testing.assert_allclose(kernels.weight_gradient(X, dY), X.T @ dY / N, **close)
    np.testing.assert_allclose(kernels.input_gradient(dY, W) / n**0.5, dY @ W.T / n**0.5, **close)
    return X, W, b, dY, {"Y": np.empty_like(dY), "db": np.empty_like(b), "dW": np.empty_like(W), "dX": np.empty_like(X)}


def over_shapes(benchmark):
    benchmark.params = (SHAPES, DTYPES)
    benchmark.param_names = ("samples, inputs, outputs", "dtype")
    return benchmark


@over_shapes
def time_forward(shape, dtype):
    X, W, b, _, out = data(shape, dtype)
    kernels.forward(X, W, b, "relu", out=out["Y"])


@over_shapes
def time_bias_gradient(shape, dtype):
    _, _, _, dY, out = data(shape, dtype)
    kernels.bias_gradient(dY, out=out["db"])


@over_shapes
def time_weight_gradient(shape, dtype):
    X, _, _, dY, out = data(shape, dtype)
    kernels.weight_gradient(X, dY, out=out["dW"])


@over_shapes
def time_input_gradient(shape, dtype):
    _, W, _, dY, out = data(shape, dtype)
    kernels.input_gradient(dY, W, out=out["dX"])
