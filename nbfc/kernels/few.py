"""Products with few columns, or of few numbers with a large matrix whose rows are long, which is read as it lies.

With few columns a tile's vectors along a row of C would be nearly empty. They run along k instead (see ``dot``), or C
is made turned round.
"""

from numba import types

from nbfc.kernels._jit import kernel
from nbfc.kernels.blocks import PANEL
from nbfc.kernels.copies import DEPTH, copy_columns
from nbfc.kernels.dot import dot_row
from nbfc.kernels.memory import lanes, read, size_of, write
from nbfc.kernels.panel import FAR_ROWS, multiply_columns, multiply_long_row, multiply_panel
from nbfc.kernels.tile import MATRIX, ZERO, Matrix, ends_of_part, ends_of_terms, ends_type, part_of
from nbfc.kernels.vectors import MOST_VECTORS

ROWS_ALONE = 4  # so few rows take less time one by one than the copy of B's columns would
# Of sums longer than `DEPTH` so many terms at a time go over a part of a transpose, if its rows are at least `FAR_ROWS`
# apart: these are then read in order. (2048 of 8192 bytes: half to two thirds of the time; 512: up to 1.1 times.)
TERMS_OF_FAR_ROWS = 128


@kernel(once=lambda real: (*[MATRIX] * 3, *[types.intp] * 3, ends_type(real), types.intp))
def multiply_by_few_columns(A, B, Y, M, n, K, ends, panel):
    """Multiply by few columns, of which a copy is made where they are not contiguous; or by any that are.

    One row by many columns is turned round: many rows by one column.
    """
    size = size_of(ends.scale)
    if M == 1 and B.row == 1 and ends.start == ZERO:
        multiply_columns(Matrix(B.address, B.column, 1), A, Matrix(Y.address, 1, 1), n, M, K, ends)
        return
    depth = K if B.row == 1 else DEPTH
    for k in range(0, K, depth):
        terms = min(depth, K - k)
        a, b, some = part_of(A, 0, k, size), part_of(B, k, 0, size), ends_of_terms(ends, k, terms, K)
        if B.row == 1:
            multiply_columns(a, b, Y, M, n, terms, some)
        elif M <= ROWS_ALONE:
            multiply_rows_alone(a, b, Y, M, n, terms, some)
        else:
            multiply_columns(a, copy_columns(b, terms, n, panel, DEPTH, ends.scale), Y, M, n, terms, some)


@kernel
def multiply_rows_alone(A, B, Y, M, n, K, ends):
    """Multiply row by row, by columns that are not contiguous (see `dot_row`)."""
    size, width = size_of(ends.scale), lanes(ends.scale)
    for i in range(M):
        for j in range(0, n, width):
            a, b, y = part_of(A, i, 0, size), part_of(B, 0, j, size), part_of(Y, i, j, size)
            dot_row(a, b, y, min(width, n - j), K, ends_of_part(ends, Y, i, j, size))


@kernel
def multiply_transpose_by_few_columns(A, B, Y, M, n, K, ends, panel):
    """Multiply by few columns where A is a transpose: Yᵀ = Bᵀ Aᵀ has few long rows. They are turned round by parts.

    A part has as many columns as `panel` has room for.
    """
    size, width = size_of(ends.scale), MOST_VECTORS * lanes(ends.scale)
    turned_B, turned_A = Matrix(B.address, B.column, B.row), Matrix(A.address, A.column, 1)
    if n == 1:
        multiply_long_row(turned_B, turned_A, Matrix(Y.address, 0, 1), M, K, ends)
        return
    together = PANEL // (n * size) // width * width
    sums = Matrix(panel, together, 1)
    depth = TERMS_OF_FAR_ROWS if K > DEPTH and A.column * size >= FAR_ROWS else K
    for first in range(0, M, together):
        end = min(M, first + together)
        for k in range(0, K, depth):
            terms = min(depth, K - k)
            a, some = part_of(turned_B, 0, k, size), ends_of_terms(ends, k, terms, K)
            for j in range(first, end, width):
                b, y = part_of(turned_A, k, j, size), part_of(sums, 0, j - first, size)
                multiply_panel(a, b, y, n, min(width, end - j), terms, some)
        for row in range(n):  # the longer loop within: 40 ns instead of 100 for 4 × 64
            for column in range(end - first):
                number = read(part_of(sums, row, column, size).address, ends.scale)
                write(part_of(Y, first + column, row, size).address, number)
