"""Derivatives from Python: by inputs, sample by sample by the parameters, and steps on shortened gradients."""

import naive
import numpy as np
import pytest
import samples

import nbfc


def network(widths, activation="tanh", dtype="float64", standardized=False):
    net, rng = nbfc.MLP(widths, activation, dtype=dtype, seed=1), np.random.default_rng(1)
    for b in net.biases:
        b[:] = rng.standard_normal(b.shape) / 4
    if standardized:
        net.standardize_inputs(rng.standard_normal((20, widths[0])) * 3 + 1)
    return net


# ---- by inputs (values: tests/test_compiled.py) ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [None, 1, 2, 3])
def test_threads_give_equal_bits(count, dtype, threads, rng):
    net = network([7, 40, 3], dtype=dtype, standardized=True)
    X, V, T = rng.standard_normal((600, 7)), rng.standard_normal((600, 3)), rng.standard_normal((600, 3))

    def everything():
        norms, G = net.per_sample_gradient_norms(X, T, "mse"), net.per_sample_gradients(X, T, "mse")
        return net.jacobian(X), net.input_gradient(X, V), norms, G

    threads(2)
    expected = everything()
    threads(min(count or 0, 2))
    for one, other in zip(everything(), expected, strict=True):
        assert np.array_equal(one, other)


def test_the_gradient_of_a_loss_by_inputs_is_a_difference_of_the_oracles(rng):
    net = network([4, 6, 3], standardized=True)
    X, labels = rng.standard_normal((5, 4)), np.array([0, 2, 1, 1, 0])

    def losses(X):
        Y = naive.predict(net.parameters, net.widths, net.activations, (X - net.input_mean) / net.input_deviation)
        return naive.losses("cross_entropy", Y, labels)

    dX = net.input_gradient(X, nbfc.losses.per_sample("cross_entropy", net.predict(X), labels)[1])
    for k, e in enumerate(np.eye(4) * 1e-5):
        np.testing.assert_allclose(dX[:, k], (losses(X + e) - losses(X - e)) / 2e-5, rtol=1e-6, atol=1e-9)


def test_one_output_needs_no_direction(dtype, rng):
    net, X = network([4, 6, 1], dtype=dtype), rng.standard_normal((5, 4))
    assert np.array_equal(net.input_gradient(X), net.jacobian(X)[:, 0])
    assert net.input_gradient(X).dtype == dtype
    assert net.input_gradient(X[:0]).shape == (0, 4)
    assert net.jacobian(X[:0]).shape == (0, 1, 4)


def test_what_derivatives_refuse(rng):
    net, X = network([4, 6, 3]), rng.standard_normal((5, 4))
    with pytest.raises(ValueError, match="dY is left out, but the network has 3 outputs"):
        net.input_gradient(X)
    with pytest.raises(ValueError, match=r"dY has shape \(5, 4\): expected \(5, 3\)"):
        net.input_gradient(X, X)
    with pytest.raises(ValueError, match=r"X has shape \(5, 3\)"):
        net.jacobian(X[:, 1:])
    with pytest.raises(ValueError, match="X has no rows"):
        net.per_sample_gradients(X[:0], X[:0, :3], "mse")
    with pytest.raises(ValueError, match="loss is 'rmse'"):
        net.per_sample_gradient_norms(X, X[:, :3], "rmse")


# ---- by parameters, sample by sample --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", samples.LOSSES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_each_samples_gradient_is_that_of_a_batch_of_one(case, activation, dtype, rng):
    net = network([5, 30, 20, 3], activation, dtype, standardized=True)
    X = rng.standard_normal((300, 5))
    loss, T = samples.targets(case, 300, 3, rng)
    G = net.per_sample_gradients(X, T, loss)
    assert G.dtype == dtype
    close = 2e-5 if dtype == "float32" else 1e-13
    for i in (0, 1, 255, 256, 299):
        np.testing.assert_allclose(G[i], net.loss_and_gradient(X[i : i + 1], T[i : i + 1], loss)[1], atol=close)
    np.testing.assert_allclose(G.mean(axis=0), net.loss_and_gradient(X, T, loss)[1], atol=close)
    norms = net.per_sample_gradient_norms(X, T, loss)
    assert norms.dtype == np.float64
    np.testing.assert_allclose(norms, np.linalg.norm(G.astype(float), axis=1), rtol=close)


