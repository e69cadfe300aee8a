"""Checks of arguments that are not arrays: each returns the value, or says what came and what was expected."""

from collections.abc import Mapping
from math import isfinite
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def choice(name: str, value: Any, options: Mapping[str, T]) -> T:
    """Return the option called `value`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}: expected a name, one of {_listed(options)}.")
    if value not in options:
        raise ValueError(f"{name} is {value!r}: expected one of {_listed(options)}.")
    return options[value]


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(repr(option) for option in options)


def whole_number(name: str, value: Any, least: int) -> int:
    """Return `value` as an int that is at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}: expected a whole number.")
    if value < least:
        raise ValueError(f"{name} is {value}: expected at least {least}.")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """Return `value`, which is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}: expected True or False.")
    return bool(value)


def seeded(seed: Any) -> np.random.Generator:
    """Return a random generator from a whole number, or from the system's entropy for None."""
    return np.random.default_rng(None if seed is None else whole_number("seed", seed, least=0))


def real_number(name: str, value: Any, least: float, below: float = float("inf"), above: bool = False) -> float:
    """Return `value` as a finite float in [least, below), or in (least, below) with `above`."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}: expected a number.")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number) or number < least or number >= below or (above and number == least):
        lower = f"above {least:g}" if above else f"at least {least:g}"
        upper = f" and below {below:g}" if isfinite(below) else ""
        raise ValueError(f"{name} is {value}: expected a finite number, {lower}{upper}.")
    return number
