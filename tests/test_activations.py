"""Activations that fewer networks have, and users' own: values and derivatives, and networks that have them."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import TypingError

import nbfc
from nbfc.kernels.elementwise import FURTHER


def sigmoid(z):
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


# In plain Python, in float64
ORACLES = {
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * math.expm1(z)),
    "gelu": lambda z: z * math.erfc(-z / math.sqrt(2)) / 2,
    "silu": lambda z: z * sigmoid(z),
    "softplus": lambda z: max(z, 0) + math.log1p(math.exp(-abs(z))),
}


@njit
def squared(z):
    return (z * z, 2 * z) if z > 0 else (0 * z, 0 * z)


ORACLES_AND_OWN = {**ORACLES, squared: lambda z: max(z, 0) ** 2}


def single(activation, dtype):
    """Return a network of one output, the activation of its one input."""
    net = nbfc.MLP([1, 1], output_activation=activation, dtype=dtype)
    net.parameters[:] = [1, 0]
    return net


def test_every_name_has_an_oracle():
    assert list(ORACLES) == list(FURTHER)


@pytest.mark.parametrize("activation", ORACLES_AND_OWN, ids=str)
def test_values_are_the_oracles(activation, dtype):
    z = np.r_[np.linspace(-30, 30, 4001), -(10.0 ** np.arange(-12, 3)), 10.0 ** np.arange(-12, 3), 0].astype(dtype)
    expected = np.array([ORACLES_AND_OWN[activation](float(at)) for at in z])
    net = single(activation, dtype)
    # gelu's normal distribution is right to 1.5e-7 in float32.
    close = {"rtol": 8 * np.finfo(dtype).eps, "atol": 2e-6 if activation == "gelu" and dtype == "f" else 1e-14}
    np.testing.assert_allclose(net.predict(z[:, None])[:, 0], expected, **close)
    one_by_one = [net.predict([[at]])[0, 0] for at in z[::100]]
    assert np.array_equal(one_by_one, net.predict(z[::100, None])[:, 0])
    assert np.isnan(net.predict([[np.nan]])).all()


@pytest.mark.parametrize("activation", ORACLES_AND_OWN, ids=str)
def test_derivatives_are_differences_of_the_oracle(activation, dtype):
    z, h = np.linspace(-9.9, 10.1, 400), 1e-6
    oracle = ORACLES_AND_OWN[activation]
    expected = [(oracle(at + h) - oracle(at - h)) / (2 * h) for at in z]
    got = single(activation, dtype).input_gradient(z[:, None])[:, 0]
    np.testing.assert_allclose(got, expected, atol=1e-6 if dtype == "f" else 1e-8)


@given(st.sampled_from([*ORACLES, squared]), st.sampled_from([*ORACLES, "tanh"]), st.sampled_from([1, 7, 40, 400]))
def test_gradients_are_central_differences(hidden, other, N):
    rng = np.random.default_rng(N)
    net = nbfc.MLP([4, 17, 9, 3], [hidden, other], output_activation="softplus", dtype="float64", seed=N)
    net.biases[0][:] = rng.standard_normal(17)
    X, y, h = rng.standard_normal((N, 4)), rng.standard_normal((N, 3)), 1e-6
    theta, v = net.parameters.copy(), rng.standard_normal(net.parameters.size)
    _, gradient = net.loss_and_gradient(X, y, "mse")
    values = []
    for shift in (h, -h):
        net.parameters = theta + shift * v
        values.append(net.loss_and_gradient(X, y, "mse")[0])
    assert gradient @ v == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-8)
    net.parameters = theta
    x = rng.standard_normal((3, 4))
    J = net.jacobian(x)
    for k in range(4):
        e = np.eye(4)[k] * h
        np.testing.assert_allclose(J[:, :, k], (net.predict(x + e) - net.predict(x - e)) / (2 * h), atol=1e-7)
    policy = net.freeze()
    _, along = nbfc.jit.jvp(policy, x, np.ones((3, 4)))
    np.testing.assert_allclose(along, J.sum(axis=2), atol=1e-12)
    _, back = nbfc.jit.vjp(policy, x, np.ones((3, 3)))
    np.testing.assert_allclose(back, J.sum(axis=1), atol=1e-12)


def test_a_network_of_them_is_like_others(dtype, rng, tmp_path, threads):
    X, y = rng.standard_normal((300, 5)), rng.integers(0, 3, 300)
    bits = set()
    for count in (1, 2):
        threads(count)
        net = nbfc.MLP([5, 600, 70, 3], ["gelu", "selu"], dtype=dtype, seed=0)
        options = {"loss": "cross_entropy", "optimizer": "adam", "epochs": 2, "batch_size": 25, "seed": 0}
        nbfc.fit(net, X, y, **options, regularization=nbfc.Regularization(dropout=0.2))
        bits.add(net.parameters.tobytes())
    assert len(bits) == 1
    nbfc.save(net, tmp_path / "net.safetensors")
    assert np.array_equal(nbfc.load(tmp_path / "net.safetensors").predict(X), net.predict(X))
    assert np.array_equal(pickle.loads(pickle.dumps(net)).predict(X), net.predict(X))
    assert np.array_equal(nbfc.jit.predict(pickle.loads(pickle.dumps(net.freeze())), X), net.predict(X))
    np.testing.assert_allclose(
        net.per_sample_gradients(X, y, "cross_entropy").mean(axis=0),
        net.loss_and_gradient(X, y, "cross_entropy")[1],
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="hessian_vector came for an activation whose second derivative is not known"):
        nbfc.jit.hessian_vector(net.freeze(), X[0], np.ones(3), X[0])


OTHER = """
import pickle, sys
import numpy as np, nbfc
from numba import njit
from numba.core.errors import TypingError
@njit
def first(z):
    return z, 1.0
