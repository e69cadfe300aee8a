"""Matrix products of any size, cut into register tiles (see ``tile``).

The loops go over blocks of A's rows, over so many terms of the sums as are copied or read at a time, over panels of B,
and over the rows within (see ``blocks``). Whether a block and the panels are copied depends on how they lie in memory,
and on the CPU: where a vector is a line of the cache, little is. Copies are made on the stack: nothing is allocated.
One row, few rows, and few columns go other ways (see ``panel``, ``few``).
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.blocks import FEW_ROWS_OF_A, FEW_ROWS_OF_A_FOR_FAR, PANEL, multiply_block
from nbfc.kernels.copies import DEPTH, copy_block
from nbfc.kernels.few import multiply_by_few_columns, multiply_transpose_by_few_columns
from nbfc.kernels.memory import address_of, lanes, size_of, stack_bytes, vectors_of, write
from nbfc.kernels.panel import (
    FAR_B,
    FAR_ROWS,
    PAGE,
    comes_late,
    fits_wide,
    is_far,
    multiply_long_row,
    multiply_row,
    multiply_wide,
    vector_is_line,
)
from nbfc.kernels.tile import (
    ASK,
    BIAS,
    MASK,
    MATRIX,
    OLD,
    RELU,
    SCALE,
    STORE,
    ZERO,
    Ends,
    Matrix,
    ends_of_part,
    ends_of_terms,
    ends_type,
    many_registers,
    part_of,
)
from nbfc.kernels.vectors import INT, LINE, MOST_VECTORS, WIDEST

# Rows of A at a time: enough to make up for copying panels of B (64: 20% slower where layers are wide), and few enough
# that they stay in a second-level cache. Where panels are copied unless B is small, and more so where they are turned
# round, that takes so long that A may come from the next level instead. (1024 × 1024 by 1024: 0.94 of the time.)
ROWS_OF_BLOCK, ROWS_BY_COPIES, ROWS_BY_TURNED = 256, 512, 1024
SOME_ROWS = 16  # whole lines of a column
# A B is large that is far (see ``panel``), or that a second-level cache would not hold. Copies of it are made, ...
LARGE_B = 2**19  # bytes
# ... of a far one so many rows at a time are copied for few rows of A, and so many read where they lie for fewer yet.
DEPTH_FOR_FEW, SIDE_BY_SIDE = 64, 32
# Where a vector is a line (see ``blocks``), of a large B so many rows at a time are read where they lie instead.
LINES_SIDE_BY_SIDE = 384
# So many where A comes late (see ``panel``), since its columns, which are far apart, share few sets of a cache.
COLUMNS_SIDE_BY_SIDE = 128
# With few registers a tile needs a row of B so soon after the last one that a first-level cache should hold the panel.
LARGE_B_FOR_FEW, LONG_ENOUGH = 2**16, 128
# Copies are also made of columns of A that are so many bytes apart, if more than some vectors of B use them or they all
# fall on one set of a cache, and of rows that are `FAR_ROWS` apart, if many do. Where a vector is a line, no rows are
# copied, and columns only if many vectors use them and they lie on more pages than a CPU finds at once.
FAR_COLUMNS, SOME_VECTORS, MANY_VECTORS = 512, 3, 16
MOST_PAGES = 256
# With so few columns vectors run along k instead (see ``dot``), where the sums have terms for so many vectors; or, if A
# is a transpose, along its columns (see ``few``), where they have so many for each column. Where B is turned round for
# many rows, columns that nearly fill a vector take less time by tiles up to so many terms. (By 1000 × 48 of 6 to 8
# columns with AVX2, or in float64 with AVX-512, 1.2 to 1.5 times; one row, though, would wait for each addition.)
# One column, which leaves a vector nearly empty, takes less time this way from one vector of terms on. (By 2048 × 16
# half the time with AVX2.)
NARROW, VECTORS_TO_SUM, TERMS_TO_TURN, VECTORS_IF_FILLED = 8, 4, 4, 16

BLOCK = 2**18  # bytes of a copy of A: with a panel less than the smallest stack that systems give a thread, 512 KiB
BLOCK_WRITTEN = BLOCK + MOST_VECTORS * WIDEST
assert ROWS_OF_BLOCK % SOME_ROWS == 0  # whole lines
LONG_ROW = 2**10  # bytes: as much as the widest tile of one row


@intrinsic
def matrix(typingctx, array):
    """Return where the entries of a matrix lie, whatever its layout, as a `Matrix`."""

    def codegen(context, builder, signature, args):
        source = context.make_array(signature.args[0])(context, builder, args[0])
        size = INT(context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype)))
        row, column = (builder.sdiv(stride, size) for stride in cgutils.unpack_tuple(builder, source.strides))
        return context.make_tuple(builder, MATRIX, [builder.ptrtoint(source.data, INT), row, column])

    return MATRIX(array), codegen


@inlined
def multiply_bias(A, B, bias, relu, Y):
    """Y ← A B + bias in every row, or max(A B + bias, 0) with `relu`."""
    multiply(A, B, Y, False, Ends(BIAS, address_of(bias), RELU if relu else STORE, 0, Y.dtype.type(1)))


@inlined
def multiply_scale(A, B, scale, few, Y):
    """Y ← scale · A B."""
    multiply(A, B, Y, few, Ends(ZERO, 0, SCALE, 0, scale))


@inlined
def multiply_scale_and_ask(A, B, scale, shift, Y):
    """`multiply_scale`, and ask for what lies so many bytes after Y and is to be written next; 0 is for nothing."""
    # Where columns are few, they may be made turned round, or by other tiles (see `multiply_at`), which know no ASK.
    start = ASK if shift != 0 and Y.shape[1] > NARROW else ZERO
    multiply(A, B, Y, False, Ends(start, 0, SCALE, address_of(Y) + shift, scale))


@kernel
def mean_of_rows(B, j0, j1, y):
    """y ← 1/N Σ_i B[i, j0:j1], for B (N, n): the product with a row of ones, of which one is in memory.

    Short rows are first added so many at a time as make a long one: else each sum would wait for its last addition.
    """
    number = y.dtype.type(1)
    size, one, sums = size_of(number), stack_bytes(8), stack_bytes(LONG_ROW)
    write(one, number)
    N, n = B.shape
    ones, first, mean = Matrix(one, 0, 0), address_of(B), Matrix(address_of(y), 0, 1)
    store, scale = Ends(ZERO, 0, STORE, 0, number), Ends(ZERO, 0, SCALE, 0, y.dtype.type(1 / N))
    together = min(N, LONG_ROW // (n * size))
    if together < 2:
        multiply_row(ones, Matrix(first + j0 * size, n, 1), mean, j1 - j0, N, scale)
        return
    rest = N % together
    multiply_row(ones, Matrix(first, together * n, 1), Matrix(sums, 0, 1), together * n, N // together, store)
    multiply_row(ones, Matrix(sums + j0 * size, n, 1), mean, j1 - j0, together, store if rest > 0 else scale)
    if rest > 0:
        last = Matrix(first + ((N - rest) * n + j0) * size, n, 1)
        multiply_row(ones, last, mean, j1 - j0, rest, Ends(OLD, 0, SCALE, 0, scale.scale))


@inlined
def multiply_mask(A, B, positive, few, Y):
    """Y ← A B, and 0 where the entry of `positive`, an array like Y, is not above 0."""
    multiply(A, B, Y, few, Ends(ZERO, 0, MASK, address_of(positive), Y.dtype.type(1)))


@inlined
def multiply(A, B, Y, few, ends):
    """Y ← finish(s + A B) for A (M, K), B (K, n) and Y (M, n), with s and finish as ``tile`` has them.

    A's and B's rows or columns are contiguous, and Y's rows are. Y is overwritten. The order of a sum depends on K,
    n and on whether A or B is a transpose, so that a part of Y's rows has the bits it would have in the whole; also on
    `few` (rows: all that there are), with which a transposed B is read as it lies.
    """
    multiply_at(matrix(A), matrix(B), matrix(Y), A.shape[0], Y.shape[1], A.shape[1], few, ends)


@kernel(once=lambda real: (MATRIX, MATRIX, MATRIX, types.intp, types.intp, types.intp, types.boolean, ends_type(real)))
def multiply_at(A, B, Y, M, n, K, few, ends):
    """`multiply` by addresses, so that all layouts share one compile."""
    if n == 0:  # as the last of many threads may have
        return
    number = ends.scale
    size = size_of(number)
    panel, block = stack_bytes(PANEL), stack_bytes(BLOCK_WRITTEN)
    if M == 1 and B.column == 1:
        if A.column == 1:
            multiply_vector(A, B, Y, n, K, ends)
        else:
            multiply_long_row(A, B, Y, n, K, ends)
        return
    if A.column == 1 and sums_along_k(B, n, K, few, number):
        multiply_by_few_columns(A, B, Y, M, n, K, ends, panel)
        return
    if A.column != 1 and n <= NARROW and n * TERMS_TO_TURN <= K and ends.start == ZERO and ends.finish != MASK:
        multiply_transpose_by_few_columns(A, B, Y, M, n, K, ends, panel)
        return
    vectors = vectors_of(n, number)
    copy_A, late, depth = False, False, DEPTH
    far, large, lines = is_far(B, size), is_large_here(K, B.row, size), vector_is_line(number)
    most = ROWS_BY_TURNED if B.column != 1 else ROWS_OF_BLOCK if lines else ROWS_BY_COPIES
    few_rows = FEW_ROWS_OF_A_FOR_FAR if far else FEW_ROWS_OF_A
    read_B = B.column == 1 and (lines or few_rows > M)
    many = B.column != 1 or M >= FEW_ROWS_OF_A  # A may be copied
    if many and A.row == 1 and copies_columns(A, vectors, K, number):
        # All terms at once, or so few that there is room for a whole block of rows.
        copy_A, depth = True, DEPTH * 4 // size
        depth = K if depth >= K else depth // 2
        most = min(ROWS_OF_BLOCK, BLOCK // (depth * size) // SOME_ROWS * SOME_ROWS)
    elif many and A.column == 1 and copies_rows(A, vectors, number):
        copy_A, most, depth = True, ROWS_OF_BLOCK, BLOCK // (ROWS_OF_BLOCK * size)
    elif comes_late(A, K, number):
        late, depth = True, COLUMNS_SIDE_BY_SIDE
    elif read_B and lines:
        depth = LINES_SIDE_BY_SIDE if large else K
    elif read_B:
        depth = SIDE_BY_SIDE if far else K
    elif not many:  # and B is copied
        depth = DEPTH_FOR_FEW
    for i in range(0, M, most):
        rows = min(most, M - i)
        copy_B = not read_B and (B.column != 1 or (large and rows >= few_rows))
        step = depth if copy_A or copy_B or read_B or late else K
        for k in range(0, K, step):
            terms = min(step, K - k)
            a, group = part_of(A, i, k, size), LINE // size * A.row
            if copy_A:
                a, group = copy_block(a, rows, terms, block, number), LINE // size * terms
            b, y = part_of(B, k, 0, size), part_of(Y, i, 0, size)
            some = ends_of_part(ends_of_terms(ends, k, terms, K), Y, i, 0, size)
            j = multiply_wide(a, b, y, M, n, terms, some) if read_B and fits_wide(M) else 0
            if j < n:
                b, y, some = part_of(b, 0, j, size), part_of(y, 0, j, size), ends_of_part(some, y, 0, j, size)
                multiply_block(a, group, late, b, panel if copy_B else 0, y, rows, n - j, terms, some)


@inlined
def sums_along_k(B, n, K, few, number):
    """Return whether vectors run along k: also of many columns, if they lie so and rows are `few`."""
    turned, filled = B.row == 1, 4 * n >= 3 * vectors_of(n, number) * lanes(number)
    vectors = 1 if n == 1 else VECTORS_IF_FILLED if turned and filled and not few else VECTORS_TO_SUM
    return (n <= NARROW or (few and turned)) and vectors * lanes(number) <= K


@inlined
def copies_columns(A, vectors, K, number):
    """Return whether columns of A are copied, for so many vectors of B and terms of the sums."""
    apart = A.column * size_of(number)
    if vector_is_line(number):
        return apart >= PAGE and vectors > MANY_VECTORS and K > MOST_PAGES
    return apart >= FAR_COLUMNS and (vectors > SOME_VECTORS or apart % PAGE == 0)


@inlined
def copies_rows(A, vectors, number):
    """Return whether rows of A are copied, likewise."""
    apart = A.row * size_of(number)
    return not vector_is_line(number) and apart >= FAR_ROWS and vectors > MANY_VECTORS


@kernel
def multiply_vector(A, B, Y, n, K, ends):
    """`multiply` for one row of A, whose entries are neighbours as are those of B's rows: with next to no overhead."""
    if sums_along_k(B, n, K, False, ends.scale):
        multiply_by_few_columns(A, B, Y, 1, n, K, ends, 0)
    else:
        multiply_long_row(A, B, Y, n, K, ends)


@register_jitable
def is_large(K, n, size):
    """Return whether K rows of a B that lie n entries apart are large, on any CPU."""
    return n * size >= FAR_B or K * n * size >= LARGE_B


@inlined
def is_large_here(K, n, size):
    """Return whether they are, on this CPU."""
    few = not many_registers() and K * n * size >= LARGE_B_FOR_FEW and n * size >= LONG_ENOUGH
    return few or is_large(K, n, size)
