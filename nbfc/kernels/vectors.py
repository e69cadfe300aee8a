"""Vector registers: what the CPU that Numba compiles for has, and a writer of instructions on vectors.

The tiles are written with it, where Numba's own loops stop far below the machine's speed.
"""

from functools import cache
from typing import NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir

INT, _LANE = ir.IntType(64), ir.IntType(32)


class Target(NamedTuple):
    """Bytes of a vector register, and how many rows of `MOST_VECTORS` of them leave some registers free."""

    width: int
    rows: int


MOST_VECTORS = 3  # of a panel's row
WIDEST = 64  # bytes of the widest vector register there is
LINE = 64  # bytes of a line of the cache


@cache
def _target(triple, cpu, features):
    """Ask LLVM, by compiling one addition: a CPU may have wide registers and yet be better off with narrow ones."""
    module = llvm.parse_assembly(
        f'target triple = "{triple}"\n'
        "define void @f(ptr %p) {\n"
        "  %x = load <16 x float>, ptr %p, align 4\n  %y = fadd <16 x float> %x, %x\n"
        "  store <16 x float> %y, ptr %p, align 4\n  ret void\n}\n"
    )
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=3)
    assembly = machine.emit_assembly(module)
    if "zmm" in assembly:
        return Target(64, 8)  # 24 of 32 registers hold sums, 3 a row of B
    if "ymm" in assembly:
        return Target(32, 4)  # 12 of 16 hold sums, 3 a row of B, 1 an entry of A
    if "aarch64" in triple or "arm64" in triple:
        return Target(16, 8)  # as the first
    return Target(16, 2)  # 6 of 16 hold sums: with no multiply-add, products need room too (4 rows spill: 15% slower)


def target(context):
    """Return the `Target` that Numba compiles for."""
    return _target(*context.codegen().magic_tuple())


def write_prefetch(builder, address, to_write):
    """Write the instruction that asks for the line of the cache at an address, to be read or, if 1, written as well."""
    pointer, flag = builder.inttoptr(address, ir.IntType(8).as_pointer()), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
    name = "llvm.prefetch.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    second_level, data = flag(2), flag(1)
    builder.call(function, [pointer, flag(to_write), second_level, data])


class Mask(NamedTuple):
    """The first lanes of a vector: a truth value for each, how many there are, and the address of ones and zeros."""

    bits: ir.Value
    count: ir.Value
    place: ir.Value | None = None


