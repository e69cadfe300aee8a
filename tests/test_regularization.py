"""Weights of samples and classes, penalties, clipping, and bounds, against what they say of the plain gradient."""

import pickle

import numba
import numpy as np
import pytest
import samples

import nbfc
from nbfc import Regularization
from nbfc.kernels.dense import FEW_ROWS

SIZES = [7, 40, 700, 2050]  # by columns, in blocks of rows, as one thread alone does, in parts
ETA = 0.1


def batch(N, case, dtype, rng):
    net = samples.network([5, 33, 17, 3], "tanh", dtype=dtype)
    loss, y = samples.targets(case, N, 3, rng)
    return net, rng.standard_normal((N, 5)), y, loss


# ---- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("N", SIZES)
@pytest.mark.parametrize("case", [*samples.LOSSES, "huber"])
def test_weights_multiply_each_samples_loss_and_gradient(N, case, dtype, rng):
    net, X, y, loss = batch(N, case, dtype, rng)
    w = rng.random(N) * (rng.random(N) < 0.7)
    J, gradient = net.loss_and_gradient(X, y, loss, sample_weight=w)
    each, _ = nbfc.losses.per_sample(loss, net.predict(X), y)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(J, np.mean(w * each), rtol=100 * eps)
    expected = w @ net.per_sample_gradients(X, y, loss).astype(float) / N
    np.testing.assert_allclose(gradient, expected, atol=100 * eps * np.abs(expected).max())


@pytest.mark.parametrize("N", SIZES)
def test_a_weight_of_two_is_a_sample_that_comes_twice(N, rng):
    net, X, y, loss = batch(N, "mse", np.float64, rng)
    w = rng.integers(0, 3, N)
    J, gradient = net.loss_and_gradient(X, y, loss, sample_weight=w / w.mean())
    twice, of_twice = net.loss_and_gradient(X.repeat(w, axis=0), y.repeat(w, axis=0), loss)
    np.testing.assert_allclose(J, twice, rtol=1e-12)
    np.testing.assert_allclose(gradient, of_twice, atol=1e-14)


def test_weights_of_a_fit_are_in_proportion(dtype, rng):
    _, X, y, loss = batch(50, "cross_entropy of labels", dtype, rng)
    counts = np.bincount(y, minlength=3)
    balanced = 50 / (3 * counts)

    def fitted(**weights):
        net = samples.network([5, 9, 3], dtype=dtype)
        history = nbfc.fit(net, X, y, loss=loss, optimizer="adam", epochs=3, batch_size=16, seed=0, **weights)
        return [record.loss for record in history], net.parameters.tobytes()

    assert fitted(sample_weight=np.full(50, 7.0)) == fitted()
    some = fitted(sample_weight=balanced[y])
    assert some == fitted(sample_weight=4 * balanced[y]) != fitted()
    assert some == fitted(class_weight="balanced") == fitted(class_weight=dict(enumerate(balanced)))
    assert fitted(class_weight={0: 2}) == fitted(sample_weight=1 + (y == 0)) == fitted(class_weight={np.int64(0): 2.0})
    assert fitted(class_weight={True: 2}) == fitted(class_weight={1: 2}) != fitted()
    assert fitted(sample_weight=np.full(50, 1e308)) == fitted()
    half = rng.random(50)
    assert fitted(sample_weight=half, class_weight={1: 3}) == fitted(sample_weight=half * (1 + 2 * (y == 1)))


