"""Compilation and its cache: nothing at import, nothing stale, and nothing lost where the cache cannot be used."""

import ast
import pickle
import re
import sys
from pathlib import Path

import numba
import pytest
from numba.core.dispatcher import Dispatcher

import nbfc
from nbfc.kernels._addresses import _kernels
from nbfc.kernels._cache import KernelCache

PACKAGE = Path(nbfc.__file__).parent

# A process that prints ① for one small matrix, how often Numba compiled for it, and what was warned of.
RUN = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np, nbfc
    from nbfc.kernels import dense
    print(nbfc.kernels.bias_gradient(np.ones((4, 1)))[0])
    nbfc.kernels.forward(np.ones((4, 1)), [[1.0]], [1.0])
stats = dense.bias_gradient.serial.stats
print("compiled" if stats.cache_misses else "loaded")
print(len(caught), *(str(warning.message) for warning in caught))
assert nbfc.__file__.startswith(FOLDER), nbfc.__file__
"""

MEAN = "    mean_of_rows(dY, j0, j1, db[j0:j1])\n"  # equation ①


@pytest.fixture
def copied(tmp_path, package, python):
    """A copy of the package whose files may be edited, and a function that runs RUN on it."""
    folder = package.parent

    def run(**environment):
        environment = {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(tmp_path / "cache"), **environment}
        value, how, warned = python(f"FOLDER = {str(folder)!r}\n" + RUN, **environment).strip().splitlines()
        return float(value), how, warned

    return package, run


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} places with {old!r}"
    path.write_text(text.replace(old, new))


def test_the_second_process_loads_what_the_first_compiled(copied):
    _, run = copied
    assert run() == (1.0, "compiled", "0")
    assert run() == (1.0, "loaded", "0")


FORMS = """
import numba.np.ufunc.parallel, numpy as np, nbfc
from nbfc.kernels import _threads, dense
_threads.UNSURE_FROM, _threads.SURE_FROM = LIMITS
print(nbfc.kernels.bias_gradient(np.ones((4, 1)))[0])
for form in (dense.bias_gradient, dense.bias_gradient.serial):
    print(len(form.signatures), sum(form.stats.cache_hits.values()))
print(numba.np.ufunc.parallel._is_initialized)
"""


def test_the_two_forms_of_a_kernel_are_kept_apart_on_disk(python, tmp_path):
    """The parallel one starts threads when it is loaded, and the serial one never does."""
    for hits in (0, 1):
        for limits, expected in (
            ("0, 0", f"1.0 1 {hits} 0 0 True"),
            ("float('inf'), float('inf')", f"1.0 0 0 1 {hits} False"),
            ("0, float('inf')", "1.0 1 1 1 1 True"),  # either may be faster: both are there from the first call on
        ):
            output = python(f"LIMITS = {limits}\n{FORMS}", NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2")
            assert output.split() == expected.split()


def test_an_edited_kernel_is_compiled_anew(copied):
    package, run = copied
    run()
    edit(package / "kernels" / "dense.py", MEAN, f"{MEAN}    db[j0] *= 3\n")
    assert run()[:2] == (3.0, "compiled")


def test_an_edited_file_that_a_kernel_calls_into_compiles_it_anew(copied):
    """① calls into another file, which then changes: Numba alone would not notice."""
    package, run = copied
    kernels = package / "kernels"
    edit(kernels / "dense.py", MEAN, f"{MEAN}    db[j0] = weigh(db[j0])\n")
    edit(
        kernels / "dense.py",
        "import IDENTITY, RELU, activate, multiply_by_derivative\n",
        "import IDENTITY, RELU, activate, multiply_by_derivative, weigh\n",
    )
    with (kernels / "elementwise.py").open("a") as file:
        file.write("\n\n@kernel\ndef weigh(x):\n    return 2 * x\n")
    assert run()[:2] == (2.0, "compiled")
    assert run()[:2] == (2.0, "loaded")
    edit(kernels / "elementwise.py", "    return 2 * x", "    return 5 * x")
    assert run()[:2] == (5.0, "compiled")
    assert run()[:2] == (5.0, "loaded")


def test_a_damaged_cache_is_compiled_anew_and_mended(copied, tmp_path):
    _, run = copied
    run()
    for kind in ("nbi", "nbc"):
        files = list((tmp_path / "cache").rglob(f"dense.*.{kind}"))
        assert files
        for file in files:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        value, how, warned = run()
        assert (value, how) == (1.0, "compiled")
        assert warned.startswith("1 nbfc: compiled code on disk could not be read, compiling anew")
        assert run() == (1.0, "loaded", "0")


def test_code_of_other_sources_whose_names_have_gone_is_compiled_anew_in_silence(copied, tmp_path):
    """As after an upgrade: the index names, beside the old code, types that the code was compiled for."""
    _, run = copied
    run()
    for file in (tmp_path / "cache").rglob("dense.*.nbi"):
        file.write_bytes(pickle.dumps(numba.__version__) + b"cnbfc.kernels.dense\nGone\n.")
    assert run() == (1.0, "compiled", "0")
    assert run() == (1.0, "loaded", "0")


def test_losses_are_among_the_sources(copied):
    """Their codes are compiled in."""
    package, run = copied
    run()
    source = package / "losses" / "_classes.py"
    source.write_text(source.read_text() + "\n")
    assert run()[:2] == (1.0, "compiled")


def test_without_a_cache_folder_it_compiles_and_says_so_once(copied, tmp_path):
    """No folder can be made below a file: this holds for root too, who may write to read-only folders."""
    package, run = copied
    (tmp_path / "file").write_text("")
    for folder in ("kernels", "jit"):
        (package / folder / "__pycache__").write_text("")
    value, how, warned = run(NUMBA_CACHE_DIR=f"{tmp_path}/file/cache", XDG_CACHE_HOME=f"{tmp_path}/file")
    assert (value, how) == (1.0, "compiled")
    assert warned.startswith("1 nbfc: no compiled code is kept on disk, so each process compiles anew")


def test_import_compiles_nothing_and_takes_less_than_numbas_own(python):
    code = """
