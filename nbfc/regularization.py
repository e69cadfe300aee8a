"""What keeps weights small, beside the loss. Decoupled weight decay is in ``nbfc.AdamW``."""

from dataclasses import dataclass

from nbfc._arrays import Array
from nbfc._checks import real_number
from nbfc.kernels import updates


@dataclass(frozen=True)
class Regularization:
    """Penalties for weights, and a bound on them; biases stay free.

    Training then descends J + l1 Σ |w| + (l2/2) Σ w², for the mean loss J over a batch. The losses that it reports are
    J alone.

    Parameters
    ----------
    l1, l2 : float ≥ 0
        What Σ |w| counts, and Σ w²/2.
    max_norm : float > 0, optional
        After each step, the weights of each output (a column of W) are shortened to this length.

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

    def __post_init__(self) -> None:
        real_number("l1", self.l1, least=0)
        real_number("l2", self.l2, least=0)
        if self.max_norm is not None:
            real_number("max_norm", self.max_norm, least=0, above=True)

    def enter(self, rule: Array) -> None:
        """Write it to a rule (see ``nbfc.kernels.updates``)."""
        rule[updates.L1], rule[updates.L2], rule[updates.MAX_NORM] = self.l1, self.l2, self.max_norm or 0


def check_regularization(given: Regularization | None) -> Regularization:
    """Return it as it is, or none for None."""
    if given is None:
        return Regularization()
    if not isinstance(given, Regularization):
        raise TypeError(
            f"regularization is {given!r}: expected an nbfc.Regularization, such as Regularization(l2=1e-4)."
        )
    return given
