"""Launches from several threads and from forked children end in the right bits, never in a dead process."""

import itertools
import sys

import numpy as np
import pytest

import nbfc
from nbfc.kernels import _threads, dense, step
from nbfc.kernels._threads import Choice

LAYERS = pytest.mark.parametrize("layer", ["omp", "workqueue"])

SETUP = '''
import os, sys, threading
import numpy as np
import nbfc
from nbfc.kernels import _threads
_threads.UNSURE_FROM, _threads.SURE_FROM = LIMITS
_threads.SOON = _threads.TRIAL = _threads.PERIOD = 1e-4
X = np.random.default_rng(0).standard_normal((400, 20)).astype(np.float32)
y = np.random.default_rng(1).integers(0, 3, 400)

def train():
    """Steps of both dtypes, each a compile of its own, and steps that are undone."""
    results = []
    for dtype, rate in (("float32", 1e38), ("float64", 1e308)):
        net, diverging = (nbfc.MLP([20, 30, 3], dtype=dtype, seed=0) for _ in range(2))
        nbfc.fit(net, X, y, loss="cross_entropy", optimizer="adam", epochs=3, batch_size=100, seed=0)
        try:
            nbfc.fit(diverging, X, y, loss="cross_entropy", optimizer=nbfc.Adam(rate), epochs=3, batch_size=100, seed=0)
            raise AssertionError("it did not diverge")
        except nbfc.DivergenceError:
            pass
        results += [net.predict(X).tobytes(), diverging.parameters.tobytes()]
    return b"".join(results)
'''


PARALLEL = f"LIMITS = 0, 0\n{SETUP}"


@LAYERS
@pytest.mark.parametrize("limits", ["0, 0", "0, float('inf')"], ids=["parallel", "chosen"])
def test_concurrent_training_gives_the_same_bits(python, layer, limits):
    code = """
expected = train()
results = []
workers = [threading.Thread(target=lambda: results.extend(train() for _ in range(10))) for _ in range(4)]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert len(results) == 40 and set(results) == {expected}
import numba
print(numba.threading_layer())
"""
    assert python(f"LIMITS = {limits}\n{SETUP}{code}", NUMBA_THREADING_LAYER=layer).strip() == layer


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@LAYERS
@pytest.mark.parametrize("launched", [True, False], ids=["after a launch", "before any launch"])
def test_a_forked_child_trains_to_the_same_bits(python, layer, launched):
    code = f"""
expected = train() if {launched} else None
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.write(writing, train())
    os._exit(0)
os.close(writing)
with os.fdopen(reading, "rb") as pipe:
    result = pipe.read()
assert os.waitpid(child, 0)[1] == 0, "the child died"
assert result == (expected or train())
"""
    python(PARALLEL + code, NUMBA_THREADING_LAYER=layer)


def test_the_thread_count_is_left_as_it_was(python):
    code = "import numba; before = numba.get_num_threads(); train(); assert numba.get_num_threads() == before"
    python(PARALLEL + code)


def test_steps_and_predictions_allocate_nothing_after_the_first(python):
    """Neither compiled code, by Numba's own count, nor Python, but for a few floats."""
    code = """
import threading, time, tracemalloc
import numba, numpy as np, nbfc
from numba.core.runtime import rtsys
numba.njit(lambda: np.empty(1))()  # starts Numba's count, which kernels alone have no use for
from nbfc.kernels import _threads
rng = np.random.default_rng(0)
X, y = rng.standard_normal((300, 20)).astype("f"), rng.standard_normal((300, 3)).astype("f")
net = nbfc.MLP([20, 600, 3])
trainer, out = nbfc.Trainer(net, "mse", "adam"), np.empty((300, 3), "f")
def run(count):
    for _ in range(count):
        trainer.step(X, y)
        net.predict(X, out=out)
for limits in ((float("inf"), 0), (0, 0), (0, float("inf"))):  # on one thread, on more, and on what is faster
    _threads.UNSURE_FROM, _threads.SURE_FROM = limits
    run(2)
    while threading.active_count() > 1:  # one that was there to compile allocates a little
        time.sleep(0.1)
    before = rtsys.get_allocation_stats()
    tracemalloc.start()
    run(50)
    print(tracemalloc.get_traced_memory()[1], *rtsys.get_allocation_stats())
    tracemalloc.stop()
    assert rtsys.get_allocation_stats() == before
"""
    peaks = [int(line.split()[0]) for line in python(code, NUMBA_NRT_STATS="1").splitlines()]
    assert max(peaks) < 2000  # bytes: an array of outputs alone would have 3600


