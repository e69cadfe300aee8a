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
from nbfc.kernels.tile import MATRIX, OLD, STORE, ZERO, Ends, Matrix, ends_type
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
        start = ends.start if k == 0 else OLD
        finish = ends.finish if k + terms == K else STORE
        if M <= ROWS_ALONE and B.row != 1:
            a, b = Matrix(A.address + k * size, A.row, 1), Matrix(B.address + k * B.row * size, B.row, 1)
            multiply_rows_alone(a, b, Y, M, n, terms, Ends(start, ends.bias, finish, ends.mask, ends.scale))
            continue
        b = Matrix(B.address + k * size, 1, B.column)
        if B.row != 1:
            b = copy_columns(Matrix(B.address + k * B.row * size, B.row, 1), terms, n, panel, DEPTH, ends.scale)
        a, some = Matrix(A.address + k * size, A.row, 1), Ends(start, ends.bias, finish, ends.mask, ends.scale)
        multiply_columns(a, b, Y, M, n, terms, some)


@kernel
def multiply_rows_alone(A, B, Y, M, n, K, ends):
    """Multiply row by row, by columns that are not contiguous (see `dot_row`)."""
    size, width = size_of(ends.scale), lanes(ends.scale)
    for i in range(M):
        for j in range(0, n, width):
            place, shift = (i * Y.row + j) * size, j * size
            a, b = Matrix(A.address + i * A.row * size, A.row, 1), Matrix(B.address + shift, B.row, 1)
            some = Ends(ends.start, ends.bias + shift, ends.finish, ends.mask + place, ends.scale)
            dot_row(a, b, Matrix(Y.address + place, Y.row, 1), min(width, n - j), K, some)


@kernel
def multiply_transpose_by_few_columns(A, B, Y, M, n, K, ends, panel):
    """Multiply by few columns where A is a transpose: Yᵀ = Bᵀ Aᵀ has few long rows. They are turned round by parts.

    A part has as many columns as `panel` has room for.
    """
    size, width = size_of(ends.scale), MOST_VECTORS * lanes(ends.scale)
    if n == 1:
        a, b = Matrix(B.address, B.column, B.row), Matrix(A.address, A.column, 1)
        multiply_long_row(a, b, Matrix(Y.address, 0, 1), M, K, ends)
        return
    together = PANEL // (n * size) // width * width
    depth = TERMS_OF_FAR_ROWS if K > DEPTH and A.column * size >= FAR_ROWS else K
    for first in range(0, M, together):
        end = min(M, first + together)
        for k in range(0, K, depth):
            terms = min(depth, K - k)
            finish = ends.finish if k + terms == K else STORE
            some = Ends(ZERO if k == 0 else OLD, 0, finish, 0, ends.scale)
            a = Matrix(B.address + k * B.row * size, B.column, B.row)
            for j in range(first, end, width):
                b, place = Matrix(A.address + (j + k * A.column) * size, A.column, 1), panel + (j - first) * size
                multiply_panel(a, b, Matrix(place, together, 1), n, min(width, end - j), terms, some)
        for row in range(n):  # the longer loop within: 40 ns instead of 100 for 4 × 64
            for column in range(end - first):
                number = read(panel + (row * together + column) * size, ends.scale)
                write(Y.address + ((first + column) * Y.row + row) * size, number)
