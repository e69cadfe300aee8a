"""Fully connected neural networks on the CPU, compiled by Numba."""

from nbfc import datasets, kernels, losses
from nbfc.errors import DivergenceError, ModelFormatError
from nbfc.history import Epoch, History
from nbfc.network import MLP
from nbfc.optimizers import SGD, Adam, AdamW
from nbfc.sampling import batches
from nbfc.serialization import load, save
from nbfc.training import Trainer, fit

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "DivergenceError",
    "Epoch",
    "History",
    "ModelFormatError",
    "Trainer",
    "batches",
    "datasets",
    "fit",
    "kernels",
    "load",
    "losses",
    "save",
]

__version__ = "0.1.0"
