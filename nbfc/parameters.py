"""The parameters of a network: one flat vector, and what stands for its parts."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc.kernels import layers
from nbfc.kernels.elementwise import IDENTITY
from nbfc.kernels.further_activations import ask_for_activations, code_of
from nbfc.kernels.whole_rows import ask_for_whole_rows


class _Views(tuple[Array, ...]):
    """Arrays whose places cannot be taken: assigning to one copies the values in, so that it stays a view."""

    __slots__ = ()

    def __setitem__(self, layer: int, values: Any) -> None:
        target = self[index(layer)]
        if target.ndim == 2:
            _copy_into(target, "the layer's W", values, "it has a row for each input and a column for each output")
        else:
            _copy_into(target, "the layer's vector", values, "it has an entry for each output")


def _copy_into(target: Array, name: str, values: Any, why: str) -> None:
    """Copy numbers into an array of parameters, if they have its shape or NumPy would repeat them to have it."""
    if values is target:  # as after `net.parameters -= ...`
        return
    values = _arrays.numbers(name, values)
    try:
        target[...] = values
    except ValueError:
        raise ValueError(f"{name} has shape {values.shape}: expected {target.shape}, because {why}.") from None


class Parametrized:
    """The parameters of a network that has what `MLP` has."""

    _widths: tuple[int, ...]
    _activations: tuple[Any, ...]
    _layer_norm: bool
    _dtype: np.dtype[Any]

    def _allocate(self) -> None:
        """Make the flat vector and the views into it."""
        codes = [code_of(activation) or IDENTITY for activation in self._activations]
        self._layers = layers.table(self._widths, codes, self._layer_norm)
        ask_for_activations(self._layers, self._dtype)
        ask_for_whole_rows(self._layers, self._dtype)
        self._parameters = _arrays.aligned_zeros(int(self._layers[-1, layers.SIZE]), self._dtype)
        self._weights, self._biases = map(_Views, layers.views(self._layers, self._parameters))
        gains, shifts = layers.views(self._layers, self._parameters, layers.NORMALIZE)
        self._gains, self._shifts = _Views(gain[0] for gain in gains), _Views(shifts)

    @property
    def parameters(self) -> Array:
        """Every weight and bias, gain and shift in one vector (P,); assigning copies the values in."""
        return self._parameters

    @parameters.setter
    def parameters(self, values: Any) -> None:
        _copy_into(self._parameters, "parameters", values, "that is how many the network has")

    @property
    def weights(self) -> _Views:
        """Each layer's W (n_in, n_out), as views into `parameters`; assigning to one copies the values in."""
        return self._weights

    @property
    def biases(self) -> _Views:
        """Each layer's b (n_out,), as views into `parameters`; assigning to one copies the values in."""
        return self._biases

    @property
    def gains(self) -> _Views:
        """Each hidden layer's gains (n_out,), likewise; none without `layer_norm`."""
        return self._gains

    @property
    def shifts(self) -> _Views:
        """Each hidden layer's shifts (n_out,), likewise."""
        return self._shifts

    def _is_weight(self) -> Array:
        """Return which parameters are weights, bool (P,): no bias, gain or shift."""
        mask = np.zeros(self._parameters.size, bool)
        for W in layers.views(self._layers, mask)[0]:
            W[...] = True
        return mask

    _MADE_ANEW = ("_weights", "_biases", "_gains", "_shifts", "_layers", "_idle")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the views into `parameters`, which copying and pickling would otherwise tear off."""
        vars(self).update(state)
        self._allocate()
        self._parameters[:] = state["_parameters"]
