"""Derivatives of a network's outputs y by its inputs x, for rows of samples.

Everything follows from the layers' outputs, which are kept, by going through the layers once more: forward with a
direction, or back with what ③ gives. With W a layer's weights and f its activation, y = f(x W + b)::

    J v   (jvp)   ẏ = (ẋ W) ⊙ f′
    vᵀ J  (vjp)   ∂/∂x = (∂/∂y ⊙ f′) Wᵀ          ③

and the derivative of the second along the direction of the first is a product with the Hessian.

The memory, `room`, is that of a training step (see ``workspace``): outputs of all layers, and of the same size what
belongs to them, gradients or tangents. `more` has as much as `size_of_more` says.
"""

from numba import prange
from numba.extending import register_jitable

from nbfc._arrays import Array
from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import input_gradient_inputs, share_of
from nbfc.kernels.elementwise import IDENTITY, add_second_derivative, multiply_by_derivative
from nbfc.kernels.layers import ACTIVATION, DENSE, KIND, N_IN, N_OUT, ROOM, TABLE, weights
from nbfc.kernels.memory import flat, matrix_at
from nbfc.kernels.multiply import multiply_scale
from nbfc.kernels.rows import back_layer, forward_layer, multiply_by_slopes
from nbfc.kernels.whole_rows import ALONG, BACK, go_in_room
from nbfc.kernels.workspace import ROWS, gradients, outputs


@register_jitable
def size_of_more(layers: Array, rows: int) -> int:
    """Return how many entries are needed beside the room, for so many rows."""
    widest = layers[0, N_IN]
    for layer in range(layers.shape[0]):
        widest = max(widest, layers[layer, N_OUT])
    return 4 * widest * max(rows, min(layers[0, N_IN], layers[-1, N_OUT]))  # type: ignore[no-any-return]


@kernel
def forward_layers(X, layers, parameters, room):
    """Fill all layers' outputs for X (N, n_in)."""
    for layer in range(layers.shape[0]):
        forward_layer(X, layers, parameters, room, layer, 0, X.shape[0], 0, layers[layer, N_OUT])


@kernel
def forward_all(X, layers, parameters, room, Y):
    """Do so, and copy the last to Y (N, n_out)."""
    forward_layers(X, layers, parameters, room)
    copy(outputs(layers, room, layers.shape[0] - 1, 0, X.shape[0]), Y)


@kernel
def copy(source, target):
    """Copy a matrix."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@kernel(once=lambda real: (*[real[:, ::1]] * 2, TABLE, real[::1], *[real[:, ::1]] * 3))
def vjp_rows(X, V, layers, parameters, room, Y, dX):
    """Y = the outputs for X, and row i of dX (N, n_in) is v⁽ⁱ⁾ᵀ J⁽ⁱ⁾, for V (N, n_out)."""
    N, last = X.shape[0], layers.shape[0] - 1
    forward_all(X, layers, parameters, room, Y)
    dY = gradients(layers, room, last, 0, N)
    copy(V, dY)
    multiply_by_slopes(layers, room, last, 0, N, dY)
    for layer in range(last, 0, -1):
        back_layer(layers, parameters, room, layer, 0, 0, N, False, 0, layers[layer, N_IN])
    dY, W = gradients(layers, room, 0, 0, N), weights(layers, parameters, 0)
    input_gradient_inputs(dY, W, IDENTITY, dX, dX, False, 0, W.shape[0])


@kernel(once=lambda real: (*[real[:, ::1]] * 2, TABLE, real[::1], *[real[:, ::1]] * 3))
def jvp_rows(X, V, layers, parameters, room, Y, dY):
    """Y = the outputs for X, and row i of dY (N, n_out) is J⁽ⁱ⁾ v⁽ⁱ⁾, for V (N, n_in)."""
    forward_all(X, layers, parameters, room, Y)
    tangents(V, layers, parameters, room)
    copy(gradients(layers, room, layers.shape[0] - 1, 0, X.shape[0]), dY)


@kernel
def tangents(V, layers, parameters, room):
    """Fill, where a step has gradients, how all layers' outputs change along V (N, n_in)."""
    N = V.shape[0]
    for layer in range(layers.shape[0]):
        source, target = V, gradients(layers, room, layer, 0, N)
        if layer > 0:
            source = gradients(layers, room, layer - 1, 0, N)
        if layers[layer, KIND] == DENSE:
            multiply_scale(source, weights(layers, parameters, layer), target.dtype.type(1), False, target)
        else:
            go_in_room(ALONG, layers, parameters, room, layer, 0, N, source, target)
        multiply_by_slopes(layers, room, layer, 0, N, target)


