"""What fit calls as training goes on, and learning rates."""

import csv
import math
import os
import signal

import numpy as np
import pytest

import nbfc
from nbfc import callbacks, schedules


def data(rng, N=60):
    X = rng.standard_normal((N, 3))
    return X, X @ [[1.0], [-2.0], [0.5]] + 0.3


def fit(net, X, y, *calls, epochs=5, **options):
    options = {"loss": "mse", "optimizer": nbfc.SGD(0.05), "batch_size": 20, "seed": 0, **options}
    return nbfc.fit(net, X, y, epochs=epochs, callbacks=list(calls), **options)


class Recorder(callbacks.Callback):
    """Writes down when it is called, and the learning rates of steps."""

    def __init__(self):
        self.calls, self.rates = [], []

    def on_fit_start(self, state):
        self.calls.append(("start", state.names, state.epochs, state.batches))

    def on_batch_start(self, state):
        self.calls.append((state.epoch, state.batch, state.trainer.steps, round(state.done, 9)))
        self.rates.append(state.trainer.learning_rate)

    def on_epoch_end(self, state):
        self.calls.append(("epoch", len(state.history)))

    def on_fit_end(self, state):
        self.calls.append("end")


def test_callbacks_are_called_in_order_and_change_nothing(rng):
    X, y = data(rng, 50)
    plain, watched, recorder = nbfc.MLP([3, 1], seed=0), nbfc.MLP([3, 1], seed=0), Recorder()
    fit(plain, X, y, epochs=2)
    history = fit(watched, X, y, recorder, epochs=2, validation=(X, y))
    assert np.array_equal(plain.parameters, watched.parameters)
    assert history.stopped == ""
    assert recorder.calls == [
        ("start", ("loss", "validation_loss"), 2, 3),
        *[(1, batch, batch - 1, round((batch - 1) / 3, 9)) for batch in (1, 2, 3)],
        ("epoch", 1),
        *[(2, batch, batch + 2, round(1 + (batch - 1) / 3, 9)) for batch in (1, 2, 3)],
        ("epoch", 2),
        "end",
    ]


def test_an_object_with_one_method_is_a_callback(rng):
    class Stopper:
        def on_epoch_end(self, state):
            return state.epoch == 2

    recorder = Recorder()
    history = fit(nbfc.MLP([3, 1], seed=0), *data(rng), Stopper(), recorder)
    assert len(history) == 2
    assert history.stopped == "by Stopper after epoch 2"
    assert recorder.calls[-2:] == [("epoch", 2), "end"]  # the others are called, too


@pytest.mark.parametrize("method", ["on_fit_start", "on_batch_start", "on_epoch_end"])
def test_what_a_callback_raises_ends_the_fit_and_the_others_are_ended(method, rng):
    def fail(state):
        raise RuntimeError("of my own")

    class Failing(callbacks.Callback):
        pass

    setattr(Failing, method, lambda self, state: fail(state))
    net, before, last = nbfc.MLP([3, 1], seed=0), Recorder(), Recorder()
    with pytest.raises(RuntimeError, match="of my own"):
        fit(net, *data(rng), before, Failing(), last)
    assert before.calls[-1] == "end"
    assert ("end" in last.calls) == (method != "on_fit_start")
    assert np.isfinite(net.parameters).all()


