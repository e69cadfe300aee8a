"""Layers that go over whole rows, normalisation and softmax: values, gradients, and networks that have them."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import samples

import nbfc

SHAPES = ([3, 1, 2], [5, 7, 9, 4], [40, 600, 500, 3], [6, 20, 5])
ACTIVATIONS = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "softplus": lambda z: np.logaddexp(z, 0)}


def softmax(Z):
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def oracle(net, X, output=True):
    """Return the outputs, or logits, in plain NumPy and float64."""
    Y = np.asarray(X, float)
    for layer, (W, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        Y = Y @ W.astype(float) + b
        if layer + 1 == len(net.weights):
            break
        if net.layer_norm:
            Y = (Y - Y.mean(axis=1, keepdims=True)) / np.sqrt(Y.var(axis=1, keepdims=True) + 1e-5)
            Y = net.gains[layer] * Y + net.shifts[layer]
        Y = ACTIVATIONS[net.activations[layer]](Y)
    return softmax(Y) if output and net.activations[-1] == "softmax" else Y


def loss_of_oracle(net, X, y, loss):
    if loss == "mse":
        return np.mean((oracle(net, X) - y) ** 2)
    return -np.mean(np.log(softmax(oracle(net, X, output=False)))[np.arange(len(y)), y])


def network(widths, activation="tanh", output="identity", dtype="float64", layer_norm=True, seed=0):
    """Return a network whose biases, gains and shifts are not as they begin."""
    net = nbfc.MLP(widths, activation, output, dtype, seed, layer_norm=layer_norm)
    net.parameters += np.random.default_rng(seed).standard_normal(net.parameters.size) / 10
    return net


def targets(net, N, loss, rng):
    n = net.widths[-1]
    return rng.integers(0, n, N) if loss == "cross_entropy" else rng.standard_normal((N, n))


KINDS = [(True, "identity"), (False, "softmax"), (True, "softmax")]


@pytest.mark.parametrize(("layer_norm", "output"), KINDS)
@pytest.mark.parametrize("widths", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_are_the_oracles(widths, activation, layer_norm, output, dtype, rng):
    net = network(widths, activation, output, dtype, layer_norm)
    policy = net.freeze()
    for N in (1, 5, 40, 700):
        X = rng.standard_normal((N, widths[0])).astype(dtype)
        Y = net.predict(X)
        np.testing.assert_allclose(
            Y, oracle(net, X), rtol=1e-4 if dtype == "f" else 1e-10, atol=200 * np.finfo(dtype).eps
        )
        assert np.array_equal(net.predict(X[:1]), Y[:1])
        assert np.array_equal(nbfc.jit.predict(policy, X), Y)
        assert np.array_equal(nbfc.jit.predict(policy, X[0]), Y[0])


@pytest.mark.parametrize(("layer_norm", "output"), KINDS)
@pytest.mark.parametrize("widths", SHAPES, ids=str)
@pytest.mark.parametrize(("activation", "loss"), [*itertools.product(("tanh", "softplus"), ("mse", "cross_entropy"))])
def test_gradients_are_differences_of_the_oracle(widths, activation, loss, layer_norm, output, rng):
    net = network(widths, activation, output, layer_norm=layer_norm)
    policy, theta, h = net.freeze(), net.parameters.copy(), 1e-6
    many = 1000 if widths[0] == 40 else 10_000  # in parts, but where parameters are fewest
    for N in (1, 5, 40, 300, many):
        X, v = rng.standard_normal((N, widths[0])), rng.standard_normal(theta.size)
        y, values = targets(net, N, loss, rng), []
        J, gradient = net.loss_and_gradient(X, y, loss)
        for shift in (h, -h):
            net.parameters = theta + shift * v
            values.append(loss_of_oracle(net, X, y, loss))
        net.parameters = theta
        assert pytest.approx(loss_of_oracle(net, X, y, loss), rel=1e-9) == J
        assert gradient @ v == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-7)
        value, compiled = nbfc.jit.loss_gradient(policy, X, y, loss)
        assert value == J
        assert np.array_equal(compiled, gradient)
    each = net.per_sample_gradients(X[:9], y[:9], loss)
    np.testing.assert_allclose(each.mean(axis=0), net.loss_and_gradient(X[:9], y[:9], loss)[1], atol=1e-12)
    norms = net.per_sample_gradient_norms(X[:9], y[:9], loss)
    np.testing.assert_allclose(norms, np.linalg.norm(each, axis=1), rtol=1e-10)


@pytest.mark.parametrize(("layer_norm", "output"), KINDS)
@pytest.mark.parametrize("widths", [*SHAPES, [3, 9, 6]], ids=str)
def test_derivatives_by_inputs_are_differences_of_the_oracle(widths, layer_norm, output, rng):
    net = network(widths, "softplus", output, layer_norm=layer_norm)
    x, U, h = rng.standard_normal((4, widths[0])), rng.standard_normal((4, widths[-1])), 1e-6
    V, policy = rng.standard_normal(x.shape), net.freeze()
    J = net.jacobian(x)
    along = (oracle(net, x + h * V) - oracle(net, x - h * V)) / (2 * h)
    np.testing.assert_allclose(np.einsum("njk,nk->nj", J, V), along, atol=1e-7)
    np.testing.assert_allclose(nbfc.jit.jvp(policy, x, V)[1], along, atol=1e-7)
    back = np.einsum("nj,njk->nk", U, J)
    np.testing.assert_allclose(net.input_gradient(x, U), back, atol=1e-12)
    np.testing.assert_allclose(nbfc.jit.vjp(policy, x, U)[1], back, atol=1e-12)
    np.testing.assert_allclose(nbfc.jit.jacobian(policy, x), J, atol=0)
    smooth = network(widths, "tanh", output, layer_norm=layer_norm).freeze()
    with pytest.raises(ValueError, match=r"hessian_vector came for an activation .* and no normalisation or softmax"):
        nbfc.jit.hessian_vector(smooth, x[0], np.ones(widths[-1]), x[0])


@pytest.mark.parametrize("widths", [[5, 600, 70, 3], [200, 2700, 3], [4, 32, 16, 4]], ids=str)
@pytest.mark.parametrize("size", [20, 100, 300])  # 100 of the second: threads share columns, and a normalisation's rows
def test_training_has_the_same_bits_on_any_number_of_threads_and_in_compiled_steps(widths, size, dtype, rng, threads):
    X, y = rng.standard_normal((300, widths[0])), rng.integers(0, widths[-1], 300)
    results = set()
    for count in (0, 1, 2):
        threads(count)
        net = network(widths, "gelu", "softmax", dtype)
        options = {"clip_per_sample": 2.0, "regularization": nbfc.Regularization(l2=0.1, dropout=0.2), "seed": 0}
        trainer = nbfc.Trainer(net, "cross_entropy", "adam", **options)
        state = pickle.loads(pickle.dumps(trainer.freeze(size)))
        for start in (0, 0, 300 - size):
            loss = trainer.step(X[start : start + size], y[start : start + size])
            assert nbfc.jit.train_step(state, X[start : start + size], y[start : start + size]) == loss
        assert np.array_equal(state.policy.parameters, net.parameters)
        trainer.restore(state)
        results.add((net.parameters.tobytes(), net.predict(X).tobytes()))
        assert all(np.array_equal(net.predict(X[:N]), net.predict(X)[:N]) for N in (20, 100))
        assert np.array_equal(nbfc.jit.predict(state.policy, X), net.predict(X))
    assert len(results) == 1


def test_penalties_and_bounds_are_for_weights_alone(rng):
    net = network([6, 30, 20, 3], layer_norm=True)
    X, y = rng.standard_normal((50, 6)), rng.standard_normal((50, 3))
    _, gradient = net.loss_and_gradient(X, y, "mse")
    before = net.parameters.copy()
    weights = np.concatenate(
        [
            np.r_[np.ones(W.size), np.zeros(b.size), np.zeros(2 * g)]
            for W, b, g in zip(net.weights, net.biases, (30, 20, 0), strict=True)
        ]
    )
    nbfc.Trainer(net, "mse", nbfc.SGD(0.1), regularization=nbfc.Regularization(l2=0.5)).step(X, y)
    np.testing.assert_allclose(net.parameters, before - 0.1 * (gradient + 0.5 * weights * before), rtol=1e-12)
    nbfc.Trainer(net, "mse", nbfc.SGD(0.0), regularization=nbfc.Regularization(max_norm=0.1)).step(X, y)
    assert all((np.linalg.norm(W, axis=0) <= 0.1 + 1e-12).all() for W in net.weights)
    np.testing.assert_array_equal(net.gains[0], (before - 0.1 * gradient)[6 * 30 + 30 :][:30])


def test_steps_with_weights_and_decay_are_those_of_the_gradient(rng):
    net = network([6, 30, 20, 3], "tanh", "softmax")
    X, y, w = rng.standard_normal((50, 6)), rng.integers(0, 3, 50), rng.random(50)
    theta, is_weight = net.parameters.copy(), net._is_weight()
    _, gradient = net.loss_and_gradient(X, y, "cross_entropy", sample_weight=w)
    each = net.per_sample_gradients(X, y, "cross_entropy")
    np.testing.assert_allclose(gradient, w @ each / 50, atol=1e-12)
    penalty = nbfc.Regularization(l1=0.3)
    trainer = copy.deepcopy(nbfc.Trainer(net, "cross_entropy", nbfc.SGD(0.1), regularization=penalty))
    trainer.step(X, y, w)
    expected = theta - 0.1 * (gradient + 0.3 * is_weight * np.sign(theta))
    np.testing.assert_allclose(trainer.net.parameters, expected, rtol=1e-12)
    assert np.array_equal(net.parameters, theta)
    nbfc.Trainer(net, "cross_entropy", nbfc.AdamW(0.1, weight_decay=0.5)).step(X, y, w)
    decayed = 0.95 * theta - 0.1 * gradient / (np.abs(gradient) + 1e-8)  # of gains and shifts, too
    np.testing.assert_allclose(net.parameters, decayed, rtol=1e-9, atol=1e-12)


def test_dropout_is_of_what_the_activation_gives(rng):
    net = network([6, 30, 20, 3], "tanh", layer_norm=True)
    X, y = rng.standard_normal((50, 6)), rng.standard_normal((50, 3))
    dropout = nbfc.Regularization(dropout=[0.5, 0.0])
    trainer = nbfc.Trainer(net, "mse", nbfc.SGD(0.1), regularization=dropout, seed=1)
    plain, _ = net.loss_and_gradient(X, y, "mse")
    assert trainer.step(X, y) != plain
    before = net.weights[1].copy()
    trainer.step(X[:1], y[:1])  # what is left out has no part in the next layer's gradient
    assert 5 < (net.weights[1] == before).all(axis=1).sum() < 25
    with pytest.raises(ValueError, match="dropout has 3 numbers: expected one for each of 2 hidden layers"):
        nbfc.Trainer(net, "mse", "sgd", regularization=nbfc.Regularization(dropout=[0.1, 0.2, 0.3]))


def test_normalised_layers_do_not_depend_on_the_scale_of_their_inputs(dtype, rng):
    net = nbfc.MLP([6, 30, 20, 3], dtype=dtype, seed=0, layer_norm=True)
    X = rng.standard_normal((50, 6))
    np.testing.assert_allclose(net.predict(1000 * X), net.predict(100 * X), rtol=1e-3, atol=1e-4)
    assert [gain.tolist() for gain in net.gains] == [[1.0] * 30, [1.0] * 20]
    assert not any(shift.any() for shift in net.shifts)


def test_cross_entropy_after_softmax_is_that_of_logits_to_the_bit(dtype, rng):
    X, y = rng.standard_normal((90, 6)), rng.integers(0, 3, 90)
    histories, nets = [], []
    for output in ("identity", "softmax"):
        net = nbfc.MLP([6, 30, 3], output_activation=output, dtype=dtype, seed=0)
        options = {"loss": nbfc.losses.CrossEntropy(0.1), "optimizer": "adam", "seed": 0, "metrics": ["accuracy"]}
        history = nbfc.fit(net, X, y, epochs=3, batch_size=32, validation=(X[:40], y[:40]), **options)
        histories.append([(epoch.loss, epoch.validation_loss, epoch.metrics) for epoch in history])
        nets.append(net)
    assert histories[0] == histories[1]
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    np.testing.assert_allclose(nets[1].predict(X), softmax(nets[0].predict(X)), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("N", [600, 1100])
def test_logits_of_many_rows_in_wide_layers(N, count, dtype, rng, threads):
    """Blocks of rows with panels of large weights, where the outputs are more than any hidden layer's."""
    threads(count)
    net, X = network([20, 700, 720], "relu", "softmax", dtype, layer_norm=False), rng.standard_normal((N, 20))
    y = rng.integers(0, 720, N)
    options = {"loss": "cross_entropy", "optimizer": "adam", "epochs": 1, "batch_size": 300, "seed": 0}
    history = nbfc.fit(net, X[:300], y[:300], validation=(X, y), metrics=["accuracy"], **options)
    assert history[-1].validation_loss == pytest.approx(loss_of_oracle(net, X, y, "cross_entropy"), rel=1e-4)
    assert history[-1].metrics["accuracy"] == np.mean(net.predict(X).argmax(axis=1) == y)


