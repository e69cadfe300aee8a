"""Time the four kernels beside NumPy's calls for the same, over a grid of sizes: where is NumPy faster, and how much?

    python kernels_and_numpy.py                     sides 1, 7, 64, 200, 512, 2048 in float32
    python kernels_and_numpy.py --dtype float64 --sides 64 512

Both run in a process of their own, since the threads of NumPy's BLAS spin for a while after each product, and take
turns at each shape: a time and a ratio are the medians over the turns. Shapes are N, m, n; below 64³ operations a
call's own cost, in Python, is most of its time.
"""

import argparse
import json
import sys
import time
import timeit
from itertools import product
from statistics import median

import numpy as np
from peers import PAUSE, Peer

ENOUGH = 64**3
LIBRARIES = "nbfc", "NumPy"
WARM_UP = 0.03  # seconds: until a core that slept runs at its full clock


def calls(N, m, n, dtype):
    """Return {kernel: (nbfc's call, NumPy's call)}, which write their results into arrays made beforehand."""
    from nbfc import kernels

    rng = np.random.default_rng(0)
    X, W, b, dY = (rng.standard_normal(shape).astype(dtype) for shape in ((N, m), (m, n), n, (N, n)))
    Y, dX, dW, db = (np.empty_like(array) for array in (dY, X, W, b))

    def forward():
        np.matmul(X, W, out=Y)
        np.add(Y, b, out=Y)
        np.maximum(Y, 0, out=Y)

    def weight_gradient():
        np.matmul(X.T, dY, out=dW)
        np.multiply(dW, dW.dtype.type(1 / N), out=dW)

    return {
        "forward": (lambda: kernels.forward(X, W, b, "relu", out=Y), forward),
        "bias_gradient": (lambda: kernels.bias_gradient(dY, out=db), lambda: np.mean(dY, axis=0, out=db)),
        "weight_gradient": (lambda: kernels.weight_gradient(X, dY, out=dW), weight_gradient),
        "input_gradient": (lambda: kernels.input_gradient(dY, W, out=dX), lambda: np.matmul(dY, W.T, out=dX)),
    }


def seconds(call):
    end = time.perf_counter() + WARM_UP
    while time.perf_counter() < end:
        call()
    once = min(timeit.repeat(call, number=1, repeat=3))
    count = max(2, int(6e-3 / max(once, 1e-7)))
    return median(timeit.repeat(call, number=count, repeat=5)) / count


def worker(whose, dtype):
    """Answer each shape by {kernel: seconds}, a line of JSON."""
    for line in sys.stdin:
        shape = json.loads(line)["shape"]
        print(json.dumps({kernel: seconds(pair[whose]) for kernel, pair in calls(*shape, dtype).items()}), flush=True)


def ask(library, shape):
    time.sleep(PAUSE)
    return library.ask(shape=shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[1, 7, 64, 200, 512, 2048])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--turns", type=int, default=3, help="of each at each shape")
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(LIBRARIES.index(options.worker), options.dtype)
        return
    libraries = [Peer(name, __file__, "--dtype", options.dtype) for name in LIBRARIES]
    ratios = {}
    for shape in product(options.sides, repeat=3):
        turns = [[ask(library, shape) for library in libraries] for _ in range(options.turns)]
        for kernel in turns[0][0]:
            ratios[kernel, shape] = median(theirs[kernel] / ours[kernel] for ours, theirs in turns)
            if ratios[kernel, shape] < 1 and np.prod(shape) >= ENOUGH:
                ours, theirs = (1e6 * median(turn[whose][kernel] for turn in turns) for whose in range(2))
                times = f"nbfc {ours:10,.1f} µs, NumPy {theirs:10,.1f} µs"
                print(f"{ratios[kernel, shape]:5.2f} × {kernel:16} {shape!s:20} {times}", flush=True)
    for library in libraries:
        library.close()
    for kernel in ("forward", "bias_gradient", "weight_gradient", "input_gradient"):
        for what, enough in (("from 64³ up", True), ("below", False)):
            some = [
                ratio
                for (name, shape), ratio in ratios.items()
                if name == kernel and (np.prod(shape) >= ENOUGH) == enough
            ]
            if some:
                ahead = f"{sum(ratio >= 1 for ratio in some)} of {len(some)}"
                print(f"{kernel:16} {what:12} ahead on {ahead:11} median {median(some):.2f} ×, least {min(some):.2f} ×")


if __name__ == "__main__":
    main()
