"""What ``nbfc.fit`` calls as training goes on: to stop it, to change the learning rate, to write down how it goes.

A callback is an object with some of the methods of `Callback`. Each gets the `FitState`, of which it may change the
network's parameters and the trainer's learning rate. What it raises ends the fit, and the network is whole then.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from typing import IO, Any

from nbfc._arrays import Array
from nbfc._checks import choice, real_number, whole_number
from nbfc.calls import Callback, FitState
from nbfc.history import Epoch
from nbfc.metrics import BETTER
from nbfc.schedules import Schedule

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "FitState",
    "LearningRateSchedule",
    "ReduceOnPlateau",
    "TensorBoard",
]

SIGNS = {"min": 1.0, "max": -1.0}  # by which what is monitored becomes a number that is to fall


@dataclass
class _Monitor(Callback):
    """A callback that waits for one number of the history to become better."""

    patience: int = 10
    monitor: str | None = None
    mode: str | None = None
    least_change: float = 0.0

    def __post_init__(self) -> None:
        whole_number("patience", self.patience, least=1)
        real_number("least_change", self.least_change, least=0)
        if self.mode is not None:
            choice("mode", self.mode, SIGNS)

    def on_fit_start(self, state: FitState) -> None:
        """Check that what is monitored will be measured."""
        name = self.monitor or ("validation_loss" if "validation_loss" in state.names else "loss")
        choice("monitor", name, dict.fromkeys(state.names))
        mode = self.mode or {"loss": "min", "validation_loss": "min", **BETTER}.get(name)
        if mode is None:
            raise ValueError(f"mode is left out, but {name!r} is a metric of your own: expected 'min' or 'max'.")
        self._name, self._sign = name, SIGNS[mode]
        self._best, self._waited = float("inf"), 0

    def _is_better(self, state: FitState) -> bool:
        """Look at the newest epoch, and count those without a better number."""
        value = self._sign * float(state.history[-1].number(self._name))
        better = value < self._best - self.least_change
        self._best, self._waited = (value, 0) if better else (self._best, self._waited + 1)
        return better


@dataclass
class EarlyStopping(_Monitor):
    """End the fit when what is monitored has not become better for so many epochs.

    However the fit ends, the network has the parameters of the best epoch then.

    Parameters
    ----------
    patience : int
        For how many epochs to wait.
    monitor : str, optional
        "loss", "validation_loss" or a metric. By default the validation loss, or the loss without validation data.
    mode : {"min", "max"}, optional
        Which is better: needed for functions of one's own.
    least_change : float
        By how much it has to become better to count.

    Raises
    ------
    ValueError
        If a number is out of its range; in ``fit``, if what to monitor is not measured, or has no mode.
    TypeError
        If an argument is of another type.
    """

    def on_fit_start(self, state: FitState) -> None:
        """Check that what is monitored will be measured."""
        super().on_fit_start(state)
        self._parameters: Array | None = None

    def on_epoch_end(self, state: FitState) -> bool:
        """Keep the parameters if they are the best so far."""
        if self._is_better(state):
            self._parameters = state.net.parameters.copy()
        return self._waited >= self.patience

    def on_fit_end(self, state: FitState) -> None:
        """Restore the best parameters."""
        if self._parameters is not None:
            state.net.parameters = self._parameters


@dataclass
class ReduceOnPlateau(_Monitor):
    """Reduce the learning rate when what is monitored has not become better for so many epochs.

    It is of no use beside a `LearningRateSchedule`, which sets the learning rate before each step.

    Parameters
    ----------
    patience, monitor, mode, least_change
        As for `EarlyStopping`.
    factor : float in (0, 1)
        What the learning rate is multiplied by.

    Raises
    ------
    ValueError, TypeError
        As `EarlyStopping` does.
    """

    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        real_number("factor", self.factor, least=0, below=1, above=True)

    def on_epoch_end(self, state: FitState) -> None:
        """Reduce it, and wait again."""
        if not self._is_better(state) and self._waited >= self.patience:
            state.trainer.learning_rate *= self.factor
            self._waited = 0


class LearningRateSchedule(Callback):
    """Multiply the optimizer's learning rate by a schedule, before each step.

    Parameters
    ----------
    schedule : callable
        One of ``nbfc.schedules``, or a function of the epochs done and the epochs in all that returns a number ≥ 0.
    """

    def __init__(self, schedule: Schedule) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule is {schedule!r}: expected one of nbfc.schedules, or a function of two numbers.")
        self.schedule = schedule

    def on_fit_start(self, state: FitState) -> None:
        """Take the learning rate as it is."""
        self._rate = state.trainer.learning_rate

    def on_batch_start(self, state: FitState) -> None:
        """Set the learning rate."""
        factor = self.schedule(state.done, state.epochs)
        try:
            rate = self._rate * factor
        except TypeError:
            raise TypeError(f"the schedule returned {factor!r}: expected a number.") from None
        state.trainer.learning_rate = rate


class CSVLogger(Callback):
    """Write a line for each epoch to a file, which is complete after each.

    Parameters
    ----------
    path : str or path
        Overwritten if it exists.
    """

    def __init__(self, path: Any) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def on_fit_start(self, state: FitState) -> None:
        """Open the file."""
        own = [item.name for item in fields(Epoch) if item.name != "metrics"]
        self._names = own + [name for name in state.names if name not in own]
        self._file = open(self.path, "w", newline="", encoding="utf-8")  # noqa: SIM115  (closed in on_fit_end)
        self._write(self._names)

    def on_epoch_end(self, state: FitState) -> None:
        """Write a line."""
        self._write([state.history[-1].number(name) for name in self._names])

    def _write(self, row: list[Any]) -> None:
        assert self._file is not None
        csv.writer(self._file, lineterminator="\n").writerow(row)
        self._file.flush()

    def on_fit_end(self, state: FitState) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class TensorBoard(Callback):
    """Write losses, metrics and the learning rate of each epoch for TensorBoard, by the package tensorboardX.

    Parameters
    ----------
    folder : str or path
        Where the event files go.

    Raises
    ------
    ImportError
        If tensorboardX is not installed.
    """

    def __init__(self, folder: Any) -> None:
        from tensorboardX import SummaryWriter

        self.folder, self._make, self._writer = str(folder), SummaryWriter, None

    def on_fit_start(self, state: FitState) -> None:
        """Open the writer."""
        self._writer = self._make(self.folder)

    def on_epoch_end(self, state: FitState) -> None:
        """Write the numbers."""
        assert self._writer is not None
        record = state.history[-1]
        for name in (*state.names, "learning_rate"):
            self._writer.add_scalar(name, record.number(name), record.epoch)

    def on_fit_end(self, state: FitState) -> None:
        """Close the writer."""
        if self._writer is not None:
            self._writer.close()
