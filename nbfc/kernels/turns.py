"""Blocks of work that threads take in turns.

Equal shares of the work do not take equal times: other processes use the cores as well, and some CPUs have cores of two
kinds. So a thread begins with the blocks of its own share, which its cache may hold from the last time, and then goes
on with those of others' that are not begun. What a block is does not depend on who takes it, so neither do bits.

How many blocks of each share have been taken is counted at one place in the process, as one launch at a time may have
threads (see `launch`): a line of the cache for each share, as threads that write to one line wait for each other.
"""

import ctypes

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbfc.kernels._addresses import global_of
from nbfc.kernels._jit import MOST_THREADS, inlined, kernel
from nbfc.kernels.vectors import INT

MOST_SHARES, LINE = max(64, MOST_THREADS), 16  # counts, and integers in a line, at least
NAME = "nbfc.turns"  # of the counts, for LLVM

_counts = (ctypes.c_int64 * (MOST_SHARES * LINE))()
llvm.add_symbol(NAME, ctypes.addressof(_counts))


def _count_of(builder, owner):
    return builder.gep(global_of(builder, NAME, ir.ArrayType(INT, LINE)), [owner, INT(0)])


@intrinsic
def begin(typingctx, owner):
    """Set a share's count to 0."""

    def codegen(context, builder, signature, args):
        builder.store(INT(0), _count_of(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def count(typingctx, owner):
    """Count one more for a share, as one operation for all threads; return how many there were."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", _count_of(builder, args[0]), INT(1), "monotonic")

    return types.int64(types.intp), codegen


@inlined
def begin_turns(shares):
    """Set all counts to 0: for one thread, before others begin."""
    if shares > 1:
        for owner in range(shares):
            begin(owner)


@inlined
def number_of_blocks(length, most, shares):
    """Return into how many blocks of at most so many a length is cut: as many for each share."""
    return (length + shares * most - 1) // (shares * most) * shares


@kernel
def next_block(turn, blocks, share, shares):
    """Return a block that nobody has taken yet, or `blocks` if there is none; `turn` is how many this thread has taken.

    One thread alone takes them in order, and counts nothing.
    """
    if shares == 1:
        return turn
    for k in range(shares):
        owner = (share + k) % shares
        start, stop = blocks * owner // shares, blocks * (owner + 1) // shares
        taken = count(owner)
        if taken < stop - start:
            return start + taken
    return blocks
