"""The errors of this package that are not a ValueError or TypeError about an argument."""

from typing import Any


class DivergenceError(ArithmeticError):
    """Training stopped because the loss or a parameter became NaN or infinite.

    The network holds the last finite parameters.

    Attributes
    ----------
    history : History or None
        The epochs that ``nbfc.fit`` had completed.
    """

    def __init__(self, message: str, history: Any = None) -> None:
        super().__init__(message)
        self.history = history


class ModelFormatError(ValueError):
    """A file is not a model that ``nbfc.save`` wrote, or it is damaged."""
