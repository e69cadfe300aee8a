"""The line of kernels that wait to be compiled, and the second process that takes some: it may fail in any way."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from nbfc.kernels import _compiling
from nbfc.kernels._compiling import STAMP, Jobs

CALLS = {"a": "bc", "b": "de", "c": "f", "d": "", "e": "g", "f": "g", "g": ""}  # what each kernel calls


class Kernel:
    """A job that leads to others, each of which is published after all that it calls are done."""

    def __init__(self, name, jobs, kernels):
        self.name, self._jobs, self._kernels = name, jobs, kernels
        self.is_shared, self.is_own, self.is_published, self.runs, self.error = True, False, False, 0, None

    def run(self):
        if self.error:
            raise self.error
        self.runs += 1
        self._jobs.missed()
        for name in CALLS[self.name]:
            self._jobs.add(self._kernels[name])
            assert self._jobs.is_at_work

    def publish(self):
        assert all(self._kernels[name].runs for name in CALLS[self.name])
        self.is_published = True


@pytest.fixture
def line(monkeypatch):
    """Jobs, the kernels by their names, and a function that sets what the second process does."""
    kernels = {}
    jobs = Jobs(kernels.__getitem__)
    kernels.update({name: Kernel(name, jobs, kernels) for name in CALLS})

    def second(code):
        def started():
            return code and subprocess.Popen(
                [sys.executable, "-u", "-c", f"CALLS = {CALLS}\nSTAMP = {STAMP!r}\n{code}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

        monkeypatch.setattr(_compiling, "started", started)

    second(None)
    taken, take = [], jobs.take
    jobs.take = lambda second: taken.append(take(second)) or taken[-1]
    return SimpleNamespace(jobs=jobs, kernels=kernels, second=second, taken=taken)


def finish(line):
    line.jobs.add(line.kernels["a"])
    line.jobs.finish()
    assert all(kernel.is_published and kernel.runs == 1 for kernel in line.kernels.values())
    assert not line.jobs.unfinished


def finish_slowly(line, seconds=1, until=lambda: False):
    """Take so long for one kernel that the second process comes into it, or `until` something holds."""
    run, end = line.kernels["a"].run, time.monotonic() + seconds

    def slow():
        run()
        while not until() and time.monotonic() < end:
            time.sleep(0.01)

    line.kernels["a"].run = slow
    finish(line)


# What it may do: all that it should, nothing, too little, too much, and nonsense.
SECONDS = {
    "none": None,
    "works": "print(STAMP)\nwhile name := input(): print(name, *CALLS[name])",
    "ends at once": "",
    "of another version": "print('other')\nwhile name := input(): print(name)",
    "ends after the first": "print(STAMP)\nname = input()\nprint(name, *CALLS[name])",
    "dies with one in hand": "import os\nprint(STAMP)\ninput()\nos._exit(1)",
    "answers with another": "print(STAMP)\nwhile name := input(): print('nothing', 'unknown')",
    "never answers": "print(STAMP)\nwhile True: input()",
    "never starts": "import time\ntime.sleep(20)",
}


@pytest.mark.parametrize("code", SECONDS.values(), ids=SECONDS)
def test_all_that_is_called_is_compiled_once_and_then_published(line, code, monkeypatch):
    monkeypatch.setattr(_compiling, "PATIENCE", 0.5)
    line.second(code)
    finish_slowly(line)


def test_the_second_process_compiles_some(line):
    line.second(SECONDS["works"])
    finish_slowly(line, seconds=60, until=lambda: len(line.taken) == 6)
    assert sorted(line.taken) == ["b", "c", "d", "e", "f", "g"]  # with what it found


def test_it_stays_while_something_is_compiled_and_ends_when_nothing_is(line, monkeypatch):
    monkeypatch.setattr(_compiling, "LINGER", 0.2)
    line.second(SECONDS["works"])
    stayed = []
    finish_slowly(line, until=lambda: stayed.append(line.jobs._second.is_idle))
    assert not any(stayed)
    end = time.monotonic() + 20
    while not line.jobs._second.is_idle and time.monotonic() < end:
        time.sleep(0.01)
    assert line.jobs._second.is_idle


def test_what_python_calls_is_compiled_before_all_that_it_calls_and_returned_after(line):
    def compiler(name):
        line.jobs.add(line.kernels[name])
        assert not line.kernels[name].runs
        return "code"

    assert line.jobs.compile(compiler, "a") == "code"
    assert all(kernel.is_published and kernel.runs == 1 for kernel in line.kernels.values())
    assert line.jobs.compile(lambda: "no calls") == "no calls"


def test_a_call_from_within_compiling_is_refused(line):
    """Its kernels could not be there yet: the process would crash."""
    refused = []

    def run():
        for call in (line.jobs.finish, lambda: line.jobs.compile(lambda: None), lambda: line.jobs.get(lambda: None)):
            with pytest.raises(RuntimeError, match="from within its own compiling, as by a signal handler"):
                call()
            refused.append(call)

    line.kernels["d"].run = run
    line.jobs.add(line.kernels["d"])
    line.jobs.finish()
    assert len(refused) == 3
    assert not line.jobs.is_at_work


def test_the_second_process_works_while_what_python_calls_is_compiled(line):
    line.second(SECONDS["works"])

    def compiler():
        line.jobs.add(line.kernels["a"])
        end = time.monotonic() + 60
        while len(line.taken) < 7 and time.monotonic() < end:
            time.sleep(0.01)

    line.jobs.compile(compiler)
    assert sorted(line.taken) == list("abcdefg")
    assert all(kernel.is_published for kernel in line.kernels.values())


def test_after_an_error_in_what_python_calls_the_rest_is_done_when_next_asked_for(line):
    def compiler():
        line.jobs.add(line.kernels["a"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        line.jobs.compile(compiler)
    assert not line.kernels["a"].runs
    finish(line)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_after_an_error_the_rest_is_done_when_next_asked_for(line, error):
    line.kernels["e"].error = error
    line.jobs.add(line.kernels["a"])
    with pytest.raises(error):
        line.jobs.finish()
    assert not any(kernel.is_published for kernel in line.kernels.values())
    line.kernels["e"].error = None
    finish(line)


def test_after_ctrl_c_in_publishing_all_are_published_when_next_asked_for(line):
    publish = line.kernels["d"].publish

    def interrupted():
        line.kernels["d"].publish = publish
        raise KeyboardInterrupt

    line.kernels["d"].publish = interrupted
    line.jobs.add(line.kernels["a"])
    with pytest.raises(KeyboardInterrupt):
        line.jobs.finish()
    assert line.jobs.unfinished
    finish(line)


def test_a_users_function_that_cannot_be_compiled_does_not_keep_others_from_it(line):
    own = Kernel("d", line.jobs, line.kernels)
    own.name, own.is_shared, own.is_own, own.error = "own", False, True, TypeError
    line.jobs.add(own)
    with pytest.raises(TypeError):
        line.jobs.finish()
    finish(line)
    assert not own.is_published


def test_a_users_function_is_not_for_the_second_process(line):
    for kernel in line.kernels.values():
        kernel.is_shared = False
    line.second(SECONDS["works"])
    finish_slowly(line)
    assert not line.taken
    assert line.jobs._second is None


FORKED = """
import os
from types import SimpleNamespace
import nbfc
from nbfc.kernels._addresses import JOBS, _kernels
job = _kernels["nbfc.kernels.losses.mean_squared_error.float32"]
JOBS.unfinished.add(job.name)
JOBS._second = SimpleNamespace(in_hand=job, is_idle=False)
child = os.fork()
if child == 0:
    JOBS.finish()
    os._exit(3 if job.is_published else 4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_what_the_second_process_had_in_hand(python):
    assert python(FORKED).strip() == "3"


THREADS = """
import threading, time
from types import SimpleNamespace
import numba, numpy as np, nbfc
from nbfc.kernels._addresses import JOBS
from nbfc.kernels.further_activations import OWN_ACTIVATIONS, VALUES

@numba.njit
def wrong(z):
    return z.nothing

started = threading.Event()
def run():
    started.set()
    time.sleep(1)
slow = SimpleNamespace(name="slow", is_own=False, is_shared=False, is_published=False, run=run, publish=lambda: None)
JOBS.add(slow)
other = threading.Thread(target=JOBS.finish)
other.start()
started.wait()
for _ in range(2):
    try:
        VALUES.ask(OWN_ACTIVATIONS.code(wrong), np.dtype(np.float32))
    except numba.core.errors.TypingError:
        print("here")
other.join()
print(len(JOBS.unfinished))
"""


def test_the_error_of_a_users_function_is_raised_where_it_was_asked_for(python):
    assert python(THREADS).split() == ["here", "here", "0"]


def test_files_of_two_types_have_two_names_whoever_writes_them(python, tmp_path):
    """Numba counts: the first file of each process would have one name."""
    names = {}
    for activation in ("gelu", "silu"):
        cache = tmp_path / activation
        code = f"import numpy as np, nbfc\nnbfc.MLP([2, 3, 1], {activation!r}).predict(np.ones((1, 2)))"
        python(code, NUMBA_CACHE_DIR=str(cache))
        names[activation] = {path.name for path in cache.rglob("*values*.nbc")}
        assert len(names[activation]) == 1
    assert names["gelu"] != names["silu"]


SMALL = """
import numba, numpy as np, nbfc
from nbfc.kernels import prediction, step
net, X, y = nbfc.MLP([4, 8, 3], seed=0), np.ones((20, 4), "f"), np.arange(20) % 3
nbfc.fit(net, X, y, loss="cross_entropy", optimizer="sgd", epochs=1, batch_size=10, validation=(X, y))
net.loss_and_gradient(X, y, "cross_entropy")
net.predict(X)
assert step.train_step.serial.signatures and prediction.predict.serial.signatures
assert not step.train_step.signatures and not prediction.predict.signatures
assert not numba.np.ufunc.parallel._is_initialized
"""


def test_small_networks_compile_no_parallel_code_and_start_no_threads(python):
    python(SMALL)


COLD = """
import numpy as np, nbfc
from nbfc.kernels._addresses import _kernels
print(nbfc.kernels.forward(np.ones((3, 5)), np.ones((5, 2)), [1.0, 2.0]).tolist())
stats = [job.kernel.dispatcher.stats for job in _kernels.values()]
print(sum(bool(one.cache_misses) for one in stats), sum(bool(one.cache_hits) for one in stats))
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_two_processes_share_a_cold_start(python, tmp_path):
    alone = "import os\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n" + COLD
    outputs, here, loaded = python(alone, NUMBA_CACHE_DIR=str(tmp_path / "one")).rsplit(maxsplit=2)
    assert int(loaded) == 0
    both, compiled, from_second = python(COLD, NUMBA_CACHE_DIR=str(tmp_path / "two")).rsplit(maxsplit=2)
    assert both == outputs == "[[6.0, 7.0], [6.0, 7.0], [6.0, 7.0]]"
    assert int(compiled) + int(from_second) == int(here)
    assert int(from_second) > 0
