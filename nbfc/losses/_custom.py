"""Losses of users' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbfc._arrays import Array
from nbfc.kernels.further_losses import OWN_LOSSES
from nbfc.losses._classes import Loss
from nbfc.losses._targets import per_sample

_CHECKED: set[int] = set()


@dataclass(frozen=True)
class Custom(Loss):
    """A loss of your own.

    When it is first used, the gradient is compared with differences of the values.

    Parameters
    ----------
    function : compiled by ``numba.njit``
        ``function(y, t, dy)`` gets a sample's outputs y (n,) and targets t (n,), writes ∂J/∂y to dy (n,) and returns J.
        All are of the network's dtype. What it raises counts as a J of NaN. A process takes some 240 functions.

    Raises
    ------
    TypeError
        If it is no such function.
    """

    function: Callable[[Array, Array, Array], float]

    def __post_init__(self) -> None:
        code = OWN_LOSSES.code(self.function)
        if code is None:
            raise TypeError(
                f"function is {self.function!r}: expected one compiled by numba.njit, function(y, t, dy), which writes "
                "the gradient ∂J/∂y to dy and returns J."
            )
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "name", f"custom loss {getattr(self.function, '__name__', '')}")

    def __reduce__(self) -> Any:
        return type(self), (self.function,)

    def check_gradient(self, outputs: Array, y: Array) -> None:
        """Raise a ValueError where the gradient for such outputs and targets is not that of the values, in float64.

        A loss may have kinks, so one in ten of the derivatives may differ.
        """
        if self.code in _CHECKED:
            return
        finite = np.isfinite(outputs).all(axis=1) & np.isfinite(y).all(axis=1)  # others are found out elsewhere
        Y, T = outputs[finite].astype(np.float64), y[finite].astype(np.float64)
        if len(Y) == 0:
            return
        step = 1e-5 * (1 + np.abs(Y))
        _, dY = per_sample(self, Y, T)
        differences = np.empty_like(dY)
        for j in range(Y.shape[1]):
            h = np.zeros_like(Y)
            h[:, j] = step[:, j]
            above, below = per_sample(self, Y + h, T)[0], per_sample(self, Y - h, T)[0]
            differences[:, j] = (above - below) / (2 * step[:, j])
        wrong = ~np.isclose(dY, differences, rtol=1e-3, atol=1e-6 * (1 + np.abs(differences).max()))
        if wrong.mean() > 0.1:
            i, j = np.argwhere(wrong)[0]
            raise ValueError(
                f"{self.name} wrote {dY[i, j]:g} to dy[{j}] for outputs {Y[i]} and targets {T[i]}, but its values "
                f"change by {differences[i, j]:g}: expected ∂J/∂y of the J that it returns."
            )
        _CHECKED.add(self.code)
