"""Layers that go over whole rows: normalisation, and softmax of the outputs. Compiled when first wanted.

Each stands in the table of layers as one of its own, between a product and what follows it; its inputs X (N, n) are the
product's outputs, which it may overwrite, and its outputs Y (N, n) go through an activation as those of any layer.

- Layer normalisation, Ba et al., 2016, equation 4: x̂ = (x − μ) s, for a row's mean μ, variance σ² and
  s = 1 / √(σ² + ε); y = g ⊙ x̂ + b, for gains g, which are its W (1, n), and shifts b. X becomes x̂.
- Softmax: y_j = exp x_j / Σ_k exp x_k.

The derivatives of x̂ and of softmax by x are symmetric matrices, so that one function multiplies by them for ③, which
goes back, and for the tangents of ``derivatives``, which go forward. With ⟨·⟩ for the mean over a row, and v any row::

    ∂x̂/∂x v = s (v − ⟨v⟩ − x̂ ⟨x̂ ⊙ v⟩)          ∂y/∂x v = y ⊙ (v − Σ_k y_k v_k)
"""

from typing import Any

from numba import types

from nbfc._arrays import Array
from nbfc.kernels._addresses import Table
from nbfc.kernels._jit import kernel
from nbfc.kernels.exponential import exp
from nbfc.kernels.layers import DENSE, KIND, NORMALIZE, SOFTMAX_OF_ROWS, TABLE, bias, weights
from nbfc.kernels.losses import subtract_highest, sum_of
from nbfc.kernels.memory import address_of, size_of
from nbfc.kernels.normal_row import along_row, back_row, normalize_row
from nbfc.kernels.workspace import outputs, slopes

FORWARD, BACK, ALONG, GAINS = range(4)  # what is done, in each kind of layer
PARTS = 4


def arguments(real):
    """Return the types of X, Y, W and b; of S, given and result."""
    return *[real[:, ::1]] * 3, real[::1], *[real[:, ::1]] * 3


WHOLE_ROWS = Table("whole_rows", arguments)
call_of_table = WHOLE_ROWS.call


@kernel
def go(part, kind, X, Y, W, b, S, given, result):
    """Do one part of what a layer of some kind does.

    ======= ============================================================= ==================== ====================
    part    what                                                          given                result
    ======= ============================================================= ==================== ====================
    FORWARD Y = the outputs for X; the first entry of a row of S is its s not read             not written
    BACK    the gradient by X, from the one by Y                          (M, n)               (M, n)
    ALONG   how Y changes, from how X does                                (M, n)               (M, n)
    GAINS   the mean over rows of the gradient by the gains               the one by Y, (N, n) (1, n)
    ======= ============================================================= ==================== ====================

    Where S has no rows nothing is written there. X and Y may be those of one sample, for all M. A softmax touches none
    of W, b and S, which need not lie in their arrays then.
    """
    call_of_table(PARTS * kind + part, X, Y, W, b, S, given, result)


@kernel(once=lambda real: (types.intp, TABLE, real[::1], real[:, ::1], *[types.intp] * 3, *[real[:, ::1]] * 2))
def go_in_room(part, layers, parameters, room, layer, place, end, given, result):
    """Do so with what is at place to end of a room (see ``workspace``), for gains from the flat vector."""
    X, Y = outputs(layers, room, layer - 1, place, end), outputs(layers, room, layer, place, end)
    W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
    go(part, layers[layer, KIND], X, Y, W, b, slopes(layers, room, layer - 1, place, end), given, result)


@kernel(reassociate=True)
def sum_of_products(x, y):
    """Return Σ_j x_j y_j."""
    total = x.dtype.type(0)
    for j in range(x.shape[0]):
        total += x[j] * y[j]
    return total


@kernel(once=arguments)
def normalize(X, Y, W, b, S, given, result):
    """X ← x̂; Y = g ⊙ x̂ + b."""
    x, y, number = address_of(X), address_of(Y), W.dtype.type(1)
    row = X.shape[1] * size_of(number)
    for i in range(X.shape[0]):
        s = normalize_row(x + i * row, y + i * row, address_of(W), address_of(b), X.shape[1], number)
        if S.shape[0] > 0:
            S[i, 0] = s


@kernel
def multiply_rows(back, X, W, S, given, result):
    """Multiply each row by ∂x̂/∂x: back after the gains, or else along before them."""
    x, g, v, out = address_of(X), address_of(W), address_of(given), address_of(result)
    row = X.shape[1] * size_of(S.dtype.type(1))
    for i in range(given.shape[0]):
        at = min(i, X.shape[0] - 1)
        if back:
            back_row(x + at * row, g, v + i * row, out + i * row, X.shape[1], S[at, 0])
        else:
            along_row(x + at * row, g, v + i * row, out + i * row, X.shape[1], S[at, 0])


@kernel(once=arguments)
def normalize_back(X, Y, W, b, S, given, result):
    """∂J/∂x = ∂x̂/∂x (g ⊙ ∂J/∂y)."""
    multiply_rows(True, X, W, S, given, result)


@kernel(once=arguments)
def normalize_along(X, Y, W, b, S, given, result):
    """ẏ = g ⊙ (∂x̂/∂x ẋ)."""
    multiply_rows(False, X, W, S, given, result)


@kernel(once=arguments)
def gradient_of_gains(X, Y, W, b, S, given, result):
    """dg = (1/N) Σ_i x̂⁽ⁱ⁾ ⊙ ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾: what ② is for a diagonal matrix."""
    dg, zero, scale = result[0], result.dtype.type(0), result.dtype.type(1 / X.shape[0])
    for j in range(dg.shape[0]):
        dg[j] = zero
    for i in range(X.shape[0]):
        x, v = X[i], given[i]
        for j in range(dg.shape[0]):
            dg[j] += x[j] * v[j]
    for j in range(dg.shape[0]):
        dg[j] *= scale


@kernel(once=arguments)
def softmax_forward(X, Y, W, b, S, given, result):
    """y_j = exp x_j / Σ_k exp x_k."""
    subtract_highest(X, Y)
    for i in range(X.shape[0]):
        y = Y[i]
        for j in range(y.shape[0]):
            y[j] = exp(y[j])
        total = sum_of(y)
        for j in range(y.shape[0]):
            y[j] /= total


@kernel(once=arguments)
def softmax_back(X, Y, W, b, S, given, result):
    """∂J/∂x = ∂y/∂x ∂J/∂y, and ẏ = ∂y/∂x ẋ."""
    for i in range(given.shape[0]):
        y, v, dx = Y[min(i, Y.shape[0] - 1)], given[i], result[i]
        along = sum_of_products(y, v)
        for j in range(v.shape[0]):
            dx[j] = y[j] * (v[j] - along)


KINDS = {
    NORMALIZE: {FORWARD: normalize, BACK: normalize_back, ALONG: normalize_along, GAINS: gradient_of_gains},
    SOFTMAX_OF_ROWS: {FORWARD: softmax_forward, BACK: softmax_back, ALONG: softmax_back},
}
for _kind, _parts in KINDS.items():
    for _part, _function in _parts.items():
        WHOLE_ROWS.add(PARTS * _kind + _part, _function.kernel)


def ask_for_whole_rows(layers: Array, dtype: Any) -> None:
    """Let what a table of layers needs be compiled (see `Table.ask`)."""
    for kind in set(layers[:, KIND].tolist()) - {DENSE}:
        for part in KINDS[kind]:
            WHOLE_ROWS.ask(PARTS * kind + part, dtype)
