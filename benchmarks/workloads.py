"""What the libraries are timed on: training steps and predictions, by their widths and batch sizes."""

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Workload:
    """One training step on a batch, or (without an optimizer) one prediction of a batch.

    With `inside`, nbfc predicts inside compiled code, beside loops written by hand there. The others do not offer that:
    they are called from Python. With `estimator`, a data set of ``estimators.py``, it is an epoch of the estimator with
    scikit-learn's default parameters, by nbfc's and by scikit-learn's own class.
    """

    name: str
    widths: tuple[int, ...]
    batch: int
    loss: str = "mse"  # or "cross_entropy"
    optimizer: str = ""  # "sgd", "adam", or nothing for prediction
    activation: str = "relu"
    dtype: str = "float32"
    inside: bool = False
    estimator: str = ""

    @property
    def weights(self):
        return sum(n_in * n_out for n_in, n_out in zip(self.widths[:-1], self.widths[1:], strict=True))

    @property
    def flops(self):
        """Floating-point operations of the matrix products alone: forward, ② and ③ (which the first layer lacks)."""
        forward = 2 * self.batch * self.weights
        return 3 * forward - 2 * self.batch * self.widths[0] * self.widths[1] if self.optimizer else forward

    def data(self):
        """Return X, targets and initial parameters [(W, b), ...]: the same for all libraries."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.batch, self.widths[0])).astype(self.dtype)
        n = self.widths[-1]
        y = (
            rng.integers(0, n, self.batch)
            if self.loss == "cross_entropy"
            else rng.standard_normal((self.batch, n)).astype(self.dtype)
        )
        parameters = [
            ((rng.standard_normal((n_in, n_out)) * n_in**-0.5).astype(self.dtype), np.zeros(n_out, self.dtype))
            for n_in, n_out in zip(self.widths[:-1], self.widths[1:], strict=True)
        ]
        return X, y, parameters

    def as_json(self):
        return asdict(self)

    @staticmethod
    def from_json(values):
        return Workload(**{**values, "widths": tuple(values["widths"])})


MNIST, WIDE, CONTROLLER = (784, 256, 128, 10), (512, 1024, 1024, 100), (8, 64, 64, 4)

WORKLOADS = [
    Workload("tiny", CONTROLLER, 32, "mse", "sgd"),
    Workload("small", (32, 128, 64, 1), 256, "mse", "adam"),
    Workload("mnist", MNIST, 128, "cross_entropy", "adam"),
    Workload("wide", WIDE, 512, "cross_entropy", "adam"),
    Workload("large", (1024, 4096, 4096, 1000), 512, "cross_entropy", "adam"),
    Workload("chains", (4, 32, 16, 4), 10_000, "mse", "adam", "tanh"),
    Workload("predict one, controller", CONTROLLER, 1),
    Workload("predict one, mnist", MNIST, 1),
    Workload("inside, controller", CONTROLLER, 1, inside=True),
    Workload("inside, small", (4, 32, 16, 4), 1, inside=True),
    Workload("inside, chains", (4, 32, 16, 4), 1, activation="tanh", inside=True),
    Workload("predict 4, mnist", MNIST, 4),
    Workload("predict 16, mnist", MNIST, 16),
    Workload("predict 1024, mnist", MNIST, 1024),
    Workload("predict 4096, mnist", MNIST, 4096),
    Workload("predict 1024, wide", WIDE, 1024),
    Workload("predict 4096, wide", WIDE, 4096),
    Workload("epoch, digits", (64, 100, 10), 1797, "cross_entropy", "adam", dtype="float64", estimator="digits"),
    Workload("epoch, cancer", (30, 100, 1), 569, "", "adam", dtype="float64", estimator="breast cancer"),
    Workload("epoch, diabetes", (10, 100, 1), 442, "mse", "adam", dtype="float64", estimator="diabetes"),
    Workload("epoch, synthetic", (50, 100, 1), 100_000, "", "adam", dtype="float64", estimator="synthetic"),
]


def random_workloads(count, seed):
    """Return architectures that nobody tuned for: up to five hidden layers of 1 to 2900, batches of 1 to 8192."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        widths = tuple(int(2 ** rng.uniform(0, 11.5)) for _ in range(rng.integers(2, 8)))
        loss, optimizer = str(rng.choice(["mse", "cross_entropy"])), str(rng.choice(["sgd", "adam", ""]))
        batch, dtype = int(2 ** rng.uniform(0, 13)), str(rng.choice(["float32", "float32", "float64"]))
        if loss == "cross_entropy":
            widths = (*widths[:-1], max(2, widths[-1]))
        work = Workload("", widths, batch, loss, optimizer, str(rng.choice(["relu", "tanh"])), dtype)
        if work.flops < 2e11 and work.weights < 2e7:
            found.append(Workload(**{**work.as_json(), "name": f"random {len(found)}"}))
    return found
