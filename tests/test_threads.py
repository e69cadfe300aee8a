"""Launches from several threads and from forked children end in the right bits, never in a dead process."""

import sys

import pytest

LAYERS = pytest.mark.parametrize("layer", ["omp", "workqueue"])

SETUP = '''
import os, sys, threading
import numpy as np
import nbfc
from nbfc.kernels import _jit
_jit.SERIAL_BELOW = 0
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


@LAYERS
def test_concurrent_training_gives_the_same_bits(python, layer):
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
    assert python(SETUP + code, NUMBA_THREADING_LAYER=layer).strip() == layer


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
    python(SETUP + code, NUMBA_THREADING_LAYER=layer)


def test_the_thread_count_is_left_as_it_was(python):
    code = "import numba; before = numba.get_num_threads(); train(); assert numba.get_num_threads() == before"
    python(SETUP + code)
