"""Losses per sample: values and gradient rows against the oracle, stability, and refused targets."""

import naive
import numpy as np
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

from nbfc import losses

SEEDS = st.integers(0, 2**32)


@given(st.integers(1, 9), st.integers(1, 7), st.sampled_from(samples.LOSSES), SEEDS)
def test_losses_are_the_oracles_in_float64(N, n, case, seed):
    rng = np.random.default_rng(seed)
    Y = 3 * rng.standard_normal((N, n))
    loss, T = samples.targets(case, N, n, rng)
    J, _ = losses.per_sample(loss, Y, T)
    np.testing.assert_allclose(J, naive.losses(loss, Y, T), rtol=1e-12, atol=1e-13)


@given(st.integers(1, 9), st.integers(1, 7), st.sampled_from(samples.LOSSES), SEEDS)
def test_losses_in_float32_differ_by_rounding_only(N, n, case, seed):
    rng = np.random.default_rng(seed)
    Y = (3 * rng.standard_normal((N, n))).astype(np.float32)
    loss, T = samples.targets(case, N, n, rng)
    J, dY = losses.per_sample(loss, Y, T)
    J64, dY64 = losses.per_sample(loss, Y.astype(float), T)
    assert (J.dtype, dY.dtype) == (np.float32, np.float32)
    eps = np.finfo(np.float32).eps
    size = 1 + np.abs(Y).max(axis=1)  # of the largest term, for targets that are numbers near 1 or below it
    assert np.all(np.abs(J - J64) <= 4 * (n + 4) * eps * size**2)
    assert np.all(np.abs(dY - dY64) <= 4 * (n + 4) * eps * size[:, None])


@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from(samples.LOSSES), SEEDS)
def test_gradient_rows_are_central_differences_of_each_samples_own_loss(N, n, case, seed):
    rng = np.random.default_rng(seed)
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
        ("mse", [["a", "b", "c"]] * 2, TypeError, "y has dtype <U1: expected real numbers"),
        ("mse", [[1.0, 2.0, 3.0]], ValueError, "outputs has 2 rows and y has 1"),
    ],
)
def test_targets_that_a_loss_cannot_take_are_refused(loss, y, error, message):
    with pytest.raises(error, match=message):
        losses.per_sample(loss, np.zeros((2, 3)), y)
