"""What a fit leaves to look at: a record for each epoch, and the progress bar while it runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nbfc._checks import choice
from nbfc.plots import figure_of_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Epoch:
    """What `fit` records of an epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    loss : float
        The mean over the epoch's samples of the loss, each before the step that its batch took.
    validation_loss : float or None
        The mean loss on the validation data after the epoch.
    metrics : dict of str to float
        After the epoch, on the validation data if there are any, else on the training data.
    seconds : float
        Spent training, without validation and metrics.
    samples_per_second : float
        In training.
    learning_rate : float
        Of the epoch's last step.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    metrics: dict[str, float]
    seconds: float
    samples_per_second: float
    learning_rate: float

    def number(self, name: str) -> Any:
        """Return the metric of a name, or the field."""
        return self.metrics[name] if name in self.metrics else getattr(self, name)

    def __str__(self) -> str:
        parts = [f"epoch {self.epoch}: loss {self.loss:.4g}"]
        if self.validation_loss is not None:
            parts.append(f"validation loss {self.validation_loss:.4g}")
        parts += [f"{name} {value:.4g}" for name, value in self.metrics.items()]
        return ", ".join([*parts, f"{self.seconds:.3g} s, {self.samples_per_second:,.0f} samples a second"])


class History(list[Epoch]):
    """A list of `Epoch` records, one for each epoch; printed, a line for each.

    Attributes
    ----------
    stopped : str
        What ended the fit before its last epoch, or "".
    """

    stopped: str = ""

    def column(self, name: str) -> list[Any]:
        """Return one field of every record, or the metric of that name."""
        names = [field.name for field in fields(Epoch)] + (list(self[0].metrics) if self else [])
        choice("name", name, dict.fromkeys(names))
        return [record.number(name) for record in self]

    def plot(self) -> Figure:
        """Return a matplotlib figure of the losses and the metrics, such as ``.plot().savefig("history.png")``.

        Raises
        ------
        ImportError
            If matplotlib is not installed: ``pip install "nbfc[plot]"``.
        """
        return figure_of_history(self)[0]

    def __str__(self) -> str:
        return "\n".join(map(str, self))


class ProgressBar:
    """tqdm's bar over all samples of all epochs, on stderr where that is a terminal, and nothing at all elsewhere."""

    def __init__(self, wanted: bool, epochs: int, samples: int) -> None:
        self._epochs = epochs
        self._bar: Any = None
        if wanted and sys.stderr is not None and sys.stderr.isatty():
            # Not even imported where it stays silent: that takes time, and a bar a lock that other processes know of.
            from tqdm import tqdm

            self._bar = tqdm(total=epochs * samples, unit=" samples", unit_scale=True)

    def start(self, epoch: int) -> None:
        """Show the epoch's number from now on."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)

    def advance(self, samples: int, loss: float) -> None:
        """Count samples; the loss is shown when the bar is drawn, which tqdm does ten times a second at most."""
        if self._bar is not None:
            if self._bar.n == 0 or self._bar.n + samples >= self._bar.total:
                self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            if self._bar.update(samples):
                self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
