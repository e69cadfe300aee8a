"""The machine's peak: fused multiply-adds on registers alone, on one thread or on many at once."""

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor

import llvmlite.binding as llvm


def fma_peak(dtype="float32", threads=1, seconds=0.2):
    """Return operations a second (two for each multiply-add and lane) of `threads` threads together."""
    kind, size = {"float32": ("float", 4), "float64": ("double", 8)}[dtype]
    run, operations = _compiled(kind, size)
    count = 1_000_000
    with ThreadPoolExecutor(threads) as pool:
        rates = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(rates) < 5:
            start = time.perf_counter()
            list(pool.map(run, [count] * threads))
            rates.append(operations * count * threads / (time.perf_counter() - start))
    return max(rates)


def _compiled(kind, size):
    """Return a function that takes a number of turns, and the operations of a turn."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.get_process_triple()
    features = llvm.get_host_cpu_features()
    width = 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
    registers = 16 if width < 64 and "86" in triple else 32
    # Sums at a time: more than the CPU's units times their latency, so that none waits, and none leaves its register.
    lanes, chains = width // size, registers * 3 // 4
    vector = f"<{lanes} x {kind}>"
    name = f"v{lanes}f{size * 8}"
    half = f"<{', '.join([f'{kind} 0.5'] * lanes)}>"
    phis = "\n".join(f"  %s{c} = phi {vector} [ %start, %entry ], [ %t{c}, %loop ]" for c in range(chains))
    steps = "\n".join(
        f"  %t{c} = call {vector} @llvm.fma.{name}({vector} %s{c}, {vector} {half}, {vector} {half})"
        for c in range(chains)
    )
    sums, last = [], "%t0"
    for c in range(1, chains):
        sums.append(f"  %u{c} = fadd {vector} {last}, %t{c}")
        last = f"%u{c}"
    text = f"""
    target triple = "{triple}"
    declare {vector} @llvm.fma.{name}({vector}, {vector}, {vector})
    define double @run(i64 %count) "prefer-vector-width"="{width * 8}" {{
    entry:
      %number = uitofp i64 %count to {kind}
      %start = insertelement {vector} {half}, {kind} %number, i32 0
      br label %loop
    loop:
      %k = phi i64 [ 0, %entry ], [ %next, %loop ]
    {phis}
    {steps}
      %next = add i64 %k, 1
      %more = icmp ult i64 %next, %count
      br i1 %more, label %loop, label %done
    done:
    {chr(10).join(sums)}
      %first = extractelement {vector} {last}, i32 0
      %result = {"fpext float %first to double" if kind == "float" else "fadd double %first, 0.0"}
      ret double %result
    }}"""
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(engine.get_function_address("run"))
    function.engine = engine  # kept alive with the function
    return function, 2 * lanes * chains
