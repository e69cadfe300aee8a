"""Whether a call of a kernel uses threads: not for small work, always for large, and between as its own times tell.

The bits are the same either way. Which way is faster depends on more than the work: two threads take 0.65 of the time
of one for a training step of five million operations where cores share a cache, 1.6 times as long where they are far
from each other, and more where another process keeps one of them busy. All that may change from one second to the next.
"""

import os
import threading
from math import inf
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
# Between trials 0 to so many calls in turn are not timed, as that takes 0.3 µs. Before the first trial, and after one
# that won, those that are take so many seconds together, 4.5 times that with the others where calls are short. After
# each trial that lost it is doubled, as what keeps cores busy is often over soon: up to so many seconds, or so many
# times what the trial took, and to a limit.
RESTS, SOON, PERIOD, TIMES, LONGEST = 7, 0.005, 0.1, 20, 5.0
DISTURBED = 0.0005  # the scheduler takes a core away for longer

_launching, _counting = threading.Lock(), threading.Lock()
_in_forked_child = False


def _after_fork() -> None:
    global _in_forked_child, _launching, _counting
    _launching, _counting = threading.Lock(), threading.Lock()  # another Python thread may have had them
    # GNU OpenMP ends a child process at its first launch when the parent had started its threads before the fork.
    _in_forked_child = _in_forked_child or numba_threads._is_initialized


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@register_jitable
def work_of_step(N: int, parameters: int) -> int:
    """Return the operations of a training step on N samples; to fetch a parameter takes as long as some on it."""
    return 6 * max(N, 8) * parameters


def work_of_product(N: int, m: int, n: int) -> int:
    """Return what a product of matrices (N, m) and (m, n), or the like, counts for in `launch`.

    An operation counts four times, and to fetch or write an entry takes as long as some six operations on it. Measured:
    a million operations take 6.4 µs on one thread and on two with AVX-512, and 10.3 and 8.4 with AVX2.
    """
    if N >= 4 and m >= 4 and n >= 4:  # the larger of the two, told in half the time
        return 8 * N * m * n
    return 26 * max(N * m, m * n, N * n)


class Choice:
    """Whether calls of a kernel use threads, for one dtype and loads from one power of two to the next.

    They do if that is faster, on the average, than calls on one thread are where nothing disturbs them. (Where two
    processes both use all cores, each is slower than it would be on one, but none gains by going there alone.) From
    time to time some calls are a trial of the other way.
    """

    def __init__(self, threaded: bool) -> None:
        self.threaded = threaded
        self._usual = 0.0  # seconds of a call the usual way, while calls are a trial of the other; else 0
        self._wait = SOON  # seconds of the usual way before the next trial
        self._begin(SOON)

    def _begin(self, limit: float, most: float = inf) -> None:
        """Count seconds and calls anew, until there are so many. The first is left out: it may have to wake threads."""
        self.rest = 1  # calls that are not to be timed
        self._calls, self._seconds, self._limit, self._most = 0, 0.0, limit, most
        self._least, self._calm, self._calm_seconds = inf, 0, 0.0

    def call(self, form: Any, args: tuple[Any, ...], threads: int) -> Any:
        """Call the kernel's form for this choice, and count how long it takes."""
        start = perf_counter()
        result = form(*args, threads)
        if not _counting.locked():  # neither by another Python thread, nor by this one before a signal's handler
            with _counting:
                self._count(perf_counter() - start)
        return result

    def _count(self, seconds: float) -> None:
        self._calls += 1
        self._seconds += seconds
        self._limit += self._usual  # a trial may take as long, and PATIENCE
        if seconds < 2 * self._least + DISTURBED:
            self._calm += 1
            self._calm_seconds += seconds
            self._least = min(self._least, seconds)
        if self._seconds > self._limit or self._calls >= self._most:
            if self._usual == 0:
                self._try_the_other_way()
            else:
                self._judge()
        elif self._usual == 0:
            self.rest = self._calls % (RESTS + 1)

    def _pace(self) -> float:
        return self._seconds / self._calls if self.threaded else self._calm_seconds / max(1, self._calm)

    def _try_the_other_way(self) -> None:
        self._usual = self._pace()
        self.threaded = not self.threaded
        self._begin(PATIENCE, int(TRIAL / self._usual) + 1)

    def _judge(self) -> None:
        if self._pace() < BETTER * self._usual:
            self._wait = SOON
        else:
            self.threaded = not self.threaded
            self._wait = min(2 * max(self._wait, self._seconds), max(PERIOD, TIMES * self._seconds), LONGEST)
        self._usual = 0.0
        self._begin(self._wait)


def _number_of_threads() -> int:
    """Return ``numba.get_num_threads()``, in 0.1 µs instead of 0.5: no locks are needed once there are threads."""
    if numba_threads._is_initialized:
        return numba_threads._get_num_threads()  # type: ignore[attr-defined, no-any-return]
    return numba.get_num_threads()


def launch(kernel: Any, load: int, *args: Any) -> Any:
    """Call ``kernel(*args, threads)``, with threads where they help and are safe; the bits are the same either way.

    Where it is not compiled, nor what networks, losses and optimizers have asked for, it comes first, as it leads to
    others (see ``_compiling``).

    Numba's thread count (``numba.set_num_threads``, ``NUMBA_NUM_THREADS``) says how many. The call stays serial, that
    is with one and the kernel's serial form, for small work, while that is faster (see `Choice`), in a forked child
    whose parent had threads, and while another Python thread is in a launch with threads: Numba's ``workqueue`` layer
    aborts the process on concurrent ones, and the cores are taken anyway.
    """
    choice, threads = None, 1
    if load >= UNSURE_FROM and not _in_forked_child:
        if load < SURE_FROM:
            choice = kernel.choices.get((load.bit_length(), args[0].itemsize)) or _new_choice(kernel, load, args)
        if choice is None or choice.threaded:
            threads = _number_of_threads()
            if threads == 1 or _launching.locked():
                choice, threads = None, 1
    if choice is not None and choice.rest > 0:
        choice.rest -= 1
        choice = None
    form = kernel if threads > 1 else kernel.serial
    if JOBS.unfinished:
        _compile(form, args)
    if threads == 1:
        return form(*args, 1) if choice is None else choice.call(form, args, 1)
    with _launching:
        return form(*args, threads) if choice is None else choice.call(form, args, threads)


def _new_choice(kernel: Any, load: int, args: tuple[Any, ...]) -> Choice | None:
    """Return a choice for such calls, if there are threads. Both forms are compiled now, not in the midst of work."""
    if _number_of_threads() == 1:
        return None
    for form in (kernel, kernel.serial):
        _compile(form, args)
    choice = kernel.choices[load.bit_length(), args[0].itemsize] = Choice(load >= LIKELY_FROM)
    return choice


def _compile(form: Any, args: tuple[Any, ...]) -> None:
    form.compile(tuple(form.typeof_pyval(value) for value in (*args, 1)))
    JOBS.finish()
