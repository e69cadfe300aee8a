"""How users' compiled code passes arrays to kernels (see ``exported``).

Everything goes as addresses and lengths, so that a call passes a few integers and counts no references.
"""

from typing import NamedTuple

from numba import typeof, types
from numba.core import cgutils

from nbfc.kernels._addresses import REALS
from nbfc.kernels.vectors import INT


class Network(NamedTuple):
    """A policy's arrays: addresses and lengths; `standardised` is that of mean and deviation, −1 if they differ."""

    layers: int
    depth: int
    columns: int
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


def write_network(context, builder, kind, policy):
    """Write what makes a `Network` of a policy's value."""
    arrays = [
        context.make_array(part)(context, builder, builder.extract_value(policy, index))
        for index, part in enumerate(kind.types)
    ]
    layers, parameters, mean, deviation = (builder.ptrtoint(array.data, INT) for array in arrays)
    (depth, columns), (size,), (means,), (deviations,) = (
        cgutils.unpack_tuple(builder, array.shape) for array in arrays
    )
    standardised = builder.select(builder.icmp_signed("==", means, deviations), means, INT(-1))
    values = [layers, depth, columns, parameters, size, mean, deviation, standardised]
    return context.make_tuple(builder, NETWORK, values)


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


def write_column(context, builder, kind, array):
    """Write what makes `Samples` of a vector that has a number for each sample; labels leave them empty."""
    samples = write_targets(context, builder, kind, array)
    address, one, length, _, stride, double = cgutils.unpack_tuple(builder, samples)
    return context.make_tuple(builder, SAMPLES, [address, length, one, stride, stride, double])


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
