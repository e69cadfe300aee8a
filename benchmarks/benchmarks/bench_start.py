"""What a user waits for before the first step is done, in a new process: without compiled code on disk, and with it."""

import os
import subprocess
import sys
import tempfile

IMPORT = "import nbfc"
STEP = """
import numpy as np, nbfc
net = nbfc.MLP([64, 256, 10], seed=0)
nbfc.Trainer(net, "cross_entropy", "adam").step(np.zeros((32, 64)), np.zeros(32, int))
"""


def seconds(code, folder):
    """Return how long a new process takes over some code, but for starting Python."""
    timed = f"import time\nstarted = time.perf_counter()\n{code}\nprint(time.perf_counter() - started)"
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
    done = subprocess.run([sys.executable, "-c", timed], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def track_import():
    with tempfile.TemporaryDirectory() as folder:
        return min(seconds(IMPORT, folder) for _ in range(5))


def track_first_step_cold():
    """Import, compile, step."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds(STEP, folder)


def track_first_step_warm():
    """Import, load, step."""
    with tempfile.TemporaryDirectory() as folder:
        seconds(STEP, folder)
        return min(seconds(STEP, folder) for _ in range(5))


for benchmark in (track_import, track_first_step_cold, track_first_step_warm):
    benchmark.unit = "seconds"
    benchmark.timeout = 300
