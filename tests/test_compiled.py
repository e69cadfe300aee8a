"""Networks inside compiled code: values and steps to the bit, derivatives, errors, users' functions on disk."""

import copy
import pickle

import naive
import numba
import numpy as np
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from numba import njit, prange

import nbfc
from nbfc import jit

ACTIVATIONS = tuple(naive.ACTIVATIONS)
WIDTHS = st.lists(st.integers(1, 40), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**32)


@njit
def predicted(policy, x):
    return jit.predict(policy, x)


@njit
def predict_often(policy, x, y, scratch, times):
    for _ in range(times):
        jit.predict_into(policy, x, y, scratch)


@njit(parallel=True)
def predict_on_threads(policy, X):
    Y = np.empty((X.shape[0], 3), policy.parameters.dtype)
    for i in prange(X.shape[0]):
        jit.predict_into(policy, X[i], Y[i], jit.scratch(policy))
    return Y


# ---- values ---------------------------------------------------------------------------------------------------------


@given(WIDTHS, st.integers(0, 9), st.sampled_from(ACTIVATIONS), st.sampled_from(ACTIVATIONS), st.booleans(), SEEDS)
def test_values_are_those_of_predict_to_the_bit(widths, N, activation, output, standardized, seed):
    for dtype in ("float32", "float64"):
        net = samples.network(widths, activation, output, dtype, seed, standardized)
        policy = net.freeze()
        for kind in ("float32", "float64"):
            X = np.random.default_rng(seed).standard_normal((N, widths[0])).astype(kind)
            Y = net.predict(X)
            assert np.array_equal(predicted(policy, X), Y)
            assert np.array_equal(jit.predict(policy, X), Y)
            assert all(np.array_equal(predicted(policy, x), y) for x, y in zip(X, Y, strict=True))
            assert predicted(policy, X).dtype == dtype


@pytest.mark.parametrize("widths", [[300, 600, 3], [20, 30, 3], [7, 3]])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_many_rows_are_taken_in_blocks_of_what_scratch_is_for(widths, rows, dtype, rng):
    net = samples.network(widths, dtype=dtype)
    policy, X = net.freeze(), rng.standard_normal((700, widths[0])).astype(dtype)
    Y, scratch = np.empty((700, 3), dtype), jit.scratch(policy, rows)
    jit.predict_into(policy, X, Y, scratch)
    assert np.array_equal(Y, net.predict(X))
    assert np.array_equal(predict_on_threads(policy, X), Y)


def test_scratch_for_fewer_rows_takes_at_least_half_as_many(dtype, rng):
    net = samples.network([6, 50, 3], dtype=dtype)
    policy, X = net.freeze(), rng.standard_normal((11, 6))
    sizes = [len(jit.scratch(policy, rows)) for rows in (1, 2, 11, 256, 300)]
    assert sizes == sorted(set(sizes[:4])) + sizes[3:4]
    for rows in (1, 2, 5, 10, 11, 300):
        Y = np.empty((11, 3), dtype)
        jit.predict_into(policy, X, scratch=jit.scratch(rows=rows, policy=policy), y=Y)
        assert np.array_equal(Y, net.predict(X))


def test_samples_of_every_layout(dtype, rng):
    net = samples.network([6, 9, 3], dtype=dtype)
    X = rng.standard_normal((8, 6)).astype(dtype)
    policy, expected = net.freeze(), net.predict(X)
    wide = np.zeros((16, 18), dtype)
    wide[::2, 1::3] = X
    for same in (np.asfortranarray(X), wide[::2, 1::3], np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]):
        assert np.array_equal(predicted(policy, same), expected)
        assert np.array_equal(predicted(policy, same[3]), expected[3])
    read_only = X.copy()
    read_only.flags.writeable = False
    assert np.array_equal(predicted(policy, read_only), expected)