@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_lbfgs_minimises_with_a_penalty_for_weights_alone(l2, rng):
    net, X, y = network([4, 8, 3], output="softmax"), rng.standard_normal((60, 4)), rng.integers(0, 3, 60)

    def minimised():
        penalty = l2 / 2 * sum(float(np.sum(W**2)) for W in net.weights)
        return net.loss_and_gradient(X, y, "cross_entropy")[0] + penalty

    start = minimised()
    result = nbfc.fit_lbfgs(net, X, y, loss="cross_entropy", regularization=nbfc.Regularization(l2=l2), max_iter=50)
    assert result.fun == pytest.approx(minimised())
    assert result.fun < 0.9 * start


def test_lbfgs_that_is_interrupted_leaves_the_last_iteration(rng, monkeypatch):
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    reached, interrupted = network([4, 8, 3]), network([4, 8, 3])
    nbfc.fit_lbfgs(reached, X, y, loss="cross_entropy", max_iter=3)
    evaluate, tried = interrupted._loss_and_gradient, []

    def evaluate_until_done(*args):
        tried.append(interrupted.parameters.copy())
        if any(np.array_equal(parameters, reached.parameters) for parameters in tried[:-1]):
            raise KeyboardInterrupt
        return evaluate(*args)

    monkeypatch.setattr(interrupted, "_loss_and_gradient", evaluate_until_done)
    with pytest.raises(KeyboardInterrupt):
        nbfc.fit_lbfgs(interrupted, X, y, loss="cross_entropy")
    assert not np.array_equal(tried[-1], reached.parameters)
    assert np.array_equal(interrupted.parameters, reached.parameters)


