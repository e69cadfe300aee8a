"""The loop: batches, one step against the oracle, fits, and divergence."""

import copy
import pickle
import time
from functools import partial

import naive
import numpy as np
import pytest
import samples

import nbfc
from nbfc import losses, metrics
from nbfc.kernels import frozen_training, parameters, step, workspace
from nbfc.kernels.dense import FEW_ROWS, MORE_ROWS, WHOLE, share_of
from nbfc.kernels.few_samples import shares_weights
from nbfc.kernels.layers import N_OUT, W_ROWS, table
from nbfc.kernels.regularization import TOGETHER
from nbfc.weighting import NO_WEIGHTS

OPTIMIZERS = [
    nbfc.SGD(0.1),
    nbfc.SGD(0.05, momentum=0.9),
    nbfc.SGD(0.05, momentum=0.9, nesterov=True),
    nbfc.Adam(0.01),
    nbfc.Adam(0.01, beta1=0.5, beta2=0.9, epsilon=1e-3),
    nbfc.AdamW(0.01, weight_decay=0.1),
    nbfc.Nadam(0.01, beta2=0.9),
    nbfc.Lion(0.003, weight_decay=0.1),
]


def data(N=23, m=5, n=3, case="mse", seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, m))
    loss, y = samples.targets(case, N, n, rng)
    return X, y, loss


# ---- one step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_steps_are_the_oracles_updates(optimizer):
    X, y, loss = data()
    net = nbfc.MLP([5, 7, 3], "tanh", dtype="float64", seed=1)
    trainer = nbfc.Trainer(net, loss, optimizer)
    theta, m, v = net.parameters.copy(), np.zeros(net.parameters.size), np.zeros(net.parameters.size)
    shadow = nbfc.MLP([5, 7, 3], "tanh", dtype="float64")
    for t in range(1, 6):
        shadow.parameters[:] = theta
        before, g = shadow.loss_and_gradient(X, y, loss)
        assert trainer.step(X, y) == pytest.approx(before, rel=1e-10)
        if isinstance(optimizer, nbfc.SGD):
            naive.sgd(theta, g, m, optimizer.learning_rate, optimizer.momentum, optimizer.nesterov)
        elif isinstance(optimizer, nbfc.Lion):
            naive.lion(theta, g, m, optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.weight_decay)
        elif isinstance(optimizer, nbfc.Nadam):
            numbers = (optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon)
            naive.nadam(theta, g, m, v, t, *numbers)
        else:
            decay = getattr(optimizer, "weight_decay", 0.0)
            numbers = (optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon, decay)
            naive.adam(theta, g, m, v, t, *numbers)
        np.testing.assert_allclose(net.parameters, theta, rtol=1e-9, atol=1e-11)
    assert trainer.steps == 5


@pytest.mark.parametrize("N", [1, 2, WHOLE - 1, WHOLE, WHOLE + 1, 3 * WHOLE])
def test_batches_of_any_size_are_right_one_after_another(N, dtype):
    """The memory of a step is used again by the next, whatever their sizes."""
    net = nbfc.MLP([5, 7, 3], seed=1, dtype=dtype)
    trainer = nbfc.Trainer(net, "mse", nbfc.SGD(0.1))
    for size in (50, N, 3, N):
        X, y, _ = data(size, seed=size)
        X, y = X.astype(dtype), y.astype(dtype)
        fresh = nbfc.MLP([5, 7, 3], dtype=dtype)
        fresh.parameters[:] = net.parameters
        expected = nbfc.Trainer(fresh, "mse", nbfc.SGD(0.1)).step(X, y)
        assert trainer.step(X, y) == expected
        assert np.array_equal(net.parameters, fresh.parameters)


def test_a_new_learning_rate_acts_on_the_next_step():
    X, y, loss = data()
    net = nbfc.MLP([5, 3], dtype="float64", seed=1)
    trainer = nbfc.Trainer(net, loss, nbfc.SGD(0.1))
    before, (_, g) = net.parameters.copy(), net.loss_and_gradient(X, y, loss)
    trainer.learning_rate = 0.5
    trainer.step(X, y)
    np.testing.assert_allclose(net.parameters, before - 0.5 * g, rtol=1e-12)
    with pytest.raises(ValueError, match="learning_rate is -1: expected a finite number, at least 0"):
        trainer.learning_rate = -1


