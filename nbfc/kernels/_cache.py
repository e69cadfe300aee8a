"""Compiled code on disk: valid for the very sources that it was made of, and never the end of a program."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
from numba.core.caching import FunctionCache, IndexDataCacheFile


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


class KernelCache(FunctionCache):
    """Numba's cache of a function, made safe.

    Numba looks only at the file in which a function stands. Its machine code holds the functions that it calls as
    well, so an edit (or an upgrade) of *their* files would leave stale code in use. Here an entry is valid only for
    the very sources that are compiled. And where Numba raises on a damaged or unwritable cache file,
    this compiles anew and says so once. `missed` is called before a function is compiled.
    """

    def __init__(self, function: Callable[..., Any], missed: Callable[[], None]) -> None:
        super().__init__(function)
        self._missed = missed
        stamp = self._cache_file._source_stamp, STAMP
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    @property
    def is_enabled(self) -> bool:
        """Whether code is kept on disk."""
        return self._enabled

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Tell functions that stand at one place apart by their names.

        Numba would pickle what they close over, and what it has compiled pickles differently in each process.
        """
        return sig, codegen.magic_tuple(), (self._py_func.__qualname__, self._py_func.__name__)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._load(sig, target_context)
        if found is None and self.is_enabled:
            self._missed()
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
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
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            _warn_once(f"compiled code could not be kept on disk, so each process compiles anew ({error})")


def keep_on_disk(dispatcher: Any, missed: Callable[[], None]) -> None:
    """Let a compiled function be kept on disk, or say once why that cannot be."""
    try:
        dispatcher._cache = KernelCache(dispatcher.py_func, missed)
    except (OSError, RuntimeError) as error:  # RuntimeError: Numba found no folder that it may write to
        _warn_once(f"no compiled code is kept on disk, so each process compiles anew ({error})")


_warned = False


def _warn_once(what: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"nbfc: {what}. NUMBA_CACHE_DIR names a folder to keep it in.", RuntimeWarning, stacklevel=3)
