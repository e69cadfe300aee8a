"""Training step by step, in the order that scikit-learn takes the samples, and when it ends."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from nbfc._arrays import Array
from nbfc.calls import Calls, FitState, started
from nbfc.estimators._settings import Settings
from nbfc.history import Epoch, History
from nbfc.kernels.updates import L2, THIRD
from nbfc.losses import Loss
from nbfc.network import MLP
from nbfc.trainer import Trainer

AUTO = 200  # samples a step
LEAST_RATE = 1e-6  # where "adaptive" stops
RECORDS = ("loss_curve_", "history_", "validation_scores_", "best_validation_score_", "best_loss_", "converged_")


@dataclass
class Goal:
    """What an estimator minimises.

    `count` times the loss has scikit-learn's gradient, and divided by `divisor` its value: it sums over outputs, where
    nbfc's losses are means, and its squared error is reported as a mean. `activation` is the name of what makes
    predictions of outputs.
    """

    loss: Loss
    count: float
    divisor: float
    activation: str


def normalised(weights: Array | None, count: float, starts: Array, n: int) -> tuple[Array, Array]:
    """Return what samples count in their batches, which begin at `starts`, with means of `count`; and batches' totals.

    A batch whose weights are all zero teaches nothing.
    """
    sizes = np.diff([*starts, n])
    if weights is None:
        return np.empty(0) if count == 1 else np.full(n, count), sizes.astype(float)
    totals = np.add.reduceat(weights, starts)
    means = np.where(totals > 0, totals, 1) / sizes
    return count * weights / np.repeat(means, sizes), totals


def set_rate(trainer: Trainer, rate: float) -> None:
    """Change the learning rate, but not by how much the momentum moves the parameters: scikit-learn's has it inside."""
    if trainer.optimizer.momentum > 0:
        trainer._state[1] *= trainer.learning_rate / rate
    trainer.learning_rate = rate


