"""How compiled code sees a network: one flat vector of parameters and a table with a row of integers per layer.

Architectures differ in the table's numbers, never in types, so every network runs the same machine code.
"""

from collections.abc import Sequence

import numpy as np
from numba import types
from numba.extending import register_jitable

from nbfc._arrays import Array
from nbfc.kernels._jit import inlined
from nbfc.kernels.memory import matrix_at, vector_at

# Columns of the table, int64 (layers, 7). OUTPUTS_AT is the sum of n_out over the layers before: where a layer's
# outputs lie in a buffer that holds those of all layers.
N_IN, N_OUT, WEIGHTS_AT, BIAS_AT, ACTIVATION, OUTPUTS_AT, DROPOUT = range(7)
COLUMNS = DROPOUT + 1
TABLE, INTEGERS = types.int64[:, ::1], types.int64[::1]


def table(widths: Sequence[int], activations: Sequence[int]) -> tuple[Array, int]:
    """Return the layer table, int64 (layers, 7), and the number of parameters.

    Layer by layer the vector holds W (n_in × n_out, row by row) and then b (n_out).
    """
    rows = []
    parameters = outputs = 0
    for n_in, n_out, activation in zip(widths[:-1], widths[1:], activations, strict=True):
        rows.append((n_in, n_out, parameters, parameters + n_in * n_out, activation, outputs, 0))
        parameters += n_in * n_out + n_out
        outputs += n_out
    return np.array(rows, dtype=np.int64), parameters


@register_jitable
def number_of_parameters(layers):
    """Return P."""
    return layers[-1, BIAS_AT] + layers[-1, N_OUT]


@inlined
def weights(layers, parameters, layer):
    """Return a layer's W (n_in, n_out) as a view into the flat vector of parameters, gradients or moments."""
    return matrix_at(parameters, layers[layer, WEIGHTS_AT], layers[layer, N_IN], layers[layer, N_OUT])


@inlined
def bias(layers, parameters, layer):
    """Return a layer's b (n_out,) as a view into the flat vector."""
    return vector_at(parameters, layers[layer, BIAS_AT], layers[layer, N_OUT])


def views(layers: Array, parameters: Array) -> tuple[list[Array], list[Array]]:
    """Return all layers' W and b as views into the flat vector, for use from Python."""
    all_weights, all_biases = [], []
    for n_in, n_out, weights_at, bias_at, *_ in layers:
        all_weights.append(parameters[weights_at : weights_at + n_in * n_out].reshape(n_in, n_out))
        all_biases.append(parameters[bias_at : bias_at + n_out])
    return all_weights, all_biases
