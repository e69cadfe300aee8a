"""Products with a matrix whose panels have all been copied beforehand, where many blocks of rows are to come.

``multiply`` copies a panel of a large B each time that it comes to use one, for some hundred rows of A. To copy them
once for 1000 rows and read the copies takes 6% less time (in float64 15%); with AVX-512, where it copies none, up to 4%
less. The sums are the same to the bit.

Panels have a tile's full width, the last one so many whole vectors as it fills, and each holds all rows of B: row k of
the panel of columns j, j + 1, ... starts at entry j · K + k · its width.
"""

from numba import types
from numba.extending import register_jitable

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.blocks import CHUNK
from nbfc.kernels.copies import refresh_panel, whole_vectors
from nbfc.kernels.dense import share_of
from nbfc.kernels.memory import address_of, lanes, size_of
from nbfc.kernels.multiply import matrix
from nbfc.kernels.panel import multiply_panel
from nbfc.kernels.tile import BIAS, MATRIX, RELU, STORE, Ends, Matrix, ends_of_part, ends_of_terms, ends_type, part_of
from nbfc.kernels.vectors import MOST_VECTORS, WIDEST

# Rows of a panel at a time: twice those of ``multiply``, as no copy of B's own lines comes into the cache beside them.
TERMS = 1024


@register_jitable
def size_of_panels(K, n, itemsize):
    """Return how many entries the panels of a matrix (K, n) may have, however wide the CPU's vectors are.

    It is a multiple of 64 bytes.
    """
    whole = WIDEST // itemsize
    return K * ((n + whole - 1) // whole + MOST_VECTORS) * whole


@kernel
def copy_panels(B, panels, share, shares):
    """Copy a share of a matrix B (K, n) to an array `panels` (size_of_panels or more,).

    What this holds already, from an earlier call, is not written again: to do so would take ten times as long where
    other threads' caches have it too.
    """
    number = panels.dtype.type(1)
    size, width = size_of(number), MOST_VECTORS * lanes(number)
    K, n = B.shape
    first, end = share_of(n, share, shares, width)
    for k in range(0, K, CHUNK):
        for j in range(first, end, width):
            columns = min(width, n - j)
            source = Matrix(address_of(B) + (k * n + j) * size, n, 1)
            place = address_of(panels) + (j * K + k * whole_vectors(columns, number)) * size
            refresh_panel(source, min(CHUNK, K - k), columns, place, number)


@inlined
def multiply_panels_bias(A, panels, bias, relu, Y):
    """Y ← A B + bias in every row, or max(A B + bias, 0) with `relu`, for A (M, K) and Y (M, n)."""
    ends = Ends(BIAS, address_of(bias), RELU if relu else STORE, 0, Y.dtype.type(1))
    multiply_panels(matrix(A), address_of(panels), matrix(Y), A.shape[0], Y.shape[1], A.shape[1], ends)


@kernel(once=lambda real: (MATRIX, types.intp, MATRIX, *[types.intp] * 3, ends_type(real)))
def multiply_panels(A, panels, Y, M, n, K, ends):
    """Go over the panels, and over so many of their rows at a time that these stay in a second-level cache."""
    size, width = size_of(ends.scale), MOST_VECTORS * lanes(ends.scale)
    for k in range(0, K, TERMS):
        terms = min(TERMS, K - k)
        a, some = part_of(A, 0, k, size), ends_of_terms(ends, k, terms, K)
        for j in range(0, n, width):
            columns = min(width, n - j)
            pitch = whole_vectors(columns, ends.scale)
            b = Matrix(panels + (j * K + k * pitch) * size, pitch, 1)
            multiply_panel(a, b, part_of(Y, 0, j, size), M, columns, terms, ends_of_part(some, Y, 0, j, size))
