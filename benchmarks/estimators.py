"""Epochs of an estimator by nbfc and by scikit-learn: the same data, parameters and seed, and so the same losses."""

import warnings

import numpy as np

DATA = {
    "digits": "load_digits",
    "breast cancer": "load_breast_cancer",
    "diabetes": "load_diabetes",
    "synthetic": "make_classification",
}


def data(name):
    """Return X (N, m), standardised, and y: classes, or numbers for the diabetes."""
    from sklearn import datasets
    from sklearn.preprocessing import scale

    if name == "synthetic":
        X, y = datasets.make_classification(100_000, 50, n_informative=20, random_state=0)
    else:
        X, y = getattr(datasets, DATA[name])(return_X_y=True)
    return scale(X), scale(y) if name == "diabetes" else y


def epochs(module, name, dtype):
    """Return run(count), which fits for so many epochs, and check(), the first epoch's loss."""
    from sklearn.exceptions import ConvergenceWarning

    X, y = data(name)
    X = X.astype(dtype)
    make = module.MLPRegressor if name == "diabetes" else module.MLPClassifier

    def run(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return make(max_iter=count, n_iter_no_change=np.inf, random_state=0).fit(X, y)

    return run, lambda: run(1).loss_
