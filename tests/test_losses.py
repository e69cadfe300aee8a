"""Losses per sample: values and gradient rows against the oracle, stability, and refused targets."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import naive
import numpy as np
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

import nbfc
from nbfc import losses

SEEDS = st.integers(0, 2**32)
EXPONENTIAL = ("poisson", "gaussian_nll")  # whose values grow faster than the outputs
ALL = samples.LOSSES + samples.FURTHER_LOSSES


@given(st.integers(1, 9), st.integers(1, 40), st.sampled_from(ALL), SEEDS)
def test_losses_are_the_oracles_in_float64(N, n, case, seed):
    rng = np.random.default_rng(seed)
    n += n % 2 if case == "gaussian_nll" else 0
    Y = 3 * rng.standard_normal((N, n))
    loss, T = samples.targets(case, N, n, rng)
    J, _ = losses.per_sample(loss, Y, T)
    np.testing.assert_allclose(J, naive.losses(loss, Y, T), rtol=1e-12, atol=1e-13)


@given(st.integers(1, 9), st.integers(1, 40), st.sampled_from(ALL), SEEDS)
def test_losses_in_float32_differ_by_rounding_only(N, n, case, seed):
    rng = np.random.default_rng(seed)
    n += n % 2 if case == "gaussian_nll" else 0
    Y = (rng.standard_normal((N, n)) * (1 if case in EXPONENTIAL else 3)).astype(np.float32)
    loss, T = samples.targets(case, N, n, rng)
    J, dY = losses.per_sample(loss, Y, T)
    J64, dY64 = losses.per_sample(loss, Y.astype(float), T)
    assert (J.dtype, dY.dtype) == (np.float32, np.float32)
    eps = np.finfo(np.float32).eps
    size = 1 + np.abs(Y).max(axis=1)  # of the largest term, for targets that are numbers near 1 or below it
    if case in EXPONENTIAL:
        size = 4 * np.exp(size)
    assert np.all(np.abs(J - J64) <= 4 * (n + 4) * eps * size**2)
    assert np.all(np.abs(dY - dY64) <= 4 * (n + 4) * eps * size[:, None])


@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from(ALL), SEEDS)
def test_gradient_rows_are_central_differences_of_each_samples_own_loss(N, n, case, seed):
    rng = np.random.default_rng(seed)
    n += n % 2 if case == "gaussian_nll" else 0
    Y = rng.standard_normal((N, n))
    loss, T = samples.targets(case, N, n, rng)
    if case == "cross_entropy of rows":
        T *= 0.995  # as far from 1 as rounded probabilities may sum to
    _, dY = losses.per_sample(loss, Y, T)
    h = 1e-5
    for i, j in np.ndindex(N, n):
        ends = []
        for shift in (h, -h):
            moved = Y.copy()
            moved[i, j] += shift
            ends.append(losses.per_sample(loss, moved, T)[0][i])
        assert dY[i, j] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("loss", "number"),
    [(losses.Huber(0.25), 0.25), (losses.Quantile(0.9), 0.9), (losses.CrossEntropy(0.2), None)],
    ids=str,
)
def test_losses_with_numbers_of_their_own(loss, number, rng):
    """Label smoothing is the cross entropy of targets that are drawn together, for labels and for rows."""
    Y, T, labels = rng.standard_normal((9, 4)), rng.standard_normal((9, 4)), rng.integers(0, 4, 9)
    if number is not None:
        np.testing.assert_allclose(losses.per_sample(loss, Y, T)[0], naive.losses(loss.name, Y, T, number), rtol=1e-12)
        return
    smooth = 0.8 * np.eye(4)[labels] + 0.2 / 4
    J, dY = losses.per_sample("cross_entropy", Y, smooth)
    for targets in (labels, np.eye(4)[labels]):
        for got, want in zip(losses.per_sample(loss, Y, targets), (J, dY), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


@njit
def fourth_power(y, t, dy):
    J = 0.0
    for j in range(len(y)):
        J += (y[j] - t[j]) ** 4
        dy[j] = 4 * (y[j] - t[j]) ** 3
    return J


@njit
def wrong(y, t, dy):
    return fourth_power(y, t, dy) / 2


def test_a_loss_of_ones_own(dtype, rng):
    Y, T, loss = rng.standard_normal((9, 4)).astype(dtype), rng.standard_normal((9, 4)), losses.Custom(fourth_power)
    J, dY = losses.per_sample(loss, Y, T)
    np.testing.assert_allclose(J, ((Y - T) ** 4).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(dY, 4 * (Y - T) ** 3, rtol=1e-4, atol=1e-6)
    assert pickle.loads(pickle.dumps(loss)) == losses.Custom(fourth_power) == loss
    net = nbfc.MLP([4, 8, 4], dtype=dtype, seed=0)
    history = nbfc.fit(net, Y, T, loss=loss, optimizer="adam", epochs=20, batch_size=3, seed=0)
    assert history[-1].loss < history[0].loss


@pytest.mark.parametrize(
    "use",
    [
        lambda net, *data: net.loss_and_gradient(*data),
        lambda net, *data: nbfc.fit(net, *data[:2], loss=data[2], optimizer="sgd", epochs=1, batch_size=3),
    ],
)
def test_a_gradient_that_is_not_that_of_the_values_is_refused(use, rng):
    net = nbfc.MLP([4, 4], seed=0)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=r"custom loss wrong wrote .* to dy\[0\] .* but its values change by"):
        use(net, rng.random((9, 4)), rng.random((9, 4)), losses.Custom(wrong))
    assert np.array_equal(net.parameters, before)


@njit
def raising(y, t, dy):
    if t[0] > 5:
        raise ValueError("mine")
    return fourth_power(y, t, dy)


def test_what_a_loss_raises_is_no_loss_for_any_number_of_threads(threads, rng):
    X, y = rng.random((400, 5)), rng.random((400, 2))
    for count in (1, 2):
        threads(count)
        net = nbfc.MLP([5, 9, 2], seed=0)
        trainer = nbfc.Trainer(net, losses.Custom(raising), "adam")
        trainer.step(X, y)
        before, spoiled = net.parameters.copy(), y + 9 * (np.arange(400) == 300)[:, None]
        with pytest.raises(nbfc.DivergenceError, match="the loss is nan at step 2"):
            trainer.step(X, spoiled)
        assert np.array_equal(net.parameters, before)
        assert trainer.steps == 1


def test_losses_made_by_many_threads_have_codes_of_their_own():
    def make(k):
        @njit
        def loss(y, t, dy):
            dy[:] = k
            return k * y.sum()

        return losses.Custom(loss)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    assert len({loss.code for loss in made}) == 8


@pytest.mark.parametrize("value", [np.sin, "mse", lambda y, t, dy: 0.0])
def test_a_custom_loss_is_a_compiled_function(value):
    with pytest.raises(TypeError, match=r"function is .*: expected one compiled by numba.njit"):
        losses.Custom(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.Huber(0), "delta is 0: expected a finite number, above 0"),
        (lambda: losses.Quantile(1), "quantile is 1: expected a finite number, above 0 and below 1"),
        (lambda: losses.CrossEntropy(label_smoothing=-0.1), "label_smoothing is -0.1: expected"),
        (lambda: nbfc.Trainer(nbfc.MLP([2, 3]), "gaussian_nll", "sgd"), "network has 3 outputs: gaussian_nll expected"),
    ],
)
def test_losses_refuse_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_outputs_say_that_targets_are():
    Y = np.array([[0.0, 2.0], [-800.0, 800.0]])
    np.testing.assert_allclose(losses.CrossEntropy().predictions(Y), [[1 / (1 + np.e**2), 1 / (1 + np.e**-2)], [0, 1]])
    np.testing.assert_allclose(losses.BinaryCrossEntropy().predictions(Y), [[0.5, 1 / (1 + np.e**-2)], [0, 1]])
    np.testing.assert_allclose(losses.Poisson().predictions(Y[:1]), [[1, np.e**2]])
    np.testing.assert_allclose(losses.GaussianNLL().predictions(Y), Y[:, :1])
    np.testing.assert_allclose(losses.Huber().predictions(Y), Y)


def test_mean_squared_error_is_a_mean_over_outputs_and_its_gradient_too():
    """scikit-learn once divided one of them by samples and outputs, and the other by samples alone."""
    J, dY = losses.per_sample("mse", np.array([[1.0, 2.0, 6.0, 1.0]]), np.array([[1.0, 0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(J, [10])
    np.testing.assert_allclose(dY, [[0, 1, 3, 0]])


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_cross_entropies_are_stable_for_huge_logits(dtype, scale):
    Y = np.array([[scale, -scale, 0], [-scale, scale, scale]], dtype)
    J, dY = losses.per_sample("cross_entropy", Y, [0, 0])
    np.testing.assert_allclose(J, [0, 2 * scale + np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dY, [[0, 0, 0], [-1, 0.5, 0.5]], atol=1e-7)
    rows, d_rows = losses.per_sample("cross_entropy", Y, np.eye(3)[[0, 0]])
    np.testing.assert_allclose(rows, J, rtol=1e-6)
    np.testing.assert_allclose(d_rows, dY, atol=1e-7)
    J, dY = losses.per_sample("binary_cross_entropy", Y, [[1, 0, 1], [1, 0, 0.5]])
    np.testing.assert_allclose(J, [np.log(2) / 3, (2 * scale + scale / 2) / 3], rtol=1e-6)
    np.testing.assert_allclose(dY, [[0, 0, -0.5 / 3], [-1 / 3, 1 / 3, 0.5 / 3]], atol=1e-7)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_huge_logit_overflows_nothing_wherever_it_stands(dtype, sign):
    n = 19
    J, dY = losses.per_sample("cross_entropy", sign * 1e4 * np.eye(n, dtype=dtype), np.arange(n))
    np.testing.assert_allclose(J, np.full(n, 0 if sign > 0 else 1e4 + np.log(n - 1)), rtol=1e-6)
    assert np.isfinite(dY).all()


@pytest.mark.parametrize("where", [0, 5, 17])
@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf])
def test_a_logit_that_is_no_number_is_seen_in_its_samples_loss_alone(dtype, where, number, rng):
    Y = rng.standard_normal((3, 18)).astype(dtype)
    Y[1, where] = number
    J, dY = losses.per_sample("cross_entropy", Y, np.array([0, 1, 2]))
    assert np.isnan(J).tolist() == [False, True, False]
    assert np.isnan(dY).all(axis=1).tolist() == np.isnan(dY).any(axis=1).tolist() == [False, True, False]


def test_a_logit_of_minus_infinity_is_an_impossible_class(dtype):
    """As from a mask over the classes."""
    for y in (np.array([1]), np.array([[0, 1, 0]])):
        J, dY = losses.per_sample("cross_entropy", np.array([[-np.inf, -3, -3]], dtype), y)
        np.testing.assert_allclose(J, np.log(2), rtol=1e-6)
        np.testing.assert_allclose(dY, [[0, -0.5, 0.5]], rtol=1e-6)
        assert losses.per_sample(losses.CrossEntropy(0.1), np.array([[-np.inf, -3, -3]], dtype), y)[0] == np.inf


def test_a_small_cross_entropy_is_not_lost_in_large_logits():
    Y = np.array([[1e4, 1e4 - 5]], np.float32)  # log Σ exp(y) would be 1e4, to the nearest 0.001
    np.testing.assert_allclose(losses.per_sample("cross_entropy", Y, [0])[0], np.log1p(np.exp(-5)), rtol=1e-4)


def test_one_output_takes_targets_as_a_vector():
    Y, t = np.array([[1.0], [3.0]]), np.array([0.0, 1.0])
    for loss in ("mse", "binary_cross_entropy"):
        for vector, column in zip(losses.per_sample(loss, Y, t), losses.per_sample(loss, Y, t[:, None]), strict=True):
            assert np.array_equal(vector, column)
    np.testing.assert_allclose(losses.per_sample("mse", Y, t)[0], [1, 4])


@pytest.mark.parametrize("kind", ["uint8", "int16", ">i4", "int64", "bool"])
def test_labels_of_any_integer_type_are_the_same_labels(kind):
    Y = np.array([[0.5, 1.0], [2.0, -1.0]])
    expected = losses.per_sample("cross_entropy", Y, [1, 0])
    for got, want in zip(losses.per_sample("cross_entropy", Y, np.array([1, 0], kind)), expected, strict=True):
        assert np.array_equal(got, want)


@pytest.mark.parametrize(
    ("loss", "y", "error", "message"),
    [
        ("hinge", [0, 1], ValueError, "loss is 'hinge': expected one of 'mse', 'cross_entropy'"),
        ("cross_entropy", [0, 3], ValueError, r"y\[1\] is 3: expected labels from 0 to 2"),
        ("cross_entropy", [-1, 0], ValueError, r"y\[0\] is -1: expected labels from 0 to 2"),
        ("cross_entropy", [0.0, 1.0], TypeError, r"y has dtype float64: .* y.astype\(int\)"),
        ("cross_entropy", [[0, 1, 1], [0, 1, 0]], ValueError, r"y\[0\] is \[0 1 1\]: its sum is 2"),
        ("cross_entropy", [[0, 0.98, 0], [0, 1, 0]], ValueError, r"y\[0\] is .*: its sum is 0.98"),
        ("cross_entropy", [[0, 1, 0], [2, -1, 0]], ValueError, r"y\[1\] is \[ 2 -1  0\]"),
        ("cross_entropy", [[0, 1], [1, 0]], ValueError, r"y has shape \(2, 2\): expected \(N, 3\), because .* labels"),
        ("binary_cross_entropy", [[0, 1, 0], [0, 1, 2]], ValueError, r"y\[1\] is \[0 1 2\]: .* from 0 to 1"),
        ("binary_cross_entropy", [[0, 1, np.nan]] * 2, ValueError, r"y\[0\] is \[ 0.  1. nan\]"),
        ("mse", [1.0, 2.0], ValueError, r"y has shape \(2,\): expected \(N, 3\), because mse takes a target for each"),
        ("poisson", [[0, 1, 2], [0, -1, 2]], ValueError, r"y\[1\] is \[ 0 -1  2\]: poisson expected counts"),
        ("mse", [["a", "b", "c"]] * 2, TypeError, "y has dtype <U1: expected real numbers"),
        ("mse", [[1.0, 2.0, 3.0]], ValueError, "outputs has 2 rows and y has 1"),
    ],
)
def test_targets_that_a_loss_cannot_take_are_refused(loss, y, error, message):
    with pytest.raises(error, match=message):
        losses.per_sample(loss, np.zeros((2, 3)), y)