@pytest.mark.parametrize("widths", [[5, 5], [5, 8, 5], [5, 8, 2], [5, 3], [200, 200]])
@pytest.mark.parametrize("standardized", [True, False])
def test_results_may_take_the_place_of_samples(widths, standardized, dtype, rng):
    net = samples.network(widths, dtype=dtype, standardized=standardized)
    policy, X, n = net.freeze(), rng.standard_normal((700, widths[0])).astype(dtype), widths[-1]
    expected, x = net.predict(X), X[0].copy()
    Y = X.reshape(-1)[: 700 * n].reshape(700, n)
    jit.predict_into(policy, X, Y, jit.scratch(policy, 99))
    assert np.array_equal(Y, expected)
    jit.predict_into(policy, x, x[-n:], jit.scratch(policy))  # of one sample anywhere
    assert np.array_equal(x[-n:], expected[0])


def test_a_policy_is_a_copy_that_can_be_pickled_and_given_other_parameters(dtype, rng):
    net = samples.network([4, 9, 3], dtype=dtype, standardized=True)
    X = rng.standard_normal((5, 4))
    policy, before = net.freeze(), net.predict(X)
    net.parameters *= 2
    assert np.array_equal(predicted(policy, X), before)
    again = pickle.loads(pickle.dumps(policy))
    assert np.array_equal(predicted(again, X), before)
    assert again.parameters.ctypes.data % 64 == policy.parameters.ctypes.data % 64 == 0
    other = jit.Policy(policy.layers, net.parameters.copy(), policy.mean, policy.deviation)
    assert np.array_equal(predicted(other, X), net.predict(X))


def test_the_first_layers_are_a_network(dtype, rng):
    net = samples.network([4, 9, 5, 3], "tanh", dtype=dtype)
    policy, X, (W, *_), (b, *_) = net.freeze(), rng.standard_normal((6, 4)), net.weights, net.biases
    first = policy._replace(layers=policy.layers[:1], parameters=policy.parameters[: W.size + b.size])
    np.testing.assert_allclose(jit.predict(first, X), np.tanh(X @ W + b), rtol=1e-5)


def test_another_architecture_compiles_nothing(dtype, rng):
    @njit
    def user(policy, x):
        return jit.predict(policy, x).sum()

    for widths, activation in (([4, 9, 3], "relu"), ([4, 2], "tanh"), ([4, 5, 6, 7, 8], "sigmoid")):
        user(
            samples.network(widths, activation, dtype=dtype, standardized=widths == [4, 2]).freeze(), np.zeros(4, dtype)
        )
    assert len(user.signatures) == 1


def test_a_loop_of_predictions_allocates_nothing_and_counts_no_references(dtype, allocations):
    policy = samples.network([8, 64, 64, 4], dtype=dtype).freeze()
    x, y, scratch = np.zeros(8, dtype), np.zeros(4, dtype), jit.scratch(policy)
    counts = []
    for times in (1, 1, 1000):  # a call from Python allocates for its arguments
        before = allocations().alloc
        predict_often(policy, x, y, scratch, times)
        counts.append(allocations().alloc - before)
    assert counts[2] == counts[1] > 0
    code = predict_often.inspect_llvm(predict_often.signatures[-1])
    function = code[code.index("define") :].split("\n}")[0]
    before_loop, loop = function.split("load i64, ptr @nbfc.kernels.frozen.predict")  # of the kernel's address
    assert before_loop.count("NRT_incref") == 7  # once for each array that came as an argument
    assert "NRT_incref" not in loop


# ---- derivatives, against differences of the oracle's float64 network -----------------------------------------------

H = 1e-5


def outputs(net, X):
    if net.input_mean is not None:
        X = (X - net.input_mean) / net.input_deviation
    return naive.predict(net.parameters, net.widths, net.activations, X)


def difference(net, X, directions):
    """Return how the oracle's outputs change, as X moves along directions."""
    return (outputs(net, X + H * directions) - outputs(net, X - H * directions)) / (2 * H)


def jacobians(net, X):
    columns = [difference(net, X, np.broadcast_to(e, X.shape)) for e in np.eye(X.shape[1])]
    return np.stack(columns, axis=-1)


SMOOTH = st.sampled_from(["tanh", "sigmoid", "identity"])
NARROW = st.lists(st.integers(1, 9), min_size=2, max_size=5)


