"""What describes a network before it has parameters: widths and activations, checked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nbfc._checks import choice, whole_number
from nbfc.kernels.elementwise import ACTIVATIONS

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


def check_activations(activation: str | Sequence[str], output: str, depth: int) -> tuple[str, ...]:
    """Return the name of each of `depth` layers' activation."""
    choice("output_activation", output, ACTIVATIONS)
    if isinstance(activation, str):
        choice("activation", activation, ACTIVATIONS)
        return (activation,) * (depth - 1) + (output,)
    if not isinstance(activation, (list, tuple)):
        raise TypeError(f"activation is {activation!r}: expected a name or a list of names.")
    for layer, name in enumerate(activation):
        choice(f"activation[{layer}]", name, ACTIVATIONS)
    if len(activation) == depth - 1:
        return (*activation, output)
    if len(activation) != depth:
        raise ValueError(
            f"activation has {len(activation)} names: expected {depth - 1}, one for each hidden layer, or {depth}, "
            "one for each layer."
        )
    if output not in ("identity", activation[-1]):
        raise ValueError(
            f"output_activation is {output!r}, but activation names {activation[-1]!r} for the last layer: "
            "expected one name for it."
        )
    return tuple(activation)


def table_of_layers(widths: Sequence[int], activations: Sequence[str]) -> str:
    """Return a table of the layers, their shapes and parameter counts, as text."""
    rows = [("layer", "inputs", "outputs", "activation", "weights", "bias", "parameters")]
    total = 0
    for layer, (n_in, n_out, activation) in enumerate(zip(widths[:-1], widths[1:], activations, strict=True), 1):
        shape, count = f"{n_in} × {n_out}", n_in * n_out + n_out
        rows.append((str(layer), str(n_in), str(n_out), activation, shape, str(n_out), f"{count:,}"))
        total += count
    rows.append(("total", "", "", "", "", "", f"{total:,}"))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, wide, strict=True)) for row in rows)
