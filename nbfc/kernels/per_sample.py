"""Gradients of each sample's own loss by the parameters: the notes' ② before its mean.

Sample i's is an outer product in each layer, x⁽ⁱ⁾ ⊗ ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, and ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾ for the bias. Of a normalisation's
gains it is x ⊙ ∂y.
"""

from math import sqrt

from numba import prange, types

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import share_of
from nbfc.kernels.layers import DENSE, KIND, ROOM, TABLE, bias, weights
from nbfc.kernels.losses import Objective, objective
from nbfc.kernels.memory import matrix_at, vector_at
from nbfc.kernels.rows import forward_and_back
from nbfc.kernels.sample_norms import squared_norm
from nbfc.kernels.workspace import ROWS, gradients, outputs


@kernel
def gradient_of_sample(x, layers, room, i, gradient):
    """Write a sample's gradient, for inputs x and row i of a room, to `gradient` (P,)."""
    for layer in range(layers.shape[0]):
        source = x if layer == 0 else outputs(layers, room, layer - 1, i, i + 1)[0]
        dy = gradients(layers, room, layer, i, i + 1)[0]
        dW, db = weights(layers, gradient, layer), bias(layers, gradient, layer)
        dense = layers[layer, KIND] == DENSE
        for k in range(dW.shape[0]):
            for j in range(dW.shape[1]):
                dW[k, j] = source[k if dense else j] * dy[j]
        if dW.shape[0] > 0:
            for j in range(db.shape[0]):
                db[j] = dy[j]


@kernel(parallel=True)
def per_sample(X, labels, targets, loss, number, layers, parameters, work, norms, G, threads):
    """Fill the lengths of the samples' gradients, `norms` float64 (N,), and the gradients G (N, P) or none (0, P).

    Each thread owns whole samples, and a row of `work`, which holds a room.
    """
    goal = Objective(labels, targets, vector_at(parameters, 0, 0), loss, number, 0, 0.0)
    for share in prange(threads):
        per_sample_share(X, goal, layers, parameters, work, norms, G, share, threads)


@kernel(
    once=lambda real: (
        real[:, ::1],
        objective(real),
        TABLE,
        real[::1],
        real[:, ::1],
        types.float64[::1],
        real[:, ::1],
        *[types.intp] * 2,
    )
)
def per_sample_share(X, goal, layers, parameters, work, norms, G, share, shares):
    """Do so for a share of the samples, in blocks."""
    order = vector_at(goal.labels, 0, 0)  # X is the batch
    first, end = share_of(X.shape[0], share, shares, 1)
    for r in range(first, end, ROWS):
        s = min(end, r + ROWS)
        room = matrix_at(work[share], 0, layers[-1, ROOM], s - r)
        forward_and_back(X, order, goal, layers, parameters, room, r, s, 0)
        for i in range(r, s):
            norms[i] = sqrt(squared_norm(X[i], layers, room, i - r))
            if G.shape[0] > 0:
                gradient_of_sample(X[i], layers, room, i - r, G[i])