class TrainedBySteps:
    """An estimator's training by an nbfc optimizer. The attributes are its own."""

    net_: MLP
    history_: History
    loss_: float
    best_loss_: Any
    best_validation_score_: Any
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    converged_: bool
    t_: int
    _goal: Goal
    _trainer: Trainer | None
    _best: Array
    _without_improvement: int
    # Parameters
    alpha: float
    dropout: Any
    beta_2: float
    early_stopping: bool
    epsilon: float
    learning_rate: str
    learning_rate_init: float
    max_iter: int
    optimizer: Any
    power_t: float
    shuffle: bool
    solver: str
    tol: float
    validation_fraction: float
    verbose: bool | int

    def _score(self, X: Array, y: Array, weights: Array | None) -> float:
        """Return the score on data that were held out, as `fit` has them."""
        raise NotImplementedError

    def _stratifies(self) -> bool:
        """Return whether what is held out has the classes' shares."""
        return False

    def _fit_by_steps(
        self,
        X: Array,
        y: Array,
        targets: Array,
        weights: Array | None,
        settings: Settings,
        rng: np.random.RandomState,
        *,
        incremental: bool,
    ) -> None:
        """Train for up to `max_iter` epochs, or for one."""
        if incremental and getattr(self, "converged_", False) and self.early_stopping:
            return
        if self._trainer is None or not incremental or not self._fits(self._trainer, settings):
            assert settings.optimizer is not None
            # Its alpha is for one sample: in a step it is divided by their number.
            options: dict[str, Any] = {"regularization": settings.regularization}
            if np.any(self.dropout):
                options["seed"] = int(rng.randint(2**31))
            self._trainer = Trainer(self.net_, self._goal.loss, settings.optimizer, **options)
        if not hasattr(self, "history_"):
            self.loss_curve_, self.history_ = [], History()
            self._start_stopping()
        elif self.early_stopping != (self.validation_scores_ is not None):
            self._start_stopping()
        held_out = None
        if self.early_stopping:
            X, y, targets, weights, held_out = self._hold_out(X, y, targets, weights, rng)
        X, targets = self.net_._batch(X, targets, self._trainer.loss)
        size = self._batch_size(settings.batch_size, len(X))
        epochs = 1 if incremental else self.max_iter
        names = ("loss", *(("validation_score",) if self.early_stopping else ()))
        state = FitState(self.net_, self._trainer, self.history_, names, epochs, -(-len(X) // size))
        order = np.arange(len(X))
        with started(settings.callbacks, state) as calls:
            try:
                for state.epoch in range(1, epochs + 1):
                    if self.shuffle:
                        moved = np.arange(len(X))
                        rng.shuffle(moved)
                        order = order[moved]
                    before = time.perf_counter()
                    self.loss_ = self._epoch(state, X, targets, weights, order, size, calls)
                    self._record(state, held_out, time.perf_counter() - before, len(X))
                    if stopping := calls.end_epoch(state):
                        self.history_.stopped = f"by {stopping} after epoch {state.epoch}"
                        break
                    if self._has_stopped(state.trainer, settings.patience):
                        break
                else:
                    if not incremental:
                        warnings.warn(
                            f"training did not converge in {self.max_iter} epochs: a higher max_iter may help.",
                            ConvergenceWarning,
                            stacklevel=4,
                        )
            except KeyboardInterrupt:
                self.history_.stopped = f"by an interrupt in epoch {state.epoch}, batch {state.batch}"
                warnings.warn(f"training was stopped {self.history_.stopped}.", UserWarning, stacklevel=4)
        if self.early_stopping and (self.converged_ or not incremental):
            self.net_.parameters = self._best

    def _start_stopping(self) -> None:
        """Forget what was best: at the start, and where `early_stopping` has changed."""
        stopping, self.converged_, self._without_improvement = self.early_stopping, False, 0
        self.validation_scores_ = [] if stopping else None
        self.best_validation_score_ = -np.inf if stopping else None
        self.best_loss_ = None if stopping else np.inf
        self._best = self.net_.parameters.copy()

    def _fits(self, trainer: Trainer, settings: Settings) -> bool:
        """Return whether a trainer does what the parameters say; they may have changed."""
        given = trainer.loss, trainer.optimizer, trainer.regularization
        return given == (self._goal.loss, settings.optimizer, settings.regularization)

    def _hold_out(
        self, X: Array, y: Array, targets: Array, weights: Array | None, rng: np.random.RandomState
    ) -> tuple[Array, Array, Array, Array | None, tuple[Array, Array, Array | None]]:
        """Split off what the score is taken on, as scikit-learn does; two classes keep their shares."""
        together = [X, y, targets] if weights is None else [X, y, targets, weights]
        stratify = y if self._stratifies() else None
        parts = train_test_split(*together, random_state=rng, test_size=self.validation_fraction, stratify=stratify)
        if len(parts[1]) < 2:
            raise ValueError(
                f"validation_fraction {self.validation_fraction} holds out {len(parts[1])} samples: expected two or "
                "more, by a larger fraction or more data."
            )
        if weights is None:
            parts += [None, None]
        X, X_held, y, y_held, targets, _, weights, weights_held = parts
        return X, y, targets, weights, (X_held, y_held, weights_held)

    def _batch_size(self, given: int | None, samples: int) -> int:
        if given is not None and given > samples:
            warnings.warn(f"batch_size is {given}, but there are {samples} samples: all are taken.", stacklevel=5)
        return min(AUTO if given is None else given, samples)

    def _epoch(
        self, state: FitState, X: Array, targets: Array, weights: Array | None, order: Array, size: int, calls: Calls
    ) -> float:
        """Take a step on each batch of the samples in an order; return the loss with its penalty."""
        trainer, total, targets = state.trainer, 0.0, targets[order]
        starts, penalties = np.arange(0, len(X), size), 0.0
        in_order = None if weights is None else weights[order]
        counted, totals = normalised(in_order, self._goal.count, starts, len(X))
        counted = counted.astype(self.net_.dtype)
        for batch, start in enumerate(starts):
            state.batch = batch + 1
            those = slice(start, start + size)
            rows = order[those]
            l2 = self.alpha / totals[batch] if totals[batch] > 0 else 0.0
            trainer._rule[L2] = l2
            if l2 > 0:
                penalties += l2 * self._penalty() * len(rows)
            if self.solver == "adam" and self.optimizer is None:  # scikit-learn adds epsilon to √v, not to √v̂
                trainer._rule[THIRD] = self.epsilon / sqrt(1 - self.beta_2 ** (trainer.steps + 1))
            total += calls.step(state, X, targets[those], counted[those], rows) * len(rows)
        return (total / self._goal.divisor + penalties) / len(X)

    def _record(self, state: FitState, held_out: Any, seconds: float, samples: int) -> None:
        """Keep an epoch's figures, and the parameters where they are the best."""
        self.n_iter_, self.t_ = state.epoch, self.t_ + samples
        self.loss_curve_.append(self.loss_)
        figures = {}
        if self.early_stopping:
            score = self._score(*held_out)
            assert self.validation_scores_ is not None
            self.validation_scores_.append(score)
            figures["validation_score"] = score
            self._without_improvement += 1
            if not score < self.best_validation_score_ + self.tol:
                self._without_improvement = 0
            if score > self.best_validation_score_:
                self.best_validation_score_, self._best = score, self.net_.parameters.copy()
        else:
            self._without_improvement += 1
            if not self.loss_ > self.best_loss_ - self.tol:
                self._without_improvement = 0
            self.best_loss_ = min(self.best_loss_, self.loss_)
        rate = state.trainer.learning_rate
        self.history_.append(Epoch(len(self.history_) + 1, self.loss_, None, figures, seconds, samples / seconds, rate))
        if self.verbose:
            print(self.history_[-1])

    def _has_stopped(self, trainer: Trainer, patience: float) -> bool:
        """Return whether training ends, as it no longer improves; change the learning rate."""
        scheduled = self.solver == "sgd" and self.optimizer is None
        if scheduled and self.learning_rate == "invscaling":
            set_rate(trainer, self.learning_rate_init / (self.t_ + 1) ** self.power_t)
        if self._without_improvement <= patience:
            return False
        if scheduled and self.learning_rate == "adaptive" and trainer.learning_rate > LEAST_RATE:
            set_rate(trainer, trainer.learning_rate / 5)
            self._without_improvement = 0
            return False
        what = "validation score" if self.early_stopping else "loss"
        self.history_.stopped = f"as the {what} did not improve in {patience} epochs"
        self.converged_ = self.early_stopping
        return True

    def _penalty(self) -> float:
        """Return Σ w² / 2."""
        return 0.5 * float(sum(np.vdot(W, W) for W in self.net_.weights))
