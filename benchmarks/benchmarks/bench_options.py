"""What options of training cost beside the plain step, and epochs of the estimators.

As in ``bench_kernels`` there is no `setup`: what is timed is made by the first call, which is a warm-up.
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
from numba import njit

import nbfc
from nbfc import Regularization, losses

sys.path.append(str(Path(__file__).parents[1]))
from estimators import DATA, epochs


@njit
def swish(z):
    sigma = 1 / (1 + np.exp(-z))
    return z * sigma, sigma * (1 + z * (1 - sigma))


@njit
def squared(y, t, dy):
    J = 0.0
    for j in range(len(y)):
        J += (y[j] - t[j]) ** 2
        dy[j] = 2 * (y[j] - t[j])
    return J


# What each changes of a step on 784-256-128-10 by cross entropy and Adam.
OPTIONS = {
    "plain": {},
    "weights": {"sample_weight": np.linspace(0.5, 1.5, 128)},
    "dropout": {"regularization": Regularization(dropout=0.3)},
    "l1 and l2": {"regularization": Regularization(l1=1e-4, l2=1e-4)},
    "max_norm": {"regularization": Regularization(max_norm=2.0)},
    "clip_norm": {"optimizer": nbfc.Adam(1e-4, clip_norm=1.0)},
    "clip_value": {"optimizer": nbfc.Adam(1e-4, clip_value=0.1)},
    "label_smoothing": {"loss": losses.CrossEntropy(0.1)},
    **{optimizer: {"optimizer": optimizer} for optimizer in ("rmsprop", "adagrad", "nadam", "lion")},
    **{loss: {"loss": loss} for loss in ("mse", "mae", "huber", "quantile", "poisson", "gaussian_nll")},
    **{name: {"activation": name} for name in ("leaky_relu", "elu", "selu", "gelu", "silu", "softplus")},
    "own loss": {"loss": losses.Custom(squared)},
    "own activation": {"activation": swish},
    "layer_norm": {"network": {"layer_norm": True}},
    "softmax": {"network": {"output_activation": "softmax"}},
}


@cache
def step(option):
    """Return a function that takes a step with an option, after three steps."""
    given = {"loss": "cross_entropy", "optimizer": nbfc.Adam(1e-4), "activation": "relu", **OPTIONS[option]}
    weights, activation = given.pop("sample_weight", None), given.pop("activation")
    network = given.pop("network", {})
    rng = np.random.default_rng(0)
    net = nbfc.MLP([784, 256, 128, 10], activation, seed=0, **network)
    trainer = nbfc.Trainer(net, **given, seed=0)
    X = rng.standard_normal((128, 784)).astype("float32")
    y = rng.random((128, trainer.loss.columns(10))).astype("float32")
    if trainer.loss.name == "cross_entropy":
        y = rng.integers(0, 10, 128)
    for _ in range(3):
        trainer.step(X, y, weights)
    return lambda: trainer.step(X, y, weights)


def time_step(option):
    step(option)()


time_step.params = (list(OPTIONS),)
time_step.param_names = ("option",)


@cache
def fit(name):
    """Return a function that fits an estimator for three epochs."""
    import nbfc.estimators

    run, _ = epochs(nbfc.estimators, name, "float64")
    run(1)
    return lambda: run(3)


def time_estimator(name):
    fit(name)()


time_estimator.params = (list(DATA),)
time_estimator.param_names = ("data",)
