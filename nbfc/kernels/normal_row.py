"""One row through a normalisation and back, by vectors: a loop over so few numbers takes longer to start than to run.

Contract. A row has n neighbouring entries at each address, of number's type; none needs to be aligned. `g` and `b` are
gains and shifts. With ⟨·⟩ for the mean over the row and s = 1 / √(⟨(x − ⟨x⟩)²⟩ + ε)::

    normalize_row   x ← (x − ⟨x⟩) s;  y ← g ⊙ x + b;  returns s
    back_row        out ← P (g ⊙ v)                     for P u = s (u − ⟨u⟩ − x ⟨x ⊙ u⟩)
    along_row       out ← g ⊙ (P v)                     and x as the first one leaves it

A sum is taken lane by lane, and then over the lanes, by halves.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbfc.kernels.vectors import INT, Vectors

EPSILON = 1e-5


def _means(vector, n, count, terms):
    """Return `count` means over a row: terms(offset, mask) are what they are of."""
    builder = vector.builder

    def add(totals, offset, mask):
        return [builder.fadd(total, term) for total, term in zip(totals, terms(offset, mask), strict=True)]

    share = builder.fdiv(vector.number(1.0), builder.sitofp(n, vector.number))
    totals = vector.accumulate(n, [vector.zeros] * count, add)
    return [builder.fmul(total, share) for total in vector.sums(totals)]


def _load(vector, address, offset, mask):
    return vector.load(vector.builder.add(address, offset), 0, mask)


def _store(vector, value, address, offset, mask):
    vector.store(value, vector.builder.add(address, offset), 0, mask)


def _each(vector, n, body):
    """Write ``body(offset, mask)`` for all vectors of a row."""
    builder, lanes = vector.builder, INT(vector.lanes)
    rest = builder.srem(n, lanes)
    whole = builder.sub(n, rest)

    def one(k, values):
        body(vector.bytes(k), None)
        return values

    vector.loop(INT(0), whole, lanes, [], one)
    with builder.if_then(builder.icmp_signed(">", rest, INT(0))):  # even an empty store takes its time
        body(vector.bytes(whole), vector.mask(rest))


@intrinsic
def normalize_row(typingctx, x, y, g, b, n, number):
    """Normalise a row (see above)."""

    def codegen(context, builder, signature, args):
        x, y, g, b, n, number = args
        vector = Vectors(context, builder, number.type)

        (mean,) = _means(vector, n, 1, lambda offset, mask: [_load(vector, x, offset, mask)])
        middle = vector.spread(mean)

        def square(offset, mask):
            difference = builder.fsub(_load(vector, x, offset, mask), middle)
            if mask is not None:
                difference = builder.select(mask.bits, difference, vector.zeros)
            return [builder.fmul(difference, difference)]

        (variance,) = _means(vector, n, 1, square)
        kind = ir.FunctionType(number.type, [number.type])
        root = builder.module.declare_intrinsic("llvm.sqrt", [number.type], kind)
        s = builder.fdiv(number.type(1.0), builder.call(root, [builder.fadd(variance, number.type(EPSILON))]))
        scale = vector.spread(s)

        def write(offset, mask):
            value = builder.fmul(builder.fsub(_load(vector, x, offset, mask), middle), scale)
            _store(vector, value, x, offset, mask)
            result = vector.multiply_add(_load(vector, g, offset, mask), value, _load(vector, b, offset, mask))
            _store(vector, result, y, offset, mask)

        _each(vector, n, write)
        return s

    return number(*[types.intp] * 5, number), codegen


def _make_slope(before):
    """Return what multiplies a row by P, and by the gains before that or after."""

    @intrinsic
    def slope_row(typingctx, x, g, v, out, n, s):
        def codegen(context, builder, signature, args):
            x, g, v, out, n, s = args
            vector = Vectors(context, builder, s.type)

            def given(offset, mask):
                value = _load(vector, v, offset, mask)
                return builder.fmul(_load(vector, g, offset, mask), value) if before else value

            def terms(offset, mask):
                value = given(offset, mask)
                return [value, builder.fmul(_load(vector, x, offset, mask), value)]

            means = _means(vector, n, 2, terms)
            middle, along, scale = (vector.spread(number) for number in (*means, s))

            def write(offset, mask):
                rest = builder.fsub(given(offset, mask), middle)
                rest = builder.fsub(rest, builder.fmul(_load(vector, x, offset, mask), along))
                result = builder.fmul(scale, rest)
                if not before:
                    result = builder.fmul(_load(vector, g, offset, mask), result)
                _store(vector, result, out, offset, mask)

            _each(vector, n, write)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5, s), codegen

    return slope_row


back_row, along_row = _make_slope(before=True), _make_slope(before=False)
