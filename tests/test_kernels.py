"""The four kernels against the notes as plain loops, and against central differences."""

import itertools

import naive
import numba
import numpy as np
import pytest
import samples
from hypothesis import example, given
from hypothesis import strategies as st

from nbfc import kernels
from nbfc._arrays import aligned_copy
from nbfc.kernels import dense

ACTIVATIONS = tuple(naive.ACTIVATIONS)
DTYPES = st.sampled_from([np.float32, np.float64])
SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**32)


def data(N, m, n, dtype, seed):
    rng = np.random.default_rng(seed)
    shapes = {"X": (N, m), "W": (m, n), "b": n, "dY": (N, n)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def assert_sums_equal(result, expected, absolute_sum, terms):
    """Hold sums to their rounding: (terms + 2) · eps times the sum of their terms' absolute values.

    Two more than the terms, for a product or quotient after the sum and for the bias.
    """
    assert result.shape == expected.shape
    bound = (terms + 2) * np.finfo(result.dtype).eps * absolute_sum
    assert np.all(np.abs(result - expected) <= bound), np.max(np.abs(result - expected) / bound)


@given(SIZES, SIZES, SIZES, DTYPES, st.sampled_from(ACTIVATIONS), SEEDS)
@example(5, 3, 2, np.float32, "relu", 0)
@example(1, 1, 1, np.float32, "sigmoid", 0)
def test_forward_is_the_notes_equation(N, m, n, dtype, activation, seed):
    d = data(N, m, n, dtype, seed)
    Y = kernels.forward(d["X"], d["W"], d["b"], activation)
    assert Y.dtype == dtype
    size = np.abs(d["X"]) @ np.abs(d["W"]) + np.abs(d["b"])
    # No activation is steeper than 1; tanh and sigmoid round their own value too, which is at most 1.
    rounding = 0 if activation in ("identity", "relu") else 4
    assert_sums_equal(Y, naive.forward(d["X"], d["W"], d["b"], activation), size + rounding / (m + 2), m)


@given(SIZES, SIZES, DTYPES, SEEDS)
@example(5, 2, np.float32, 0)
@example(1, dense.WHOLE + 1, np.float32, 0)
def test_bias_gradient_is_the_notes_equation(N, n, dtype, seed):
    dY = data(N, 1, n, dtype, seed)["dY"]
    db = kernels.bias_gradient(dY)
    assert db.dtype == dtype
    assert_sums_equal(db, naive.bias_gradient(dY), np.abs(dY).mean(axis=0), N)


@given(SIZES, SIZES, SIZES, DTYPES, SEEDS)
@example(5, 3, 2, np.float32, 0)
def test_weight_gradient_is_the_notes_equation(N, m, n, dtype, seed):
    d = data(N, m, n, dtype, seed)
    dW = kernels.weight_gradient(d["X"], d["dY"])
    assert dW.dtype == dtype
    size = np.abs(d["X"]).T @ np.abs(d["dY"]) / N
    assert_sums_equal(dW, naive.weight_gradient(d["X"], d["dY"]), size, N)


@given(SIZES, SIZES, SIZES, DTYPES, SEEDS)
@example(5, 3, 2, np.float32, 0)
def test_input_gradient_is_the_notes_equation(N, m, n, dtype, seed):
    d = data(N, m, n, dtype, seed)
    dX = kernels.input_gradient(d["dY"], d["W"])
    assert dX.dtype == dtype
    assert_sums_equal(dX, naive.input_gradient(d["dY"], d["W"]), np.abs(d["dY"]) @ np.abs(d["W"]).T, n)


BLOCKS = [1, dense.WHOLE - 1, dense.WHOLE, dense.WHOLE + 1, 3 * dense.WHOLE + 5]
LAYERS = [(3, 2), (7, 290), (290, 7), (130, 65), (300, 40), (2100, 290), (290, 2100)]
# So few rows that one wide tile has them all, or two or three, and sums of theirs in parts; sums over so many samples
# that they are taken in parts, from columns far apart, and from near ones; columns that are asked for ahead, by one
# panel of each width and by several; and rows, of whole lines, that are asked for ahead or share sets of a cache.
FEW = [(N, 40, n) for N in (2, 3, 4) for n in (112, 117, 144, 149, 290)] + [(3, 2100, 290)]
FEW += [(N, 40, n) for N in (5, 6, 9, 11, 18) for n in (64, 112, 149)] + [(10, 2100, 290)]
MANY = [(530, 1100, 300), (530, 140, 300), (530, 3200, 8)] + [(2100, 530, n) for n in (9, 20, 40, 70)]
LONG = [(5, 70, 2048), (10, 70, 2048), (20, 70, 2048), (130, 2048, 10)]
SHAPES = [(N, *layer) for N in BLOCKS for layer in LAYERS] + FEW + MANY + LONG


@pytest.mark.parametrize(("N", "m", "n"), SHAPES)
def test_kernels_are_right_at_the_edges_of_blocks_and_on_any_number_of_threads(N, m, n, dtype, threads):
    d = {name: aligned_copy(array) for name, array in data(N, m, n, dtype, 1).items()}
    size = (np.abs(d["X"]) @ np.abs(d["W"]) + np.abs(d["b"])).astype(float)
    results = []
    for count in (0, 1, 2):
        threads(count)
        results.append(
            (
                kernels.forward(d["X"], d["W"], d["b"]),
                kernels.bias_gradient(d["dY"]),
                kernels.weight_gradient(d["X"], d["dY"]),
                kernels.input_gradient(d["dY"], d["W"]),
            )
        )
    for Y, db, dW, dX in results:
        X64, W64, dY64 = (d[name].astype(float) for name in ("X", "W", "dY"))
        assert_sums_equal(Y, X64 @ W64 + d["b"], size, m)
        assert_sums_equal(db, dY64.mean(axis=0), np.abs(dY64).mean(axis=0), N)
        assert_sums_equal(dW, X64.T @ dY64 / N, np.abs(X64).T @ np.abs(dY64) / N, N)
        assert_sums_equal(dX, dY64 @ W64.T, np.abs(dY64) @ np.abs(W64).T, n)
    for others in zip(*results, strict=True):
        assert len({result.tobytes() for result in others}) == 1


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
def test_shares_of_columns_are_nearly_equal_and_none_is_narrow_alone(shares):
    """A narrow one would be summed in another order than in the whole."""
    for total in range(1, 300):
        cuts = [dense.columns_of.py_func(total, share, shares) for share in range(shares)]
        starts, stops = zip(*cuts, strict=True)
        assert (starts[0], stops[-1]) == (0, total)
        assert starts[1:] == stops[:-1]
        widths = [stop - start for start, stop in cuts if start < stop]
        assert len(widths) == 1 or min(widths) > dense.NARROW
        assert max(widths) <= total / shares + 2 * dense.WHOLE


@pytest.mark.parametrize(("m", "n"), [(70, 3), (600, 5), (1100, 8), (21, 1), (600, 1), (30, 700), (600, 700)])
def test_few_rows_have_the_bits_they_have_among_many(m, n, dtype, threads):
    d = data(40, m, n, dtype, 2)
    threads(0)
    Y = kernels.forward(d["X"], d["W"], d["b"], "relu")
    for count in (0, 2):
        threads(count)
        for N in (1, 2, 4, 5, 9, 11, 12, 16, 31):
            for start in (0, 40 - N):
                rows = slice(start, start + N)
                assert np.array_equal(kernels.forward(d["X"][rows], d["W"], d["b"], "relu"), Y[rows])


@pytest.mark.parametrize("N", [3, 20, 32, 33])
def test_some_inputs_have_the_weight_gradients_bits_they_have_among_many(N, dtype, threads):
    """Of more rows than are taken at a time, and a last few."""
    d = data(N, 269, 700, dtype, 3)
    threads(0)
    dW = kernels.weight_gradient(d["X"], d["dY"])
    for count in (0, 2):
        threads(count)
        for inputs in (slice(0, 9), slice(100, 117), slice(256, 269)):
            assert np.array_equal(kernels.weight_gradient(d["X"][:, inputs], d["dY"]), dW[inputs])


@pytest.mark.parametrize("terms", [3, 31, 600])
def test_a_share_without_columns_is_nothing(terms, dtype):
    """As the last of many threads may have."""

    @numba.njit
    def share(A, B, b, Y):
        dense.forward_outputs(A, B, b, 0, Y, 8, 8)
        dense.weight_gradient_inputs(A.T.copy(), B, Y, 0, 0, 40, 8, 8)
        dense.input_gradient_inputs(A, B.T.copy(), 0, Y, Y, False, 8, 8)

    d = data(40, terms, 16, dtype, 0)
    share(d["X"], d["W"], d["b"], d["dY"])
    assert np.array_equal(d["dY"], data(40, terms, 16, dtype, 0)["dY"])


# ---- central differences ---------------------------------------------------------------------------------------------


@given(st.integers(2, 9), st.integers(1, 6), st.integers(1, 6), st.sampled_from(["identity", "tanh", "sigmoid"]), SEEDS)
@example(5, 3, 2, "tanh", 0)
def test_gradients_are_central_differences_of_forward(N, m, n, activation, seed):
    """With J⁽ⁱ⁾ = Σ_j c_ij y_ij the gradient rows at Y are c; the mean of J⁽ⁱ⁾ is what ① and ② differentiate."""
    d = data(N, m, n, np.float64, seed)
    X, W, b, c = d["X"], d["W"], d["b"], d["dY"]

    def samples_losses(X, W, b):
        return np.sum(c * kernels.forward(X, W, b, activation), axis=1)

    slope = naive.ACTIVATIONS[activation][1]
    dZ = c * np.vectorize(slope)(naive.forward(X, W, b))
    got = (kernels.input_gradient(dZ, W), kernels.weight_gradient(X, dZ), kernels.bias_gradient(dZ))
    for position, (gradient, value) in enumerate(zip(got, (X, W, b), strict=True)):
        reduce = np.sum if position == 0 else np.mean  # ③ is each sample's own: no mean
        h = 1e-5
        for index in np.ndindex(value.shape):
            ends = []
            for shift in (h, -h):
                moved = [X, W, b]
                moved[position] = value.copy()
                moved[position][index] += shift
                ends.append(reduce(samples_losses(*moved)))
            difference = (ends[0] - ends[1]) / (2 * h)
            assert gradient[index] == pytest.approx(difference, rel=1e-6, abs=1e-8)


# ---- properties -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 20), SIZES, SIZES, SEEDS)
def test_duplicating_every_sample_leaves_the_means_unchanged(N, m, n, seed):
    d = data(N, m, n, np.float64, seed)
    twice = {name: np.concatenate([d[name], d[name]]) for name in ("X", "dY")}
    np.testing.assert_allclose(
        kernels.bias_gradient(twice["dY"]), kernels.bias_gradient(d["dY"]), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        kernels.weight_gradient(twice["X"], twice["dY"]),
        kernels.weight_gradient(d["X"], d["dY"]),
        rtol=1e-12,
        atol=1e-14,
    )


@given(st.integers(1, 80), SIZES, SIZES, SEEDS)
def test_permuting_samples_permutes_outputs_and_input_gradients_to_the_bit(N, m, n, seed):
    d = data(N, m, n, np.float32, seed)
    order = np.random.default_rng(seed).permutation(N)
    Y, dX = kernels.forward(d["X"], d["W"], d["b"], "tanh"), kernels.input_gradient(d["dY"], d["W"])
    assert np.array_equal(kernels.forward(d["X"][order], d["W"], d["b"], "tanh"), Y[order])
    assert np.array_equal(kernels.input_gradient(d["dY"][order], d["W"]), dX[order])


def test_relu_is_zero_at_zero_and_keeps_nan():
    Y = kernels.forward(np.array([[-1.0], [0.0], [2.0], [np.nan], [np.inf], [-np.inf]]), [[1.0]], [0.0], "relu")
    np.testing.assert_array_equal(Y[:, 0], [0, 0, 2, np.nan, np.inf, 0])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_saturating_activations_reach_their_ends(activation, dtype):
    z = np.array([[-np.inf], [-1e4], [1e4], [np.inf], [np.nan]], dtype)
    Y = kernels.forward(z, np.ones((1, 1), dtype), np.zeros(1, dtype), activation)
    low = -1 if activation == "tanh" else 0
    np.testing.assert_array_equal(Y[:, 0], [low, low, 1, 1, np.nan])


def test_no_samples_give_no_rows():
    W, b = np.ones((3, 2)), np.ones(2)
    assert kernels.forward(np.ones((0, 3)), W, b).shape == (0, 2)
    assert kernels.input_gradient(np.ones((0, 2)), W).shape == (0, 3)


# ---- arrays of every kind -------------------------------------------------------------------------------------------


def test_every_layout_gives_the_bits_of_its_contiguous_copy_and_compiles_nothing(tmp_path, rng):
    X = rng.integers(0, 9, (6, 5)).astype(np.float64)
    W, b, dY = rng.standard_normal((5, 4)), rng.standard_normal(4), rng.standard_normal((6, 4))
    Y, dW, dX = kernels.forward(X, W, b), kernels.weight_gradient(X, dY), kernels.input_gradient(X, W.T)
    db = kernels.bias_gradient(X)
    kernels.bias_gradient(X.astype(np.float32))  # an array of float16 or float32 alone is computed in float32
    compiled = [dense.forward, dense.bias_gradient, dense.weight_gradient, dense.input_gradient]
    before = [list(kernel.serial.signatures) for kernel in compiled]
    for name, other in samples.layouts(X, tmp_path):
        assert np.array_equal(kernels.forward(other, W, b), Y), name
        assert np.array_equal(kernels.weight_gradient(other, dY), dW), name
        assert np.array_equal(kernels.input_gradient(other, W.T), dX), name
        np.testing.assert_allclose(kernels.bias_gradient(other), db, rtol=1e-6, err_msg=name)
    assert [list(kernel.serial.signatures) for kernel in compiled] == before


def test_a_read_only_input_is_not_copied_and_stays_read_only():
    from nbfc import _arrays

    X = np.ones((4, 3), np.float32)
    X.flags.writeable = False
    same = _arrays.normal(X, np.float32)
    assert same.flags.writeable
    assert np.shares_memory(same, X)
    assert not X.flags.writeable


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("float32", "float32"), "float32"),
        (("float32", "float64"), "float64"),
        (("float16", "float32"), "float32"),
        (("int64", "float32"), "float32"),
        (("int64", "int8"), "float64"),
        (("float16", "bool"), "float32"),
        (("longdouble", "float32"), "float64"),
    ],
)
def test_results_are_float32_where_the_floats_are(dtypes, expected):
    X, W = np.ones((3, 2), dtypes[0]), np.ones((2, 2), dtypes[1])
    assert kernels.forward(X, W, np.zeros(2, np.int8)).dtype == expected