def test_what_is_compiled_serves_processes_with_any_number_of_threads(python, tmp_path):
    """Kernels on disk know none: also of a prediction that copies weights behind what each thread has."""
    code = """
import numpy as np, nbfc
net = nbfc.MLP([300, 1024, 300, 10], seed=0)
X = np.random.default_rng(0).standard_normal((1000, 300)).astype("f")
assert np.array_equal(net.predict(X), np.concatenate([net.predict(X[r : r + 100]) for r in range(0, 1000, 100)]))
"""
    for count in (1, 3, 2):
        python(code, NUMBA_NUM_THREADS=str(count), NUMBA_CACHE_DIR=str(tmp_path / "cache"))


# ---- which way is faster ---------------------------------------------------------------------------------------------


@pytest.fixture
def play(monkeypatch):
    """Return a function that makes calls, one after another, until so many seconds have gone by on a clock of its own.

    ``seconds_of_call(threaded, now)`` says how long one takes. It returns their mean, and the share that used threads.
    """
    now = 0.0
    monkeypatch.setattr(_threads, "perf_counter", lambda: now)
    monkeypatch.setattr(_threads, "_number_of_threads", lambda: 2)
    X, load = np.empty(0), _threads.LIKELY_FROM

    def run(choice, seconds_of_call, until):
        calls, threaded, start = 0, 0, now

        def kernel(X, threads):
            nonlocal now, calls, threaded
            calls, threaded = calls + 1, threaded + (threads > 1)
            now += seconds_of_call(threads > 1, now)

        kernel.serial, kernel.choices = kernel, {(load.bit_length(), X.itemsize): choice}
        while now < start + until:
            _threads.launch(kernel, load, X)
        return (now - start) / calls, threaded / calls

    return run


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("serial", "threaded", "most"),
    [
        (30e-6, 20e-6, 1.002),
        (20e-6, 30e-6, 1.002),
        (3e-6, 8e-6, 1.005),
        (2e-3, 1e-3, 1.012),
        (40e-3, 21e-3, 1.012),
        (80e-3, 10e-3, 1.02),
    ],
)
def test_calls_go_the_way_that_is_faster(play, first, serial, threaded, most):
    choice = Choice(first)
    play(choice, lambda used, now: threaded if used else serial, max(0.5, 300 * serial))
    mean, share = play(choice, lambda used, now: threaded if used else serial, max(2, 5000 * threaded))
    assert mean < most * min(serial, threaded)
    assert (share > 0.98) if threaded < serial else (share < 0.02)


@pytest.mark.parametrize("first", [True, False])
def test_calls_follow_when_the_other_way_becomes_faster(play, first):
    choice = Choice(first)
    play(choice, lambda used, now: 20e-6 if used == first else 30e-6, 2)
    mean, _ = play(choice, lambda used, now: 30e-6 if used == first else 20e-6, 5)
    assert mean < 1.03 * 20e-6


def test_threads_that_have_to_wake_first_are_seen_at_their_best(play):
    choice, awake = Choice(False), itertools.count()

    def seconds(used, now):
        """Threads sleep when a call does not use them, and wake for two calls."""
        nonlocal awake
        if not used:
            awake = itertools.count()
            return 10e-6
        return 107e-6 if next(awake) < 2 else 7e-6

    assert play(choice, seconds, 1)[0] < 1.05 * 7e-6


