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
    builder, lanes = vector.builder, INT(vector.lanes)

    def add(offset, mask, totals):
        return [builder.fadd(total, term) for total, term in zip(totals, terms(offset, mask), strict=True)]

    whole = builder.sub(n, builder.srem(n, lanes))
    k, *totals = vector.loop(whole, lanes, [vector.zeros] * count, lambda k, sums: add(vector.bytes(k), None, sums))
    totals = add(vector.bytes(k), vector.mask(builder.sub(n, whole)), totals)
    share = builder.fdiv(vector.number(1.0), builder.sitofp(n, vector.number))
    return [builder.fmul(vector.sum(total), share) for total in totals]


def _each(vector, n, body):
    """Write ``body(offset, mask)`` for all vectors of a row."""
    builder, lanes = vector.builder, INT(vector.lanes)
    rest = builder.srem(n, lanes)
    whole = builder.sub(n, rest)

    def one(k, values):
        body(vector.bytes(k), None)
        return values

    vector.loop(whole, lanes, [], one)
    with builder.if_then(builder.icmp_signed(">", rest, INT(0))):  # a masked store takes its time even if it is empty
        body(vector.bytes(whole), vector.mask(rest))


@intrinsic
def normalize_row(typingctx, x, y, g, b, n, number):
    """Normalise a row (see above)."""

    def codegen(context, builder, signature, args):
        x, y, g, b, n, number = args
        vector = Vectors(context, builder, number.type)

        def at(address, offset, mask):
            return vector.load(builder.add(address, offset), 0, mask)

        (mean,) = _means(vector, n, 1, lambda offset, mask: [at(x, offset, mask)])
        middle = vector.spread(mean)

        def square(offset, mask):
            difference = builder.fsub(at(x, offset, mask), middle)
            if mask is not None:
                difference = builder.select(mask, difference, vector.zeros)
            return [builder.fmul(difference, difference)]

        (variance,) = _means(vector, n, 1, square)
        kind = ir.FunctionType(number.type, [number.type])
        root = builder.module.declare_intrinsic("llvm.sqrt", [number.type], kind)
        s = builder.fdiv(number.type(1.0), builder.call(root, [builder.fadd(variance, number.type(EPSILON))]))
        scale = vector.spread(s)

        def write(offset, mask):
            value = builder.fmul(builder.fsub(at(x, offset, mask), middle), scale)
            vector.store(value, builder.add(x, offset), 0, mask)
            result = vector.multiply_add(at(g, offset, mask), value, at(b, offset, mask))
            vector.store(result, builder.add(y, offset), 0, mask)

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

            def at(address, offset, mask):
                return vector.load(builder.add(address, offset), 0, mask)

            def given(offset, mask):
                value = at(v, offset, mask)
                return builder.fmul(at(g, offset, mask), value) if before else value

            def terms(offset, mask):
                value = given(offset, mask)
                return [value, builder.fmul(at(x, offset, mask), value)]

            means = _means(vector, n, 2, terms)
            middle, along, scale = (vector.spread(number) for number in (*means, s))

            def write(offset, mask):
                rest = builder.fsub(given(offset, mask), middle)
                rest = builder.fsub(rest, builder.fmul(at(x, offset, mask), along))
                result = builder.fmul(scale, rest)
                if not before:
                    result = builder.fmul(at(g, offset, mask), result)
                vector.store(result, builder.add(out, offset), 0, mask)

            _each(vector, n, write)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5, s), codegen

    return slope_row


back_row, along_row = _make_slope(before=True), _make_slope(before=False)
