"""The product of a block of A's rows, which go by panels of B: its columns by one tile's width (see ``tile``).

A panel's rows should lie in the nearest cache while A's rows pass by. Where they would not, since B is wide or large,
or its columns are rows in memory, copies of some panels at a time are multiplied: by so many of A's rows as a line of
the cache has entries, or fewer, so that these stay in the cache as well, and C's rows are written in longer runs.

Where a vector is a line, as with AVX-512, a tile takes so long for each row of its panel that this may come from the
second level, as may A: then only a B that is turned round is copied. (Products of 16 rows take two thirds of the time
that they take with copies, those of 128 nine tenths.)

Where sums are short, and C's rows long, some of A's rows at a time go by all panels there are together, so that C is
written in long runs. (By panels, one term takes three times as long, or four times where C's rows share sets of the
cache.)
"""

from typing import NamedTuple

from numba import types

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.copies import DEPTH, copy_panel, whole_vectors
from nbfc.kernels.memory import lanes, prefetch, size_of, vectors_of
from nbfc.kernels.panel import is_far, multiply_before_turned, multiply_first_panel, multiply_panel, vector_is_line
from nbfc.kernels.tile import MATRIX, Matrix, ends_of_part, ends_type, part_of, tile_rows
from nbfc.kernels.vectors import LINE, MOST_VECTORS, WIDEST

