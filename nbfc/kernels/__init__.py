"""The four equations of a fully connected layer and its backpropagation, as functions on NumPy arrays.

They follow one page of lecture notes, "NN BP". N samples, m inputs, n outputs::

    notes   code  shape  meaning
    X, x    X     N × m  inputs, one sample a row
    Y, y    Y     N × n  outputs of the layer
    W, w_i  W     m × n  weights, one column per output (PyTorch stores the transpose)
    B, b_i  b     n      bias, broadcast to N × n
    ∂J/∂Y   dY    N × n  row i is ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, the gradient of sample i's own loss: no 1/N in it
    ∂J/∂B   db    n      a mean over samples
    ∂J/∂W   dW    m × n  a mean over samples
    ∂J/∂X   dX    N × m  row i is ∂J⁽ⁱ⁾/∂x⁽ⁱ⁾: no 1/N

    forward          y_i = Σ_j w_ij x_j + b_i, then relu
    bias_gradient    ①  ∂J/∂B = Σ_i (1/N) (∂J/∂y⁽ⁱ⁾)ᵀ
    weight_gradient  ②  ∂J/∂W = (1/N) Σ_N (R^{N×n×1} × R^{N×1×m})ᵀ
    input_gradient   ③  ∂J/∂x = w × ∂J/∂y, for every sample

These functions check their arguments, allocate the result and call the compiled kernels of ``nbfc.kernels.dense``.
They compute in float32 if all floating-point arguments fit in it, and in float64 otherwise. Arrays of any layout, byte
order, integer or float type are taken; NaN and infinity pass through, as in NumPy.
"""

from __future__ import annotations

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import choice
from nbfc.kernels import dense
from nbfc.kernels._threads import launch, work_of_product
from nbfc.kernels.elementwise import ACTIVATIONS, VALUES

__all__ = ["bias_gradient", "forward", "input_gradient", "weight_gradient"]


def forward(X: Array, W: Array, b: Array, activation: str = "identity", out: Array | None = None) -> Array:
    """Return Y = activation(X W + b), the layer's outputs: y_i = Σ_j w_ij x_j + b_i in the notes.

    Parameters
    ----------
    X : (N, m)
        Inputs, one sample a row.
    W : (m, n)
        Weights, one column per output.
    b : (n,)
        Bias.
    activation : {"identity", "relu", "tanh", "sigmoid"}
        Applied to each output; the notes' layer has "relu".
    out : (N, n), optional
        Where to write the result: a writable C-contiguous array of the result's dtype.

    Returns
    -------
    (N, n), float32 or float64
        `out` where it was given.

    Raises
    ------
    ValueError
        If the shapes do not fit together, W has no rows or no columns, the activation is unknown, or `out` does not
        fit or shares memory with an input.
    TypeError
        If an array does not hold real numbers.
    """
    code = choice("activation", activation, ACTIVATIONS)
    X, W, b = _arrays.alike("X W b", X, W, b)
    m, n = _sizes_of_weights(W)
    if X.shape[1:] != (m,):
        _arrays.check_shape("X", X, ("N", m), f"W takes {m} inputs")
    if b.shape != (n,):
        _arrays.check_shape("b", b, (n,), f"W gives {n} outputs")
    N = X.shape[0]
    Y = _arrays.output(out, (N, n), X.dtype, "X W b", X, W, b)
    VALUES.ask(code, X.dtype)
    launch(dense.forward, work_of_product(N, m, n), X, W, b, code, Y)
    return Y


