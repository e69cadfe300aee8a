"""Fully connected neural networks on the CPU, compiled by Numba."""

from nbfc import datasets, jit, kernels, losses
from nbfc.errors import DivergenceError, ModelFormatError
from nbfc.history import Epoch, History
from nbfc.network import MLP
from nbfc.optimizers import SGD, Adam, AdamW
from nbfc.sampling import batches
from nbfc.serialization import load, save
from nbfc.trainer import Trainer
from nbfc.training import fit

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
    "jit",
    "kernels",
    "load",
    "losses",
    "save",
]

__version__ = "0.1.0"