def test_threads_are_soon_used_again_after_something_else_had_the_cores(play):
    choice = Choice(True)
    play(choice, lambda used, now: 20e-6 if used else 30e-6, 1)
    play(choice, lambda used, now: 5e-3 if used else 30e-6, 0.55)
    assert play(choice, lambda used, now: 20e-6 if used else 30e-6, 0.3)[1] > 0.9


def test_threads_whose_core_is_taken_away_are_not_used(play):
    """Of each 12 ms another process has the core for 6: a launch then waits for it."""
    choice = Choice(True)
    mean, share = play(choice, lambda used, now: max(24e-6, 6e-3 - now % 12e-3) if used else 40e-6, 20)
    assert share < 0.1
    assert mean < 1.03 * 40e-6


def test_cores_that_two_processes_want_are_left_to_each_of_them(play):
    """Calls on one thread lose their core now and then: to the other process's threads, if it does not do likewise."""
    choice, calls = Choice(True), itertools.count()
    _, share = play(choice, lambda used, now: 100e-6 if used else 70e-6 if next(calls) % 43 else 3e-3, 10)
    assert share < 0.1


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("when", ["at first", "in a trial"])
def test_a_process_may_be_stopped_for_minutes_in_a_call(play, first, when):
    """That is the second in either case, and the first that is timed."""
    choice, calls = Choice(first), {True: 0, False: 0}

    def seconds(used, now):
        calls[used] += 1
        if calls[used] == 2 and used == (first if when == "at first" else not first):
            return 100.0
        return 20e-6 if used else 30e-6

    play(choice, seconds, 130)
    assert min(calls.values()) > 2
    assert play(choice, seconds, 2)[0] < 1.01 * 20e-6


def test_networks_of_different_sizes_may_call_in_turn(play, rng):
    """Of loads from one power of two to the next; the larger one's calls are not taken for disturbed ones."""
    choice = Choice(False)
    mean, _ = play(choice, lambda used, now: (28e-6 if used else 40e-6) * rng.choice([1, 2.2]), 2)
    assert mean < 1.05 * 1.6 * 28e-6


def test_bits_are_the_same_whichever_way_calls_go(monkeypatch, threads, rng):
    X, y = rng.standard_normal((64, 20), np.float32), rng.standard_normal((64, 3), np.float32)

    def trained():
        net = nbfc.MLP([20, 30, 3], seed=0)
        trainer = nbfc.Trainer(net, "mse", "adam")
        for _ in range(300):
            trainer.step(X, y)
        return net.parameters.tobytes()

    threads(None)
    expected = trained()
    threads(2)
    monkeypatch.setattr(_threads, "SURE_FROM", float("inf"))
    monkeypatch.setattr(step.train_step, "choices", {})
    clock, ways = itertools.count(0, 5e-3), []
    monkeypatch.setattr(_threads, "perf_counter", lambda: next(clock))  # trials after each few calls
    call = Choice.call
    monkeypatch.setattr(Choice, "call", lambda self, *given: ways.append(given[-1]) or call(self, *given))
    assert trained() == expected
    assert set(ways) == {1, 2}


def test_an_error_leaves_nothing_locked(monkeypatch):
    for name, value in (("UNSURE_FROM", 0), ("SURE_FROM", 0), ("_number_of_threads", lambda: 2)):
        monkeypatch.setattr(_threads, name, value)
    with pytest.raises(TypeError):
        _threads.launch(dense.bias_gradient, 1, "no array")
    assert not _threads._launching.locked()


def test_with_one_thread_no_choice_is_made(monkeypatch, threads):
    threads(1)
    monkeypatch.setattr(_threads, "SURE_FROM", float("inf"))
    monkeypatch.setattr(Choice, "call", lambda *_: pytest.fail("a choice was asked"))
    choices = {}
    monkeypatch.setattr(dense.bias_gradient, "choices", choices)
    dY = np.ones((10, 4), np.float32)
    nbfc.kernels.bias_gradient(dY)
    assert choices == {}
    choices.update(((bits, dY.itemsize), Choice(True)) for bits in range(64))
    nbfc.kernels.bias_gradient(dY)
