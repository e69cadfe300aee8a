"""Memory by address, for compiled code: signed 64-bit integers, so that a block is a few numbers wherever it lies."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbfc.kernels._jit import kernel
from nbfc.kernels.vectors import INT, target, write_prefetch


@intrinsic
def address_of(typingctx, array):
    """Return the address of an array's first entry, as a signed integer: sums of both kinds would be floats."""

    def codegen(context, builder, signature, args):
        source = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(source.data, INT)

    return types.int64(array), codegen


@intrinsic
def matrix_at(typingctx, array, start, rows, columns):
    """Return entries of a contiguous array, from the `start`-th on, as an array (rows, columns), without any check.

    It takes a tenth of the instructions of a slice and a reshape, in compiling as in running.
    """
    kind = types.Array(array.dtype, 2, "C")

    def codegen(context, builder, signature, args):
        return _view(context, builder, signature.args[0], kind, args[0], args[1], args[2:])

    return kind(array, types.intp, types.intp, types.intp), codegen


@intrinsic
def vector_at(typingctx, array, start, length):
    """Return entries of a contiguous array, from the `start`-th on, as an array (length,), without any check."""
    kind = types.Array(array.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        return _view(context, builder, signature.args[0], kind, args[0], args[1], args[2:])

    return kind(array, types.intp, types.intp), codegen


@intrinsic
def flat(typingctx, array):
    """Return all entries of a contiguous array as an array (size,)."""
    kind = types.Array(array.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        source = context.make_array(signature.args[0])(context, builder, args[0])
        return _view(context, builder, signature.args[0], kind, args[0], INT(0), [source.nitems])

    return kind(array), codegen


def _view(context, builder, source_kind, kind, array, start, shape):
    assert source_kind.layout == "C"
    source = context.make_array(source_kind)(context, builder, array)
    return _array(context, builder, kind, builder.gep(source.data, [start]), shape)


def _pointer(context, builder, kind, address):
    return builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer())


def _array(context, builder, kind, data, shape):
    from numba.np.arrayobj import populate_array  # for compiling alone: a tenth of the time to import Numba

    view = context.make_array(kind)(context, builder)
    size = INT(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [builder.mul(length, size) for length in shape[1:]] + [size]
    populate_array(view, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
    return view._getvalue()


@intrinsic
def matrix_of(typingctx, address, rows, columns, number):
    """Return what lies at an address as a contiguous array (rows, columns) of number's type."""
    kind = types.Array(number, 2, "C")

    def codegen(context, builder, signature, args):
        return _array(context, builder, kind, _pointer(context, builder, kind, args[0]), args[1:3])

    return kind(types.intp, types.intp, types.intp, number), codegen


@intrinsic
def vector_of(typingctx, address, length, number):
    """Return what lies at an address as an array (length,) of number's type."""
    kind = types.Array(number, 1, "C")

    def codegen(context, builder, signature, args):
        return _array(context, builder, kind, _pointer(context, builder, kind, args[0]), args[1:2])

    return kind(types.intp, types.intp, number), codegen


@intrinsic
def lanes(typingctx, number):
    """Return how many entries of number's type a vector register holds."""

    def codegen(context, builder, signature, args):
        return INT(target(context).width // (signature.args[0].bitwidth // 8))

    return types.intp(number), codegen


@kernel
def vectors_of(count, number):
    """Return how many vector registers so many entries of number's type lie in."""
    return (count + lanes(number) - 1) // lanes(number)


@intrinsic
def size_of(typingctx, number):
    """Return the bytes of an entry of number's type."""

    def codegen(context, builder, signature, args):
        return INT(signature.args[0].bitwidth // 8)

    return types.intp(number), codegen


@intrinsic
def read(typingctx, address, number):
    """Return the number, of number's type, at an address."""

    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        return builder.load(pointer, align=signature.args[1].bitwidth // 8)

    return number(types.intp, number), codegen


@intrinsic
def write(typingctx, address, number):
    """Write a number to an address."""

    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        builder.store(args[1], pointer, align=signature.args[1].bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.intp, number), codegen


@intrinsic
def rounded(typingctx, value, number):
    """Return a float64 in number's type."""

    def codegen(context, builder, signature, args):
        return args[0] if signature.return_type == types.float64 else builder.fptrunc(args[0], args[1].type)

    return number(types.float64, number), codegen


@intrinsic
def quotient(typingctx, dividend, divisor):
    """Return dividend / divisor, float64, rounded once whatever the compiler may else do to a division."""

    def codegen(context, builder, signature, args):
        return builder.fdiv(*args)

    return types.float64(types.float64, types.float64), codegen


@intrinsic(prefer_literal=True)
def stack_bytes(typingctx, count):
    """Return the address of so many bytes, aligned to 64, that are the caller's until it returns; count is constant."""

    def codegen(context, builder, signature, args):
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(ir.IntType(8), count.literal_value))
            memory.align = 64
        return builder.ptrtoint(memory, INT)

    return types.intp(count), codegen


@intrinsic(prefer_literal=True)
def prefetch(typingctx, address, to_write):
    """Ask for the cache line at an address, so that it has come when it is read, or with 1 also written."""

    def codegen(context, builder, signature, args):
        write_prefetch(builder, args[0], signature.args[1].literal_value)
        return context.get_dummy_value()

    return types.void(types.intp, to_write), codegen
