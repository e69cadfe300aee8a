"""How compiled code sees a network: one flat vector of parameters and a table with a row of integers per layer.

Architectures differ in the table's numbers, never in types, so every network runs the same machine code.
"""

from collections.abc import Sequence

import numpy as np
from numba import types

from nbfc._arrays import Array
from nbfc.kernels._jit import inlined
from nbfc.kernels.elementwise import IDENTITY, SOFTMAX, is_further
from nbfc.kernels.memory import matrix_at, vector_at

# Columns of the table, int64 (layers, 12). W has W_ROWS rows of N_OUT. OUTPUTS_AT is the sum of n_out over the layers
# before this one, which is where its outputs lie in a buffer that holds those of all layers; WIDEST is the largest.
# Up to this layer, there are SIZE parameters, and a step takes ROOM numbers for each sample (see ``workspace``).
N_IN, N_OUT, WEIGHTS_AT, BIAS_AT, ACTIVATION, OUTPUTS_AT, WIDEST, KIND, W_ROWS, DROPOUT, SIZE, ROOM = range(12)
COLUMNS = ROOM + 1
TABLE, INTEGERS = types.int64[:, ::1], types.int64[::1]

# Kinds. What goes over whole rows, before a hidden layer's activation or after the last product, is a layer of its own
# (see ``whole_rows``): its W is one row, of gains, and its b are shifts; or it has no parameters.
DENSE, NORMALIZE, SOFTMAX_OF_ROWS = range(3)
FEWER_ROWS = {NORMALIZE: 1, SOFTMAX_OF_ROWS: 0}


def table(widths: Sequence[int], activations: Sequence[int], normalized: bool = False) -> Array:
    """Return the layer table, int64 (layers, 12).

    Layer by layer the vector holds W (n_in × n_out, row by row) and then b (n_out), and where hidden layers are
    normalised their gains and shifts behind that.
    """
    rows: list[tuple[int, ...]] = []
    parameters = outputs = widest = 0
    parts = 2

    def add(kind: int, n_in: int, n_out: int, activation: int) -> None:
        nonlocal parameters, outputs, widest, parts
        w_rows = FEWER_ROWS.get(kind, n_in)
        bias_at = parameters + w_rows * n_out
        row = n_in, n_out, parameters, bias_at, activation, outputs, widest, kind, w_rows, 0
        parameters = bias_at + (n_out if w_rows else 0)
        outputs, widest = outputs + n_out, max(widest, n_out)
        if is_further.py_func(activation) or kind == NORMALIZE:
            parts = 3  # slopes are kept
        rows.append((*row, parameters, parts * outputs + 1 + widths[0]))

    last = len(activations) - 1
    for layer, (n_in, n_out, activation) in enumerate(zip(widths[:-1], widths[1:], activations, strict=True)):
        if normalized and layer < last:
            add(DENSE, n_in, n_out, IDENTITY)
            add(NORMALIZE, n_out, n_out, activation)
        elif activation == SOFTMAX:
            add(DENSE, n_in, n_out, IDENTITY)
            add(SOFTMAX_OF_ROWS, n_out, n_out, IDENTITY)
        else:
            add(DENSE, n_in, n_out, activation)
    return np.array(rows, dtype=np.int64)


@inlined
def weights(layers, parameters, layer):
    """Return a layer's W (n_in, n_out) as a view into the flat vector of parameters, gradients or moments."""
    return matrix_at(parameters, layers[layer, WEIGHTS_AT], layers[layer, W_ROWS], layers[layer, N_OUT])


@inlined
def bias(layers, parameters, layer):
    """Return a layer's b (n_out,) as a view into the flat vector."""
    return vector_at(parameters, layers[layer, BIAS_AT], layers[layer, N_OUT])


def hidden(layers: Array) -> Array:
    """Return which rows of the table hold the outputs of hidden layers, after all that is done to them."""
    dense = np.flatnonzero(layers[:, KIND] == DENSE)
    return dense[1:] - 1


def views(layers: Array, parameters: Array, kind: int = DENSE) -> tuple[list[Array], list[Array]]:
    """Return W and b of all layers of a kind as views into the flat vector, for use from Python."""
    all_weights, all_biases = [], []
    for layer in np.flatnonzero(layers[:, KIND] == kind):
        n_out, weights_at, bias_at = (int(layers[layer, column]) for column in (N_OUT, WEIGHTS_AT, BIAS_AT))
        all_weights.append(parameters[weights_at:bias_at].reshape(-1, n_out))
        all_biases.append(parameters[bias_at : bias_at + n_out])
    return all_weights, all_biases