@kernel(once=lambda real: (*[real[:, ::1]] * 3, TABLE, real[::1], real[:, ::1], real[::1], real[:, ::1]))
def hessian_vector_rows(X, U, V, layers, parameters, room, more, H):
    """Row i of H (N, n_in) is the Hessian of u⁽ⁱ⁾ᵀ y⁽ⁱ⁾ by x⁽ⁱ⁾, times v⁽ⁱ⁾; for U (N, n_out) and V (N, n_in).

    g = ∂(uᵀ y)/∂(a layer's outputs) goes back as ever, and with it its derivative along V.
    """
    N, last = X.shape[0], layers.shape[0] - 1
    forward_layers(X, layers, parameters, room)
    tangents(V, layers, parameters, room)
    size = more.shape[0] // 4
    n_out = layers[last, N_OUT]
    g, along = matrix_at(more, 0, N, n_out), matrix_at(more, size, N, n_out)
    copy(U, g)
    for i in range(N):
        for j in range(n_out):
            along[i, j] = along.dtype.type(0)
    for layer in range(last, -1, -1):
        activation, W = layers[layer, ACTIVATION], weights(layers, parameters, layer)
        Y, tangent = outputs(layers, room, layer, 0, N), gradients(layers, room, layer, 0, N)
        y, flat_g, flat_along = flat(Y), flat(g), flat(along)
        multiply_by_derivative(activation, y, flat_along)
        add_second_derivative(activation, y, flat(tangent), flat_g, flat_along)
        multiply_by_derivative(activation, y, flat_g)
        one, there = W.dtype.type(1), (last - layer + 1) % 2 * 2 * size
        next_g = matrix_at(more, there, N, W.shape[0])
        next_along = matrix_at(more, there + size, N, W.shape[0]) if layer > 0 else H
        multiply_scale(along, W.T, one, False, next_along)
        if layer > 0:
            multiply_scale(g, W.T, one, False, next_g)
        g, along = next_g, next_along


@kernel(once=lambda real: (real[:, ::1], TABLE, real[::1], real[:, ::1], real[::1], real[:, ::1]))
def jacobian_row(x, layers, parameters, room, more, J):
    """J (n_out, n_in) = ∂y/∂x for one sample x (1, n_in).

    Row after row of the identity goes back, all at once, or forward where there are fewer inputs than outputs.
    """
    last = layers.shape[0] - 1
    forward_layers(x, layers, parameters, room)
    n_out, n_in = J.shape
    half, number = more.shape[0] // 2, J.dtype.type(1)
    if n_in < n_out:
        rows = weights(layers, parameters, 0)
        for layer in range(last + 1):
            W = weights(layers, parameters, layer)
            target = matrix_at(more, layer % 2 * half, n_in, W.shape[1])
            if layer == 0:
                copy(W, target)
            elif layers[layer, KIND] != DENSE:
                go_in_room(ALONG, layers, parameters, room, layer, 0, 1, rows, target)
            else:
                multiply_scale(rows, W, number, False, target)
            multiply_rows_by_derivative(layers, room, layer, target)
            rows = target
        for j in range(n_out):
            for k in range(n_in):
                J[j, k] = rows[k, j]
        return
    rows = J
    for layer in range(last, -1, -1):
        W = weights(layers, parameters, layer)
        target = matrix_at(more, layer % 2 * half, n_out, layers[layer, N_IN]) if layer > 0 else J
        if layers[layer, KIND] != DENSE:
            if layer == last:
                rows = matrix_at(more, (layer + 1) % 2 * half, n_out, n_out)
                fill_identity(rows)
                multiply_rows_by_derivative(layers, room, layer, rows)
            go_in_room(BACK, layers, parameters, room, layer, 0, 1, rows, target)
        elif layer == last:
            ones = gradients(layers, room, last, 0, 1)[0]
            for j in range(n_out):
                ones[j] = number
            multiply_by_slopes(layers, room, last, 0, 1, gradients(layers, room, last, 0, 1))
            for j in range(n_out):
                for k in range(W.shape[0]):
                    target[j, k] = ones[j] * W[k, j]
        else:
            multiply_scale(rows, W.T, number, False, target)
        if layer > 0:
            multiply_rows_by_derivative(layers, room, layer - 1, target)
        rows = target


@kernel
def fill_identity(matrix):
    """Write the identity."""
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            matrix[i, j] = matrix.dtype.type(1 if i == j else 0)


@kernel
def multiply_rows_by_derivative(layers, room, layer, rows):
    """Multiply each row by the derivative at a layer's outputs, which are those of one sample."""
    for i in range(rows.shape[0]):
        multiply_by_slopes(layers, room, layer, 0, 1, rows[i : i + 1])


# ---- for Python: samples shared out among threads --------------------------------------------------------------------


@kernel(parallel=True)
def input_gradient(X, V, layers, parameters, work, Y, dX, threads):
    """`vjp_rows` on all of X, in blocks. Each thread owns whole rows, and a row of `work`, which holds a room."""
    for share in prange(threads):
        input_gradient_share(X, V, layers, parameters, work, Y, dX, share, threads)


@kernel
def input_gradient_share(X, V, layers, parameters, work, Y, dX, share, shares):
    """Take a share of the samples, in blocks."""
    first, end = share_of(X.shape[0], share, shares, 1)
    for r in range(first, end, ROWS):
        s = min(end, r + ROWS)
        room = matrix_at(work[share], 0, layers[-1, ROOM], s - r)
        vjp_rows(X[r:s], V[r:s], layers, parameters, room, Y[r:s], dX[r:s])


@kernel(parallel=True)
def jacobian(X, layers, parameters, work, J, threads):
    """Fill J (N, n_out, n_in), sample by sample."""
    for share in prange(threads):
        jacobian_share(X, layers, parameters, work, J, share, threads)


@kernel
def jacobian_share(X, layers, parameters, work, J, share, shares):
    """Take a share of the samples, one by one."""
    first, end = share_of(X.shape[0], share, shares, 1)
    room, size = matrix_at(work[share], 0, layers[-1, ROOM], 1), layers[-1, ROOM]
    for i in range(first, end):
        jacobian_row(X[i : i + 1], layers, parameters, room, work[share, size:], J[i])