nbfc.MLP([1, 1], output_activation=first)  # takes the number that another function has elsewhere
policy, net, X, y = pickle.loads(sys.stdin.buffer.read())
assert np.array_equal(nbfc.jit.predict(policy, X), y)
assert np.array_equal(net.predict(X), y)
"""


def test_functions_of_ones_own_go_to_other_processes(rng):
    import subprocess
    import sys

    net, X = nbfc.MLP([3, 8, 2], squared, seed=0), rng.standard_normal((6, 3))
    data = pickle.dumps((net.freeze(), net, X, net.predict(X)))
    subprocess.run([sys.executable, "-c", OTHER], input=data, check=True, timeout=300)


CACHED = """
import numpy as np, nbfc
from nbfc.kernels.further_activations import VALUES
nbfc.MLP([3, 4, 1], "gelu").predict(np.ones((1, 3)))
stats = VALUES._kernels[7].dispatcher.stats
print("loaded" if stats.cache_hits else "compiled")
"""


def test_they_are_kept_on_disk(python, tmp_path):
    assert python(CACHED, NUMBA_CACHE_DIR=str(tmp_path / "cache")).split() == ["compiled"]
    assert python(CACHED, NUMBA_CACHE_DIR=str(tmp_path / "cache")).split() == ["loaded"]


def test_policies_with_functions_of_ones_own_are_no_globals():
    policy = nbfc.MLP([3, 4, 1], squared, seed=0).freeze()

    @njit
    def user(x):
        return nbfc.jit.predict(policy, x)

    with pytest.raises(TypingError, match="an activation of your own came to compiled code as a global"):
        user(np.zeros(3))


@njit
def single_precision(z):
    return np.float32(z), np.float32(1)


def test_a_function_may_compute_in_float32(dtype):
    assert single(single_precision, dtype).predict([[0.5]]) == 0.5


def test_files_hold_no_functions(tmp_path):
    with pytest.raises(ValueError, match="the network has the activation squared of your own"):
        nbfc.save(nbfc.MLP([2, 3, 1], squared), tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


@njit
def wrong(z):
    return z * z, z


@njit
def value_alone(z):
    return z * z


@pytest.mark.parametrize(
    ("activation", "error", "message"),
    [
        (wrong, ValueError, "wrong returned the derivative -3.97 at z = -3.97, where its values change by -7.94"),
        (value_alone, ValueError, r"value_alone\(z\) returned .*: expected the value and the derivative"),
        (np.tanh, TypeError, "activation is .*: expected a name, or a function of z compiled by numba.njit"),
        ("swish", ValueError, "activation is 'swish': expected one of 'identity', 'relu'"),
        (["tanh", 3], TypeError, r"activation\[1\] is 3: expected a name"),
    ],
)
def test_activations_that_are_none(activation, error, message):
    with pytest.raises(error, match=message):
        nbfc.MLP([2, 3, 3, 1], activation)