def test_the_shell_prints_a_softmax_as_it_is(rng, tmp_path, python):
    net, X = network([4, 8, 3], "relu", "softmax"), rng.standard_normal((5, 4))
    net.class_names = ["a", "b", "c"]
    nbfc.save(net, tmp_path / "net.safetensors")
    np.savetxt(tmp_path / "rows.csv", X, delimiter=",", header="p,q,r,s", comments="")
    argv = ["python -m nbfc", "predict", "net.safetensors", "--data", "rows.csv"]
    printed = python(f"import sys, nbfc.__main__; sys.argv = {argv}; nbfc.__main__.main()").split()[1:]
    shares = [float(line.split(",")[1]) for line in printed]
    np.testing.assert_allclose(shares, net.predict(X).max(axis=1), atol=1e-5)


def test_metrics_of_ones_own_get_probabilities(rng):
    seen = []

    def metric(y, outputs):
        seen.append(outputs.copy())
        return 0.0

    net, X, y = (
        nbfc.MLP([4, 8, 3], output_activation="softmax", seed=0),
        rng.standard_normal((20, 4)),
        np.arange(20) % 3,
    )
    nbfc.fit(net, X, y, loss="cross_entropy", optimizer="adam", epochs=1, batch_size=20, metrics=[metric], seed=0)
    np.testing.assert_array_equal(seen[0], net.predict(X))


