"""Metrics that ``nbfc.fit`` reports beside the loss: "accuracy", or any function of targets and outputs."""

from collections.abc import Callable, Sequence

import numpy as np

from nbfc._arrays import Array
from nbfc._checks import choice

Metric = Callable[[Array, Array], float]


def accuracy(y: Array, logits: Array) -> float:
    """Return the share of samples whose largest logit (N, n) is that of the right class.

    Targets are labels (N,), or rows of probabilities (N, n) of which the largest is right.
    """
    labels = y if y.ndim == 1 else y.argmax(axis=1)
    return float(np.mean(logits.argmax(axis=1) == labels))


def binary_accuracy(y: Array, logits: Array) -> float:
    """Return the share of outputs whose logit (N, n) has the right sign: positive where the target is above 1/2."""
    return float(np.mean((logits > 0) == (y > 0.5)))


ACCURACIES: dict[str, Metric] = {"cross_entropy": accuracy, "binary_cross_entropy": binary_accuracy}


def resolve(metrics: Sequence[str | Metric], loss: str) -> dict[str, Metric]:
    """Return the metrics by name; a function's is its ``__name__``.

    Raises
    ------
    ValueError
        If a name is unknown or comes twice, or "accuracy" is asked of a loss that does not classify.
    TypeError
        If `metrics` is not a list or tuple of names and functions.
    """
    if not isinstance(metrics, (list, tuple)):
        raise TypeError(f"metrics is {metrics!r}: expected a list of names and functions, such as ['accuracy'].")
    found: dict[str, Metric] = {}
    for metric in metrics:
        if callable(metric):
            name = getattr(metric, "__name__", repr(metric))
            measure = metric
        elif choice("metric", metric, {"accuracy": True}) and loss not in ACCURACIES:
            raise ValueError(f"metrics has 'accuracy' with the loss {loss!r}: expected a loss of classes.")
        else:
            name, measure = metric, ACCURACIES[loss]
        if name in found:
            raise ValueError(f"metrics has {name!r} twice: expected different names, as the records keep them by name.")
        found[name] = measure
    return found
