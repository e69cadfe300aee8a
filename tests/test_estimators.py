"""Estimators: scikit-learn's checks, scikit-learn's own numbers, its tools around them, and what they take beyond."""

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import nbfc

sklearn = pytest.importorskip("sklearn", minversion="1.7")

from sklearn import neural_network as theirs  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.datasets import (  # noqa: E402
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    load_wine,
    make_multilabel_classification,
)
from sklearn.ensemble import BaggingClassifier  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler, scale  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from nbfc.estimators import MLPClassifier, MLPRegressor  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning"),
]


@parametrize_with_checks(
    [
        MLPClassifier(max_iter=60),
        MLPClassifier(solver="lbfgs", max_iter=60),
        MLPClassifier(solver="sgd", learning_rate_init=0.1, max_iter=60),
        MLPRegressor(max_iter=60),
        MLPRegressor(solver="lbfgs", max_iter=60),
    ]
)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


# ---- scikit-learn's numbers -----------------------------------------------------------------------------------------


def standardized(load):
    X, y = load(return_X_y=True)
    return scale(X), y


CANCER, DIGITS, IRIS, WINE = (standardized(load) for load in (load_breast_cancer, load_digits, load_iris, load_wine))
DIABETES = scale(load_diabetes(return_X_y=True)[0]), scale(load_diabetes(return_X_y=True)[1])
LINNERUD = scale(load_linnerud(return_X_y=True)[0]), scale(load_linnerud(return_X_y=True)[1])
COUNTS = DIABETES[0], np.exp(DIABETES[1])
LABELS = make_multilabel_classification(200, 10, n_classes=4, random_state=0)
WEIGHTS = np.random.default_rng(0).random(2000)

SGD = {"solver": "sgd", "learning_rate_init": 0.05}
CASES = {
    "adam, several classes": ("MLPClassifier", WINE, {"max_iter": 30}),
    "adam, two classes": ("MLPClassifier", CANCER, {"hidden_layer_sizes": (20, 10), "activation": "tanh"}),
    "it stops": ("MLPClassifier", IRIS, {"learning_rate_init": 0.02, "n_iter_no_change": 3, "tol": 1e-3}),
    "several labels": ("MLPClassifier", LABELS, {"activation": "logistic", "batch_size": 64}),
    "no hidden layer": ("MLPClassifier", WINE, {"hidden_layer_sizes": (), "activation": "tanh"}),
    "early stopping": ("MLPClassifier", CANCER, {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 60}),
    "early stopping, several": ("MLPClassifier", WINE, {"early_stopping": True, "n_iter_no_change": 3}),
    "sgd": ("MLPClassifier", WINE, {**SGD, "nesterovs_momentum": False, "shuffle": False}),
    "sgd without momentum": ("MLPClassifier", WINE, {**SGD, "momentum": 0.0}),
    "invscaling": ("MLPClassifier", WINE, {**SGD, "learning_rate": "invscaling", "power_t": 0.3}),
    "adaptive": ("MLPRegressor", DIABETES, {**SGD, "learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 2}),
    "numbers": ("MLPRegressor", DIABETES, {"alpha": 1.0, "hidden_layer_sizes": 30}),
    "a strong penalty": ("MLPClassifier", WINE, {"alpha": 20.0, "max_iter": 200, "learning_rate_init": 0.01}),
    "several numbers": ("MLPRegressor", LINNERUD, {**SGD, "learning_rate_init": 0.001}),
    "counts": ("MLPRegressor", COUNTS, {"loss": "poisson", "learning_rate_init": 0.01}),
    "lbfgs": ("MLPClassifier", CANCER, {"solver": "lbfgs", "alpha": 0.1, "max_iter": 12}),
    "lbfgs, numbers": ("MLPRegressor", LINNERUD, {"solver": "lbfgs", "max_iter": 12}),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_random_state_gives_the_numbers_of_scikit_learn(case, weighted):
    name, (X, y), options = CASES[case]
    options = {"max_iter": 15, "random_state": 3, **options}
    weights = {"sample_weight": WEIGHTS[: len(X)]} if weighted else {}
    want = getattr(theirs, name)(**options).fit(X, y, **weights)
    got = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}[name](**options).fit(X, y, **weights)
    for attribute in ("n_iter_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_", "t_"):
        assert getattr(got, attribute) == getattr(want, attribute), attribute
    np.testing.assert_allclose(got.loss_, want.loss_, rtol=1e-6)
    for mine, other in zip(got.coefs_ + got.intercepts_, want.coefs_ + want.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-7)
    if options.get("solver") != "lbfgs":
        np.testing.assert_allclose(got.loss_curve_, want.loss_curve_, rtol=1e-6)
        assert got.validation_scores_ == want.validation_scores_
        assert (got.best_loss_ is None) == (want.best_loss_ is None)
    for attribute in ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
        assert hasattr(got, attribute) == hasattr(want, attribute), attribute
    np.testing.assert_allclose(got.predict(X[:20]), want.predict(X[:20]), rtol=1e-6, atol=1e-6)
    if name == "MLPClassifier":
        assert np.array_equal(got.classes_, want.classes_)
        np.testing.assert_allclose(got.predict_proba(X), want.predict_proba(X), atol=1e-6)
        np.testing.assert_allclose(got.predict_log_proba(X[:5]), want.predict_log_proba(X[:5]), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("MLPClassifier", CANCER),
        ("MLPClassifier", DIGITS),
        ("MLPClassifier", WINE),
        ("MLPClassifier", IRIS),
        ("MLPRegressor", DIABETES),
    ],
)
def test_the_quality_is_that_of_scikit_learn(name, data):
    """In float32, over seeds: means differ by less than what seeds do."""
    X, y = data
    scores = []
    for module in (theirs, nbfc.estimators):
        make = getattr(module, name)
        scores.append(
            [make(random_state=seed, max_iter=40).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) for seed in range(4)]
        )
    spread = max(np.std(scores[0]), 0.01)
    assert abs(np.mean(scores[0]) - np.mean(scores[1])) < spread


