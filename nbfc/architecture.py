"""What describes a network before it has parameters: widths and activations, checked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from nbfc._checks import choice, whole_number
from nbfc.kernels.elementwise import ACTIVATIONS, CODES, FURTHER
from nbfc.kernels.further_activations import code_of

NAMES = {**ACTIVATIONS, **FURTHER}  # of activations of one number
MOST_WEIGHTS = 10**12  # far beyond any computer's memory, and far within what the kernels' integers count


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Return the widths, at least two, each at least 1."""
    try:
        listed = list(widths)
    except TypeError:
        raise TypeError(f"widths is {widths!r}: expected a list of whole numbers, such as [64, 128, 10].") from None
    if len(listed) < 2:
        raise ValueError(f"widths is {listed}: expected at least two numbers, of inputs and of outputs.")
    checked = tuple(whole_number(f"widths[{layer}]", width, least=1) for layer, width in enumerate(listed))
    if max(m * n for m, n in pairwise(checked)) > MOST_WEIGHTS:
        raise ValueError(f"widths is {listed}: expected at most {MOST_WEIGHTS:.0e} weights in a layer.")
    return checked


def check_activations(activation: Any, output: Any, widths: Sequence[int]) -> tuple[Any, ...]:
    """Return each layer's activation: a name, or a user's function, whose derivative is checked."""
    checked = _check_activations(activation, output, len(widths) - 1)
    if checked[-1] == "softmax" and widths[-1] == 1:
        raise ValueError(
            "output_activation is 'softmax' for one output, which would always be 1: expected 'sigmoid', or two "
            "outputs."
        )
    return checked


def _check_activations(activation: Any, output: Any, depth: int) -> tuple[Any, ...]:
    _check_activation("output_activation", output, last=True)
    if not isinstance(activation, (list, tuple)):
        _check_activation("activation", activation)
        return (activation,) * (depth - 1) + (output,)
    if len(activation) not in (depth - 1, depth):
        raise ValueError(
            f"activation has {len(activation)} names: expected {depth - 1}, one for each hidden layer, or {depth}, "
            "one for each layer."
        )
    for layer, one in enumerate(activation):
        _check_activation(f"activation[{layer}]", one, last=layer == depth - 1)
    if len(activation) == depth - 1:
        return (*activation, output)
    if output not in ("identity", activation[-1]):
        raise ValueError(
            f"output_activation is {output!r}, but activation names {activation[-1]!r} for the last layer: "
            "expected one name for it."
        )
    return tuple(activation)


def name_of(activation: Any) -> str:
    """Return an activation's name."""
    return activation if isinstance(activation, str) else getattr(activation, "__name__", repr(activation))


def _check_activation(what: str, activation: Any, last: bool = False) -> None:
    if isinstance(activation, str):
        if activation == "softmax" and not last:
            raise ValueError(
                f"{what} is 'softmax': expected another one for hidden layers, as it is for outputs alone."
            )
        choice(what, activation, CODES if last else NAMES)
    elif code_of(activation) is None:
        raise TypeError(
            f"{what} is {activation!r}: expected a name, or a function of z compiled by numba.njit that returns the "
            "activation's value and its derivative; or a list of them."
        )
    elif activation not in _CHECKED:
        _check_derivative(activation)
        _CHECKED.add(activation)


_CHECKED: set[Any] = set()


def _check_derivative(activation: Any) -> None:
    """Raise a ValueError where a function's derivative is not that of its values.

    It may have kinks, so one in ten of the derivatives may differ, and it may compute in float32.
    """
    z, h = np.linspace(-3.97, 4.03, 160), 1e-3
    found = [activation(float(at)) for at in z]
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in found):
        raise ValueError(f"{name_of(activation)}(z) returned {found[0]!r}: expected the value and the derivative.")
    differences = np.array([activation(at + h)[0] - activation(at - h)[0] for at in z]) / (2 * h)
    derivatives = np.array([pair[1] for pair in found], float)
    wrong = ~np.isclose(derivatives, differences, rtol=1e-2, atol=1e-3 * np.abs(differences).max())
    if wrong.mean() > 0.1:
        at = int(wrong.argmax())
        raise ValueError(
            f"{name_of(activation)} returned the derivative {derivatives[at]:g} at z = {z[at]:g}, where its values "
            f"change by {differences[at]:g}: expected the derivative of the value."
        )


def table_of_layers(widths: Sequence[int], activations: Sequence[Any], layer_norm: bool) -> str:
    """Return a table of the layers, their shapes and parameter counts, as text."""
    rows = [["layer", "inputs", "outputs", "activation", "weights", "bias", "parameters"]]
    if layer_norm:
        rows[0].insert(-1, "norm")
    total, depth = 0, len(activations)
    for layer, (n_in, n_out, activation) in enumerate(zip(widths[:-1], widths[1:], activations, strict=True), 1):
        shape, count = f"{n_in} × {n_out}", n_in * n_out + n_out
        row = [str(layer), str(n_in), str(n_out), name_of(activation), shape, str(n_out)]
        if layer_norm:
            row.append(f"2 × {n_out}" if layer < depth else "")
            count += 2 * n_out if layer < depth else 0
        rows.append([*row, f"{count:,}"])
        total += count
    rows.append(["total", *[""] * (len(rows[0]) - 2), f"{total:,}"])
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, wide, strict=True)) for row in rows)
