"""Initial weights: independent samples with mean 0 and a variance that keeps signals alike in size through the layers.

========= ===================== ============================== ==================================================
name      variance              for                            source
========= ===================== ============================== ==================================================
he_…      2 / n_in              relu, which halves the signal  He et al., 2015, equation 10
                                (leaky_relu, elu, gelu, silu)
glorot_…  2 / (n_in + n_out)    tanh, sigmoid (softplus, and   Glorot and Bengio, 2010, equation 12
                                functions of one's own)
lecun_…   1 / n_in              identity, softmax, selu        LeCun et al., 1998, equation 16
========= ===================== ============================== ==================================================

Each comes as ``…_normal`` and as ``…_uniform`` (on ± √(3 · variance)). Biases start at zero.
"""

from collections.abc import Callable

import numpy as np

from nbfc._arrays import Array

VARIANCES: dict[str, Callable[[int, int], float]] = {
    "he": lambda n_in, n_out: 2 / n_in,
    "glorot": lambda n_in, n_out: 2 / (n_in + n_out),
    "lecun": lambda n_in, n_out: 1 / n_in,
}

OTHERWISE = "glorot_uniform"
INITIALIZERS = {f"{name}_{shape}": (name, shape) for name in VARIANCES for shape in ("normal", "uniform")}

FITTING = {
    "relu": "he_normal",
    "tanh": "glorot_uniform",
    "sigmoid": "glorot_uniform",
    "identity": "lecun_normal",
    "softmax": "lecun_normal",
    "leaky_relu": "he_normal",
    "elu": "he_normal",
    "selu": "lecun_normal",
    "gelu": "he_normal",
    "silu": "he_normal",
    "softplus": "glorot_uniform",
}


def initial_weights(initializer: str, n_in: int, n_out: int, rng: np.random.Generator) -> Array:
    """Return float64 weights (n_in, n_out) drawn as the initializer of that name says."""
    name, shape = INITIALIZERS[initializer]
    deviation = VARIANCES[name](n_in, n_out) ** 0.5
    if shape == "normal":
        return rng.normal(0, deviation, (n_in, n_out))
    bound = 3**0.5 * deviation
    return rng.uniform(-bound, bound, (n_in, n_out))
