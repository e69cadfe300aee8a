"""Activations, and their derivatives written in terms of their values.

An activation is an integer code, so that one compiled step serves every network. The activations of most networks are
here, the others in ``further_activations``; all but relu are called by way of tables, and compiled when first wanted.
"""

from numba import types

from nbfc.kernels._addresses import Table
from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.exponential import exp, tanh

IDENTITY, RELU, TANH, SIGMOID = range(4)
ACTIVATIONS = {"identity": IDENTITY, "relu": RELU, "tanh": TANH, "sigmoid": SIGMOID}
FURTHER = {name: code for code, name in enumerate(("leaky_relu", "elu", "selu", "gelu", "silu", "softplus"), 4)}
SOFTMAX = 10  # of outputs alone, and a layer of its own (see ``layers``)
CODES = {**ACTIVATIONS, **FURTHER, "softmax": SOFTMAX}
OWN = 16  # from here on: users' own


def value_arguments(real):
    """Return the types of what the table's activations take."""
    return (real[::1],)


VALUES = Table("activations", value_arguments)
call_of_table = VALUES.call


@kernel
def activate(activation, y):
    """Replace each entry of y, a vector, by its activation; that of relu is max(y, 0)."""
    zero = y.dtype.type(0)
    if activation == RELU:
        for t in range(y.shape[0]):
            y[t] = zero if y[t] < zero else y[t]  # this way round a NaN stays one
    elif activation != IDENTITY:
        call_of_table(activation, y)


@kernel(once=value_arguments)
def replace_by_tanh(y):
    """Y ← tanh y."""
    for t in range(y.shape[0]):
        y[t] = tanh(y[t])


@kernel(once=value_arguments)
def replace_by_sigmoid(y):
    """Y ← 1 / (1 + exp(−y))."""
    one = y.dtype.type(1)
    for t in range(y.shape[0]):
        y[t] = one / (one + exp(-y[t]))  # exp may overflow to inf: the quotient is then 0, as it should be


VALUES.add(TANH, replace_by_tanh.kernel)
VALUES.add(SIGMOID, replace_by_sigmoid.kernel)


@kernel(once=lambda real: (types.intp, real[::1], real[::1]))
def multiply_by_derivative(activation, y, dy):
    """dy ← dy · activation′, from ∂J/∂(activation's value) to ∂J/∂(its argument); the vector y holds the values.

    ======== =====================================
    identity 1
    relu     1 where y > 0, else 0 (also at y = 0)
    tanh     1 − y²
    sigmoid  y (1 − y)
    ======== =====================================
    """
    zero, one = y.dtype.type(0), y.dtype.type(1)
    if activation == RELU:
        for t in range(y.shape[0]):
            dy[t] = dy[t] if y[t] > zero else zero
    elif activation == TANH:
        for t in range(y.shape[0]):
            dy[t] *= one - y[t] * y[t]
    elif activation == SIGMOID:
        for t in range(y.shape[0]):
            dy[t] *= y[t] * (one - y[t])


@kernel
def add_second_derivative(activation, y, along, dy, target):
    """target ← target + dy · d(activation′), as the activation's value y changes by `along`.

    ======== ===============
    tanh     −2 y along
    sigmoid  (1 − 2 y) along
    others   0
    ======== ===============
    """
    one, two = y.dtype.type(1), y.dtype.type(2)
    if activation == TANH:
        for t in range(y.shape[0]):
            target[t] -= dy[t] * two * y[t] * along[t]
    elif activation == SIGMOID:
        for t in range(y.shape[0]):
            target[t] += dy[t] * (one - two * y[t]) * along[t]


@inlined
def is_further(activation):
    """Return whether an activation's derivatives are kept beside its values."""
    return activation > SIGMOID