def test_confident_logits_lose_nothing(dtype):
    """Probabilities that are 0 or 1 in floating point have finite losses, as those of logits are taken."""
    net = nbfc.MLP([1, 2], output_activation="softmax", dtype=dtype, seed=0)
    net.parameters = [1000, -1000, 0, 0]
    assert net.predict([[1.0]]).tolist() == [[1, 0]]
    assert net.loss_and_gradient([[1.0]], [1], "cross_entropy")[0] == 2000


def test_a_softmax_of_what_is_not_finite_shows_it(dtype):
    net = nbfc.MLP([1, 2], output_activation="softmax", dtype=dtype, seed=0)
    for bad in (np.nan, np.inf):
        net.parameters = [bad, 1, 0, 0]
        assert np.isnan(net.predict([[1.0]])).any()


def test_they_are_kept_by_files_and_pickles(dtype, rng, tmp_path):
    net, X = network([6, 30, 20, 3], "gelu", "softmax", dtype), rng.standard_normal((9, 6))
    nbfc.save(net, tmp_path / "net.safetensors")
    for again in (nbfc.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net))):
        assert again.layer_norm
        assert np.array_equal(again.parameters, net.parameters)
        assert np.array_equal(again.predict(X), net.predict(X))
        again.gains[0] = np.zeros(30)
        assert not again.parameters[6 * 30 + 30 :][:30].any()
    assert repr(net).endswith(", layer_norm=True)")
    assert "2 × 30" in str(net)
    assert f"{net.parameters.size:,}" in str(net)


