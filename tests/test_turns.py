"""Threads take each block of work once, wherever they begin."""

import numba
import numpy as np
import pytest

from nbfc.kernels.dense import share_of
from nbfc.kernels.turns import begin_turns, next_block, number_of_blocks


@numba.njit
def start(shares):
    begin_turns(shares)


@numba.njit
def take_all(blocks, share, shares):
    """Return the blocks that a share takes, in order, if nobody else takes any."""
    taken = []
    for turn in range(blocks):
        block = next_block(turn, blocks, share, shares)
        if block == blocks:
            break
        taken.append(block)
    return taken


@numba.njit(parallel=True)
def take_together(blocks, shares):
    """Return how often each block was taken."""
    times = np.zeros((shares, blocks), np.int64)
    begin_turns(shares)
    for share in numba.prange(shares):
        for turn in range(blocks):
            block = next_block(turn, blocks, share, shares)
            if block < blocks:
                times[share, block] += 1
    return times.sum(axis=0)


@pytest.mark.parametrize(("share", "order"), [(0, [0, 1, 2, 3, 4, 5, 6]), (1, [2, 3, 4, 5, 6, 0, 1])])
def test_a_share_has_its_own_blocks_first_and_then_those_of_the_next(share, order):
    for _ in range(2):
        start(3)
        assert take_all(7, share, 3) == order
        assert [take_all(7, other, 3) for other in range(3)] == [[], [], []]


@pytest.mark.parametrize("blocks", [0, 1, 5])
def test_one_share_takes_all_in_order(blocks):
    assert take_all(blocks, 0, 1) == list(range(blocks))


@pytest.mark.parametrize(("blocks", "shares"), [(3, 7), (40, 2), (10_000, 2), (10_000, 3)])
def test_each_block_is_taken_once_however_many_threads_take_them(blocks, shares):
    for _ in range(20):
        assert np.array_equal(take_together(blocks, shares), np.ones(blocks))


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 4000])
def test_blocks_are_as_many_for_each_share_and_none_is_too_long(length, shares):
    blocks = number_of_blocks.py_func(length, 256, shares)
    parts = [share_of.py_func(length, block, blocks, 4) for block in range(blocks)]
    assert blocks % shares == 0
    assert [row for start, end in parts for row in range(start, end)] == list(range(length))
    assert all(end - start <= 256 for start, end in parts)
    assert blocks < shares + length / 256  # and none more than that takes
