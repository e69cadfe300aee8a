"""Time the four kernels beside NumPy's calls for the same, over a grid of sizes: where is NumPy faster, and how much?

    python kernels_and_numpy.py                     sides 1, 7, 64, 200, 512, 2048 in float32
    python kernels_and_numpy.py --dtype float64 --sides 64 512

NumPy runs in a process of its own: the threads of its BLAS spin for a while after each product, and would be in the
way. Shapes are N, m, n; below 64³ operations a call's own cost, in Python, is most of its time.
"""

import argparse
import json
import subprocess
import sys
import timeit
from itertools import product
from statistics import median

import numpy as np

ENOUGH = 64**3


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
    call()
    once = min(timeit.repeat(call, number=1, repeat=3))
    count = max(2, int(6e-3 / max(once, 1e-7)))
    return median(timeit.repeat(call, number=count, repeat=5)) / count


def worker(whose, sides, dtype):
    """Print {"kernel N m n": seconds} as JSON."""
    found = {}
    for N, m, n in product(sides, repeat=3):
        for kernel, pair in calls(N, m, n, dtype).items():
            if kernel != "bias_gradient" or m == sides[0]:  # it has no inputs
                found[f"{kernel} {N} {m} {n}"] = seconds(pair[whose])
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[1, 7, 64, 200, 512, 2048])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--worker", type=int, choices=[0, 1], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        worker(options.worker, options.sides, options.dtype)
        return
    command = [sys.executable, *sys.argv, "--worker"]
    ours, theirs = (
        json.loads(subprocess.run([*command, whose], capture_output=True, text=True, check=True).stdout)
        for whose in ("0", "1")
    )
    ratios = {key: theirs[key] / ours[key] for key in ours}
    for key, ratio in sorted(ratios.items(), key=lambda item: item[1]):
        kernel, *shape = key.split()
        if ratio < 1 and np.prod([int(side) for side in shape]) >= ENOUGH:
            print(f"{ratio:5.2f} × {key:30} nbfc {1e6 * ours[key]:10,.1f} µs, NumPy {1e6 * theirs[key]:10,.1f} µs")
    for kernel in ("forward", "bias_gradient", "weight_gradient", "input_gradient"):
        for what, enough in (("from 64³ up", True), ("below", False)):
            some = [
                ratio
                for key, ratio in ratios.items()
                if key.split()[0] == kernel and (np.prod([int(side) for side in key.split()[1:]]) >= ENOUGH) == enough
            ]
            if some:
                ahead = f"{sum(ratio >= 1 for ratio in some)} of {len(some)}"
                print(f"{kernel:16} {what:12} ahead on {ahead:11} median {median(some):.2f} ×, least {min(some):.2f} ×")


if __name__ == "__main__":
    main()
