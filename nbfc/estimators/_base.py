"""What both estimators do alike: they hold a network, and train it in the order of steps that scikit-learn takes."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from nbfc._arrays import Array
from nbfc.estimators._settings import Settings, check_settings
from nbfc.estimators._steps import RECORDS, Goal, TrainedBySteps, normalised
from nbfc.lbfgs import minimized
from nbfc.network import MLP
from nbfc.weighting import check_weights

FORMS: dict[str, Any] = {"accept_sparse": ["csr", "csc"], "dtype": (np.float64, np.float32)}  # that X may have


def dense(X: Any) -> Array:
    """Return a matrix that may be sparse as an array."""
    return X.toarray() if hasattr(X, "toarray") else X  # type: ignore[no-any-return]


class BaseMLP(TrainedBySteps, BaseEstimator):
    """A network with scikit-learn's interface. For what a subclass adds see the methods that raise."""

    def _targets(self, y: Array) -> tuple[Array, int, Goal]:
        """Return targets as nbfc takes them, the number of outputs, and the goal."""
        raise NotImplementedError

    def _check(self, X: Any, y: Any, *, first: bool, incremental: bool) -> tuple[Array, Array]:
        """Return X and y, checked, and remember their classes where training starts."""
        raise NotImplementedError

    def _check_data(self, X: Any, y: Any, *, first: bool, **options: Any) -> tuple[Array, Array]:
        """Return X, dense, and y, checked by scikit-learn; y of one column as a vector."""
        X, y = validate_data(self, X, y, reset=first, multi_output=True, **FORMS, **options)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return dense(X), y

    @property
    def coefs_(self) -> list[Array]:
        """Each layer's weights (n_in, n_out)."""
        return list(self._fitted("coefs_").weights)

    @property
    def intercepts_(self) -> list[Array]:
        """Each layer's biases (n_out,)."""
        return list(self._fitted("intercepts_").biases)

    def _fitted(self, name: str) -> MLP:
        if "net_" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no {name} yet: call fit first.")
        return self.net_

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit the network to data.

        Parameters
        ----------
        X : array, frame or sparse matrix (N, n_in)
            Sparse matrices are made dense.
        y : (N,) or (N, n)
        sample_weight : (N,), ≥ 0, optional
            What each sample's loss counts in the mean of its batch.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is out of its range, X or y do not fit or hold NaN or infinity, or all weights are 0 or one
            is negative.
        TypeError
            If something is of another type.
        nbfc.DivergenceError
            If the loss or a parameter became NaN or infinite; `net_` has the last finite parameters.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool) -> Any:
        settings = check_settings(self)
        first = not hasattr(self, "net_") or not (self.warm_start or incremental)
        X, y = self._check(X, y, first=first, incremental=incremental)
        weights = self._sample_weights(sample_weight, y, len(X))
        rng = check_random_state(self.random_state)
        targets, n_outputs, goal = self._targets(y)
        widths = (X.shape[1], *settings.hidden, n_outputs)
        if first:
            self._start(widths, settings, settings.dtype or X.dtype, rng)
        else:
            self._check_network(widths, settings)
        self._goal, self.out_activation_ = goal, goal.activation
        if settings.optimizer is None:
            self._fit_by_lbfgs(X, targets, weights)
        else:
            self._fit_by_steps(X, y, targets, weights, settings, rng, incremental=incremental)
        return self

    def _check_network(self, widths: tuple[int, ...], settings: Settings) -> None:
        """Raise a ValueError where the network, which is to go on learning, is another than the parameters say."""
        net, activations = self.net_, (*settings.activations, "identity")
        for what, has, wanted in (
            ("widths", net.widths, widths),
            ("activations", net.activations, activations),
            ("dtype", net.dtype, settings.dtype or net.dtype),
        ):
            if has != wanted:
                raise ValueError(
                    f"the network has {what} {has}, data and parameters have {wanted}: expected the same, as it goes "
                    "on learning."
                )

    def _sample_weights(self, sample_weight: Any, y: Array, samples: int) -> Array | None:
        """Return weights, float64 (N,), or None."""
        if sample_weight is None:
            return None
        if isinstance(sample_weight, (int, float)):  # as scikit-learn takes it
            sample_weight = np.full(samples, float(sample_weight))
        weights = check_weights(sample_weight, samples, np.dtype(np.float64))
        if not weights.any():
            raise ValueError("sample_weight is zero for all samples: expected one above, as nothing is learned else.")
        return weights

    def _start(
        self, widths: tuple[int, ...], settings: Settings, dtype: np.dtype[Any], rng: np.random.RandomState
    ) -> None:
        """Make a network with the initial weights that scikit-learn draws."""
        self.net_ = MLP(widths, [*settings.activations, "identity"], dtype=dtype, seed=0)
        names = [*settings.activations, settings.activations[-1] if settings.activations else "identity"]
        for layer, (n_in, n_out) in enumerate(pairwise(widths)):
            bound = np.sqrt((2 if names[layer] == "sigmoid" else 6) / (n_in + n_out))
            self.net_.weights[layer] = rng.uniform(-bound, bound, (n_in, n_out))
            self.net_.biases[layer] = rng.uniform(-bound, bound, n_out)
        self.n_layers_, self.n_outputs_ = len(widths), widths[-1]
        self.n_iter_, self.t_, self._trainer = 0, 0, None
        for name in RECORDS:
            self.__dict__.pop(name, None)

    # ---- all samples at once -----------------------------------------------------------------------------------------

    def _fit_by_lbfgs(self, X: Array, targets: Array, weights: Array | None) -> None:
        """Minimise the loss and the penalty over all samples by SciPy's L-BFGS-B."""
        net, goal = self.net_, self._goal
        X, targets = net._batch(X, targets, goal.loss)
        counted, totals = normalised(weights, goal.count, np.zeros(1, np.intp), len(X))
        options = {"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol}
        l2 = float(self.alpha / totals[0])
        result = minimized(net, X, targets, goal.loss, counted, l2, goal.divisor, **options)
        if result.status != 0:
            warnings.warn(
                f"lbfgs ended with: {result.message}. More iterations (max_iter) or scaled data may help.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self.n_iter_, self.loss_ = int(min(result.nit, self.max_iter)), float(result.fun)

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs for X, checked."""
        check_is_fitted(self, "net_")
        return self.net_.predict(dense(validate_data(self, X, reset=False, **FORMS)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def has_steps(estimator: Any) -> bool:
    """Return whether an estimator trains step by step, so that `partial_fit` is one."""
    if estimator.solver == "lbfgs" and estimator.optimizer is None:
        raise AttributeError("partial_fit takes steps: expected the solver 'adam' or 'sgd', not 'lbfgs'.")
    return True
