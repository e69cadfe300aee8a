"""Metrics that ``nbfc.fit`` reports beside the loss: by name, or any function of targets and outputs.

=================== ============================= =========================================================
name                losses                        value
=================== ============================= =========================================================
"accuracy"          both cross entropies          share of samples (of outputs, for the binary one) that are right
"balanced_accuracy" both cross entropies          mean over classes of the share of each that is right
"f1"                both cross entropies          F₁, the mean over classes, or of class 1 for one output
"roc_auc"           both cross entropies          area under the ROC curve, for several classes one against the rest
"r2", "mae", "rmse" all others                    R², mean absolute and root mean squared error, means over outputs
=================== ============================= =========================================================

All but the first are scikit-learn's (``pip install scikit-learn``), and see targets as the loss does, and what the
outputs say that these are: numbers, rates, probabilities.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbfc._arrays import Array
from nbfc._checks import choice
from nbfc.losses import Loss

Metric = Callable[[Array, Array], float]


def accuracy(y: Array, logits: Array) -> float:
    """Return the share of samples whose largest logit (N, n) is that of the right class.

    Targets are labels (N,), or rows of probabilities (N, n) of which the largest is right.
    """
    return float(np.mean(logits.argmax(axis=1) == _labels(y)))


def binary_accuracy(y: Array, logits: Array) -> float:
    """Return the share of outputs whose logit (N, n) has the right sign: positive where the target is above 1/2."""
    return float(np.mean((logits > 0) == (y > 0.5)))


def _labels(y: Array) -> Array:
    return y if y.ndim == 1 else y.argmax(axis=1)


def _of_classes(name: str, metrics: Any, loss: Loss) -> Metric:
    """Return a metric of scikit-learn for the loss cross_entropy."""
    if name == "roc_auc":

        def area(y: Array, logits: Array) -> float:
            p, labels = loss.predictions(logits), _labels(y)
            if p.shape[1] == 2:
                return float(metrics.roc_auc_score(labels, p[:, 1]))
            return float(metrics.roc_auc_score(labels, p, multi_class="ovr", labels=np.arange(p.shape[1])))

        return area
    options = {"average": "macro"} if name == "f1" else {}
    score = metrics.f1_score if name == "f1" else metrics.balanced_accuracy_score
    return lambda y, logits: float(score(_labels(y), logits.argmax(axis=1), **options))


def _of_signs(name: str, metrics: Any, loss: Loss) -> Metric:
    """Return a metric of scikit-learn for the loss binary_cross_entropy: the mean over outputs."""
    scores = {
        "f1": lambda t, logits: metrics.f1_score(t, logits > 0),
        "balanced_accuracy": lambda t, logits: metrics.balanced_accuracy_score(t, logits > 0),
        "roc_auc": metrics.roc_auc_score,
    }
    return lambda y, logits: float(
        np.mean([scores[name](target > 0.5, column) for target, column in zip(y.T, logits.T, strict=True)])
    )


def _of_numbers(name: str, metrics: Any, loss: Loss) -> Metric:
    """Return a metric of scikit-learn for the other losses."""
    names = {"r2": "r2_score", "mae": "mean_absolute_error", "rmse": "root_mean_squared_error"}
    score = getattr(metrics, names[name])
    return lambda y, outputs: float(score(y, loss.predictions(outputs)))


ACCURACIES: dict[str, Metric] = {"cross_entropy": accuracy, "binary_cross_entropy": binary_accuracy}
BETTER = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "f1", "roc_auc", "r2"), "max"),
    **dict.fromkeys(("mae", "rmse"), "min"),
}
NUMBERS = ("r2", "mae", "rmse")


def _named(name: str, loss: Loss) -> Metric:
    """Return the metric of a name for a loss."""
    choice("metric", name, BETTER)
    if (name in NUMBERS) == (loss.name in ACCURACIES):
        kind = "numbers" if name in NUMBERS else "classes"
        raise ValueError(f"metrics has {name!r} with the loss {loss.name!r}: expected a loss of {kind}.")
    if name == "accuracy":
        return ACCURACIES[loss.name]
    try:
        from sklearn import metrics
    except ImportError:
        raise ImportError(f"metrics has {name!r}, which is scikit-learn's: pip install scikit-learn.") from None
    make = _of_numbers if name in NUMBERS else _of_classes if loss.name == "cross_entropy" else _of_signs
    return make(name, metrics, loss)


def resolve(metrics: Sequence[str | Metric], loss: Loss) -> dict[str, Metric]:
    """Return the metrics by name; a function's is its ``__name__``.

    Raises
    ------
    ValueError
        If a name is unknown or comes twice, or does not go with the loss.
    ImportError
        If a metric is scikit-learn's, and that is not installed.
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
        else:
            name, measure = metric, _named(metric, loss)
        if name in found:
            raise ValueError(f"metrics has {name!r} twice: expected different names, as the records keep them by name.")
        found[name] = measure
    return found