def test_steps_with_weights_are_those_of_a_fit(rng):
    net, X, y, loss = batch(40, "mse", np.float32, rng)
    other, w = samples.network([5, 33, 17, 3], "tanh", dtype="float32"), rng.random(40)
    w /= w.mean()
    nbfc.fit(net, X, y, loss=loss, optimizer="adam", epochs=2, batch_size=16, seed=3, sample_weight=w)
    trainer, generator = nbfc.Trainer(other, loss, "adam"), np.random.default_rng(3)
    for _ in range(2):
        for rows in np.array_split(generator.permutation(40), [16, 32]):
            trainer.step(X[rows], y[rows], sample_weight=w[rows])
    np.testing.assert_allclose(net.parameters, other.parameters, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({"sample_weight": np.ones(5)}, ValueError, r"sample_weight has shape \(5,\): expected \(6,\)"),
        ({"sample_weight": [1, 1, -0.5, 1, 1, 1]}, ValueError, r"sample_weight\[2\] is -0.5: expected weights from 0"),
        ({"sample_weight": [1, 1, np.nan, 1, 1, 1]}, ValueError, r"sample_weight\[2\] is nan"),
        ({"sample_weight": ["a"] * 6}, TypeError, "sample_weight has dtype <U1: expected real numbers"),
        ({"sample_weight": np.zeros(6)}, ValueError, "all weights of the samples are zero"),
        ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "all weights of the samples are zero"),
        ({"class_weight": {3: 1}}, ValueError, "class_weight names the class 3: expected labels from 0 to 2"),
        ({"class_weight": {1.0: 1}}, ValueError, "class_weight names the class 1.0"),
        ({"class_weight": {"a": 1}}, ValueError, "class_weight names the class 'a'"),
        ({"class_weight": {1: -1}}, ValueError, r"class_weight\[1\] is -1: expected a finite number from 0"),
        ({"class_weight": {1: "2"}}, ValueError, r"class_weight\[1\] is '2'"),
        ({"class_weight": "equal"}, TypeError, "class_weight is 'equal': expected 'balanced', or a dict"),
    ],
)
def test_weights_that_are_none(weights, error, message, rng):
    net, X, y, loss = batch(6, "cross_entropy of labels", np.float32, rng)
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        nbfc.fit(net, X, y, loss=loss, optimizer="sgd", epochs=1, batch_size=6, **weights)
    assert np.array_equal(net.parameters, before)


def test_classes_have_weights_only_where_targets_are_labels(rng):
    net, X, y, _ = batch(6, "mse", np.float32, rng)
    with pytest.raises(ValueError, match="class_weight came for targets that are no labels"):
        nbfc.fit(net, X, y, loss="mse", optimizer="sgd", epochs=1, batch_size=6, class_weight="balanced")


# ---- penalties, clipping and bounds ----------------------------------------------------------------------------------


def expected_step(net, X, y, loss, l1=0.0, l2=0.0, max_norm=np.inf, clip_norm=np.inf, clip_value=np.inf):
    """Return the parameters after a step of SGD, by float64 from the plain gradient."""
    is_weight = np.zeros(net.parameters.size, bool)
    at = 0
    for W, b in zip(net.weights, net.biases, strict=True):
        is_weight[at : at + W.size] = True
        at += W.size + b.size
    theta = net.parameters.astype(float)
    gradient = net.loss_and_gradient(X, y, loss)[1].astype(float)
    gradient += is_weight * (l1 * np.sign(theta) + l2 * theta)
    gradient = np.clip(gradient, -clip_value, clip_value)
    gradient *= min(1, clip_norm / np.linalg.norm(gradient))
    theta -= ETA * gradient
    at = 0
    for W, b in zip(net.weights, net.biases, strict=True):
        columns = theta[at : at + W.size].reshape(W.shape)
        columns *= np.minimum(1, max_norm / np.linalg.norm(columns, axis=0))
        at += W.size + b.size
    return theta


OPTIONS = [
    {"l1": 0.01},
    {"l2": 0.3},
    {"max_norm": 0.8},
    {"clip_norm": 0.05},
    {"clip_norm": 1e6},
    {"clip_value": 0.003},
    {"l1": 0.02, "l2": 0.1, "max_norm": 1.0, "clip_norm": 0.1, "clip_value": 0.01},
]


def trainer_with(net, loss, l1=0.0, l2=0.0, max_norm=None, make=nbfc.SGD, **clips):
    return nbfc.Trainer(net, loss, make(ETA, **clips), regularization=Regularization(l1, l2, max_norm))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("N", SIZES)
