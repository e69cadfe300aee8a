"""The tiles on CPUs other than this one, as far as this one can stand in for them, and what they compile to."""

import platform
import re

import pytest

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names CPUs of another kind")

# Products of every kind: few rows or columns, whole tiles and parts of them, copies, several blocks of terms.
CHECK = """
import nbfc
import numpy as np
from nbfc import kernels
from nbfc.kernels._threads import MOST_THREADS
from nbfc.kernels.workspace import ROWS
rng = np.random.default_rng(0)
shapes = [(1, 5, 300), (5, 3, 2), (9, 300, 1), (33, 70, 3), (33, 17, 49), (40, 600, 7), (7, 530, 520), (20, 600, 530)]
shapes += [(70, 40, 530)]
shapes += [(N, m, n) for N in (1, 2, 3, 4, 6, 9) for m in (1, 2, 3, 4, 5, 8) for n in (4, 9, 16, 23, 37, 68)]
for dtype in ("float32", "float64"):
    for N, m, n in shapes:
        X, W, b, dY = (rng.standard_normal(shape).astype(dtype) for shape in ((N, m), (m, n), n, (N, n)))
        results = [
            (kernels.forward(X, W, b), X.astype(float) @ W + b, np.abs(X) @ np.abs(W) + np.abs(b), m),
            (kernels.forward(X, W, b, "relu"), np.maximum(X.astype(float) @ W + b, 0), np.abs(X) @ np.abs(W) + 9, m),
            (kernels.bias_gradient(dY), dY.mean(axis=0, dtype=float), np.abs(dY).mean(axis=0), N),
            (kernels.weight_gradient(X, dY), X.T.astype(float) @ dY / N, np.abs(X).T @ np.abs(dY) / N, N),
            (kernels.input_gradient(dY, W), dY.astype(float) @ W.T, np.abs(dY) @ np.abs(W).T, n),
        ]
        for got, expected, size, terms in results:
            assert np.all(np.abs(got - expected) <= (terms + 2) * np.finfo(dtype).eps * size), (dtype, N, m, n)
    net = nbfc.MLP([1030, 515, 3], dtype=dtype, seed=0)  # many rows: by panels of the first layer's weights
    X = rng.standard_normal((2 * ROWS * MOST_THREADS, 1030)).astype(dtype)
    one_by_one = [net.predict(X[i : i + 1]) for i in range(0, len(X), 100)]
    assert np.array_equal(net.predict(X)[::100], np.concatenate(one_by_one))
"""
ASSEMBLY = (
    CHECK
    + """
from numba import float32
from nbfc.kernels import few, panel
panels = panel.multiply_whole_panel, panel.multiply_ragged_panel, panel.multiply_before_turned
for function in (*panels, panel.multiply_row, panel.multiply_columns, few.multiply_by_few_columns):
    dispatcher = function.kernel.dispatcher
    dispatcher.recompile()  # of code from the disk nothing can be seen
    print(dispatcher.inspect_asm(function.kernel.signature(float32).args))
"""
)

HASWELL = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2"}
GENERIC = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}


# Instructions for each multiply-add of the largest tile: a core that others share starts three a cycle and does two.
@pytest.mark.parametrize(
    ("environment", "register", "instructions"),
    [(HASWELL, "ymm", 1.8), (GENERIC, "xmm", None), ({}, None, None)],
    ids=["haswell", "generic", "this CPU"],
)
def test_products_are_right_and_stay_in_the_widest_registers(python, tmp_path, environment, register, instructions):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), **environment}
    assembly = python(ASSEMBLY, **environment)
    found = next(name for name in ("zmm", "ymm", "xmm") if f"%{name}" in assembly)
    assert register in (None, found)
    loops = [body for body in innermost_loops(assembly) if re.search(rf"(vfmadd\d+ps|mulps)\s.*%{found}", body)]
    assert len(loops) >= 12  # one for each shape of tile, at least
    spills = [line for body in loops for line in body.splitlines() if re.search(rf"%{found}.*\(%r[sb]p\)", line)]
    assert spills == []
    if instructions is not None:
        asking = [body for body in loops if "prefetch" in body]
        counts = [(body.count("\tvfmadd"), len(re.findall(r"\n\t[a-z]", body))) for body in loops if body not in asking]
        largest, _ = max(counts)
        assert min(lines for multiply_adds, lines in counts if multiply_adds == largest) <= instructions * largest


def innermost_loops(assembly):
    """Yield the lines of each loop without a branch in it: a tile's loop over k is one."""
    block = []
    for line in assembly.splitlines():
        if re.match(r"\.L\w+:", line):
            block = [line]
        elif jump := re.match(r"\s+j\w+\s+(\.L\w+)", line):
            if block and block[0].startswith(f"{jump[1]}:"):
                yield "\n".join(block)
            block = []
        elif block:
            block.append(line)
