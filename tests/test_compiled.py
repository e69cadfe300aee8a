"""Networks inside compiled code: values and steps to the bit, derivatives, errors, users' functions on disk."""

import pickle

import naive
import numpy as np
import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from numba import njit, prange
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

import nbfc
from nbfc import jit

ACTIVATIONS = tuple(naive.ACTIVATIONS)
WIDTHS = st.lists(st.integers(1, 40), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**32)


def network(widths, activation="tanh", output="identity", dtype="float64", seed=0, standardized=False):
    """Return a network with biases, and with inputs that are standardised if so said."""
    net, rng = nbfc.MLP(widths, activation, output, dtype, seed), np.random.default_rng(seed)
    for b in net.biases:
        b[:] = rng.standard_normal(b.shape) / 4
    if standardized:
        net.standardize_inputs(rng.standard_normal((20, widths[0])) * 3 + 1)
    return net


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
        net = network(widths, activation, output, dtype, seed, standardized)
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
    net = network(widths, dtype=dtype)
    policy, X = net.freeze(), rng.standard_normal((700, widths[0])).astype(dtype)
    Y, scratch = np.empty((700, 3), dtype), jit.scratch(policy, rows)
    jit.predict_into(policy, X, Y, scratch)
    assert np.array_equal(Y, net.predict(X))
    assert np.array_equal(predict_on_threads(policy, X), Y)


def test_samples_of_every_layout(dtype, rng):
    net = network([6, 9, 3], dtype=dtype)
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


@pytest.mark.parametrize("widths", [[5, 5], [5, 8, 5]])
def test_a_result_may_take_the_place_of_the_samples(widths, dtype, rng):
    net = network(widths, dtype=dtype)
    policy, X = net.freeze(), rng.standard_normal((6, 5)).astype(dtype)
    expected = net.predict(X)
    for given_ in (X.copy(), X[0].copy()):
        jit.predict_into(policy, given_, given_, jit.scratch(policy, 6))
        assert np.array_equal(given_, expected if given_.ndim == 2 else expected[0])


def test_a_policy_is_a_copy_that_can_be_pickled_and_given_other_parameters(dtype, rng):
    net = network([4, 9, 3], dtype=dtype, standardized=True)
    X = rng.standard_normal((5, 4))
    policy, before = net.freeze(), net.predict(X)
    net.parameters *= 2
    assert np.array_equal(predicted(policy, X), before)
    again = pickle.loads(pickle.dumps(policy))
    assert np.array_equal(predicted(again, X), before)
    assert again.parameters.ctypes.data % 64 == policy.parameters.ctypes.data % 64 == 0
    other = jit.Policy(policy.layers, net.parameters.copy(), policy.mean, policy.deviation)
    assert np.array_equal(predicted(other, X), net.predict(X))


def test_another_architecture_compiles_nothing(dtype, rng):
    @njit
    def user(policy, x):
        return jit.predict(policy, x).sum()

    for widths, activation in (([4, 9, 3], "relu"), ([4, 2], "tanh"), ([4, 5, 6, 7, 8], "sigmoid")):
        user(network(widths, activation, dtype=dtype, standardized=widths == [4, 2]).freeze(), np.zeros(4, dtype))
    assert len(user.signatures) == 1


@pytest.fixture
def allocations():
    """Return a function that returns how many blocks compiled code has allocated so far."""
    enabled = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    yield lambda: rtsys.get_allocation_stats().alloc
    if not enabled:
        _nrt_python.memsys_disable_stats()


def test_a_loop_of_predictions_allocates_nothing_and_counts_no_references(dtype, allocations):
    policy = network([8, 64, 64, 4], dtype=dtype).freeze()
    x, y, scratch = np.zeros(8, dtype), np.zeros(4, dtype), jit.scratch(policy)
    counts = []
    for times in (1, 1, 1000):  # a call from Python allocates for its arguments
        before = allocations()
        predict_often(policy, x, y, scratch, times)
        counts.append(allocations() - before)
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
    net, rng = network(widths, activation, output, "float64", seed, standardized), np.random.default_rng(seed)
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
    net = network([7, 40, 30, 3], "relu", standardized=True)
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


def test_more_samples_than_a_block(dtype, rng):
    net = network([5, 30, 3], dtype=dtype)
    policy, X, W = net.freeze(), rng.standard_normal((600, 5)), rng.standard_normal((600, 3))
    back = jit.vjp(policy, X, W)[1]
    assert all(np.array_equal(back[i], jit.vjp(policy, X[i], W[i])[1]) for i in (0, 255, 256, 599))


# ---- losses and training --------------------------------------------------------------------------------------------


