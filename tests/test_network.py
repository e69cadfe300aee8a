"""The MLP: its gradient, its parameters as views, its inputs' scaling, and what it refuses."""

import copy
import pickle

import naive
import numpy as np
import pytest
import samples
from hypothesis import example, given
from hypothesis import strategies as st

import nbfc
from nbfc.kernels import prediction, step
from nbfc.kernels._threads import MOST_THREADS
from nbfc.kernels.dense import FEW_ROWS, MORE_ROWS
from nbfc.kernels.workspace import ROWS

ACTIVATIONS = tuple(naive.ACTIVATIONS)
WIDTHS = st.lists(st.integers(1, 12), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**32)


def network(widths, activation="tanh", output="identity", dtype="float64", seed=0):
    """Return a network with biases that are not zero, as training leaves them."""
    net = nbfc.MLP(widths, activation, output, dtype, seed)
    for b in net.biases:
        b[:] = np.random.default_rng(seed).standard_normal(b.shape) / 4
    return net


# ---- values and gradients -------------------------------------------------------------------------------------------


@given(WIDTHS, st.integers(1, 9), st.sampled_from(ACTIVATIONS), st.sampled_from(ACTIVATIONS), SEEDS)
def test_predict_is_the_oracles_forward_pass(widths, N, activation, output, seed):
    net = network(widths, activation, output, seed=seed)
    X = np.random.default_rng(seed).standard_normal((N, widths[0]))
    expected = naive.predict(net.parameters, widths, net.activations, X)
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", samples.LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(WIDTHS, st.integers(1, 9), st.sampled_from(ACTIVATIONS), SEEDS)
@example([3, 4, 2], 5, "identity", 0)
def test_gradient_is_the_directional_difference_of_the_oracles_mean_loss(case, activation, widths, N, output, seed):
    net = network(widths, activation, output, seed=seed)
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, widths[0]))
    loss, T = samples.targets(case, N, widths[-1], rng)

    def mean_loss(parameters):
        return naive.mean_loss(parameters, widths, net.activations, X, T, loss)

    value, gradient = net.loss_and_gradient(X, T, loss)
    assert value == pytest.approx(mean_loss(net.parameters), rel=1e-11)
    assert gradient.shape == net.parameters.shape
    h = 1e-5
    kinks = 0
    for _ in range(5):
        direction = rng.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)
        ahead, behind = (mean_loss(net.parameters + shift * direction) for shift in (h, -h))
        here = mean_loss(net.parameters)
        one_sided = np.array([(ahead - here) / h, (here - behind) / h])
        if np.ptp(one_sided) > 1e-3 * (1 + np.abs(one_sided).max()):
            kinks += 1  # a kink of relu lies between: the difference says nothing of the slope
            continue
        assert gradient @ direction == pytest.approx((ahead - behind) / (2 * h), rel=1e-6, abs=1e-8)
    assert kinks < 5 if "relu" in net.activations else kinks == 0


