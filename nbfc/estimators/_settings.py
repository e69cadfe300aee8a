"""What an estimator's parameters ask for, checked, and the documentation that both classes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from nbfc._arrays import dtype_of
from nbfc._checks import choice, real_number, whole_number
from nbfc.architecture import NAMES
from nbfc.calls import check_callbacks
from nbfc.optimizers import SGD, Adam, Optimizer, resolve
from nbfc.regularization import Regularization

Class = TypeVar("Class", bound=type)

PARAMETERS = """    hidden_layer_sizes : int or sequence of int
        The number of each hidden layer's outputs.
    activation : str or sequence of str
        Of the hidden layers: "identity", "logistic" (or "sigmoid"), "tanh", "relu"; and beyond scikit-learn what
        ``nbfc.MLP`` takes. A sequence names one for each.
    solver : {"adam", "sgd", "lbfgs"}
        "lbfgs" is SciPy's L-BFGS-B on all samples at once, the others take a batch a step.
    alpha : float ≥ 0
        Strength of the L2 penalty, alpha/2 Σ w² over the number of samples in a step.
    batch_size : int or "auto"
        Samples a step; "auto" is at most 200.
    learning_rate : {"constant", "invscaling", "adaptive"}
        Of the solver "sgd": "invscaling" divides it by (samples seen + 1)^power_t after each epoch, "adaptive" by 5
        where training would otherwise stop, down to 1e-6.
    learning_rate_init : float > 0
    power_t : float ≥ 0
    max_iter : int
        Epochs, or iterations of "lbfgs", at most.
    shuffle : bool
        Whether to shuffle samples before each epoch.
    random_state : int, RandomState or None
        Of the initial weights, of shuffling, and of what is held out.
    tol : float ≥ 0
        Training stops when the loss, or with `early_stopping` the validation score, has not improved by `tol` in
        `n_iter_no_change` epochs.
    verbose : bool or int
        Print the loss of each epoch.
    warm_start : bool
        Let `fit` go on from the last solution.
    momentum : float in [0, 1)
        Of the solver "sgd".
    nesterovs_momentum : bool
        Whether it looks ahead.
    early_stopping : bool
        Hold out a part of the samples, stop by the score on them, and keep the best parameters. With `partial_fit`, a
        part of each call's samples is held out, and once training has stopped, calls leave the network as it is.
    validation_fraction : float in [0, 1)
        The part that is held out.
    beta_1, beta_2 : float in [0, 1)
        Of the solver "adam".
    epsilon : float > 0
        Of the solver "adam".
    n_iter_no_change : int or inf
    max_fun : int
        How often "lbfgs" computes the loss, at most.
    optimizer : nbfc optimizer or its name, optional
        Beyond scikit-learn: takes the place of `solver`, and has a learning rate of its own.
    dropout : float in [0, 1) or sequence of them
        Beyond scikit-learn: the probability by which each output of a hidden layer is left out in a step; of all hidden
        layers, or of each. Not with "lbfgs".
    callbacks : sequence, optional
        Beyond scikit-learn: see ``nbfc.callbacks``. Not with "lbfgs".
    dtype : {"float32", "float64"}, optional
        Beyond scikit-learn: of parameters and computation. By default that of X where it is one of these, or float64.
"""

ATTRIBUTES = """    net_ : nbfc.MLP
        The network.
    history_ : nbfc.History
        A record of each epoch, with `plot`; not for "lbfgs".
    coefs_, intercepts_ : list of array
        Each layer's weights (n_in, n_out) and biases (n_out,), views into ``net_.parameters``.
    loss_ : float
        In the last epoch, with the penalty.
    best_loss_ : float or None
        The lowest; None with `early_stopping`. Not for "lbfgs".
    loss_curve_ : list of float
        The loss of each epoch; not for "lbfgs".
    validation_scores_ : list of float or None
        With `early_stopping`. Not for "lbfgs".
    best_validation_score_ : float or None
        With `early_stopping`. Not for "lbfgs".
    n_iter_ : int
        Epochs in the last call of `fit`.
    t_ : int
        Samples seen in training.
    n_features_in_ : int
    feature_names_in_ : array of str
        Where X had names of columns.
    n_layers_ : int
        With the inputs.
    n_outputs_ : int
    out_activation_ : str
        What makes predictions of the last layer's outputs.
