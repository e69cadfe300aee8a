"""Threads take each block of work once, wherever they begin."""

import numba
import numpy as np
import pytest

from nbfc.kernels.dense import share_of
from nbfc.kernels.turns import begin_turns, blocks_in_turn, number_of_blocks


@numba.njit
def start(shares):
    begin_turns(shares)


@numba.njit
def take_all(phase, blocks, share, shares):
    """Return the blocks that a share takes, in order, if nobody else takes any."""
    return list(blocks_in_turn(phase, blocks, share, shares))


@numba.njit(parallel=True)
def take_together(phases, blocks, shares):
    """Return how often each block was taken in each phase, and how many were missing of the phase before."""
    times = np.zeros((phases, shares, blocks), np.int64)
    missing = np.zeros(shares, np.int64)
    begin_turns(shares)
    for share in numba.prange(shares):
        for phase in range(phases):
            if phase > 0:
                missing[share] += blocks - times[phase - 1].sum()
            for block in blocks_in_turn(phase, blocks, share, shares):
                times[phase, share, block] += 1
    return times.sum(axis=1), missing.sum()


@pytest.mark.parametrize(("share", "order"), [(0, [0, 1, 2, 3, 4, 5, 6]), (1, [3, 4, 5, 6, 0, 1, 2])])
def test_a_share_has_its_own_blocks_first_and_then_those_of_the_next(share, order):
    for _ in range(2):
        start(3)
        assert take_all(0, 7, share, 3) == order
        assert [take_all(0, 7, other, 3) for other in range(3)] == [[], [], []]


def test_one_that_comes_late_finds_nothing_to_do_and_waits_for_nobody():
    """As where one thread goes over several shares, one after the other."""
    start(2)
    phases = ((0, 4), (1, 1), (2, 0), (5, 9), (2**20, 3))
    assert [take_all(phase, blocks, 1, 2) for phase, blocks in phases] == [
        [2, 3, 0, 1],
        [0],
        [],
        [*range(5, 9), *range(5)],
        [2, 0, 1],
    ]
    assert [take_all(phase, blocks, 0, 2) for phase, blocks in phases] == [[]] * 5


@pytest.mark.parametrize("blocks", [0, 1, 5])
def test_one_share_takes_all_in_order(blocks):
    assert take_all(0, blocks, 0, 1) == list(range(blocks))


@pytest.mark.parametrize(
    ("phases", "blocks", "shares"),
    [(1, 3, 7), (1, 40, 2), (1, 10_000, 2), (9, 10_000, 3), (400, 1, 2), (400, 2, 2), (40, 40, 5)],
)
def test_each_block_is_taken_once_and_no_phase_begins_before_the_last_one_is_finished(phases, blocks, shares):
    for _ in range(20):
        times, missing = take_together(phases, blocks, shares)
        assert np.array_equal(times, np.ones((phases, blocks)))
        assert missing == 0


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 4000])
def test_blocks_are_as_many_for_each_share_and_none_is_too_long(length, shares):
    blocks = number_of_blocks.py_func(length, 256, shares)
    parts = [share_of.py_func(length, block, blocks, 4) for block in range(blocks)]
    assert blocks % shares == 0
    assert [row for start, end in parts for row in range(start, end)] == list(range(length))
    assert all(end - start <= 256 for start, end in parts)
    assert blocks < shares + length / 256  # and none more than that takes
