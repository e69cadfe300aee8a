"""Networks in files: safetensors, whose tensors other programs can read, with the network's description in its header.

Tensors are ``layers.0.weight`` (n_in, n_out), ``layers.0.bias`` (n_out,) and so on, and of hidden layers that are
normalised ``layers.0.gain`` and ``layers.0.shift`` (n_out,). The metadata has one entry,
"nbfc", a JSON text with the description and a digest of it and of the tensors, so that damage anywhere is found (one
entry, because safetensors writes several in a random order, and equal networks make equal files here). Nothing in a
file is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from nbfc._arrays import Array
from nbfc.architecture import name_of
from nbfc.errors import ModelFormatError
from nbfc.network import MLP

ENTRY, FORMAT = "nbfc", 1  # the number rises when an older version could misread a new file


def save(net: MLP, path: str | os.PathLike[str]) -> None:
    """Write a network to a file: architecture, parameters, the scaling of its inputs, and its names.

    The new file is written beside the old one and takes its place in one move, so that a crash loses neither.

    Parameters
    ----------
    net : MLP
    path : str or path
        The file, usually named ``….safetensors``.

    Raises
    ------
    OSError
        If the file cannot be written, or is a folder or a device.
    ValueError
        If there are not as many `input_names` as inputs, or `class_names` as outputs (two names where that is one), or
        an activation is a function of your own.
    TypeError
        If `net` is no MLP.
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net is {net!r}: expected an nbfc.MLP.")
    for activation in net.activations:
        if not isinstance(activation, str):
            raise ValueError(
                f"the network has the activation {name_of(activation)} of your own: expected named ones, as files hold "
                "no code. pickle keeps it."
            )
    tensors = {}
    for what in _of_layers(net.layer_norm):
        for layer, array in enumerate(_arrays_of(net, what)):
            tensors[_name(layer, what)] = array
    network = _describe(net)
    description = {"format": FORMAT, "network": network, "sha256": _digest(network, tensors)}
    # safetensors 0.8 writes arrays that are not C-contiguous wrongly, without a word
    data = to_bytes(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, {ENTRY: json.dumps(description)}
    )
    _replace(os.path.realpath(path), data)


def load(path: str | os.PathLike[str]) -> MLP:
    """Read a network that `save` wrote.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    MLP

    Raises
    ------
    ModelFormatError
        If the file is not such a network, or is damaged.
    OSError
        If the file cannot be read.
    """
    with open(path, "rb"):  # for Python's own error where that fails
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            description = json.loads((file.metadata() or {})[ENTRY])
            if description["format"] != FORMAT:
                raise ValueError(f"its format is {description['format']!r}: this version of nbfc reads {FORMAT}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        if description["sha256"] != _digest(description["network"], tensors):
            raise ValueError("its contents do not match its digest")
        return _rebuild(description["network"], tensors)
    except Exception as error:  # a file from anywhere can make the readers raise nearly anything
        reason = f"it has no entry {error}" if isinstance(error, KeyError) else str(error)
        raise ModelFormatError(f"{os.fspath(path)} is not a model of nbfc, or is damaged: {reason}") from error


def _of_layers(layer_norm: bool) -> tuple[str, ...]:
    """Return what the tensors of a layer are called."""
    return ("weight", "bias", "gain", "shift") if layer_norm else ("weight", "bias")


def _name(layer: int, what: str) -> str:
    return f"layers.{layer}.{what}"


def _arrays_of(net: MLP, what: str) -> Any:
    """Return a network's arrays of a kind, which may be assigned to."""
    return {"weight": net.weights, "bias": net.biases, "gain": net.gains, "shift": net.shifts}[what]


def _describe(net: MLP) -> dict[str, Any]:
    """Return what makes up a network beside its parameters, as JSON can hold it; floats come back to the bit."""
    return {
        "widths": list(net.widths),
        "activations": list(net.activations),
        **({"layer_norm": True} if net.layer_norm else {}),
        "dtype": net.dtype.name,
        "input_mean": None if net.input_mean is None else net.input_mean.tolist(),
        "input_deviation": None if net.input_deviation is None else net.input_deviation.tolist(),
        **{name: _names(name, getattr(net, name), count) for name, count in _name_counts(net.widths).items()},
    }


def _name_counts(widths: Sequence[int]) -> dict[str, int]:
    """Return how many names of each kind a network has; one output stands for two classes."""
    return {"input_names": widths[0], "class_names": 2 if widths[-1] == 1 else widths[-1]}


def _names(what: str, names: Any, count: int) -> list[str] | None:
    if names is None:
        return None
    listed = [str(name) for name in names]
    if isinstance(names, str) or len(listed) != count:
        raise ValueError(f"{what} is {names!r}: expected {count} names, because the network's widths say so.")
    return listed


def _rebuild(network: dict[str, Any], tensors: dict[str, Array]) -> MLP:
    widths, dtype, layer_norm = network["widths"], network["dtype"], network.get("layer_norm", False)
    expected: dict[str, tuple[tuple[int, ...], str]] = {}
    for layer, (m, n) in enumerate(pairwise(widths)):
        expected |= {_name(layer, "weight"): ((m, n), dtype), _name(layer, "bias"): ((n,), dtype)}
        if layer_norm and layer < len(widths) - 2:
            expected |= {_name(layer, what): ((n,), dtype) for what in ("gain", "shift")}
    found = {name: (tensor.shape, tensor.dtype.name) for name, tensor in tensors.items()}
    if found != expected:  # asked before memory is taken for the widths that the file names
        raise ValueError(f"its tensors are {found}: expected {expected}")
    net = MLP(widths, network["activations"], dtype=dtype, seed=0, layer_norm=layer_norm)
    for what in _of_layers(layer_norm):
        for layer in range(len(_arrays_of(net, what))):
            _arrays_of(net, what)[layer] = tensors[_name(layer, what)]
    if network["input_mean"] is not None or network["input_deviation"] is not None:
        mean, deviation = (np.array(network[name], np.float64) for name in ("input_mean", "input_deviation"))
        if not mean.shape == deviation.shape == (widths[0],) or not np.isfinite([mean, deviation]).all():
            raise ValueError(f"its scaling is not {widths[0]} finite means and deviations")
        if not (deviation > 0).all():
            raise ValueError("a deviation of its inputs is not above 0")
        net._input_mean, net._input_deviation = mean, deviation
    for name, count in _name_counts(widths).items():
        names = _names(name, network[name], count)
        setattr(net, name, None if names is None else tuple(names))
    return net


def _digest(network: dict[str, Any], tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256(json.dumps(network, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _replace(path: str, data: bytes) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is a folder or a device: expected a file, or none.")
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"  # beside it: a move within one file system leaves no gap
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            error.filename = path
        raise
