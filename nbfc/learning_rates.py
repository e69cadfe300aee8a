"""Which learning rate suits: a trial in which it grows from step to step (Smith, 2017, section 3.3)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from nbfc._arrays import Array
from nbfc._checks import real_number, seeded, whole_number
from nbfc.errors import DivergenceError
from nbfc.network import MLP
from nbfc.optimizers import Optimizer
from nbfc.plots import figure_of_learning_rates
from nbfc.sampling import batches
from nbfc.trainer import Trainer
from nbfc.training import _finite_batch
from nbfc.weighting import NO_WEIGHTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT = 0.9  # of the mean of the losses so far, at each step
TOO_MUCH = 4.0  # times the lowest loss: the trial ends there
LEAST = 10  # steps that a slope can be told from


@dataclass(frozen=True)
class LearningRates:
    """What `find_learning_rate` saw.

    Attributes
    ----------
    rates, losses : (steps,)
        The learning rate of each step, and the loss before it.
    smooth : (steps,)
        The mean of the losses, of which later ones weigh more.
    suggestion : float
        Where `smooth` falls most steeply: a rate to begin with.
    """

    rates: Array
    losses: Array
    smooth: Array
    suggestion: float

    def plot(self) -> Figure:
        """Return a matplotlib figure, such as ``.plot().savefig("rates.png")``."""
        return figure_of_learning_rates(self.rates, self.losses, self.smooth, self.suggestion)


def find_learning_rate(
    net: MLP,
    X: Any,
    y: Any,
    *,
    loss: str,
    optimizer: str | Optimizer,
    batch_size: int,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    seed: int | None = None,
) -> LearningRates:
    """Train a copy of a network by learning rates that grow from step to step, until the loss does.

    Parameters
    ----------
    net : MLP
        Stays as it is.
    X, y, loss, optimizer, batch_size, seed
        As for `fit`. The optimizer's own learning rate is not used.
    lowest, highest : float > 0
        The first and the last learning rate.
    steps : int
        How many, at least 10. Fewer are taken if the loss becomes 4 times the lowest.

    Returns
    -------
    LearningRates

    Raises
    ------
    ValueError, TypeError
        As `fit` does, and if `lowest` is not below `highest`.
    """
    trainer = Trainer(copy.deepcopy(net), loss, optimizer)
    batch_size, steps = whole_number("batch_size", batch_size, least=1), whole_number("steps", steps, least=LEAST)
    lowest = real_number("lowest", lowest, least=0, above=True)
    highest = real_number("highest", highest, least=lowest, above=True)
    rng = seeded(seed)
    X, y = _finite_batch(net, X, y, trainer.loss)

    rates, losses, smooth = np.geomspace(lowest, highest, steps), [], []
    total = weight = 0.0
    epochs = (batches(X, y, batch_size, rng) for _ in count())
    for rate, batch in zip(rates, chain.from_iterable(epochs), strict=False):
        trainer.learning_rate = rate
        try:
            losses.append(trainer._step(*batch, NO_WEIGHTS[net.dtype]))
        except DivergenceError:
            break
        total, weight = KEPT * total + losses[-1], KEPT * weight + 1
        smooth.append(total / weight)
        if len(smooth) > LEAST and smooth[-1] > TOO_MUCH * min(smooth):
            break
    taken = len(losses)
    if taken < LEAST:
        raise DivergenceError(
            f"training diverged at step {taken + 1}, at the learning rate {rates[taken]:g}: try a lower `lowest`."
        )
    rates, curve = rates[:taken], np.array(smooth)
    falls = curve[: -LEAST // 2] - curve[LEAST // 2 :]  # over so many steps: from one to the next batches differ, too
    suggestion = float(rates[np.argmax(falls) + LEAST // 4])
    return LearningRates(rates, np.array(losses), curve, suggestion)
