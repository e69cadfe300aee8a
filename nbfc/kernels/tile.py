"""The register tile: the one piece of code that all matrix products of this package are made of.

Contract. A tile of C, `rows` × `columns`, is held in vector registers while k runs from 0 to K − 1::

                      columns ≤ vectors · lanes
                      ┌───────────────────┐
                      │ B   row k         │  read as `vectors` vectors
                      └───────────────────┘
        ┌─────────┐   ┌───────────────────┐
   rows │ A     k │   │ C                 │  rows · vectors registers
        └─────────┘   └───────────────────┘
    read as scalars,        C[r, j] ← max(s[r, j] + Σ_k A[r, k] · B[k, j], floor)
    each spread over
    a vector

- A[r, k] lies at a + (r · a_row + k · a_column) · size: any strides, so a transpose costs nothing.
- B[k, j] lies at b + (k · b_row + j) · size, C[r, j] at c + (r · c_row + j) · size. Nothing is read or written beyond
  `columns`, and no address needs to be aligned to more than an entry.
- s is 0 (start ZERO), the vector at `bias` (BIAS), or C as it was (C); C is only written otherwise.
- floor is −∞ for no effect; NaN stays NaN.
- Each entry is summed by fused multiply-adds in the order of k, whatever the tile's shape: a matrix cut into tiles
  in another way has the same bits.

The number of lanes and of rows follows the CPU that Numba compiles for.
"""

from functools import cache

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

ZERO, BIAS, C = range(3)

MOST_VECTORS = 3

_INT, _LANE = ir.IntType(64), ir.IntType(32)


@cache
def _registers(triple, cpu, features):
    """Return the bytes of a vector register and how many rows a tile has: as many as leave some registers free.

    LLVM is asked, by compiling one addition: a CPU may have wide registers and yet be better off with narrow ones.
    """
    module = llvm.parse_assembly(
        f'target triple = "{triple}"\n'
        "define void @f(ptr %p) {\n"
        "  %x = load <16 x float>, ptr %p, align 4\n  %y = fadd <16 x float> %x, %x\n"
        "  store <16 x float> %y, ptr %p, align 4\n  ret void\n}\n"
    )
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=3)
    assembly = machine.emit_assembly(module)
    if "zmm" in assembly:
        return 64, 8  # 24 of 32 registers hold C, 3 a row of B
    if "ymm" in assembly:
        return 32, 4  # 12 of 16 hold C, 3 a row of B, 1 an entry of A
    return 16, 8 if "aarch64" in triple or "arm64" in triple else 4


def _target(context):
    return _registers(*context.codegen().magic_tuple())