def test_one_optimizer_serves_several_networks():
    X, y, loss = data()
    optimizer = nbfc.Adam(0.01)
    nets = [nbfc.MLP([5, 4, 3], seed=1) for _ in range(2)]
    first, second = (nbfc.Trainer(net, loss, optimizer) for net in nets)
    for _ in range(3):
        first.step(X, y)
    for _ in range(3):
        second.step(X, y)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)


# ---- batches --------------------------------------------------------------------------------------------------------


def test_batches_cover_every_sample_once_in_a_new_order(rng):
    X, y = np.arange(23)[:, None], np.arange(23)
    orders = []
    for _ in range(2):
        parts = list(nbfc.batches(X, y, 5, rng))
        assert [len(X_batch) for X_batch, _ in parts] == [5, 5, 5, 5, 3]
        assert all(np.array_equal(X_batch[:, 0], y_batch) for X_batch, y_batch in parts)
        orders.append(np.concatenate([y_batch for _, y_batch in parts]))
        assert np.array_equal(np.sort(orders[-1]), y)
    assert not np.array_equal(*orders)
    assert np.array_equal(np.concatenate([part for _, part in nbfc.batches(X, y, 5)]), y)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((5, 2)), np.ones(5), 0), ValueError, "batch_size is 0: expected at least 1"),
        ((np.ones((5, 2)), np.ones(5), 2.0), TypeError, "batch_size is 2.0: expected a whole number"),
        ((np.ones((5, 2)), np.ones(4), 2), ValueError, "X has 5 rows and y has 4"),
        ((np.ones((0, 2)), np.ones(0), 2), ValueError, r"X has shape \(0, 2\): expected at least one sample"),
        ((np.ones((5, 2)), 1.0, 2), ValueError, "y is a single number"),
        ((np.ones((5, 2)), np.ones(5), 2, 7), TypeError, "rng is 7: expected a generator"),
    ],
)
def test_batches_refuse_at_the_call(arguments, error, message):
    with pytest.raises(error, match=message):
        nbfc.batches(*arguments)


# ---- fit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", samples.LOSSES)
def test_fit_does_what_the_loop_by_hand_does_to_the_bit(case, dtype):
    X, y, loss = data(23, case=case)
    fitted, by_hand = (nbfc.MLP([5, 7, 3], dtype=dtype, seed=1) for _ in range(2))
    for net in (fitted, by_hand):
        net.standardize_inputs(X)
    history = nbfc.fit(fitted, X, y, loss=loss, optimizer="adam", epochs=3, batch_size=6, seed=4)
    trainer, rng = nbfc.Trainer(by_hand, loss, nbfc.Adam(0.001)), np.random.default_rng(4)
    for epoch in range(3):
        total = sum(trainer.step(*batch) * len(batch[0]) for batch in nbfc.batches(X, y, 6, rng))
        assert history[epoch].loss == total / 23
    assert np.array_equal(fitted.parameters, by_hand.parameters)


def test_history_has_a_record_an_epoch(rng):
    X, y, _ = data(40, case="cross_entropy of labels")
    X_held_out, y_held_out, loss = data(11, case="cross_entropy of labels", seed=1)
    net = nbfc.MLP([5, 7, 3], seed=1)

    def spread(targets, outputs):
        assert targets.shape == (11,)
        return np.ptp(outputs)

    started = time.perf_counter()
    history = nbfc.fit(
        net,
        X,
        y,
        loss=loss,
        optimizer=nbfc.SGD(0.1),
        epochs=4,
        batch_size=16,
        validation=(X_held_out, y_held_out),
        metrics=["accuracy", spread],
        seed=0,
    )
    elapsed = time.perf_counter() - started
    assert [record.epoch for record in history] == [1, 2, 3, 4]
    last = history[-1]
    outputs = net.predict(X_held_out)
    assert last.validation_loss == pytest.approx(net.loss_and_gradient(X_held_out, y_held_out, loss)[0], rel=1e-6)
    assert last.metrics == {"accuracy": np.mean(outputs.argmax(axis=1) == y_held_out), "spread": np.ptp(outputs)}
    assert 0 < sum(history.column("seconds")) < elapsed
    assert last.samples_per_second == pytest.approx(40 / last.seconds)
    assert history.column("loss") == [record.loss for record in history]
    assert history.column("accuracy")[-1] == last.metrics["accuracy"]
    assert last.loss < history[0].loss
    assert str(history).splitlines()[3].startswith(f"epoch 4: loss {last.loss:.4g}, validation loss ")
    assert f"accuracy {last.metrics['accuracy']:.4g}, spread " in str(last)
    with pytest.raises(
        ValueError, match=r"name is 'val_loss': expected one of 'epoch', 'loss', .* 'accuracy', 'spread'"
    ):
        history.column("val_loss")