def test_the_first_layers_of_a_table_are_a_network(rng):
    """Whose last layer may be a product, or a normalisation with its activation."""
    net, x, h = network([6, 30, 3], "tanh", "softmax"), rng.standard_normal((4, 6)), 1e-6
    policy, Z = net.freeze(), x @ net.weights[0] + net.biases[0]
    logits = nbfc.jit.predict(policy._replace(layers=policy.layers[:-1]), x)
    np.testing.assert_allclose(logits, oracle(net, x, output=False), atol=1e-12)
    product = policy._replace(layers=policy.layers[:1], parameters=policy.parameters[: 7 * 30])
    np.testing.assert_allclose(nbfc.jit.predict(product, x), Z, atol=1e-12)
    hidden = policy._replace(layers=policy.layers[:2], parameters=policy.parameters[: 9 * 30])
    np.testing.assert_allclose(nbfc.jit.predict(hidden, x), oracle_of_hidden(net, x), atol=1e-12)
    J, v = nbfc.jit.jacobian(hidden, x), rng.standard_normal((4, 6))
    along = (oracle_of_hidden(net, x + h * v) - oracle_of_hidden(net, x - h * v)) / (2 * h)
    np.testing.assert_allclose(np.einsum("njk,nk->nj", J, v), along, atol=1e-7)
    narrow = network([40, 30, 3])  # where the Jacobian is made from the outputs' side
    policy, x = narrow.freeze(), rng.standard_normal((1, 40))
    hidden = policy._replace(layers=policy.layers[:2], parameters=policy.parameters[: 43 * 30])
    J = nbfc.jit.jacobian(hidden, x)
    np.testing.assert_allclose(J[0, 7], nbfc.jit.vjp(hidden, x, np.eye(30)[7:8])[1][0], atol=1e-12)


def oracle_of_hidden(net, X):
    """Return the first hidden layer's outputs."""
    first = nbfc.MLP([*net.widths[:2], net.widths[1]], net.activations[0], dtype="float64", layer_norm=True)
    first.parameters[: net.weights[0].size + 3 * net.widths[1]] = net.parameters[
        : net.weights[0].size + 3 * net.widths[1]
    ]
    first.weights[1], first.biases[1] = np.eye(net.widths[1]), np.zeros(net.widths[1])
    return oracle(first, X)


def test_they_are_called_in_other_processes(python, tmp_path, rng):
    net, X = network([6, 30, 3], "relu", "softmax", "float32"), rng.standard_normal((40, 6)).astype("f")
    (tmp_path / "data").write_bytes(pickle.dumps((net.freeze(), X, net.predict(X))))
    python(OTHER)


OTHER = """
import pickle
from pathlib import Path
import numpy as np, nbfc
policy, X, y = pickle.loads(Path("data").read_bytes())
assert np.array_equal(nbfc.jit.predict(policy, X), y)
"""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"activation": "softmax"}, ValueError, "activation is 'softmax': expected another one for hidden layers"),
        ({"activation": ["softmax", "relu"]}, ValueError, r"activation\[0\] is 'softmax'"),
        ({"output_activation": "softmin"}, ValueError, "output_activation is 'softmin': expected one of .*'softmax'"),
        ({"activation": "softmin"}, ValueError, "activation is 'softmin': expected one of .*'softplus'.$"),
        ({"layer_norm": 1}, TypeError, "layer_norm is 1: expected True or False"),
        ({"activation": ["relu", "relu", "softmax"]}, ValueError, "activation has 3 names: expected 1"),
        ({"widths": [4, 1], "output_activation": "softmax"}, ValueError, "for one output, which would always be 1"),
    ],
)
def test_what_networks_refuse(options, error, message):
    with pytest.raises(error, match=message):
        nbfc.MLP(**{"widths": [4, 8, 3], **options})


def test_a_loss_of_other_logits_warns_of_a_softmax():
    with pytest.warns(UserWarning, match="binary_cross_entropy takes logits, .* 'softmax'"):
        nbfc.Trainer(nbfc.MLP([4, 3], output_activation="softmax"), "binary_cross_entropy", "sgd")


def test_all_losses_take_a_softmax(dtype, rng):
    net = network([5, 9, 4], "tanh", "softmax", dtype)
    X = rng.standard_normal((7, 5))
    for loss in ("mse", "mae", "huber", "quantile"):
        name, y = samples.targets(loss, 7, 4, rng)
        J, _ = net.loss_and_gradient(X, y, name)
        values, _ = nbfc.losses.per_sample(name, net.predict(X), y)
        assert pytest.approx(values.mean(), rel=1e-5) == J
