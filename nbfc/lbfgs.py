"""Training on all samples at once by L-BFGS, which is SciPy's (``pip install "nbfc[sklearn]"``, or scipy)."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbfc._arrays import Array
from nbfc._checks import real_number, whole_number
from nbfc.losses import Loss
from nbfc.losses import resolve as resolve_loss
from nbfc.network import MLP
from nbfc.regularization import Regularization, check_regularization
from nbfc.training import _finite_batch
from nbfc.weighting import relative_weights


def fit_lbfgs(
    net: MLP,
    X: Any,
    y: Any,
    *,
    loss: str | Loss,
    regularization: Regularization | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    max_iter: int = 200,
    tol: float = 1e-5,
) -> Any:
    """Train a network in place by L-BFGS (Liu and Nocedal, 1989): for few samples, and for the last digits of a loss.

    A network of dtype float64 is best: in float32 its line searches soon see nothing but rounding. Ctrl-C raises
    KeyboardInterrupt. That, or any other error on the way, leaves the parameters of the last iteration that was
    finished.

    Parameters
    ----------
    net : MLP
        Updated in place.
    X, y, loss, sample_weight, class_weight
        As for ``nbfc.fit``.
    regularization : Regularization, optional
        With `l2` alone: what the others ask for has no smooth loss.
    max_iter : int
        How many iterations at most.
    tol : float ≥ 0
        It stops where no entry of the gradient is larger, or where the loss falls by no more than rounding.

    Returns
    -------
    scipy.optimize.OptimizeResult
        With `fun`, the loss and its penalty, `nit`, the number of iterations, `success` and `message`.

    Raises
    ------
    ValueError
        As ``nbfc.fit`` does, and for a regularization with more than `l2`. Nothing has been changed then.
    TypeError
        If an argument is of another type. Nothing has been changed then.
    ImportError
        If SciPy is not installed.
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net is {net!r}: expected an nbfc.MLP.")
    goal, penalty = resolve_loss(loss), check_regularization(regularization)
    if penalty != Regularization(l2=penalty.l2):
        raise ValueError(f"regularization is {penalty}: expected l2 alone, as L-BFGS takes no others.")
    options = {"maxiter": whole_number("max_iter", max_iter, least=1), "gtol": real_number("tol", tol, least=0)}
    options["ftol"] = 64 * float(np.finfo(net.dtype).eps)
    X, y = _finite_batch(net, X, y, goal)
    weights = relative_weights(sample_weight, class_weight, y, net.widths[-1], net.dtype)
    return minimized(net, X, y, goal, weights, penalty.l2, **options)


def minimized(
    net: MLP, X: Array, y: Array, loss: Loss, weights: Array, l2: float, divisor: float = 1.0, **options: Any
) -> Any:
    """Minimise loss / divisor + l2/2 Σ w²; for a divisor of 1 the gradient is that of what is minimised.

    X and y come from ``MLP._batch``, weights are (N,) or (0,).
    """
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise ImportError("L-BFGS is SciPy's: pip install scipy.") from None
    is_weight = net._is_weight().astype(np.float64)
    weights = weights.astype(net.dtype)

    def value_and_gradient(theta: Array) -> tuple[float, Array]:
        net.parameters = theta
        value, gradient = net._loss_and_gradient(X, y, weights, loss)
        return value / divisor + l2 / 2 * float(is_weight @ theta**2), gradient + l2 * is_weight * theta

    reached = start = net.parameters.astype(np.float64)

    def keep(theta: Array) -> None:
        nonlocal reached
        reached = theta.copy()

    try:
        result = minimize(value_and_gradient, start, method="L-BFGS-B", jac=True, callback=keep, options=options)
        reached = result.x
    finally:  # in between the network has what a line search tries
        net.parameters = reached
    return result
