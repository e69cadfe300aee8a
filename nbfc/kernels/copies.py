"""Copies of parts of a matrix, laid out for the register tile (see ``tile``): panels of B and blocks of A."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbfc.kernels._jit import kernel
from nbfc.kernels.memory import lanes, prefetch, size_of, vectors_of
from nbfc.kernels.tile import MATRIX, Matrix, part_of
from nbfc.kernels.vectors import INT, LINE, MOST_VECTORS, Vectors

# Terms of a sum that copies are made for at a time: a panel of B is then 96 KiB with the widest registers, and stays
# in a second-level cache beside A and C.
DEPTH = 512
# Columns of A may be memory pages apart: so many entries of one are read, and those so many columns ahead fetched.
TOGETHER, AHEAD = 64, 8


@kernel
def copy_panel(B, K, columns, panel, number):
    """Copy K rows of B to `panel`, each as whole vectors.

    B's columns or its rows are neighbours. More is written than that: up to a tile's width from the start of the last
    row on, or K rounded up to a multiple of lanes.
    """
    size, step = size_of(number), lanes(number)
    width = whole_vectors(columns, number)
    copy = Matrix(panel, width, 1)
    if B.column == 1:
        for k in range(K):
            copy_row(part_of(B, k, 0, size).address, part_of(copy, k, 0, size).address, columns, number)
    else:
        for j in range(0, columns, step):
            for k in range(0, K, step):
                source = Matrix(part_of(B, k, j, size).address, B.column, 1)
                copy_transposed(source, part_of(copy, k, j, size), columns - j, K - k, number)


@kernel
def refresh_panel(B, K, columns, panel, number):
    """Fill `panel` as `copy_panel` does, where B's columns are neighbours, but write only what is not there already.

    No more than the rows' whole vectors is read there, and written.
    """
    size, step, width = size_of(number), lanes(number), whole_vectors(columns, number)
    for k in range(K):
        source, target = B.address + k * B.row * size, panel + k * width * size
        for j in range(0, columns, step):
            refresh_vector(source + j * size, target + j * size, columns - j, number)


@kernel
def whole_vectors(count, number):
    """Return how many entries the vectors have that so many entries lie in."""
    return vectors_of(count, number) * lanes(number)


@kernel
def copy_columns(B, K, n, panel, pitch, number):
    """Copy n columns of B to `panel`, each as a row, `pitch` entries apart; return where they lie.

    B's columns are neighbours. Rows are written for as many columns as whole vectors have, each in whole vectors.
    """
    size, step, copy = size_of(number), lanes(number), Matrix(panel, pitch, 1)
    for k in range(0, K, step):
        for j in range(0, n, step):
            copy_transposed(part_of(B, k, j, size), part_of(copy, j, k, size), K - k, n - j, number)
    return Matrix(panel, 1, pitch)


@kernel
def copy_block(A, M, K, copy, number):
    """Copy M rows and K columns of A to `copy`, and return where they lie.

    Where A's rows are neighbours, whole groups of them are written, column by column: a column of a group is a line of
    the cache. Where its columns are, up to a tile's width is written beyond the last row. Either way the next group is
    K lines further.
    """
    size, step = size_of(number), MOST_VECTORS * lanes(number)
    group = LINE // size
    if A.row == 1:
        for first in range(0, M, TOGETHER):
            for k in range(K):
                for i in range(first, min(M, first + TOGETHER), group):
                    prefetch(A.address + (i + (k + AHEAD) * A.column) * size, 0)
                    copy_column(A.address + (i + k * A.column) * size, copy + (i * K + k * group) * size, M - i, number)
        return Matrix(copy, 1, group)
    for i in range(M):
        for k in range(0, K, step):
            copy_row(A.address + (i * A.row + k) * size, copy + (i * K + k) * size, min(step, K - k), number)
    return Matrix(copy, K, 1)


def make_copy(vectors):
    """Return what copies neighbouring entries in compiled code: so many vectors, with zeros for what is not there.

    `vectors` tells their number for the CPU's `Vectors`. All are written: some CPUs take long to store under a mask.
    """

    @intrinsic
    def copy(typingctx, source, target, count, number):
        def codegen(context, builder, signature, args):
            vector = Vectors(context, builder, args[-1].type)

            def body(masks):
                for v, mask in enumerate(masks):
                    vector.store(vector.load(args[0], v, mask), args[1], v)

            vector.with_masks(args[2], vectors(vector), body, only_last=False)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp, number), codegen

    return copy


copy_row = make_copy(lambda vector: MOST_VECTORS)  # as many as a tile has columns
copy_column = make_copy(lambda vector: LINE // vector.size // vector.lanes)  # a line of the cache


@intrinsic
def refresh_vector(typingctx, source, target, count, number):
    """Copy as many neighbouring entries as a vector has, or fewer and zeros, but write nothing if they are there."""

    def codegen(context, builder, signature, args):
        source, target, count, _ = args
        vector = Vectors(context, builder, args[-1].type)

        def body(masks):
            value = vector.load(source, 0, masks[0])
            with builder.if_then(vector.differ(value, vector.load(target))):
                vector.store(value, target)

        vector.with_masks(count, 1, body, only_last=False)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, number), codegen


@intrinsic
def copy_transposed(typingctx, source, target, rows, columns, number):
    """Copy up to lanes × lanes entries, transposed; rows and columns say how many there are, if fewer.

    Both matrices' columns are neighbours. Of the target all lanes × lanes entries are written.
    """

    def codegen(context, builder, signature, args):
        source, target, rows, columns, _ = args
        field, vector = builder.extract_value, Vectors(context, builder, args[-1].type)
        lanes = range(vector.lanes)
        columns = builder.select(builder.icmp_signed("<", columns, INT(len(lanes))), columns, INT(len(lanes)))
        source_row, target_row = vector.bytes(field(source, 1)), vector.bytes(field(target, 1))
        addresses = [field(source, 0)]
        for r in lanes[1:]:
            there = builder.icmp_signed("<", INT(r), rows)
            addresses.append(builder.add(addresses[-1], builder.select(there, source_row, INT(0))))

        def body(masks):
            loaded = [vector.load(address, 0, masks[0]) for address in addresses]
            for k, value in enumerate(_transpose(builder, loaded)):
                vector.store(value, builder.add(field(target, 0), builder.mul(target_row, INT(k))))

        vector.with_masks(columns, 1, body, only_last=False)
        return context.get_dummy_value()

    return types.void(MATRIX, MATRIX, types.intp, types.intp, number), codegen


def _transpose(builder, rows):
    """Return the columns of a square of vectors, by exchanging halves, then quarters of the halves, and so on."""
    count = len(rows)
    lanes = range(count)
    distance = count // 2
    while distance:
        here = [lane if not lane & distance else count + lane - distance for lane in lanes]
        there = [lane + distance if not lane & distance else count + lane for lane in lanes]
        rows = list(rows)
        for i in lanes:
            if not i & distance:
                pair = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = (
                    builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(ir.IntType(32), count), places))
                    for places in (here, there)
                )
        distance //= 2
    return rows
