"""A network as users' compiled code holds it, and its outputs from there (see ``exported``).

Everything comes as addresses and lengths, so that a call passes a few integers and counts no references. Samples may be
float32 or float64 and of any layout: unless they are just as the first layer takes them they are copied to `scratch`,
and standardised on the way.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types
from numba.core import cgutils

from nbfc._arrays import Array, aligned_copy
from nbfc.kernels._jit import REALS, inlined, kernel
from nbfc.kernels.exported import INPUTS_FAULT, POLICY_FAULT, RESULT_FAULT, SCRATCH_FAULT, exported
from nbfc.kernels.layers import COLUMNS, N_IN, N_OUT, number_of_parameters
from nbfc.kernels.memory import matrix_of, quotient, read, rounded, size_of, vector_of, write
from nbfc.kernels.prediction import predict_row, predict_share, size_of_buffer
from nbfc.kernels.vectors import INT
from nbfc.kernels.workspace import ROWS


class Policy(NamedTuple):
    """A network that compiled code can call: see ``nbfc.MLP.freeze``.

    Attributes
    ----------
    layers : int64 (L, 6)
        What each layer is: see ``nbfc.kernels.layers``.
    parameters : (P,), float32 or float64
        Every weight and bias. To call the network with others, make a policy of the same `layers` with them.
    mean, deviation : float64 (n_in,) or (0,)
        What is subtracted from the inputs, and what these are then divided by. Empty where they are taken as they are.
    """

    layers: Array
    parameters: Array
    mean: Array
    deviation: Array

    def __reduce__(self) -> Any:
        """Copy and unpickle to memory as `policy_of` makes it."""
        return policy_of, tuple(self)


def policy_of(layers: Array, parameters: Array, mean: Array | None, deviation: Array | None) -> Policy:
    """Return a policy with copies of a network's arrays; the parameters start at a cache line, which is faster."""
    scaling = [np.zeros(0) if array is None else array.copy() for array in (mean, deviation)]
    return Policy(layers.copy(), aligned_copy(parameters), *scaling)


class Network(NamedTuple):
    """A policy's arrays: addresses, and the numbers of layers, of parameters, and of inputs if standardised or 0."""

    layers: int
    depth: int
    parameters: int
    size: int
    mean: int
    deviation: int
    standardised: int


class Samples(NamedTuple):
    """Rows of float32 or float64 (`double`), which lie `row` bytes apart, and their entries `column` bytes."""

    address: int
    rows: int
    columns: int
    row: int
    column: int
    double: int


class Block(NamedTuple):
    """A contiguous matrix of the network's dtype."""

    address: int
    rows: int
    columns: int


NETWORK, SAMPLES, BLOCK = (typeof(kind(*[0] * len(kind._fields))) for kind in (Network, Samples, Block))

FLOAT32, INT64 = np.float32(0), np.int64(0)

# ---- kernels --------------------------------------------------------------------------------------------------------


