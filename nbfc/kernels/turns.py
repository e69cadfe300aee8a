"""Blocks of work that threads take in turns, phase after phase, within one launch.

Equal shares of the work do not take equal times: other processes use the cores as well, and some CPUs have cores of two
kinds. So a thread begins with the blocks of its own share, which its cache may hold from the last time, and then goes
on with those of others' that are not begun. What a block is does not depend on who takes it, so neither do bits.

A phase begins when the last one's blocks are all finished. To wait for that takes 0.05 to 0.2 µs on two cores, where a
launch takes 1 to 4. It does not last for ever: a thread waits for blocks alone that another one is at, and none raises.
One that comes late, or never because another one goes over its share as well, is waited for by nobody.

Counts stand at one place in the process, as one launch at a time may have threads (see `launch`): a line of the cache
for each share, of its blocks that are taken, and one of all that are finished; threads that write to one line wait for
each other. A count is PHASE times the number of a phase, and what is counted in it: no phase has to set it back.
"""

import ctypes
import platform
import sys

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbfc.kernels._addresses import global_of
from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels._threads import MOST_THREADS
from nbfc.kernels.vectors import INT

MOST_SHARES, LINE = max(64, MOST_THREADS), 16  # shares (tests take more than threads), and integers in a line
COUNTS, GIVE_WAY = "nbfc.turns", "nbfc.give_way"  # for LLVM: the counts, and the system's call to let others run
PHASE = 2**40  # more than the blocks of a phase
PATIENCE = 1000  # looks at a count, some 30 µs, after which others may run on this core: those waited for, perhaps
FINISHED = 0  # the count that is of all shares

_counts = (ctypes.c_int64 * ((1 + MOST_SHARES) * LINE))()
llvm.add_symbol(COUNTS, ctypes.addressof(_counts))
if sys.platform == "win32":
    _give_way = ctypes.windll.kernel32.SwitchToThread
else:
    _give_way = ctypes.CDLL(None).sched_yield
llvm.add_symbol(GIVE_WAY, ctypes.cast(_give_way, ctypes.c_void_p).value)


def _place(builder, which):
    return builder.gep(global_of(builder, COUNTS, ir.ArrayType(INT, LINE)), [which, INT(0)])


@intrinsic
def reset(typingctx, which):
    """Set a count to 0."""

    def codegen(context, builder, signature, args):
        builder.store(INT(0), _place(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def look(typingctx, which):
    """Return a count; what had been written before it was set is there from now on."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_place(builder, args[0]), "acquire", align=8)

    return types.int64(types.intp), codegen


@intrinsic
def replace(typingctx, which, old, new):
    """Set a count to a new number if it is the old one, as one operation for all threads; return whether it was."""

    def codegen(context, builder, signature, args):
        result = builder.cmpxchg(_place(builder, args[0]), args[1], args[2], "acq_rel", "monotonic")
        return builder.extract_value(result, 1)

    return types.boolean(types.intp, types.int64, types.int64), codegen


@intrinsic
def rest(typingctx):
    """Leave what a core's parts have in common to its other thread for some 30 ns, where that helps."""

    def codegen(context, builder, signature, args):
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def give_way(typingctx):
    """Let other threads run on this core, if any wait for it."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        function = builder.module.globals.get(GIVE_WAY) or ir.Function(builder.module, kind, GIVE_WAY)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


@inlined
def begin_turns(shares):
    """Set all counts to 0: for one thread, before others begin."""
    if shares > 1:
        for which in range(1 + shares):
            reset(which)


@inlined
def number_of_blocks(length, most, shares):
    """Return into how many blocks of at most so many a length is cut: as many for each share."""
    return (length + shares * most - 1) // (shares * most) * shares


@kernel
def blocks_in_turn(phase, blocks, share, shares):
    """Yield blocks of a phase that nobody has taken yet; end when all are finished. One thread takes all in order.

    A loop over these must neither be left before its end nor raise: others would wait for ever for what this thread
    has taken.
    """
    alone, taken = shares == 1 or blocks == 0, 0
    block = taken if alone else take_block(phase, blocks, share, shares)
    while block < blocks:
        yield block
        taken += 1
        block = taken if alone else take_block(phase, blocks, share, shares)
    if not alone:
        wait_for_all(phase, taken, blocks)


@kernel
def take_block(phase, blocks, share, shares):
    """Return a block that nobody has taken yet, one of this share first; `blocks` if there is none."""
    for k in range(shares):
        owner = (share + k) % shares
        start, stop = first_of(blocks, owner, shares), first_of(blocks, owner + 1, shares)
        taken = count(1 + owner, phase, 1, stop - start)
        if taken < stop - start:
            return start + taken
    return blocks


@kernel
def wait_for_all(phase, taken, blocks):
    """Tell that this thread has finished so many blocks, and wait until all are."""
    if taken > 0:
        count(FINISHED, phase, taken, blocks)
    looks = 0
    while look(FINISHED) < phase * PHASE + blocks:
        looks += 1
        rest()
        if looks > PATIENCE:
            give_way()


@inlined
def first_of(blocks, share, shares):
    """Return the first block of a share; one that is alone is the first share's."""
    return (blocks * share + shares - 1) // shares


@inlined
def count(which, phase, more, most):
    """Count so many more of a phase, unless there are `most`, or it is over; return how many there were, or `most`."""
    while True:
        old = look(which)
        there = max(old, phase * PHASE)
        if there >= phase * PHASE + most:
            return most
        if replace(which, old, there + more):
            return there - phase * PHASE
