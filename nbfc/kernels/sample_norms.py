"""Lengths of the gradients of samples' own losses by the parameters (see ``per_sample``), and how they are shortened.

In each layer the gradient is an outer product, so its length takes no product to find: ‖x ⊗ ∂y‖² + ‖∂y‖² =
(‖x‖² + 1) ‖∂y‖², summed over the layers. Of a normalisation's gains it is x ⊙ ∂y.
"""

from math import sqrt

import numpy as np
from numba import types

from nbfc.kernels._addresses import Table
from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.layers import DENSE, KIND, TABLE, W_ROWS
from nbfc.kernels.workspace import gradients, outputs


@kernel(reassociate=True)
def sum_of_squares(x):
    """Return ‖x‖² in float64, where squares of float32 do not overflow."""
    total = 0.0
    for k in range(x.shape[0]):
        total += np.float64(x[k]) * np.float64(x[k])
    return total


@kernel(reassociate=True)
def sum_of_squared_products(x, y):
    """Return ‖x ⊙ y‖² in float64."""
    total = 0.0
    for k in range(x.shape[0]):
        product = np.float64(x[k]) * np.float64(y[k])
        total += product * product
    return total


@kernel
def squared_norm(x, layers, room, i):
    """Return the squared length of a sample's gradient, for inputs x and row i of a room."""
    total = 0.0
    for layer in range(layers.shape[0]):
        dy = gradients(layers, room, layer, i, i + 1)[0]
        source = x if layer == 0 else outputs(layers, room, layer - 1, i, i + 1)[0]
        if layers[layer, KIND] == DENSE:
            total += (sum_of_squares(source) + 1) * sum_of_squares(dy)
        elif layers[layer, W_ROWS] > 0:
            total += sum_of_squared_products(source, dy) + sum_of_squares(dy)
    return total


def arguments(real):
    """Return the types of X, layers, room, place and longest."""
    return real[:, ::1], TABLE, real[:, ::1], types.intp, types.float64


CLIP_TABLE, CLIP_ROWS = Table("clip", arguments), 0  # of one kernel, which few steps need
call_of_table, has_clip = CLIP_TABLE.call, CLIP_TABLE.has


@inlined
def clip(X, layers, room, place, longest):
    """Shorten the gradients of samples X, at `place` of a room, to a length of at most `longest`; not for 0."""
    if longest > 0:
        call_of_table(CLIP_ROWS, X, layers, room, place, longest)


@kernel(once=arguments)
def clip_rows(X, layers, room, place, longest):
    """Do so."""
    for i in range(X.shape[0]):
        length = sqrt(squared_norm(X[i], layers, room, place + i))
        if length > longest:
            factor = room.dtype.type(longest / length)
            for layer in range(layers.shape[0]):
                dy = gradients(layers, room, layer, place + i, place + i + 1)[0]
                for j in range(dy.shape[0]):
                    dy[j] *= factor


CLIP_TABLE.add(CLIP_ROWS, clip_rows.kernel)