def test_partial_fit_warm_start_and_their_state():
    X, y = WINE
    for options in ({}, {"solver": "sgd", "learning_rate_init": 0.02}):
        want, got = theirs.MLPClassifier(random_state=0, **options), MLPClassifier(random_state=0, **options)
        for start in range(0, 150, 50):
            for model in (want, got):
                model.partial_fit(X[start : start + 50], y[start : start + 50], classes=[0, 1, 2])
        np.testing.assert_allclose(got.predict_proba(X), want.predict_proba(X), atol=1e-8)
        assert (got.t_, got.n_iter_, len(got.loss_curve_)) == (want.t_, want.n_iter_, len(want.loss_curve_))
    want, got = (M.MLPRegressor(random_state=0, warm_start=True, max_iter=4) for M in (theirs, nbfc.estimators))
    for _ in range(3):
        for model in (want, got):
            model.fit(*DIABETES)
    np.testing.assert_allclose(got.predict(X := DIABETES[0]), want.predict(X), atol=1e-8)
    assert len(got.loss_curve_) == len(want.loss_curve_) == 12
    assert len(got.history_) == 12


def test_partial_fit_goes_on_after_pickling():
    X, y = WINE
    whole = MLPClassifier(random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    again = pickle.loads(pickle.dumps(whole))
    for model in (whole, again):
        model.partial_fit(X, y)
    assert np.array_equal(whole.net_.parameters, again.net_.parameters)
    assert np.shares_memory(again.coefs_[0], again.net_.parameters)
    assert np.array_equal(copy.deepcopy(whole).predict(X), whole.predict(X))


# ---- around them ----------------------------------------------------------------------------------------------------


def test_they_work_in_scikit_learns_tools():
    X, y = load_breast_cancer(return_X_y=True)
    make = MLPClassifier(hidden_layer_sizes=(16,), max_iter=60, learning_rate_init=0.01, random_state=0)
    pipeline = make_pipeline(StandardScaler(), make)
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, n_jobs=2, cv=3).fit(X, y)
    assert search.best_score_ > 0.95
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.95
    assert CalibratedClassifierCV(pipeline, cv=3).fit(X, y).score(X, y) > 0.95
    assert BaggingClassifier(pipeline, n_estimators=3, random_state=0).fit(X, y).score(X, y) > 0.95
    assert clone(make).get_params() == make.get_params()
    assert repr(MLPRegressor(alpha=1.0)) == "MLPRegressor(alpha=1.0)"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_have_names(library):
    frames = pytest.importorskip(library)
    X, y = IRIS
    frame = frames.DataFrame({name: X[:, k] for k, name in enumerate("abcd")})
    model = MLPClassifier(max_iter=5, random_state=0).fit(frame, frames.Series(y))
    assert list(model.feature_names_in_) == list("abcd")
    assert np.array_equal(model.predict(frame), MLPClassifier(max_iter=5, random_state=0).fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["b", "a", "c", "d"]])
    pipeline = make_pipeline(StandardScaler(), model).set_output(transform=library)
    assert pipeline.fit(frame, y).score(frame, y) > 0.5