# Fewer rows do not make up for copies of B: it is read where it lies, which takes longer if it is far (see ``panel``).
FEW_ROWS_OF_A, FEW_ROWS_OF_A_FOR_FAR = 32, 12
FEW_TERMS = 32  # of sums: to write them takes the time then
SAME_SETS = 2048  # bytes: lines so far apart fall on two sets of a first-level cache, or on one
FEW_AT_A_TIME = 8  # rows of A by which a B that is not copied is multiplied, while its next panel is fetched, if at all
CHUNK = 16  # rows of B that are copied of one panel before the next: whole vectors, and whole lines of a column
NEAR = 2**14  # bytes of A that stay in the nearest cache however B's panels pass by
PANEL = DEPTH * MOST_VECTORS * WIDEST  # bytes for copies: of one panel with the widest vectors, else of several
assert DEPTH % CHUNK == CHUNK % (WIDEST // 4) == CHUNK % (LINE // 4) == 0  # no panel is longer, and no copy cut


class Panels(NamedTuple):
    """Panels `first` to `end` of a matrix B, where that lies, and where copies of them do, `room` bytes apart, or 0.

    While B's first panel passes by, A is asked for ahead if it comes `late` (see ``panel``).
    """

    B: Matrix
    first: int
    end: int
    copy: int
    room: int
    late: bool


@kernel(
    once=lambda real: (
        MATRIX,
        types.intp,
        types.boolean,
        MATRIX,
        types.intp,
        MATRIX,
        *[types.intp] * 3,
        ends_type(real),
    )
)
def multiply_block(A, group, late, B, panel, Y, M, n, K, ends):
    """Go over panels of B, as many at a time as there is room for if they are copied, to `panel`; 0: they are not.

    A's next rows, as many as a line of the cache has entries, lie `group` entries further. Of panels that are turned
    round, one at a time is copied where B is far or a vector is a line, and the next one asked for meanwhile.
    """
    copy, number = panel != 0, ends.scale
    size = size_of(number)
    end = number_of_panels(n, number)
    room = (K + CHUNK - 1) // CHUNK * CHUNK * MOST_VECTORS * lanes(number) * size
    by_rows = is_written_by_rows(Y, K, copy, number)
    together, fits = end if by_rows else 1, end * room <= PANEL
    asks = B.column != 1 and not fits and not by_rows and (vector_is_line(number) or is_far(B, size))
    if copy and not asks:
        together = end if fits else PANEL // room
    near = vector_is_line(number) or not copy or M * K * size <= NEAR
    all_rows = group == LINE // size * A.row and near and not by_rows and not fetches(B, number)
    for first in range(0, end, together):
        panels = Panels(B, first, min(end, first + together), panel, room, late)
        if copy:
            copy_some(panels, n, K, number)
        if all_rows:
            multiply_some(A, panels, asks, Y, M, n, K, ends)
        else:
            multiply_groups(A, group, panels, asks, Y, M, n, K, ends)


@kernel(within=True)
def copy_some(panels, n, K, number):
    """Copy panels, some rows of each at a time, as B's rows may be memory pages apart."""
    B, size = panels.B, size_of(number)
    chunk, k = CHUNK if B.column == 1 else K, 0
    while k < K:
        for p in range(panels.first, panels.end):
            j, j_end = columns_of_panel(p, n, number)
            place = panels.copy + (p - panels.first) * panels.room + k * whole_vectors(j_end - j, number) * size
            copy_panel(part_of(B, k, j, size), min(chunk, K - k), j_end - j, place, number)
        k += chunk


@kernel
def number_of_panels(n, number):
    """Return how many panels n columns make."""
    return (vectors_of(n, number) + MOST_VECTORS - 1) // MOST_VECTORS


@kernel
def columns_of_panel(p, n, number):
    """Return the first column of a panel, and that after its last one. The last panels may be narrower."""
    width, panels = lanes(number), number_of_panels(n, number)
    full = max(0, panels - (panels * MOST_VECTORS - vectors_of(n, number)))
    start, end = p * MOST_VECTORS - max(0, p - full), (p + 1) * MOST_VECTORS - max(0, p + 1 - full)
    return start * width, min(n, end * width)


@kernel
def multiply_groups(A, group, panels, asks, Y, M, n, K, ends):
    """`multiply_some` by some rows of A, which may be a copy. Y's and B's next parts are fetched, where that helps."""
    B, number = panels.B, ends.scale
    size = size_of(number)
    lines = LINE // size
    rows = FEW_AT_A_TIME
    if panels.copy != 0:  # C's rows may share a set of the nearest cache, which holds those of two tiles
        rows = min(lines, 2 * tile_rows(MOST_VECTORS)) if K <= FEW_TERMS else lines
    used_by = M if M >= FEW_ROWS_OF_A else min(M, rows)  # rows over which the fetching is spread
    j, _ = columns_of_panel(panels.first, n, number)
    _, j_end = columns_of_panel(panels.end - 1, n, number)
    following = Matrix(B.address + j_end * size, B.row, 1)  # if B is not turned round
    columns = min(n - j_end, j_end - j)
    for i in range(0, M, rows):
        end = min(M, i + rows)
        a = Matrix(A.address + (i // lines * group + i % lines * A.row) * size, A.row, A.column)
        y, some = part_of(Y, i, 0, size), ends_of_part(ends, Y, i, 0, size)
        if fetches(B, number):
            fetch(part_of(Y, 0, j, size), end, min(M, end + rows), j_end - j, 1, size)
            if B.column == 1:
                fetch(following, min(K, K * i // used_by), min(K, K * end // used_by), columns, 0, size)
        # At last, as it may be lost again (see `multiply_before_turned`); the last rows may be too few for a tile.
        multiply_some(a, panels, asks and M - end < rows, y, end - i, n, K, some)


@kernel(within=True)
def multiply_some(A, panels, asks, Y, M, n, K, ends):
    """`multiply_panel` for some panels, or for one while what is turned round for the next is asked for."""
    B, number = panels.B, ends.scale
    size = size_of(number)
    for p in range(panels.first, panels.end):
        j, j_end = columns_of_panel(p, n, number)
        b, y, some = part_of(B, 0, j, size), part_of(Y, 0, j, size), ends_of_part(ends, Y, 0, j, size)
        if panels.copy != 0:
            place = panels.copy + (p - panels.first) * panels.room
            b = Matrix(place, whole_vectors(j_end - j, number), 1)
        if p == 0 and panels.late:
            multiply_first_panel(A, b, y, M, j_end - j, K, some)
        elif asks and p + 1 < number_of_panels(n, number):
            _, rows_end = columns_of_panel(p + 1, n, number)
            following = Matrix(B.address + j_end * B.column * size, B.column, 1)
            multiply_before_turned(A, b, y, M, j_end - j, K, some, following, rows_end - j_end)
        else:
            multiply_panel(A, b, y, M, j_end - j, K, some)


@inlined
def is_written_by_rows(Y, K, copy, number):
    """Return whether Y's rows are so long, and sums so short, that writing takes the time (see above).

    With copies of B, which are few panels at a time, only where all rows begin in one or two sets of a cache as well.
    """
    size = size_of(number)
    far = Y.row * size % SAME_SETS == 0 if copy else is_far(Y, size)
    return K <= FEW_TERMS and far


@inlined
def fetches(B, number):
    """Return whether the next parts of Y and of B are asked for here: where these are far, and tiles do not ask."""
    return is_far(B, size_of(number)) and not vector_is_line(number)


@inlined
def fetch(part, first, end, columns, to_write, size):
    """Ask for rows `first` to `end` of a part of a matrix."""
    for row in range(first, end):
        for place in range(0, columns * size, LINE):
            prefetch(part.address + row * part.row * size + place, to_write)
