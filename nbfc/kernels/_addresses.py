"""Calls of kernels by their addresses, from other kernels and from users' compiled code.

A function then holds a few instructions instead of a copy of each kernel that it calls.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.core.environment import Environment
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

from nbfc.kernels._cache import STAMP, KernelCache
from nbfc.kernels._compiling import Jobs

REALS = (types.float32, types.float64)
SLOTS = 256  # of a `Table`
_UNKNOWN = "nbfc: no such code in {} for {}: expected layers and parameters of one network and dtype, made here"


class ByAddress:
    """A kernel that compiled code calls by an address, which it looks up where the process keeps it.

    There is one address for float32 and one for float64. The code that looks it up may come from the disk, so the
    place is known to LLVM by name from the start, and is filled when such code is compiled or loaded: Numba keeps with
    a function's code the environments (Numba's word for what a function's Python objects are kept in) that its global
    variables are named after, so a variable named after a `_Loader` sees to it that the kernel is loaded.
    """

    def __init__(self, dispatcher: Any, types_for: Callable[[Any], Any], is_own: bool = False) -> None:
        self.dispatcher, self.is_own = dispatcher, is_own
        self.signature = cache(partial(_signature, types_for))  # for one of REALS
        self.in_tables: list[tuple[Any, int]] = []
        self._for = {real: _ForReal(self, real) for real in REALS}

    def compile(self, real: Any) -> None:
        """Compile the kernel and all that it calls, or load them, unless that was done or is being done."""
        self._for[real].compile()

    def ask(self, real: Any) -> None:
        """Let it be compiled before the next launch; a user's function at once, as there may be an error in it."""
        if self.is_own:
            self.compile(real)
        else:
            JOBS.add(self._for[real])

    def write_call(self, context: Any, builder: Any, real: Any, values: list[Any]) -> Any:
        """Write the instructions of a call."""
        self.compile(real)
        self.write_load(context, builder, real)
        place = global_of(builder, self._for[real].name, ir.IntType(64))
        return _write_call(context, builder, builder.load(place), self.signature(real), values)

    def write_load(self, context: Any, builder: Any, real: Any) -> None:
        """See to it that the kernel is loaded with the code that is being written."""
        context.declare_env_global(builder.module, self._for[real].loader.env_name)


class _ForReal:
    """A kernel for one of `REALS`: a job of `JOBS`."""

    def __init__(self, kernel: ByAddress, real: Any) -> None:
        self.kernel, self._real, self.is_own = kernel, real, kernel.is_own
        self.name = f"{kernel.dispatcher.__module__}.{kernel.dispatcher.__name__}.{real}"
        self.place, self._address = ctypes.c_int64(0), 0
        llvm.add_symbol(self.name, ctypes.addressof(self.place))
        self.loader = _Loader(self.name)
        _kernels[self.name] = self

    @property
    def is_published(self) -> bool:
        return self.place.value != 0

    @property
    def is_shared(self) -> bool:
        return isinstance(self.kernel.dispatcher._cache, KernelCache) and self.kernel.dispatcher._cache.is_enabled

    def compile(self) -> None:
        """See `ByAddress.compile`."""
        with global_compiler_lock:  # so that an error is raised in the thread that asked
            JOBS.add(self)
            if not JOBS.is_at_work:
                JOBS.finish()

    def run(self) -> None:
        dispatcher, signature = self.kernel.dispatcher, self.kernel.signature(self._real)
        dispatcher.compile(signature.args)
        result = dispatcher.overloads[signature.args]
        returned = types.unliteral(result.signature.return_type)
        if returned != signature.return_type:
            raise TypeError(f"{self.name} returns {returned}: expected {signature.return_type}")
        self._address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)

    def publish(self) -> None:
        self.place.value = self._address
        for slots, code in self.kernel.in_tables:
            slots[self._real][code] = self._address


_kernels: dict[str, _ForReal] = {}


def _find(name: str) -> _ForReal:
    """Return a kernel, of any module of this package, by its name."""
    import_module(name.rsplit(".", 2)[0])
    return _kernels[name]


JOBS = Jobs(_find)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=JOBS.forget_second)


def global_of(builder: Any, name: str, kind: Any) -> Any:
    """Return what LLVM knows by a name (see ``llvm.add_symbol``), for the code that is being written."""
    return builder.module.globals.get(name) or ir.GlobalVariable(builder.module, kind, name)


def _signature(types_for: Callable[[Any], Any], real: Any) -> Any:
    """Return a signature of what says one, or the types of the arguments of what returns nothing."""
    given = types_for(real)
    return given if isinstance(given, Signature) else types.none(*given)


def _write_call(context: Any, builder: Any, address: Any, signature: Any, values: list[Any]) -> Any:
    """Write a call of the function at an address."""
    convention, result, arguments = context.call_conv, signature.return_type, signature.args
    function = builder.inttoptr(address, convention.get_function_type(result, arguments).as_pointer())
    status, value = convention.call_function(builder, function, result, arguments, values)
    with builder.if_then(status.is_error, likely=False):
        convention.return_status_propagate(builder, status)
    return value