@pytest.fixture
def interrupts():
    """Take interrupts as a program at a terminal does; one in the background has them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("where", ["on_batch_start", "on_epoch_end"])
def test_an_interrupt_ends_the_fit_with_the_history(where, rng):
    class Interrupting(callbacks.Callback):
        pass

    def interrupt(self, state):
        if state.epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)

    setattr(Interrupting, where, interrupt)
    X, y = data(rng)
    net, same, recorder = nbfc.MLP([3, 1], seed=0), nbfc.MLP([3, 1], seed=0), Recorder()
    history = fit(net, X, y, Interrupting(), recorder, epochs=9)
    assert len(history) == (2 if where == "on_batch_start" else 3)
    assert history.stopped.startswith("by an interrupt in epoch 3, batch ")
    assert recorder.calls[-1] == "end"
    fit(same, X, y, epochs=len(history))
    assert np.allclose(net.parameters, same.parameters, atol=0.05)


def test_early_stopping_leaves_the_best_parameters(rng):
    X, y = data(rng)
    kept = []

    class Keeper(callbacks.Callback):
        def on_epoch_end(self, state):
            kept.append(state.net.parameters.copy())
            state.trainer.learning_rate = 0.05 if state.epoch < 4 else 0.7  # from the fourth on it becomes worse

    net = nbfc.MLP([3, 1], seed=0)
    history = fit(net, X, y, callbacks.EarlyStopping(3), Keeper(), epochs=50, validation=(X, y))
    losses = history.column("validation_loss")
    assert np.argmin(losses) == len(losses) - 4
    assert history.stopped == f"by EarlyStopping after epoch {len(losses)}"
    assert np.array_equal(net.parameters, kept[-4])


def test_early_stopping_restores_after_an_error_and_serves_again(rng):
    X, y = data(rng)

    class Failing(callbacks.Callback):
        def on_epoch_end(self, state):
            if state.epoch == 2:
                state.net.parameters = 9
            if state.epoch == 3:
                raise RuntimeError

    net, stopping = nbfc.MLP([3, 1], seed=0), callbacks.EarlyStopping(monitor="loss")
    with pytest.raises(RuntimeError):
        fit(net, X, y, stopping, Failing())
    assert abs(net.parameters).max() < 9
    best = net.parameters.copy()
    fit(net, X, y, stopping, epochs=1, optimizer=nbfc.SGD(0.0))
    assert np.array_equal(net.parameters, best)


def test_a_metric_is_to_rise_or_to_fall(rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    options = {"loss": "cross_entropy", "metrics": ["accuracy"], "epochs": 30, "optimizer": nbfc.SGD(0.0)}
    history = fit(nbfc.MLP([3, 2], seed=0), X, y, callbacks.EarlyStopping(2, monitor="accuracy"), **options)
    assert len(history) == 3

    def mine(targets, outputs):
        return 1.0

    options["metrics"] = [mine]
    with pytest.raises(ValueError, match="mode is left out, but 'mine' is a metric of your own"):
        fit(nbfc.MLP([3, 2]), X, y, callbacks.EarlyStopping(monitor="mine"), **options)
    assert len(fit(nbfc.MLP([3, 2]), X, y, callbacks.EarlyStopping(2, "mine", "max"), **options)) == 3


def test_changes_below_the_least_do_not_count(rng):
    X, y = data(rng)
    history = fit(nbfc.MLP([3, 1], seed=0), X, y, callbacks.EarlyStopping(2, least_change=1e9), epochs=9)
    assert len(history) == 3


def test_the_learning_rate_is_reduced_where_nothing_improves(rng):
    X, y = data(rng)
    plateau = callbacks.ReduceOnPlateau(2, factor=0.5, least_change=1e9)
    history = fit(nbfc.MLP([3, 1], seed=0), X, y, plateau, epochs=7, optimizer=nbfc.SGD(0.08))
    assert history.column("learning_rate") == [0.08] * 3 + [0.04] * 2 + [0.02] * 2


# ---- schedules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [  # at 0, 2.5, 5, 7.5 and nearly 10 of 10 epochs
        (schedules.Constant(), [1, 1, 1, 1, 1]),
        (schedules.Step(3, 0.1), [1, 1, 0.1, 0.01, 0.001]),
        (schedules.Exponential(0.9), [0.9**t for t in (0, 2.5, 5, 7.5, 10)]),
        (schedules.Cosine(), [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
        (schedules.Cosine(0.2), [1, 0.2 + 0.4 * (1 + math.sqrt(0.5)), 0.6, 0.2 + 0.4 * (1 - math.sqrt(0.5)), 0.2]),
        (schedules.OneCycle(0.25, 0.1, 0.0), [0.1, 1, 0.75, 0.25, 0]),
        (schedules.InverseScaling(), [(1 + t) ** -0.5 for t in (0, 2.5, 5, 7.5, 10)]),
        (schedules.WarmUp(5, first=0.0), [0, 0.5, 1, 1, 1]),
        (schedules.WarmUp(5, schedules.Cosine(), 0.2), [0.2, 0.6, 1, 0.5, 0]),
    ],
    ids=str,
)
def test_schedules(schedule, expected):
    np.testing.assert_allclose([schedule(t, 10) for t in (0, 2.5, 5, 7.5, 10 - 1e-12)], expected, atol=1e-9)


def test_a_schedule_sets_each_steps_learning_rate(rng):
    recorder = Recorder()
    schedule = callbacks.LearningRateSchedule(lambda done, epochs: 1 + done / epochs)
    history = fit(nbfc.MLP([3, 1], seed=0), *data(rng), schedule, recorder, epochs=2)
    np.testing.assert_allclose(recorder.rates, [0.05 * (1 + t / 6) for t in range(6)])
    np.testing.assert_allclose(history.column("learning_rate"), [0.05 * (1 + 2 / 6), 0.05 * (1 + 5 / 6)])


def test_find_learning_rate_leaves_the_network_as_it_is(rng):
    X, y = data(rng)
    net = nbfc.MLP([3, 8, 1], seed=0)
    before = net.parameters.copy()
    found = nbfc.find_learning_rate(net, X, y, loss="mse", optimizer="sgd", batch_size=20, seed=0)
    assert np.array_equal(net.parameters, before)
    assert 1e-3 < found.suggestion < 1
    assert found.rates[0] == 1e-6
    assert len(found.rates) == len(found.losses) == len(found.smooth) < 100
    again = nbfc.find_learning_rate(net, X, y, loss="mse", optimizer="sgd", batch_size=20, seed=0)
    assert np.array_equal(again.losses, found.losses)
    with pytest.raises(nbfc.DivergenceError, match="a lower `lowest`"):
        nbfc.find_learning_rate(net, X, y, loss="mse", optimizer="sgd", batch_size=20, lowest=1e20, highest=1e30)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_line_for_each_epoch_in_a_file(rng, tmp_path):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    seen = []

    class Reader(callbacks.Callback):
        def on_epoch_end(self, state):
            seen.append(len((tmp_path / "log.csv").read_text().splitlines()))

    options = {"loss": "cross_entropy", "metrics": ["accuracy"], "validation": (X, y), "epochs": 3}
    history = fit(nbfc.MLP([3, 2], seed=0), X, y, callbacks.CSVLogger(tmp_path / "log.csv"), Reader(), **options)
    assert seen == [2, 3, 4]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("epoch", "loss", "validation_loss", "accuracy", "learning_rate", "seconds"):
        assert [float(row[name]) for row in rows] == history.column(name)


def test_numbers_for_tensorboard(rng, tmp_path):
    pytest.importorskip("tensorboardX")
    fit(nbfc.MLP([3, 1], seed=0), *data(rng), callbacks.TensorBoard(tmp_path), epochs=2)
    (file,) = tmp_path.iterdir()
    assert file.read_bytes().count(b"learning_rate") == 2


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "error", "message"),
    [
        (callbacks.EarlyStopping(), TypeError, "callbacks is EarlyStopping.*expected a list"),
        ([callbacks.EarlyStopping], TypeError, "callbacks has <class.*expected an object with a method"),
        ([3], TypeError, "callbacks has 3"),
        ([callbacks.EarlyStopping(monitor="validation_loss")], ValueError, "monitor is 'validation_loss'.*'loss'"),
        ([callbacks.LearningRateSchedule(lambda done, epochs: -1)], ValueError, "learning_rate is -"),
        ([callbacks.LearningRateSchedule(lambda done, epochs: None)], TypeError, "the schedule returned None"),
        ([callbacks.CSVLogger("/nowhere/log.csv")], OSError, "/nowhere/log.csv"),
    ],
)
def test_callbacks_that_fit_refuses(calls, error, message, rng):
    net = nbfc.MLP([3, 1], seed=0)
    before = net.parameters.copy()
    with pytest.raises(error, match=message):
        nbfc.fit(net, *data(rng), loss="mse", optimizer="sgd", epochs=1, batch_size=20, callbacks=calls)
    assert np.array_equal(net.parameters, before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: callbacks.EarlyStopping(0), ValueError, "patience is 0"),
        (lambda: callbacks.EarlyStopping(mode="up"), ValueError, "mode is 'up'"),
        (lambda: callbacks.EarlyStopping(least_change=-1), ValueError, "least_change is -1"),
        (lambda: callbacks.ReduceOnPlateau(factor=1), ValueError, "factor is 1"),
        (lambda: callbacks.LearningRateSchedule(0.1), TypeError, "schedule is 0.1"),
        (lambda: schedules.Step(0), ValueError, "every is 0"),
        (lambda: schedules.Step(factor=0), ValueError, "factor is 0"),
        (lambda: schedules.Exponential(-1), ValueError, "factor is -1"),
        (lambda: schedules.Cosine(-1), ValueError, "last is -1"),
        (lambda: schedules.OneCycle(1), ValueError, "rise is 1"),
        (lambda: schedules.InverseScaling(-1), ValueError, "power is -1"),
        (lambda: schedules.WarmUp(0), ValueError, "epochs is 0"),
        (lambda: schedules.WarmUp(1, 0.1), TypeError, "then is 0.1"),
        (
            lambda: nbfc.find_learning_rate(
                nbfc.MLP([1, 1]), [[1.0]], [1.0], loss="mse", optimizer="sgd", batch_size=1, lowest=1, highest=1
            ),
            ValueError,
            "highest is 1",
        ),
    ],
)
def test_arguments_out_of_their_range(make, error, message):
    with pytest.raises(error, match=message):
        make()