@pytest.mark.parametrize("case", samples.LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_float32_gradient_differs_from_float64_by_rounding_only(case, activation, rng):
    widths = [13, 37, 21, 5]
    wide = network(widths, activation)
    narrow = network(widths, activation, dtype="float32")
    wide.parameters[:] = narrow.parameters
    X = rng.standard_normal((70, 13)).astype(np.float32)
    loss, T = samples.targets(case, 70, 5, rng)
    T = np.asarray(T, np.float32) if np.ndim(T) == 2 else T
    (value, gradient), (value64, gradient64) = narrow.loss_and_gradient(X, T, loss), wide.loss_and_gradient(X, T, loss)
    terms = 70 + sum(widths)  # summed one into another on the way to an entry of the gradient
    eps = float(np.finfo(np.float32).eps)
    assert gradient.dtype == np.float32
    assert value == pytest.approx(value64, rel=terms * eps)
    assert np.linalg.norm(gradient - gradient64) <= terms * eps * np.linalg.norm(gradient64)


def test_a_row_of_predict_does_not_depend_on_the_rows_beside_it(threads, dtype, rng):
    net = network([7, 33, 5, 3], "sigmoid", dtype=dtype)
    X = rng.standard_normal((100, 7)).astype(dtype)
    threads(2)
    together = net.predict(X)
    threads(0)
    alone = np.concatenate([net.predict(X[i : i + 1]) for i in range(len(X))])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("N", [1, 3, FEW_ROWS - 1, MORE_ROWS - 1])
@pytest.mark.parametrize("widths", [[530, 70, 600, 9], [530, 1000, 600, 9], [8, 16, 700, 700]])
def test_few_rows_have_the_bits_they_have_among_many(N, widths, threads, dtype, rng):
    """Of few rows threads share the columns, where a layer is large: here the last one, or all others."""
    net = network(widths, ["tanh", "sigmoid"], dtype=dtype)
    X = rng.standard_normal((2 * MORE_ROWS, widths[0])).astype(dtype)
    threads(0)
    expected = net.predict(X)[:N]
    for count in (0, 1, 2):
        threads(count)
        assert np.array_equal(net.predict(X[:N]), expected)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_many_rows_have_the_bits_of_few(activation, threads, dtype, rng):
    """Large weights are copied by panels, where each thread has several blocks of rows."""
    net = network([1030, 515, 600, 9], activation, dtype=dtype)
    X = rng.standard_normal((2 * ROWS * MOST_THREADS + 5, 1030)).astype(dtype)
    threads(0)
    expected = np.concatenate([net.predict(X[r : r + ROWS - 1]) for r in range(0, len(X), ROWS - 1)])
    for count in (0, 1, 2):
        threads(count)
        assert np.array_equal(net.predict(X), expected)


@pytest.mark.parametrize(("k", "j"), [(0, 0), (17, 514), (1029, 500)])
def test_many_rows_see_each_weight_that_changed_since_they_last_came(k, j, threads, dtype, rng):
    """Panels of large weights are kept from call to call, and renewed where they differ."""
    net = network([1030, 515, 9], "identity", dtype=dtype)
    X = rng.standard_normal((2 * ROWS * MOST_THREADS + 5, 1030)).astype(dtype)
    threads(1)
    before = net.predict(X)
    for number in (-3.5, np.nan, -0.0, 0.0):
        net.weights[0][k, j] = number
        Y = net.predict(X)
        assert np.array_equal(Y[:9], net.predict(X[:9]), equal_nan=True)
        assert not np.array_equal(Y, before)


def test_many_rows_have_the_bits_of_few_where_many_inputs_have_few_outputs(threads, dtype, rng):
    """Then sums go along vectors, also where weights are as large as those that are copied by panels."""
    n_in = 2**19 // np.dtype(dtype).itemsize // 8
    net = network([n_in, 8], dtype=dtype)
    X = rng.standard_normal((2 * ROWS * MOST_THREADS + 5, n_in)).astype(dtype)
    threads(0)
    expected = net.predict(X[:40])
    for count in (0, 1, 2):
        threads(count)
        assert np.array_equal(net.predict(X)[:40], expected)


def test_predict_on_no_rows_and_into_out(dtype):
    net = network([4, 6, 3], dtype=dtype)
    assert net.predict(np.zeros((0, 4))).shape == (0, 3)
    X, out = np.ones((5, 4), dtype), np.full((5, 3), np.nan, dtype)
    assert net.predict(X, out=out) is out
    assert np.array_equal(out, net.predict(X))
    with pytest.raises(ValueError, match=r"out has shape \(4, 3\) .*: expected .* shape \(5, 3\)"):
        net.predict(X, out=np.zeros((4, 3), dtype))
    square = network([3, 3], dtype=dtype)
    with pytest.raises(ValueError, match="out shares memory with parameters"):
        square.predict(np.ones((3, 3)), out=square.weights[0])


def test_every_layout_gives_the_bits_of_its_contiguous_copy_and_compiles_nothing(tmp_path, rng, dtype):
    X = rng.integers(0, 9, (6, 5)).astype(np.float64)
    net = network([5, 8, 3], dtype=dtype)
    t = rng.integers(0, 4, (6, 3)).astype(np.float64)
    Y, (value, gradient) = net.predict(X), net.loss_and_gradient(X, t, "mse")
    before = [list(kernel.serial.signatures) for kernel in (prediction.predict, step.train_step)]
    for name, other in samples.layouts(X, tmp_path):
        assert np.array_equal(net.predict(other), Y), name
        assert np.array_equal(net.loss_and_gradient(other, t, "mse")[1], gradient), name
    for name, other in samples.layouts(t, tmp_path):
        assert net.loss_and_gradient(X, other, "mse")[0] == value, name
    assert [list(kernel.serial.signatures) for kernel in (prediction.predict, step.train_step)] == before


# ---- parameters -----------------------------------------------------------------------------------------------------


def test_weights_and_biases_are_views_into_one_aligned_vector(dtype):
    net = nbfc.MLP([5, 3, 2], dtype=dtype)
    assert net.parameters.shape == (5 * 3 + 3 + 3 * 2 + 2,)
    assert net.parameters.ctypes.data % 64 == 0
    assert [W.shape for W in net.weights] == [(5, 3), (3, 2)]
    net.parameters[:] = np.arange(26)
    np.testing.assert_array_equal(net.weights[1], [[18, 19], [20, 21], [22, 23]])
    np.testing.assert_array_equal(net.biases[1], [24, 25])
    net.biases[0][:] = -1
    np.testing.assert_array_equal(net.parameters[15:18], -1)
    # What NumPy's users write: it changes the values in their place, once.
    net.parameters -= 1
    net.weights[1] += 10
    net.biases[1] = [7, 8]
    np.testing.assert_array_equal(net.parameters[15:], [-2, -2, -2, 27, 28, 29, 30, 31, 32, 7, 8])
    net.parameters = np.ones(26)
    np.testing.assert_array_equal(net.weights[0], 1)
    for name in ("widths", "dtype", "activations", "input_mean", "weights"):
        with pytest.raises(AttributeError):
            setattr(net, name, None)


def test_parameters_of_another_shape_or_kind_are_refused_and_change_nothing():
    net = network([5, 3, 2])
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=r"parameters has shape \(25,\): expected \(26,\)"):
        net.parameters = np.ones(25)
    with pytest.raises(
        ValueError, match=r"W has shape \(3, 5\): expected \(5, 3\), because it has a row for each input"
    ):
        net.weights[0] = np.ones((3, 5))  # as PyTorch has them
    with pytest.raises(TypeError, match="expected real numbers"):
        net.biases[1] = [1.0, "a"]
    with pytest.raises(TypeError, match="complex"):
        net.parameters = np.ones(26, complex)
    assert np.array_equal(net.parameters, before)
    net.weights[0], net.biases[1] = 0, np.float32(4)
    assert not net.weights[0].any()
    assert (net.biases[1] == 4).all()
    net.biases[0] = np.ones((1, 3))  # as some libraries have them, and as NumPy assigns
    assert (net.biases[0] == 1).all()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_is_whole_and_independent(duplicate):
    net = network([5, 3, 2])
    net.standardize_inputs(np.random.default_rng(0).random((9, 5)))
    X = np.ones((1, 5))
    before = net.predict(X)
    other = duplicate(net)
    assert np.array_equal(other.predict(X), before)
    assert np.shares_memory(other.weights[1], other.parameters)
    assert other.parameters.ctypes.data % 64 == 0
    other.weights[0][:] = 0
    assert np.array_equal(net.predict(X), before)
    assert not np.array_equal(other.predict(X), before)


