"""Matrix products of any size, cut into register tiles (see ``tile``).

The loops go over groups of B's columns that fill a tile, and over A's rows within. So a panel of B, all its rows by one
tile's columns, serves many rows of A while it is in the cache. Where B's rows do not lie well for that (its columns are
rows in memory, or its rows are so far apart that they share cache sets and memory pages, or more than a second-level
cache holds), the panel is copied first. So is a block of A. Copies lie on the stack: nothing is allocated. While a
panel is in use, the next one is fetched from memory.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.copies import DEPTH, GROUP, copy_block, copy_panel
from nbfc.kernels.few import multiply_by_few_columns, multiply_transpose_by_few_columns
from nbfc.kernels.memory import address_of, lanes, prefetch, size_of, stack_bytes, write
from nbfc.kernels.panel import multiply_panel, multiply_row
from nbfc.kernels.tile import BIAS, MASK, MATRIX, OLD, RELU, SCALE, STORE, ZERO, Ends, Matrix, ends_type, tile_rows
from nbfc.kernels.vectors import INT, MOST_VECTORS, WIDEST

# Rows of A at a time: enough to make up for copying panels of B (64: 20% slower where layers are wide), and few enough
# that they stay in a second-level cache.
MOST_ROWS = 256
# Fewer rows of A do not make up for copies of B: it is read where it lies, so many rows side by side if they are far
# apart, or for one row of A so many (all of them at once: a third of the speed on 2000 × 2000).
FEW_ROWS_OF_A, SIDE_BY_SIDE, SIDE_BY_SIDE_FOR_ONE = 32, 32, 16
# With so few terms a sum takes less time than to write it: C is then written some rows at a time, from end to end.
FEW_TERMS = 32
# Copies are made of rows of B, of columns of A or of its rows that are this many bytes apart, the latter if they are
# used by more than so many vectors of B.
FAR_B = 2048
LARGE_B = 2**19  # bytes: likewise of rows of a B that a second-level cache would not hold
FAR_COLUMNS, VECTORS_TO_COPY_FOR = 512, 3
FAR_ROWS, VECTORS_TO_COPY_ROWS_FOR = 8192, 16
# With so few columns vectors run along k instead (see ``dot``), where the sums have terms for so many vectors.
NARROW, VECTORS_TO_SUM = 8, 4

PANEL = DEPTH * MOST_VECTORS * WIDEST
BLOCK = 2**18  # bytes of a copy of A: with a panel less than the smallest stack a thread may have, 512 KiB
# Copies are made by whole vectors and whole groups of rows.
assert DEPTH // 2 % (WIDEST // 4) == MOST_ROWS % GROUP == BLOCK % (DEPTH * GROUP * 8) == 0
LINE = 64
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

    A's and B's rows or columns are contiguous, and Y's rows are. Y is overwritten. The order of a sum depends on K and
    n, so that a part of Y's rows has the bits it would have in the whole; with `few` (rows: all that there are) also on
    whether B is a transpose, which is then read as it lies.
    """
    multiply_at(matrix(A), matrix(B), matrix(Y), A.shape[0], Y.shape[1], A.shape[1], few, ends)


@kernel(once=lambda real: (MATRIX, MATRIX, MATRIX, types.intp, types.intp, types.intp, types.boolean, ends_type(real)))
def multiply_at(A, B, Y, M, n, K, few, ends):
    """`multiply` by addresses, so that all layouts share one compile."""
    number = ends.scale
    size = size_of(number)
    panel, block = stack_bytes(PANEL), stack_bytes(BLOCK)
    if M == 1 and A.column == 1 and B.column == 1:
        multiply_vector(A, B, Y, n, K, ends)
        return
    if (n <= NARROW or (few and B.row == 1)) and VECTORS_TO_SUM * lanes(number) <= K:
        if A.column == 1:
            multiply_by_few_columns(A, B, Y, M, n, K, ends, panel)
            return
        if n <= NARROW and ends.start == ZERO and ends.finish != MASK:
            multiply_transpose_by_few_columns(A, B, Y, M, n, K, ends, panel)
            return
    vectors = (n + lanes(number) - 1) // lanes(number)
    copy_A, most, depth = False, MOST_ROWS, DEPTH
    if K <= FEW_TERMS and B.column == 1 and Y.row * size >= FAR_B:
        most = GROUP
    elif M < FEW_ROWS_OF_A and B.column == 1:
        depth = (SIDE_BY_SIDE_FOR_ONE if M == 1 else SIDE_BY_SIDE) if is_far(B, size) else K
    elif A.row == 1 and A.column * size >= FAR_COLUMNS and vectors > VECTORS_TO_COPY_FOR:
        copy_A, depth = True, DEPTH * 4 // size  # for as many rows in float64
        most = BLOCK // (depth * size)
    elif A.column == 1 and A.row * size >= FAR_ROWS and vectors > VECTORS_TO_COPY_ROWS_FOR:
        copy_A, depth = True, BLOCK // (MOST_ROWS * size)
    for i in range(0, M, most):
        rows = min(most, M - i)
        copy_B = B.column != 1 or (is_large(K, B.row, size) and rows >= FEW_ROWS_OF_A)
        step = depth if copy_A or copy_B or M < FEW_ROWS_OF_A else K
        for k in range(0, K, step):
            terms = min(step, K - k)
            start = ends.start if k == 0 else OLD
            finish = ends.finish if k + terms == K else STORE
            a, group = Matrix(A.address + (i * A.row + k * A.column) * size, A.row, A.column), GROUP * A.row
            if copy_A:
                a, group = copy_block(a, rows, terms, block, number), GROUP * terms
            b = Matrix(B.address + k * B.row * size, B.row, B.column)
            y = Matrix(Y.address + i * Y.row * size, Y.row, 1)
            some = Ends(start, ends.bias, finish, ends.mask + i * Y.row * size, ends.scale)
            if rows == 1 and B.column == 1:
                multiply_row(a, b, y, n, terms, some)
                continue
            multiply_block(a, group, b, copy_B, panel, y, rows, n, terms, some)


