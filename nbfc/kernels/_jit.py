"""The only place where Numba's options and caching are chosen.

``kernel`` compiles a function on its first call, never at import, and keeps the machine code on disk.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
from numba.core.cpu_options import ParallelOptions

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
    `parallel=True` makes its ``prange`` loops parallel, and is for Python alone. Threads start when they are compiled,
    which a small network never needs: the result's `serial` is the same kernel for one thread. ``_threads`` chooses.
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
        dispatcher.serial, dispatcher.choices = kernel(function, entry=True), {}  # see ``_threads``
        for form in (dispatcher, dispatcher.serial):
            form.compile = partial(JOBS.get, form.compile)
            form._compiler.compile = partial(JOBS.compile, form._compiler.compile)
    return dispatcher if once is None else by_address(dispatcher, once)


def inlined(function: Callable[..., Any]) -> Any:
    """Write a small function out in the code of each kernel that calls it.

    One that returns a part of an array has to be: as nothing counts references, kernels cannot return arrays.
    """
    return numba.njit(function, inline="always")
