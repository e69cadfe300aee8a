"""Dropout: in a step, each output of a hidden layer is left out with a probability p, and the others count 1/(1 − p).

Srivastava et al., 2014, in the form that leaves prediction as it is. Whether an output is left out is a hash of the
step's key, the layer, the sample's place in the batch and the output, and of nothing else: the bits are the same for
any number of threads, and going back it is found again instead of kept. Compiled when first wanted.
"""

from typing import Any

import numpy as np
from numba import types

from nbfc._arrays import Array
from nbfc.kernels._addresses import Table
from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.elementwise import IDENTITY, SIGMOID, TANH, is_further
from nbfc.kernels.layers import ACTIVATION, DROPOUT, TABLE
from nbfc.kernels.memory import flat
from nbfc.kernels.updates import SEED, STEP
from nbfc.kernels.workspace import gradients, outputs


def arguments(real):
    """Return the types of room, layers, layer, key, r, place, end, j0 and j1."""
    return real[:, ::1], TABLE, *[types.intp] * 7


DROPOUT_TABLE = Table("dropout", arguments)
call_of_table, has_dropout = DROPOUT_TABLE.call, DROPOUT_TABLE.has
FORWARD, BACK = range(2)
STRIDE = 0x9E3779B9  # odd, and far from small multiples of powers of two (Knuth, 1998, section 6.4)


@inlined
def drops(layers, layer, key):
    """Return whether a layer's outputs are left out now and then: in a step that has a key."""
    return key != 0 and layers[layer, DROPOUT] > 0


@inlined
def drop(layers, room, layer, key, r, place, end, j0, j1):
    """Do so with outputs j0 to j1 of a layer, at place to end of a room, for rows r and on of the batch."""
    if drops(layers, layer, key):
        call_of_table(FORWARD, room, layers, layer, key, r, place, end, j0, j1)


@kernel
def activation_to_pass(layers, layer, key):
    """Return the activation whose derivative ③ is to include: none that needs more than the sign of its value."""
    activation = layers[layer, ACTIVATION]
    if is_further(activation):
        return IDENTITY
    return IDENTITY if drops(layers, layer, key) and activation in (TANH, SIGMOID) else activation


@inlined
def drop_back(layers, room, layer, key, r, place, end, j0, j1):
    """Take the gradient at these outputs, as `activation_to_pass` leaves it, to the one before the activation."""
    if drops(layers, layer, key):
        call_of_table(BACK, room, layers, layer, key, r, place, end, j0, j1)


@kernel
def key_of(rule):
    """Return the key of a step, or 0 for a rule without dropout."""
    if rule[SEED] == 0:
        return 0
    return int(mixed(mixed(np.uint64(rule[SEED])) + np.uint64(rule[STEP])) >> np.uint64(2)) + 1


@inlined
def mixed(x):
    """Return the bits of a 64-bit number well mixed: the finaliser of SplitMix64 (Steele et al., 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel(once=lambda real: (real[::1], *[types.uint32] * 3, real))
def drop_entries(y, start, other, least, scale):
    """y ← y · scale where a hash of the entry's place is at least `least`; else 0.

    The hash is MurmurHash3's finaliser (Appleby, 2011) with `other` bits in its middle. It stands apart, as LLVM makes
    it one of 64 bits, and slow, where it sees what `start` and `other` come from.
    """
    zero = y.dtype.type(0)
    for j in range(y.shape[0]):
        h = np.uint32(start + np.uint32(np.uint32(j) * np.uint32(STRIDE)))
        h = np.uint32(np.uint32(h ^ np.uint32(h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
        h = np.uint32(h ^ other)
        h = np.uint32(np.uint32(h ^ np.uint32(h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
        y[j] = y[j] * scale if np.uint32(h ^ np.uint32(h >> np.uint32(16))) >= least else zero


@inlined
def start_at(bits, place):
    """Return what the hash of an entry at a place begins with."""
    return np.uint32(bits + np.uint64(place) * np.uint64(STRIDE))


@kernel
def drop_block(Y, layers, layer, key, r, j0, j1):
    """Do so with columns j0 to j1 of Y, rows r and on of the batch, and a scale of 1 / (1 − p)."""
    threshold, n = layers[layer, DROPOUT], Y.shape[1]
    bits, least = mixed(mixed(np.uint64(key)) + np.uint64(layer)), np.uint32(threshold)
    other, scale = np.uint32(bits >> np.uint64(32)), Y.dtype.type(1 / share_kept(threshold))
    if j1 - j0 == n:
        drop_entries(flat(Y), start_at(bits, r * n), other, least, scale)
    else:
        for i in range(Y.shape[0]):
            drop_entries(Y[i, j0:j1], start_at(bits, (r + i) * n + j0), other, least, scale)


@inlined
def share_kept(threshold):
    """Return 1 − p."""
    return 1 - threshold / 2**32


@kernel(once=arguments)
def forward(room, layers, layer, key, r, place, end, j0, j1):
    """y ← y / (1 − p) where it is kept, else 0."""
    drop_block(outputs(layers, room, layer, place, end), layers, layer, key, r, j0, j1)


@kernel(once=arguments)
def back(room, layers, layer, key, r, place, end, j0, j1):
    """dy ← dy / (1 − p) · activation′ where it was kept, else 0; the activation's value was (1 − p) y.

    ③ has taken care of relu′.
    """
    Y, dY = outputs(layers, room, layer, place, end), gradients(layers, room, layer, place, end)
    activation, share, one = (
        layers[layer, ACTIVATION],
        Y.dtype.type(share_kept(layers[layer, DROPOUT])),
        Y.dtype.type(1),
    )
    drop_block(dY, layers, layer, key, r, j0, j1)
    if activation not in (TANH, SIGMOID):
        return
    for i in range(Y.shape[0]):
        y, dy = Y[i, j0:j1], dY[i, j0:j1]
        if activation == TANH:
            for j in range(y.shape[0]):
                dy[j] *= one - (share * y[j]) * (share * y[j])
        else:
            for j in range(y.shape[0]):
                dy[j] *= share * y[j] * (one - share * y[j])


for _code, _part in ((FORWARD, forward), (BACK, back)):
    DROPOUT_TABLE.add(_code, _part.kernel)


def ask_for_dropout(layers: Array, dtype: Any) -> None:
    """Let what a table of layers needs be compiled (see `Table.ask`)."""
    if layers[:, DROPOUT].any():
        for code in (FORWARD, BACK):
            DROPOUT_TABLE.ask(code, dtype)
