"""Loops of tiles: over the rows of a panel (see ``tile``), along one row or few, and over few columns (see ``dot``)."""

from numba import types

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.dot import MOST_COLUMNS, dot, dot_rows
from nbfc.kernels.memory import lanes, size_of, stack_bytes, vector_of, vectors_of
from nbfc.kernels.tile import (
    DOWN,
    LOW,
    MATRIX,
    MIDDLE,
    RIGHT,
    ROW,
    ROWS_ASKED,
    TALL,
    TURNED,
    Matrix,
    ends_of_part,
    ends_of_terms,
    ends_type,
    make_tile,
    many_registers,
    part_of,
    tile_rows,
)
from nbfc.kernels.vectors import LINE, MOST_VECTORS

full, ragged, half = make_tile(whole=True), make_tile(), make_tile(whole=True, part=2)
to_right, to_down = make_tile(whole=True, ahead=RIGHT), make_tile(ahead=DOWN)
before_turned = make_tile(whole=True, ahead=TURNED)
# Rows of B this many bytes apart share cache sets and memory pages: for one row of A so many are then read side by side
# (all of them at once: a third of the speed on 2000 × 2000).
FAR_B, SIDE_BY_SIDE_FOR_ONE = 2048, 8
WAITING = 2**13  # bytes of such a row's sums that wait to be finished
# Columns of A come late (see `comes_late`) that are so many lines of the cache apart, and in all so many bytes long:
# more than a second-level cache holds. (The tiles that ask for them take as little as a third of the time where they
# come from memory, and up to 1.1 times as long where they do not.)
FAR_LINES, FAR_A = 4, 2**22
PAGE = 4096  # bytes: rows so far apart begin in one set of a first-level cache
FAR_ROWS = 2 * PAGE  # bytes from row to row, from which on a CPU does not find the next ones by itself


@inlined
def vector_is_line(number):
    """Return whether a vector register is as wide as a line of the cache."""
    return lanes(number) * size_of(number) >= LINE


def panel_types(real):
    """Return the types of what a panel's product takes: A, B, Y, M, columns, K and ends."""
    return MATRIX, MATRIX, MATRIX, types.intp, types.intp, types.intp, ends_type(real)


@kernel(within=True)
def multiply_panel(A, B, Y, M, columns, K, ends):
    """Go over the rows of A and Y, a tile at a time, for the columns of one to three vectors."""
    if columns % lanes(ends.scale) == 0:
        multiply_whole_panel(A, B, Y, M, columns, K, ends)
    else:
        multiply_ragged_panel(A, B, Y, M, columns, K, ends)


@kernel(once=panel_types)
def multiply_whole_panel(A, B, Y, M, columns, K, ends):
    """`multiply_panel` for columns that fill their vectors: apart, as both in one function would be slower.

    Where rows are far from each other, tiles ask for the next panel: it would else take two to three times as long to
    come from memory.
    (Where a vector is no line, that would be more requests than lines, and ``blocks`` asks. And where vectors lie
    across lines, tiles read so many that to ask for more costs a tenth more time.)
    """
    if columns == MOST_VECTORS * lanes(ends.scale) and has_far_lines(B, ends.scale):
        go_down(to_right, MOST_VECTORS, A, B, Y, M, columns, K, ends)
    else:
        go_down_by_width(full, A, B, Y, M, columns, K, ends)


@kernel(once=panel_types)
def multiply_ragged_panel(A, B, Y, M, columns, K, ends):
    """`multiply_panel` for other columns."""
    go_down_by_width(ragged, A, B, Y, M, columns, K, ends)


@kernel(once=panel_types)
def multiply_first_panel(A, B, Y, M, columns, K, ends):
    """`multiply_panel` for B's first panel, where `comes_late` says that A does: its tiles ask for A ahead."""
    go_down_by_width(to_down, A, B, Y, M, columns, K, ends)