import time
started = time.perf_counter()
import numba, numba.core.caching, numba.np.ufunc.parallel
middle = time.perf_counter()
import nbfc
print((time.perf_counter() - middle) / (middle - started))
from numba.core.dispatcher import Dispatcher
import sys
kernels = [value for name, module in list(sys.modules.items()) if name.startswith("nbfc")
           for value in vars(module).values() if isinstance(value, Dispatcher)]
from nbfc.kernels._addresses import _kernels
kernels += [job.kernel.dispatcher for job in _kernels.values()]
kernels += [kernel.serial for kernel in kernels if hasattr(kernel, "serial")]
assert len(kernels) > 50
assert not any(kernel.signatures for kernel in kernels)
assert not numba.np.ufunc.parallel._is_initialized
"""
    assert min(float(python(code)) for _ in range(3)) < 1


def test_what_is_for_python_alone_is_called_by_no_kernel():
    """It is finished after all that waits to be compiled; and on disk is nothing that could be compiled into others."""
    modules = [module for name, module in sys.modules.items() if name.startswith("nbfc.kernels")]
    found = [value for module in modules for value in vars(module).values()]
    forms = [value for value in found if isinstance(getattr(value, "_cache", None), KernelCache)]
    forms += [value.serial for value in forms if hasattr(value, "serial")]
    functions = [*found, *(job.kernel.dispatcher for job in _kernels.values())]
    codes = {function.py_func for function in functions if isinstance(function, Dispatcher)}
    assert len(forms) >= 19
    assert len(codes) > 100
    for code in codes:
        called = [code.__globals__.get(name) for name in code.__code__.co_names]
        assert not any(value is form for value in called for form in forms), code.__name__


ORDER = [
    ("__main__", "commands", "estimators"),
    ("lbfgs", "learning_rates"),
    ("training", "serialization", "tables"),
    ("callbacks", "calls"),
    ("trainer",),
    ("network", "metrics", "history", "jit", "plots"),
    ("architecture", "datasets", "differentiable", "initializers", "losses", "optimizers", "parameters"),
    ("regularization", "sampling", "schedules", "weighting"),
    ("kernels",),
    ("_arrays", "_checks", "errors"),
]


def imported(path):
    """Yield the modules of nbfc, by their first name, that a file imports in any form."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "nbfc":
                yield name.split(".")[1] if "." in name else "nbfc"


def test_imports_run_one_way():
    """From the shell down to the kernels; a module imports only from the lines below its own, or beside it."""
    rank = {name: level for level, names in enumerate(ORDER) for name in names}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        for name in imported(path):
            if parts[0] in ("__main__", "commands", "examples"):
                continue  # these use the package as its users do
            assert rank.get(name, -1) >= rank[parts[0]], f"{'.'.join(parts)} imports {name}"
    below: set[str] = set()
    for name in ("_cache", "_compiling", "_addresses", "_threads", "_jit"):
        source = (PACKAGE / "kernels" / f"{name}.py").read_text()
        assert set(re.findall(r"nbfc\.kernels\.(\w+)", source)) <= {*below, "_addresses"}
        assert set(imported(PACKAGE / "kernels" / f"{name}.py")) <= {"kernels"}
        below.add(name)


def test_no_file_holds_two_ideas():
    assert {path.name: n for path in PACKAGE.rglob("*.py") if (n := len(path.read_text().splitlines())) > 320} == {}
