"""log and log1p in plain arithmetic, so that the compiler makes loops over them into vector code.

As in ``exponential``: right to 4 units in the last place, in float32 and in float64, log over the whole range, with
log 0 = −∞ and NaN below 0. It writes x = 2ᵏ m with √½ ≤ m < √2, so that log x = k ln 2 + log m. Both take the log of a
number m by log m = 2 artanh s = 2 (s + s³/3 + s⁵/5 + …) with s = (m − 1) / (m + 1): no two terms of the sum cancel.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from nbfc.kernels.exponential import LN2, polynomial


def log(x):
    """Return log x, for a float32 or a float64 in compiled code."""
    raise NotImplementedError("log of nbfc.kernels.logarithm is for compiled code")


def log1p(x):
    """Return log (1 + x) where 0 ≤ x ≤ 1, for a float32 or a float64 in compiled code."""
    raise NotImplementedError("log1p of nbfc.kernels.logarithm is for compiled code")


@overload(log, inline="always")
def _log(x):
    real = np.float32 if x == types.float32 else np.float64
    smallest, lift, lifted = (2.0**-126, 2.0**24, 24) if x == types.float32 else (2.0**-1022, 2.0**54, 54)
    smallest, lift, lifted = real(smallest), real(lift), real(lifted)  # subnormal numbers are brought above
    zero, one, infinity, nan = real(0), real(1), real(np.inf), real(np.nan)
    ln2_high, ln2_low = (real(part) for part in LN2[x])

    def log(x):
        subnormal = x < smallest
        k, m = exponent_and_rest(select(subnormal, x * lift, x))
        k = select(subnormal, k - lifted, k)
        s = (m - one) / (m + one)
        value = k * ln2_high + (k * ln2_low + artanh_twice(s))
        value = select(x == infinity, x, value)
        value = select(x == zero, -infinity, value)
        return select(x >= zero, value, nan)  # NaN is not

    return log


@overload(log1p, inline="always")
def _log1p(x):
    """With s = x / (x + 2) ≤ 1/3: more terms take less time than to find k."""
    two = (np.float32 if x == types.float32 else np.float64)(2)
    return lambda x: artanh_twice_to_third(x / (x + two))


@intrinsic
def select(typingctx, condition, x, y):
    """Return x where the condition holds, or else y: no branch, and so no warning of Numba's about inlined ones."""

    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return x(types.boolean, x, x), codegen


@intrinsic
def exponent_and_rest(typingctx, x):
    """Return k, as a number, and m of x = 2ᵏ m, for a normal x above 0."""

    def codegen(context, builder, signature, args):
        narrow = signature.args[0] == types.float32
        integer, significand = (ir.IntType(32), 23) if narrow else (ir.IntType(64), 52)
        bits = builder.bitcast(args[0], integer)
        root_half = integer(0x3F3504F3 if narrow else 0x3FE6A09E667F3BCD)
        k = builder.ashr(builder.sub(bits, root_half), integer(significand))
        m = builder.bitcast(builder.sub(bits, builder.shl(k, integer(significand))), args[0].type)
        return context.make_tuple(builder, signature.return_type, [builder.sitofp(k, args[0].type), m])

    return types.UniTuple(x, 2)(x), codegen


def _make_artanh_twice(lasts):
    """Return what gives 2 (s + s³/3 + s⁵/5 + …) up to a last power for float32, and for float64."""

    @intrinsic
    def artanh_twice(typingctx, s):
        def codegen(context, builder, signature, args):
            (s,) = args
            square = builder.fmul(s, s)
            total = polynomial(builder, square, [2 / k for k in range(lasts[signature.args[0]], 1, -2)])
            cube = builder.fmul(builder.fmul(square, s), total)
            return builder.fadd(builder.fmul(s, s.type(2.0)), cube)

        return s(s), codegen

    return artanh_twice


artanh_twice = _make_artanh_twice({types.float32: 9, types.float64: 23})  # for |s| ≤ 0.1716
artanh_twice_to_third = _make_artanh_twice({types.float32: 15, types.float64: 33})  # for |s| ≤ 1/3
