"""The only place where Numba's options, caching and threading are chosen.

``kernel`` compiles a function on its first call, never at import, and keeps the machine code on disk. ``launch``
decides whether a call may use threads.
"""

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
from numba.core.cpu_options import ParallelOptions
from numba.extending import register_jitable
from numba.np.ufunc import parallel as numba_threads

from nbfc.kernels._addresses import JOBS, by_address
from nbfc.kernels._cache import KernelCache

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError(
        "nbfc is compiled by Numba, which NUMBA_DISABLE_JIT=1 turns off: expected it unset or 0. To run functions of "
        "your own in plain Python, take the decorator off those."
    )

# No nnan and no ninf: a loss that turns NaN or infinite has to be seen.
FASTMATH = {"nsz", "arcp", "contract", "afn"}

# Loops written with prange, and no others: Numba would also spread array assignments and the like over threads, where
# `launch` could not keep them from it. (An object, not the dict: Numba empties that at the first compile of a function,
# and the second would have every option on.)
PARALLEL = ParallelOptions(
    {
        "prange": True,
        "comprehension": False,
        "fusion": False,
        "inplace_binop": False,
        "numpy": False,
        "reduction": False,
        "setitem": False,
        "stencil": False,
    }
)

# Below this many floating-point operations of a training step, or what takes as long (see `work_of_product`), a kernel
# stays on the caller's thread. Measured on two cores near each other: a step of one million takes 8 to 10 µs on one
# thread and on two, one of 4 million 20 and 15, one of 10 million 38 and 25. It is no less, since where cores are far
# from each other 4 million take 20 and 26 to 40, and 10 million as long on one thread as on two; and where other
# processes keep a core busy a launch waits for the scheduler, for milliseconds.
SERIAL_BELOW = 10_000_000


def kernel(
    function: Callable[..., Any] | None = None,
    *,
    entry: bool = False,
    parallel: bool = False,
    reassociate: bool = False,
    within: bool = False,
    once: Callable[[Any], Any] | None = None,
) -> Any:
    """Compile `function` with this project's options when it is first called.

    The machine code is kept on disk, of what Python calls and of what others call by address: it holds the rest.

    The GIL is released while it runs. Other kernels may call it; or with `entry=True` Python, and no kernel.
    `parallel=True` makes its ``prange`` loops parallel, and is for Python alone. Numba takes seconds to compile them,
    which a small network never needs: the result's `serial` is the same kernel for one thread. `launch` chooses.
    `reassociate=True` lets sums be taken in another order, which a loop that sums into one number needs to be
    vectorised. It is not for all: the compiler then also undoes what is written against rounding, as in ``losses``.
    `within=True` writes it into each kernel that calls it, where a call takes a good part of its time.
    `once` gives the types of the arguments for float32 or float64, or the signature of what returns something: other
    kernels then call the function by its address (see `ByAddress`), where Numba would compile it again into each.
    """
    if function is None:
        return partial(kernel, entry=entry, parallel=parallel, reassociate=reassociate, within=within, once=once)
    fastmath = FASTMATH | ({"reassoc"} if reassociate else set())
    # error_model="numpy": the check for a division by zero would keep loops from being vectorised (9 times slower).
    loops: Any = PARALLEL if parallel else False
    options = {"parallel": loops, "fastmath": fastmath, "error_model": "numpy", "nogil": True}
    # What only compiled code calls needs no wrapper for Python: a tenth of the compile time.
    options |= {"no_cpython_wrapper": not (entry or parallel), "no_cfunc_wrapper": True}
    # Arrays stay with the caller, so nothing counts references to them (a third of a small step's time), and nothing
    # can be allocated: Numba would refuse to compile it.
    options["_nrt"] = False
    options["forceinline"] = within
    njit: Any = numba.njit
    dispatcher = njit(function, **options)
    if entry or parallel or once:
        form = "parallel" if parallel else "serial"
        dispatcher._cache = KernelCache(function, JOBS.missed, form)
    if parallel:
        dispatcher.serial = kernel(function, entry=True)
        for form in (dispatcher, dispatcher.serial):
            form.compile = partial(JOBS.get, form.compile)
            form._compiler.compile = partial(JOBS.compile, form._compiler.compile)
    return dispatcher if once is None else by_address(dispatcher, once)


def inlined(function: Callable[..., Any]) -> Any:
    """Write a small function out in the code of each kernel that calls it.

    One that returns a part of an array has to be: as nothing counts references, kernels cannot return arrays.
    """
    return numba.njit(function, inline="always")


# ---- threads --------------------------------------------------------------------------------------------------------

MOST_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]

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
    is with one and the kernel's serial form, for small work, in a forked child whose parent had threads, and while
    another Python thread is in a launch: Numba's ``workqueue`` layer aborts the process on concurrent launches, and the
    cores are taken anyway.
    """
    threads = 1 if load < SERIAL_BELOW or _in_forked_child else _number_of_threads()
    if threads > 1 and not _launching.acquire(False):
        threads = 1
    try:
        chosen = kernel if threads > 1 else kernel.serial
        if JOBS.unfinished:
            chosen.compile(tuple(chosen.typeof_pyval(value) for value in (*args, threads)))
            JOBS.finish()
        return chosen(*args, threads)
    finally:
        if threads > 1:
            _launching.release()
