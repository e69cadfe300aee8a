"""The training loop, in plain Python."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import seeded, whole_number
from nbfc.calls import Callback, Calls, FitState, check_callbacks, started
from nbfc.errors import DivergenceError
from nbfc.history import Epoch, History, ProgressBar
from nbfc.losses import Loss, per_sample
from nbfc.metrics import Metric
from nbfc.metrics import resolve as resolve_metrics
from nbfc.network import MLP
from nbfc.optimizers import Optimizer
from nbfc.regularization import Regularization
from nbfc.trainer import Trainer
from nbfc.weighting import relative_weights


def fit(
    net: MLP,
    X: Any,
    y: Any,
    *,
    loss: str | Loss,
    optimizer: str | Optimizer,
    epochs: int,
    batch_size: int,
    validation: tuple[Any, Any] | None = None,
    metrics: Sequence[str | Callable[[Array, Array], float]] = (),
    callbacks: Sequence[Callback] = (),
    regularization: Regularization | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
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
    loss : Loss or its name
    optimizer : Optimizer or its name
    epochs : int
        How often to go over all samples.
    batch_size : int
        Samples a step; the last step of an epoch takes what remains.
    validation : (X, y), optional
        Data to measure the loss and the metrics on after each epoch.
    metrics : sequence
        Names of ``nbfc.metrics``, or functions of the targets and the network's outputs that return a number. They are
        measured after each epoch, on the validation data or else on all of the training data. The targets come as
        labels (N,) or rows (N, n_out). What a function raises stops the fit as it is.
    callbacks : sequence
        What is called as training goes on: see ``nbfc.callbacks``. What one raises ends the fit as it is.
    regularization : Regularization, optional
        Penalties for weights, a bound on them, dropout.
    sample_weight : (N,), ≥ 0, optional
        What each training sample's loss counts, in proportion to the others: weights are divided by their mean.
    class_weight : "balanced" or dict of label to weight ≥ 0, optional
        The same for each class, where targets are labels; a class that is not in the dict counts 1. "balanced" lets all
        classes count the same.
    seed : int, optional
        Of the shuffling, and of dropout.
    progress : bool
        Show a progress bar on stderr, if that is a terminal.

    Returns
    -------
    History
        A record for each epoch: loss, validation loss, metrics, seconds, samples a second, learning rate. Ctrl-C ends
        the fit after the step that it takes, and the history says so.

    Raises
    ------
    DivergenceError
        If the loss or a parameter became NaN or infinite. It names epoch and batch and has the `history` so far; the
        network holds the last finite parameters.
    ValueError
        If an argument is out of its range, a shape does not fit, there are no samples, or X or y hold NaN or infinity.
        Nothing has been changed then.
    TypeError
        If an argument is of another type: nothing has been changed then. Or if a metric returns no number.
    """
    trainer = Trainer(net, loss, optimizer, regularization=regularization, seed=seed)
    epochs = whole_number("epochs", epochs, least=1)
    batch_size = whole_number("batch_size", batch_size, least=1)
    goal = trainer.loss
    measures = resolve_metrics(metrics, goal)
    own = [metric for metric in metrics if callable(metric)]
    check_callbacks(callbacks)
    rng = seeded(seed)
    X, y = _finite_batch(net, X, y, goal)
    weights = relative_weights(sample_weight, class_weight, y, net.widths[-1], net.dtype)
    held_out = None if validation is None else _validation_batch(net, validation, goal)

    names = ("loss", *(() if held_out is None else ("validation_loss",)), *measures)
    state = FitState(net, trainer, History(), names, epochs, -(-len(X) // batch_size))
    history = state.history
    with ProgressBar(progress, epochs, len(X)) as bar, started(callbacks, state) as calls:
        try:
            for state.epoch in range(1, epochs + 1):
                bar.start(state.epoch)
                before = time.perf_counter()
                mean_loss = _train_epoch(state, X, y, weights, rng.permutation(len(X)), batch_size, bar, calls)
                seconds = time.perf_counter() - before

                validation_loss: float | None = None
                values: dict[str, float] = {}
                if held_out is not None:
                    validation_loss, values = _evaluate(net, *held_out, goal, measures, own)
                    if not np.isfinite(validation_loss):
                        message = (
                            f"epoch {state.epoch}, after batch {state.batch}: the validation loss is {validation_loss}"
                        )
                        raise DivergenceError(f"{message}; the parameters are finite, but too large.", history)
                elif measures:
                    _, values = _evaluate(net, X, y, goal, measures, own)
                rate = trainer.learning_rate
                history.append(Epoch(state.epoch, mean_loss, validation_loss, values, seconds, len(X) / seconds, rate))
                if stopping := calls.end_epoch(state):
                    history.stopped = f"by {stopping} after epoch {state.epoch}"
                    break
        except KeyboardInterrupt:
            history.stopped = f"by an interrupt in epoch {state.epoch}, batch {state.batch}"
    return history


def _train_epoch(
    state: FitState, X: Array, y: Array, weights: Array, order: Array, batch_size: int, bar: ProgressBar, calls: Calls
) -> float:
    """Take a step on every batch of the samples in an order; return the mean of their losses."""
    total, y_in_order = 0.0, y[order]
    weights_in_order = weights[order] if len(weights) else weights
    for batch, start in enumerate(range(0, len(X), batch_size), 1):
        state.batch = batch
        those = slice(start, start + batch_size)
        rows = order[those]  # which the step gathers from X, on all threads
        batch_loss = calls.step(state, X, y_in_order[those], weights_in_order[those], rows)
        total += batch_loss * len(rows)
        bar.advance(len(rows), batch_loss)
    return total / len(X)


def _finite_batch(net: MLP, X: Any, y: Any, loss: Loss) -> tuple[Array, Array]:
    """Return all inputs and targets in the form that steps take, checked for NaN and infinity: once, not each step."""
    inputs, targets = net._batch(X, y, loss)
    _arrays.check_finite("X", inputs, X)
    given = np.asarray(y)
    _arrays.check_finite("y", targets.reshape(given.shape), given)
    return inputs, targets


def _validation_batch(net: MLP, validation: Any, loss: Loss) -> tuple[Array, Array]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError("validation is not a pair: expected (X, y), inputs and targets to measure the loss on.")
    try:
        return _finite_batch(net, validation[0], validation[1], loss)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation: {error}") from None


def _evaluate(
    net: MLP, X: Array, y: Array, loss: Loss, measures: dict[str, Metric], own: Sequence[Any]
) -> tuple[float, dict[str, float]]:
    """Return the mean loss and the metrics on inputs and targets from `_finite_batch`.

    Users' `own` metrics get the network's outputs, the others what the loss takes: before a softmax these are logits.
    """
    taken = net._outputs_for(loss, X)
    outputs = net._outputs(X) if own and net._takes_logits(loss) else taken
    losses, _ = per_sample(loss, taken, y)
    y = y.view()
    y.flags.writeable = False  # it may be the user's own array, or the targets of the next epoch
    values = {}
    for name, measure in measures.items():
        value = measure(y, outputs if measure in own else taken)
        try:
            values[name] = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"the metric {name!r} returned {value!r}: expected a number.") from None
    return float(losses.mean(dtype=np.float64)), values
