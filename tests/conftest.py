"""What all tests share: data for every loss, layouts of arrays, and numbers of threads."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Threads are tested on a machine with one core, too. Numba reads this when it is imported.
os.environ["NUMBA_NUM_THREADS"] = str(max(2, os.cpu_count() or 1))

import numba
import numpy as np
import pytest
from hypothesis import settings
from numba.core.runtime import _nrt_python, rtsys

import nbfc
from nbfc.kernels import _threads

# The first example of a test may compile for seconds, and a failure has to come again.
settings.register_profile("nbfc", deadline=None, derandomize=True, max_examples=25, print_blob=True)
settings.load_profile("nbfc")


@pytest.fixture
def rng():
    return np.random.default_rng(20191015)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def threads(monkeypatch):
    """Return a function that makes every launch parallel on so many threads, or serial for none."""
    before, counts = numba.get_num_threads(), set()
    lock = CountingLock()
    monkeypatch.setattr(_threads, "_launching", lock)

    def use(count):
        counts.add(count)
        for limit in ("UNSURE_FROM", "SURE_FROM"):
            monkeypatch.setattr(_threads, limit, 0 if count else float("inf"))
        numba.set_num_threads(count or 1)

    yield use
    numba.set_num_threads(before)
    assert lock.taken or counts <= {None, 1}, "no launch was parallel"


class CountingLock:
    """A lock that is always free, and counts how often it was taken: once for each parallel launch."""

    def __init__(self):
        self.taken = 0

    def locked(self):
        return False

    def __enter__(self):
        self.taken += 1

    def __exit__(self, *_):
        pass


@pytest.fixture
def allocations():
    """Return a function that returns how many blocks compiled code has allocated and freed so far."""
    enabled = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    yield rtsys.get_allocation_stats
    if not enabled:
        _nrt_python.memsys_disable_stats()


@pytest.fixture
def package(tmp_path):
    """Return a copy of the package, whose files may be edited."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(Path(nbfc.__file__).parent, tmp_path / "copy" / "nbfc", ignore=ignored))


@pytest.fixture
def python(tmp_path):
    """Return a function that runs code in a fresh process and returns what it printed."""

    def run(code, *, cwd=tmp_path, status=0, arguments=(), **environment):
        command = [sys.executable, "-c", code, *arguments]
        env = {**os.environ, **environment}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
