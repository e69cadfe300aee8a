"""The memory of a training step: rooms for the rows of a batch, and the gradients of its parts.

One flat array, for P parameters in L layers (see ``layers``), N samples of m inputs, and S outputs of all layers::

    parts   for each, where the batch is cut into several: its gradient (P,) and its mean loss
    rooms   for each thread, or one for all where the batch is whole: (2 S + 1 + m, C), or (3 S + 1 + m, C) where a
            layer's slopes are kept
    flag    one entry: NaN where a parameter overflowed

A room has place for the C rows of a part, or for all N. In its flat memory a layer's outputs lie at C · OUTPUTS_AT,
their gradients C · S further on, then the samples' losses, the inputs, where they have to be gathered, and last the
slopes: derivatives of activations that cannot be told from their values, and what a layer's outputs were multiplied by
to normalise them.
"""

from numba.extending import register_jitable

from nbfc._arrays import Array
from nbfc.kernels._jit import inlined
from nbfc.kernels._threads import LIKELY_FROM, work_of_step
from nbfc.kernels.dense import WHOLE
from nbfc.kernels.layers import N_IN, N_OUT, OUTPUTS_AT, ROOM, SIZE
from nbfc.kernels.memory import matrix_at, vector_at

ROWS = 256  # rows that are taken through the network at a time: enough to make up for copying or reading weights
# Parts of a batch have from so many rows to `ROWS`, and are two, four, or a multiple of so many: two, four or eight
# threads then have as many each. (819 rows in 7 parts took two threads 1.14 times the time.)
PART, PARTS = 64, 8
# They are at most so many that what all rows write to rooms is so many times as many numbers as their gradients have.
# (Twice costs cores that are far from each other up to 1.16 times the time, as they send more rows; once costs near
# ones up to 1.05.)
MANY_NUMBERS = 1.5


@inlined
def batch_size(X, order):
    """Return N."""
    return order.shape[0] if order.shape[0] > 0 else X.shape[0]


@register_jitable
def number_of_parts(layers, N):
    """Return how many parts a batch is cut into; 0 if it stays whole.

    That is where rows are few, or parameters many beside them, or both so few that one thread may well take all. (No
    part has more than `ROWS`: of more than 2048 rows a batch may stay whole where one of 2048 is cut.)
    """
    if work_of_step(N, layers[-1, SIZE]) < LIKELY_FROM:
        return 0
    parts = (N + PARTS * ROWS - 1) // (PARTS * ROWS) * PARTS
    most = min(N / PART, N * layers[-1, ROOM] / (MANY_NUMBERS * layers[-1, SIZE]))
    while parts > most:
        parts //= 2
    return parts if parts > 1 and parts * ROWS >= N else 0


@register_jitable
def rows_of_part(layers, N):
    """Return how many rows a part of the batch has at most, or N where it is not cut."""
    parts = max(1, number_of_parts(layers, N))
    return min(N, ((N + WHOLE - 1) // WHOLE + parts - 1) // parts * WHOLE)


@register_jitable
def size_of_work(layers: Array, N: int, threads: int) -> int:
    """Return how many entries the memory of a step on N samples has."""
    parts = number_of_parts(layers, N)
    rooms = threads if parts > 0 else 1
    return parts * (layers[-1, SIZE] + 1) + rooms * layers[-1, ROOM] * rows_of_part(layers, N) + 1  # type: ignore[no-any-return]


@inlined
def gradient_of_part(layers, work, part):
    """Return a part's gradient and mean loss, (P + 1,)."""
    return vector_at(work, part * (layers[-1, SIZE] + 1), layers[-1, SIZE] + 1)


@inlined
def room(layers, work, N, share):
    """Return a room, (ROOM, C)."""
    C = rows_of_part(layers, N)
    start = number_of_parts(layers, N) * (layers[-1, SIZE] + 1) + share * layers[-1, ROOM] * C
    return matrix_at(work, start, layers[-1, ROOM], C)


@inlined
def outputs(layers, room, layer, r, s):
    """Return rows r to s of a layer's outputs Y (C, n_out)."""
    return matrix_at(
        room, room.shape[1] * layers[layer, OUTPUTS_AT] + r * layers[layer, N_OUT], s - r, layers[layer, N_OUT]
    )


@inlined
def gradients(layers, room, layer, r, s):
    """Return rows r to s of ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾ before a layer's activation, (C, n_out)."""
    start = room.shape[1] * (all_outputs(layers) + layers[layer, OUTPUTS_AT])
    return matrix_at(room, start + r * layers[layer, N_OUT], s - r, layers[layer, N_OUT])


@inlined
def losses(layers, room, r, s):
    """Return the samples' losses J⁽ⁱ⁾ (C,), from r to s."""
    return vector_at(room, room.shape[1] * 2 * all_outputs(layers) + r, s - r)


@inlined
def inputs(layers, room, r, s):
    """Return where rows r to s of a batch are gathered, (C, m)."""
    start = room.shape[1] * (2 * all_outputs(layers) + 1)
    return matrix_at(room, start + r * layers[0, N_IN], s - r, layers[0, N_IN])


@inlined
def rows_of_batch(X, order, layers, room, r, s, place):
    """Return rows r to s of the batch: of X, or where they were gathered, from `place` on in a room."""
    return inputs(layers, room, place, place + s - r) if order.shape[0] > 0 else X[r:s]


@inlined
def slopes(layers, room, layer, r, s):
    """Return rows r to s of a layer's slopes, (C, n_out), where they are kept."""
    start = room.shape[1] * (2 * all_outputs(layers) + 1 + layers[0, N_IN] + layers[layer, OUTPUTS_AT])
    return matrix_at(room, start + r * layers[layer, N_OUT], s - r, layers[layer, N_OUT])


@inlined
def all_outputs(layers):
    """Return S, the sum of the layers' outputs."""
    return layers[-1, OUTPUTS_AT] + layers[-1, N_OUT]
