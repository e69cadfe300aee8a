"""Whether a call of a kernel uses threads: not for small work, always for large, and between as its own times tell.

The bits are the same either way. Which way is faster depends on more than the work: two threads take 0.65 of the time
of one for a training step of five million operations where cores share a cache, 1.6 times as long where they are far
from each other, and more where another process keeps one of them busy. All that may change from one second to the next.
"""

import os
import threading
from math import log2
from time import perf_counter
from typing import Any

import numba
from numba.extending import register_jitable
from numba.np.ufunc import parallel as numba_threads

from nbfc.kernels._addresses import JOBS

MOST_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]

# The floating-point operations of a training step, or what takes as long (see `work_of_product`), from which on threads
# may be faster, are used before anything is known, and are always used. Measured on one thread and on two: a step of
# one million takes 8 to 10 µs on both, one of 4 million 20 and 15, one of 10 million 38 and 25. On cores far from each
# other 4 million take 20 and 26 to 40, 10 million the same time. Where another process keeps a core busy, 180 million
# take 550 and 800 to 1200 µs, 5 billion the same time. (The second also cuts batches, and bits depend on it: see
# ``workspace``.)
UNSURE_FROM, LIKELY_FROM, SURE_FROM = 3_000_000, 10_000_000, 2_000_000_000

# A trial of the other way ends when it has lost so many seconds, which is enough to wake threads, or has gone on for so
# many: enough to see whether another process wants the core. It wins if it took less than so much of the time.
PATIENCE, TRIAL, BETTER = 0.00025, 0.02, 0.97
# Between trials 0 calls to so many, in turn, are not timed, as that takes 0.3 µs. Those that are take so many seconds
# together before the next trial, or as long as a trial after one that won: with the others 4.5 times that.
RESTS, PERIOD = 8, 0.1

_launching = threading.Lock()
_in_forked_child = False


def _after_fork() -> None:
    # GNU OpenMP ends a child process at its first launch when the parent had started its threads before the fork.
    global _in_forked_child
    _in_forked_child = _in_forked_child or numba_threads._is_initialized


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@register_jitable
def work_of_step(N: int, parameters: int) -> int:
    """Return the operations of a training step on N samples; to fetch a parameter takes as long as some on it."""
    return 6 * max(N, 8) * parameters


def work_of_product(N: int, m: int, n: int) -> int:
    """Return what a product of matrices (N, m) and (m, n), or the like, counts for in `launch`.

    An operation counts ten times what it does in a training step, whose threads have to exchange what they made; and to
    fetch or write an entry takes as long as some six operations on it. Measured: a million operations take 6.4 µs on
    one thread and on two with AVX-512, and 10.3 and 8.4 with AVX2.
    """
    if N >= 4 and m >= 4 and n >= 4:  # the larger of the two, told in half the time
        return 20 * N * m * n
    return 64 * max(N * m, m * n, N * n)


class Choice:
    """Whether calls of a kernel with nearly the same load use threads.

    They do if they were faster so, on the average, than calls on one thread that nothing disturbed. (Where two
    processes use all cores, each is slower than on one, and would be still if it alone went there.) From time to time
    some calls are a trial of the other way.
    """

    def __init__(self, threaded: bool) -> None:
        self.threaded = threaded
        self.rest = 1  # calls that are not to be timed, such as the first
        self._usual = 0.0  # seconds of a call the usual way, while calls are a trial of the other
        self._begin(TRIAL / 4)

    def _begin(self, limit: float, most: int = -1) -> None:
        """Count calls and seconds anew, until there are so many."""
        self._calls, self._seconds, self._limit, self._most = 0, 0.0, limit, most
        self._least, self._calm, self._calm_seconds = 1e9, 0, 0.0

    def add(self, seconds: float) -> None:
        """Hear how long a call took."""
        self._calls += 1
        self._seconds += seconds
        self._limit += self._usual
        if seconds < 2 * self._least:  # the scheduler takes longer
            self._calm += 1
            self._calm_seconds += seconds
            self._least = min(self._least, seconds)
        if self._seconds > self._limit or self._calls == self._most:
            if self._usual == 0:
                self._try_the_other_way()
            else:
                self._judge()
        elif self._usual == 0:
            self.rest = self._calls % RESTS

    def _pace(self) -> float:
        return self._seconds / self._calls if self.threaded else self._calm_seconds / self._calm

    def _try_the_other_way(self) -> None:
        self._usual = self._pace()
        self.threaded = not self.threaded
        self._begin(PATIENCE, int(TRIAL / self._usual) + 1)

    def _judge(self) -> None:
        has_won = self._pace() < BETTER * self._usual
        if not has_won:
            self.threaded = not self.threaded
        self._usual = 0.0
        self._begin(TRIAL if has_won else PERIOD)


def _number_of_threads() -> int:
    """Return ``numba.get_num_threads()``, in 0.1 µs instead of 0.5: no locks are needed once there are threads."""
    if numba_threads._is_initialized:
        return numba_threads._get_num_threads()  # type: ignore[attr-defined, no-any-return]
    return numba.get_num_threads()


def launch(kernel: Any, load: float, *args: Any) -> Any:
    """Call ``kernel(*args, threads)``, with threads where they help and are safe; the bits are the same either way.

    Where it is not compiled, nor what networks, losses and optimizers have asked for, it comes first, as it leads to
    others (see ``_compiling``).

    Numba's thread count (``numba.set_num_threads``, ``NUMBA_NUM_THREADS``) says how many. The call stays serial, that
    is with one and the kernel's serial form, for small work, while calls were faster so (see `Choice`), in a forked
    child whose parent had threads, and while another Python thread is in a launch that may have some: Numba's
    ``workqueue`` layer aborts the process on concurrent launches, and the cores are taken anyway.
    """
    if load < UNSURE_FROM or MOST_THREADS == 1 or _in_forked_child or not _launching.acquire(False):
        if JOBS.unfinished:
            _compile(kernel.serial, args)
        return kernel.serial(*args, 1)
    try:
        choice = (kernel.choices.get(load) or _choice_for(kernel, load, args)) if load < SURE_FROM else None
        threads = _number_of_threads() if choice is None or choice.threaded else 1
        chosen = kernel if threads > 1 else kernel.serial
        if JOBS.unfinished:
            _compile(chosen, args)
        if choice is None:
            return chosen(*args, threads)
        if choice.rest:
            choice.rest -= 1
            return chosen(*args, threads)
        start = perf_counter()
        result = chosen(*args, threads)
        choice.add(perf_counter() - start)
        return result
    finally:
        _launching.release()


def _choice_for(kernel: Any, load: float, args: tuple[Any, ...]) -> Choice:
    """Return the choice for loads near this one. For a new one both forms are compiled, not in the midst of work."""
    if len(kernel.choices) > 1000:
        kernel.choices.clear()
    part_of_octave = int(8 * log2(load))  # no load is as small as these
    choice: Choice | None = kernel.choices.get(part_of_octave)
    if choice is None:
        for form in (kernel, kernel.serial):
            _compile(form, args)
        choice = kernel.choices[part_of_octave] = Choice(load >= LIKELY_FROM)
    kernel.choices[load] = choice
    return choice


def _compile(form: Any, args: tuple[Any, ...]) -> None:
    form.compile(tuple(form.typeof_pyval(value) for value in (*args, 1)))
    JOBS.finish()
