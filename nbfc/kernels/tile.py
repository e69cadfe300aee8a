"""The register tile: the one piece of code that all matrix products of this package are made of.

Contract. A tile of C, `rows` × `columns`, is held in vector registers while k runs from 0 to K − 1::

                      columns ≤ vectors · lanes
                      ┌───────────────────┐
                      │ B   row k         │  read as `vectors` vectors
                      └───────────────────┘
        ┌─────────┐   ┌───────────────────┐
   rows │ A     k │   │ C                 │  rows · vectors registers
        └─────────┘   └───────────────────┘
    read as scalars,        C[r, j] ← finish(s[r, j] + Σ_k A[r, k] · B[k, j])
    each spread over
    a vector

- A[r, k] lies at A.address + (r · A.row + k · A.column) · size: any strides, so a transpose costs nothing.
- B and C likewise, but their columns are neighbours. Nothing is read or written beyond `columns` and `rows` (it may be
  asked for, which does no harm anywhere), and no address needs to be aligned to more than an entry. All of C is read,
  where it is, before any of it is written.
- s is 0 (`start` ZERO), the vector at `bias` (BIAS), or C as it was (OLD). With the start ASK it is 0, and the lines of
  a matrix at `mask`, laid out as C is, are asked for: what is to be written there next then need not wait for them.
  (The finish is then not MASK.)
- finish is nothing (`finish` STORE), max(·, 0) (RELU), 0 where the entry of a matrix at `mask`, laid out as C is, is
  not above 0 (MASK: relu's derivative), or the product with `scale` (SCALE). NaN stays NaN but under a mask.
- Each entry is summed by fused multiply-adds in the order of k, whatever the tile's shape: a matrix cut into tiles
  in another way has the same bits.

A tile has one of four heights: `TALL`, whose rows follow the CPU that Numba compiles for and the vectors of a row, as
the lanes of a vector follow the CPU; `MIDDLE` and `LOW`, three quarters and half of that, and one at least; and `ROW`.
Where there are fewer rows than a tile has, the last one is computed again in their place. The last vector of a row may
be partly filled; in a ROW tile any may.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.extending import intrinsic, register_jitable

from nbfc.kernels._jit import inlined
from nbfc.kernels.vectors import INT, LINE, MOST_VECTORS, Vectors, target, write_prefetch

ZERO, BIAS, OLD, ASK = range(4)
STORE, RELU, MASK, SCALE = range(4)
TALL, MIDDLE, LOW, ROW = range(4)
RIGHT, DOWN, TURNED = range(3)
ROWS_OF_TILE = 8  # of a TALL tile, at most
ROWS_ASKED = 6  # by a tile that is made TURNED: all that it may ask for without taking longer
# Terms that a turn of a tile's loop adds where registers are few, and so a term's multiply-adds. A loop of one term
# has as many instructions as a core starts while it does them; where another thread shares the core, as in most clouds,
# or it starts fewer, they take the time (large products take 0.83 to 0.91 of it by four terms, and 0.9 to 0.95 by two).
FEW_REGISTERS, TERMS_AT_A_TIME = 16, 4


class Matrix(NamedTuple):
    """Where entries lie: the first one's address, and how many entries further the next row and column are."""

    address: int
    row: int
    column: int


class Ends(NamedTuple):
    """How sums start and finish: two of the codes above, and what these need."""

    start: int
    bias: int
    finish: int
    mask: int
    scale: float


@inlined
def part_of(matrix, i, j, size):
    """Return the part of a matrix that begins with row i and column j."""
    return Matrix(matrix.address + (i * matrix.row + j * matrix.column) * size, matrix.row, matrix.column)


@inlined
def ends_of_part(ends, C, i, j, size):
    """Return the ends of sums for the part of C that begins with row i and column j."""
    return Ends(ends.start, ends.bias + j * size, ends.finish, ends.mask + (i * C.row + j) * size, ends.scale)


@inlined
def ends_of_terms(ends, k, terms, K):
    """Return the ends of sums of K terms for so many of them, from the k-th on: C holds the sums in between."""
    start, finish = ends.start if k == 0 else OLD, ends.finish if k + terms == K else STORE
    return Ends(start, ends.bias, finish, ends.mask, ends.scale)


MATRIX = typeof(Matrix(0, 0, 0))


def ends_type(real):
    """Return the Numba type of `Ends` for float32 or float64."""
    return typeof(Ends(0, 0, 0, 0, np.float32(0) if real == types.float32 else 0.0))


