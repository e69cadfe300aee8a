"""One prediction after the other inside compiled code: by nbfc, and by loops as a careful user of Numba writes them."""

import numpy as np
from numba import njit

import nbfc


@njit
def by_nbfc(policy, x, y, scratch, count):
    for _ in range(count):
        nbfc.jit.predict_into(policy, x, y, scratch)


@njit(fastmath=True, error_model="numpy")
def by_hand(weights, biases, relu, x, outputs, count):
    """Write each layer's outputs to the next of `outputs`; the inner loops run along the rows of W, as they lie."""
    for _ in range(count):
        source = x
        for layer in range(len(weights)):
            W, y = weights[layer], outputs[layer]
            for j in range(y.size):
                y[j] = biases[layer][j]
            for k in range(source.size):
                for j in range(y.size):
                    y[j] += source[k] * W[k, j]
            if layer < len(weights) - 1:
                for j in range(y.size):
                    y[j] = max(y[j], 0) if relu else np.tanh(y[j])
            source = y


def call_by_nbfc(work, net):
    """Return what predicts so many times, and the outputs."""
    policy, x, y = net.freeze(), work.data()[0][0], np.empty(work.widths[-1], work.dtype)
    scratch = nbfc.jit.scratch(policy)
    return lambda count: by_nbfc(policy, x, y, scratch, count), y


def call_by_hand(work):
    X, _, parameters = work.data()
    weights, biases = (tuple(arrays) for arrays in zip(*parameters, strict=True))
    outputs = tuple(np.empty_like(b) for b in biases)
    relu = work.activation == "relu"
    return lambda count: by_hand(weights, biases, relu, X[0], outputs, count), outputs[-1]
