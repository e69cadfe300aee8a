"""The data that come with the package."""

import numpy as np
import pytest

import nbfc


def test_digits_are_split_by_class_and_never_share_an_image():
    (X, y), (X_test, y_test) = nbfc.datasets.load_digits()
    assert (X.shape, y.shape, X_test.shape, y_test.shape) == ((1438, 64), (1438,), (359, 64), (359,))
    assert (X.dtype, y.dtype) == (np.float32, np.int64)
    assert (X.min(), X.max()) == (0, 16)
    share = np.bincount(y_test) / (np.bincount(y) + np.bincount(y_test))
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    assert len({x.tobytes() for x in X} | {x.tobytes() for x in X_test}) == 1797


def test_digits_are_those_that_scikit_learn_ships():
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    (X, y), (X_test, y_test) = nbfc.datasets.load_digits()
    ours = sorted(
        (*x, label) for x, label in zip(np.concatenate([X, X_test]), np.concatenate([y, y_test]), strict=True)
    )
    assert ours == sorted((*x, label) for x, label in zip(theirs.data, theirs.target, strict=True))