def test_metrics_are_of_the_training_data_where_there_are_no_others():
    X, y, loss = data(40, n=1, case="binary_cross_entropy")
    y = np.round(y)
    net = nbfc.MLP([5, 1], seed=1)
    history = nbfc.fit(net, X, y, loss=loss, optimizer="sgd", epochs=1, batch_size=16, metrics=["accuracy"])
    assert history[0].validation_loss is None
    assert history[0].metrics["accuracy"] == np.mean((net.predict(X) > 0) == y)


@pytest.mark.parametrize("case", samples.LOSSES)
def test_bits_are_the_same_for_any_number_of_threads_and_from_run_to_run(case, dtype, threads):
    X, y, loss = data(150, 33, 17, case)
    results = set()
    for count in (0, 1, 2, 2):
        threads(count)
        net = nbfc.MLP([33, 130, 41, 17], ["tanh", "relu"], dtype=dtype, seed=1)
        optimizer = nbfc.Adam(0.01)
        history = nbfc.fit(
            net, X, y, loss=loss, optimizer=optimizer, epochs=2, batch_size=70, seed=5, validation=(X, y)
        )
        results.add((net.parameters.tobytes(), history[-1].loss, history[-1].validation_loss))
    assert len(results) == 1


@pytest.mark.parametrize("count", [1, FEW_ROWS - 1, 60, MORE_ROWS, MORE_ROWS + 1, 700])
@pytest.mark.parametrize(
    "widths",
    [
        (3, 1, 1),
        (1, 1),
        (70, 5, 3),
        (33, 130, 41, 17),
        (2, 300, 1),
        (5, 1, 64, 2),
        (530, 70, 600, 9),
        (530, 700, 300, 9),
        (1000, 700, 20, 9),
        (2000, 24, 1000, 1000),
    ],
)
def test_bits_are_the_same_for_any_number_of_shares(widths, count):
    """Threads share the weights where samples are few: at most 31, or in the last networks 129, beside their weights.

    Larger batches are cut into parts, or not.
    """
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((count, widths[0])), rng.standard_normal((count, widths[-1]))
    nbfc.Trainer(nbfc.MLP([1, 1], "tanh", dtype="float64"), "mse", "adam").step([[1]], [[1]])  # compiles what is called
    code, labels, rows = losses.resolve("mse").arguments(y, np.dtype(float))
    results = set()
    for shares in (1, 2, 3, 7, 40):
        net = nbfc.MLP(widths, "tanh", dtype="float64", seed=1)
        state = np.zeros((3, net.parameters.size))
        work = np.full(workspace.size_of_work(net._layers, count, shares), np.nan)
        every = np.empty(0, np.int64)
        goal = labels, rows, NO_WEIGHTS[net.dtype], code
        step.train_step(X, every, *goal, net._layers, net.parameters, state, work, nbfc.Adam(0.1).rule(), shares)
        results.add(net.parameters.tobytes())
        assert np.all(net.parameters != nbfc.MLP(widths, "tanh", dtype="float64", seed=1).parameters)
    assert len(results) == 1