@kernel
def multiply_vector(A, B, Y, n, K, ends):
    """`multiply` for one row of A, whose entries are neighbours as are those of B's rows: with next to no overhead.

    (A loop over a range would begin with a division.)
    """
    size, width = size_of(ends.scale), lanes(ends.scale)
    if n <= NARROW and VECTORS_TO_SUM * width <= K:
        multiply_by_few_columns(A, B, Y, 1, n, K, ends, 0)
        return
    depth, k = SIDE_BY_SIDE_FOR_ONE if is_far(B, size) else K, 0
    while k < K:
        terms = min(depth, K - k)
        start = ends.start if k == 0 else OLD
        finish = ends.finish if k + terms == K else STORE
        a, b = Matrix(A.address + k * size, 0, 1), Matrix(B.address + k * B.row * size, B.row, 1)
        multiply_row(a, b, Y, n, terms, Ends(start, ends.bias, finish, ends.mask, ends.scale))
        k += terms


@kernel(
    once=lambda real: (
        MATRIX,
        types.intp,
        MATRIX,
        types.boolean,
        types.intp,
        MATRIX,
        *[types.intp] * 3,
        ends_type(real),
    )
)
def multiply_block(A, group, B, copy, panel, Y, M, n, K, ends):
    """Go over panels of B, of nearly equal width; A's next `GROUP` rows lie `group` entries further."""
    number = ends.scale
    size, width = size_of(number), lanes(number)
    vectors = (n + width - 1) // width
    panels = (vectors + MOST_VECTORS - 1) // MOST_VECTORS
    for p in range(panels):
        j, j_end = vectors * p // panels * width, min(n, vectors * (p + 1) // panels * width)
        b = Matrix(B.address + j * B.column * size, B.row, B.column)
        y, shift = Matrix(Y.address + j * size, Y.row, 1), j * size
        some = Ends(ends.start, ends.bias + shift, ends.finish, ends.mask + shift, ends.scale)
        if copy:
            b = copy_panel(b, K, j_end - j, panel, number)
        if group == GROUP * A.row and not is_far(B, size):
            multiply_panel(A, b, y, M, j_end - j, K, some)
        else:
            ahead = Matrix(B.address + j_end * B.column * size, B.row, B.column)
            columns_ahead = min(n, vectors * (p + 2) // panels * width) - j_end
            multiply_groups(A, group, b, ahead, columns_ahead, y, M, j_end - j, K, some)


@register_jitable
def is_large(K, n, size):
    """Return whether K rows of a B, which lie n entries apart, are copied for many rows of A."""
    return n * size >= FAR_B or K * n * size >= LARGE_B


@kernel
def is_far(B, size):
    """Return whether B is large, by how far its rows or columns are from each other."""
    return max(B.row, B.column) * size >= FAR_B


@kernel
def multiply_groups(A, group, B, ahead, columns_ahead, Y, M, columns, K, ends):
    """`multiply_panel`, which fetches Y's next tile and B's next panel, `ahead`, where B is large. A may be a copy."""
    size = size_of(ends.scale)
    rows = tile_rows() if is_far(ahead, size) else GROUP
    used_by = M if M >= FEW_ROWS_OF_A else min(M, rows)  # rows over which the fetching is spread
    for i in range(0, M, rows):
        end = min(M, i + rows)
        a = Matrix(A.address + (i // GROUP * group + i % GROUP * A.row) * size, A.row, A.column)
        y = Matrix(Y.address + i * Y.row * size, Y.row, 1)
        some = Ends(ends.start, ends.bias, ends.finish, ends.mask + i * Y.row * size, ends.scale)
        if is_far(ahead, size):
            fetch(Y, end, min(M, end + rows), columns, 1, size)
            if ahead.column == 1:
                fetch(ahead, min(K, K * i // used_by), min(K, K * end // used_by), columns_ahead, 0, size)
            else:
                turned = Matrix(ahead.address, ahead.column, 1)
                fetch(turned, columns_ahead * i // M, columns_ahead * end // M, K, 0, size)
        multiply_panel(a, B, y, end - i, columns, K, some)


@inlined
def fetch(part, first, end, columns, to_write, size):
    """Ask for rows `first` to `end` of a part of a matrix."""
    for row in range(first, end):
        for place in range(0, columns * size, LINE):
            prefetch(part.address + row * part.row * size + place, to_write)