@kernel(once=lambda real: (*panel_types(real), MATRIX, types.intp))
def multiply_before_turned(A, B, Y, M, columns, K, ends, following, rows):
    """`multiply_panel`, while so many rows of a matrix are asked for, `following`, that are to be turned round next.

    The last tiles ask: rows that are pages apart share sets of a cache, and the first ones' would be lost again.
    """
    size, step = size_of(ends.scale), tile_rows(MOST_VECTORS)
    asking = min(M // step, (rows + ROWS_ASKED - 1) // ROWS_ASKED) if columns == MOST_VECTORS * lanes(ends.scale) else 0
    i = M - asking * step
    multiply_panel(A, B, Y, i, columns, K, ends)
    for row in range(0, asking * ROWS_ASKED, ROWS_ASKED):
        a, y, some = part_of(A, i, 0, size), part_of(Y, i, 0, size), ends_of_part(ends, Y, i, 0, size)
        before_turned(TALL, MOST_VECTORS, a, B, y, step, columns, K, some, part_of(following, row, 0, size))
        i += step


@inlined
def comes_late(A, K, number):
    """Return whether K columns of A come from far away, and each lies too far from the next one to be expected."""
    apart = A.column * size_of(number)
    return A.row == 1 and apart >= FAR_LINES * LINE and K * apart >= FAR_A


@inlined
def go_down_by_width(tile, A, B, Y, M, columns, K, ends):
    """Go over the rows by that tile with as many vectors as the columns make."""
    vectors = vectors_of(columns, ends.scale)
    if vectors == 3:
        go_down(tile, 3, A, B, Y, M, columns, K, ends)
    elif vectors == 2:
        go_down(tile, 2, A, B, Y, M, columns, K, ends)
    else:
        go_down(tile, 1, A, B, Y, M, columns, K, ends)


@inlined
def go_down(tile, vectors, A, B, Y, M, columns, K, ends):
    """Go over the rows by that tile with so many vectors, in the height that computes the fewest rows again.

    (Of 5 or 6 rows, as of 13 or 14, a tile of 8 took 1.1 to 1.5 times the time.)
    """
    size, rows = size_of(ends.scale), tile_rows(vectors)
    for i in range(0, M, rows):
        a, y, some = part_of(A, i, 0, size), part_of(Y, i, 0, size), ends_of_part(ends, Y, i, 0, size)
        if 4 * (M - i) > 3 * rows:
            tile(TALL, vectors, a, B, y, M - i, columns, K, some)
        elif 2 * (M - i) > rows:
            tile(MIDDLE, vectors, a, B, y, M - i, columns, K, some)
        else:
            tile(LOW, vectors, a, B, y, M - i, columns, K, some)


@kernel(once=lambda real: (MATRIX, MATRIX, MATRIX, types.intp, types.intp, ends_type(real)))
def multiply_row(A, B, Y, n, K, ends):
    """Multiply one row by wide tiles: a narrow one of one row would have too few sums to keep the CPU busy.

    Full vectors are written without masks: a network's next layer reads at once what this one writes, and waits longer
    for what was written with them.
    """
    size, width = size_of(ends.scale), lanes(ends.scale)
    j = 0
    while j < n:
        left = n - j
        b, y, some = part_of(B, 0, j, size), part_of(Y, 0, j, size), ends_of_part(ends, Y, 0, j, size)
        if many_registers() and left >= 16 * width:  # B's rows are then read in longer runs
            full(ROW, 16, A, b, y, 1, left, K, some)
            j += 16 * width
        elif left >= 8 * width:
            full(ROW, 8, A, b, y, 1, left, K, some)
            j += 8 * width
        elif left == 2 * width:
            full(ROW, 2, A, b, y, 1, left, K, some)
            j += left
        elif left == width:
            full(ROW, 1, A, b, y, 1, left, K, some)
            j += left
        elif left > width:
            ragged(ROW, 4, A, b, y, 1, min(left, 4 * width), K, some)
            j += 4 * width
        elif 2 * left == width:
            half(ROW, 1, A, b, y, 1, left, K, some)
            j += left
        else:
            ragged(ROW, 1, A, b, y, 1, left, K, some)
            j += width


@kernel(once=lambda real: types.intp(*panel_types(real)))
def multiply_wide(A, B, Y, M, n, K, ends):
    """Multiply M rows, so few as `fits_wide` says, by the widest tiles there are; return how many columns are done.

    To fetch B takes the time then, and it comes the faster the longer the runs are in which its rows are read. What is
    left for ``blocks`` is no single vector, whose sums would be too few to keep the CPU busy. (Rows that share sets of
    a cache take up to 1.4 times as long from one process to the next, and 1.1 where the next part is asked for.)
    """
    size, width = size_of(ends.scale), lanes(ends.scale)
    j = 0
    while True:
        whole, vectors = (n - j) // width, vectors_of(n - j, ends.scale)
        b, y, some = part_of(B, 0, j, size), part_of(Y, 0, j, size), ends_of_part(ends, Y, 0, j, size)
        if whole >= 8 and vectors != 9 and tile_rows(8) >= M:
            go_down(full, 8, A, b, y, M, 8 * width, K, some)
            j += 8 * width
        elif whole >= 6 and vectors != 7 and tile_rows(6) >= M:
            go_down(full, 6, A, b, y, M, 6 * width, K, some)
            j += 6 * width
        elif whole >= 4 and vectors != 5:
            if has_far_lines(B, ends.scale) and B.row * size % PAGE == 0:
                go_down(to_right, 4, A, b, y, M, 4 * width, K, some)
            else:
                go_down(full, 4, A, b, y, M, 4 * width, K, some)
            j += 4 * width
        else:
            return j


@inlined
def has_far_lines(B, number):
    """Return whether B's rows are far from each other, and its vectors lines of the cache."""
    row = B.row * size_of(number)
    return vector_is_line(number) and row >= FAR_ROWS and (B.address | row) % LINE == 0


@inlined
def fits_wide(M):
    """Return whether M rows are so few that one tile of `multiply_wide` has them all.

    Or two or three have, where `go_down` would end with a `LOW` tile of narrower ones, and so compute as many rows or
    more (0.82 to 0.96 of the time, and 0.70 to 0.91 with AVX2).
    """
    left = M % tile_rows(MOST_VECTORS)
    return tile_rows(4) >= M or (3 * tile_rows(4) >= M and 0 < left <= tile_rows(MOST_VECTORS) // 2)


@kernel
def multiply_long_row(A, B, Y, n, K, ends):
    """`multiply_row`, by so few rows of a far B at a time that each is read from memory in order.

    Sums wait at a place of this thread's own then: a line of Y may be another thread's as well, and to have it back for
    each few terms takes longer than all else (292 × 996: 18 µs on two threads instead of 10). (The start is not OLD.)
    """
    size = size_of(ends.scale)
    if not is_far(B, size):
        multiply_row(A, B, Y, n, K, ends)
        return
    sums = Matrix(stack_bytes(WAITING), 0, 1)
    for j in range(0, n, WAITING // size):
        columns, k = min(WAITING // size, n - j), 0
        while k < K:  # a loop over a range with a step that is no constant would begin with a division
            terms = min(SIDE_BY_SIDE_FOR_ONE, K - k)
            some = ends_of_part(ends_of_terms(ends, k, terms, K), Y, 0, j, size)
            multiply_row(part_of(A, 0, k, size), part_of(B, k, j, size), sums, columns, terms, some)
            k += terms
        source = vector_of(sums.address, columns, ends.scale)
        target = vector_of(part_of(Y, 0, j, size).address, columns, ends.scale)
        for column in range(columns):
            target[column] = source[column]


@inlined
def is_far(B, size):
    """Return whether B is large, by how far its rows or columns are from each other."""
    return max(B.row, B.column) * size >= FAR_B


@kernel(once=lambda real: (MATRIX, MATRIX, MATRIX, types.intp, types.intp, types.intp, ends_type(real)))
def multiply_columns(A, B, Y, M, columns, K, ends):
    """Go over the columns, by as many as a tile of ``dot`` has, and over the rows of A and Y."""
    far = is_far(A, size_of(ends.scale))
    for j in range(0, columns, MOST_COLUMNS):
        if columns - j > 1:
            go_down_columns(MOST_COLUMNS, False, j, A, B, Y, M, columns, K, ends)
        elif far:
            go_down_columns(1, True, j, A, B, Y, M, columns, K, ends)
        else:
            go_down_columns(1, False, j, A, B, Y, M, columns, K, ends)


@inlined
def go_down_columns(most, long, j, A, B, Y, M, columns, K, ends):
    """Go over the rows of A and Y by the tile of ``dot`` for so many columns, from j on, and for `long` rows."""
    size, rows = size_of(ends.scale), dot_rows(most, long)
    b = part_of(B, 0, j, size)
    for i in range(0, M, rows):
        a, y, some = part_of(A, i, 0, size), part_of(Y, i, j, size), ends_of_part(ends, Y, i, j, size)
        dot(most, long, a, b, y, M - i, columns - j, K, some)
