"""A network as users' compiled code holds it, and its outputs from there (see ``exported``).

Samples may be float32 or float64 and of any layout: unless they are just as the first layer takes them they are copied
to `scratch`, and standardised on the way.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from nbfc._arrays import Array, aligned_copy
from nbfc.kernels._addresses import JOBS
from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.exported import NO_ROWS, POLICY_FAULT, SCRATCH_SIZE, X_COLUMNS, Y_PLACE, Y_SHAPE, exported
from nbfc.kernels.further_activations import ask_for_activations, code_of, own_of
from nbfc.kernels.layers import ACTIVATION, COLUMNS, N_IN, N_OUT, OUTPUTS_AT, SIZE, WEIGHTS_AT
from nbfc.kernels.memory import matrix_of, quotient, read, rounded, size_of, vector_of, write
from nbfc.kernels.passed import BLOCK, NETWORK, SAMPLES
from nbfc.kernels.prediction import predict_row, predict_share, size_of_buffer
from nbfc.kernels.whole_rows import ask_for_whole_rows
from nbfc.kernels.workspace import ROWS


class Policy(NamedTuple):
    """A network that compiled code can call: see ``nbfc.MLP.freeze``.

    Attributes
    ----------
    layers : int64 (L, 12), read-only
        What each layer is: see ``nbfc.kernels.layers``, where normalisation and softmax are layers of their own. The
        network has layers[0, 0] inputs and layers[-1, 1] outputs. Kernels trust it, so a writable one is not taken.
    parameters : (P,), float32 or float64
        Every weight and bias, gain and shift. To call the network with others, of the same dtype, make a policy of the
        same `layers` with them.
    mean, deviation : float64 (n_in,) or (0,)
        What is subtracted from the inputs, and what these are then divided by. Empty where they are taken as they are.
    """

    layers: Array
    parameters: Array
    mean: Array
    deviation: Array

    def __reduce__(self) -> Any:
        """Copy and unpickle to memory as `policy_of` makes it."""
        return policy_of, (*self, own_of(self.layers))


def policy_of(
    layers: Array, parameters: Array, mean: Array | None, deviation: Array | None, own: dict[int, Any] | None = None
) -> Policy:
    """Return a policy with copies of a network's arrays; the parameters start at a cache line, which is faster.

    `own` are users' activations, by the codes that they had in the process which pickled them.
    """
    scaling = [np.zeros(0) if array is None else array.copy() for array in (mean, deviation)]
    given, layers = layers, layers.copy()
    for code, function in (own or {}).items():
        layers[given[:, ACTIVATION] == code, ACTIVATION] = code_of(function)
    ask_for_activations(layers, parameters.dtype)
    ask_for_whole_rows(layers, parameters.dtype)
    JOBS.finish()
    layers.flags.writeable = False
    return Policy(layers, aligned_copy(parameters), *scaling)


FLOAT32, INT64 = np.float32(0), np.int64(0)

# ---- kernels --------------------------------------------------------------------------------------------------------


@exported
@kernel(once=lambda real: types.intp(NETWORK, SAMPLES, BLOCK, BLOCK, real))
def predict(net, x, y, scratch, number):
    """Y (N, n_out) = the network's outputs for x (N, n_in), by as many rows at a time as `scratch` is enough for."""
    if not fits(net):
        return -POLICY_FAULT
    layers, size = table_of(net), size_of(number)
    n_in, n_out = layers[0, N_IN], layers[-1, N_OUT]
    if x.columns != n_in:
        return -X_COLUMNS
    if not is_like(y, x.rows, n_out):
        return -Y_SHAPE
    plain = net.standardised == 0 and is_plain(x, size)
    if x.rows == 1:  # apart, as the blocks' loop takes a fifth of a small prediction's time
        buffers = 2 * size_of_buffer(layers, 1)
        if buffers + n_in > scratch.columns:
            return -SCRATCH_SIZE
        source = source_of(net, x, 0, 1, plain, y.address, scratch.address + buffers * size, number)
        predict_row(layers, net.parameters, source, scratch.address, buffers // 2, y.address, number)
        return 0
    if x.rows > 0 and not may_be(x, y, size):
        return -Y_PLACE
    most = max(1, min(ROWS, x.rows))
    while size_of_scratch(layers, most) > scratch.columns:
        most //= 2
        if most == 0:
            return -SCRATCH_SIZE
    buffers = 2 * size_of_buffer(layers, most)
    for r in range(0, x.rows, most):
        rows, target = min(most, x.rows - r), y.address + r * n_out * size
        source = source_of(net, x, r, rows, plain, target, scratch.address + buffers * size, number)
        X, Y = matrix_of(source, rows, n_in, number), matrix_of(target, rows, n_out, number)
        work = matrix_of(scratch.address, 1, buffers, number)
        predict_share(X, layers, parameters_of(net, number), work, Y, 0, 1)
    return 0


@kernel
def source_of(net, x, r, rows, plain, target, place, number):
    """Return where rows from r on lie: if `plain` where they came, or else at `place`, as the first layer takes them.

    They are also copied to there where outputs, at `target`, take their place.
    """
    size = size_of(number)
    source, stop = x.address + r * x.row, target + rows * table_of(net)[-1, N_OUT] * size
    if plain and not overlap(source, source + rows * x.columns * size, target, stop):
        return source
    copy_samples(net, x, r, rows, place, net.standardised > 0, number)
    return place


@exported
@kernel(once=lambda real: types.intp(NETWORK, types.intp, real))
def scratch_size(net, rows, number):
    """Return how many entries `scratch` has for so many rows."""
    if rows < 1:
        return -NO_ROWS
    return size_of_scratch(table_of(net), min(ROWS, rows)) if fits(net) else -POLICY_FAULT


@exported
@kernel(once=lambda real: types.intp(NETWORK, SAMPLES, real))
def scratch_for(net, x, number):
    """Return how many entries `scratch` has for samples x, which are looked at."""
    fault = fault_of(net, x)
    return size_of_scratch(table_of(net), max(1, min(ROWS, x.rows))) if fault == 0 else -fault


@kernel
def size_of_scratch(layers, rows):
    """Return how many entries predictions of so many rows take: two buffers, and a copy of the rows."""
    return 2 * size_of_buffer(layers, rows) + rows * layers[0, N_IN]


@kernel
def fault_of(net, x):
    """Return what is wrong with a policy, or with samples for it, or 0."""
    if not fits(net):
        return POLICY_FAULT
    return 0 if x.columns == table_of(net)[0, N_IN] else X_COLUMNS


@kernel
def fits(net):
    """Return whether a policy's other arrays have the lengths that its layers, or the first of them, say."""
    if net.depth < 1 or net.columns != COLUMNS:
        return False
    layers = table_of(net)
    from_the_first = layers[0, WEIGHTS_AT] == 0 and layers[0, OUTPUTS_AT] == 0
    scaled = net.standardised == 0 or net.standardised == layers[0, N_IN]
    return from_the_first and scaled and net.size == layers[-1, SIZE]


@kernel
def is_like(matrix, rows, columns):
    """Return whether samples or a block have that shape."""
    return matrix.rows == rows and matrix.columns == columns


@kernel
def is_plain(x, size):
    """Return whether rows are of the network's dtype and contiguous."""
    return x.column == size and (x.rows == 1 or x.row == x.columns * size) and x.double == size // 8


@kernel
def span(x):
    """Return the addresses between which samples lie."""
    along, down, size = x.row * (x.rows - 1), x.column * (x.columns - 1), 8 if x.double else 4
    return x.address + min(0, along) + min(0, down), x.address + max(0, along) + max(0, down) + size


@kernel
def may_be(x, y, size):
    """Return whether the outputs of several rows of x may be written to y.

    They may take the place of rows that lie just so: each block of them is read first, and the next one lies behind it.
    """
    start, stop = span(x)
    in_place = x.address == y.address and is_plain(x, size) and y.columns <= x.columns
    return in_place or not overlap(start, stop, y.address, y.address + y.rows * y.columns * size)


@kernel
def overlap(start, stop, other_start, other_stop):
    """Return whether two pieces of memory share any."""
    return start < other_stop and other_start < stop


@kernel
def copy_samples(net, x, r, rows, target, standardising, number):
    """Copy `rows` rows, from r on, to an address, and standardise them if so said, as ``MLP._inputs`` does."""
    size = size_of(number)
    for i in range(rows):
        for k in range(x.columns):
            value = sample_at(x, r + i, k)
            if standardising:
                value = quotient(value - read(net.mean + 8 * k, 1.0), read(net.deviation + 8 * k, 1.0))
            write(target + (i * x.columns + k) * size, rounded(value, number))


@kernel
def sample_at(x, i, k):
    """Return entry k of row i, in float64."""
    place = x.address + i * x.row + k * x.column
    return read(place, 1.0) if x.double else float(read(place, FLOAT32))


@inlined
def table_of(net):
    """Return the layer table."""
    return matrix_of(net.layers, net.depth, COLUMNS, INT64)


@inlined
def parameters_of(net, number):
    """Return the flat vector."""
    return vector_of(net.parameters, net.size, number)
