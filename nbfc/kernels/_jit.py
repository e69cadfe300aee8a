"""The only place where Numba's options, caching and threading are chosen.

``kernel`` compiles a function on its first call, never at import, and keeps the machine code on disk. ``launch``
calls a parallel kernel and decides whether it may use threads.
"""

import ctypes
import gc
import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core.caching import FunctionCache
from numba.core.cpu_options import ParallelOptions
from numba.core.environment import Environment
from numba.extending import intrinsic
from numba.np.ufunc import parallel as numba_threads

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
# stays on the caller's thread. Measured on two cores: a step of one million takes 23 µs on one thread and 35 on two, a
# step of 19 million 160 and 130. And where other processes keep a core busy, each launch waits for the scheduler, which
# made steps of 4 million 50 times slower.
SERIAL_BELOW = 10_000_000


def kernel(
    function: Callable[..., Any] | None = None,
    *,
    entry: bool = False,
    parallel: bool = False,
    reassociate: bool = False,
    once: Callable[[Any], tuple[Any, ...]] | None = None,
) -> Any:
    """Compile `function` with this project's options when it is first called, and cache the machine code on disk.

    The GIL is released while it runs. Other kernels may call it, and Python too with `entry=True`.
    `parallel=True` makes its ``prange`` loops parallel; call it from Python, and for many threads through `launch`.
    `reassociate=True` lets sums be taken in another order, which a loop that sums into one number needs to be
    vectorised. It is not for all: the compiler then also undoes what is written against rounding, as in ``losses``.
    `once` gives the types of the arguments for float32 or float64: other kernels then call the function by its address
    (see `ByAddress`), where Numba would compile it again into each of them.
    """
    if function is None:
        return partial(kernel, entry=entry, parallel=parallel, reassociate=reassociate, once=once)
    fastmath = FASTMATH | ({"reassoc"} if reassociate else set())
    # error_model="numpy": the check for a division by zero would keep loops from being vectorised (9 times slower).
    loops: Any = PARALLEL if parallel else False
    options = {"parallel": loops, "fastmath": fastmath, "error_model": "numpy", "nogil": True}
    # What only compiled code calls needs no wrapper for Python: a tenth of the compile time.
    options |= {"no_cpython_wrapper": not (entry or parallel), "no_cfunc_wrapper": True}
    # Arrays stay with the caller, so nothing counts references to them (a third of a small step's time), and nothing
    # can be allocated: Numba would refuse to compile it.
    options["_nrt"] = False
    njit: Any = numba.njit
    dispatcher = njit(function, **options)
    try:
        dispatcher._cache = KernelCache(function)
    except (OSError, RuntimeError) as error:  # RuntimeError: Numba found no folder that it may write to
        _warn_once(f"no compiled code is kept on disk, so each process compiles anew ({error})")
    return dispatcher if once is None else _by_address(dispatcher, once)


def inlined(function: Callable[..., Any]) -> Any:
    """Write a small function out in the code of each kernel that calls it.

    One that returns a part of an array has to be: as nothing counts references, kernels cannot return arrays.
    """
    return numba.njit(function, inline="always")


REALS = (types.float32, types.float64)

# ---- calls by address -----------------------------------------------------------------------------------------------


class ByAddress:
    """A kernel that compiled code calls by an address, which it looks up where the process keeps it.

    There is one address for float32 and one for float64. The code that looks it up may come from the disk, so the
    place is known to LLVM by name from the start, and is filled when such code is compiled or loaded: Numba keeps with
    a function's code the environments (Numba's word for what a function's Python objects are kept in) that its global
    variables are named after, so a variable named after a `_Loader` sees to it that the kernel is loaded.
    """

    def __init__(self, dispatcher: Any, argument_types: Callable[[Any], tuple[Any, ...]]) -> None:
        self.dispatcher, self.argument_types = dispatcher, argument_types
        self._places, self._loaders = {}, {}
        for real in REALS:
            name = f"{dispatcher.__module__}.{dispatcher.__name__}.{real}"
            self._places[real] = name, ctypes.c_int64(0)
            llvm.add_symbol(name, ctypes.addressof(self._places[real][1]))
            form = [(str(kind), getattr(kind, "fields", ())) for kind in argument_types(real)]
            self._loaders[real] = _Loader(name, hashlib.sha256(repr(form).encode()).hexdigest())
            _kernels[name] = self, real

    def compiled(self, real: Any) -> Any:
        """Return the compiled kernel, and see to it that its address can be looked up."""
        arguments = self.argument_types(real)
        with _no_garbage_collection():
            self.dispatcher.compile(arguments)
        result = self.dispatcher.overloads[arguments]
        self._places[real][1].value = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        return result

    def write_call(self, context: Any, builder: Any, real: Any, values: list[Any]) -> Any:
        """Write the instructions of a call."""
        convention, integer, name = context.call_conv, ir.IntType(64), self._places[real][0]
        context.declare_env_global(builder.module, self._loaders[real].env_name)
        place = builder.module.globals.get(name) or ir.GlobalVariable(builder.module, integer, name)
        arguments, result = self.argument_types(real), self.compiled(real).signature.return_type
        kind = convention.get_function_type(result, arguments)
        function = builder.inttoptr(builder.load(place), kind.as_pointer())
        status, value = convention.call_function(builder, function, result, arguments, values)
        with builder.if_then(status.is_error, likely=False):
            convention.return_status_propagate(builder, status)
        return value