# ---- beyond ---------------------------------------------------------------------------------------------------------


def test_what_they_take_beyond():
    X, y = WINE
    names = np.array(["barbera", "barolo", "grignolino"])[y]
    stop = nbfc.callbacks.EarlyStopping(patience=8, monitor="loss")
    model = MLPClassifier(
        (24, 12),
        ["tanh", "relu"],
        optimizer=nbfc.AdamW(0.05),
        loss=nbfc.losses.CrossEntropy(label_smoothing=0.1),
        class_weight={"barolo": 2.0},
        dtype="float32",
        dropout=[0.1, 0.0],
        callbacks=[stop],
        random_state=0,
    ).fit(X, names)
    assert model.score(X, names) > 0.97
    assert model.net_.activations == ("tanh", "relu", "identity")
    assert model.predict_proba(X).dtype == np.float32
    assert model.n_iter_ < 100
    assert "EarlyStopping" in model.history_.stopped
    weights = np.where(names == "barolo", 2.0, 1.0)
    one, other = (
        MLPClassifier(max_iter=5, random_state=0, class_weight={"barolo": 2}),
        MLPClassifier(max_iter=5, random_state=0),
    )
    assert np.array_equal(one.fit(X, names).net_.parameters, other.fit(X, names, sample_weight=weights).net_.parameters)


@pytest.mark.parametrize("loss", ["mae", "huber", nbfc.losses.Quantile(0.5), "gaussian_nll", nbfc.losses.Huber(0.3)])
def test_losses_of_nbfc_fit_numbers(loss):
    X, y = DIABETES
    model = MLPRegressor(loss, max_iter=100, random_state=0, learning_rate_init=0.003).fit(X, y)
    assert model.predict(X).shape == (len(X),)
    assert model.score(X, y) > 0.4


def test_early_stopping_in_partial_fit_keeps_the_best():
    X, y = CANCER
    model = MLPClassifier(early_stopping=True, n_iter_no_change=3, learning_rate_init=0.01, random_state=0)
    for _ in range(60):
        model.partial_fit(X, y, classes=[0, 1])
        if model.converged_:
            break
    assert model.converged_
    assert len(model.validation_scores_) < 60
    assert model.best_validation_score_ == max(model.validation_scores_) > 0.9
    before = model.net_.parameters.copy()
    model.partial_fit(X, y)
    assert np.array_equal(model.net_.parameters, before)


def test_an_interrupt_keeps_what_was_learned():
    class Interrupt(nbfc.callbacks.Callback):
        def on_batch_start(self, state):
            if state.epoch == 3:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="stopped by an interrupt in epoch 3, batch 1"):
        model = MLPRegressor(callbacks=[Interrupt()], random_state=0).fit(*DIABETES)
    assert len(model.loss_curve_) == model.n_iter_ == 2


def test_it_says_that_training_did_not_converge():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for solver in ("adam", "lbfgs"):
            with pytest.raises(ConvergenceWarning, match="max_iter"):
                MLPRegressor(max_iter=2, solver=solver).fit(*DIABETES)


def test_parameters_that_change_between_calls():
    """partial_fit and warm_start do what the parameters say now, and refuse what the network cannot become."""
    X, y = DIABETES
    model = MLPRegressor(hidden_layer_sizes=(40, 40), random_state=0, optimizer="rmsprop", dtype="float64", alpha=0)
    for change in (
        {},
        {"optimizer": None},
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 1e-3},
        {"alpha": 0.1},
        {"dropout": 0.1, "solver": "adam"},
        {"early_stopping": True},
        {"early_stopping": False},
        {"loss": "poisson"},
    ):
        model.set_params(**change).partial_fit(X, np.abs(y))
    assert model.out_activation_ == "exp"
    assert model._trainer.loss.name == "poisson"
    assert np.isfinite(model.predict(X)).all()
    for change in ({"activation": "tanh"}, {"dtype": "float32"}):
        with pytest.raises(ValueError, match="expected the same, as it goes on learning"):
            clone(model).set_params(random_state=1).fit(X, np.abs(y)).set_params(warm_start=True, **change).fit(X, y)


def test_one_class_is_predicted():
    X = IRIS[0]
    for options in ({}, {"early_stopping": True}, {"solver": "lbfgs"}):
        model = MLPClassifier(random_state=1, max_iter=8, **options).fit(X, np.full(150, "a"))
        assert set(model.predict(X)) == {"a"}


LATER = """
import pickle, sys
model, X, y = pickle.loads(sys.stdin.buffer.read())
model.partial_fit(X, y)
sys.stdout.buffer.write(model.net_.parameters.tobytes())
"""


