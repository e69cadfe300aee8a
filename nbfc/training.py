"""The training loop, in plain Python: one step, and whole fits."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import choice, real_number, seeded, whole_number
from nbfc.errors import DivergenceError
from nbfc.history import Epoch, History, ProgressBar
from nbfc.kernels.updates import LEARNING_RATE, STEP
from nbfc.losses import LOSSES, per_sample
from nbfc.metrics import resolve as resolve_metrics
from nbfc.network import MLP
from nbfc.optimizers import Optimizer, resolve


class Trainer:
    """A network in training: what the optimizer accumulates, and the memory that steps use again and again.

    Parameters
    ----------
    net : MLP
        Updated in place by each step.
    loss : {"mse", "cross_entropy", "binary_cross_entropy"}
        See ``nbfc.losses``.
    optimizer : SGD, Adam, AdamW or one of "sgd", "adam", "adamw"

    Attributes
    ----------
    net, loss, optimizer
        As given.
    steps : int
        The number of steps taken.
    learning_rate : float
        The optimizer's to begin with; may be set between steps.

    Raises
    ------
    ValueError
        If a name is unknown.
    TypeError
        If an argument is of another type.

    Warns
    -----
    UserWarning
        If the loss takes logits and the network's last layer squashes them.
    """

    def __init__(self, net: MLP, loss: str, optimizer: str | Optimizer) -> None:
        if not isinstance(net, MLP):
            raise TypeError(f"net is {net!r}: expected an nbfc.MLP.")
        choice("loss", loss, LOSSES)
        if loss != "mse" and net.activations[-1] != "identity":
            warnings.warn(
                f"{loss} takes logits, but the network's last layer has the activation {net.activations[-1]!r}: "
                "'identity' was expected, because the loss applies its own.",
                UserWarning,
                stacklevel=_frames_inside(),
            )
        self._net, self._loss, self._optimizer = net, loss, resolve(optimizer)
        self._rule = self.optimizer.rule()
        self._state = _arrays.aligned_zeros((1 + self.optimizer.moments, net.parameters.size), net.dtype)
        self._work, self._samples = net._workspace(1), 1

    net = property(attrgetter("_net"), doc="The network that steps update.")
    loss = property(attrgetter("_loss"), doc="The loss's name.")
    optimizer = property(attrgetter("_optimizer"), doc="The optimizer, as it was given; see also `learning_rate`.")

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return int(self._rule[STEP])

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._rule[LEARNING_RATE])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._rule[LEARNING_RATE] = real_number("learning_rate", value, least=0)

    def step(self, X: Any, y: Any) -> float:
        """Take one optimizer step on a batch; return the mean loss before it.

        Parameters
        ----------
        X : (N, n_in)
            Inputs, one sample a row; N ≥ 1, and may differ from step to step.
        y
            Targets, as the loss takes them (``nbfc.losses``).

        Returns
        -------
        float
            The mean of the samples' losses, with the parameters as they were.

        Raises
        ------
        DivergenceError
            If that loss, or a parameter after the step, is NaN or infinite. The parameters are then as they were;
            the optimizer's moments may not be, so go on with a new trainer.
        ValueError
            If a shape does not fit, the batch is empty, or a target is out of range.
        TypeError
            If X or y do not hold real numbers, or labels are not integers.
        """
        return self._step(*self._net._batch(X, y, self._loss))

    def _step(self, X: Array, y: Array, *order: Array) -> float:
        """Take a step on inputs and targets from `MLP._batch`, or on the rows of X that `order` names and their y."""
        if len(y) != self._samples:
            self._work, self._samples = self._net._workspace(len(y), self._work), len(y)
        self._rule[STEP] += 1
        loss, taken = self._net._run_step(X, y, self._loss, self._state, self._work, self._rule, *order)
        if not taken:
            self._rule[STEP] -= 1
            what = f"the loss is {loss}" if not np.isfinite(loss) else "a parameter would become NaN or infinite"
            advice = (
                f"A smaller learning rate than {self.learning_rate:g}, or standardised inputs and targets, may help."
            )
            if self.steps == 0 and not np.isfinite(loss):
                advice = "No step came before it: X, y or the parameters are not finite, or too large."
            raise DivergenceError(
                f"{what} at step {self.steps + 1}, so the step was not taken and the parameters are as they were "
                f"before it. {advice}"
            )
        return loss

    def __repr__(self) -> str:
        return f"Trainer({self.net!r}, loss={self.loss!r}, optimizer={self.optimizer}, steps={self.steps})"


def _frames_inside() -> int:
    """Return the `stacklevel` by which a warning in the caller points at the line that called into nbfc."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "nbfc":
        level, frame = level + 1, frame.f_back
    return level


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
