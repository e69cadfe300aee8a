"""exp, tanh and the logarithms of the kernels, against NumPy in a wider type."""

import numpy as np
import pytest

from nbfc.kernels._jit import kernel
from nbfc.kernels.exponential import exp, tanh
from nbfc.kernels.logarithm import log, log1p


@kernel(entry=True)
def all_exp(x, y):
    for t in range(x.shape[0]):
        y[t] = exp(x[t])


@kernel(entry=True)
def all_tanh(x, y):
    for t in range(x.shape[0]):
        y[t] = tanh(x[t])


@kernel(entry=True)
def all_log(x, y):
    for t in range(x.shape[0]):
        y[t] = log(x[t])


@kernel(entry=True)
def all_log1p(x, y):
    for t in range(x.shape[0]):
        y[t] = log1p(x[t])


FUNCTIONS = {all_exp: np.exp, all_tanh: np.tanh, all_log: np.log, all_log1p: np.log1p}
NAMES = ["exp", "tanh", "log", "log1p"]

SPECIAL = [-1.0, 1.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -1e30]


@pytest.mark.parametrize(("function", "reference"), FUNCTIONS.items(), ids=NAMES)
def test_they_are_right_to_4_units_in_the_last_place(function, reference, dtype, rng):
    wide = np.float64 if dtype == np.float32 else np.longdouble
    end = 106 if dtype == np.float32 else 748  # from beyond 0 by way of subnormal results to beyond infinity
    tiny = np.exp(rng.uniform(-80, 3, 100_000)) * rng.choice([-1, 1], 100_000)
    small = np.append(rng.uniform(0, 0.4, 500_000), 0.007762378101938303)  # where tanh has its largest errors
    limits = np.finfo(dtype)
    wide_range = np.exp2(rng.uniform(limits.minexp - 20, limits.maxexp, 200_000))
    near_one = 1 + tiny[np.abs(tiny) < 1e-2]
    spread = [np.linspace(-end, end, 500_001), rng.standard_normal(200_000), small, tiny, wide_range, near_one]
    x = np.concatenate([SPECIAL, *spread]).astype(dtype)
    if function is all_log1p:
        x = x[~(x < 0) & ~(x > 1)]
    y = np.empty_like(x)
    function(x, y)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(wide))
        expected = exact.astype(dtype)
    finite = np.isfinite(expected) & np.isfinite(y)
    np.testing.assert_array_equal(y[~finite], expected[~finite])
    units = np.abs(y[finite].astype(wide) - exact[finite]) / np.spacing(np.abs(expected[finite]))
    assert units.max() <= 4


@pytest.mark.parametrize("function", FUNCTIONS, ids=NAMES)
def test_a_number_has_the_same_bits_wherever_it_stands(function, dtype, rng):
    """In the vectors of a loop, in what remains at its end, and alone."""
    x = np.abs(rng.standard_normal(37)).astype(dtype)
    y, alone = np.empty_like(x), np.empty_like(x)
    function(x, y)
    for t in range(37):
        function(x[t : t + 1], alone[t : t + 1])
    assert np.array_equal(y, alone)