@pytest.mark.parametrize(
    ("activation", "initializer", "variance"),
    [
        ("relu", None, 2 / 300),
        ("tanh", None, 2 / 700),
        ("sigmoid", None, 2 / 700),
        ("identity", None, 1 / 300),
        ("relu", "he_uniform", 2 / 300),
        ("relu", "glorot_normal", 2 / 700),
        ("relu", "lecun_uniform", 1 / 300),
    ],
)
def test_initial_weights_have_the_variance_that_fits_the_activation(activation, initializer, variance):
    net = nbfc.MLP([300, 400, 2], activation, seed=1, initializer=initializer)
    W = net.weights[0].astype(float)
    # The variance of 120,000 samples is known to √(2/120,000) or 0.4% for a normal distribution: four times that.
    assert W.var() == pytest.approx(variance, rel=0.016)
    assert abs(W.mean()) < 4 * (variance / W.size) ** 0.5
    assert not any(b.any() for b in net.biases)
    if initializer and initializer.endswith("uniform"):
        assert np.abs(W).max() <= (3 * variance) ** 0.5 * (1 + 1e-6)


def test_a_seed_gives_the_same_network_and_none_another():
    first, second = nbfc.MLP([5, 4, 3], seed=7), nbfc.MLP([5, 4, 3], seed=7)
    assert np.array_equal(first.parameters, second.parameters)
    assert not np.array_equal(nbfc.MLP([5, 4, 3]).parameters, nbfc.MLP([5, 4, 3]).parameters)