"""


def documented(*, first: str = "", last: str = "", attributes: str = "") -> Callable[[Class], Class]:
    """Write the parameters and attributes that all estimators have into a class's documentation, with its own."""

    def document(cls: Class) -> Class:
        sections = "Parameters", first + PARAMETERS + last, "Attributes", attributes + ATTRIBUTES
        cls.__doc__ = (
            (cls.__doc__ or "").rstrip()
            + "\n"
            + "".join(
                f"\n    {title}\n    ----------\n{text}"
                for title, text in zip(sections[::2], sections[1::2], strict=True)
            )
        )
        return cls

    return document


@dataclass
class Settings:
    """An estimator's parameters, as nbfc takes them; `optimizer` is None for "lbfgs"."""

    hidden: tuple[int, ...]
    activations: list[Any]
    optimizer: Optimizer | None
    dtype: np.dtype[Any] | None
    callbacks: Sequence[Any]
    regularization: Regularization
    batch_size: int | None
    patience: float


def check_settings(estimator: Any) -> Settings:
    """Return the settings of an estimator.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or two do not go together.
    TypeError
        If one is of another type.
    """
    sizes = estimator.hidden_layer_sizes
    listed = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    hidden = tuple(whole_number("hidden_layer_sizes", size, least=1) for size in listed)
    for name, least, above, below in _NUMBERS:
        real_number(name, getattr(estimator, name), least=least, above=above, below=below)
    for name in ("max_iter", "max_fun"):
        whole_number(name, getattr(estimator, name), least=1)
    for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
        if not isinstance(getattr(estimator, name), (bool, np.bool_)):
            raise TypeError(f"{name} is {getattr(estimator, name)!r}: expected True or False.")
    choice("learning_rate", estimator.learning_rate, dict.fromkeys(("constant", "invscaling", "adaptive")))
    patience = estimator.n_iter_no_change
    if patience != np.inf:
        whole_number("n_iter_no_change", patience, least=1)
    batch_size = estimator.batch_size
    optimizer = _optimizer(estimator)
    callbacks = [] if estimator.callbacks is None else estimator.callbacks
    check_callbacks(callbacks)
    regularization = Regularization(l2=estimator.alpha, dropout=estimator.dropout)
    if np.any(estimator.dropout) and optimizer is None:
        raise ValueError("dropout came with the solver 'lbfgs': expected 'adam' or 'sgd', which take steps.")
    if callbacks and optimizer is None:
        raise ValueError("callbacks came with the solver 'lbfgs': expected 'adam' or 'sgd', which have epochs.")
    return Settings(
        hidden,
        _activations(estimator.activation, len(hidden)),
        optimizer,
        None if estimator.dtype is None else dtype_of(estimator.dtype),
        callbacks,
        regularization,
        None if isinstance(batch_size, str) and batch_size == "auto" else whole_number("batch_size", batch_size, 1),
        patience,
    )


# Name, least, whether the least is excluded, and what it is below.
_NUMBERS = (
    ("alpha", 0.0, False, np.inf),
    ("learning_rate_init", 0.0, True, np.inf),
    ("power_t", 0.0, False, np.inf),
    ("tol", 0.0, False, np.inf),
    ("momentum", 0.0, False, 1.0),
    ("validation_fraction", 0.0, False, 1.0),
    ("beta_1", 0.0, False, 1.0),
    ("beta_2", 0.0, False, 1.0),
    ("epsilon", 0.0, True, np.inf),
)


def _activations(given: Any, depth: int) -> list[Any]:
    names = list(given) if isinstance(given, (list, tuple)) else [given] * depth
    if len(names) != depth:
        raise ValueError(f"activation has {len(names)} names: expected one for each of {depth} hidden layers.")
    options = {**{name: name for name in NAMES}, "logistic": "sigmoid"}
    return [choice("activation", name, options) if isinstance(name, str) else name for name in names]


def _optimizer(estimator: Any) -> Optimizer | None:
    """Return what the solver stands for, or what takes its place."""
    rate = estimator.learning_rate_init
    solvers: dict[str, Callable[[], Optimizer | None]] = {
        "adam": lambda: Adam(rate, estimator.beta_1, estimator.beta_2, estimator.epsilon),
        "sgd": lambda: SGD(
            rate, estimator.momentum, nesterov=bool(estimator.nesterovs_momentum and estimator.momentum > 0)
        ),
        "lbfgs": lambda: None,
    }
    solver = choice("solver", estimator.solver, solvers)
    return solver() if estimator.optimizer is None else resolve(estimator.optimizer)