class Table:
    """Kernels of one signature that others call by a number, each compiled when it is first wanted.

    What one network uses then costs the others no time to compile, and users' own functions can stand beside it. `ask`
    comes before the first call of each, in every process, and then a launch or `JOBS.finish`.
    """

    def __init__(self, name: str, types_for: Callable[[Any], Any]) -> None:
        self._kernels: dict[int, ByAddress] = {}
        self._asked: set[tuple[int, Any]] = set()
        self._slots = {}
        for real in REALS:
            slots = (ctypes.c_int64 * SLOTS)()
            llvm.add_symbol(f"nbfc.{name}.{real}", ctypes.addressof(slots))
            self._slots[real] = slots

        @intrinsic
        def call(typingctx: Any, *given: Any) -> Any:
            real = _real_of(given)
            called = _signature(types_for, real)

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                code, *values = (builder.extract_value(args[0], index) for index in range(len(called.args) + 1))
                table = global_of(builder, f"nbfc.{name}.{real}", ir.ArrayType(ir.IntType(64), SLOTS))
                address = builder.load(builder.gep(table, [code.type(0), code], inbounds=True))
                with builder.if_then(builder.icmp_unsigned("==", address, address.type(0)), likely=False):
                    context.call_conv.return_user_exc(builder, ValueError, (_UNKNOWN.format(name, real),))
                return _write_call(context, builder, address, called, values)

            return called.return_type(types.StarArgTuple((types.intp, *called.args))), codegen

        @intrinsic
        def has(typingctx: Any, code: Any, given: Any) -> Any:
            real = _real_of((given,))

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                table = global_of(builder, f"nbfc.{name}.{real}", ir.ArrayType(ir.IntType(64), SLOTS))
                place = builder.and_(args[0], args[0].type(SLOTS - 1))
                found = builder.icmp_unsigned(
                    "!=", builder.load(builder.gep(table, [place.type(0), place])), place.type(0)
                )
                return builder.and_(builder.icmp_unsigned("<", args[0], args[0].type(SLOTS)), found)

            return types.boolean(types.intp, given), codegen

        self.call, self.has = call, has

    def add(self, code: int, kernel: ByAddress) -> None:
        """Give a number to a kernel."""
        self._kernels[code] = kernel
        kernel.in_tables.append((self._slots, code))

    def ask(self, code: int, dtype: Any) -> None:
        """Let a kernel be compiled for a dtype, or loaded from the disk; others than the table's need not be."""
        if code in self._kernels and (code, dtype) not in self._asked:
            self._kernels[code].ask(types.float32 if dtype == "float32" else types.float64)
            self._asked.add((code, dtype))

    def loader(self, code: int) -> Any:
        """Return what compiled code calls, with anything of a dtype, to be loaded together with a kernel."""

        @intrinsic
        def load(typingctx: Any, given: Any) -> Any:
            real = _real_of((given,))

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                if code in self._kernels:
                    self._kernels[code].compile(real)
                    self._kernels[code].write_load(context, builder, real)
                return context.get_dummy_value()

            return types.none(given), codegen

        return load


class Own:
    """Users' functions in a table, which have the codes from `first` on, in the order in which they come."""

    def __init__(self, first: int, enter: Callable[[int, Any], None]) -> None:
        self.first, self._enter = first, enter
        self._codes: dict[Any, int] = {}
        self._lock = threading.Lock()

    def code(self, function: Any) -> int | None:
        """Return a function's code in this process, or None for what Numba has not compiled.

        Raises
        ------
        ValueError
            If there are too many: codes are never given to others.
        """
        if not isinstance(function, Dispatcher):
            return None
        with self._lock:
            if function not in self._codes:
                code = self.first + len(self._codes)
                if code == SLOTS:
                    raise ValueError(f"there are {len(self._codes)} functions of your own already: expected fewer.")
                self._enter(code, function)
                self._codes[function] = code
            return self._codes[function]

    def functions(self) -> dict[int, Any]:
        """Return the functions by their codes."""
        with self._lock:
            return {code: function for function, code in self._codes.items()}


class _Loader(Environment):
    """What is kept with compiled code for each kernel that it calls by address. Unpickling it loads the kernel."""

    __slots__ = ("name",)

    def __new__(cls, name: str) -> Any:
        self = super().__new__(cls, globals())
        self.name, self.env_name = name, f"_ZN08NumbaEnv {name}"
        cls._memo[self.env_name] = self
        return self

    def __reduce__(self) -> Any:
        return _load, (self.name, STAMP)


def _load(name: str, stamp: str) -> Any:
    """Load a kernel, or compile it where it is not on disk."""
    if stamp != STAMP:
        # What Numba takes for a file that has gone: it compiles the calling function anew.
        raise OSError("nbfc is of another version than when the function that calls it was compiled")
    if name == _OF_SOURCES.name:
        return _OF_SOURCES
    kernel = _kernels[name]
    kernel.compile()
    return kernel.loader


_OF_SOURCES = _Loader("nbfc")


@intrinsic
def belongs_to_these_sources(typingctx: Any) -> Any:
    """See to it that a function which calls no kernel is compiled anew for another version of nbfc, too."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        context.declare_env_global(builder.module, _OF_SOURCES.env_name)
        return context.get_dummy_value()

    return types.none(), codegen


def by_address(dispatcher: Any, types_for: Callable[[Any], Any]) -> Any:
    """Return what calls a kernel in other kernels by its address."""
    kernel = ByAddress(dispatcher, types_for)

    @intrinsic
    def call(typingctx: Any, *given: Any) -> Any:
        real = _real_of(given)
        called = kernel.signature(real)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            values = [builder.extract_value(args[0], index) for index in range(len(called.args))]
            return kernel.write_call(context, builder, real, values)

        kernel.compile(real)
        return called.return_type(types.StarArgTuple(called.args)), codegen

    result: Any = call
    result.kernel = kernel
    return result


def _real_of(arguments: Any) -> Any:
    """Return the first type of floating-point numbers that a kernel's arguments have."""
    parts = (part for kind in arguments for part in getattr(kind, "types", [kind]))  # of tuples, too
    numbers = (getattr(part, "dtype", part) for part in parts)  # of arrays
    return next(number for number in numbers if number in REALS)