@intrinsic
def lanes(typingctx, number):
    """Return how many entries of number's type a vector register holds."""

    def codegen(context, builder, signature, args):
        return ir.Constant(_INT, _target(context)[0] // (signature.args[0].bitwidth // 8))

    return types.intp(number), codegen


@intrinsic
def size_of(typingctx, number):
    """Return the bytes of an entry of number's type."""

    def codegen(context, builder, signature, args):
        return ir.Constant(_INT, signature.args[0].bitwidth // 8)

    return types.intp(number), codegen


@intrinsic
def read(typingctx, address, number):
    """Return the entry of number's type at an address."""

    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        return builder.load(pointer, align=signature.args[1].bitwidth // 8)

    return number(types.intp, number), codegen


@intrinsic
def write(typingctx, address, number):
    """Write an entry of number's type to an address."""

    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        builder.store(args[1], pointer, align=signature.args[1].bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.intp, number), codegen


@intrinsic
def tile_rows(typingctx):
    """Return the number of rows of a full tile."""

    def codegen(context, builder, signature, args):
        return ir.Constant(_INT, _target(context)[1])

    return types.intp(), codegen


def make_tile(vectors, single_row=False):
    """Return the tile of so many vectors a row, for use in compiled code; its rows are `tile_rows()`, or one."""

    @intrinsic
    def tile(typingctx, a, a_row, a_column, b, b_row, c, c_row, K, columns, start, bias, floor):
        integers = [types.intp] * 11

        def codegen(context, builder, signature, args):
            width, rows = _target(context)
            number = context.get_value_type(signature.args[-1])
            emit = _Emitter(builder, number, width, 1 if single_row else rows, vectors)
            # AVX-512 has mask registers; elsewhere a mask takes the place of a vector, or of many instructions.
            emit.tile(args, always_masked=width == 64)
            return context.get_dummy_value()

        return types.void(*integers, floor), codegen

    return tile


class _Emitter:
    """Writes a tile's instructions, for one type of number and one shape."""

    def __init__(self, builder, number, width, rows, vectors):
        self.builder, self.number, self.rows, self.vectors = builder, number, rows, vectors
        self.size = 4 if isinstance(number, ir.FloatType) else 8
        self.lanes = width // self.size
        self.vector = ir.VectorType(number, self.lanes)
        self.mask = None
        kind = f"v{self.lanes}f{8 * self.size}"
        bits = ir.VectorType(ir.IntType(1), self.lanes)
        pointer = self.vector.as_pointer()
        self.fma = self._declare(f"llvm.fmuladd.{kind}", self.vector, [self.vector] * 3)
        self.load_some = self._declare(f"llvm.masked.load.{kind}.p0", self.vector, [pointer, _LANE, bits, self.vector])
        self.store_some = self._declare(
            f"llvm.masked.store.{kind}.p0", ir.VoidType(), [self.vector, pointer, _LANE, bits]
        )

    def _declare(self, name, result, arguments):
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)

    def _bytes(self, entries):
        return self.builder.mul(entries, ir.Constant(_INT, self.size))

    def _pointer(self, address, vector):
        offset = ir.Constant(_INT, vector * self.lanes * self.size)
        return self.builder.inttoptr(self.builder.add(address, offset), self.vector.as_pointer())

    def _partial(self, vector):
        return self.mask is not None and vector == self.vectors - 1

    def _load(self, address, vector):
        pointer = self._pointer(address, vector)
        if self._partial(vector):
            zeros = ir.Constant(self.vector, [0.0] * self.lanes)
            return self.builder.call(self.load_some, [pointer, ir.Constant(_LANE, self.size), self.mask, zeros])
        return self.builder.load(pointer, align=self.size)

    def _store(self, value, address, vector):
        pointer = self._pointer(address, vector)
        if self._partial(vector):
            self.builder.call(self.store_some, [value, pointer, ir.Constant(_LANE, self.size), self.mask])
        else:
            self.builder.store(value, pointer, align=self.size)

    def _spread(self, value, vector):
        """Return a vector whose lanes all hold `value`."""
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_LANE, 0))
        lanes = ir.Constant(ir.VectorType(_LANE, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def _mask_of(self, columns):
        """Return which lanes of a row's last vector lie within `columns`."""
        integers = ir.VectorType(_INT, self.lanes)
        first = (self.vectors - 1) * self.lanes
        indices = ir.Constant(integers, [first + lane for lane in range(self.lanes)])
        return self.builder.icmp_signed("<", indices, self._spread(columns, integers))

    def tile(self, arguments, always_masked):
        """Write the tile with a mask for its last vector, and where that costs, once more without for full tiles."""
        *arguments, columns, start, bias, floor = arguments
        arguments = (*arguments, start, bias, floor)
        builder = self.builder
        if always_masked:
            self.mask = self._mask_of(columns)
            self._body(*arguments)
            return
        full = builder.icmp_signed("==", columns, ir.Constant(_INT, self.vectors * self.lanes))
        with builder.if_else(full) as (then, otherwise):
            with then:
                self._body(*arguments)
            with otherwise:
                self.mask = self._mask_of(columns)
                self._body(*arguments)

    def _body(self, a, a_row, a_column, b, b_row, c, c_row, K, start, bias, floor):
        builder, rows, vectors = self.builder, range(self.rows), range(self.vectors)
        c_rows = [builder.add(c, self._bytes(builder.mul(c_row, ir.Constant(_INT, r)))) for r in rows]
        a_rows = [builder.add(a, self._bytes(builder.mul(a_row, ir.Constant(_INT, r)))) for r in rows]
        a_step, b_step = self._bytes(a_column), self._bytes(b_row)

        sums = self._start(start, bias, c_rows)

        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("k", "k.body", "k.after"))
        builder.branch(head)
        builder.position_at_end(head)
        k, a_offset, b_address = (self._phi(_INT, value, before) for value in (ir.Constant(_INT, 0),) * 2 + (b,))
        totals = [self._phi(self.vector, value, before) for value in sums]
        builder.cbranch(builder.icmp_signed("<", k, K), body, after)

        builder.position_at_end(body)
        b_vectors = [self._load(b_address, v) for v in vectors]
        for r in rows:
            pointer = builder.inttoptr(builder.add(a_rows[r], a_offset), self.number.as_pointer())
            entry = self._spread(builder.load(pointer, align=self.size), self.vector)
            for v in vectors:
                total = totals[r * self.vectors + v]
                total.add_incoming(builder.call(self.fma, [entry, b_vectors[v], total]), body)
        k.add_incoming(builder.add(k, ir.Constant(_INT, 1)), body)
        a_offset.add_incoming(builder.add(a_offset, a_step), body)
        b_address.add_incoming(builder.add(b_address, b_step), body)
        builder.branch(head)

        builder.position_at_end(after)
        floors = self._spread(floor, self.vector)
        for r in rows:
            for v in vectors:
                total = totals[r * self.vectors + v]
                low = builder.fcmp_ordered("<", total, floors)  # false for NaN
                self._store(builder.select(low, floors, total), c_rows[r], v)

    def _phi(self, kind, value, block):
        phi = self.builder.phi(kind)
        phi.add_incoming(value, block)
        return phi

    def _start(self, start, bias, c_rows):
        """Return what the sums begin with, row by row."""
        builder, vectors = self.builder, range(self.vectors)
        zero, from_bias, from_c, ready = (builder.append_basic_block(name) for name in ("zero", "bias", "c", "ready"))
        switch = builder.switch(start, zero)
        switch.add_case(ir.Constant(_INT, BIAS), from_bias)
        switch.add_case(ir.Constant(_INT, C), from_c)
        builder.position_at_end(zero)
        builder.branch(ready)
        builder.position_at_end(from_bias)
        biases = [self._load(bias, v) for v in vectors] * self.rows
        builder.branch(ready)
        builder.position_at_end(from_c)
        entries = [self._load(row, v) for row in c_rows for v in vectors]
        builder.branch(ready)
        builder.position_at_end(ready)
        zeros = ir.Constant(self.vector, [0.0] * self.lanes)
        sums = []
        for from_vector, from_entry in zip(biases, entries, strict=True):
            phi = self._phi(self.vector, zeros, zero)
            phi.add_incoming(from_vector, from_bias)
            phi.add_incoming(from_entry, from_c)
            sums.append(phi)
        return sums
