"""Pass 1 of a training step: rows of the batch through all layers, the loss, and back. For the arrays see ``step``.

Blocks of rows go all the way on their own. Where rows are too few to share out, see ``few_samples``.
"""

from numba import types

from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import activate_columns, forward_outputs, input_gradient_inputs
from nbfc.kernels.dropout import activation_to_pass, drop, drop_back
from nbfc.kernels.elementwise import IDENTITY, is_further, multiply_by_derivative
from nbfc.kernels.further_activations import activate_with_slopes
from nbfc.kernels.layers import (
    ACTIVATION,
    DENSE,
    INTEGERS,
    KIND,
    N_IN,
    N_OUT,
    TABLE,
    bias,
    weights,
)
from nbfc.kernels.losses import loss_rows, objective, weigh
from nbfc.kernels.memory import flat
from nbfc.kernels.sample_norms import clip
from nbfc.kernels.whole_rows import BACK, FORWARD, go_in_room
from nbfc.kernels.workspace import gradients, inputs, losses, outputs, rows_of_batch, slopes


def batch_and_network(real):
    """Return the types of X, order, goal, layers and parameters."""
    return real[:, ::1], INTEGERS, objective(real), TABLE, real[::1]


@kernel(once=lambda real: (*batch_and_network(real), real[:, ::1], *[types.intp] * 3))
def forward_and_back(X, order, goal, layers, parameters, room, r, s, place):
    """Take rows r to s of the batch to `place` in a room: the outputs of all layers, the losses, and the gradients.

    A layer's gradient is the one at its Y, before ①②③. Where the goal says so, each sample's is then shortened.
    """
    end = place + s - r
    if order.shape[0] > 0:
        gather(X, order[r:s], inputs(layers, room, place, end), 0, X.shape[1])
    rows = rows_of_batch(X, order, layers, room, r, s, place)
    for layer in range(layers.shape[0]):
        n_out = layers[layer, N_OUT]
        forward_layer(rows, layers, parameters, room, layer, place, end, 0, n_out)
        drop(layers, room, layer, goal.key, r, place, end, 0, n_out)
    take_loss(goal, r, s, layers, room, place)
    for layer in range(layers.shape[0] - 1, 0, -1):
        n_in = layers[layer, N_IN]
        back_layer(layers, parameters, room, layer, goal.key, place, end, False, 0, n_in)
        drop_back(layers, room, layer - 1, goal.key, r, place, end, 0, n_in)
    clip(rows, layers, room, place, goal.longest)


@kernel(once=lambda real: (real[:, ::1], TABLE, real[::1], real[:, ::1], *[types.intp] * 5))
def forward_layer(rows, layers, parameters, room, layer, place, end, j0, j1):
    """Fill outputs j0 to j1 of a layer, for what is at place to end of a room; `rows` are the inputs of the first."""
    W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
    Y = outputs(layers, room, layer, place, end)
    X = outputs(layers, room, layer - 1, place, end) if layer > 0 else rows
    activation = layers[layer, ACTIVATION]
    if layers[layer, KIND] == DENSE and not is_further(activation):
        forward_outputs(X, W, b, activation, Y, j0, j1)
        return
    if layers[layer, KIND] == DENSE:
        forward_outputs(X, W, b, IDENTITY, Y, j0, j1)
    else:
        go_in_room(FORWARD, layers, parameters, room, layer, place, end, X, Y)
    activate_outputs(layers, room, layer, place, end, j0, j1)


@kernel
def activate_outputs(layers, room, layer, place, end, j0, j1):
    """Replace outputs j0 to j1 of a layer by their activations, and fill in the slopes where they are kept."""
    activation, Y = layers[layer, ACTIVATION], outputs(layers, room, layer, place, end)
    if not is_further(activation):
        activate_columns(activation, Y, j0, j1)
        return
    D = slopes(layers, room, layer, place, end)
    if j1 - j0 == Y.shape[1]:
        activate_with_slopes(activation, flat(Y), flat(D))
    else:
        for i in range(Y.shape[0]):
            activate_with_slopes(activation, Y[i, j0:j1], D[i, j0:j1])


@kernel(once=lambda real: (TABLE, real[::1], real[:, ::1], *[types.intp] * 4, types.boolean, *[types.intp] * 2))
def back_layer(layers, parameters, room, layer, key, place, end, few, k0, k1):
    """Fill the gradient at inputs k0 to k1 of a layer above the first, likewise.

    It is the one before the activation that made these inputs, but where dropout comes between (see `drop_back`).
    """
    dY, W = gradients(layers, room, layer, place, end), weights(layers, parameters, layer)
    X, dX = outputs(layers, room, layer - 1, place, end), gradients(layers, room, layer - 1, place, end)
    if layers[layer, KIND] != DENSE:
        go_in_room(BACK, layers, parameters, room, layer, place, end, dY, dX)
        return
    input_gradient_inputs(dY, W, activation_to_pass(layers, layer - 1, key), X, dX, few, k0, k1)
    if is_further(layers[layer - 1, ACTIVATION]):
        D = slopes(layers, room, layer - 1, place, end)
        if k1 - k0 == dX.shape[1]:
            multiply(flat(D), flat(dX))
        else:
            for i in range(dX.shape[0]):
                multiply(D[i, k0:k1], dX[i, k0:k1])


@kernel
def multiply_by_slopes(layers, room, layer, place, end, dY):
    """dY ← dY · activation′ at a layer's outputs, which are at place to end of a room."""
    activation = layers[layer, ACTIVATION]
    if is_further(activation):
        D = slopes(layers, room, layer, place, end)
        multiply(flat(D), flat(dY))
    else:
        Y = outputs(layers, room, layer, place, end)
        multiply_by_derivative(activation, flat(Y), flat(dY))


@kernel
def multiply(factors, values):
    """Multiply values by factors, entry by entry."""
    for t in range(values.shape[0]):
        values[t] *= factors[t]


@kernel
def gather(X, order, rows, k0, k1):
    """Copy columns k0 to k1 of rows of X, in an order."""
    for i in range(order.shape[0]):
        source, target = X[order[i], k0:k1], rows[i, k0:k1]
        for k in range(source.shape[0]):
            target[k] = source[k]


@kernel(once=lambda real: (objective(real), *[types.intp] * 2, TABLE, real[:, ::1], types.intp))
def take_loss(goal, r, s, layers, room, place):
    """Take the loss of rows r to s, from `place` on in a room, and its gradient before the last layer's activation."""
    last, end = layers.shape[0] - 1, place + s - r
    Y, dY = outputs(layers, room, last, place, end), gradients(layers, room, last, place, end)
    J = losses(layers, room, place, end)
    loss_rows(goal.loss, goal.number, Y, goal.labels[r:s], goal.rows[r:s], J, dY)
    weigh(goal.weights[r:s], J, dY)
    multiply_by_slopes(layers, room, last, place, end, dY)