def bias_gradient(dY: Array, out: Array | None = None) -> Array:
    """Return db, equation ① of the notes: ∂J/∂B = Σ_i (1/N) (∂J/∂y⁽ⁱ⁾)ᵀ, the mean of dY over samples.

    Parameters
    ----------
    dY : (N, n)
        Row i is the gradient of sample i's own loss by its outputs, without 1/N; N ≥ 1.
    out : (n,), optional
        Where to write the result: a writable C-contiguous array of the result's dtype.

    Returns
    -------
    (n,), float32 or float64
        `out` where it was given.

    Raises
    ------
    ValueError
        If dY is not a matrix with at least one row, or `out` does not fit or shares memory with it.
    TypeError
        If dY does not hold real numbers.
    """
    (dY,) = _arrays.alike("dY", dY)
    N, n = _sizes_of_batch(dY)
    db = _arrays.output(out, (n,), dY.dtype, "dY", dY)
    launch(dense.bias_gradient, work_of_product(N, 1, n), dY, db)
    return db


def weight_gradient(X: Array, dY: Array, out: Array | None = None) -> Array:
    """Return dW, equation ② of the notes: ∂J/∂W = (1/N) Σ_N x⁽ⁱ⁾ ⊗ ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾, a mean of outer products.

    The N × m × n array of the notes is never stored.

    Parameters
    ----------
    X : (N, m)
        The layer's inputs, one sample a row; N ≥ 1.
    dY : (N, n)
        Row i is the gradient of sample i's own loss by its outputs, without 1/N.
    out : (m, n), optional
        Where to write the result: a writable C-contiguous array of the result's dtype.

    Returns
    -------
    (m, n), float32 or float64
        `out` where it was given.

    Raises
    ------
    ValueError
        If X and dY are not matrices with the same number of rows, at least one, or `out` does not fit or shares
        memory with them.
    TypeError
        If an array does not hold real numbers.
    """
    X, dY = _arrays.alike("X dY", X, dY)
    N, n = _sizes_of_batch(dY)
    if X.ndim != 2 or X.shape[0] != N:
        _arrays.check_shape("X", X, (N, "m"), f"dY has {N} rows, one for each sample")
    m = X.shape[1]
    dW = _arrays.output(out, (m, n), X.dtype, "X dY", X, dY)
    launch(dense.weight_gradient, work_of_product(N, m, n), X, dY, dW)
    return dW


def input_gradient(dY: Array, W: Array, out: Array | None = None) -> Array:
    """Return dX, equation ③ of the notes: ∂J/∂x = w × ∂J/∂y for every sample, row by row W · ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾.

    Parameters
    ----------
    dY : (N, n)
        Row i is the gradient of sample i's own loss by its outputs, without 1/N.
    W : (m, n)
        Weights, one column per output.
    out : (N, m), optional
        Where to write the result: a writable C-contiguous array of the result's dtype.

    Returns
    -------
    (N, m), float32 or float64
        `out` where it was given.

    Raises
    ------
    ValueError
        If the shapes do not fit together, W has no rows or no columns, or `out` does not fit or shares memory with
        an input.
    TypeError
        If an array does not hold real numbers.
    """
    dY, W = _arrays.alike("dY W", dY, W)
    m, n = _sizes_of_weights(W)
    if dY.shape[1:] != (n,):
        _arrays.check_shape("dY", dY, ("N", n), f"W gives {n} outputs")
    N = dY.shape[0]
    dX = _arrays.output(out, (N, m), dY.dtype, "dY W", dY, W)
    launch(dense.input_gradient, work_of_product(N, m, n), dY, W, dX)
    return dX


def _sizes_of_weights(W: Array) -> tuple[int, int]:
    if W.ndim != 2:
        _arrays.check_shape("W", W, ("m", "n"), "it has a row per input and a column per output")
    if W.size == 0:
        raise ValueError(f"W has shape {W.shape}: expected at least one input and one output.")
    return W.shape


def _sizes_of_batch(dY: Array) -> tuple[int, int]:
    if dY.ndim != 2:
        _arrays.check_shape("dY", dY, ("N", "n"), "it has a row per sample and a column per output")
    if dY.size == 0:
        raise ValueError(f"dY has shape {dY.shape}: expected at least one sample and one output, as the mean needs.")
    return dY.shape
