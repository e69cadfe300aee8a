"""Calls of kernels by their addresses, from other kernels and from users' compiled code.

A function then holds a few instructions instead of a copy of each kernel that it calls.
"""

import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.core.environment import Environment
from numba.extending import intrinsic

from nbfc.kernels._cache import STAMP

REALS = (types.float32, types.float64)
SLOTS = 256  # of a `Table`


class ByAddress:
    """A kernel that compiled code calls by an address, which it looks up where the process keeps it.

    There is one address for float32 and one for float64. The code that looks it up may come from the disk, so the
    place is known to LLVM by name from the start, and is filled when such code is compiled or loaded: Numba keeps with
    a function's code the environments (Numba's word for what a function's Python objects are kept in) that its global
    variables are named after, so a variable named after a `_Loader` sees to it that the kernel is loaded.
    """

    def __init__(self, dispatcher: Any, argument_types: Callable[[Any], tuple[Any, ...]]) -> None:
        self.dispatcher, self.argument_types = dispatcher, argument_types
        self.in_tables: list[tuple[Any, int]] = []
        self._places, self._loaders = {}, {}
        for real in REALS:
            name = f"{dispatcher.__module__}.{dispatcher.__name__}.{real}"
            self._places[real] = name, ctypes.c_int64(0)
            llvm.add_symbol(name, ctypes.addressof(self._places[real][1]))
            self._loaders[real] = _Loader(name)
            _kernels[name] = self, real

    def compiled(self, real: Any) -> Any:
        """Return the compiled kernel, and see to it that its address can be looked up."""
        arguments = self.argument_types(real)
        with _no_garbage_collection():
            self.dispatcher.compile(arguments)
        result = self.dispatcher.overloads[arguments]
        address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        self._places[real][1].value = address
        for slots, code in self.in_tables:
            slots[real][code] = address
        return result

    def write_call(self, context: Any, builder: Any, real: Any, values: list[Any]) -> Any:
        """Write the instructions of a call."""
        self.write_load(context, builder, real)
        place = _global(builder, self._places[real][0], ir.IntType(64))
        arguments, result = self.argument_types(real), self.compiled(real).signature.return_type
        return _write_call(context, builder, builder.load(place), result, arguments, values)

    def write_load(self, context: Any, builder: Any, real: Any) -> None:
        """See to it that the kernel is loaded with the code that is being written."""
        context.declare_env_global(builder.module, self._loaders[real].env_name)


_kernels: dict[str, tuple[ByAddress, Any]] = {}


def _global(builder: Any, name: str, kind: Any) -> Any:
    return builder.module.globals.get(name) or ir.GlobalVariable(builder.module, kind, name)


def _write_call(context: Any, builder: Any, address: Any, result: Any, arguments: Any, values: list[Any]) -> Any:
    """Write a call of the function at an address."""
    convention = context.call_conv
    function = builder.inttoptr(address, convention.get_function_type(result, arguments).as_pointer())
    status, value = convention.call_function(builder, function, result, arguments, values)
    with builder.if_then(status.is_error, likely=False):
        convention.return_status_propagate(builder, status)
    return value


class Table:
    """Kernels of one signature that others call by a number, each compiled when it is first wanted.

    What few networks use then costs the others no time to compile, and users' own functions can stand beside it.
    `load` comes before the first call of each, in every process.
    """

    def __init__(self, name: str, argument_types: Callable[[Any], tuple[Any, ...]], result: Any = None) -> None:
        self._kernels: dict[int, ByAddress] = {}
        self._slots = {}
        for real in REALS:
            slots = (ctypes.c_int64 * SLOTS)()
            llvm.add_symbol(f"nbfc.{name}.{real}", ctypes.addressof(slots))
            self._slots[real] = slots

        @intrinsic
        def call(typingctx: Any, *given: Any) -> Any:
            real = _real_of(given)
            arguments, kind = argument_types(real), types.none if result is None else result(real)

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                code, *values = (builder.extract_value(args[0], index) for index in range(len(arguments) + 1))
                table = _global(builder, f"nbfc.{name}.{real}", ir.ArrayType(ir.IntType(64), SLOTS))
                address = builder.load(builder.gep(table, [code.type(0), code], inbounds=True))
                with builder.if_then(builder.icmp_unsigned("==", address, address.type(0)), likely=False):
                    context.call_conv.return_user_exc(builder, SystemError, (f"nbfc: unknown code in {name}",))
                return _write_call(context, builder, address, kind, arguments, values)

            return kind(types.StarArgTuple((types.intp, *arguments))), codegen

        @intrinsic
        def has(typingctx: Any, code: Any, given: Any) -> Any:
            real = _real_of((given,))

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                table = _global(builder, f"nbfc.{name}.{real}", ir.ArrayType(ir.IntType(64), SLOTS))
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

    def load(self, code: int, dtype: Any) -> None:
        """Compile a kernel for a dtype, or load it from the disk; others than the table's need none."""
        if code in self._kernels:
            real = types.float32 if dtype == "float32" else types.float64
            if not self._slots[real][code]:
                self._kernels[code].compiled(real)

    def loader(self, code: int) -> Any:
        """Return what compiled code calls, with anything of a dtype, to be loaded together with a kernel."""

        @intrinsic
        def load(typingctx: Any, given: Any) -> Any:
            real = _real_of((given,))

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                if code in self._kernels:
                    self._kernels[code].compiled(real)
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
    kernel, real = _kernels[name]
    kernel.compiled(real)
    return kernel._loaders[real]


_OF_SOURCES = _Loader("nbfc")


@intrinsic
def belongs_to_these_sources(typingctx: Any) -> Any:
    """See to it that a function which calls no kernel is compiled anew for another version of nbfc, too."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        context.declare_env_global(builder.module, _OF_SOURCES.env_name)
        return context.get_dummy_value()

    return types.none(), codegen


def by_address(dispatcher: Any, argument_types: Callable[[Any], tuple[Any, ...]]) -> Any:
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

    result: Any = call
    result.kernel = kernel
    return result


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
    parts = (part for kind in arguments for part in getattr(kind, "types", [kind]))  # of tuples, too
    numbers = (getattr(part, "dtype", part) for part in parts)  # of arrays
    return next(number for number in numbers if number in REALS)