def test_a_step_is_what_the_options_say(options, N, dtype, rng):
    net, X, y, loss = batch(N, "mse", dtype, rng)
    plain, expected = net.loss_and_gradient(X, y, loss)[0], expected_step(net, X, y, loss, **options)
    assert trainer_with(net, loss, **options).step(X, y) == plain
    np.testing.assert_allclose(net.parameters, expected, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("N", [40, 700])
def test_the_bits_are_those_of_any_number_of_threads(N, dtype, rng, threads):
    bits = set()
    for count in (1, 2, min(5, numba.config.NUMBA_NUM_THREADS)):
        threads(count)
        net = samples.network([5, 200, 170, 3], "tanh", dtype=dtype)
        X = np.random.default_rng(0).standard_normal((N, 5))
        trainer = trainer_with(net, "mae", **OPTIONS[-1], make=nbfc.Nadam)
        for _ in range(3):
            trainer.step(X, X[:, :3], sample_weight=X[:, 4] ** 2)
        bits.add(net.parameters.tobytes())
    assert len(bits) == 1


def test_a_diverging_step_with_all_of_it_is_not_taken(dtype, rng):
    net, X, y, loss = batch(40, "mse", dtype, rng)
    before, most = net.parameters.copy(), float(np.finfo(dtype).max)
    for optimizer in (nbfc.SGD(most), nbfc.SGD(most, clip_norm=1e4)):
        trainer = nbfc.Trainer(net, loss, optimizer, regularization=Regularization(l1=0.1, max_norm=1.0))
        with pytest.raises(nbfc.DivergenceError, match="a parameter would become NaN or infinite at step 1"):
            trainer.step(X, 1e3 * y)
        assert np.array_equal(net.parameters, before)


def test_options_that_are_none():
    for make, error, message in (
        (lambda: Regularization(l1=-1), ValueError, "l1 is -1: expected a finite number, at least 0"),
        (lambda: Regularization(l2="1"), TypeError, "l2 is '1': expected a number"),
        (lambda: Regularization(max_norm=0), ValueError, "max_norm is 0: expected a finite number, above 0"),
        (lambda: nbfc.Adam(clip_norm=0), ValueError, "clip_norm is 0: expected a finite number, above 0"),
        (lambda: nbfc.SGD(0.1, clip_value=-1), ValueError, "clip_value is -1"),
        (lambda: nbfc.RMSprop(rho=1), ValueError, "rho is 1"),
        (lambda: nbfc.Lion(weight_decay=-1), ValueError, "weight_decay is -1"),
        (
            lambda: nbfc.Trainer(nbfc.MLP([2, 1]), "mse", "sgd", regularization=0.1),
            TypeError,
            "regularization is 0.1: expected an nbfc.Reg",
        ),
        (
            lambda: nbfc.Trainer(
                nbfc.MLP([2, 1]), "mse", nbfc.SGD(0.1, clip_norm=1), clip_per_sample=1, noise_multiplier=1
            ),
            ValueError,
            "noise_multiplier comes with clip_norm or max_norm",
        ),
    ):
        with pytest.raises(error, match=message):
            make()
    assert repr(nbfc.Adam(clip_norm=2.0)) == (
        "Adam(learning_rate=0.001, clip_norm=2.0, beta1=0.9, beta2=0.999, epsilon=1e-08)"
    )


# ---- dropout --------------------------------------------------------------------------------------------------------


def dropping(net, loss, dropout, seed=0, rate=ETA):
    return nbfc.Trainer(net, loss, nbfc.SGD(rate), regularization=Regularization(dropout=dropout), seed=seed)


@pytest.mark.parametrize("N", SIZES)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "identity"])
def test_the_gradient_is_that_of_the_loss_with_what_was_dropped(N, activation, rng):
    """The first steps of trainers with one seed drop the same outputs, so that their losses make a difference."""
    net = samples.network([5, 33, 17, 3], activation)
    X, y = rng.standard_normal((N, 5)), rng.standard_normal((N, 3))
    theta, v = net.parameters.copy(), rng.standard_normal(net.parameters.size)

    def after(parameters):
        net.parameters = parameters
        return dropping(net, "mse", [0.5, 0.2]).step(X, y)

    h = 1e-6
    slope = (after(theta + h * v) - after(theta - h * v)) / (2 * h)
    after(theta)
    assert (theta - net.parameters) @ v / ETA == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_the_share_that_is_dropped(dtype):
    """An output layer of ones counts what is kept: J is (number kept / (1 − p))²."""
    net = nbfc.MLP([1, 5000, 1], "identity", dtype=dtype)
    kept = set()
    for p in (0.1, 0.5, 0.9):
        for seed in range(5):
            net.parameters[:] = 0
            net.biases[0][:], net.weights[1][:] = 1, 1
            trainer = dropping(net, "mse", p, seed, rate=0.0)
            counts = [np.sqrt(trainer.step([[0.0]], [[0.0]])) * (1 - p) for _ in range(3)]
            np.testing.assert_allclose(counts, 5000 * (1 - p), atol=4.5 * np.sqrt(5000 * p * (1 - p)))
            kept |= {round(count) for count in counts}
    assert len(kept) > 30  # seeds and steps differ


