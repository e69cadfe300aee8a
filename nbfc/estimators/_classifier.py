"""Classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from nbfc._arrays import Array
from nbfc.estimators._base import BaseMLP, has_steps
from nbfc.estimators._settings import documented
from nbfc.estimators._steps import Goal
from nbfc.losses import BinaryCrossEntropy, CrossEntropy, Loss


@documented(
    last="""    loss : "log_loss" or nbfc.losses.CrossEntropy
        Beyond scikit-learn: ``CrossEntropy(label_smoothing=0.1)`` for classes, of which two have two outputs then.
    class_weight : "balanced" or dict, optional
        Beyond scikit-learn: what each class counts.
""",
    attributes="    classes_ : array\n",
)
class MLPClassifier(ClassifierMixin, BaseMLP):
    """A network that classifies, with scikit-learn's interface.

    Two classes have one output, the logit of the second; more classes have one each; and so have labels of which a
    sample may have several, which come as rows of zeros and ones.
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        optimizer: Any = None,
        dropout: Any = 0.0,
        callbacks: Sequence[Any] | None = None,
        dtype: Any = None,
        loss: str | Loss = "log_loss",
        class_weight: Any = None,
    ) -> None:
        given = dict(locals())
        del given["self"]
        self.__dict__.update(given)

    def _check(self, X: Any, y: Any, *, first: bool, incremental: bool) -> tuple[Array, Array]:
        X, y = self._check_data(X, y, first=first)
        check_classification_targets(y)
        if first and not incremental:
            self._learn_classes(y)
        else:
            if type_of_target(y).startswith("multilabel") != self._takes_rows():
                kinds = "several labels", "one label"
                has, expected = kinds if not self._takes_rows() else kinds[::-1]
                raise ValueError(f"y has {has} for each sample: expected {expected}, as in the calls before.")
            found = unique_labels(y)
            if unknown := set(found.tolist()) - set(self.classes_.tolist()):
                raise ValueError(
                    f"y has the classes {sorted(unknown, key=str)}: expected the classes that were named before, "
                    f"{self.classes_.tolist()}."
                )
            if self.warm_start and not incremental and (missing := set(self.classes_.tolist()) - set(found.tolist())):
                raise ValueError(f"y lacks the classes {sorted(missing, key=str)}: warm_start goes on with the same.")
        return X, y

    def _learn_classes(self, y: Any) -> None:
        self._binarizer = LabelBinarizer().fit(y)
        self.classes_ = self._binarizer.classes_

    def _takes_rows(self) -> bool:
        """Return whether a sample may have several labels."""
        return bool(self._binarizer.y_type_.startswith("multilabel"))

    def _targets(self, y: Array) -> tuple[Array, int, Goal]:
        several, own = self._takes_rows(), isinstance(self.loss, CrossEntropy)
        if own and several:
            raise ValueError("loss is a CrossEntropy, but samples may have several labels: expected 'log_loss'.")
        if not own and self.loss != "log_loss":
            raise ValueError(f"loss is {self.loss!r}: expected 'log_loss' or an nbfc.losses.CrossEntropy.")
        if own or (not several and len(self.classes_) > 2):
            goal = Goal(self.loss if own else CrossEntropy(), 1.0, 1.0, "softmax")
            return np.searchsorted(self.classes_, y), len(self.classes_), goal
        rows = self._binarizer.transform(y).astype(np.float64)
        return rows, rows.shape[1], Goal(BinaryCrossEntropy(), float(rows.shape[1]), 1.0, "logistic")

    def _sample_weights(self, sample_weight: Any, y: Array, samples: int) -> Array | None:
        weights = super()._sample_weights(sample_weight, y, samples)
        if self.class_weight is None:
            return weights
        of_classes = compute_sample_weight(self.class_weight, y)
        return super()._sample_weights(of_classes if weights is None else weights * of_classes, y, samples)

    def _stratifies(self) -> bool:
        return self.n_outputs_ == 1

    def _score(self, X: Array, y: Array, weights: Array | None) -> float:
        return float(accuracy_score(y, self._classes_of(self.net_.predict(X)), sample_weight=weights))

    def _classes_of(self, outputs: Array) -> Array:
        """Return the classes that logits say, or rows of zeros and ones."""
        if self.out_activation_ == "softmax":
            return self.classes_[outputs.argmax(axis=1)]  # type: ignore[no-any-return]
        positive = outputs > 0
        if self._takes_rows():
            return positive.astype(self.classes_.dtype)
        return self.classes_[np.minimum(positive[:, 0], len(self.classes_) - 1).astype(int)]  # type: ignore[no-any-return]

    def predict(self, X: Any) -> Array:
        """Return the classes (N,), or rows of zeros and ones (N, n) where samples may have several labels."""
        return self._classes_of(self._outputs(X))

    def predict_proba(self, X: Any) -> Array:
        """Return the classes' probabilities (N, number of classes), of the network's dtype."""
        outputs = self._outputs(X)
        p = self._goal.loss.predictions(outputs).astype(outputs.dtype)
        return np.hstack([1 - p, p]) if self.n_outputs_ == 1 and not self._takes_rows() else p

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of `predict_proba`: −∞ where that rounds to 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @available_if(has_steps)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Take an epoch of steps on some samples.

        Parameters
        ----------
        X : array, frame or sparse matrix (N, n_in)
        y : (N,) or (N, n)
        sample_weight : (N,), ≥ 0, optional
        classes : sequence, in the first call
            All classes that will ever come.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As `fit` does; if `classes` is left out in the first call, or changes; or if y has other classes.
        """
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes is None in the first call of partial_fit: expected all that will ever come.")
            self._learn_classes(y if type_of_target(y).startswith("multilabel") else unique_labels(classes))
        elif classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(f"classes is {list(classes)}: expected those of before, {self.classes_.tolist()}.")
        return self._fit(X, y, sample_weight, incremental=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