@pytest.mark.parametrize("N", [1, 500])
@pytest.mark.parametrize("shares", [1, 2, 3, 7])
def test_blocks_of_parameters_are_all_rows_of_all_weights_cut_where_vectors_end(shares, N):
    """What is left over by vectors may have other last bits, so it has to be the same wherever blocks end."""
    widths = [1000, 3, 1500, 12, 101, 64, 1, 700, 2]
    layers = table(widths, [0] * 8, normalized=True)
    of_share = sum(parameters.blocks_of_share(layers, layer, N, shares) for layer in range(len(layers)))
    found = {layer: [] for layer in range(len(layers))}
    for block in range(of_share * shares):
        layer, *rows = parameters.rows_of_block.py_func(layers, block, of_share, N, shares)
        if rows[0] < rows[1]:
            found[layer].append(tuple(rows))
    for layer, cuts in found.items():
        starts, stops = zip(*sorted(cuts), strict=True)
        n_out, rows = layers[layer, N_OUT], layers[layer, W_ROWS]
        assert starts == (0, *stops[:-1])
        assert stops[-1] == rows
        assert all(row * n_out % TOGETHER == 0 for row in stops[:-1])
        most = max(min(parameters.INPUTS, parameters.INPUTS_FOR_SAMPLE * N), parameters.WEIGHTS // n_out)
        assert max(stop - start for start, stop in cuts) < most + 2 * TOGETHER
        if rows > shares * TOGETHER:
            assert shares * parameters.blocks_of_share(layers, layer, N, shares) - len(cuts) < shares


@pytest.mark.parametrize(("width", "N"), [(70, 1), (70, 5), (70, FEW_ROWS - 1), (700, MORE_ROWS + 12)])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_few_rows_have_the_gradient_of_many_copies_of_them(width, N, activation, dtype, threads, rng):
    """Few rows go through the layers in another way, and in other orders of summation; also by way of an order."""
    threads(2)
    net = nbfc.MLP([530, width, 600, 9], activation, dtype=dtype, seed=1)
    X, y = rng.standard_normal((N, 530)).astype(dtype), rng.standard_normal((N, 9)).astype(dtype)
    copies = max(2, -(-FEW_ROWS // N))
    assert shares_weights(net._layers, N)
    assert not shares_weights(net._layers, copies * N)
    value, gradient = net.loss_and_gradient(X, y, "mse")
    expected, slopes = net.loss_and_gradient(np.tile(X, (copies, 1)), np.tile(y, (copies, 1)), "mse")
    error = max(600, width) * float(np.finfo(dtype).eps)  # terms of the longest sum
    assert value == pytest.approx(expected, rel=error)
    assert np.linalg.norm(gradient - slopes) <= error * np.linalg.norm(slopes)

    trainer, ordered = (nbfc.Trainer(copy.deepcopy(net), "mse", "adam") for _ in range(2))
    order = rng.permutation(N)
    trainer.step(X[order], y[order])
    ordered._step(X, y[order], NO_WEIGHTS[net.dtype], order)
    assert np.array_equal(trainer.net.parameters, ordered.net.parameters)


@pytest.mark.parametrize(
    ("widths", "count", "parts"),
    [
        *[((4, 9, 3), count, 0) for count in (128, 129, 1000, 1025, 5000)],
        ((4, 9, 3), 30000, 120),
        *[((600, 3), count, parts) for count, parts in ((128, 0), (129, 0), (1000, 8), (1025, 8), (5000, 24))],
        *[((200, 90, 3), count, parts) for count, parts in ((128, 0), (255, 2), (256, 2), (511, 4), (2049, 16))],
        *[((20000, 27), count, parts) for count, parts in ((127, 0), (128, 2), (129, 2), (257, 4))],
    ],
)
def test_a_batch_in_parts_has_the_gradient_of_its_samples(widths, count, parts, rng):
    """Its loss and gradient are the means of those of small batches, which stay whole; also in an order.

    Of the wide one 129 samples would be few beside its weights, if they were not cut into parts. Of the narrow one many
    are so little work that one thread may well take them all.
    """
    net = nbfc.MLP(widths, "tanh", dtype="float64", seed=1)
    assert [workspace.number_of_parts(net._layers, n) for n in (100, count)] == [0, parts]
    X, y = (rng.standard_normal((count, widths[end])) for end in (0, -1))
    loss, gradient = net.loss_and_gradient(X, y, "mse")
    total, sums = 0.0, np.zeros(net.parameters.size)
    for start in range(0, count, 100):
        rows = slice(start, start + 100)
        part_loss, part_gradient = net.loss_and_gradient(X[rows], y[rows], "mse")
        total, sums = total + len(X[rows]) * part_loss, sums + len(X[rows]) * part_gradient
    np.testing.assert_allclose(loss, total / count, rtol=1e-13)
    np.testing.assert_allclose(gradient, sums / count, rtol=1e-10, atol=1e-14)

    whole, shuffled = nbfc.Trainer(net, "mse", "sgd"), rng.permutation(count)
    other = nbfc.Trainer(copy.deepcopy(net), "mse", "sgd")
    assert whole.step(X[shuffled], y[shuffled]) == other._step(X, y[shuffled], NO_WEIGHTS[net.dtype], shuffled)
    assert whole.net.parameters.tobytes() == other.net.parameters.tobytes()


@pytest.mark.parametrize(
    "widths", [(4, 9, 3), (300, 90, 7), (784, 256, 10), (16, 24, 4), (30, 400, 200, 10), (9, 9000)]
)
def test_parts_are_as_many_for_each_of_two_four_or_eight_threads(widths):
    """And a state has memory for all batches up to the largest that was asked for."""
    layers, seen = table(widths, [0] * (len(widths) - 1)), set()
    for N in (*range(1, 2200), *range(2200, 40000, 97)):
        parts, rows = workspace.number_of_parts(layers, N), workspace.rows_of_part(layers, N)
        seen.add(parts)
        if parts == 0:
            assert rows == N
            continue
        assert parts in (2, 4) or parts % 8 == 0
        lengths = [end - start for start, end in (share_of.py_func(N, part, parts, WHOLE) for part in range(parts))]
        assert sum(lengths) == N
        assert max(lengths) <= rows <= workspace.ROWS
        assert min(lengths) >= workspace.PART
    assert seen >= ({0, 2, 4, 8, 16, 120} if widths[0] > 16 or widths[1] > 100 else {0, 120})
    for most in (1, 300, 2048, 2049, 4100, 5000, 23000):
        enough = frozen_training.size_for_batches(layers, most)
        assert enough >= max(frozen_training.size_of_all(layers, N) for N in range(1, most + 1))


@pytest.mark.parametrize("count", [3, 500])
def test_a_trainer_goes_on_from_memory_that_is_read_only(count, rng):
    """As joblib hands large arrays to other processes."""
    trainer = nbfc.Trainer(nbfc.MLP([4, 9, 3], seed=1), "mse", "adam")
    X, y = rng.standard_normal((count, 4)), rng.standard_normal((count, 3))
    trainer.step(X, y)
    buffers = []
    data = pickle.dumps(trainer, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) > 2
    other = pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])
    assert other.step(X, y) == trainer.step(X, y)
    assert np.array_equal(other.net.parameters, trainer.net.parameters)
    assert other.steps == 2


@pytest.mark.parametrize("widths", [(4, 9, 3), (4, 500, 3)])
def test_a_step_on_parts_that_overflows_is_undone(widths, rng):
    net = nbfc.MLP(widths, seed=1)
    assert (workspace.number_of_parts(net._layers, 500) > 0) == (500 in widths)
    before = net.parameters.copy()
    trainer = nbfc.Trainer(net, "mse", nbfc.SGD(3e38))
    X, y = rng.standard_normal((500, 4)), 1e3 * rng.standard_normal((500, 3))
    with pytest.raises(nbfc.DivergenceError, match="would become NaN or infinite"):
        trainer.step(X, y)
    assert np.array_equal(net.parameters, before)
    X[300, 2] = np.inf
    with pytest.raises(nbfc.DivergenceError, match="the loss is"):
        trainer.step(X, y)
    assert np.array_equal(net.parameters, before)


def test_an_interrupted_step_is_counted_if_it_was_taken(monkeypatch):
    """Adam's correction of its moments depends on the count, and Python may lose what the kernel returns."""
    X, y, loss = data()
    trainer = nbfc.Trainer(nbfc.MLP([5, 3], seed=0), loss, "adam")
    run = trainer.net._run_step

    def interrupt(*args, after):
        if after:
            run(*args)
        raise KeyboardInterrupt

    for after, steps in ((False, 0), (True, 1)):
        with monkeypatch.context() as patch:
            patch.setattr(trainer.net, "_run_step", partial(interrupt, after=after))
            with pytest.raises(KeyboardInterrupt):
                trainer.step(X, y)
        assert trainer.steps == steps
    trainer.step(X, y)
    assert trainer.steps == 2
    other = nbfc.Trainer(nbfc.MLP([5, 3], seed=0), loss, "adam")
    for _ in range(2):
        other.step(X, y)
    assert np.array_equal(trainer.net.parameters, other.net.parameters)


def test_every_layout_trains_to_the_same_bits_and_compiles_nothing(tmp_path, rng):
    X = rng.integers(0, 9, (12, 5)).astype(np.float64)
    y = rng.integers(0, 3, 12)
    expected = None
    for name, other in samples.layouts(X, tmp_path):
        net = nbfc.MLP([5, 4, 3], seed=1)
        nbfc.fit(net, other, y, loss="cross_entropy", optimizer="adam", epochs=2, batch_size=5, seed=0)
        expected = net.parameters if expected is None else expected
        assert np.array_equal(net.parameters, expected), name
    signatures = list(step.train_step.serial.signatures)
    net = nbfc.MLP([5, 9, 8, 3], "tanh", seed=1)
    nbfc.fit(net, X[::2], y[::2].astype(">i2"), loss="cross_entropy", optimizer="sgd", epochs=1, batch_size=4)
    assert list(step.train_step.serial.signatures) == signatures


def test_progress_is_silent_where_stderr_is_no_terminal(capsys):
    X, y, loss = data()
    nbfc.fit(nbfc.MLP([5, 3]), X, y, loss=loss, optimizer="sgd", epochs=2, batch_size=8)
    assert capsys.readouterr() == ("", "")


def test_progress_shows_epoch_loss_and_rate_on_a_terminal(capsys, monkeypatch):
    import sys

    X, y, loss = data()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    nbfc.fit(nbfc.MLP([5, 3]), X, y, loss=loss, optimizer="sgd", epochs=2, batch_size=8)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown
    assert "loss " in shown
    assert "samples/s" in shown
    nbfc.fit(nbfc.MLP([5, 3]), X, y, loss=loss, optimizer="sgd", epochs=2, batch_size=8, progress=False)
    assert capsys.readouterr().err == ""


# ---- divergence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [nbfc.SGD(1e4), nbfc.SGD(1e30), nbfc.SGD(1e30, momentum=0.9), nbfc.Adam(1e38)])
def test_divergence_names_epoch_and_batch_and_leaves_the_last_finite_parameters(optimizer):
    X, y, loss = data(40)
    net = nbfc.MLP([5, 7, 3], seed=1)
    with pytest.raises(nbfc.DivergenceError, match=r"epoch \d+, batch \d+: .* at step \d+") as caught:
        nbfc.fit(net, X, y, loss=loss, optimizer=optimizer, epochs=50, batch_size=8, seed=0)
    assert np.isfinite(net.parameters).all()

    again = nbfc.MLP([5, 7, 3], seed=1)
    trainer, rng = nbfc.Trainer(again, loss, optimizer), np.random.default_rng(0)
    last = None
    try:
        for _ in range(50):
            for batch in nbfc.batches(X, y, 8, rng):
                last = again.parameters.copy()
                trainer.step(*batch)
        pytest.fail("the loop by hand did not diverge")
    except nbfc.DivergenceError:
        pass
    assert np.array_equal(last, again.parameters)
    assert np.array_equal(again.parameters, net.parameters)
    epochs, batch = divmod(trainer.steps, 5)
    assert f"epoch {epochs + 1}, batch {batch + 1}:" in str(caught.value)
    assert len(caught.value.history) == epochs


def test_nan_in_a_step_is_divergence_and_changes_nothing():
    X, y, loss = data()
    net = nbfc.MLP([5, 7, 3], seed=1)
    before = net.parameters.copy()
    spoilt_X = X.copy()
    spoilt_X[3, 2] = np.nan
    trainer = nbfc.Trainer(net, loss, "adam")
    with pytest.raises(nbfc.DivergenceError, match="the loss is nan at step 1"):
        trainer.step(spoilt_X, y)
    assert np.array_equal(net.parameters, before)
    assert trainer.steps == 0
    trainer.step(X, y)  # the moments are as they were, too
    other = nbfc.MLP([5, 7, 3], seed=1)
    nbfc.Trainer(other, loss, "adam").step(X, y)
    assert np.array_equal(net.parameters, other.parameters)


# ---- errors ---------------------------------------------------------------------------------------------------------

GOOD = {"loss": "mse", "optimizer": "adam", "epochs": 1, "batch_size": 4}


def spoilt(value):
    X = np.ones((9, 5))
    X[4, 2] = value
    return X


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"X": np.ones((9, 4))}, ValueError, r"X has shape \(9, 4\): expected \(batch, 5\)"),
        ({"X": np.ones((0, 5)), "y": np.ones((0, 3))}, ValueError, "X has no rows: expected at least one sample"),
        ({"X": spoilt(np.nan)}, ValueError, r"X\[4, 2\] is nan: expected finite numbers"),
        ({"X": spoilt(-np.inf)}, ValueError, r"X\[4, 2\] is -inf"),
        ({"X": spoilt(1e300)}, ValueError, r"X\[4, 2\] is 1e\+300, which does not fit in float32"),
        ({"y": np.full((9, 3), np.inf)}, ValueError, r"y\[0, 0\] is inf"),
        ({"y": np.ones((8, 3))}, ValueError, "X has 9 rows and y has 8"),
        ({"y": np.ones((9, 2))}, ValueError, r"y has shape \(9, 2\): expected \(N, 3\)"),
        ({"y": np.ones((9, 3), complex)}, TypeError, "y has dtype complex128"),
        ({"y": np.full(9, 3), "loss": "cross_entropy"}, ValueError, r"y\[0\] is 3: expected labels from 0 to 2"),
        ({"loss": "hinge"}, ValueError, "loss is 'hinge': expected one of"),
        (
            {"optimizer": "adagrad2"},
            ValueError,
            "optimizer is 'adagrad2': expected one of 'sgd', 'adam', 'adamw', 'rmsprop'",
        ),
        ({"optimizer": nbfc.Adam}, TypeError, "optimizer is <class .*: expected a name or an nbfc optimizer"),
        ({"epochs": 0}, ValueError, "epochs is 0: expected at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size is 0: expected at least 1"),
        ({"batch_size": True}, TypeError, "batch_size is True: expected a whole number"),
        ({"validation": np.ones((9, 5))}, TypeError, "validation is not a pair"),
        ({"validation": (spoilt(np.nan), np.ones((9, 3)))}, ValueError, r"validation: X\[4, 2\] is nan"),
        ({"validation": (np.ones((9, 5)), np.full((9, 3), np.nan))}, ValueError, r"validation: y\[0, 0\] is nan"),
        ({"validation": (np.ones((9, 4)), np.ones((9, 3)))}, ValueError, r"validation: X has shape \(9, 4\)"),
        ({"seed": -1}, ValueError, "seed is -1: expected at least 0"),
        ({"y": np.ma.masked_equal(np.ones((9, 3)), 1)}, TypeError, "y has masked entries"),
        ({"metrics": ["f2"]}, ValueError, "metric is 'f2': expected one of 'accuracy'"),
        ({"metrics": "accuracy"}, TypeError, "metrics is 'accuracy': expected a list"),
        ({"metrics": ["accuracy"]}, ValueError, "'accuracy' with the loss 'mse'"),
        ({"metrics": [max, max]}, ValueError, "metrics has 'max' twice"),
    ],
)
def test_fit_refuses_before_anything_is_changed(changes, error, message):
    net = nbfc.MLP([5, 3], seed=1)
    before = net.parameters.copy()
    arguments = {"X": np.ones((9, 5)), "y": np.ones((9, 3)), **GOOD, **changes}
    with pytest.raises(error, match=message):
        nbfc.fit(net, **arguments)
    assert np.array_equal(net.parameters, before)


