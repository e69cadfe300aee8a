"""Metrics by name, against scikit-learn on probabilities and classes that are made apart."""

import sys

import numpy as np
import pytest

import nbfc

sklearn = pytest.importorskip("sklearn.metrics")


def measured(net, X, y, loss, names):
    history = nbfc.fit(net, X, y, loss=loss, optimizer=nbfc.SGD(0.0), epochs=1, batch_size=50, metrics=names)
    return [history[0].metrics[name] for name in names]


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("rows", [False, True])
def test_metrics_of_classes(n, rows, rng):
    net, X, labels = nbfc.MLP([3, n], dtype="float64", seed=0), rng.standard_normal((200, 3)), rng.integers(0, n, 200)
    y = np.eye(n)[labels] if rows else labels
    e = np.exp(net.predict(X))
    p, chosen = e / e.sum(axis=1, keepdims=True), e.argmax(axis=1)
    expected = [
        np.mean(chosen == labels),
        np.mean([np.mean(chosen[labels == c] == c) for c in range(n)]),
        sklearn.f1_score(labels, chosen, average="macro"),
        np.mean([sklearn.roc_auc_score(labels == c, p[:, c]) for c in range(n)]),
    ]
    got = measured(net, X, y, "cross_entropy", ["accuracy", "balanced_accuracy", "f1", "roc_auc"])
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 3])
def test_metrics_of_signs(n, rng):
    net, X, y = nbfc.MLP([3, n], dtype="float64", seed=0), rng.standard_normal((200, 3)), rng.integers(0, 2, (200, n))
    logits = net.predict(X)
    right = (logits > 0) == y
    expected = [
        right.mean(),
        np.mean([(right[y[:, j] == 1, j].mean() + right[y[:, j] == 0, j].mean()) / 2 for j in range(n)]),
        np.mean([sklearn.f1_score(y[:, j], logits[:, j] > 0) for j in range(n)]),
        np.mean([sklearn.roc_auc_score(y[:, j], logits[:, j]) for j in range(n)]),
    ]
    got = measured(net, X, y, "binary_cross_entropy", ["accuracy", "balanced_accuracy", "f1", "roc_auc"])
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 3])
def test_metrics_of_numbers(n, rng):
    net, X, y = nbfc.MLP([3, n], dtype="float64", seed=0), rng.standard_normal((200, 3)), rng.random((200, n))
    error = net.predict(X) - y
    expected = [
        np.mean(1 - (error**2).mean(axis=0) / y.var(axis=0)),
        np.abs(error).mean(),
        np.sqrt((error**2).mean(axis=0)).mean(),
    ]
    np.testing.assert_allclose(measured(net, X, y, "mse", ["r2", "mae", "rmse"]), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "loss", "message"),
    [
        ("accuracy", "mse", "metrics has 'accuracy' with the loss 'mse': expected a loss of classes"),
        ("r2", "cross_entropy", "metrics has 'r2' with the loss 'cross_entropy': expected a loss of numbers"),
        ("r3", "mse", "metric is 'r3': expected one of 'accuracy', 'balanced_accuracy'"),
    ],
)
def test_metrics_that_do_not_go_with_the_loss(name, loss, message):
    with pytest.raises(ValueError, match=message):
        measured(nbfc.MLP([1, 1]), [[1.0]], [[1.0]], loss, [name])


def test_what_scikit_learn_measures_needs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match="metrics has 'r2', which is scikit-learn's: pip install scikit-learn"):
        measured(nbfc.MLP([1, 1]), [[1.0]], [[1.0]], "mse", ["r2"])
