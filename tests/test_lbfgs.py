"""L-BFGS: it ends where the gradient is nothing, and takes the weights and the penalty that steps take."""

import naive
import numpy as np
import pytest
import samples

import nbfc

pytest.importorskip("scipy")


def test_it_ends_where_the_gradient_is_nothing(rng):
    net, X, y = samples.network([3, 8, 2], "tanh"), rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    weights = rng.random(40)
    regularization = nbfc.Regularization(l2=0.01)
    result = nbfc.fit_lbfgs(
        net, X, y, loss="mse", sample_weight=7 * weights, regularization=regularization, max_iter=2000, tol=1e-8
    )
    assert result.success
    W = np.concatenate([layer.ravel() for layer in net.weights])
    each = naive.losses("mse", net.predict(X), y)
    assert result.fun == pytest.approx(np.average(each, weights=weights) + 0.005 * np.sum(W**2), rel=1e-9)
    before = net.parameters.copy()
    nbfc.Trainer(net, "mse", nbfc.SGD(1.0), regularization=regularization).step(X, y, weights / weights.mean())
    assert np.abs(net.parameters - before).max() < 1e-5


def test_classes_are_told_apart(dtype):
    (X, y), test = nbfc.datasets.load_digits()
    net = nbfc.MLP([64, 16, 10], dtype=dtype, seed=0)
    net.standardize_inputs(X)
    result = nbfc.fit_lbfgs(net, X, y, loss="cross_entropy", class_weight="balanced", max_iter=60)
    assert result.nit <= 60
    assert np.mean(net.predict(test[0]).argmax(axis=1) == test[1]) > 0.9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"regularization": nbfc.Regularization(l1=0.1)}, ValueError, "expected l2 alone"),
        ({"regularization": nbfc.Regularization(dropout=0.1)}, ValueError, "expected l2 alone"),
        ({"max_iter": 0}, ValueError, "max_iter is 0"),
        ({"tol": -1}, ValueError, "tol is -1"),
        ({"loss": "hinge"}, ValueError, "loss is 'hinge'"),
        ({"X": np.full((4, 3), np.nan)}, ValueError, "X"),
        ({"net": "net"}, TypeError, "net is 'net'"),
    ],
)
def test_what_it_refuses(options, error, message):
    net = nbfc.MLP([3, 2], seed=0)
    before = net.parameters.copy()
    given = {"net": net, "X": np.ones((4, 3)), "y": np.ones((4, 2)), "loss": "mse", **options}
    with pytest.raises(error, match=message):
        nbfc.fit_lbfgs(**given)
    assert np.array_equal(net.parameters, before)
