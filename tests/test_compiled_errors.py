"""What compiled code refuses: wrong types where a function is compiled, wrong values where it is called."""

import copy
import pickle

import numpy as np
import pytest
import samples
from numba import njit
from numba.core.errors import TypingError
from test_compiled import gradients, predict_often, predicted, train

import nbfc
from nbfc import jit
from nbfc.kernels.updates import STEP

POLICY, WIDER, ONE = (samples.network([4, 9, n], dtype="float32").freeze() for n in (3, 5, 1))
MEMORY, SCRATCH = np.zeros(30, np.float32), jit.scratch(POLICY, 5)
X, Y = np.zeros((5, 4), np.float32), np.zeros((5, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jit.predict(POLICY, X[:, :3]), "x has another length than the network has inputs"),
        (lambda: jit.predict(POLICY, np.zeros(5)), "x has another length than the network has inputs"),
        (lambda: jit.predict_into(POLICY, X, Y[:4], jit.scratch(POLICY)), "y has another shape than the outputs"),
        (lambda: jit.predict_into(POLICY, X[0], X[0], jit.scratch(POLICY)), "y has another shape than the outputs"),
        (
            lambda: jit.predict_into(POLICY, MEMORY[:20].reshape(5, 4), MEMORY[3:18].reshape(5, 3), SCRATCH),
            "shares memory",
        ),
        (
            lambda: jit.predict_into(POLICY, MEMORY[:20].reshape(4, 5).T, MEMORY[:15].reshape(5, 3), SCRATCH),
            "shares memory",
        ),
        (
            lambda: jit.predict_into(POLICY, MEMORY[19::-1].reshape(5, 4), MEMORY[:15].reshape(5, 3), SCRATCH),
            "shares memory",
        ),
        (
            lambda: jit.predict_into(WIDER, MEMORY[:20].reshape(5, 4), MEMORY[:25].reshape(5, 5), SCRATCH),
            "shares memory",
        ),
        (lambda: jit.scratch(POLICY, 0), "rows is below 1"),
        (lambda: jit.predict_into(POLICY, X, Y, np.zeros(3, np.float32)), "scratch is too small"),
        (lambda: jit.predict(POLICY._replace(parameters=np.zeros(3, np.float32)), X), "do not belong together"),
        (lambda: jit.predict(POLICY._replace(mean=np.zeros(4)), X), "do not belong together"),
        (lambda: jit.predict(POLICY._replace(mean=np.zeros(3), deviation=np.ones(3)), X), "do not belong together"),
        (
            lambda: jit.predict_into(POLICY._replace(layers=POLICY.layers[:0]), X, Y, np.zeros(99, np.float32)),
            "do not belong together",
        ),
        (lambda: jit.jacobian(POLICY, X[:, :3]), "x has another length than the network has inputs"),
        (lambda: jit.vjp(POLICY, X, X), "v has another shape than the outputs"),
        (lambda: jit.jvp(POLICY, X, Y), "v has another shape than x"),
        (lambda: jit.hessian_vector(POLICY, X, Y[:4], X), "w has another shape"),
        (lambda: jit.hessian_vector(POLICY, X, Y, X[:4]), "v has another shape than x"),
        (lambda: jit.loss_gradient(POLICY, X, X, "mse"), "targets have another shape"),
        (lambda: jit.loss_gradient(POLICY, X, Y[:, 0].copy(), "mse"), "targets have another shape"),
        (lambda: jit.loss_gradient(POLICY, X, np.arange(4) % 3, "cross_entropy"), "targets have another shape"),
        (lambda: jit.loss_gradient(POLICY, X, np.arange(0), "cross_entropy"), "targets have another shape"),
        (lambda: jit.loss_gradient(ONE, X, np.zeros((1, 5)), "mse"), "targets have another shape"),
        (lambda: jit.loss_gradient(POLICY, X[:1], np.zeros(3), "mse"), "targets have another shape"),
        (lambda: jit.loss_gradient(POLICY, X[:0], Y[:0], "mse"), "there are no samples"),
        (lambda: jit.loss_gradient(POLICY, X, np.arange(5), "cross_entropy"), "label lies outside"),
        (lambda: jit.loss_gradient(POLICY, X[0], -1, "cross_entropy"), "label lies outside"),
        (
            lambda: jit.loss_gradient(POLICY, X, np.zeros(5, int), "mse"),
            r"integer targets are labels.*t.astype\(np.float64\)",
        ),
        (lambda: jit.loss_gradient(POLICY, X, Y, "cross_entropy"), "does not sum to 1"),
        (lambda: jit.loss_gradient(POLICY, X, Y + 2, "binary_cross_entropy"), "a target lies outside"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "rmse"), "loss is 'rmse'"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "mse", np.ones(4)), "sample_weight has another length"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "mse", np.array([1, 1, -1, 1, 1.0])), "weight is negative, NaN"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "mse", np.array([1, 1, np.nan, 1, 1])), "weight is negative, NaN"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "mse", np.full(5, 1e39)), "weight is negative, NaN or infinite"),
    ],
)
def test_wrong_values_are_refused_in_compiled_code(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_policy_with_parameters_of_another_dtype_is_refused():
    """Where its layers need what is compiled for the network's dtype alone."""

    @njit
    def square(z):
        return z * z, 2 * z

    policy = nbfc.MLP([3, 4, 2], square, dtype="float64", seed=0).freeze()
    other = jit.Policy(policy.layers, policy.parameters.astype(np.float32), policy.mean, policy.deviation)
    with pytest.raises(ValueError, match="no such code in activations for float32: expected layers and parameters"):
        jit.predict(other, np.ones(3))


@njit
def change(policy):
    policy.layers[0, 0] = 7


@pytest.mark.parametrize("duplicate", [lambda p: p, copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_nobody_changes_the_table_of_layers(duplicate):
    """Kernels find all weights by it."""
    policy = duplicate(POLICY)
    with pytest.raises(ValueError, match="read-only"):
        policy.layers[0, 0] = 7
    with pytest.raises(TypingError, match="readonly"):
        change(policy)
    state = nbfc.Trainer(samples.network([4, 9, 3], dtype="float32"), "mse", "adam").freeze()
    with pytest.raises(ValueError, match="read-only"):
        duplicate(state).policy.layers[0, 0] = 7


@pytest.mark.parametrize(
    "call",
    [
        jit.scratch,
        lambda p: jit.predict(p, X),
        lambda p: jit.predict_into(p, X, Y, SCRATCH),
        lambda p: jit.jacobian(p, X),
        lambda p: gradients(p, X, Y),
    ],
)
def test_a_table_that_could_be_changed_is_refused(call):
    with pytest.raises(TypingError, match="a Policy of such a one's own read-only layers"):
        call(POLICY._replace(layers=POLICY.layers.copy()))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {"moments": state.moments[:1]},
        lambda state: {"moments": state.moments[:0]},
        lambda state: {"moments": np.zeros((3, 5), np.float32)},
        lambda state: {"rule": state.rule[:7]},
        lambda state: {"rule": state.rule * 30},
        lambda state: {"rule": state.rule * np.nan},
        lambda state: {"loss": 1},
        lambda state: {"loss": 200},
    ],
)
def test_a_state_whose_arrays_do_not_belong_together(change):
    trainer = nbfc.Trainer(samples.network([4, 9, 3], dtype="float32"), "mse", "adam")
    state = trainer.freeze()
    with pytest.raises(ValueError, match="the state's arrays do not belong together"):
        jit.train_step(state._replace(**change(state)), X, Y)
    assert np.array_equal(state.policy.parameters, trainer.net.parameters)


@pytest.mark.parametrize("rate", [-0.1, np.nan])
def test_a_learning_rate_that_is_none(rate):
    state = nbfc.Trainer(samples.network([4, 9, 3], dtype="float32"), "mse", "adam").freeze()
    state.rule[jit.LEARNING_RATE] = rate
    with pytest.raises(ValueError, match="the learning rate in the state's rule is negative or NaN"):
        jit.train_step(state, X, Y)


def test_a_state_that_is_a_global_is_refused():
    """Numba takes it for a constant, to which a step must not write."""
    state = nbfc.Trainer(samples.network([4, 9, 3], dtype="float32"), "mse", "adam").freeze()

    @njit
    def step(X, Y):
        return jit.train_step(state, X, Y)

    with pytest.raises(TypingError, match="as a global: expected it as an argument"):
        step(X, Y)


def test_layers_that_are_no_table():
    """Parts of one may be: see test_the_first_layers_are_a_network."""
    columns = np.ascontiguousarray(POLICY.layers[:, :5])
    columns.flags.writeable = False
    for layers in (POLICY.layers[:0], columns, POLICY.layers[1:], POLICY.layers[:1], POLICY.layers[:0].reshape(0, 9)):
        policy = POLICY._replace(layers=layers)
        for call in (
            lambda p: jit.predict(p, X),
            lambda p: jit.predict(p, np.zeros(9)),
            lambda p: jit.predict_into(p, X, Y, SCRATCH),
            lambda p: gradients(p, X, Y),
            jit.scratch,
        ):
            with pytest.raises(ValueError, match="do not belong together"):
                call(policy)


@njit
def caught(policy, x, times):
    count, weights = 0, -np.ones(1)
    for _ in range(times):
        try:
            jit.predict(policy, x)
        except Exception:
            count += 1
        try:
            jit.jacobian(policy, x)
        except Exception:
            count += 1
        try:
            jit.loss_gradient(policy, x[:, :4], x[:, :3], "mse", weights)
        except Exception:
            count += 1
    return count


def test_a_call_that_is_refused_allocates_nothing(allocations):
    """Numba does not free what a function held when an error left it."""
    counts = []
    for times in (1, 1, 100):
        before = allocations().alloc  # for the arguments, from Python
        assert caught(POLICY, np.zeros((1, 5)), times) == 3 * times
        counts.append(allocations().alloc - before)
    assert counts[2] == counts[1]


def state_with(**others):
    return nbfc.Trainer(samples.network([4, 9, 3], dtype="float32"), "mse", "adam").freeze()._replace(**others)


@njit
def by_name(policy, x, t, loss):
    return jit.loss_gradient(policy, x, t, loss)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predicted(POLICY, np.zeros(4, int)), r"x is array\(int64.*such as x.astype\(np.float32\)"),
        (lambda: predicted(POLICY, np.zeros((1, 1, 4))), "x is array"),
        (lambda: predicted((1, 2), X), r"policy is UniTuple.*expected what net.freeze\(\) returns"),
        (lambda: predicted(POLICY._replace(layers=np.zeros((2, 6))), X), "policy is Policy"),
        (lambda: predict_often(POLICY, X[0], np.zeros(3), np.zeros(99, np.float32), 1), "y is array.*float32"),
        (lambda: predict_often(POLICY, X[0], Y, np.zeros(99, np.float32), 1), "y is array.*float32"),
        (lambda: predict_often(POLICY, X[0], Y[0, ::2], np.zeros(99, np.float32), 1), "y is array.*C-contiguous"),
        (lambda: predict_often(POLICY, X[0], Y[0], np.zeros(99), 1), "scratch is array"),
        (lambda: jit.vjp(POLICY, X, Y[0]), "v has 1 axes and x has 2"),
        (lambda: by_name(POLICY, X, Y, "mse"), "loss is unicode_type.*numba.literally"),
        (lambda: gradients(POLICY, X, np.zeros(5, np.int32)), r"targets are array.*such as t.astype\(np.int64\)[^']*$"),
        (lambda: gradients(POLICY, X, np.zeros((5, 3), int)), r"targets are array.*such as t.astype\(np.float64\)"),
        (lambda: predicted(POLICY, [1.0, 2.0]), "x is .*such as np.array"),
        (lambda: predicted(nbfc.Trainer(nbfc.MLP([4, 3]), "mse", "sgd").freeze(), X), r"of a state: state.policy"),
        (lambda: train(state_with(loss=0.5), X, Y, 5, 1), r"state.loss is float64"),
        (lambda: train(POLICY, X, Y, 5, 1), r"state is Policy.*expected what trainer.freeze\(\) returns"),
        (lambda: gradients(POLICY, X[0], np.array(1.0)), "targets are array.*0d"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "mse", np.ones(5, int)), "sample_weight is array.*vector of floats"),
        (lambda: jit.loss_gradient(POLICY, X, Y, "mse", np.ones((5, 1))), "sample_weight is array.*vector of floats"),
        (lambda: jit.train_step(state_with(), X, Y, 0.5), "sample_weight is float64: expected a vector of floats"),
        (lambda: jit.argmax(Y), "logits are array"),
        (lambda: jit.sample(Y[0], np.random.default_rng()), r"u is .*expected a uniform random number"),
        (lambda: jit.scratch(POLICY, 2.5), "rows is float64: expected a whole number"),
        (lambda: jit.scratch(POLICY, None), "rows is none: expected a whole number"),
        (lambda: jit.predict(POLICY, X.astype(">f4")), "dtype '>f4': expected the machine's byte order"),
        (lambda: jit.predict(POLICY._replace(mean=np.zeros(0, ">f8")), X), "dtype '>f8'"),
        (lambda: predicted(nbfc.MLP([4, 3]), X), r"MLP came to compiled code.*net.freeze\(\)"),
        (lambda: train(nbfc.Trainer(nbfc.MLP([4, 3]), "mse", "sgd"), X, Y, 5, 1), r"Trainer came.*trainer.freeze\(\)"),
    ],
)
def test_wrong_types_are_refused_where_functions_are_compiled(call, message):
    with pytest.raises(TypingError, match=f"(?s){message}"):
        call()