_kernels: dict[str, tuple[ByAddress, Any]] = {}


class _Loader(Environment):
    """What is kept with compiled code for each kernel that it calls by address. Unpickling it loads the kernel."""

    __slots__ = ("form", "kernel")

    def __new__(cls, kernel: str, form: str) -> Any:
        self = super().__new__(cls, globals())
        self.kernel, self.form, self.env_name = kernel, form, f"_ZN08NumbaEnv {kernel}"
        cls._memo[self.env_name] = self
        return self

    def __reduce__(self) -> Any:
        return _load, (self.kernel, self.form)


def _load(name: str, form: str) -> Any:
    """Load a kernel, or compile it where it is not on disk."""
    kernel, real = _kernels.get(name, (None, REALS[0]))
    if kernel is None or kernel._loaders[real].form != form:
        # What Numba takes for a file that has gone: it compiles the calling function anew.
        raise OSError(f"{name} takes other arguments than when the function that calls it was compiled")
    kernel.compiled(real)
    return kernel._loaders[real]


def _by_address(dispatcher: Any, argument_types: Callable[[Any], tuple[Any, ...]]) -> Any:
    """Return what calls a kernel in other kernels by its address."""
    kernel = ByAddress(dispatcher, argument_types)

    @intrinsic
    def call(typingctx: Any, *given: Any) -> Any:
        real = _real_of(given)
        arguments = argument_types(real)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = [builder.extract_value(args[0], index) for index in range(len(arguments))]
            return kernel.write_call(context, builder, real, values)

        return kernel.compiled(real).signature.return_type(types.StarArgTuple(arguments)), codegen

    by_address: Any = call
    by_address.kernel = kernel
    return by_address


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Compile without it: it would look through the compiler's many objects again and again, a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _real_of(arguments: Any) -> Any:
    """Return the first type of floating-point numbers that a kernel's arguments have."""
    for argument in arguments:
        parts = getattr(argument, "types", [getattr(argument, "dtype", argument)])  # of a tuple, or of an array
        for part in parts:
            if part in REALS:
                return part
    return None


# ---- the cache ------------------------------------------------------------------------------------------------------


def _stamp_of_sources() -> str:
    """Return a digest of every source file that is compiled, and of what turns them into machine code."""
    digest = hashlib.sha256(llvmlite.__version__.encode())
    folder = Path(__file__).parent
    for path in sorted([*folder.glob("*.py"), *folder.parent.glob("jit/*.py")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


_STAMP = _stamp_of_sources()


class KernelCache(FunctionCache):
    """Numba's cache of a function, made safe.

    Numba looks only at the file in which a function stands. Its machine code holds the functions that it calls as
    well, so an edit (or an upgrade) of *their* files would leave stale code in use. Here an entry is valid only for
    the very sources of the whole ``kernels`` package. And where Numba raises on a damaged or unwritable cache file,
    this compiles anew and says so once.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = (self._cache_file._source_stamp, _STAMP)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle raises nearly anything
            _warn_once(f"compiled code on disk could not be read, compiling anew ({error!r})")
            try:
                self.flush()  # a damaged index would keep the new code from being saved as well
            except OSError:
                self.disable()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            _warn_once(f"compiled code could not be kept on disk, so each process compiles anew ({error})")


_warned = False


def _warn_once(what: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"nbfc: {what}. NUMBA_CACHE_DIR names a folder to keep it in.", RuntimeWarning, stacklevel=3)


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


def work_of_product(N: int, m: int, n: int) -> int:
    """Return what a product of matrices (N, m) and (m, n), or the like, counts for in `launch`.

    An operation counts eight times what it does in a training step, whose threads have to exchange what they made; and
    to fetch or write an entry takes as long as some eight operations on it. Measured: 1.2 million operations take 14 µs
    on one thread and 12 on two, twice as many 27 and 18.
    """
    return max(16 * N * m * n, 64 * max(N * m, m * n, N * n))


def launch(kernel: Callable[..., Any], load: float, *args: Any) -> Any:
    """Call ``kernel(*args, threads)``, with threads where they help and are safe; the bits are the same either way.

    Numba's thread count (``numba.set_num_threads``, ``NUMBA_NUM_THREADS``) says how many. The call stays serial, that
    is with one, for small work, in a forked child whose parent had threads, and while another Python thread is in a
    launch: Numba's ``workqueue`` layer aborts the process on concurrent launches, and the cores are taken anyway.
    """
    if load < SERIAL_BELOW or _in_forked_child or not _launching.acquire(blocking=False):
        return kernel(*args, 1)
    try:
        return kernel(*args, numba.get_num_threads())
    finally:
        _launching.release()