@given(NARROW, st.integers(1, 4), SMOOTH, SMOOTH, st.booleans(), SEEDS)
def test_derivatives_are_differences_of_the_oracle(widths, N, activation, output, standardized, seed):
    net, rng = samples.network(widths, activation, output, "float64", seed, standardized), np.random.default_rng(seed)
    policy, X = net.freeze(), rng.standard_normal((N, widths[0]))
    V, W = rng.standard_normal(X.shape), rng.standard_normal((N, widths[-1]))
    J, close = jacobians(net, X), {"rtol": 1e-7, "atol": 1e-8}
    np.testing.assert_allclose(jit.jacobian(policy, X), J, **close)
    Y, along = jit.jvp(policy, X, V)
    np.testing.assert_allclose(along, np.einsum("ijk,ik->ij", J, V), **close)
    Y_too, back = jit.vjp(policy, X, W)
    np.testing.assert_allclose(back, np.einsum("ijk,ij->ik", J, W), **close)
    assert np.array_equal(Y, net.predict(X))
    assert np.array_equal(Y_too, Y)
    expected = (jit.vjp(policy, X + H * V, W)[1] - jit.vjp(policy, X - H * V, W)[1]) / (2 * H)
    np.testing.assert_allclose(jit.hessian_vector(policy, X, W, V), expected, rtol=1e-6, atol=1e-7)
    # the same for one sample, from float32 rows, and from the network's own methods
    assert np.array_equal(jit.jacobian(policy, X[0]), jit.jacobian(policy, X)[0])
    assert np.array_equal(jit.vjp(policy, X[0], W[0])[1], back[0])
    assert np.array_equal(jit.jvp(policy, X[0], V[0])[1], along[0])
    assert np.array_equal(jit.hessian_vector(policy, X[0], W[0], V[0]), jit.hessian_vector(policy, X, W, V)[0])
    assert np.array_equal(net.jacobian(X), jit.jacobian(policy, X))
    assert np.array_equal(net.input_gradient(X, W), back)


def test_derivatives_through_relu_and_in_float32(rng):
    net = samples.network([7, 40, 30, 3], "relu", standardized=True)
    small = nbfc.MLP([7, 40, 30, 3], "relu", dtype="float32")
    small.parameters = net.parameters
    small._input_mean, small._input_deviation = net.input_mean, net.input_deviation
    X = rng.standard_normal((300, 7))
    J = net.jacobian(X)
    kinks = np.any(np.abs(jacobians(net, X[:20]) - J[:20]) > 1e-6, axis=(1, 2)).sum()
    assert kinks <= 2  # a difference that crosses a kink is none of the derivative
    assert np.abs(small.jacobian(X) - J).max() < 1e-4
    assert np.array_equal(jit.jacobian(small.freeze(), X), small.jacobian(X))
    assert not jit.hessian_vector(net.freeze(), X, np.ones((300, 3)), X).any()


def test_derivatives_of_more_samples_than_a_block_of_any_layout(dtype, rng):
    net = samples.network([5, 30, 3], dtype=dtype, standardized=True)
    policy, X, W, V = net.freeze(), *(rng.standard_normal((600, n)) for n in (5, 3, 5))
    back, along = jit.vjp(policy, X, W)[1], jit.jvp(policy, X, V)[1]
    second = jit.hessian_vector(policy, X, W, V)
    assert second.any()
    for i in (0, 255, 256, 599):
        assert np.array_equal(back[i], jit.vjp(policy, X[i], W[i])[1])
        assert np.array_equal(along[i], jit.jvp(policy, X[i], V[i])[1])
        assert np.array_equal(second[i], jit.hessian_vector(policy, X[i], W[i], V[i]))
    wide = np.zeros((600, 26))
    wide[:, :10:2], wide[:, 10:16:2], wide[:, 16::2] = X, W, V
    X, W, V = wide[:, :10:2], np.asfortranarray(wide[:, 10:16:2]), wide[::-1, 16::2][::-1]
    assert np.array_equal(jit.vjp(policy, X, W)[1], back)
    assert np.array_equal(jit.jvp(policy, X, V)[1], along)
    assert np.array_equal(jit.hessian_vector(policy, X, W, V), second)


