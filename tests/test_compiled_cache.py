"""Users' compiled functions, and the calls from Python, on disk."""

import shutil

USER = """
import numpy as np, nbfc
from numba import njit, prange

@njit(cache=True)
def one(policy, x):
    return nbfc.jit.predict(policy, x)

@njit(cache=True, parallel=True)
def many(policy, X):
    sums = np.empty(len(X))
    for i in prange(len(X)):
        y = np.empty(3)
        nbfc.jit.predict_into(policy, X[i], y, nbfc.jit.scratch(policy))
        sums[i] = y.sum() + nbfc.jit.jacobian(policy, X[i]).sum()
    return sums

@njit(cache=True)
def decide(logits):
    return nbfc.jit.argmax(logits)
"""

RUN = """
import numpy as np, nbfc, user
net = nbfc.MLP([4, 9, 3], dtype="float64", seed=0)
policy, X = net.freeze(), np.random.default_rng(0).random((50, 4))
assert np.array_equal(user.one(policy, X[0]), net.predict(X)[0])
np.testing.assert_allclose(user.many(policy, X), net.predict(X).sum(1) + net.jacobian(X).sum((1, 2)))
assert user.decide(X[0]) == X[0].argmax() + ADDED
print(*("loaded" if f.stats.cache_hits else "compiled" for f in (user.one, user.many, user.decide)))
"""


def test_users_functions_are_kept_on_disk_and_compiled_anew_for_other_sources(package, python, tmp_path):
    (tmp_path / "user.py").write_text(USER)
    environment = {"PYTHONPATH": f"{package.parent}:{tmp_path}", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(added):
        return python(RUN.replace("ADDED", str(added)), **environment).split()

    assert run(0) == ["compiled"] * 3
    assert run(0) == ["loaded"] * 3
    # Kernels that are no longer on disk, as in a new environment, are compiled before a thread calls them.
    shutil.rmtree(next((tmp_path / "cache").glob("kernels_*")))
    assert run(0) == ["loaded"] * 3
    # Another version of nbfc: what stands in users' functions is of the old one, with kernels or without.
    logits = package / "jit" / "_logits.py"
    assert logits.read_text().count("return best") == 1
    logits.write_text(logits.read_text().replace("return best", "return best + 7"))
    assert run(7) == ["compiled"] * 3
    assert run(7) == ["loaded"] * 3


def test_calls_from_python_do_not_take_each_others_place_on_disk(python, tmp_path):
    code = """
import sys
import numpy as np
from nbfc import jit
y = np.array([1.0, 3.0, 2.0])
expected = {"argmax": [1], "softmax": np.exp(y) / np.exp(y).sum()}
for name in sys.argv[1:]:
    np.testing.assert_allclose(getattr(jit, name)(y), expected[name], rtol=1e-14)
"""
    for names in (["softmax"], ["argmax"], ["argmax", "softmax"]):
        python(code, arguments=names, NUMBA_CACHE_DIR=str(tmp_path))


def test_without_the_compiler_importing_says_what_turned_it_off(python):
    code = """
try:
    import nbfc
except ImportError as error:
    print(error)
"""
    assert "NUMBA_DISABLE_JIT=1 turns off" in python(code, NUMBA_DISABLE_JIT="1")
