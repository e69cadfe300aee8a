"""The training loop, in plain Python."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import seeded, whole_number
from nbfc.errors import DivergenceError
from nbfc.history import Epoch, History, ProgressBar
from nbfc.losses import per_sample
from nbfc.metrics import resolve as resolve_metrics
from nbfc.network import MLP
from nbfc.optimizers import Optimizer
from nbfc.trainer import Trainer


def fit(
    net: MLP,
    X: Any,
    y: Any,
    *,
    loss: str,
    optimizer: str | Optimizer,
    epochs: int,
    batch_size: int,
    validation: tuple[Any, Any] | None = None,
    metrics: Sequence[str | Callable[[Array, Array], float]] = (),
    seed: int | None = None,
    progress: bool = True,
) -> History:
    """Train a network in place: each epoch takes a step on every batch of the shuffled samples.

    It does what a loop over `batches` and the `step` of a new `Trainer` does, to the bit. The bits are the same from
    run to run with one seed, and for any number of threads.

    Parameters
    ----------
    net : MLP
        Updated in place.
    X : (N, n_in)
        Inputs, one sample a row; N ≥ 1, finite.
    y
        Targets, as the loss takes them (``nbfc.losses``), finite.
    loss : {"mse", "cross_entropy", "binary_cross_entropy"}
    optimizer : SGD, Adam, AdamW or one of "sgd", "adam", "adamw"
    epochs : int
        How often to go over all samples.
    batch_size : int
        Samples a step; the last step of an epoch takes what remains.
    validation : (X, y), optional
        Data to measure the loss and the metrics on after each epoch.
    metrics : sequence
        "accuracy", or functions of the targets and the network's outputs that return a number. They are measured
        after each epoch, on the validation data or else on all of the training data. The targets come as labels (N,)
        or rows (N, n_out). What a function raises stops the fit as it is.
    seed : int, optional
        Of the shuffling.
    progress : bool
        Show a progress bar on stderr, if that is a terminal.

    Returns
    -------
    History
        A record for each epoch: loss, validation loss, metrics, seconds, samples a second.

    Raises
    ------
    DivergenceError
        If the loss or a parameter became NaN or infinite. It names epoch and batch and has the `history` so far; the
        network holds the last finite parameters.
    ValueError
        If an argument is out of its range, a shape does not fit, there are no samples, or X or y hold NaN or infinity.
        Nothing has been changed then.
    TypeError
        If an argument is of another type. Nothing has been changed then.
    """
    trainer = Trainer(net, loss, optimizer)
    epochs = whole_number("epochs", epochs, least=1)
    batch_size = whole_number("batch_size", batch_size, least=1)
    measures = resolve_metrics(metrics, loss)
    rng = seeded(seed)
    X, y = _finite_batch(net, X, y, loss)
    if validation is not None:
        X_held_out, y_held_out = _validation_batch(net, validation, loss)

    history = History()
    with ProgressBar(progress, epochs, len(X)) as bar:
        for epoch in range(1, epochs + 1):
            bar.start(epoch)
            started = time.perf_counter()
            total = 0.0
            order = rng.permutation(len(X))
            y_in_order = y[order]
            for start in range(0, len(X), batch_size):
                rows = order[start : start + batch_size]
                try:  # the step gathers the rows of X, on all threads
                    batch_loss = trainer._step(X, y_in_order[start : start + batch_size], rows)
                except DivergenceError as error:
                    batch = start // batch_size + 1
                    raise DivergenceError(f"epoch {epoch}, batch {batch}: {error}", history) from None
                total += batch_loss * len(rows)
                bar.advance(len(rows), batch_loss)
            seconds = time.perf_counter() - started

            validation_loss: float | None = None
            values: dict[str, float] = {}
            if validation is not None:
                validation_loss, values = _evaluate(net, X_held_out, y_held_out, loss, measures)
                if not np.isfinite(validation_loss):
                    batch = -(-len(X) // batch_size)
                    message = f"epoch {epoch}, after batch {batch}: the validation loss is {validation_loss}"
                    raise DivergenceError(f"{message}; the parameters are finite, but too large.", history)
            elif measures:
                _, values = _evaluate(net, X, y, loss, measures)
            mean_loss = total / len(X)
            history.append(Epoch(epoch, mean_loss, validation_loss, values, seconds, len(X) / seconds))
    return history


def _finite_batch(net: MLP, X: Any, y: Any, loss: str) -> tuple[Array, Array]:
    """Return all inputs and targets in the form that steps take, checked for NaN and infinity: once, not each step."""
    inputs, targets = net._batch(X, y, loss)
    _arrays.check_finite("X", inputs, X)
    given = np.asarray(y)
    _arrays.check_finite("y", targets.reshape(given.shape), given)
    return inputs, targets


def _validation_batch(net: MLP, validation: Any, loss: str) -> tuple[Array, Array]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError("validation is not a pair: expected (X, y), inputs and targets to measure the loss on.")
    try:
        return _finite_batch(net, validation[0], validation[1], loss)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from None


def _evaluate(
    net: MLP, X: Array, y: Array, loss: str, measures: dict[str, Callable[[Array, Array], float]]
) -> tuple[float, dict[str, float]]:
    """Return the mean loss and the metrics on inputs and targets from `_finite_batch`."""
    outputs = net._outputs(X)
    losses, _ = per_sample(loss, outputs, y)
    y = y.view()
    y.flags.writeable = False  # it may be the user's own array, or the targets of the next epoch
    values = {name: float(measure(y, outputs)) for name, measure in measures.items()}
    return float(losses.mean(dtype=np.float64)), values
