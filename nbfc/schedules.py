"""Learning-rate schedules: what the optimizer's learning rate is multiplied by as training goes on.

A schedule is called with the epochs done so far, a fraction within an epoch, and the number of epochs in all, and
returns a number ≥ 0. Any function that does so is one. ``nbfc.callbacks.LearningRateSchedule`` applies it before each
step. What depends on how training goes is ``nbfc.callbacks.ReduceOnPlateau``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nbfc._checks import real_number

Schedule = Callable[[float, float], float]


@dataclass(frozen=True)
class Constant:
    """1 all the time."""

    def __call__(self, done: float, epochs: float) -> float:
        """Return the multiple."""
        return 1.0


@dataclass(frozen=True)
class Step:
    """A factor for every so many epochs: factor^⌊done / every⌋."""

    every: float = 30
    factor: float = 0.1

    def __post_init__(self) -> None:
        real_number("every", self.every, least=0, above=True)
        real_number("factor", self.factor, least=0, above=True)

    def __call__(self, done: float, epochs: float) -> float:
        """Return the multiple."""
        return float(self.factor ** (done // self.every))


@dataclass(frozen=True)
class Exponential:
    """A factor for every epoch, step by step: factor^done."""

    factor: float = 0.95

    def __post_init__(self) -> None:
        real_number("factor", self.factor, least=0, above=True)

    def __call__(self, done: float, epochs: float) -> float:
        """Return the multiple."""
        return float(self.factor**done)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `last`, without restarts (Loshchilov and Hutter, 2017, equation 5)."""

    last: float = 0.0

    def __post_init__(self) -> None:
        real_number("last", self.last, least=0)

    def __call__(self, done: float, epochs: float) -> float:
        """Return the multiple."""
        return _between(1.0, self.last, done / epochs)


@dataclass(frozen=True)
class OneCycle:
    """Half a cosine up from `first` to 1, for the share `rise` of training, and one down to `last`.

    After Smith and Topin, 2019, with the numbers that PyTorch has; momentum stays as it is.
    """

    rise: float = 0.3
    first: float = 0.04
    last: float = 4e-6

    def __post_init__(self) -> None:
        real_number("rise", self.rise, least=0, below=1, above=True)
        real_number("first", self.first, least=0)
        real_number("last", self.last, least=0)

    def __call__(self, done: float, epochs: float) -> float:
        """Return the multiple."""
        share = done / epochs
        if share < self.rise:
            return _between(self.first, 1.0, share / self.rise)
        return _between(1.0, self.last, (share - self.rise) / (1 - self.rise))


@dataclass(frozen=True)
class InverseScaling:
    """1 / (1 + done)^power."""

    power: float = 0.5

    def __post_init__(self) -> None:
        real_number("power", self.power, least=0)

    def __call__(self, done: float, epochs: float) -> float:
        """Return the multiple."""
        return float((1 + done) ** -self.power)


@dataclass(frozen=True)
class WarmUp:
    """A line from `first` to 1 for so many epochs, and from there the schedule `then`, as if training began there."""

    epochs: float = 1
    then: Schedule = Constant()
    first: float = 0.01

    def __post_init__(self) -> None:
        real_number("epochs", self.epochs, least=0, above=True)
        real_number("first", self.first, least=0)
        if not callable(self.then):
            raise TypeError(f"then is {self.then!r}: expected a schedule, such as nbfc.schedules.Cosine().")

    def __call__(self, done: float, epochs: float) -> float:
        """Return the multiple."""
        if done < self.epochs:
            return self.first + (1 - self.first) * done / self.epochs
        return self.then(done - self.epochs, epochs - self.epochs)


def _between(start: float, end: float, share: float) -> float:
    """Return what lies at a share, from 0 to 1, of half a cosine from one number to another."""
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