@exported
@kernel(once=lambda real: (NETWORK, SAMPLES, BLOCK, BLOCK, real))
def predict(net, x, y, scratch, number):
    """Y (N, n_out) = the network's outputs for x (N, n_in), by as many rows at a time as `scratch` is enough for."""
    if not fits(net):
        return -POLICY_FAULT
    layers = table_of(net)
    n_in, n_out = layers[0, N_IN], layers[-1, N_OUT]
    if x.columns != n_in:
        return -INPUTS_FAULT
    if not is_like(y, x.rows, n_out):
        return -RESULT_FAULT
    size, most = size_of(number), max(1, min(ROWS, x.rows))
    while size_of_scratch(layers, most) > scratch.columns:
        most //= 2
        if most == 0:
            return -SCRATCH_FAULT
    buffers = 2 * size_of_buffer(layers, most)
    for r in range(0, x.rows, most):
        rows = min(most, x.rows - r)
        source, target = x.address + r * x.row, y.address + r * n_out * size
        plain = net.standardised == 0 and is_plain(x, size)
        if not plain or overlap(source, rows * n_in * size, target, rows * n_out * size):
            source = scratch.address + buffers * size
            copy_samples(net, x, r, rows, source, net.standardised > 0, number)
        if rows == 1:
            predict_row(layers, net.parameters, source, scratch.address, buffers // 2, target, number)
        else:
            X, Y = matrix_of(source, rows, n_in, number), matrix_of(target, rows, n_out, number)
            work = matrix_of(scratch.address, 1, buffers, number)
            predict_share(X, layers, parameters_of(net, number), work, Y, -1, 0, 1)
    return 0


@exported
@kernel(once=lambda real: (NETWORK, types.intp, real))
def scratch_size(net, rows, number):
    """Return how many entries `scratch` has for so many rows."""
    return size_of_scratch(table_of(net), max(1, min(ROWS, rows))) if fits(net) else -POLICY_FAULT


@kernel
def size_of_scratch(layers, rows):
    """Return how many entries predictions of so many rows take: two buffers, and a copy of the rows."""
    return 2 * size_of_buffer(layers, rows) + rows * layers[0, N_IN]


@kernel
def fits(net):
    """Return whether a policy's arrays have the lengths that its layers say."""
    if net.depth < 1:
        return False
    layers = table_of(net)
    right = net.standardised == 0 or net.standardised == layers[0, N_IN]
    return right and net.size == number_of_parameters(layers)


@kernel
def is_like(matrix, rows, columns):
    """Return whether samples or a block have that shape."""
    return matrix.rows == rows and matrix.columns == columns


@kernel
def is_plain(x, size):
    """Return whether rows are of the network's dtype and contiguous."""
    return x.column == size and (x.rows == 1 or x.row == x.columns * size) and x.double == size // 8


@kernel
def overlap(first, bytes_of_first, second, bytes_of_second):
    """Return whether two pieces of memory share any."""
    return first < second + bytes_of_second and second < first + bytes_of_first


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


# ---- users' arrays, in their compiled code --------------------------------------------------------------------------


def write_network(context, builder, kind, policy):
    """Write what makes a `Network` of a policy's value."""
    arrays = [
        context.make_array(part)(context, builder, builder.extract_value(policy, index))
        for index, part in enumerate(kind.types)
    ]
    layers, parameters, mean, deviation = (builder.ptrtoint(array.data, INT) for array in arrays)
    depth, size, means, deviations = (cgutils.unpack_tuple(builder, array.shape)[0] for array in arrays)
    same = builder.icmp_signed("==", means, deviations)
    standardised = builder.select(same, means, INT(-1))
    return context.make_tuple(builder, NETWORK, [layers, depth, parameters, size, mean, deviation, standardised])


def write_samples(context, builder, kind, array):
    """Write what makes `Samples` of a vector or a matrix of floats, of any layout, or of None."""
    if kind == types.none:
        return context.make_tuple(builder, SAMPLES, [INT(0)] * 6)
    array = context.make_array(kind)(context, builder, array)
    shape, strides = cgutils.unpack_tuple(builder, array.shape), cgutils.unpack_tuple(builder, array.strides)
    if kind.ndim == 1:
        shape, strides = [INT(1), *shape], [INT(0), *strides]
    double = INT(int(kind.dtype == types.float64))
    return context.make_tuple(builder, SAMPLES, [builder.ptrtoint(array.data, INT), *shape, *strides, double])


def write_block(context, builder, kind, array):
    """Write what makes a `Block` of a contiguous vector or matrix, or of None."""
    if kind == types.none:
        return context.make_tuple(builder, BLOCK, [INT(0)] * 3)
    array = context.make_array(kind)(context, builder, array)
    shape = cgutils.unpack_tuple(builder, array.shape)
    return context.make_tuple(builder, BLOCK, [builder.ptrtoint(array.data, INT), *[INT(1)] * (kind.ndim == 1), *shape])


def write_place(context, builder, kind, pointer):
    """Write the address of a number on the stack."""
    return builder.ptrtoint(pointer, INT)


def write_integer(context, builder, kind, value):
    """Write an integer."""
    return context.cast(builder, value, kind, types.intp)


def write_targets(context, builder, kind, value):
    """Write what makes `Samples` of targets: of floats; labels leave them empty."""
    if isinstance(kind, types.Array):
        return write_samples(context, builder, kind if kind.dtype in REALS else types.none, value)
    if isinstance(kind, types.Integer):
        return write_samples(context, builder, types.none, None)
    address, double = _on_stack(builder, value), INT(int(kind == types.float64))
    return context.make_tuple(builder, SAMPLES, [address, INT(1), INT(1), INT(0), INT(0), double])


def write_labels(context, builder, kind, value):
    """Write what makes a `Block` of targets: of labels; floats leave it empty."""
    if isinstance(kind, types.Array):
        return write_block(context, builder, types.none if kind.dtype in REALS else kind, value)
    if isinstance(kind, types.Float):
        return write_block(context, builder, types.none, None)
    return context.make_tuple(
        builder, BLOCK, [_on_stack(builder, write_integer(context, builder, kind, value)), INT(1), INT(1)]
    )


def _on_stack(builder, value):
    """Write a number to memory; return its address."""
    return builder.ptrtoint(cgutils.alloca_once_value(builder, value), INT)