def test_fit_says_which_metric_returned_no_number():
    def error(y, outputs):
        np.abs(y - outputs).max()

    with pytest.raises(TypeError, match="the metric 'error' returned None: expected a number"):
        nbfc.fit(nbfc.MLP([5, 3], seed=1), np.ones((9, 5)), np.ones((9, 3)), **GOOD | {"metrics": [error]})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nbfc.SGD(-0.1), ValueError, "learning_rate is -0.1: expected a finite number, at least 0"),
        (lambda: nbfc.SGD("fast"), TypeError, "learning_rate is 'fast': expected a number"),
        (lambda: nbfc.SGD(0.1, momentum=1), ValueError, "momentum is 1: .* at least 0 and below 1"),
        (lambda: nbfc.SGD(0.1, nesterov=True), ValueError, "nesterov is True with momentum 0"),
        (lambda: nbfc.SGD(0.1, 0.9, nesterov="no"), TypeError, "nesterov is 'no': expected True or False"),
        (lambda: nbfc.SGD(10**400), ValueError, "learning_rate is 1.*: expected a finite number"),
        (lambda: nbfc.Adam(float("nan")), ValueError, "learning_rate is nan"),
        (lambda: nbfc.Adam(beta2=1.5), ValueError, "beta2 is 1.5"),
        (lambda: nbfc.Adam(epsilon=0), ValueError, "epsilon is 0: expected a finite number, above 0"),
        (lambda: nbfc.AdamW(weight_decay=-1), ValueError, "weight_decay is -1"),
        (lambda: nbfc.Trainer("net", "mse", "sgd"), TypeError, "net is 'net': expected an nbfc.MLP"),
    ],
)
def test_optimizers_and_trainers_refuse_what_they_cannot_use(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_logits_that_are_squashed_twice_are_warned_of():
    net = nbfc.MLP([5, 1], output_activation="sigmoid")
    with pytest.warns(UserWarning, match="binary_cross_entropy takes logits, but .* activation 'sigmoid'"):
        nbfc.Trainer(net, "binary_cross_entropy", "adam")
    nbfc.Trainer(net, "mse", "adam")


def test_a_validation_loss_that_is_not_finite_is_divergence():
    X, y, loss = data(8)
    net = nbfc.MLP([5, 3], seed=1)
    with pytest.raises(nbfc.DivergenceError, match="epoch 1, after batch 1: the validation loss is inf"):
        nbfc.fit(net, X, y, loss=loss, optimizer=nbfc.SGD(1e25), epochs=1, batch_size=8, validation=(X, y))
    assert np.isfinite(net.parameters).all()


def test_a_metric_cannot_change_the_users_targets():
    X, y, loss = data()
    y.flags.writeable = False

    def spoil(targets, outputs):
        targets += 1

    with pytest.raises(ValueError, match="read-only"):
        nbfc.fit(
            nbfc.MLP([5, 3], dtype="float64"), X, y, loss=loss, optimizer="sgd", epochs=1, batch_size=8, metrics=[spoil]
        )


def test_a_refused_step_changes_nothing():
    X, y, _ = data(case="cross_entropy of labels")
    nets = [nbfc.MLP([5, 3], seed=1) for _ in range(2)]
    trainer, other = (nbfc.Trainer(net, "cross_entropy", "adam") for net in nets)
    for _ in range(2):
        for bad in ((X, y + 3), (X[:, :4], y), (X, y[:-1])):
            with pytest.raises(ValueError, match="expected"):
                trainer.step(*bad)
        assert trainer.step(X, y) == other.step(X, y)
    assert np.array_equal(nets[0].parameters, nets[1].parameters)
    assert trainer.steps == 2


def test_names_stand_for_optimizers_with_their_usual_numbers():
    net = nbfc.MLP([5, 3])
    usual = {"sgd": nbfc.SGD(0.01), "adam": nbfc.Adam(0.001), "adamw": nbfc.AdamW(0.001)}
    assert {name: nbfc.Trainer(net, "mse", name).optimizer for name in usual} == usual


def test_binary_accuracy_asks_for_the_sign_of_each_logit():
    y, logits = np.array([[1.0], [0.0], [1.0]]), np.array([[0.1], [-0.1], [-3.0]])
    assert metrics.resolve(["accuracy"], losses.resolve("binary_cross_entropy"))["accuracy"](
        y, logits
    ) == pytest.approx(2 / 3)
