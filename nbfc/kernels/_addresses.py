"""Calls of kernels by their addresses, from other kernels and from users' compiled code.

A function then holds a few instructions instead of a copy of each kernel that it calls.
"""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core.environment import Environment
from numba.extending import intrinsic

from nbfc.kernels._cache import STAMP

REALS = (types.float32, types.float64)


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
            self._loaders[real] = _Loader(name)
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
    parts = (getattr(kind, "types", [getattr(kind, "dtype", kind)]) for kind in arguments)  # of a tuple, or of an array
    return next(part for several in parts for part in several if part in REALS)
