"""What keeps a network from learning its samples by heart. Decoupled weight decay is in ``nbfc.AdamW``."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from nbfc._arrays import Array
from nbfc._checks import real_number
from nbfc.kernels import updates
from nbfc.kernels.layers import DROPOUT, hidden


@dataclass(frozen=True)
class Regularization:
    """Penalties for weights, a bound on them, and dropout; biases stay free.

    Training then descends J + l1 Σ |w| + (l2/2) Σ w², for the mean loss J over a batch. The losses that it reports are
    J alone, with the outputs that dropout left.

    Parameters
    ----------
    l1, l2 : float ≥ 0
        What Σ |w| counts, and Σ w²/2.
    max_norm : float > 0, optional
        After each step, the weights of each output (a column of W) are shortened to this length.
    dropout : float in [0, 1) or a sequence of them
        The probability by which each output of a hidden layer is left out in a step, while the others count more in
        its place: of all hidden layers, or of each. Predictions use all outputs.

    Raises
    ------
    ValueError
        If a number is out of its range.
    TypeError
        If one is not a number.
    """

    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    dropout: float | Sequence[float] = 0.0

    def __post_init__(self) -> None:
        real_number("l1", self.l1, least=0)
        real_number("l2", self.l2, least=0)
        if self.max_norm is not None:
            real_number("max_norm", self.max_norm, least=0, above=True)
        given: Any = self.dropout
        if not isinstance(given, (str, Real)):
            object.__setattr__(self, "dropout", tuple(given))  # of a list or an array
        for rate in self._rates(1):
            real_number("dropout", rate, least=0, below=1)

    def _rates(self, hidden: int) -> list[float]:
        given: Any = self.dropout
        return list(given) if isinstance(given, tuple) else [given] * hidden

    def enter(self, rule: Array) -> None:
        """Write it to a rule (see ``nbfc.kernels.updates``)."""
        rule[updates.L1], rule[updates.L2], rule[updates.MAX_NORM] = self.l1, self.l2, self.max_norm or 0

    def table(self, layers: Array) -> Array:
        """Return a table of layers (see ``nbfc.kernels.layers``) with the dropout in it."""
        outputs = hidden(layers)
        rates = self._rates(len(outputs))
        if len(rates) != len(outputs):
            raise ValueError(
                f"dropout has {len(rates)} numbers: expected one for each of {len(outputs)} hidden layers."
            )
        layers = layers.copy()
        layers[outputs, DROPOUT] = [min(round(rate * 2**32), 2**32 - 1) for rate in rates]
        return layers


def check_regularization(given: Regularization | None) -> Regularization:
    """Return it as it is, or none for None."""
    if given is None:
        return Regularization()
    if not isinstance(given, Regularization):
        raise TypeError(
            f"regularization is {given!r}: expected an nbfc.Regularization, such as Regularization(l2=1e-4)."
        )
    return given
