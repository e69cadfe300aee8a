"""Losses: what targets each takes, and its value and gradient per sample.

===================== ====================================== ================================== =====================
name                  J⁽ⁱ⁾ of a sample with outputs y        targets                            class
===================== ====================================== ================================== =====================
"mse"                 (1/n) Σ_j (y_j − t_j)²                 numbers                            MeanSquaredError
"mae"                 (1/n) Σ_j |y_j − t_j|                  numbers                            MeanAbsoluteError
"huber"               squared where small, linear elsewhere  numbers                            Huber
"quantile"            (1/n) Σ_j max(q e, (q − 1) e),         numbers                            Quantile
                      e = t_j − y_j
"poisson"             half the deviance of counts with       numbers ≥ 0                        Poisson
                      rates exp y_j
"gaussian_nll"        −log likelihood of t under means       numbers, half as many as outputs   GaussianNLL
                      y_1 … and log variances … y_2n
"cross_entropy"       −Σ_j t_j log softmax(y)_j              integer labels (N,) in 0 … n − 1,  CrossEntropy
                                                             or rows of probabilities
"binary_cross_entropy −(1/n) Σ_j t_j log σ(y_j)              numbers in [0, 1]                  BinaryCrossEntropy
"                     + (1 − t_j) log(1 − σ(y_j))
===================== ====================================== ================================== =====================

Targets that are numbers are rows (N, n), or (N,) where n is 1. The formulas are in ``nbfc.kernels.losses`` and
``further_losses``. Where the outputs stand for something else than the targets (logits, logarithms), the network's last
layer has the activation "identity"; cross entropy also goes with "softmax", and is then taken of the logits before it.

Wherever a loss is asked for, its name gives the one with its default numbers, and an object any other, such as
``nbfc.losses.Huber(0.5)``. ``nbfc.losses.Custom`` is for your own.
"""

from nbfc.losses._classes import (
    LOSSES,
    BinaryCrossEntropy,
    CrossEntropy,
    GaussianNLL,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
    resolve,
)
from nbfc.losses._custom import Custom
from nbfc.losses._targets import check_targets, per_sample

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Custom",
    "GaussianNLL",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Poisson",
    "Quantile",
    "check_targets",
    "per_sample",
    "resolve",
]