def test_norms_of_float32_gradients_whose_squares_would_overflow(rng):
    net, X = network([3, 2], dtype="float32"), np.full((2, 3), 1e15)
    T = np.full((2, 2), -1e22)
    norms = net.per_sample_gradient_norms(X, T, "mse")
    np.testing.assert_allclose(norms, np.linalg.norm(net.per_sample_gradients(X, T, "mse").astype(float), axis=1))
    assert norms[0] > 1e36


# ---- steps on shortened gradients -----------------------------------------------------------------------------------

# Pass 1 by columns of few rows and of more, by rows, on what one thread takes alone, and on parts of the batch.
BATCHES = [
    ([5, 40, 40, 3], 10),
    ([600, 70], 60),
    ([600, 40], 110),
    ([5, 300, 3], 50),
    ([5, 20, 3], 1000),
    ([5, 300, 3], 700),
]


@pytest.mark.parametrize(("widths", "N"), BATCHES)
@pytest.mark.parametrize("count", [None, 2])
def test_a_step_takes_the_mean_of_shortened_gradients(widths, N, count, threads, dtype, rng):
    net, X, T = network(widths, dtype=dtype), *(rng.standard_normal((N, widths[end])) for end in (0, -1))
    threads(2)
    loss, mean = net.loss_and_gradient(X, T, "mse")
    threads(count or 0)
    G = net.per_sample_gradients(X, T, "mse").astype(float)
    lengths = np.linalg.norm(G, axis=1)
    most = float(np.median(lengths))
    expected = (G * np.minimum(1, most / lengths)[:, None]).mean(axis=0)
    before = net.parameters.copy()
    trainer = nbfc.Trainer(net, "mse", nbfc.SGD(1.0), clip_per_sample=most)
    assert trainer.step(X, T) == loss
    close = 3e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(before - net.parameters, expected, atol=close)
    assert np.abs(expected - mean).max() > 100 * close


def test_noise_is_normal_of_the_stated_deviation_and_follows_the_seed(dtype, rng):
    net, X, T = network([30, 200, 3], dtype=dtype), rng.standard_normal((20, 30)), rng.standard_normal((20, 3))
    start, steps = net.parameters.copy(), {}
    for seed, noise in ((0, 0.0), (1, 1.5), (2, 1.5), (1.0, 1.5)):
        net.parameters = start
        trainer = nbfc.Trainer(net, "mse", nbfc.SGD(1.0), clip_per_sample=0.5, noise_multiplier=noise, seed=int(seed))
        trainer.step(X, T)
        assert trainer.steps == 1
        steps[seed] = start - net.parameters
    noise = (steps[1] - steps[0]) / (1.5 * 0.5 / 20)
    assert abs(noise.mean()) < 0.05
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert abs(np.mean(noise**4) - 3) < 0.3
    assert not np.array_equal(steps[1], steps[2])
    net.parameters = start
    nbfc.Trainer(net, "mse", nbfc.SGD(1.0), clip_per_sample=0.5, noise_multiplier=1.5, seed=1).step(X, T)
    assert np.array_equal(start - net.parameters, steps[1])


def test_a_noisy_step_that_overflows_is_not_taken(rng):
    net, X, T = network([4, 3], dtype="float32"), rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    before = net.parameters.copy()
    trainer = nbfc.Trainer(net, "mse", nbfc.SGD(3e38), clip_per_sample=1e3, noise_multiplier=1e5)
    with pytest.raises(nbfc.DivergenceError, match="a parameter would become NaN"):
        trainer.step(X, T)
    with pytest.raises(nbfc.DivergenceError, match="the loss is nan"):
        trainer.step(X * np.nan, T)
    assert np.array_equal(net.parameters, before)
    assert trainer.steps == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_per_sample": 0}, "clip_per_sample is 0"),
        ({"clip_per_sample": -1.0}, "clip_per_sample is -1"),
        ({"clip_per_sample": 1.0, "noise_multiplier": -1}, "noise_multiplier is -1"),
        ({"noise_multiplier": 1.0}, "noise_multiplier is 1.0 without clip_per_sample"),
    ],
)
def test_what_trainers_refuse(options, message):
    with pytest.raises(ValueError, match=message):
        nbfc.Trainer(network([4, 3]), "mse", "adam", **options)