class Vectors:
    """Writes instructions on vectors of one type of number: as many as a register holds, or a `part` of them."""

    def __init__(self, context, builder, number, part=1):
        self.builder, self.number = builder, number
        self.size = 4 if isinstance(number, ir.FloatType) else 8
        width = target(context).width
        self.lanes = width // self.size // part
        # AVX-512 has mask registers; elsewhere a mask takes the place of a vector, or of many instructions.
        self.masks_are_free = width == 64
        self.kind = ir.VectorType(number, self.lanes)
        self.bits = ir.VectorType(ir.IntType(1), self.lanes)
        self.zeros = ir.Constant(self.kind, [0.0] * self.lanes)

    def _call(self, name, result, args):
        module, name = self.builder.module, f"llvm.{name}.v{self.lanes}f{8 * self.size}"
        name += ".p0" if ".masked." in name else ""
        function = module.globals.get(name) or ir.Function(
            module, ir.FunctionType(result, [a.type for a in args]), name
        )
        return self.builder.call(function, args)

    def bytes(self, entries):
        """Return a number of entries as a number of bytes."""
        return self.builder.mul(entries, INT(self.size))

    def _pointer(self, address, v=0):
        offset = INT(v * self.lanes * self.size)
        return self.builder.inttoptr(self.builder.add(address, offset), self.kind.as_pointer())

    def scalar(self, address):
        """Load one entry."""
        pointer = self.builder.inttoptr(address, self.number.as_pointer())
        return self.builder.load(pointer, align=self.size)

    def load(self, address, v=0, mask=None):
        """Load the v-th vector from an address; lanes that the mask leaves out are not read, and zero."""
        if mask is None:
            return self.builder.load(self._pointer(address, v), align=self.size)
        args = [self._pointer(address, v), ir.Constant(_LANE, self.size), mask.bits, self.zeros]
        return self._call("masked.load", self.kind, args)

    def store(self, value, address, v=0, mask=None):
        """Store the v-th vector from an address; lanes that the mask leaves out are not written."""
        self.store_all([value], [(address, v, mask)])

    def store_all(self, values, places):
        """Store each value at a place: an address, a vector from there, and a mask."""
        parts = {}
        for value, (address, v, mask) in zip(values, places, strict=True):
            pointer = self._pointer(address, v)
            if mask is None:
                self.builder.store(value, pointer, align=self.size)
            elif self.masks_are_free:
                self._call("masked.store", ir.VoidType(), [value, pointer, ir.Constant(_LANE, self.size), mask.bits])
            else:
                parts.setdefault(mask, []).append((value, self.builder.ptrtoint(pointer, INT)))
        for mask, stores in parts.items():
            self._store_parts(mask.count, *zip(*stores, strict=True))

    def _store_parts(self, count, values, addresses):
        """Store the first `count` lanes of each value: all of them, or a half, a quarter and so on, as its bits say.

        A store under a mask that lies in a vector takes AMD's CPUs as long as ten of these; SSE and NEON have none.
        """
        builder, lanes = self.builder, self.lanes
        self._store_where(builder.and_(count, INT(lanes)), values, addresses)
        while lanes > 1:
            lanes //= 2
            bit = builder.and_(count, INT(lanes))
            lower, upper = ([self._part(value, first, lanes) for value in values] for first in (0, lanes))
            self._store_where(bit, lower, addresses)
            there = builder.icmp_signed("!=", bit, INT(0))
            values = [builder.select(there, *pair) for pair in zip(upper, lower, strict=True)]
            addresses = [builder.add(address, self.bytes(bit)) for address in addresses]

    def _store_where(self, bit, values, addresses):
        builder = self.builder
        with builder.if_then(builder.icmp_signed("!=", bit, INT(0))):
            for value, address in zip(values, addresses, strict=True):
                builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=self.size)

    def _part(self, value, first, count):
        """Return `count` lanes of a value from the first one on."""
        lanes = ir.Constant(ir.VectorType(_LANE, count), list(range(first, first + count)))
        return self.builder.shuffle_vector(value, value, lanes)

    def multiply_add(self, x, y, z):
        """Return x · y + z, rounded once where the CPU can."""
        return self._call("fmuladd", self.kind, [x, y, z])

    def spread(self, value):
        """Return a vector with `value` in every lane."""
        vector = ir.VectorType(value.type, self.lanes)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, _LANE(0))
        zeros = ir.Constant(ir.VectorType(_LANE, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def mask(self, count):
        """Return a mask of the first `count` lanes: of none below 1, of all from the number of lanes on."""
        # Not by a comparison of the lanes' places with the count: LLVM would make it again in each turn of a loop.
        builder = self.builder
        count = builder.select(builder.icmp_signed("<", count, INT(0)), INT(0), count)
        count = builder.select(builder.icmp_signed(">", count, INT(self.lanes)), INT(self.lanes), count)
        if self.masks_are_free:
            ones = builder.sub(builder.shl(INT(1), count), INT(1))
            return Mask(builder.bitcast(builder.trunc(ones, ir.IntType(self.lanes)), self.bits), count)
        table = self._ones_and_zeros(ir.IntType(8 * self.size))
        start = builder.gep(table, [INT(0), builder.sub(INT(self.lanes), count)])
        return self.mask_at(builder.ptrtoint(start, INT), count)

    def mask_at(self, place, count):
        """Return a mask of `count` lanes from the ones and zeros at its place."""
        kind = ir.VectorType(ir.IntType(8 * self.size), self.lanes)
        ones = self.builder.load(self.builder.inttoptr(place, kind.as_pointer()), align=self.size)
        return Mask(self.builder.icmp_signed("<", ones, kind([0] * self.lanes)), count, place)

    def _ones_and_zeros(self, lane):
        """Return a constant array: as many lanes of ones as a vector has, then as many of zeros."""
        module, name = self.builder.module, f"nbfc.lanes.{self.lanes}.{self.size}"
        if name not in module.globals:
            table = ir.GlobalVariable(module, ir.ArrayType(lane, 2 * self.lanes), name)
            table.initializer = ir.Constant(table.type.pointee, [-1] * self.lanes + [0] * self.lanes)
            table.linkage, table.global_constant = "internal", True
        return module.globals[name]

    def with_masks(self, count, vectors, body, only_last=True):
        """Write ``body(masks)`` for rows of `count` entries in so many vectors, a mask or None for each vector.

        `only_last` promises that all vectors but the last are full, and that one has a mask in any case. Otherwise rows
        that fill all vectors go without masks, where these are not free.
        """
        builder = self.builder

        def some():
            masks = [self.mask(builder.sub(count, INT(v * self.lanes))) for v in range(vectors)]
            body([None] * (vectors - 1) + masks[-1:] if only_last else masks)

        if self.masks_are_free or only_last:
            some()
            return
        full = builder.icmp_signed(">=", count, INT(vectors * self.lanes))
        with builder.if_else(full) as (then, otherwise):
            with then:
                body([None] * vectors)
            with otherwise:
                some()

    def addresses(self, first, stride, count, actual=None):
        """Return `count` addresses, `stride` entries apart; from the `actual` number on the last one again."""
        builder, found, step = self.builder, [first], self.bytes(stride)
        for r in range(1, count):
            there = None if actual is None else builder.icmp_signed("<", INT(r), actual)
            found.append(builder.add(found[-1], step if there is None else builder.select(there, step, INT(0))))
        return found

    def loop(self, first, end, step, values, body):
        """Write a loop over k from `first` to `end`, whose body gives the next values; return k and the values then."""
        builder, before = self.builder, self.builder.block
        head, inner, after = (builder.append_basic_block(name) for name in ("k", "k.body", "k.after"))
        builder.branch(head)
        builder.position_at_end(head)
        phis = [builder.phi(value.type) for value in (first, *values)]
        for phi, value in zip(phis, (first, *values), strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", phis[0], end), inner, after)
        builder.position_at_end(inner)
        for phi, value in zip(phis, (builder.add(phis[0], step), *body(phis[0], phis[1:])), strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head).set_metadata("llvm.loop", self._not_unrolled())
        builder.position_at_end(after)
        return phis

    def differ(self, one, other):
        """Return whether two vectors have different bits anywhere."""
        integers = ir.VectorType(ir.IntType(8 * self.size), self.lanes)
        lanes = self.builder.icmp_unsigned("!=", *(self.builder.bitcast(value, integers) for value in (one, other)))
        bits = ir.IntType(self.lanes)
        return self.builder.icmp_unsigned("!=", self.builder.bitcast(lanes, bits), bits(0))

    def accumulate(self, count, values, add):
        """Write ``add(values, offset, mask)``, which returns the next values, over all vectors of `count` entries."""
        lanes, minus = INT(self.lanes), self.builder.sub
        whole = minus(count, self.builder.srem(count, lanes))
        k, *new = self.loop(INT(0), whole, lanes, values, lambda k, new: add(new, self.bytes(k), None))
        return self.loop(k, count, lanes, new, lambda k, new: add(new, self.bytes(k), self.mask(minus(count, k))))[1:]

    def _not_unrolled(self):
        """Return what keeps a loop from being unrolled: a tile's sums leave no registers for what is loaded ahead."""
        module = self.builder.module
        loop = module.add_metadata([module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])])
        loop.operands = (loop, *loop.operands)  # LLVM tells loops apart by a node that names itself
        return loop

    def sums(self, values):
        """Return the sum of each vector's lanes, by halves; of a power of two of vectors.

        Halves of two vectors are added in one, then their quarters in one of four, and so on. Parts stay in the 16
        bytes where they are while they are shorter: to move them further takes more instructions.
        """
        builder, lanes = self.builder, self.lanes
        width, held = lanes, [[index] for index in range(len(values))]  # whose parts each vector holds
        while width > 1:
            if len(values) == 1:
                values, held = values * 2, [*held, [None] * len(held[0])]
            beside = max(width, min(lanes, 16 // self.size)) // width
            order = [
                (vector, part)
                for first in range(0, lanes // width, beside)
                for vector in (0, 1)
                for part in range(first, first + beside)
            ]
            masks = []
            for start in (0, width // 2):
                firsts = [vector * lanes + part * width + start for vector, part in order]
                picked = [first + lane for first in firsts for lane in range(width // 2)]
                masks.append(ir.Constant(ir.VectorType(_LANE, lanes), picked))
            values = [
                builder.fadd(*(builder.shuffle_vector(*pair, mask) for mask in masks))
                for pair in zip(values[::2], values[1::2], strict=True)
            ]
            held = [[pair[vector][part] for vector, part in order] for pair in zip(held[::2], held[1::2], strict=True)]
            width //= 2
        found = {
            index: builder.extract_element(value, _LANE(lane))
            for value, indices in zip(values, held, strict=True)
            for lane, index in enumerate(indices)
            if index is not None
        }
        return [found[index] for index in sorted(found)]

    def choose(self, code, options):
        """Return the values that ``options[code]()`` writes; each option returns as many."""
        builder = self.builder
        blocks = [builder.append_basic_block("option") for _ in options]
        after = builder.append_basic_block("chosen")
        switch = builder.switch(code, blocks[0])
        found = []
        for index, (block, option) in enumerate(zip(blocks, options, strict=True)):
            if index:
                switch.add_case(INT(index), block)
            builder.position_at_end(block)
            values = option()
            found.append((values, builder.block))
            builder.branch(after)
        builder.position_at_end(after)
        phis = [builder.phi(value.type) for value in found[0][0]]
        for values, block in found:
            for phi, value in zip(phis, values, strict=True):
                phi.add_incoming(value, block)
        return phis
