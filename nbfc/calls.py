"""How ``nbfc.fit`` calls what is given to it as callbacks: the methods, and the state that they get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from nbfc._arrays import Array
from nbfc.errors import DivergenceError
from nbfc.history import History
from nbfc.network import MLP
from nbfc.trainer import Trainer


@dataclass
class FitState:
    """How a fit stands.

    Attributes
    ----------
    net : MLP
        In training.
    trainer : Trainer
        That takes the steps; its `learning_rate` may be set.
    history : History
        The epochs that are complete.
    names : tuple of str
        What a record of the history measures: "loss", "validation_loss" if there are validation data, and the metrics.
    epochs, batches : int
        How many epochs there will be, and how many batches an epoch has.
    epoch, batch : int
        Which of them it is, from 1.
    """

    net: MLP
    trainer: Trainer
    history: History
    names: tuple[str, ...]
    epochs: int
    batches: int
    epoch: int = 1
    batch: int = 1

    @property
    def done(self) -> float:
        """How many epochs lie behind, with a fraction for the batches of this one."""
        return self.epoch - 1 + (self.batch - 1) / self.batches


class Callback:
    """What `fit` calls: a callback of one's own overrides what it needs."""

    def on_fit_start(self, state: FitState) -> None:
        """Before the first epoch: the place for checks."""

    def on_batch_start(self, state: FitState) -> None:
        """Before each step."""

    def on_epoch_end(self, state: FitState) -> bool | None:
        """After each epoch, whose record is ``state.history[-1]``. Return True to end the fit."""

    def on_fit_end(self, state: FitState) -> None:
        """At the end, whatever ended it: also an error or Ctrl-C."""


HOOKS = ("on_fit_start", "on_batch_start", "on_epoch_end", "on_fit_end")


def check_callbacks(callbacks: Any) -> None:
    """Raise a TypeError unless each is an object with a method of `Callback`."""
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"callbacks is {callbacks!r}: expected a list, such as [nbfc.callbacks.EarlyStopping()].")
    for callback in callbacks:
        if isinstance(callback, type) or not any(callable(getattr(callback, name, None)) for name in HOOKS):
            raise TypeError(f"callbacks has {callback!r}: expected an object with a method {', '.join(HOOKS)}.")


class Calls:
    """The methods of all callbacks that are called during epochs."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._before_batch = [method for callback in callbacks for method in _methods(callback, "on_batch_start")]
        self._after_epoch = [
            (type(callback).__name__, method) for callback in callbacks for method in _methods(callback, "on_epoch_end")
        ]

    def step(self, state: FitState, *batch: Array) -> float:
        """Take a training step on what ``Trainer._step`` takes, and before it make the calls; return its loss."""
        for call in self._before_batch:
            call(state)
        try:
            return state.trainer._step(*batch)
        except DivergenceError as error:
            raise DivergenceError(f"epoch {state.epoch}, batch {state.batch}: {error}", state.history) from None

    def end_epoch(self, state: FitState) -> str:
        """Call them all after an epoch; return the name of one that ends the fit, or nothing."""
        stopping = [name for name, call in self._after_epoch if call(state)]
        return stopping[0] if stopping else ""


@contextmanager
def started(callbacks: Sequence[Any], state: FitState) -> Iterator[Calls]:
    """Start callbacks, and in any case end those that started."""
    with ExitStack() as stack:
        for callback in callbacks:
            for start in _methods(callback, "on_fit_start"):
                start(state)
            for end in _methods(callback, "on_fit_end"):
                stack.callback(end, state)
        yield Calls(callbacks)


def _methods(callback: Any, name: str) -> list[Any]:
    """Return a callback's method, or none where it has none of its own: an empty one would be called at each step."""
    method = getattr(callback, name, None)
    empty = getattr(type(callback), name, None) is getattr(Callback, name)
    return [] if method is None or empty else [method]
