"""Matrix products of any size, cut into register tiles (see ``tile``).

The loops go over groups of B's columns that fill a tile, and over A's rows within. So a panel of B, all its rows by one
tile's columns, serves all of A while it is in the cache. Where B's rows do not lie well for that (its columns are rows
in memory, or its rows are so far apart that they share cache sets and memory pages), the panel is copied first. So is A
where it is a transpose with far columns, tile by tile.
"""

from typing import NamedTuple

import numpy as np

from nbfc.kernels._jit import kernel
from nbfc.kernels.tile import MOST_VECTORS, C, lanes, make_tile, read, size_of, tile_rows, write

# Terms of a sum that copies are made for at a time: a panel of B is then 96 KiB with the widest registers, and stays
# in a second-level cache beside A and C.
DEPTH = 512
# Copies are made for rows of B, or columns of A, that are this many bytes apart, if they are used often enough.
FAR_APART = 2048
ROWS_TO_COPY_FOR = 32
PANELS_TO_COPY_FOR = 2

tile_1, tile_2, tile_3 = (make_tile(vectors) for vectors in range(1, MOST_VECTORS + 1))
row_tile_1, row_tile_2, row_tile_3 = (make_tile(vectors, single_row=True) for vectors in range(1, MOST_VECTORS + 1))


class Matrix(NamedTuple):
    """Where entries lie: the first one's address, and how many entries further the next row and column are."""

    address: int
    row: int
    column: int


@kernel
def address_of(array):
    """Return the address of an array's first entry, as a signed integer: sums of both kinds would be floats."""
    return np.int64(array.ctypes.data)


@kernel
def matrix(array):
    """Return where the entries of a matrix lie, whatever its layout."""
    return Matrix(address_of(array), array.strides[0] // array.itemsize, array.strides[1] // array.itemsize)


@kernel
def multiply(A, B, Y, start, bias, relu):
    """Y ← s + A B, or max(s + A B, 0) with `relu`, for A (M, K), B (K, n) and Y (M, n).

    s is 0, `bias` (n,) in every row, or Y as it was, as `start` says (ZERO, BIAS or C of ``tile``). A and B may have
    any strides; Y's rows, and `bias`, are contiguous. Y is overwritten.
    """
    M, K = A.shape
    zero, lowest = Y.dtype.type(0), Y.dtype.type(-np.inf)
    floor = zero if relu else lowest
    multiply_at(matrix(A), matrix(B), matrix(Y), M, Y.shape[1], K, start, address_of(bias), floor, lowest)


@kernel
def multiply_at(A, B, Y, M, n, K, start, bias, floor, lowest):
    """`multiply` by addresses, so that all layouts share one compile."""
    size, width = size_of(floor), MOST_VECTORS * lanes(floor)
    copy_B = B.column != 1 or (B.row * size >= FAR_APART and M >= ROWS_TO_COPY_FOR)
    copy_A = A.row == 1 and A.column * size >= FAR_APART and n > PANELS_TO_COPY_FOR * width
    depth = min(K, DEPTH) if copy_A or copy_B else K
    panel = np.empty(depth * width * size if copy_B else 0, np.uint8)
    tiles = np.empty(depth * (M + tile_rows()) * size if copy_A else 0, np.uint8)
    for k0 in range(0, K, depth):
        k1 = min(K, k0 + depth)
        s, low = start if k0 == 0 else C, floor if k1 == K else lowest
        a, a_tile = Matrix(A.address + k0 * A.column * size, A.row, A.column), tile_rows() * A.row
        if copy_A:
            a, a_tile = copy_tiles(a, M, k1 - k0, address_of(tiles), floor), tile_rows() * (k1 - k0)
        for j in range(0, n, width):
            columns = min(width, n - j)
            b = Matrix(B.address + (k0 * B.row + j * B.column) * size, B.row, B.column)
            if copy_B:
                b = copy_panel(b, k1 - k0, columns, address_of(panel), width, floor)
            y = Matrix(Y.address + j * size, Y.row, 1)
            multiply_panel(a, a_tile, b, y, M, columns, k1 - k0, s, bias + j * size, low)


@kernel
def copy_panel(B, K, columns, panel, width, number):
    """Copy K rows of B to `panel`, `width` entries apart, and return where they lie."""
    size = size_of(number)
    if B.column == 1:
        for k in range(K):
            for j in range(columns):
                write(panel + (k * width + j) * size, read(B.address + (k * B.row + j) * size, number))
    else:
        for j in range(columns):
            for k in range(K):
                write(
                    panel + (k * width + j) * size,
                    read(B.address + (k * B.row + j * B.column) * size, number),
                )
    return Matrix(panel, width, 1)


@kernel
def copy_tiles(A, M, K, tiles, number):
    """Copy M rows of A to `tiles`, for each tile K columns of as many entries as it has rows; return where they lie."""
    size, rows = size_of(number), tile_rows()
    for i in range(0, M, rows):
        for k in range(K):
            source, target = A.address + (i + k * A.column) * size, tiles + (i * K + k * rows) * size
            if i + rows <= M:
                for r in range(rows):
                    write(target + r * size, read(source + r * size, number))
            else:
                for r in range(M - i):
                    write(target + r * size, read(source + r * size, number))
    return Matrix(tiles, 1, rows)


@kernel
def multiply_panel(A, a_tile, B, Y, M, columns, K, start, bias, floor):
    """`multiply_at` for as many columns as one tile has; A's next tile lies `a_tile` entries further."""
    a, b, y = A.address, B.address, Y.address
    a_row, a_column, b_row, y_row = A.row, A.column, B.row, Y.row
    size, rows = size_of(floor), tile_rows()
    vectors = (columns + lanes(floor) - 1) // lanes(floor)
    i = 0
    while i + rows <= M:
        if vectors == 3:
            tile_3(a, a_row, a_column, b, b_row, y, y_row, K, columns, start, bias, floor)
        elif vectors == 2:
            tile_2(a, a_row, a_column, b, b_row, y, y_row, K, columns, start, bias, floor)
        else:
            tile_1(a, a_row, a_column, b, b_row, y, y_row, K, columns, start, bias, floor)
        a, y, i = a + a_tile * size, y + rows * y_row * size, i + rows
    while i < M:
        if vectors == 3:
            row_tile_3(a, a_row, a_column, b, b_row, y, y_row, K, columns, start, bias, floor)
        elif vectors == 2:
            row_tile_2(a, a_row, a_column, b, b_row, y, y_row, K, columns, start, bias, floor)
        else:
            row_tile_1(a, a_row, a_column, b, b_row, y, y_row, K, columns, start, bias, floor)
        a, y, i = a + a_row * size, y + y_row * size, i + 1
