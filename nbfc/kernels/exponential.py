"""exp and tanh in plain arithmetic, so that the compiler makes loops over them into vector code.

Numba's own are calls into the C library, one number at a time. These are right to 4 units in the last place, in float32
and in float64, over the whole range: infinities, NaN and subnormal numbers included.

They write x = n ln 2 + r with a whole n and |r| ≤ (ln 2)/2, so that exp x = 2ⁿ exp r (tanh has powers of two instead),
and sum the Taylor series of exp r − 1 until its terms are below the rounding. n is found by adding a number so large
that only whole numbers can be represented near it: NaN needs no special care then, as a conversion to an integer would.
(Where sums may be reordered that addition would be undone: kernels that call these must not be compiled with
``reassociate``.)
"""

from functools import reduce
from math import factorial, log

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload


def exp(x):
    """Return exp x, for a float32 or a float64 in compiled code."""
    raise NotImplementedError("exp of nbfc.kernels.exponential is for compiled code")


def tanh(x):
    """Return tanh x, for a float32 or a float64 in compiled code."""
    raise NotImplementedError("tanh of nbfc.kernels.exponential is for compiled code")


@overload(exp, inline="always")
def _exp(x):
    low, high = (-104, 89) if x == types.float32 else (-746, 710)  # beyond: 0 and inf
    real = np.float32 if x == types.float32 else np.float64
    low, high, half, one, shift = real(low), real(high), real(0.5), real(1), _SHIFT[x]

    def exp(x):
        below = high if x > high else x
        _, n, r = split(low if below < low else below)
        shifted = n * half + shift  # 2ⁿ in two factors, neither of which is subnormal or infinite
        first = shifted - shift
        return (one + expm1_of_rest(r)) * power_of_two(shifted) * power_of_two(n - first + shift)

    return exp


def expm1(x):
    """Return exp x − 1 where |x| ≤ 80, in compiled code."""
    raise NotImplementedError("expm1 of nbfc.kernels.exponential is for compiled code")


@overload(expm1, inline="always")
def _expm1(x):
    """2ⁿ (exp r − 1) + (2ⁿ − 1), in which small x lose nothing."""
    one = (np.float32 if x == types.float32 else np.float64)(1)

    def expm1(x):
        shifted, _, r = split(x)
        scale = power_of_two(shifted)
        return scale * expm1_of_rest(r) + (scale - one)

    return expm1


@overload(tanh, inline="always")
def _tanh(x):
    """With e = exp(2|x|) − 1: tanh |x| = e / (e + 2).

    In powers of two, 2|x| / ln 2 = n + r: that this quotient is rounded matters least where it is largest.
    """
    high = 10 if x == types.float32 else 20  # beyond: 1, but for less than half a unit in the last place
    real = np.float32 if x == types.float32 else np.float64
    high, per_two, one, two, shift = real(high), real(2 / log(2)), real(1), real(2), _SHIFT[x]

    def tanh(x):
        size = abs(x)
        size = high if size > high else size
        shifted = size * per_two + shift
        n = shifted - shift
        scale = power_of_two(shifted)
        e = scale * power_less_one(size * per_two - n) + (scale - one)
        return copysign(e / (e + two), x)

    return tanh


# ---- pieces, each an instruction or a few ---------------------------------------------------------------------------


def split(x):
    """Return n + `_SHIFT`, n and r of x = n ln 2 + r."""
    raise NotImplementedError


@overload(split, inline="always")
def _split(x):
    real = np.float32 if x == types.float32 else np.float64
    per_ln2, ln2_high, ln2_low = (real(number) for number in (1.4426950408889634, *LN2[x]))
    shift = _SHIFT[x]

    def split(x):
        shifted = x * per_ln2 + shift
        n = shifted - shift
        return shifted, n, (x - n * ln2_high) - n * ln2_low

    return split


# ln 2 in two numbers, of which the first is short: its product with any whole number that occurs is exact
LN2 = {
    types.float32: (0.693359375, -2.12194440054690583e-4),
    types.float64: (0.6931471803691238, 1.9082149292705878e-10),
}
# 1.5 · 2ᵐ for numbers of m bits after the first: the sum with a small number is rounded to a whole one
_SHIFT = {types.float32: np.float32(1.5 * 2**23), types.float64: np.float64(1.5 * 2**52)}


def multiply_add(builder, x, y, z):
    """Write x · y + z, rounded once where the CPU can."""
    function = builder.module.declare_intrinsic("llvm.fmuladd", [x.type], ir.FunctionType(x.type, [x.type] * 3))
    return builder.call(function, [x, y, z])


def polynomial(builder, x, coefficients):
    """Write a polynomial by Horner's rule; the coefficient of the highest power comes first."""
    first, *others = (x.type(number) for number in coefficients)
    return reduce(lambda total, number: multiply_add(builder, total, x, number), others, first)


def _make_series(rate):
    """Return what gives exp(rate · r) − 1 = rate · r + (rate · r)²/2! + …, for |rate · r| ≤ (ln 2)/2."""

    @intrinsic
    def series(typingctx, r):
        def codegen(context, builder, signature, args):
            (r,) = args
            degree = 7 if signature.args[0] == types.float32 else 13
            total = polynomial(builder, r, [rate**k / factorial(k) for k in range(degree, 1, -1)])
            beyond = builder.fmul(total, builder.fmul(r, r))  # apart: the sum is then rounded but once
            return multiply_add(builder, r, r.type(rate), beyond)

        return r(r), codegen

    return series


expm1_of_rest, power_less_one = _make_series(1), _make_series(log(2))


@intrinsic
def power_of_two(typingctx, shifted):
    """Return 2ⁿ for n + `_SHIFT`, n whole and at least that of the smallest normal number, by making its bits."""

    def codegen(context, builder, signature, args):
        bits, significand, bias = (32, 23, 127) if signature.args[0] == types.float32 else (64, 52, 1023)
        integer = ir.IntType(bits)
        n = builder.shl(builder.bitcast(args[0], integer), integer(significand))
        return builder.bitcast(builder.add(n, integer(bias << significand)), args[0].type)

    return shifted(shifted), codegen


@intrinsic
def copysign(typingctx, size, sign):
    """Return `size` with the sign of `sign`."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(args[0].type, [args[0].type] * 2)
        function = builder.module.declare_intrinsic("llvm.copysign", [args[0].type], kind)
        return builder.call(function, args)

    return size(size, sign), codegen


@intrinsic
def place_in_order(typingctx, x):
    """Return an integer of as many bits, by which numbers are in the same order; NaN is beyond ∞, or beyond −∞."""
    integer = types.int32 if x == types.float32 else types.int64

    def codegen(context, builder, signature, args):
        kind = ir.IntType(integer.bitwidth)
        return _turned(builder, builder.bitcast(args[0], kind))

    return integer(x), codegen


@intrinsic
def number_in_order(typingctx, place, like):
    """Return the number with a place in order, of the type that `like` has."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(_turned(builder, args[0]), args[1].type)

    return like(place, like), codegen


def _turned(builder, bits):
    """Turn round the order of negative numbers, whose bits are a sign and a size."""
    integer = bits.type
    sign = builder.ashr(bits, integer(integer.width - 1))
    return builder.xor(bits, builder.lshr(sign, integer(1)))
