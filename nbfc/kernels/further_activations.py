"""Activations that fewer networks have, and users' own: called by a number, and compiled when first wanted.

Each is a function of the argument z of one output that returns the activation's value and its derivative. Training
keeps the derivative beside the output (see ``workspace``), as not every one can be told from the value.

========== =========================================== =======================================
name       value                                       source
========== =========================================== =======================================
leaky_relu z where z > 0, else z / 100                 Maas et al., 2013, equation 2
elu        z where z > 0, else exp z − 1               Clevert et al., 2016, equation 15, α = 1
selu       λ z where z > 0, else λ α (exp z − 1)       Klambauer et al., 2017, equation 2
gelu       z Φ(z), Φ the normal distribution           Hendrycks and Gimpel, 2016, section 2
silu       z σ(z), also called swish                   Elfwing et al., 2018, equation 1
softplus   log(1 + exp z)                              Dugas et al., 2001, equation 2
========== =========================================== =======================================
"""

from collections.abc import Iterator
from math import erf
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

from nbfc._arrays import Array
from nbfc.kernels._addresses import ByAddress, Own, Table
from nbfc.kernels._jit import FASTMATH, kernel
from nbfc.kernels.elementwise import CODES, FURTHER, OWN, VALUES, value_arguments
from nbfc.kernels.exponential import exp, expm1
from nbfc.kernels.layers import ACTIVATION
from nbfc.kernels.logarithm import log1p


def slope_arguments(real):
    """Return the types of y and of a vector for the derivatives."""
    return real[::1], real[::1]


SLOPES = Table("slopes", slope_arguments)
activate_with_slopes = SLOPES.call


# Loops over them are vectorised only where they are written out in these.
_scalar = numba.njit(forceinline=True, error_model="numpy", fastmath=FASTMATH)


@_scalar
def leaky_relu(z):
    """Z where it is positive, else a hundredth."""
    one, small = type(z)(1), type(z)(0.01)
    return (z, one) if z > 0 else (small * z, small)


@_scalar
def elu(z):
    """Z where it is positive, else exp z − 1."""
    one = type(z)(1)
    below = expm1_below(z)
    return (z, one) if z > 0 else (below, below + one)


@_scalar
def selu(z):
    """`elu` with a scale λ, and α for what is below 0."""
    scale, alpha = type(z)(1.0507009873554805), type(z)(1.6732632423543772)
    below = scale * alpha * expm1_below(z)
    return (scale * z, scale) if z > 0 else (below, below + scale * alpha)


@_scalar
def gelu(z):
    """Z Φ(z); Φ(z) + z φ(z), φ the density of the normal distribution."""
    share, density = normal(z)
    return z * share, share + z * density


@_scalar
def silu(z):
    """Z σ(z); σ(z) (1 + z (1 − σ(z)))."""
    one = type(z)(1)
    sigma = one / (one + exp(-z))
    return z * sigma, sigma * (one + z * (one - sigma))


@_scalar
def softplus(z):
    """log(1 + exp z); σ(z), with e = exp(−|z|), which never overflows."""
    zero, one = type(z)(0), type(z)(1)
    e = exp(-abs(z))
    return max(z, zero) + log1p(e), (one if z >= zero else e) / (one + e)


@_scalar
def expm1_below(z):
    """Return exp z − 1 for z ≤ 0, and 0 above."""
    least, zero = type(z)(-80), type(z)(0)
    below = zero if z > zero else z  # this way round NaN stays NaN
    return expm1(least if below < least else below)


def normal(z):
    """Return Φ(z) and φ(z), of the normal distribution."""
    raise NotImplementedError


@overload(normal, inline="always")
def _normal(z):
    """In float32 by Abramowitz and Stegun, 1964, formula 7.1.26, whose error function is right within 1.5e-7."""
    real = np.float32 if z == types.float32 else np.float64
    half, one, root, peak = real(0.5), real(1), real(0.7071067811865476), real(0.3989422804014327)
    if z == types.float64:

        def normal(z):
            return half * (one + erf(z * root)), peak * exp(-half * z * z)

        return normal
    p, a1, a2, a3, a4, a5 = (
        np.float32(number) for number in (0.3275911, 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
    )

    def normal(z):
        t = one / (one + p * abs(z) * root)
        e = exp(-half * z * z)
        rest = half * t * (a1 + t * (a2 + t * (a3 + t * (a4 + t * a5)))) * e  # beyond |z|, on one side
        return one - rest if z > 0 else rest, peak * e

    return normal


def _loops(name: str, values: Any, slopes: Any) -> Iterator[tuple[Table, Any, Any]]:
    """Yield each loop with its table and the types of its arguments, after giving it a name of its own."""
    for table, loop, arguments in ((VALUES, values, value_arguments), (SLOPES, slopes, slope_arguments)):
        loop.__name__ = name.format(loop.__name__)
        yield table, loop, arguments


def _enter(code: int, function: Any) -> None:
    """Make both kernels of a function of z, and give them its code."""

    def values(y):
        for t in range(y.shape[0]):
            y[t], _ = function(y[t])

    def slopes(y, d):
        for t in range(y.shape[0]):
            y[t], d[t] = function(y[t])

    for table, loop, arguments in _loops(f"{{}}_{code}", values, slopes):
        table.add(code, kernel(loop, once=arguments).kernel)


def _enter_own(code: int, function: Any) -> None:
    """Do so for a user's function. What that raises counts as NaN: threads could not tell anyone."""

    def values(y):
        for t in range(y.shape[0]):
            try:
                y[t], _ = function(y[t])
            except Exception:
                y[t] = np.nan

    def slopes(y, d):
        for t in range(y.shape[0]):
            try:
                y[t], d[t] = function(y[t])
            except Exception:
                y[t] = d[t] = np.nan

    for table, loop, arguments in _loops(f"own_{{}}_{code}", values, slopes):
        table.add(code, ByAddress(numba.njit(loop, error_model="numpy", nogil=True), arguments, is_own=True))


for _code, _function in zip(FURTHER.values(), (leaky_relu, elu, selu, gelu, silu, softplus), strict=True):
    _enter(_code, _function)

OWN_ACTIVATIONS = Own(OWN, _enter_own)


def code_of(activation: Any) -> int | None:
    """Return the code of an activation by its name, or of a user's function of z; None for what is neither."""
    if isinstance(activation, str):
        return CODES.get(activation)
    return OWN_ACTIVATIONS.code(activation)


def own_of(layers: Array) -> dict[int, Any]:
    """Return users' functions in a table of layers, by their codes in this process."""
    return {code: own for code, own in OWN_ACTIVATIONS.functions().items() if code in layers[:, ACTIVATION]}


def ask_for_activations(layers: Array, dtype: Any) -> None:
    """Let what a table of layers needs be compiled (see `Table.ask`)."""
    for code in set(layers[:, ACTIVATION].tolist()):
        VALUES.ask(code, dtype)
        SLOPES.ask(code, dtype)