def test_print_shows_layers_shapes_and_counts():
    text = str(nbfc.MLP([784, 256, 10], ["relu"]))
    assert "784 × 256" in text
    assert "200,960" in text
    assert "203,530" in text
    assert repr(nbfc.MLP([3, 2, 1], "tanh")) == (
        "MLP([3, 2, 1], activation=['tanh'], output_activation='identity', dtype='float32')"
    )


# ---- scaling of inputs ----------------------------------------------------------------------------------------------


def test_standardized_inputs_are_scaled_everywhere(rng):
    X = rng.normal(1000, [1, 5, 0], (50, 3))
    X[:, 2] = 0.1  # constant: only centred, though its computed deviation is not quite 0
    net, plain = network([3, 4, 2]), network([3, 4, 2])
    net.standardize_inputs(X)
    Z = (X - X.mean(axis=0)) / [X[:, 0].std(), X[:, 1].std(), 1]
    np.testing.assert_allclose(net.predict(X), plain.predict(Z), atol=1e-10)
    T = rng.standard_normal((50, 2))
    np.testing.assert_allclose(
        net.loss_and_gradient(X, T, "mse")[1], plain.loss_and_gradient(Z, T, "mse")[1], atol=1e-9
    )
    optimizer = nbfc.SGD(0.1)
    assert nbfc.Trainer(net, "mse", optimizer).step(X, T) == pytest.approx(
        nbfc.Trainer(plain, "mse", optimizer).step(Z, T)
    )


