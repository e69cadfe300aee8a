"""Arrays from users, checked and brought into the one form that the kernels take.

Layout, byte order and writability are part of an array's type to Numba, and each type would be a compile of its own.
So whatever comes is made C-contiguous, aligned, in native byte order and of the kernels' dtype; what is so already
passes without a copy.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

REALS = (np.dtype(np.float32), np.dtype(np.float64))

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


def dtype_of(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return `dtype` as float32 or float64; raise a ValueError for any other."""
    try:
        result = None if dtype is None else np.dtype(dtype).newbyteorder("=")
    except TypeError:
        result = None
    if result not in (np.float32, np.float64):
        raise ValueError(f"dtype is {dtype!r}: expected 'float32' or 'float64'.")
    return np.dtype(result.type)  # NumPy's own object, as `is_normal` looks for


def alike(names: str, *arrays: Any) -> Sequence[Array]:
    """Return arrays as the kernels take them, all of one dtype: float32 if that holds all floats, else float64.

    Integers take the dtype of the floating-point arrays beside them, or float64 where there are none, as in NumPy.
    `names`, with spaces between, are for errors.
    """
    dtype = arrays[0].dtype if type(arrays[0]) is np.ndarray else None
    if dtype is REALS[0] or dtype is REALS[1]:
        for array in arrays:
            if type(array) is not np.ndarray or array.dtype is not dtype or not array.flags.carray:
                break
        else:
            return arrays  # as nearly always
    checked = [numbers(name, array) for name, array in zip(names.split(), arrays, strict=True)]
    floats = [array.dtype for array in checked if array.dtype.kind == "f"]
    narrow = bool(floats) and all(dtype.itemsize <= 4 for dtype in floats)
    return [normal(array, np.float32 if narrow else np.float64) for array in checked]


def numbers(name: str, array: Any) -> Array:
    """Return `array` as an ndarray of booleans, integers or floats; raise a TypeError for anything else.

    Objects are taken where each is a number, as in a data frame that has columns of floats and of booleans.
    """
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise TypeError(f"{name} has masked entries: expected numbers everywhere, such as {name}.filled(0).")
    try:
        result = np.asarray(array)
        if result.dtype.kind == "O" and result.ndim > 0:
            for value in result.flat:
                if value is None or isinstance(value, str | bytes):  # of which NumPy would make numbers
                    raise TypeError(f"one of its entries is {value!r}")
            result = result.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name} is no array of real numbers: {error}.") from None
    if result.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {result.dtype}: expected real numbers (floats, integers or booleans).")
    return result


def is_normal(array: Any, dtype: np.dtype[Any], columns: int) -> bool:
    """Return whether `array` has the form that the kernels take, one row a sample, with so many columns.

    It asks in a quarter of a microsecond what other checks take several to find out, which a small step would notice.
    """
    return (
        type(array) is np.ndarray
        and array.dtype is dtype
        and array.flags.carray
        and array.ndim == 2
        and array.shape[1] == columns
    )


def normal(array: Array, dtype: npt.DTypeLike) -> Array:
    """Return `array`, of numbers, in the form that the kernels take; a copy only where it is in another."""
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:
        return array
    with np.errstate(over="ignore"):  # too large for float32: it becomes infinite, and `check_finite` says so
        result = np.require(array, dtype, ["C", "A"])
    if result.flags.writeable:
        return result
    # A read-only array is another type to Numba. No kernel writes its inputs, so they may as well take it as writable;
    # a copy would read a memory-mapped file of any size into memory.
    return np.asarray(_Writable(result))


class _Writable:
    """The same memory, said to be writable, through NumPy's array interface; it keeps the array alive."""

    def __init__(self, array: Array) -> None:
        self.array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def check_shape(name: str, array: Array, shape: tuple[int | str, ...], why: str) -> None:
    """Raise a ValueError unless `array` has `shape`, in which a word stands for any length.

    It takes as long as a small product does: where that matters, callers compare first, and come here for the error.
    """
    fits = array.ndim == len(shape) and all(
        isinstance(want, str) or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ValueError(f"{name} has shape {array.shape}: expected ({expected}), because {why}.")


def check_rows(X: Array, y: Array, name: str = "X") -> None:
    """Raise a ValueError unless there are as many targets as samples."""
    if len(X) != len(y):
        raise ValueError(f"{name} has {len(X)} rows and y has {len(y)}: expected one target for each sample.")


def check_finite(name: str, array: Array, original: Any = None) -> None:
    """Raise a ValueError that names the first entry of `array` that is NaN or infinite, as it stood in `original`."""
    finite = np.isfinite(array)
    if finite.all():
        return
    where = tuple(int(index) for index in np.argwhere(~finite)[0])
    value = np.asarray(array if original is None else original)[where]
    place = f"[{', '.join(map(str, where))}]"
    reason = f", which does not fit in {array.dtype}" if np.isfinite(value) else ""
    raise ValueError(f"{name}{place} is {value}{reason}: expected finite numbers only.")


def output(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], names: str, *inputs: Array) -> Array:
    """Return `out` if a kernel can write its result there, or a new array; no input may share memory with it.

    `names`, with spaces between, are the inputs', for errors.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}: expected a NumPy array to write the result into.")
    flags = out.flags
    if out.shape != shape or out.dtype != dtype or not flags.carray:
        layout = "" if flags.carray else ", read-only, unaligned or not C-contiguous"
        raise ValueError(
            f"out has shape {out.shape} and dtype {out.dtype}{layout}: expected a writable C-contiguous array of "
            f"shape {shape} and dtype {dtype}, because the result is written into it as it is."
        )
    own = flags.owndata
    for number, array in enumerate(inputs):
        if array is out or (not (own and array.flags.owndata) and np.may_share_memory(out, array)):
            name = names.split()[number]
            raise ValueError(f"out shares memory with {name}, which would be overwritten while it is read.")
    return out


def aligned_zeros(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that start at a multiple of 64 bytes."""
    return _aligned(np.zeros, shape, dtype)


def aligned_empty(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an array without values that starts at a multiple of 64 bytes."""
    return _aligned(np.empty, shape, dtype)


def aligned_copy(array: Array) -> Array:
    """Return a copy that starts at a multiple of 64 bytes."""
    copy = aligned_empty(array.shape, array.dtype)
    copy[:] = array
    return copy


def _aligned(make: Callable[..., Array], shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = int(np.prod(shape))
    memory = make(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size * dtype.itemsize].view(dtype).reshape(shape)
