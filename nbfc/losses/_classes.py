"""What each loss is: its name, its code for the kernels, its own number, and what outputs say that targets are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nbfc._arrays import Array
from nbfc._checks import choice, real_number
from nbfc.kernels import further_losses  # noqa: F401  (they enter the table)
from nbfc.kernels import losses as kernels

_NO_LABELS = np.empty(0, np.int64)
_NO_ROWS = {dtype: np.empty((0, 0), dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


@dataclass(frozen=True)
class Loss:
    """What all losses have."""

    name: ClassVar[str]
    code: ClassVar[int]
    takes: ClassVar[str] = ""  # what the outputs are, if something else than what the targets are

    @property
    def number(self) -> float:
        """The loss's own number, for the kernels."""
        return 0.0

    def columns(self, n_out: int) -> int:
        """Return how many targets a sample has where the network has n_out outputs."""
        return n_out

    def predictions(self, outputs: Array) -> Array:
        """Return what the network's outputs (N, n) say that the targets are."""
        return outputs

    def arguments(self, y: Array, dtype: np.dtype[Any]) -> tuple[int, Array, Array]:
        """Return code, labels and rows for targets that `check_targets` returned; one of the arrays is empty."""
        code = self.code
        kernels.LOSS_TABLE.ask(code, dtype)
        return (code, _NO_LABELS, y) if y.ndim == 2 else (code, y, _NO_ROWS[dtype])


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """J = (1/n) Σ_j (y_j − t_j)²."""

    name, code = "mse", kernels.MEAN_SQUARED_ERROR


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """J = (1/n) Σ_j |y_j − t_j|: the median is what it fits."""

    name, code = "mae", kernels.MEAN_ABSOLUTE_ERROR


@dataclass(frozen=True)
class Huber(Loss):
    """J = (1/n) Σ_j e²/2 where |e| ≤ δ, else δ (|e| − δ/2), for e = y_j − t_j.

    Parameters
    ----------
    delta : float > 0
        δ, from where on errors count linearly; in the targets' units.

    Raises
    ------
    ValueError, TypeError
        If it is no such number.
    """

    name, code = "huber", kernels.HUBER
    delta: float = 1.0

    def __post_init__(self) -> None:
        real_number("delta", self.delta, least=0, above=True)

    @property
    def number(self) -> float:
        """δ."""
        return float(self.delta)


@dataclass(frozen=True)
class Quantile(Loss):
    """J = (1/n) Σ_j max(q e, (q − 1) e) for e = t_j − y_j, also called pinball loss: the q-quantile is what it fits.

    Parameters
    ----------
    quantile : float in (0, 1)
        q.

    Raises
    ------
    ValueError, TypeError
        If it is no such number.
    """

    name, code = "quantile", kernels.QUANTILE
    quantile: float = 0.5

    def __post_init__(self) -> None:
        real_number("quantile", self.quantile, least=0, below=1, above=True)

    @property
    def number(self) -> float:
        """The quantile."""
        return float(self.quantile)


@dataclass(frozen=True)
class Poisson(Loss):
    """J = (1/n) Σ_j exp y_j − t_j − t_j (y_j − log t_j): counts t_j with rates exp y_j; it is 0 where these agree."""

    name, code, takes = "poisson", kernels.POISSON, "logarithms of rates"

    def predictions(self, outputs: Array) -> Array:
        """Return the rates."""
        return np.exp(outputs)


@dataclass(frozen=True)
class GaussianNLL(Loss):
    """J = (1/n) Σ_j (s_j + (t_j − μ_j)² exp(−s_j)) / 2: the outputs are n means μ, then n logarithms s of variances."""

    name, code, takes = "gaussian_nll", kernels.GAUSSIAN_NLL, "means and log variances"

    def columns(self, n_out: int) -> int:
        """Return half of n_out."""
        if n_out % 2:
            raise ValueError(f"the network has {n_out} outputs: gaussian_nll expected two for each target.")
        return n_out // 2

    def predictions(self, outputs: Array) -> Array:
        """Return the means."""
        return outputs[:, : self.columns(outputs.shape[1])]


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """J = −Σ_j t_j log softmax(y)_j, for labels or rows of probabilities t, which `label_smoothing` draws together.

    Parameters
    ----------
    label_smoothing : float in [0, 1)
        ε: targets are taken as (1 − ε) t + ε/n.

    Raises
    ------
    ValueError, TypeError
        If it is no such number.
    """

    name, code, takes = "cross_entropy", kernels.CROSS_ENTROPY, "logits"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        real_number("label_smoothing", self.label_smoothing, least=0, below=1)

    @property
    def number(self) -> float:
        """ε."""
        return float(self.label_smoothing)

    def predictions(self, outputs: Array) -> Array:
        """Return the classes' probabilities, the softmax, in float64, so that sums are 1 to 16 digits."""
        weights = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """J = −(1/n) Σ_j t_j log σ(y_j) + (1 − t_j) log(1 − σ(y_j)): n yes-or-no questions of their own."""

    name, code, takes = "binary_cross_entropy", kernels.BINARY_CROSS_ENTROPY, "logits"

    def predictions(self, outputs: Array) -> Array:
        """Return probabilities, in float64."""
        e = np.exp(-np.abs(outputs.astype(np.float64)))
        return np.where(outputs >= 0, 1, e) / (1 + e)  # type: ignore[no-any-return]


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        MeanSquaredError(),
        CrossEntropy(),
        BinaryCrossEntropy(),
        MeanAbsoluteError(),
        Huber(),
        Quantile(),
        Poisson(),
        GaussianNLL(),
    )
}


def resolve(loss: str | Loss) -> Loss:
    """Return a loss as it is, or the one of that name with its default numbers."""
    return loss if isinstance(loss, Loss) and type(loss) is not Loss else choice("loss", loss, LOSSES)
