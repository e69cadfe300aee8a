"""Compiled code on disk: valid for the very sources that it was made of, and never the end of a program."""

import hashlib
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache, _Cache


def _stamp_of_sources() -> str:
    """Return a digest of every source file that is compiled, and of what turns them into machine code."""
    digest = hashlib.sha256(llvmlite.__version__.encode())
    package = Path(__file__).parents[1]
    for path in sorted([*package.glob("kernels/*.py"), *package.glob("jit/*.py"), *package.glob("losses/*.py")]):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


STAMP = _stamp_of_sources()


class _Files(IndexDataCacheFile):
    """Numba's files of a function, in which two processes that write at once do no harm.

    Numba numbers the files with code by what it finds in the index: both processes could take one number for two
    types. Here the number says which types they are.
    """

    def save(self, key: Any, data: Any) -> None:
        name = self._data_name(int(hashlib.sha256(repr(key).encode()).hexdigest()[:12], 16))
        self._save_data(name, data)  # before the index, which would say that old code is new
        self._save_index({**self._load_index(), key: name})


class _Kept(FunctionCache):
    """Numba's cache of a function, valid for the very sources that are compiled.

    Numba looks only at the file in which a function stands. Its machine code holds the functions that it calls as
    well, so an edit (or an upgrade) of *their* files would leave stale code in use.
    """

    def __init__(self, function: Callable[..., Any], form: str, allocates: bool) -> None:
        super().__init__(function)
        self._form, self._allocates = form, allocates
        stamp = self._cache_file._source_stamp, STAMP
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load compiled code, without what Numba prepares for compiling: a third of a program's first second."""
        if self._allocates:
            target_context.refresh()  # which starts Numba's memory management
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Tell functions that stand at one place apart by their names, and two forms of one function.

        Numba would pickle what they close over, and what it has compiled pickles differently in each process.
        """
        return sig, codegen.magic_tuple(), (self._py_func.__qualname__, self._py_func.__name__, self._form)

    def _save_overload(self, sig: Any, data: Any) -> None:
        """Save compiled code, but for what is there for compiling it into others, as there are none.

        That is two thirds of the file, and to read it takes a third of the time to load a kernel. Left are names, by
        which Numba knows that the code is there. (From here on this process has no such copy either.)
        """
        names = [function.name for function in data.library.get_defined_functions()]
        stubs = "\n".join(f'define void @"{name}"() {{ ret void }}' for name in names)
        data.library._shared_module = llvm.parse_assembly(stubs)
        super()._save_overload(sig, data)


class KernelCache(_Cache):
    """The cache of a function, made safe and opened when it is first wanted: few of all kernels ever are.

    Where Numba raises on a damaged or unwritable file, this compiles anew and says so once. `missed` is called before a
    function is compiled. Two caches of one function have different forms. What has a cache is never compiled into
    others, and allocates nothing unless it says so.
    """

    def __init__(
        self, function: Callable[..., Any], missed: Callable[[], None], form: str = "", allocates: bool = False
    ) -> None:
        self._function, self._missed, self._form, self._allocates = function, missed, form, allocates

    @cached_property
    def _kept(self) -> Any:
        try:
            return _Kept(self._function, self._form, self._allocates)
        except (OSError, RuntimeError) as error:  # RuntimeError: Numba found no folder that it may write to
            _warn_once(f"no compiled code is kept on disk, so each process compiles anew ({error})")
            return NullCache()

    @property
    def is_enabled(self) -> bool:
        """Whether code is kept on disk."""
        return isinstance(self._kept, _Kept) and self._kept._enabled

    @property
    def cache_path(self) -> Any:
        return self._kept.cache_path

    def enable(self) -> None:
        self._kept.enable()

    def disable(self) -> None:
        self._kept.disable()

    def flush(self) -> None:
        self._kept.flush()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._load(sig, target_context)
        if found is None and self.is_enabled:
            self._missed()
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
        try:
            return self._kept.load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle raises nearly anything
            if not isinstance(error, (AttributeError, ImportError)):  # a name that other sources had, before an upgrade
                _warn_once(f"compiled code on disk could not be read, compiling anew ({error!r})")
            try:
                self.flush()  # a damaged index would keep the new code from being saved as well
            except OSError:
                self.disable()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            self._kept.save_overload(sig, data)
        except OSError as error:
            self.disable()
            _warn_once(f"compiled code could not be kept on disk, so each process compiles anew ({error})")


_warned = False


def _warn_once(what: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"nbfc: {what}. NUMBA_CACHE_DIR names a folder to keep it in.", RuntimeWarning, stacklevel=3)