# ---- out= -----------------------------------------------------------------------------------------------------------


def test_out_receives_the_result_whatever_it_held(dtype):
    d = data(5, 3, 2, dtype, 0)
    calls = [
        (kernels.forward, (d["X"], d["W"], d["b"]), (5, 2)),
        (kernels.bias_gradient, (d["dY"],), (2,)),
        (kernels.weight_gradient, (d["X"], d["dY"]), (3, 2)),
        (kernels.input_gradient, (d["dY"], d["W"]), (5, 3)),
    ]
    for kernel, arguments, shape in calls:
        out = np.full(shape, np.nan, dtype)
        assert kernel(*arguments, out=out) is out
        assert np.array_equal(out, kernel(*arguments))


# Every number of columns and of rows that a tile may have left over, and sizes of which copies are made.
SOME_SIZES = [*itertools.product([5, 18], range(1, 52), [3, 33]), *itertools.product([16], [1, 40], range(1, 52))]
SOME_SIZES += [(n, 40, 20) for n in range(1, 18)] + [(300, 530, 270), (530, 300, 521), (130, 270, 1033)]


def test_nothing_is_written_around_a_result(dtype):
    for N, m, n in SOME_SIZES:
        d = data(N, m, n, dtype, 3)
        calls = [
            (kernels.forward, (d["X"], d["W"], d["b"]), (N, n), d["X"] @ d["W"] + d["b"]),
            (kernels.bias_gradient, (d["dY"],), (n,), d["dY"].mean(axis=0)),
            (kernels.weight_gradient, (d["X"], d["dY"]), (m, n), d["X"].T @ d["dY"] / N),
            (kernels.input_gradient, (d["dY"], d["W"]), (N, m), d["dY"] @ d["W"].T),
        ]
        for kernel, arguments, shape, expected in calls:
            memory = np.full(expected.size + 200, 7, dtype)
            kernel(*arguments, out=memory[100:-100].reshape(shape))
            assert np.allclose(memory[100:-100].reshape(shape), expected, rtol=1e-3, atol=1e-3), (kernel, N, m, n)
            assert np.all(np.r_[memory[:100], memory[-100:]] == 7), (kernel, N, m, n)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((5, 3), np.float32), r"out has shape \(5, 3\) .* shape \(5, 2\)"),
        (np.empty((5, 2), np.float64), r"dtype float64: .* dtype float32"),
        (np.empty((2, 5), np.float32).T, r"not C-contiguous"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out, message):
    d = data(5, 3, 2, np.float32, 0)
    with pytest.raises(ValueError, match=message):
        kernels.forward(d["X"], d["W"], d["b"], out=out)


