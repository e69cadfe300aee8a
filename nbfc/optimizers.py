"""Optimizers by name: their own numbers, written down once and never changed by training.

An optimizer is a description. What training accumulates (moments, the number of steps) belongs to the ``Trainer``, so
one optimizer can serve several networks. The update rules are in ``nbfc.kernels.updates``.
"""

from dataclasses import dataclass

import numpy as np

from nbfc._arrays import Array
from nbfc._checks import choice, real_number
from nbfc.kernels import updates


@dataclass(frozen=True)
class Optimizer:
    """What all optimizers have: a learning rate, and a rule for the compiled update."""

    learning_rate: float

    def __post_init__(self) -> None:
        real_number("learning_rate", self.learning_rate, least=0)

    def rule(self) -> Array:
        """Return the rule, float64, as ``nbfc.kernels.updates`` describes it; the step's number is still 0."""
        raise NotImplementedError

    def _rule(self, code: int, *numbers: float) -> Array:
        rule = np.zeros(updates.LENGTH)
        rule[updates.CODE], rule[updates.LEARNING_RATE] = code, self.learning_rate
        rule[updates.FIRST : updates.FIRST + len(numbers)] = numbers
        return rule


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: m ← μ m + g; θ ← θ − η m, or θ ← θ − η (g + μ m) with `nesterov`.

    Parameters
    ----------
    learning_rate : float, ≥ 0
        η.
    momentum : float in [0, 1)
        μ.
    nesterov : bool
        Nesterov's look-ahead; it needs a momentum.

    Raises
    ------
    ValueError
        If a number is out of its range, or `nesterov` comes without a momentum.
    TypeError
        If one is not a number.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        real_number("momentum", self.momentum, least=0, below=1)
        if not isinstance(self.nesterov, (bool, np.bool_)):
            raise TypeError(f"nesterov is {self.nesterov!r}: expected True or False.")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True with momentum 0: expected a momentum above 0 to look ahead with.")

    def rule(self) -> Array:
        """Return the rule for ``nbfc.kernels.updates.sgd``."""
        return self._rule(updates.SGD, self.momentum, self.nesterov)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; θ ← θ − η m̂ / (√v̂ + ε).

    Parameters
    ----------
    learning_rate : float, ≥ 0
        η.
    beta1, beta2 : float in [0, 1)
        Decay of the two moments; m̂ and v̂ are corrected for their start at zero.
    epsilon : float, > 0
        ε.

    Raises
    ------
    ValueError
        If a number is out of its range.
    TypeError
        If one is not a number.
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        real_number("beta1", self.beta1, least=0, below=1)
        real_number("beta2", self.beta2, least=0, below=1)
        real_number("epsilon", self.epsilon, least=0, above=True)

    def rule(self) -> Array:
        """Return the rule for ``nbfc.kernels.updates.adam``."""
        return self._rule(updates.ADAM, self.beta1, self.beta2, self.epsilon, 0)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): θ ← (1 − η λ) θ before Adam's update.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon
        As for `Adam`.
    weight_decay : float, ≥ 0
        λ, for all parameters.

    Raises
    ------
    ValueError
        If a number is out of its range.
    TypeError
        If one is not a number.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        real_number("weight_decay", self.weight_decay, least=0)

    def rule(self) -> Array:
        """Return the rule for ``nbfc.kernels.updates.adam``."""
        rule = super().rule()
        rule[updates.FOURTH] = self.weight_decay
        return rule


OPTIMIZERS: dict[str, Optimizer] = {"sgd": SGD(0.01), "adam": Adam(), "adamw": AdamW()}


def resolve(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer as it is, or the one of that name with its default numbers (SGD's learning rate is 0.01)."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer is {optimizer!r}: expected a name or an nbfc optimizer, such as nbfc.Adam(0.001).")
    return choice("optimizer", optimizer, OPTIMIZERS)