def rows_of(context, vectors):
    """Return the rows of a TALL tile: the more, the fewer vectors a row has, to keep the CPU busy.

    That is a power of two, but for wide tiles, of which one to three have all rows (see ``multiply_wide``).
    """
    rows = max(1, min(ROWS_OF_TILE, target(context).rows * MOST_VECTORS // vectors))
    return rows if vectors > MOST_VECTORS else 1 << rows.bit_length() - 1


def rows_of_height(context, height, vectors):
    """Return the rows of a tile of that height."""
    tall = rows_of(context, vectors)
    return {TALL: tall, MIDDLE: max(1, 3 * tall // 4), LOW: max(1, tall // 2), ROW: 1}[height]


def terms_of(context):
    """Return how many terms a turn of a tile's loop adds."""
    return 1 if rows_of(context, MOST_VECTORS) == ROWS_OF_TILE else TERMS_AT_A_TIME


@intrinsic(prefer_literal=True)
def tile_rows(typingctx, vectors):
    """Return the number of rows of a TALL tile with so many vectors a row, a constant."""

    def codegen(context, builder, signature, args):
        return INT(rows_of(context, vectors.literal_value))

    return types.intp(vectors), codegen


@register_jitable
def many_registers():
    """Return whether the CPU has some 32 vector registers rather than 16."""
    return tile_rows(MOST_VECTORS) == ROWS_OF_TILE


def make_tile(whole=False, part=1, ahead=None):
    """Return a tile for compiled code, which takes its height and how many vectors a row has as constants.

    All vectors are full if `whole`, and have a register's lanes divided by `part`. With each term it asks for what lies
    `ahead`: RIGHT, the part of B's row that the next tile to the right reads; DOWN, the part of A's column, whose
    entries must be neighbours, that the next tiles below read; or TURNED, for which it takes one matrix more, an entry
    of each of `ROWS_ASKED` rows of this: a panel that is to be turned round.
    """

    @intrinsic(prefer_literal=True)
    def tile(typingctx, height, vectors, A, B, C, rows, columns, K, ends, *following):
        def codegen(context, builder, signature, args):
            count = rows_of_height(context, height.literal_value, vectors.literal_value)
            vector = Vectors(context, builder, context.get_value_type(ends.types[-1]), part)
            write_tile(vector, count, vectors.literal_value, whole, terms_of(context), ahead, args[2:])
            return context.get_dummy_value()

        more = types.StarArgTuple(following)
        return types.void(height, vectors, *[MATRIX] * 3, *[types.intp] * 3, ends, more), codegen

    return tile


def fields(builder, value):
    """Return the fields of a NamedTuple's value."""
    return [builder.extract_value(value, index) for index in range(len(value.type.elements))]


def write_tile(vector, rows, vectors, whole, terms, ahead, args):
    """Write a tile's instructions, for its largest number of rows and of vectors a row, and so many terms at a time."""
    A, B, C, actual_rows, columns, K, ends, following = args
    builder = vector.builder
    _, a_row, _ = fields(builder, A)
    c_address, c_row, _ = fields(builder, C)
    start, bias_address, finish, mask_address, factor = fields(builder, ends)

    def ask_for_row(address, first, to_write):
        width = vector.lanes * vector.size
        for place in range(first * width, (first + vectors) * width, max(LINE, width)):
            write_prefetch(builder, builder.add(address, INT(place)), to_write)

    def ask_ahead(k, a, b):
        if ahead == RIGHT:
            ask_for_row(b, vectors, to_write=0)
        elif ahead == DOWN:
            write_prefetch(builder, builder.add(a, INT(LINE)), to_write=0)
        elif ahead == TURNED:
            first, next_row, _ = fields(builder, builder.extract_value(following, 0))
            asked = builder.add(first, vector.bytes(k))
            for _ in range(ROWS_ASKED):
                write_prefetch(builder, asked, to_write=0)
                asked = builder.add(asked, vector.bytes(next_row))

    def body(masks):
        c = vector.addresses(c_address, c_row, rows, actual_rows)
        places = [(address, v, masks[v]) for address in c for v in range(vectors)]

        def zeros():
            return [vector.zeros for _ in places]

        def bias():
            return [vector.load(bias_address, v, mask) for v, mask in enumerate(masks)] * rows

        def old():
            return [vector.load(*place) for place in places]

        def ask():
            shift = builder.sub(mask_address, c_address)
            for address in c:
                ask_for_row(builder.add(address, shift), 0, to_write=1)
            return zeros()

        sums = vector.choose(start, [zeros, bias, old, ask])
        row_offsets = vector.addresses(INT(0), a_row, rows, actual_rows)
        totals = add_products(vector, masks, row_offsets, A, B, K, sums, terms, ask_ahead)
        store_finished(vector, totals, places, c_address, finish, mask_address, factor)

    if whole:
        body([None] * vectors)
    else:
        vector.with_masks(columns, vectors, body, only_last=rows > 1)


def add_products(vector, masks, row_offsets, A, B, K, sums, terms, ask_ahead):
    """Add the products of K entries of each row of A with K rows of B to the sums, and return these, row by row.

    A's rows lie `row_offsets` bytes from its first one, and `masks` are those of B's vectors. With each term
    ``ask_ahead(k, a, b)`` asks for what comes later: it is told the term, and where its first entry of A and its row of
    B lie.
    """
    builder, rows, vectors = vector.builder, len(row_offsets), len(masks)
    a_first, _, a_column = fields(builder, A)
    b_first, b_row, _ = fields(builder, B)
    a_step, b_step = vector.bytes(a_column), vector.bytes(b_row)
    # Sums, the fewer of both, one of the others, and a mask: it is loaded anew with each term if no register is left.
    crowded = terms > 1 and rows * vectors + min(rows, vectors) + 2 > FEW_REGISTERS

    def add_term(a, b, sums):
        def entry(r):
            return vector.spread(vector.scalar(builder.add(a, row_offsets[r])))

        def row(v):
            mask = masks[v]
            if crowded and mask is not None:
                mask = vector.mask_at(hidden(builder, mask.place, b), mask.count)
            return vector.load(b, v, mask)

        # The fewer of both stay in registers, while the others come one by one.
        new = {}
        if rows < vectors:
            entries = [entry(r) for r in range(rows)]
            for v in range(vectors):
                loaded = row(v)
                for r in range(rows):
                    new[r, v] = vector.multiply_add(entries[r], loaded, sums[r * vectors + v])
        else:
            loaded = [row(v) for v in range(vectors)]
            for r in range(rows):
                spread = entry(r)
                for v in range(vectors):
                    new[r, v] = vector.multiply_add(spread, loaded[v], sums[r * vectors + v])
        return [new[r, v] for r in range(rows) for v in range(vectors)]

    def turn_of(count):
        def turn(k, state):
            a, b, *sums = state
            b = hidden(builder, b)  # from here B's next rows are a few steps; A's next entries are too many
            for term in range(count):
                b_now = builder.add(b, builder.mul(b_step, INT(term)))
                ask_ahead(builder.add(k, INT(term)), a, b_now)
                sums = add_term(a, b_now, sums)
                a = hidden(builder, builder.add(a, a_step))
            return [a, builder.add(b, builder.mul(b_step, INT(count))), *sums]

        return turn

    k, state = INT(0), [a_first, b_first, *sums]
    if terms > 1:
        k, *state = vector.loop(k, builder.sub(K, INT(terms - 1)), INT(terms), state, turn_of(terms))
    _, _, _, *sums = vector.loop(k, K, INT(1), state, turn_of(1))
    return sums


def hidden(builder, address, *others):
    """Return an address as if it came from nowhere, or from `others` as well, which LLVM then takes to change it.

    LLVM would else keep another register for each place that is read in a turn of a loop, more than there are. (With
    AVX-512, where a turn is one term, it takes 39 instructions instead of 44.)
    """
    given, inputs = [address, *others], ",".join(["0", *["r" for _ in others]])
    return builder.asm(ir.FunctionType(INT, [INT] * len(given)), "", f"=r,{inputs}", given, side_effect=False)


def store_finished(vector, totals, places, c_address, finish, mask_address, factor):
    """Write the end of a tile: finish sums and store each at a place, an address in C, a vector from there, a mask."""
    builder = vector.builder

    def relu():
        low = [builder.fcmp_ordered("<", total, vector.zeros) for total in totals]  # false for NaN
        return [builder.select(cut, vector.zeros, total) for cut, total in zip(low, totals, strict=True)]

    def mask():
        shift = builder.sub(mask_address, c_address)
        values = [vector.load(builder.add(address, shift), v, mask) for address, v, mask in places]
        high = [builder.fcmp_ordered(">", value, vector.zeros) for value in values]
        return [builder.select(keep, total, vector.zeros) for keep, total in zip(high, totals, strict=True)]

    def scale():
        factors = vector.spread(factor)
        return [builder.fmul(total, factors) for total in totals]

    vector.store_all(vector.choose(finish, [lambda: totals, relu, mask, scale]), places)