def test_partial_fit_goes_on_in_another_process():
    X, y = WINE
    model = MLPClassifier(random_state=0, dropout=0.2, alpha=0.1, activation="elu").partial_fit(X, y, classes=[0, 1, 2])
    data = pickle.dumps((model, X, y))
    done = subprocess.run([sys.executable, "-c", LATER], input=data, capture_output=True, check=True, timeout=300)
    assert done.stdout == model.partial_fit(X, y).net_.parameters.tobytes()


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hidden_layer_sizes": (10, 0)}, ValueError, "hidden_layer_sizes is 0: expected at least 1"),
        ({"activation": "swish"}, ValueError, "activation is 'swish': expected one of"),
        ({"activation": ["tanh", "relu"]}, ValueError, "activation has 2 names: expected one for each of 1 hidden"),
        ({"solver": "newton"}, ValueError, "solver is 'newton': expected one of 'adam', 'sgd', 'lbfgs'"),
        ({"learning_rate": "cosine"}, ValueError, "learning_rate is 'cosine'"),
        ({"alpha": -1}, ValueError, "alpha is -1"),
        ({"learning_rate_init": 0}, ValueError, "learning_rate_init is 0"),
        ({"max_iter": 1.5}, TypeError, "max_iter is 1.5"),
        ({"shuffle": "yes"}, TypeError, "shuffle is 'yes': expected True or False"),
        ({"momentum": 1}, ValueError, "momentum is 1"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction is 1.0"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change is 0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"dtype": "int8"}, ValueError, "dtype"),
        ({"optimizer": "newton"}, ValueError, "optimizer is 'newton'"),
        ({"callbacks": [print]}, TypeError, "callbacks has"),
        ({"dropout": 1.0}, ValueError, "dropout is 1.0"),
        ({"dropout": [0.1, 0.2]}, ValueError, "dropout has 2 numbers"),
        ({"dropout": 0.1, "solver": "lbfgs"}, ValueError, "dropout came with the solver 'lbfgs'"),
        (
            {"callbacks": [nbfc.callbacks.EarlyStopping()], "solver": "lbfgs"},
            ValueError,
            "callbacks came with .* 'lbfgs'",
        ),
        ({"loss": "hinge"}, ValueError, "loss is 'hinge'"),
        ({"early_stopping": True, "validation_fraction": 0.001}, ValueError, "validation_fraction 0.001 holds out 1"),
    ],
)
@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
def test_parameters_that_are_none(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options).fit(*IRIS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLPClassifier().fit(*IRIS, sample_weight=np.zeros(150)), "sample_weight is zero for all samples"),
        (lambda: MLPClassifier().fit(*IRIS, sample_weight=-np.ones(150)), r"sample_weight\[0\] is -1"),
        (lambda: MLPRegressor().fit(*IRIS, sample_weight=np.ones(3)), r"sample_weight has shape \(3,\)"),
        (lambda: MLPClassifier().partial_fit(*IRIS), "classes is None in the first call of partial_fit"),
        (lambda: MLPClassifier().partial_fit(*IRIS, classes=[0, 1]), r"y has the classes \[2\]: expected the classes"),
        (lambda: seen().partial_fit(*IRIS, classes=[0, 1]), r"classes is \[0, 1\]: expected those of before"),
        (lambda: seen().partial_fit(IRIS[0], IRIS[1] + 5), r"y has the classes \[5, 6, 7\]"),
        (lambda: seen(warm_start=True).fit(IRIS[0][:100], IRIS[1][:100]), r"y lacks the classes \[2\]"),
        (lambda: seen(warm_start=True).set_params(hidden_layer_sizes=5).fit(*IRIS), "network has widths"),
        (lambda: MLPClassifier(loss=nbfc.losses.CrossEntropy()).fit(*LABELS), "samples may have several labels"),
        (lambda: seen().partial_fit(IRIS[0], np.eye(3, dtype=int)[IRIS[1]]), "y has several labels for each sample"),
        (lambda: MLPRegressor("cross_entropy").fit(*IRIS), "which is for classes"),
        (lambda: MLPRegressor("poisson").fit(*DIABETES), "poisson expected counts"),
    ],
)
def test_data_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def seen(**options):
    return MLPClassifier(max_iter=2, **options).fit(*IRIS)


def test_what_is_not_there():
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(IRIS[0])
    with pytest.raises(AttributeError, match="MLPClassifier has no coefs_ yet: call fit first"):
        _ = MLPClassifier().coefs_
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert hasattr(MLPRegressor(solver="lbfgs", optimizer="adam"), "partial_fit")
