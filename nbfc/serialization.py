"""Networks in files: safetensors, whose tensors other programs can read, with the network's description in its header.

Tensors are ``layers.0.weight`` (n_in, n_out), ``layers.0.bias`` (n_out,) and so on. The metadata has one entry,
"nbfc", a JSON text with the description and a digest of it and of the tensors, so that damage anywhere is found (one
entry, because safetensors writes several in a random order, and equal networks make equal files here). Nothing in a
file is executed.
"""

import hashlib
import json
import os
import uuid
from itertools import pairwise
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from nbfc._arrays import Array
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
        If the file cannot be written.
    TypeError
        If `net` is no MLP.
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net is {net!r}: expected an nbfc.MLP.")
    tensors = {}
    for layer, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        tensors[_weight(layer)], tensors[_bias(layer)] = W, b
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
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        if ENTRY not in metadata:
            raise ValueError(f"its metadata has no entry {ENTRY!r}, which nbfc.save writes")
        description = json.loads(metadata[ENTRY])
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']!r}: this version of nbfc reads {FORMAT}")
        if description["sha256"] != _digest(description["network"], tensors):
            raise ValueError("its contents do not match its digest")
        return _rebuild(description["network"], tensors)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ModelFormatError(f"{os.fspath(path)} is not a model of nbfc, or is damaged: {reason}") from error


def _weight(layer: int) -> str:
    return f"layers.{layer}.weight"


def _bias(layer: int) -> str:
    return f"layers.{layer}.bias"


def _describe(net: MLP) -> dict[str, Any]:
    """Return what makes up a network beside its parameters, as JSON can hold it; floats come back to the bit."""
    scaling = [None if part is None else part.tolist() for part in (net.input_mean, net.input_deviation)]
    return {
        "widths": net.widths,
        "activations": net.activations,
        "dtype": net.dtype.name,
        "input_mean": scaling[0],
        "input_deviation": scaling[1],
        "input_names": net.input_names,
        "class_names": net.class_names,
    }


def _rebuild(description: dict[str, Any], tensors: dict[str, Array]) -> MLP:
    widths = description["widths"]
    expected: dict[str, tuple[int, ...]] = {}
    for layer, (m, n) in enumerate(pairwise(widths)):
        expected |= {_weight(layer): (m, n), _bias(layer): (n,)}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:  # asked before memory is taken for the widths that the file names
        raise ValueError(f"its tensors have the shapes {found}: expected {expected}")
    net = MLP(widths, description["activations"], dtype=description["dtype"], seed=0)
    for layer, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        W[:], b[:] = tensors[_weight(layer)], tensors[_bias(layer)]
    for name in ("input_mean", "input_deviation"):
        if description[name] is not None:
            setattr(net, name, np.array(description[name], np.float64).reshape(widths[0]))
    for name in ("input_names", "class_names"):
        if description[name] is not None:
            setattr(net, name, tuple(description[name]))
    return net


def _digest(network: dict[str, Any], tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256(json.dumps(network, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"\n{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _replace(path: str, data: bytes) -> None:
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