@njit
def gradients(policy, x, t):
    return jit.loss_gradient(policy, x, t, "mse")


@pytest.mark.parametrize("case", samples.LOSSES)
@pytest.mark.parametrize("N", [1, 7, 300])
def test_loss_gradients_are_those_of_the_network_to_the_bit(case, N, dtype, rng):
    net = network([6, 30, 3], dtype=dtype, standardized=True)
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


def test_targets_of_one_output_may_be_a_vector_or_a_number(dtype, rng):
    net = network([4, 5, 1], dtype=dtype)
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
    net = network([6, 30, 3], dtype=dtype, standardized=True)
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


def test_a_compiled_learning_rate_is_that_of_the_trainer(dtype, rng):
    net = network([4, 5, 2], dtype=dtype)
    trainer, X = nbfc.Trainer(net, "mse", "sgd"), rng.standard_normal((9, 4))
    state = trainer.freeze()
    state.rule[jit.LEARNING_RATE] = trainer.learning_rate = 0.3
    jit.train_step(state, X, X[:, :2])
    trainer.step(X, X[:, :2])
    assert np.array_equal(state.policy.parameters, net.parameters)


def test_steps_allocate_nothing(rng, allocations):
    state, X = nbfc.Trainer(network([4, 5, 2]), "mse", "adam").freeze(20), rng.standard_normal((20, 4))
    T = X[:, :2].copy()
    train(state, X, T, 20, 1)
    counts = []
    for steps in (1, 1, 100):
        before = allocations()
        train(state, X, T, 20, steps)
        counts.append(allocations() - before)
    assert counts[2] == counts[1] > 0


def test_a_diverging_step_is_not_taken(dtype, rng):
    net = network([4, 5, 2], dtype=dtype)
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


# ---- what is refused ------------------------------------------------------------------------------------------------

POLICY = network([4, 9, 3], dtype="float32").freeze()
X, Y = np.zeros((5, 4), np.float32), np.zeros((5, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jit.predict(POLICY, X[:, :3]), "x has another number of columns"),
        (lambda: jit.predict(POLICY, np.zeros(5)), "x has another number of columns"),
        (lambda: jit.predict_into(POLICY, X, Y[:4], jit.scratch(POLICY)), "result has another shape"),
        (lambda: jit.predict_into(POLICY, X[0], X[0], jit.scratch(POLICY)), "result has another shape"),
        (lambda: jit.predict_into(POLICY, X, Y, np.zeros(3, np.float32)), "scratch is too small"),
        (lambda: jit.predict(POLICY._replace(parameters=np.zeros(3, np.float32)), X), "do not belong together"),
        (lambda: jit.predict(POLICY._replace(mean=np.zeros(4)), X), "do not belong together"),
        (lambda: jit.predict(POLICY._replace(mean=np.zeros(3), deviation=np.ones(3)), X), "do not belong together"),
        (
            lambda: jit.predict_into(POLICY._replace(layers=POLICY.layers[:0]), X, Y, np.zeros(99, np.float32)),
            "do not belong together",
        ),
        (lambda: jit.jacobian(POLICY, X[:, :3]), "x has another number of columns"),
        (lambda: jit.vjp(POLICY, X, X), "v, w or t has another shape"),
        (lambda: jit.jvp(POLICY, X, Y), "v, w or t has another shape"),
        (lambda: jit.hessian_vector(POLICY, X, Y[:4], X), "v, w or t has another shape"),
        (lambda: jit.loss_gradient(POLICY, X, X, "mse"), "v, w or t has another shape"),
        (lambda: jit.loss_gradient(POLICY, X[:0], Y[:0], "mse"), "x has no rows"),
        (lambda: jit.loss_gradient(POLICY, X, np.arange(5), "cross_entropy"), "label lies outside"),
        (lambda: jit.loss_gradient(POLICY, X[0], -1, "cross_entropy"), "label lies outside"),
        (lambda: jit.loss_gradient(POLICY, X, np.zeros(5, int), "mse"), "label lies outside"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "cross_entropy"), "outside what the loss takes"),
        (lambda: jit.loss_gradient(POLICY, X, Y + 2, "binary_cross_entropy"), "outside what the loss takes"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "rmse"), "loss is 'rmse'"),
    ],
)
def test_wrong_values_are_refused_in_compiled_code(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@njit
def by_name(policy, x, t, loss):
    return jit.loss_gradient(policy, x, t, loss)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predicted(POLICY, np.zeros(4, int)), r"x is array\(int64.*such as x.astype\(np.float32\)"),
        (lambda: predicted(POLICY, np.zeros((1, 1, 4))), "x is array"),
        (lambda: predicted((1, 2), X), r"policy is UniTuple.*expected what net.freeze\(\) returns"),
        (lambda: predicted(POLICY._replace(layers=np.zeros((2, 6))), X), "policy is Policy"),
        (lambda: predict_often(POLICY, X[0], np.zeros(3), np.zeros(99, np.float32), 1), "y is array.*float32"),
        (lambda: predict_often(POLICY, X[0], Y, np.zeros(99, np.float32), 1), "y is array.*float32"),
        (lambda: predict_often(POLICY, X[0], Y[0, ::2], np.zeros(99, np.float32), 1), "y is array.*C-contiguous"),
        (lambda: predict_often(POLICY, X[0], Y[0], np.zeros(99), 1), "scratch is array"),
        (lambda: jit.vjp(POLICY, X, Y[0]), "v has 1 axes and x has 2"),
        (lambda: by_name(POLICY, X, Y, "mse"), "loss is unicode_type.*numba.literally"),
        (lambda: gradients(POLICY, X, np.zeros(5, np.int32)), "targets are array.*int64 labels"),
        (lambda: train(POLICY, X, Y, 5, 1), r"state is Policy.*expected what trainer.freeze\(\) returns"),
        (lambda: jit.argmax(Y), "logits are array"),
    ],
)
def test_wrong_types_are_refused_where_functions_are_compiled(call, message):
    with pytest.raises(TypingError, match=f"(?s){message}"):
        call()


