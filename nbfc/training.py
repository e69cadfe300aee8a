"""The training loop, in plain Python: batches, one step, and whole fits."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import choice, real_number, whole_number
from nbfc.errors import DivergenceError
from nbfc.kernels.updates import LEARNING_RATE, STEP
from nbfc.losses import LOSSES, per_sample
from nbfc.metrics import resolve as resolve_metrics
from nbfc.network import MLP
from nbfc.optimizers import Optimizer, resolve


def batches(X: Any, y: Any, batch_size: int, rng: np.random.Generator | None = None) -> Iterator[tuple[Array, Array]]:
    """Iterate once over the samples in batches; the last is smaller where batch_size does not divide N.

    Parameters
    ----------
    X : (N, …)
        Inputs, one sample a row; N ≥ 1.
    y : (N, …)
        Targets, one for each sample.
    batch_size : int
        Samples in a batch.
    rng : numpy.random.Generator, optional
        Shuffles the samples, so that they come in a new order at each call. Without one they come in their own order.

    Returns
    -------
    iterator of (X_batch, y_batch)
        Each a copy of the samples' rows.

    Raises
    ------
    ValueError
        If X is empty, X and y differ in length, or batch_size < 1.
    TypeError
        If batch_size is not an integer or rng not a Generator.
    """
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim == 0 or len(X) == 0:
        raise ValueError(f"X has shape {X.shape}: expected at least one sample.")
    if y.ndim == 0:
        raise ValueError("y is a single number: expected a target for each sample.")
    _arrays.check_rows(X, y)
    batch_size = whole_number("batch_size", batch_size, least=1)
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is {rng!r}: expected a generator, such as numpy.random.default_rng(seed), or None.")
    order = np.arange(len(X)) if rng is None else rng.permutation(len(X))
    parts = (order[start : start + batch_size] for start in range(0, len(X), batch_size))
    return ((X[part], y[part]) for part in parts)


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
                stacklevel=2,
            )
        self.net, self.loss, self.optimizer = net, loss, resolve(optimizer)
        self._rule = self.optimizer.rule()
        self._state = _arrays.aligned_zeros((1 + self.optimizer.moments, net.parameters.size), net.dtype)
        self._work = net._workspace(0)

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
        return self._step(*self.net._batch(X, y, self.loss))

    def _step(self, X: Array, y: Array) -> float:
        if len(X) > self._work.shape[1]:
            self._work = self.net._workspace(len(X))
        self._rule[STEP] += 1
        loss, taken = self.net._run_step(X, y, self.loss, self._state, self._work, self._rule)
        if not taken:
            self._rule[STEP] -= 1
            what = f"the loss is {loss}" if not np.isfinite(loss) else "a parameter would become NaN or infinite"
            raise DivergenceError(
                f"{what} at step {self.steps + 1}, so the step was not taken and the parameters are as they were "
                f"before it. A smaller learning rate than {self.learning_rate:g} may help, or standardised inputs."
            )
        return loss


@dataclass(frozen=True)
class Epoch:
    """What `fit` records of an epoch."""

    epoch: int
    """From 1."""
    loss: float
    """The mean over the epoch's samples of the loss, each before the step that its batch took."""
    validation_loss: float | None
    """The mean loss on the validation data after the epoch."""
    metrics: dict[str, float]
    """After the epoch, on the validation data if there are any, else on the training data."""
    seconds: float
    """Spent training, without validation and metrics."""
    samples_per_second: float
    """In training."""


class History(list[Epoch]):
    """A list of `Epoch` records, one for each epoch."""

    def column(self, name: str) -> list[Any]:
        """Return one field of every record, or the metric of that name."""
        return [record.metrics[name] if name in record.metrics else getattr(record, name) for record in self]


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

    It does what a loop over `batches` and `Trainer.step` does, to the bit. The bits are the same from run to run with
    one seed, and for any number of threads.

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
        "accuracy", or functions of the targets and the network's outputs that return a number.
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
    rng = np.random.default_rng(seed)
    X, y = _finite_batch(net, X, y, loss)
    if validation is not None:
        X_held_out, y_held_out = _finite_batch(net, *_pair(validation), loss, of="validation ")

    history = History()
    bar = tqdm(total=epochs * len(X), unit=" samples", unit_scale=True, disable=None if progress else True)
    with bar:
        for epoch in range(1, epochs + 1):
            bar.set_description(f"epoch {epoch}/{epochs}", refresh=False)
            started = time.perf_counter()
            total = 0.0
            for batch, (X_batch, y_batch) in enumerate(batches(X, y, batch_size, rng), 1):
                try:
                    batch_loss = trainer._step(X_batch, y_batch)
                except DivergenceError as error:
                    raise DivergenceError(f"epoch {epoch}, batch {batch}: {error}", history) from None
                total += batch_loss * len(X_batch)
                if bar.update(len(X_batch)):  # it was drawn
                    bar.set_postfix_str(f"loss {batch_loss:.4g}", refresh=False)
            seconds = time.perf_counter() - started

            validation_loss: float | None = None
            values: dict[str, float] = {}
            if validation is not None:
                validation_loss, values = _evaluate(net, X_held_out, y_held_out, loss, measures)
            elif measures:
                _, values = _evaluate(net, X, y, loss, measures)
            mean_loss = total / len(X)
            history.append(Epoch(epoch, mean_loss, validation_loss, values, seconds, len(X) / seconds))
            bar.set_postfix_str(f"loss {mean_loss:.4g}", refresh=False)
    return history


def _pair(validation: Any) -> tuple[Any, Any]:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError("validation is not a pair: expected (X, y), inputs and targets to measure the loss on.")
    return validation[0], validation[1]


def _finite_batch(net: MLP, X: Any, y: Any, loss: str, of: str = "") -> tuple[Array, Array]:
    """Return all inputs and targets in the form that steps take, checked for NaN and infinity: once, not each step."""
    inputs, targets = net._batch(X, y, loss)
    _arrays.check_finite(f"{of}X", inputs, X)
    _arrays.check_finite(f"{of}y", targets, np.reshape(y, targets.shape))
    return inputs, targets


def _evaluate(
    net: MLP, X: Array, y: Array, loss: str, measures: dict[str, Callable[[Array, Array], float]]
) -> tuple[float, dict[str, float]]:
    """Return the mean loss and the metrics on inputs and targets from `_finite_batch`."""
    outputs = net._outputs(X)
    losses, _ = per_sample(loss, outputs, y)
    return float(losses.mean(dtype=np.float64)), {
        name: float(measure(y, outputs)) for name, measure in measures.items()
    }
