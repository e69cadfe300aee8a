"""What a network gives for other people's computations: its derivatives, and itself for their compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.errors import TypingError
from numba.extending import typeof_impl

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc.kernels import derivatives, per_sample
from nbfc.kernels._threads import MOST_THREADS, launch
from nbfc.kernels.frozen import Policy, policy_of
from nbfc.kernels.layers import ROOM
from nbfc.kernels.updates import CODE, KEEP, LENGTH, NUMBER
from nbfc.kernels.workspace import ROWS
from nbfc.losses import Loss, resolve
from nbfc.weighting import check_weights


class Differentiable:
    """The derivatives of a network that has what `MLP` has."""

    _widths: tuple[int, ...]
    _layers: Array
    _parameters: Array
    _dtype: np.dtype[Any]
    _input_mean: Array | None
    _input_deviation: Array | None

    def _inputs(self, X: Any) -> Array:
        raise NotImplementedError

    def _batch(self, X: Any, y: Any, loss: Loss) -> tuple[Array, Array]:
        raise NotImplementedError

    def _layers_for(self, loss: Loss) -> Array:
        raise NotImplementedError

    def _workspace(self, layers: Array, samples: int, work: Array | None = None) -> Array:
        raise NotImplementedError

    def _run_step(self, *args: Any) -> tuple[float, bool]:
        raise NotImplementedError

    def loss_and_gradient(self, X: Any, y: Any, loss: str | Loss, *, sample_weight: Any = None) -> tuple[float, Array]:
        """Return the mean loss over a batch and its gradient by the parameters.

        Parameters
        ----------
        X : (N, n_in)
            Inputs, one sample a row; N ≥ 1.
        y
            Targets, as the loss takes them (``nbfc.losses``).
        loss : Loss or its name
        sample_weight : (N,), ≥ 0, optional
            What each sample's loss counts: the mean is (1/N) Σ_i w⁽ⁱ⁾ J⁽ⁱ⁾.

        Returns
        -------
        loss : float
            The mean of the samples' losses.
        gradient : (P,), of the network's dtype
            In the order of `parameters`.

        Raises
        ------
        ValueError
            If a shape does not fit, the batch is empty, the loss is unknown, or a target is out of range.
        TypeError
            If X or y do not hold real numbers, or labels are not integers.
        """
        loss = resolve(loss)
        X, y = self._batch(X, y, loss)
        return self._loss_and_gradient(X, y, check_weights(sample_weight, len(X), self._dtype), loss)

    def _loss_and_gradient(self, X: Array, y: Array, weights: Array, loss: Loss) -> tuple[float, Array]:
        """`loss_and_gradient` for what `_batch` and `check_weights` return."""
        state = _arrays.aligned_zeros((1, self._parameters.size), self._dtype)
        rule = np.zeros(LENGTH)
        rule[CODE], rule[NUMBER] = KEEP, loss.number
        layers = self._layers_for(loss)
        value, _ = self._run_step(layers, X, y, weights, loss, state, self._workspace(layers, len(X)), rule)
        return value, state[0]

    def freeze(self) -> Policy:
        """Return the network as it is now for ``nbfc.jit``: what compiled code can call.

        Returns
        -------
        nbfc.jit.Policy
            A named tuple of arrays, copies all: what happens to the network afterwards does not change it. It can be
            pickled, and used by several threads.
        """
        return policy_of(self._layers, self._parameters, self._input_mean, self._input_deviation)

    def input_gradient(self, X: Any, dY: Any = None) -> Array:
        """Return the gradient by each sample's inputs of its output, or of a loss with the gradients dY by the outputs.

        Parameters
        ----------
        X : (N, n_in)
            Inputs, one sample a row; N may be 0.
        dY : (N, n_out), optional
            Row i is ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾ without 1/N, as ``nbfc.losses.per_sample`` returns it (but for cross entropy of a
            softmax, as y are then probabilities and no logits); row i of the result is then ∂J⁽ⁱ⁾/∂x⁽ⁱ⁾. It may be
            left out where the network has one output.

        Returns
        -------
        (N, n_in), of the network's dtype

        Raises
        ------
        ValueError
            If a shape does not fit, or dY is left out and the network has several outputs.
        TypeError
            If X or dY do not hold real numbers.
        """
        X = self._inputs(X)
        n_out = self._widths[-1]
        if dY is None:
            if n_out != 1:
                raise ValueError(
                    f"dY is left out, but the network has {n_out} outputs: expected the gradients (N, {n_out}) of a "
                    "loss by them. The derivatives of each output are what `jacobian` gives."
                )
            V = np.ones((len(X), 1), self._dtype)
        else:
            V = _arrays.numbers("dY", dY)
            _arrays.check_shape("dY", V, (len(X), n_out), f"X has {len(X)} rows and the network {n_out} outputs")
            V = _arrays.normal(V, self._dtype)
        Y, dX = np.empty((len(X), n_out), self._dtype), np.empty_like(X)
        work = self._rooms(min(len(X), ROWS))
        launch(derivatives.input_gradient, self._load(len(X)), X, V, self._layers, self._parameters, work, Y, dX)
        return self._by_given_inputs(dX)

    def jacobian(self, X: Any) -> Array:
        """Return the derivatives ∂y/∂x of each output by each input, for every sample.

        Parameters
        ----------
        X : (N, n_in)
            Inputs, one sample a row; N may be 0.

        Returns
        -------
        (N, n_out, n_in), of the network's dtype

        Raises
        ------
        ValueError
            If the shape does not fit.
        TypeError
            If X does not hold real numbers.
        """
        X = self._inputs(X)
        n_in, n_out = self._widths[0], self._widths[-1]
        J = np.empty((len(X), n_out, n_in), self._dtype)
        work = self._rooms(1, int(derivatives.size_of_more(self._layers, 1)))
        load = self._load(len(X)) * min(n_in, n_out)
        launch(derivatives.jacobian, load, X, self._layers, self._parameters, work, J)
        return self._by_given_inputs(J)

    def per_sample_gradients(self, X: Any, y: Any, loss: str | Loss) -> Array:
        """Return the gradient of each sample's own loss by the parameters.

        Parameters
        ----------
        X : (N, n_in)
            Inputs, one sample a row; N ≥ 1.
        y
            Targets, as the loss takes them (``nbfc.losses``).
        loss : Loss or its name

        Returns
        -------
        (N, P), of the network's dtype
            A row a sample, in the order of `parameters`; without 1/N. It takes N times the memory of the network.

        Raises
        ------
        ValueError, TypeError
            As ``loss_and_gradient`` does.
        """
        return self._per_sample(X, y, loss, gradients=True)[1]

    def per_sample_gradient_norms(self, X: Any, y: Any, loss: str | Loss) -> Array:
        """Return the Euclidean length of each row of `per_sample_gradients`, which are not stored for it.

        Parameters
        ----------
        X, y, loss
            As for `per_sample_gradients`.

        Returns
        -------
        float64 (N,)

        Raises
        ------
        ValueError, TypeError
            As ``loss_and_gradient`` does.
        """
        return self._per_sample(X, y, loss, gradients=False)[0]

    def _per_sample(self, X: Any, y: Any, loss: str | Loss, *, gradients: bool) -> tuple[Array, Array]:
        loss = resolve(loss)
        X, y = self._batch(X, y, loss)
        code, labels, targets = loss.arguments(y, self._dtype)
        norms, work = np.empty(len(X)), self._rooms(min(len(X), ROWS))
        G = np.empty((len(X) if gradients else 0, self._parameters.size), self._dtype)
        given = X, labels, targets, code, loss.number, self._layers_for(loss), self._parameters
        launch(per_sample.per_sample, self._load(len(X)), *given, work, norms, G)
        return norms, G

    def _load(self, N: int) -> int:
        """Return the operations of a step without ②, as `launch` counts."""
        return 4 * N * self._parameters.size

    def _rooms(self, rows: int, more: int = 0) -> Array:
        """Return memory for derivatives of so many samples at a time, a row for each thread."""
        size = int(self._layers[-1, ROOM]) * rows + more
        return _arrays.aligned_empty((MOST_THREADS, size), self._dtype)

    def _by_given_inputs(self, derivative: Array) -> Array:
        """Return derivatives by the first layer's inputs as derivatives by what `standardize_inputs` makes them of."""
        if self._input_deviation is None:
            return derivative
        return (derivative / self._input_deviation).astype(self._dtype)


@typeof_impl.register(Differentiable)
def _refuse(net: Differentiable, context: Any) -> None:
    raise TypingError("an nbfc.MLP came to compiled code: expected its policy there, net.freeze().")
