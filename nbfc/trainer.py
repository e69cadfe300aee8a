"""A network in training: one step after the other."""

from __future__ import annotations

import sys
import warnings
from operator import attrgetter
from typing import Any

import numpy as np
from numba.core.errors import TypingError
from numba.extending import typeof_impl

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import real_number, seeded, whole_number
from nbfc.errors import DivergenceError
from nbfc.kernels import step
from nbfc.kernels.dropout import ask_for_dropout
from nbfc.kernels.frozen import Policy, policy_of
from nbfc.kernels.frozen_training import State, features, size_for_batches, state_of
from nbfc.kernels.layers import DROPOUT
from nbfc.kernels.regularization import ask_for_rule
from nbfc.kernels.updates import (
    CLIP,
    CLIP_NORM,
    CODE,
    KEEP,
    LEARNING_RATE,
    MAX_NORM,
    NUMBER,
    SEED,
    STEP,
    rows_of_state,
)
from nbfc.losses import Loss
from nbfc.losses import resolve as resolve_loss
from nbfc.network import MLP
from nbfc.optimizers import Optimizer, resolve
from nbfc.regularization import Regularization, check_regularization
from nbfc.weighting import check_weights


class Trainer:
    """A network in training: what the optimizer accumulates, and the memory that steps use again and again.

    Parameters
    ----------
    net : MLP
        Updated in place by each step.
    loss : Loss or its name
        See ``nbfc.losses``.
    optimizer : Optimizer or its name
        See ``nbfc.optimizers``.
    regularization : Regularization, optional
        Penalties for weights, a bound on them, dropout.
    clip_per_sample : float > 0, optional
        C: each sample's gradient g⁽ⁱ⁾ is shortened to a length of at most C before the mean is taken.
    noise_multiplier : float ≥ 0
        σ: normal noise of deviation σ C / N is added to each entry of that mean, as in DP-SGD (Abadi et al., 2016,
        algorithm 1). Accounting for privacy, and sampling batches as it assumes, is up to you.
    seed : int, optional
        Of the noise, and of dropout.

    Attributes
    ----------
    net, loss, optimizer, regularization, clip_per_sample, noise_multiplier
        As given; names stand for objects with their default numbers.
    steps : int
        The number of steps taken.
    learning_rate : float
        The optimizer's to begin with; may be set between steps.

    Raises
    ------
    ValueError
        If a name is unknown, a number is out of its range, or there is noise without a length to clip to.
    TypeError
        If an argument is of another type.

    Warns
    -----
    UserWarning
        If the loss takes logits and the network's last layer squashes them.
    """

    def __init__(
        self,
        net: MLP,
        loss: str | Loss,
        optimizer: str | Optimizer,
        *,
        regularization: Regularization | None = None,
        clip_per_sample: float | None = None,
        noise_multiplier: float = 0.0,
        seed: int | None = None,
    ) -> None:
        if not isinstance(net, MLP):
            raise TypeError(f"net is {net!r}: expected an nbfc.MLP.")
        loss = resolve_loss(loss)
        loss.columns(net.widths[-1])  # raises where the loss needs another number of outputs
        if loss.takes and net.activations[-1] != "identity" and not net._takes_logits(loss):
            warnings.warn(
                f"{loss.name} takes {loss.takes}, but the network's last layer has the activation "
                f"{net.activations[-1]!r}: 'identity' was expected, because the loss applies its own.",
                UserWarning,
                stacklevel=_frames_inside(),
            )
        self._net, self._loss, self._optimizer = net, loss, resolve(optimizer)
        if clip_per_sample is not None:
            real_number("clip_per_sample", clip_per_sample, least=0, above=True)
        real_number("noise_multiplier", noise_multiplier, least=0)
        if noise_multiplier > 0 and clip_per_sample is None:
            raise ValueError(
                f"noise_multiplier is {noise_multiplier} without clip_per_sample: expected the length to which the "
                "samples' gradients are clipped, because the noise is in proportion to it."
            )
        self._clip, self._noise, self._rng = clip_per_sample, noise_multiplier, seeded(seed)
        self._rule = self.optimizer.rule()
        self._rule[CLIP], self._rule[NUMBER] = clip_per_sample or 0, loss.number
        self._regularization = check_regularization(regularization)
        self._regularization.enter(self._rule)
        if noise_multiplier > 0 and (self._rule[CLIP_NORM] or self._rule[MAX_NORM]):
            raise ValueError("noise_multiplier comes with clip_norm or max_norm: expected it without, as in DP-SGD.")
        self._prepare()
        if self._layers[:, DROPOUT].any():
            self._rule[SEED] = self._rng.integers(1, 2**53)
        self._state = _arrays.aligned_zeros((rows_of_state(self._rule), net.parameters.size), net.dtype)

    def _prepare(self) -> None:
        """Make the table of layers with the dropout, and the memory; ask for what steps need, in this process."""
        self._layers = self._regularization.table(self._net._layers)
        self._layers_of_loss = self._layers[: len(self._net._layers_for(self._loss))]
        ask_for_rule(self._rule, self._net.dtype)
        ask_for_dropout(self._layers, self._net.dtype)
        self._work, self._samples = self._net._workspace(self._layers_of_loss, 1), 1

    _MADE_ANEW = ("_layers", "_layers_of_loss", "_work", "_samples")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what only this process knows, such as the codes of users' functions, and what steps write into.

        Arrays may come read-only, as from a file that joblib shares among processes.
        """
        vars(self).update(state)
        self._rule, self._state = np.array(self._rule), _arrays.aligned_copy(self._state)
        self._prepare()

    net = property(attrgetter("_net"), doc="The network that steps update.")
    loss = property(attrgetter("_loss"), doc="The loss.")
    optimizer = property(attrgetter("_optimizer"), doc="The optimizer, as it was given; see also `learning_rate`.")

    regularization = property(attrgetter("_regularization"), doc="The penalties for weights, and dropout.")
    clip_per_sample = property(attrgetter("_clip"), doc="To what length samples' gradients are shortened; or None.")
    noise_multiplier = property(attrgetter("_noise"), doc="The noise's deviation, in lengths of one sample's gradient.")

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return int(self._rule[STEP])

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._rule[LEARNING_RATE])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._rule[LEARNING_RATE] = real_number("learning_rate", value, least=0)

    def step(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Take one optimizer step on a batch; return the mean loss before it.

        Parameters
        ----------
        X : (N, n_in)
            Inputs, one sample a row; N ≥ 1, and may differ from step to step.
        y
            Targets, as the loss takes them (``nbfc.losses``).
        sample_weight : (N,), ≥ 0, optional
            What each sample's loss counts: the mean is (1/N) Σ_i w⁽ⁱ⁾ J⁽ⁱ⁾.

        Returns
        -------
        float
            The mean of the samples' losses, with the parameters as they were.

        Raises
        ------
        DivergenceError
            If that loss, or a parameter after the step, is NaN or infinite. The parameters are then as they were;
            the optimizer's moments may not be, so go on with a new trainer.
        ValueError
            If a shape does not fit, the batch is empty, or a target is out of range.
        TypeError
            If X or y do not hold real numbers, or labels are not integers.
        """
        X, y = self._net._batch(X, y, self._loss)
        return self._step(X, y, check_weights(sample_weight, len(X), self._net.dtype))

    def _step(self, X: Array, y: Array, weights: Array, *order: Array) -> float:
        """Take a step on inputs and targets from `MLP._batch`, or on the rows of X that `order` names and their y."""
        if len(y) != self._samples:
            self._work, self._samples = self._net._workspace(self._layers_of_loss, len(y), self._work), len(y)
        loss, taken = self._take(X, y, weights, *order)
        if not taken:
            what = f"the loss is {loss}" if not np.isfinite(loss) else "a parameter would become NaN or infinite"
            advice = (
                f"A smaller learning rate than {self.learning_rate:g}, or standardised inputs and targets, may help."
            )
            if self.steps == 0 and not np.isfinite(loss):
                advice = "No step came before it: X, y or the parameters are not finite, or too large."
            raise DivergenceError(
                f"{what} at step {self.steps + 1}, so the step was not taken and the parameters are as they were "
                f"before it. {advice}"
            )
        return loss

    def _take(self, X: Array, y: Array, weights: Array, *order: Array) -> tuple[float, bool]:
        """Run the step; return the loss, and whether the step was taken."""
        run, memory = self._net._run_step, (self._state, self._work)
        if self._noise == 0:
            return run(self._layers_of_loss, X, y, weights, self._loss, *memory, self._rule, *order)
        rule = self._rule.copy()
        rule[CODE] = KEEP
        rule[STEP] += 1
        loss, _ = run(self._layers_of_loss, X, y, weights, self._loss, *memory, rule, *order)
        if not np.isfinite(loss):
            return loss, False
        gradient = self._state[0]
        gradient += self._rng.standard_normal(gradient.size, gradient.dtype) * (self._noise * self._rule[CLIP] / len(y))
        return loss, bool(step.update_alone(self._net.parameters, self._state, self._rule))  # which counts the step

    def freeze(self, batch_size: int = 256) -> State:
        """Return the network in training as it is now for ``nbfc.jit.train_step``: what compiled code can train.

        Parameters
        ----------
        batch_size : int
            The largest batch that steps find memory for. They allocate it anew for larger ones.

        Returns
        -------
        nbfc.jit.State
            A named tuple of copies, of which `policy` is the network. The trainer and its network stay as they are
            until `restore` takes it back.

        Raises
        ------
        ValueError
            If `batch_size` is below 1, or the trainer adds noise, which only Python does.
        TypeError
            If it is no integer.
        """
        batch_size = whole_number("batch_size", batch_size, least=1)
        if self._noise > 0:
            raise ValueError(f"noise_multiplier is {self._noise}: expected 0, as compiled code trains without noise.")
        policy, size = self._frozen(), size_for_batches(self._layers_of_loss, batch_size)
        return state_of(policy, self._state, self._rule, self._loss.code, size)

    def _frozen(self) -> Policy:
        """Return the network with the dropout that steps need."""
        net = self._net
        return policy_of(self._layers, net.parameters, net.input_mean, net.input_deviation)

    def restore(self, state: State) -> None:
        """Take back a state of `freeze`: the network's parameters, the optimizer's moments, steps and learning rate.

        Parameters
        ----------
        state : nbfc.jit.State

        Raises
        ------
        ValueError
            If it is of a network, loss, optimizer or scaling of inputs other than this trainer's, or its learning rate
            or its count of steps is none.
        TypeError
            If it is no State.
        """
        if not isinstance(state, State):
            raise TypeError(f"state is {type(state).__name__}: expected what `freeze` returned, an nbfc.jit.State.")
        own = features(State(self._frozen(), self._state, self._rule, self._loss.code, self._work))
        for what, value in features(state).items():
            if value != own[what]:
                raise ValueError(f"state has another {what} than this trainer: expected one of a trainer like this.")
        rate = real_number("state.rule[LEARNING_RATE]", float(state.rule[LEARNING_RATE]), least=0)
        steps = real_number("state.rule[STEP]", float(state.rule[STEP]), least=0)
        if not steps.is_integer():
            raise ValueError(f"state.rule[STEP] is {steps}: expected a whole number.")
        self._net.parameters, self._state[:] = state.policy.parameters, state.moments
        self._rule[LEARNING_RATE], self._rule[STEP], self._rule[SEED] = rate, steps, state.rule[SEED]

    def __repr__(self) -> str:
        return f"Trainer({self.net!r}, loss={self.loss.name!r}, optimizer={self.optimizer}, steps={self.steps})"


@typeof_impl.register(Trainer)
def _refuse(trainer: Trainer, context: Any) -> None:
    raise TypingError("an nbfc.Trainer came to compiled code: expected its state there, trainer.freeze().")


def _frames_inside() -> int:
    """Return the `stacklevel` by which a warning in the caller points at the line that called into nbfc."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "nbfc":
        level, frame = level + 1, frame.f_back
    return level
