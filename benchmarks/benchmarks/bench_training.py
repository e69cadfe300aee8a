"""Training steps and whole fits: their time, the memory they take, and what loss they reach.

As in ``bench_kernels`` there is no `setup`: what is timed is made by the first call, which is a warm-up.
"""

from functools import cache

import numpy as np

import nbfc

# Widths, activation, samples in a batch, loss, optimizer.
WORKLOADS = {
    "tiny": ((8, 64, 64, 4), "relu", 32, "mse", "sgd"),
    "small": ((32, 128, 64, 1), "relu", 256, "mse", "adam"),
    "mnist": ((784, 256, 128, 10), "relu", 128, "cross_entropy", "adam"),
    "wide": ((512, 1024, 1024, 100), "relu", 512, "cross_entropy", "adam"),
    "chains": ((4, 32, 16, 4), "tanh", 10_000, "mse", "adam"),
    "deep and narrow": ((16, *[24] * 12, 2), "tanh", 200, "mse", "adam"),
    "few rows": ((64, 2048, 2048, 10), "relu", 8, "cross_entropy", "adam"),
    "many weights": ((2000, 3000, 1000, 10), "relu", 128, "cross_entropy", "adam"),
    "many inputs": ((3000, 20, 1), "relu", 64, "binary_cross_entropy", "adam"),
}
DTYPES = ["float32", "float64"]


@cache
def trainer(name, dtype):
    """Return a trainer and a batch, after three steps."""
    widths, activation, samples, loss, optimizer = WORKLOADS[name]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((samples, widths[0])).astype(dtype)
    n = widths[-1]
    y = rng.integers(0, n, samples) if loss == "cross_entropy" else rng.random((samples, n)).astype(dtype)
    net = nbfc.MLP(widths, activation=activation, dtype=dtype, seed=0)
    made = nbfc.Trainer(net, loss, {"sgd": nbfc.SGD(1e-4), "adam": nbfc.Adam(1e-4)}[optimizer])
    losses = [made.step(X, y) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    return made, X, y


def time_step(name, dtype):
    made, X, y = trainer(name, dtype)
    made.step(X, y)


def peakmem_step(name, dtype):
    time_step(name, dtype)


def compile_first():
    """Compile before the memory of steps is measured; asv does this in a process of its own."""
    for dtype in DTYPES:
        trainer("tiny", dtype)


peakmem_step.setup_cache = compile_first


for benchmark in (time_step, peakmem_step):
    benchmark.params = (list(WORKLOADS), DTYPES)
    benchmark.param_names = ("workload", "dtype")


def fit_digits(epochs=10, seed=0):
    (X, y), test = nbfc.datasets.load_digits()
    net = nbfc.MLP([64, 256, 10], seed=seed)
    net.standardize_inputs(X)
    options = {"loss": "cross_entropy", "optimizer": nbfc.Adam(0.001), "epochs": epochs, "batch_size": 32}
    return nbfc.fit(net, X, y, validation=test, metrics=["accuracy"], seed=seed, progress=False, **options)


def fit_chains(epochs=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((20_000, 4)).astype("float32")
    y = np.sin(X @ rng.standard_normal((4, 4))).astype("float32")
    net = nbfc.MLP([4, 32, 16, 4], activation="tanh", seed=seed)
    options = {"loss": "mse", "optimizer": nbfc.Adam(0.003), "epochs": epochs, "batch_size": 256}
    return nbfc.fit(net, X, y, seed=seed, progress=False, **options)


FITS = {"digits": fit_digits, "chains": fit_chains}


def time_fit(name):
    FITS[name]()


def track_final_loss(name):
    """Return the last epoch's loss: speed is not to be bought with accuracy."""
    return FITS[name]()[-1].loss


for benchmark in (time_fit, track_final_loss):
    benchmark.params = (list(FITS),)
    benchmark.param_names = ("fit",)
track_final_loss.unit = "loss"


def track_digits_error():
    """Return the share of test digits that are mistaken for others: less is better, as asv takes it."""
    return 1 - fit_digits(epochs=30)[-1].metrics["accuracy"]


track_digits_error.unit = "share"