def test_no_samples_beside_their_results(dtype):
    policy, memory = samples.network([100, 3], dtype=dtype).freeze(), np.zeros(2000, dtype)
    X, Y = memory[:800].reshape(8, 100), memory[40:64].reshape(8, 3)
    jit.predict_into(policy, X[:0], Y[:0], jit.scratch(policy))


def test_a_copy_of_a_state_is_whole(rng):
    state, X, Y = nbfc.Trainer(samples.network([4, 5, 2]), "mse", "adam").freeze(), *rng.random((2, 9, 4))
    other = copy.copy(state)
    before = other.policy.parameters.copy()
    jit.train_step(state, X, Y[:, :2])
    assert np.array_equal(other.policy.parameters, before)


def test_a_jacobian_for_more_memory_than_there_is(dtype):
    """Of as many rows times outputs as no integer counts."""
    policy = samples.network([3, 64], dtype=dtype).freeze()
    with pytest.raises((ValueError, MemoryError)):
        jit.jacobian(policy, np.broadcast_to(np.zeros(3), (2**58, 3)))


def test_derivatives_of_no_samples(dtype):
    policy, none = samples.network([5, 30, 3], dtype=dtype).freeze(), np.empty((0, 5))
    assert jit.predict(policy, none).shape == (0, 3)
    assert jit.jacobian(policy, none).shape == (0, 3, 5)
    assert [array.shape for array in jit.vjp(policy, none, np.empty((0, 3)))] == [(0, 3), (0, 5)]
    assert [array.shape for array in jit.jvp(policy, none, none)] == [(0, 3), (0, 3)]
    assert jit.hessian_vector(policy, none, np.empty((0, 3)), none).shape == (0, 5)


# ---- losses and training --------------------------------------------------------------------------------------------


@njit
def gradients(policy, x, t):
    return jit.loss_gradient(policy, x, t, "mse")


@pytest.mark.parametrize("case", samples.LOSSES)
@pytest.mark.parametrize("N", [1, 7, 300])
def test_loss_gradients_are_those_of_the_network_to_the_bit(case, N, dtype, rng):
    net = samples.network([6, 30, 3], dtype=dtype, standardized=True)
    X = rng.standard_normal((N, 6))
    loss, T = samples.targets(case, N, 3, rng)
    value, gradient = net.loss_and_gradient(X, T, loss)
    policy = net.freeze()
    for X_too in (X, np.asfortranarray(X)):
        got, vector = jit.loss_gradient(policy, X_too, T, loss)
        assert got == value
        assert np.array_equal(vector, gradient)
    one, one_gradient = net.loss_and_gradient(X[:1], T[:1], loss)
    got, vector = jit.loss_gradient(policy, X[0], T[0] if T.ndim == 2 else int(T[0]), loss)
    assert got == one
    assert np.array_equal(vector, one_gradient)
    if case == "mse":
        assert gradients(policy, X, T)[0] == value


@njit
def weighted(policy, x, t, weights):
    return jit.loss_gradient(policy, x, t, "cross_entropy", sample_weight=weights)


@pytest.mark.parametrize("N", [1, 9, 300])
def test_weighted_gradients_and_steps_are_those_of_the_network_to_the_bit(N, dtype, rng):
    net, X = samples.network([6, 30, 3], dtype=dtype), rng.standard_normal((N, 6))
    T, policy = rng.integers(0, 3, N), net.freeze()
    wide = rng.random((N, 3))
    for weights in (np.ascontiguousarray(wide[:, 1]), wide[:, 1], wide[::-1, 1], wide[:, 1].astype("f"), None):
        value, gradient = net.loss_and_gradient(X, T, "cross_entropy", sample_weight=weights)
        both = weighted(policy, X, T, weights), jit.loss_gradient(policy, X, T, "cross_entropy", weights)
        assert [got for got, _ in both] == [value, value]
        assert all(np.array_equal(vector, gradient) for _, vector in both)
        trainer = nbfc.Trainer(net, "cross_entropy", "adam")
        state = trainer.freeze(5)
        assert jit.train_step(state, X, T, weights) == trainer.step(X, T, weights)
        assert np.array_equal(state.policy.parameters, net.parameters)
        policy = net.freeze()