@pytest.mark.parametrize("start", [1.7e9, 1e15])
def test_scaling_keeps_the_digits_that_float32_has_not(start):
    seconds = start + np.arange(8.0)[:, None]  # float32 steps by 128 and more there
    net = nbfc.MLP([1, 1], dtype="float32")
    net.weights[0][:] = 1
    net.standardize_inputs(seconds)
    np.testing.assert_allclose(net.predict(seconds), (seconds - seconds.mean()) / seconds.std(), rtol=1e-6)


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nbfc.MLP([3]), ValueError, r"widths is \[3\]: expected at least two"),
        (lambda: nbfc.MLP([3, 0, 2]), ValueError, r"widths\[1\] is 0: expected at least 1"),
        (lambda: nbfc.MLP([3, -4]), ValueError, r"widths\[1\] is -4: expected at least 1"),
        (lambda: nbfc.MLP([3, 2.5]), TypeError, r"widths\[1\] is 2.5: expected a whole number"),
        (lambda: nbfc.MLP(3), TypeError, "widths is 3: expected a list"),
        (lambda: nbfc.MLP([3, 2], "swish"), ValueError, "activation is 'swish': expected one of 'identity', 'relu'"),
        (lambda: nbfc.MLP([3, 2], output_activation="softmin"), ValueError, "output_activation is 'softmin'"),
        (lambda: nbfc.MLP([3, 4, 2], ["relu", "tanh", "tanh"]), ValueError, "activation has 3 names: expected 1, .* 2"),
        (lambda: nbfc.MLP([3, 4, 2], ["relu", "tanh"], "sigmoid"), ValueError, "output_activation is 'sigmoid', but"),
        (lambda: nbfc.MLP([3, 4, 2], [None]), TypeError, r"activation\[0\] is None"),
        (lambda: nbfc.MLP([3, 2], None), TypeError, "activation is None"),
        (lambda: nbfc.MLP([3, 2], dtype="float16"), ValueError, "dtype is 'float16': expected 'float32' or 'float64'"),
        (lambda: nbfc.MLP([3, 2], dtype="nonsense"), ValueError, "dtype is 'nonsense'"),
        (lambda: nbfc.MLP([3, 2], dtype=None), ValueError, "dtype is None"),
        (lambda: nbfc.MLP([3, 2], seed=-1), ValueError, "seed is -1: expected at least 0"),
        (lambda: nbfc.MLP([10**10, 10**10]), ValueError, "expected at most 1e[+]12 weights"),
        (lambda: nbfc.MLP([1, 2]).predict(np.ma.masked_array([[1.0]], [[True]])), TypeError, "X has masked entries"),
        (lambda: nbfc.MLP([1, 2]).predict([[1.0], [1.0, 2.0]]), TypeError, "X is no array of real numbers: "),
        (lambda: nbfc.MLP([1, 2]).predict(np.array([["a"]], object)), TypeError, "X is no array of real numbers: "),
        (lambda: nbfc.MLP([1, 2]).predict(np.array([["1"]], object)), TypeError, "one of its entries is '1'"),
        (lambda: nbfc.MLP([1, 2]).predict(np.array([[None]], object)), TypeError, "one of its entries is None"),
        (lambda: nbfc.MLP([1, 2]).predict([[10**400]]), TypeError, "X is no array of real numbers: int too large"),
        (
            lambda: nbfc.MLP([1, 2]).standardize_inputs([[1e300], [-1e300]]),
            ValueError,
            r"X\[:, 0\] has numbers too large",
        ),
        (lambda: nbfc.MLP([3, 2], initializer="he"), ValueError, "initializer is 'he': expected one of 'he_normal'"),
        (
            lambda: nbfc.MLP([8, 2]).predict(np.ones((32, 9))),
            ValueError,
            r"X has shape \(32, 9\): expected \(batch, 8\)",
        ),
        (lambda: nbfc.MLP([8, 2]).predict(np.ones(8)), ValueError, r"X has shape \(8,\): expected \(batch, 8\)"),
        (lambda: nbfc.MLP([1, 2]).predict([["a"]]), TypeError, "X has dtype <U1"),
        (
            lambda: nbfc.MLP([1, 2]).loss_and_gradient([[1]], [0, 1], "cross_entropy"),
            ValueError,
            "X has 1 rows and y has 2",
        ),
        (lambda: nbfc.MLP([1, 2]).loss_and_gradient(np.ones((0, 1)), np.ones((0, 2)), "mse"), ValueError, "no rows"),
        (lambda: nbfc.MLP([1, 2]).standardize_inputs(np.ones((0, 1))), ValueError, "X has no rows"),
        (lambda: nbfc.MLP([1, 2]).standardize_inputs([[1], [np.nan]]), ValueError, r"X\[1, 0\] is nan"),
    ],
)
def test_errors_say_what_came_and_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_activations_may_be_named_for_hidden_layers_or_for_all():
    assert nbfc.MLP([3, 4, 5, 2], ["relu", "tanh"], "sigmoid").activations == ("relu", "tanh", "sigmoid")
    assert nbfc.MLP([3, 4, 5, 2], ["relu", "tanh", "sigmoid"]).activations == ("relu", "tanh", "sigmoid")
    assert nbfc.MLP([3, 4, 5, 2], "tanh").activations == ("tanh", "tanh", "identity")


def test_objects_that_are_numbers_are_taken_as_a_mixed_data_frame_has_them():
    net = nbfc.MLP([3, 2], seed=0)
    mixed = np.array([[1, True, 2.5], [0.5, False, 3]], object)
    assert np.array_equal(net.predict(mixed), net.predict(mixed.astype(float)))


def test_a_step_on_the_networks_own_weights_is_a_step_on_a_copy(rng):
    nets = [nbfc.MLP([200, 200], seed=1) for _ in range(2)]
    y = rng.standard_normal((200, 200))
    nbfc.Trainer(nets[0], "mse", nbfc.SGD(0.1)).step(nets[0].weights[0], y)
    nbfc.Trainer(nets[1], "mse", nbfc.SGD(0.1)).step(nets[1].weights[0].copy(), y)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