@pytest.mark.parametrize("N", [1, 20, 40, 700])
def test_what_is_dropped_is_the_same_for_any_number_of_threads(N, dtype, rng, threads):
    X, y = rng.standard_normal((N, 5)), rng.integers(0, 3, N)
    bits = set()
    for count in (1, 2, 3):
        threads(min(count, numba.config.NUMBA_NUM_THREADS))
        net = samples.network([5, 600, 530, 3], "tanh", dtype=dtype)
        trainer = dropping(net, "cross_entropy", 0.4)
        for _ in range(3):
            trainer.step(X, y)
        bits.add(net.parameters.tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("N", [5, FEW_ROWS - 1])
def test_few_samples_drop_what_the_first_of_many_do(N, activation, dtype, rng, threads):
    """Few samples go another way, where a sum over many inputs is cut. The others of many do not count here."""
    threads(2)
    X, y, steps = rng.standard_normal((FEW_ROWS, 200)), rng.standard_normal((FEW_ROWS, 3)), []
    counts = np.where(np.arange(FEW_ROWS) < N, FEW_ROWS / N, 0.0)
    for rows, weights in ((slice(N), None), (slice(None), counts)):
        net = samples.network([200, 300, 280, 3], activation, dtype=dtype)
        before, trainer = net.parameters.copy(), dropping(net, "mse", 0.4)
        loss = trainer.step(X[rows], y[rows], sample_weight=weights)
        steps.append((loss, net.parameters - before))
    error = 300 * float(np.finfo(dtype).eps)
    assert steps[0][0] == pytest.approx(steps[1][0], rel=error)
    expected = steps[1][1]
    assert np.abs(steps[0][1] - expected).max() <= error * max(np.abs(expected).max(), np.abs(before).max())


def test_dropout_is_for_training_alone(dtype, rng):
    net, X, y, loss = batch(50, "cross_entropy of labels", dtype, rng)
    before, losses = net.loss_and_gradient(X, y, loss), []
    for seed in (0, 0, 1):
        other = samples.network([5, 33, 17, 3], "tanh", dtype=dtype)
        regularization = Regularization(dropout=0.5)
        history = nbfc.fit(
            other, X, y, loss=loss, optimizer="sgd", epochs=2, batch_size=20, regularization=regularization, seed=seed
        )
        losses.append([record.loss for record in history])
    assert losses[0] == losses[1] != losses[2]
    trainer = dropping(net, loss, 0.5, rate=0.0)
    assert trainer.step(X, y) != trainer.step(X, y) != before[0]
    assert net.loss_and_gradient(X, y, loss)[0] == before[0]
    assert dropping(net, loss, 0.0, rate=0.0).step(X, y) == before[0]
    assert Regularization(dropout=[0.5, 0.25]) == Regularization(dropout=np.array([0.5, 0.25]))


def test_compiled_steps_drop_the_same(dtype, rng):
    net, X, y, loss = batch(50, "mse", dtype, rng)
    trainer = dropping(net, loss, [0.5, 0.0])
    state = pickle.loads(pickle.dumps(trainer.freeze()))
    for _ in range(4):
        assert nbfc.jit.train_step(state, X, y) == trainer.step(X, y)
    assert np.array_equal(state.policy.parameters, net.parameters)
    assert np.array_equal(nbfc.jit.predict(state.policy, X), net.predict(X))
    other = dropping(samples.network([5, 33, 17, 3], "tanh", dtype=dtype), loss, [0.5, 0.0], seed=5)
    other.restore(state)
    assert other.step(X, y) == trainer.step(X, y)
    with pytest.raises(ValueError, match="another network or dropout"):
        dropping(net, loss, 0.5).restore(state)


@pytest.mark.parametrize(
    ("dropout", "error", "message"),
    [
        (1.0, ValueError, "dropout is 1.0: expected a finite number, at least 0 and below 1"),
        ([0.1, -0.1], ValueError, "dropout is -0.1"),
        ("0.1", TypeError, "dropout is '0.1'"),
        ([0.1], ValueError, "dropout has 1 numbers: expected one for each of 2 hidden layers"),
    ],
)
def test_dropout_that_is_none(dropout, error, message):
    with pytest.raises(error, match=message):
        dropping(nbfc.MLP([2, 3, 3, 1]), "mse", dropout)