def test_trainers_refuse_what_is_no_state_of_theirs():
    trainer = nbfc.Trainer(network([4, 9, 3]), "mse", "adam")
    with pytest.raises(TypeError, match="state is a tuple"):
        trainer.restore((1, 2))
    with pytest.raises(ValueError, match=r"state.moments has shape \(1, 75\): expected \(3, 75\)"):
        trainer.restore(nbfc.Trainer(network([4, 9, 3]), "mse", "sgd").freeze())
    with pytest.raises(ValueError, match="batch_size is 0"):
        trainer.freeze(0)
    with pytest.raises(ValueError, match=r"noise_multiplier is 1\.0: expected 0"):
        nbfc.Trainer(network([4, 9, 3]), "mse", "adam", clip_per_sample=1.0, noise_multiplier=1.0).freeze()


# ---- users' functions on disk ---------------------------------------------------------------------------------------

USER = """
import numpy as np, nbfc, sys
from numba import njit, prange
from pathlib import Path
FOLDER = {folder!r}
Path(FOLDER, "user.py").write_text('''
import numpy as np, nbfc
from numba import njit, prange

@njit(cache=True)
def one(policy, x):
    return nbfc.jit.predict(policy, x)

@njit(cache=True, parallel=True)
def many(policy, X):
    sums = np.empty(len(X))
    for i in prange(len(X)):
        y = np.empty(3)
        nbfc.jit.predict_into(policy, X[i], y, nbfc.jit.scratch(policy))
        sums[i] = y.sum() + nbfc.jit.jacobian(policy, X[i]).sum()
    return sums
''') if not Path(FOLDER, "user.py").exists() else None
sys.path.insert(0, FOLDER)
import user
net = nbfc.MLP([4, 9, 3], dtype="float64", seed=0)
policy, X = net.freeze(), np.random.default_rng(0).random((50, 4))
assert np.array_equal(user.one(policy, X[0]), net.predict(X)[0])
np.testing.assert_allclose(user.many(policy, X), net.predict(X).sum(1) + net.jacobian(X).sum((1, 2)))
print(*("loaded" if f.stats.cache_hits else "compiled" for f in (user.one, user.many)))
"""


def test_users_functions_are_kept_on_disk_and_compiled_anew_when_calls_change(python, tmp_path):
    import shutil
    from pathlib import Path

    copy = tmp_path / "copy"
    shutil.copytree(Path(nbfc.__file__).parent, copy / "nbfc", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"PYTHONPATH": str(copy), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    code = USER.format(folder=str(tmp_path))
    assert python(code, **environment).split() == ["compiled", "compiled"]
    assert python(code, **environment).split() == ["loaded", "loaded"]
    # Kernels that are no longer on disk, as in a new environment, are compiled before a thread calls them.
    shutil.rmtree(next((tmp_path / "cache").glob("kernels_*")))
    assert python(code, **environment).split() == ["loaded", "loaded"]
    # A version whose kernels take other arguments: what users compiled is no longer called.
    frozen = copy / "nbfc" / "kernels" / "frozen.py"
    frozen.write_text(frozen.read_text().replace("Block", "Piece"))
    assert python(code, **environment).split() == ["compiled", "compiled"]
    assert python(code, **environment).split() == ["loaded", "loaded"]
