"""The network: widths, activations, and one flat vector of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from nbfc import _arrays
from nbfc._arrays import Array
from nbfc._checks import choice, flag, seeded
from nbfc.architecture import check_activations, check_widths, name_of, table_of_layers
from nbfc.differentiable import Differentiable
from nbfc.initializers import FITTING, INITIALIZERS, OTHERWISE, initial_weights
from nbfc.kernels import _threads, prediction, step, workspace
from nbfc.kernels._addresses import JOBS
from nbfc.kernels._threads import MOST_THREADS, launch, work_of_step
from nbfc.kernels.losses import depth_for
from nbfc.losses import Custom, Loss, check_targets
from nbfc.parameters import Parametrized

_ALL = np.empty(0, np.int64)  # rows, where no others are named
_predict_serially = prediction.predict.serial


class MLP(Parametrized, Differentiable):
    """A fully connected network (multilayer perceptron).

    Parameters
    ----------
    widths : sequence of int
        The number of inputs, of each hidden layer's outputs, and of the network's outputs: [64, 128, 10] is one
        hidden layer of 128.
    activation : str or function, or a list of them
        Of the hidden layers: "identity", "relu", "tanh", "sigmoid", "leaky_relu", "elu", "selu", "gelu", "silu",
        "softplus", or a function of your own, compiled by ``numba.njit``, that takes a number z and returns the
        activation's value and its derivative there, which are compared. A list names one for each hidden layer, or one
        for each layer with the last for the outputs.
    output_activation : str or function
        Of the last layer; "softmax" is for this one alone. The losses "cross_entropy" and "binary_cross_entropy" take
        logits, that is "identity". After "softmax" the network takes cross entropy of the logits before it; functions
        of outputs alone, such as ``nbfc.losses.per_sample``, cannot.
    dtype : {"float32", "float64"}
        Of the parameters and of all computation.
    seed : int, optional
        Of the initial weights. Without one they differ from run to run.
    initializer : str, optional
        "he_normal", "he_uniform", "glorot_…" or "lecun_…" for all layers; by default the one that fits each layer's
        activation (``nbfc.initializers``). Biases start at zero.
    layer_norm : bool
        Whether each hidden layer's outputs are normalised before their activation: made of mean 0 and variance 1 over
        the layer for each sample (ε = 1e-5 is added to the variance), then multiplied by gains, which start at 1, and
        shifted, by 0 at first (Ba et al., 2016).

    Attributes
    ----------
    parameters : (P,)
        Every weight and bias in one vector, layer by layer W (row by row), then b, then gains and shifts if there are.
        Write into it to change the network; assigning copies the values in.
    weights : tuple of (n_in, n_out)
        Each layer's W, one column per output: views into `parameters`.
    biases : tuple of (n_out,)
        Each layer's b: views into `parameters`.
    gains, shifts : tuple of (n_out,)
        Each hidden layer's, likewise; none without `layer_norm`.
    widths, activations, layer_norm, dtype
        What the network was made with; they do not change.
    input_mean, input_deviation : float64 (n_in,) or None
        What `standardize_inputs` found.
    input_names, class_names : sequence of str or None
        What the inputs and the classes are called: may be set, is kept by ``nbfc.save``, and tells ``python -m nbfc
        predict`` which columns to take and which class names to print. Prediction from Python does not use them.

    Raises
    ------
    ValueError
        If there are fewer than two widths or one is below 1, a name is unknown, the list of activations has the wrong
        length, or the derivative of a function of your own is not that of its values.
    TypeError
        If a width is not an integer or a name not a string.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: Any = "relu",
        output_activation: Any = "identity",
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
        *,
        initializer: str | None = None,
        layer_norm: bool = False,
    ) -> None:
        self._widths = check_widths(widths)
        self._activations = check_activations(activation, output_activation, self._widths)
        self._dtype = _arrays.dtype_of(dtype)
        self._layer_norm = flag("layer_norm", layer_norm)
        if initializer is not None:
            choice("initializer", initializer, INITIALIZERS)
        rng = seeded(seed)

        self._allocate()
        for W, name in zip(self.weights, self.activations, strict=True):
            n_in, n_out = W.shape
            W[:] = initial_weights(initializer or FITTING.get(name, OTHERWISE), n_in, n_out, rng)
        for gain in self.gains:
            gain[:] = 1
        self._input_mean: Array | None = None
        self._input_deviation: Array | None = None
        self.input_names: Sequence[str] | None = None
        self.class_names: Sequence[str] | None = None

    def _allocate(self) -> None:
        """Make the parameters, and what predictions need."""
        super()._allocate()
        # As `launch` counts: 2.5 times the operations, to fetch a weight for its use by two rows.
        self._load_of_row = 5 * self._parameters.size
        self._idle: list[tuple[int, Array]] = []  # memory not in use (see `prediction.memory`)

    widths = property(attrgetter("_widths"), doc="The number of inputs, then of each layer's outputs; tuple of int.")
    activations = property(attrgetter("_activations"), doc="Each layer's activation; tuple of str, or functions.")
    layer_norm = property(attrgetter("_layer_norm"), doc="Whether hidden layers are normalised.")
    dtype = property(attrgetter("_dtype"), doc="Of parameters and computation; numpy.dtype.")
    input_mean = property(attrgetter("_input_mean"), doc="What `standardize_inputs` subtracts; (n_in,) or None.")
    input_deviation = property(attrgetter("_input_deviation"), doc="What it divides by; (n_in,) or None.")

    def standardize_inputs(self, X: Any) -> None:
        """From now on subtract X's mean from the network's inputs and divide by X's deviation, column by column.

        `predict`, `loss_and_gradient` and training all do so, in float64 before the inputs are brought to the
        network's dtype; ``nbfc.save`` keeps it. A constant column is only centred.

        Parameters
        ----------
        X : (N, n_in)
            Training inputs, N ≥ 1, finite.

        Raises
        ------
        ValueError
            If the shape does not fit, or X has no rows, or holds NaN, infinity or numbers too large to square.
        TypeError
            If X does not hold real numbers.
        """
        X = self._check_columns(X)
        if len(X) == 0:
            raise ValueError("X has no rows: expected training inputs to take the mean and deviation of.")
        _arrays.check_finite("X", X)
        with np.errstate(over="ignore", invalid="ignore"):
            deviation, mean = X.std(axis=0, dtype=np.float64), X.mean(axis=0, dtype=np.float64)
        if not np.isfinite(deviation).all():
            column = int(np.argmin(np.isfinite(deviation)))
            raise ValueError(
                f"X[:, {column}] has numbers too large to take the deviation of, up to {X[:, column].max():g}."
            )
        # Asked of the values: a constant column's computed deviation may be a rounding error above 0.
        constant = (X.max(axis=0) == X.min(axis=0)) | (deviation == 0)
        self._input_mean, self._input_deviation = mean, np.where(constant, 1.0, deviation)

    def _check_columns(self, X: Any) -> Array:
        array = _arrays.numbers("X", X)
        n_in = self.widths[0]
        _arrays.check_shape("X", array, ("batch", n_in), f"the network's first layer takes {n_in} inputs")
        return array

    def _inputs(self, X: Any) -> Array:
        """Return X (N, n_in) as the first layer takes it: checked, standardised if so set, in the network's dtype."""
        if self._input_mean is None and _arrays.is_normal(X, self._dtype, self._widths[0]):
            return X  # type: ignore[no-any-return]
        X = self._check_columns(X)
        if self._input_mean is not None:
            X = (X - self._input_mean) / self._input_deviation
        return _arrays.normal(X, self.dtype)

    def predict(self, X: Any, out: Array | None = None) -> Array:
        """Return the network's outputs Y for inputs X.

        Row i depends on row i of X alone, to the bit. The rows are shared among Numba's threads where there are many.

        Parameters
        ----------
        X : (N, n_in)
            Inputs, one sample a row; N may be 0.
        out : (N, n_out), optional
            Where to write the result: a writable C-contiguous array of the network's dtype.

        Returns
        -------
        (N, n_out), of the network's dtype

        Raises
        ------
        ValueError
            If a shape does not fit, or `out` shares memory with X or the parameters.
        TypeError
            If X does not hold real numbers.
        """
        return self._outputs(self._inputs(X), out)

    def _outputs(self, X: Array, out: Array | None = None) -> Array:
        """Return the outputs for inputs from `_inputs`."""
        N = len(X)
        shape = N, self._widths[-1]
        if out is None:
            Y = np.empty(shape, self._dtype)
        else:
            own = isinstance(out, np.ndarray) and out.flags.owndata  # then it is no part of the parameters
            read = (X,) if own else (X, self._parameters)
            Y = _arrays.output(out, shape, self._dtype, "X parameters", *read)
        # Taken out while it is in use, so that calls from several Python threads do not share it.
        most, work = self._idle.pop() if self._idle else (-1, self._parameters)
        if most < N:  # as at the first call
            JOBS.finish()
            most, work = prediction.memory(self._layers, N, self._dtype)
        load = self._load_of_row * (N if N > 2 else 2)
        if load < _threads.UNSURE_FROM:  # as `launch` chooses, in a tenth of the time less for one row
            _predict_serially(X, self._layers, self._parameters, work, Y, 1)
        else:
            launch(prediction.predict, load, X, self._layers, self._parameters, work, Y)
        self._idle.append((most, work))
        return Y

    def _outputs_for(self, loss: Loss, X: Array) -> Array:
        """Return the outputs as a loss takes them: of a softmax, cross entropy takes the logits before."""
        if not self._takes_logits(loss):
            return self._outputs(X)
        layers = self._layers_for(loss)
        Y = np.empty((len(X), self._widths[-1]), self._dtype)
        _, work = prediction.memory(layers, len(X), self._dtype)
        launch(prediction.predict, self._load_of_row * len(X), X, layers, self._parameters, work, Y)
        return Y

    def _batch(self, X: Any, y: Any, loss: Loss) -> tuple[Array, Array]:
        """Return inputs and targets, checked and in the form that the kernels take."""
        X = self._inputs(X)
        if X.base is not None and np.may_share_memory(X, self._parameters):  # these are a part of a larger array
            X = X.copy()  # a step reads it while it updates the parameters
        y = check_targets(loss, y, self._widths[-1], self._dtype)
        if len(X) != len(y):
            _arrays.check_rows(X, y)
        if len(X) == 0:
            raise ValueError("X has no rows: expected at least one sample, as the mean over the batch needs.")
        if isinstance(loss, Custom):
            loss.check_gradient(self._outputs(X[:8]), y[:8])
        return X, y

    def _layers_for(self, loss: Loss) -> Array:
        """Return the layers that a loss is taken of."""
        return self._layers[: depth_for(self._layers, loss.code)]

    def _takes_logits(self, loss: Loss) -> bool:
        """Return whether a loss is not taken of the network's outputs, but of the logits before its softmax."""
        return len(self._layers_for(loss)) < len(self._layers)

    def _workspace(self, layers: Array, samples: int, work: Array | None = None) -> Array:
        """Return the memory that a step on so many samples needs: `work` if it has room for them."""
        size = int(workspace.size_of_work(layers, samples, MOST_THREADS))
        return work if work is not None and size <= len(work) else _arrays.aligned_zeros(size, self.dtype)

    def _run_step(
        self,
        layers: Array,
        X: Array,
        y: Array,
        weights: Array,
        loss: Loss,
        state: Array,
        work: Array,
        rule: Array,
        order: Array = _ALL,
    ) -> tuple[float, bool]:
        """Run the compiled step on a batch from `_batch`, or on the rows of X that `order` names.

        `layers` is of `_layers_for`, or such a table with dropout.

        Return the mean loss, and whether the step was taken.
        """
        code, labels, rows = loss.arguments(y, self._dtype)
        result: tuple[float, bool] = launch(
            step.train_step,
            work_of_step(len(y), self._parameters.size),
            X,
            order,
            labels,
            rows,
            weights,
            code,
            layers,
            self._parameters,
            state,
            work,
            rule,
        )
        return result

    def __repr__(self) -> str:
        *hidden, last = (name_of(activation) for activation in self.activations)
        norm = ", layer_norm=True" if self.layer_norm else ""
        return f"MLP({list(self.widths)}, activation={hidden}, output_activation={last!r}, dtype='{self.dtype}'{norm})"

    def __str__(self) -> str:
        """Return a table of the layers, their shapes and parameter counts."""
        return f"MLP, {self.dtype}\n{table_of_layers(self.widths, self.activations, self.layer_norm)}"