def test_trainers_refuse_what_is_no_state_of_theirs():
    trainer = nbfc.Trainer(samples.network([4, 9, 3]), "mse", "adam")
    with pytest.raises(TypeError, match="state is tuple"):
        trainer.restore((1, 2))
    state, standardized = trainer.freeze(), samples.network([4, 9, 3], standardized=True)
    for what, other in (
        ("network or dropout", nbfc.Trainer(samples.network([4, 9, 3], "relu"), "mse", "adam").freeze()),
        ("network or dropout", nbfc.Trainer(samples.network([2, 12, 3]), "mse", "adam").freeze()),
        ("scaling of inputs", nbfc.Trainer(standardized, "mse", "adam").freeze()),
        ("loss", nbfc.Trainer(samples.network([4, 9, 3]), "cross_entropy", "adam").freeze()),
        ("optimizer or clip_per_sample", nbfc.Trainer(samples.network([4, 9, 3]), "mse", "sgd").freeze()),
        (
            "optimizer or clip_per_sample",
            nbfc.Trainer(samples.network([4, 9, 3]), "mse", "adam", clip_per_sample=1.0).freeze(),
        ),
        ("optimizer or clip_per_sample", state._replace(rule=state.rule[:2])),
        (
            "shape or dtype of parameters",
            nbfc.Trainer(samples.network([4, 9, 3], dtype="float32"), "mse", "adam").freeze(),
        ),
        ("shape or dtype of moments", state._replace(moments=state.moments[:2])),
        ("loss", state._replace(loss=0.5)),
    ):
        with pytest.raises(ValueError, match=f"state has another {what} than this trainer"):
            trainer.restore(other)
    for entry, value in ((jit.LEARNING_RATE, np.nan), (jit.LEARNING_RATE, -1), (STEP, -1), (STEP, 2.5)):
        state.rule[:] = trainer.freeze().rule
        state.rule[entry] = value
        with pytest.raises(ValueError, match=r"state.rule\[(LEARNING_RATE|STEP)\] is"):
            trainer.restore(state)
    with pytest.raises(ValueError, match="batch_size is 0"):
        trainer.freeze(0)
    with pytest.raises(ValueError, match=r"noise_multiplier is 1\.0: expected 0"):
        nbfc.Trainer(samples.network([4, 9, 3]), "mse", "adam", clip_per_sample=1.0, noise_multiplier=1.0).freeze()
