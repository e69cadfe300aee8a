"""Regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if

from nbfc._arrays import Array
from nbfc.estimators._base import BaseMLP, has_steps
from nbfc.estimators._settings import documented
from nbfc.estimators._steps import Goal
from nbfc.losses import GaussianNLL, Loss, MeanSquaredError, Poisson
from nbfc.losses import resolve as resolve_loss


@documented(
    first="""    loss : {"squared_error", "poisson"} or a loss of nbfc
        Half the squared error; half the deviance of counts, whose rates are the exponential of the outputs; and beyond
        scikit-learn the losses of ``nbfc.losses`` for numbers, as objects or by name, such as "huber".
""",
)
class MLPRegressor(RegressorMixin, BaseMLP):
    """A network that fits numbers, with scikit-learn's interface."""

    def __init__(
        self,
        loss: str | Loss = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        optimizer: Any = None,
        dropout: Any = 0.0,
        callbacks: Sequence[Any] | None = None,
        dtype: Any = None,
    ) -> None:
        given = dict(locals())
        del given["self"]
        self.__dict__.update(given)

    def _check(self, X: Any, y: Any, *, first: bool, incremental: bool) -> tuple[Array, Array]:
        return self._check_data(X, y, first=first, y_numeric=True)

    def _targets(self, y: Array) -> tuple[Array, int, Goal]:
        rows = y.reshape(len(y), -1)
        n = rows.shape[1]
        if self.loss == "squared_error":
            return rows, n, Goal(MeanSquaredError(), n / 2, n, "identity")
        loss = resolve_loss(self.loss)
        if loss.name in ("cross_entropy", "binary_cross_entropy"):
            raise ValueError(f"loss is {self.loss!r}, which is for classes: expected 'squared_error' or the like.")
        outputs = 2 * n if isinstance(loss, GaussianNLL) else n
        return rows, outputs, Goal(loss, float(n), 1.0, "exp" if isinstance(loss, Poisson) else "identity")

    def _score(self, X: Array, y: Array, weights: Array | None) -> float:
        return float(r2_score(y, self._numbers(self.net_.predict(X)), sample_weight=weights))

    def _numbers(self, outputs: Array) -> Array:
        """Return what outputs say that targets are."""
        predicted = self._goal.loss.predictions(outputs)
        return predicted[:, 0] if predicted.shape[1] == 1 else predicted

    def predict(self, X: Any) -> Array:
        """Return the numbers (N,) or (N, n), of the network's dtype."""
        return self._numbers(self._outputs(X))

    @available_if(has_steps)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Take an epoch of steps on some samples.

        Parameters
        ----------
        X : array, frame or sparse matrix (N, n_in)
        y : (N,) or (N, n)
        sample_weight : (N,), ≥ 0, optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As `fit` does.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
