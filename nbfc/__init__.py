"""Fully connected neural networks on the CPU, compiled by Numba."""

from nbfc import callbacks, datasets, jit, kernels, losses, schedules
from nbfc.errors import DivergenceError, ModelFormatError
from nbfc.history import Epoch, History
from nbfc.lbfgs import fit_lbfgs
from nbfc.learning_rates import LearningRates, find_learning_rate
from nbfc.network import MLP
from nbfc.optimizers import SGD, Adagrad, Adam, AdamW, Lion, Nadam, RMSprop
from nbfc.regularization import Regularization
from nbfc.sampling import batches
from nbfc.serialization import load, save
from nbfc.trainer import Trainer
from nbfc.training import fit

__all__ = [
    "MLP",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "DivergenceError",
    "Epoch",
    "History",
    "LearningRates",
    "Lion",
    "ModelFormatError",
    "Nadam",
    "RMSprop",
    "Regularization",
    "Trainer",
    "batches",
    "callbacks",
    "datasets",
    "find_learning_rate",
    "fit",
    "fit_lbfgs",
    "jit",
    "kernels",
    "load",
    "losses",
    "save",
    "schedules",
]

__version__ = "0.1.0"