def test_an_out_that_is_an_input_or_no_array_is_refused():
    X = np.ones((2, 2))
    with pytest.raises(ValueError, match="out shares memory with X"):
        kernels.forward(X, np.ones((2, 2)), np.ones(2), out=X)
    with pytest.raises(TypeError, match="out is a list"):
        kernels.forward(X, np.ones((2, 2)), np.ones(2), out=[[0.0, 0.0]])


# ---- errors ---------------------------------------------------------------------------------------------------------

X, W, b, dY = np.ones((5, 3)), np.ones((3, 2)), np.ones(2), np.ones((5, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.forward(np.ones((5, 4)), W, b), ValueError, r"X has shape \(5, 4\): expected \(N, 3\)"),
        (lambda: kernels.forward(np.ones(3), W, b), ValueError, r"X has shape \(3,\): expected \(N, 3\)"),
        (lambda: kernels.forward(X, np.ones(3), b), ValueError, r"W has shape \(3,\): expected \(m, n\)"),
        (lambda: kernels.forward(X, W, np.ones(3)), ValueError, r"b has shape \(3,\): expected \(2,\)"),
        (lambda: kernels.forward(X, np.ones((3, 0)), np.ones(0)), ValueError, r"W has shape \(3, 0\)"),
        (lambda: kernels.forward(X, W, b, "swish"), ValueError, "activation is 'swish': expected one of 'identity'"),
        (lambda: kernels.forward(X, W, b, None), TypeError, "activation is None: expected a name"),
        (lambda: kernels.forward(X * 1j, W, b), TypeError, "X has dtype complex128: expected real numbers"),
        (lambda: kernels.forward(X.astype(str).astype(object) + "x", W, b), TypeError, "X is no array of real numbers"),
        (lambda: kernels.bias_gradient(np.ones((0, 2))), ValueError, r"dY has shape \(0, 2\): expected at least one"),
        (lambda: kernels.bias_gradient(np.ones(2)), ValueError, r"dY has shape \(2,\): expected \(N, n\)"),
        (lambda: kernels.weight_gradient(X, np.ones((4, 2))), ValueError, r"X has shape \(5, 3\): expected \(4, m\)"),
        (lambda: kernels.input_gradient(np.ones((5, 3)), W), ValueError, r"dY has shape \(5, 3\): expected \(N, 2\)"),
        (lambda: kernels.input_gradient(dY, np.array([["a", "b"]])), TypeError, "W has dtype <U1"),
    ],
)
def test_errors_say_what_came_and_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()
