"""The tile for products with few columns, where a tile of ``tile`` would leave most lanes of its vectors empty.

Contract. As in ``tile``, but the vectors run along k::

                          columns
                          ┌─┐
                          │B│  column j, read as vectors
                          └─┘
        ┌─────────────┐   ┌─┐
   rows │ A  row r    │   │C│   rows · columns registers, of which each
        └─────────────┘   └─┘   becomes one number at the end

A's rows are contiguous, and so are B's columns: B[k, j] lies at B.address + (j · B.column + k) · size. A sum is taken
lane by lane, in the order of k, and then over the lanes, by halves. That order depends on the number of lanes alone.
Where there are fewer rows or columns than the tile has, the last one is computed again in their place.
"""

from numba import types
from numba.extending import intrinsic

from nbfc.kernels.tile import MATRIX, fields, store_finished
from nbfc.kernels.vectors import INT, Vectors, target

MOST_COLUMNS = 4
LONG_ROWS = 4  # of one column: more come from memory more slowly (8 of 2048 × 2048: 1.1 times the time)


def rows_of_dot(context, columns, long):
    """Return how many rows a tile has, so that its sums leave some registers free; or fewer, if rows are `long`."""
    rows = target(context).rows // (1 if columns == 1 else 2)
    return min(rows, LONG_ROWS) if long else rows


@intrinsic(prefer_literal=True)
def dot_rows(typingctx, columns, long):
    """Return the number of rows of such a tile, a constant."""

    def codegen(context, builder, signature, args):
        return INT(rows_of_dot(context, columns.literal_value, long.literal_value))

    return types.intp(columns, long), codegen


@intrinsic(prefer_literal=True)
def dot(typingctx, columns, long, A, B, C, rows, columns_there, K, ends):
    """Multiply by the tile of up to so many columns, for `long` rows or others: both are constants."""

    def codegen(context, builder, signature, args):
        vector = Vectors(context, builder, context.get_value_type(ends.types[-1]))
        most = rows_of_dot(context, columns.literal_value, long.literal_value)
        write_dot(vector, most, columns.literal_value, args[2:])
        return context.get_dummy_value()

    return types.void(columns, long, *[MATRIX] * 3, *[types.intp] * 3, ends), codegen


@intrinsic
def dot_row(typingctx, A, B, C, columns, K, ends):
    """Multiply one row by up to `lanes` columns of a B whose rows are contiguous, so that no column need be copied.

    Vectors lie along a row of C here. There is one for each lane of the vectors above, so that the sums are the same.
    """

    def codegen(context, builder, signature, args):
        real = context.get_value_type(signature.args[-1].types[-1])
        write_dot_row(Vectors(context, builder, real), args)
        return context.get_dummy_value()

    return types.void(MATRIX, MATRIX, MATRIX, types.intp, types.intp, ends), codegen


def write_dot_row(vector, args):
    """Write its instructions."""
    A, B, C, columns, K, ends = args
    builder, lanes = vector.builder, vector.lanes
    a_address, b_address, c_address = (fields(builder, matrix)[0] for matrix in (A, B, C))
    b_row = fields(builder, B)[1]
    start, bias_address, finish, mask_address, factor = fields(builder, ends)
    rest = builder.srem(K, INT(lanes))

    def body(masks):
        def add(k, totals, there=None):
            a = vector.addresses(builder.add(a_address, vector.bytes(k)), INT(1), lanes, there)
            b = vector.addresses(builder.add(b_address, vector.bytes(builder.mul(k, b_row))), b_row, lanes, there)
            new = [
                vector.multiply_add(vector.spread(vector.scalar(a[lane])), vector.load(b[lane], 0, masks[0]), total)
                for lane, total in enumerate(totals)
            ]
            if there is None:
                return new
            more = [builder.icmp_signed("<", INT(lane), there) for lane in range(lanes)]
            return [builder.select(*three) for three in zip(more, new, totals, strict=True)]

        k, *totals = vector.loop(INT(0), builder.sub(K, rest), INT(lanes), [vector.zeros] * lanes, add)
        once = builder.zext(builder.icmp_signed(">", rest, INT(0)), INT)
        _, *totals = vector.loop(INT(0), once, INT(1), totals, lambda _, totals: add(k, totals, rest))
        while len(totals) > 1:
            half = len(totals) // 2
            totals = [builder.fadd(*pair) for pair in zip(totals[:half], totals[half:], strict=True)]
        first = vector.choose(
            start,
            [
                lambda: [vector.zeros],
                lambda: [vector.load(bias_address, 0, masks[0])],
                lambda: [vector.load(c_address, 0, masks[0])],
            ],
        )
        totals = [builder.fadd(first[0], totals[0])]
        store_finished(vector, totals, [(c_address, 0, masks[0])], c_address, finish, mask_address, factor)

    vector.with_masks(columns, 1, body, only_last=False)


def write_dot(vector, rows, columns, args):
    """Write a tile's instructions, for its largest number of rows."""
    A, B, C, actual_rows, actual_columns, K, ends = args
    builder = vector.builder
    a_address, a_row, _ = fields(builder, A)
    b_address, _, b_column = fields(builder, B)
    c_address, c_row, _ = fields(builder, C)
    a = vector.addresses(a_address, a_row, rows, actual_rows)
    b = vector.addresses(b_address, b_column, columns, actual_columns)
    places = vector.addresses(INT(0), INT(1), columns, actual_columns)
    c = vector.addresses(c_address, c_row, rows, actual_rows)
    entries = [(r, j) for r in range(rows) for j in range(columns)]

    def add(totals, offset, mask):
        left = [vector.load(builder.add(address, offset), 0, mask) for address in a]
        right = [vector.load(builder.add(address, offset), 0, mask) for address in b]
        return [vector.multiply_add(left[r], right[j], total) for (r, j), total in zip(entries, totals, strict=True)]

    sums = vector.sums(vector.accumulate(K, [vector.zeros] * len(entries), add))
    finish_numbers(vector, sums, entries, c, c_address, places, ends)


def finish_numbers(vector, sums, entries, c, c_address, places, ends):
    """Add what the sums start with, finish them, and write them to C."""
    builder, number, zero = vector.builder, vector.number, vector.number(0.0)
    start, bias_address, finish, mask_address, factor = fields(builder, ends)

    def place(address, j):
        return builder.add(address, places[j])

    def old():
        return [vector.scalar(place(c[r], j)) for r, j in entries]

    def bias():
        return [vector.scalar(place(bias_address, j)) for _, j in entries]

    starts = vector.choose(start, [lambda: [zero] * len(entries), bias, old])
    sums = [builder.fadd(first, value) for first, value in zip(starts, sums, strict=True)]

    def relu():
        return [builder.select(builder.fcmp_ordered("<", value, zero), zero, value) for value in sums]

    def mask():
        shift = builder.sub(mask_address, c_address)
        values = [vector.scalar(place(builder.add(c[r], shift), j)) for r, j in entries]
        keep = [builder.fcmp_ordered(">", value, zero) for value in values]
        return [builder.select(high, value, zero) for high, value in zip(keep, sums, strict=True)]

    def scale():
        return [builder.fmul(value, factor) for value in sums]

    for (r, j), value in zip(entries, vector.choose(finish, [lambda: sums, relu, mask, scale]), strict=True):
        pointer = builder.inttoptr(place(c[r], j), number.as_pointer())
        builder.store(value, pointer, align=vector.size)