def test_targets_of_one_output_may_be_a_vector_or_a_number(dtype, rng):
    net = samples.network([4, 5, 1], dtype=dtype)
    X, t = rng.standard_normal((9, 4)), rng.standard_normal(9)
    value, gradient = net.loss_and_gradient(X, t, "mse")
    got, vector = jit.loss_gradient(net.freeze(), X, t, "mse")
    assert got == value
    assert np.array_equal(vector, gradient)
    assert jit.loss_gradient(net.freeze(), X[0], t[0], "mse")[0] == net.loss_and_gradient(X[:1], t[:1], "mse")[0]


@njit
def train(state, X, y, size, steps):
    loss = 0.0
    for step in range(steps):
        start = step * size % (len(X) - size + 1)
        loss = jit.train_step(state, X[start : start + size], y[start : start + size])
    return loss


OPTIMIZERS = [nbfc.SGD(0.05), nbfc.SGD(0.05, 0.9, nesterov=True), nbfc.Adam(), nbfc.AdamW(0.01, weight_decay=0.1)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize(("case", "size", "clip"), [("mse", 20, None), ("cross_entropy of labels", 300, 0.1)])
def test_steps_are_those_of_a_trainer_to_the_bit(optimizer, case, size, clip, dtype, rng):
    net = samples.network([6, 30, 3], dtype=dtype, standardized=True)
    trainer = nbfc.Trainer(net, case.split()[0], optimizer, clip_per_sample=clip)
    X = rng.standard_normal((1000, 6))
    _, T = samples.targets(case, 1000, 3, rng)
    state, first = trainer.freeze(size), trainer.freeze()
    for step in range(12):
        start = step * size % (1001 - size)
        loss = trainer.step(X[start : start + size], T[start : start + size])
    assert train(state, X, T, size, 12) == loss
    assert np.array_equal(state.policy.parameters, net.parameters)
    last = net.parameters.copy()
    trainer.restore(first)
    assert trainer.steps == 0
    trainer.restore(state)
    assert trainer.steps == 12
    assert np.array_equal(net.parameters, last)
    assert trainer.step(X[:size], T[:size]) == train(state, X, T, size, 1)
    assert np.array_equal(state.policy.parameters, net.parameters)


@pytest.mark.parametrize(
    ("loss", "optimizer", "regularization"),
    [
        ("huber", nbfc.RMSprop(momentum=0.5, clip_norm=0.1), nbfc.Regularization(l1=0.01)),
        (nbfc.losses.Quantile(0.9), nbfc.Lion(0.001, clip_value=0.1), nbfc.Regularization(l2=0.1, max_norm=1.0)),
        ("gaussian_nll", "adagrad", None),
        (nbfc.losses.CrossEntropy(0.1), "nadam", None),
    ],
    ids=str,
)
def test_steps_with_options_are_those_of_a_trainer_too(loss, optimizer, regularization, dtype, rng):
    net = samples.network([6, 30, 4], dtype=dtype)
    trainer = nbfc.Trainer(net, loss, optimizer, regularization=regularization)
    X, state = rng.standard_normal((60, 6)), pickle.loads(pickle.dumps(trainer.freeze()))
    T = rng.integers(0, 4, 60) if trainer.loss.name == "cross_entropy" else X[:, : trainer.loss.columns(4)]
    for step in range(5):
        last = trainer.step(X[step : step + 20], T[step : step + 20])
    for step in range(5):
        assert jit.train_step(state, X[step : step + 20], T[step : step + 20]) == last or step < 4
    assert np.array_equal(state.policy.parameters, net.parameters)
    with pytest.raises(ValueError, match="optimizer"):
        nbfc.Trainer(net, loss, nbfc.SGD(0.1, clip_value=0.3)).restore(state)


@pytest.mark.parametrize("loss", samples.FURTHER_LOSSES)
def test_further_losses_have_gradients_in_compiled_code(loss, dtype, rng):
    net, X = samples.network([6, 9, 4], dtype=dtype), rng.standard_normal((7, 6))
    _, T = samples.targets(loss, 7, 4, rng)

    @njit
    def gradient(policy, x, t):
        return jit.loss_gradient(policy, x, t, loss)

    value, expected = net.loss_and_gradient(X, T, loss)
    for got, vector in (gradient(net.freeze(), X, T), jit.loss_gradient(net.freeze(), X, T, loss)):
        assert got == value
        assert np.array_equal(vector, expected)


def test_a_trainer_that_adds_noise_takes_back_a_state_trained_without(rng):
    options, X = {"loss": "mse", "optimizer": "sgd", "clip_per_sample": 1.0}, rng.random((9, 4))
    state = nbfc.Trainer(samples.network([4, 5, 2]), **options).freeze()
    jit.train_step(state, X, X[:, :2])
    noisy = nbfc.Trainer(samples.network([4, 5, 2]), **options, noise_multiplier=1.0)
    noisy.restore(state)
    assert noisy.steps == 1
    assert np.array_equal(noisy.net.parameters, state.policy.parameters)


def test_a_compiled_learning_rate_is_that_of_the_trainer(dtype, rng):
    net = samples.network([4, 5, 2], dtype=dtype)
    trainer, X = nbfc.Trainer(net, "mse", "sgd"), rng.standard_normal((9, 4))
    state = trainer.freeze()
    state.rule[jit.LEARNING_RATE] = trainer.learning_rate = 0.3
    jit.train_step(state, X, X[:, :2])
    trainer.step(X, X[:, :2])
    assert np.array_equal(state.policy.parameters, net.parameters)


@pytest.mark.parametrize(
    ("widths", "most", "N"),
    [([4, 5, 2], 20, 20), ([8, 200, 200, 4], 1672, 1671), ([8, 40, 40, 4], 2049, 2048), ([16, 24, 4], 4000, 3280)],
)
def test_steps_allocate_nothing_up_to_the_size_that_was_frozen(widths, most, N, rng, allocations):
    """2049 rows are cut into 16 parts, and take more memory at 2048, in 8. 3280 rows are the most that stay whole."""
    trainer, X = nbfc.Trainer(samples.network(widths), "mse", "adam"), rng.standard_normal((N, widths[0]))
    state, T = trainer.freeze(most), X[:, : widths[-1]].copy()
    train(state, X, T, N, 1)
    counts = []
    for steps in (1, 1, 20):
        before = allocations().alloc
        train(state, X, T, N, steps)
        counts.append(allocations().alloc - before)
    assert counts[2] == counts[1] > 0


def test_a_batch_that_is_larger_than_what_was_frozen(dtype, rng):
    net = samples.network([6, 30, 3], dtype=dtype)
    trainer, X, T = nbfc.Trainer(net, "mse", "adam"), rng.standard_normal((300, 6)), rng.standard_normal((300, 3))
    state = trainer.freeze(2)
    for N in (300, 2, 50):
        assert jit.train_step(state, X[:N], T[:N]) == trainer.step(X[:N], T[:N])
    assert np.array_equal(state.policy.parameters, net.parameters)


def test_a_step_by_whole_rows_is_that_of_a_trainer(dtype, rng):
    """Few rows and many parameters: a trainer shares out columns, compiled code goes through them alone."""
    net = samples.network([6, 300, 3], dtype=dtype)
    trainer, X, T = nbfc.Trainer(net, "mse", "adam"), rng.standard_normal((50, 6)), rng.standard_normal((50, 3))
    state = trainer.freeze()
    for _ in range(3):
        assert jit.train_step(state, X, T) == trainer.step(X, T)
    assert np.array_equal(state.policy.parameters, net.parameters)


@pytest.mark.parametrize("widths", [[2, 2], [300, 300]])
def test_a_step_whose_samples_are_the_parameters(widths, dtype):
    net = samples.network(widths, dtype=dtype)
    trainer, N = nbfc.Trainer(net, "mse", nbfc.SGD(0.1)), net.parameters.size // widths[0]
    state, T = trainer.freeze(N), np.ones((N, widths[1]))
    loss = trainer.step(net.parameters.reshape(N, -1), T)
    assert jit.train_step(state, state.policy.parameters.reshape(N, -1), T) == loss
    assert np.array_equal(state.policy.parameters, net.parameters)


def test_a_state_can_be_pickled(dtype, rng):
    trainer, X, T = nbfc.Trainer(samples.network([4, 5, 2], dtype=dtype), "mse", "adam"), *rng.random((2, 9, 4))
    state = trainer.freeze()
    again = pickle.loads(pickle.dumps(state))
    assert again.work.size == state.work.size
    assert (
        again.work.ctypes.data % 64 == again.moments.ctypes.data % 64 == again.policy.parameters.ctypes.data % 64 == 0
    )
    for _ in range(2):
        assert jit.train_step(again, X, T[:, :2]) == jit.train_step(state, X, T[:, :2])
    assert np.array_equal(again.policy.parameters, state.policy.parameters)


@njit
def by_argument(policy, x, t, loss):
    return jit.loss_gradient(policy, x, t, numba.literally(loss))[0]


def test_a_loss_may_be_named_by_an_argument(rng):
    net, X, T = samples.network([4, 5, 2]), rng.random((9, 4)), rng.random((9, 2))
    for loss in ("mse", "binary_cross_entropy"):
        assert by_argument(net.freeze(), X, T, loss) == net.loss_and_gradient(X, T, loss)[0]


def test_a_diverging_step_is_not_taken(dtype, rng):
    net = samples.network([4, 5, 2], dtype=dtype)
    state, X = nbfc.Trainer(net, "mse", nbfc.SGD(1e38 if dtype == "float32" else 1e308)).freeze(), np.ones((3, 4))
    with pytest.raises(nbfc.DivergenceError, match="NaN or infinite, so the step was not taken"):
        train(state, X, np.full((3, 2), 1e9), 3, 9)
    assert np.isfinite(state.policy.parameters).all()
    parameters = state.policy.parameters.copy()
    with pytest.raises(nbfc.DivergenceError):
        jit.train_step(state, X * np.nan, X[:, :2])
    assert np.array_equal(state.policy.parameters, parameters)


# ---- decisions ------------------------------------------------------------------------------------------------------


def test_decisions_from_logits(dtype, rng):
    for _ in range(20):
        logits = rng.standard_normal(7).astype(dtype) * 5
        e = np.exp(logits.astype(float) - logits.max())
        p = jit.softmax(logits)
        assert p.dtype == dtype
        np.testing.assert_allclose(p, e / e.sum(), rtol=10 * np.finfo(dtype).eps)
        assert jit.argmax(logits) == np.argmax(logits)
        edges = np.cumsum(e / e.sum())
        for u in (0.0, *rng.random(20), 1 - 2**-53):
            assert jit.sample(logits, u) == min(6, np.searchsorted(edges, u, side="right"))
    assert jit.argmax(np.array([1, np.nan, 3], dtype)) == 1
    assert np.array_equal(jit.softmax(np.array([1e38, -1e38], dtype)), [1, 0])
    assert {jit.sample(np.array([-np.inf, 0, -np.inf], dtype), u) for u in rng.random(9)} == {1}


@njit(fastmath=True)
def quickly(logits):
    return jit.argmax(logits), jit.softmax(logits)


def test_the_fast_mathematics_of_a_function_are_not_those_of_what_it_calls(dtype):
    j, p = quickly(np.array([1, np.nan, 3], dtype))
    assert j == 1
    assert np.isnan(p).all()


@pytest.mark.parametrize("u", [-0.1, 1.0, np.nan])
def test_a_number_that_is_not_uniform(u):
    with pytest.raises(ValueError, match=r"u is no number in \[0, 1\)"):
        jit.sample(np.zeros(3), u)


@pytest.mark.parametrize("logits", [[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf]])
def test_logits_without_a_choice(logits):
    with pytest.raises(ValueError, match="NaN or infinity"):
        jit.sample(np.array(logits), 0.5)
    with pytest.raises(ValueError, match="empty"):
        jit.argmax(np.empty(0))
