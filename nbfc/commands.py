"""What ``python -m nbfc train`` and ``python -m nbfc predict`` do."""

import argparse
import csv
import dataclasses
import importlib.util
import os
import sys
import time
from contextlib import nullcontext

import numpy as np

import nbfc
from nbfc import plots, tables
from nbfc._arrays import Array, check_shape, numbers
from nbfc._checks import whole_number
from nbfc.losses import CrossEntropy
from nbfc.metrics import accuracy
from nbfc.optimizers import OPTIMIZERS

Samples = tuple[Array, Array]
Names = tuple[str, ...] | None


def train(options: argparse.Namespace) -> None:
    """Train a network as the options say, and print how it went."""
    optimizer = OPTIMIZERS[options.optimizer]
    if options.learning_rate is not None:
        optimizer = dataclasses.replace(optimizer, learning_rate=options.learning_rate)
    _check_options(options)

    (X, y), (X_test, y_test), input_names, class_names = _data(options)
    mean, deviation = (np.zeros(1), np.ones(1)) if class_names else _mean_and_deviation(y)
    targets, test_targets = (y, y_test) if class_names else ((y - mean) / deviation, (y_test - mean) / deviation)
    net = nbfc.MLP(
        [X.shape[1], *options.hidden, len(class_names) if class_names else y.shape[1]],
        options.activation,
        dtype="float32" if class_names else _dtype_for(y, deviation),
        seed=options.seed,
    )
    net.standardize_inputs(X)
    net.input_names, net.class_names = input_names, class_names
    _print_scaling(net)
    print(net)

    loss = "cross_entropy" if class_names else "mse"
    print(f"loss {loss}, {optimizer}, batches of {options.batch_size}, seed {options.seed}")
    started = time.perf_counter()
    net.loss_and_gradient(X[:1], targets[:1], loss)
    net.predict(X[:1])
    print(f"compiled code ready after {time.perf_counter() - started:.1f} s", flush=True)
    started = time.perf_counter()
    history = nbfc.fit(
        net,
        X,
        targets,
        loss=loss,
        optimizer=optimizer,
        epochs=options.epochs,
        batch_size=options.batch_size,
        validation=(X_test, test_targets) if options.plot and len(X_test) else None,
        metrics=["accuracy"] if options.plot and class_names else [],
        seed=options.seed,
    )
    if not history:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - started
    # A network trained on standardised targets gives them in their own units once its last layer is scaled back.
    net.weights[-1] *= deviation
    net.biases[-1] = net.biases[-1] * deviation + mean
    if options.save:  # before anything is printed: a closed pipe must not lose it
        nbfc.save(net, options.save)

    rate = len(history) * len(X) / seconds
    if history.stopped:
        print(f"stopped    {history.stopped}")
    print(f"trained    {len(history)} epochs in {seconds:.2f} seconds ({rate:,.0f} samples a second)")
    of = "" if class_names else " (of standardised targets)"
    print(f"loss       {history[0].loss:.4g} in the first epoch, {history[-1].loss:.4g} in the last{of}")
    _print_quality(net, "training", X, y)
    if len(X_test):
        _print_quality(net, "test", X_test, y_test)
    if options.save:
        print(f"saved      {options.save}")
    if options.plot:
        _draw(options.plot, net, history, (X_test, y_test) if len(X_test) else (X, y), len(X_test) > 0)
        print(f"picture    {options.plot}")


def _check_options(options: argparse.Namespace) -> None:
    """Refuse what can be refused before data are read and code is compiled."""
    whole_number("--epochs", options.epochs, least=1)
    whole_number("--batch-size", options.batch_size, least=1)
    whole_number("--seed", options.seed, least=0)
    if options.test_fraction is not None and not 0 <= options.test_fraction < 1:
        raise ValueError(f"--test-fraction is {options.test_fraction}: expected at least 0 and below 1.")
    if options.data is None and (options.target or options.task == "regress"):
        raise ValueError("--target and --task regress need --data: the digits have neither columns nor quantities.")
    for name in ("save", "plot"):
        path = getattr(options, name)
        if path and (os.path.isdir(path) or not os.path.isdir(os.path.dirname(os.path.abspath(path)))):
            raise ValueError(f"--{name} is {path}: expected a file in a folder that exists.")
    if options.plot:
        kinds = ("png", "pdf", "svg")
        if importlib.util.find_spec("matplotlib") is None:
            raise ValueError('--plot needs matplotlib, which is not installed: pip install "nbfc[plot]".')
        if options.plot.rpartition(".")[2].lower() not in kinds:
            raise ValueError(f"--plot is {options.plot}: expected a file that ends in .{', .'.join(kinds)}.")


def _data(options: argparse.Namespace) -> tuple[Samples, Samples, Names, Names]:
    """Return rows to train and to test with, the inputs' names, and the classes' names (None for regression)."""
    test = None
    if options.data is None:
        name = "handwritten digits"
        (X, y), (X_test, y_test) = nbfc.datasets.load_digits()
        if options.test_fraction is None:
            test = np.arange(len(X) + len(X_test)) >= len(X)
        table = tables.Table(np.concatenate([X, X_test]), np.concatenate([y, y_test]), None)
    else:
        name = options.data
        text = None if options.task is None else options.task == "classify"
        table = tables.read(options.data, options.target, text)
    X, y = table.X, table.y

    task = options.task or _task_of(y)
    class_names: Names = None
    if task == "classify":
        check_shape("y", y, ("N",), "it has a label for each sample")
        classes, y = np.unique(y, return_inverse=True)
        class_names = tuple(map(str, classes))
        if len(class_names) < 2:
            raise ValueError(f"all labels are {class_names[0]!r}: expected at least two (--task regress fits numbers).")
    else:
        y = numbers("y", y).astype(float).reshape(len(X), -1)
    if test is None:
        fraction = 0.2 if options.test_fraction is None else options.test_fraction
        rng = np.random.default_rng(options.seed)
        test = tables.held_out(y if class_names else np.zeros(len(X)), fraction, rng)

    what = f"{len(class_names)} classes" if class_names else f"{y.shape[1]} target{'s' * (y.shape[1] > 1)}"
    print(f"data       {name}: {len(X):,} rows, {X.shape[1]} inputs, {what}")
    if str(options.data).lower().endswith(".csv"):
        header = "the first line names them" if table.names else "without names: the first line holds numbers"
        print(f"columns    {header}")
    print(f"task       {task}{'' if options.task else ' (as the labels suggest; --task says otherwise)'}")
    print(f"rows       {np.sum(~test):,} to train, {np.sum(test):,} to test")
    return (X[~test], y[~test]), (X[test], y[test]), table.names, class_names


def _task_of(y: Array) -> str:
    """Classify text, and whole numbers with at most 20 values, each there twice or more on average; else regress."""
    if y.dtype.kind not in "biuf":
        return "classify"
    if y.ndim != 1 or np.any(y % 1 != 0):
        return "regress"
    distinct = len(np.unique(y))
    return "classify" if distinct <= 20 and 2 * distinct <= len(y) else "regress"


def _mean_and_deviation(y: Array) -> tuple[Array, Array]:
    mean, deviation = y.mean(axis=0), y.std(axis=0)
    deviation = np.where(deviation == 0, 1.0, deviation)
    if not np.isfinite(deviation).all():
        raise ValueError(f"y has numbers too large to take the deviation of, up to {y.max():g}.")
    return mean, deviation


def _dtype_for(y: Array, deviation: Array) -> str:
    """Return float64 where float32 would blur targets that differ little beside their size, or could not hold them."""
    largest = np.abs(y).max(axis=0)
    return "float64" if np.any((largest > 1e4 * deviation) | (largest > 1e30)) else "float32"


def _print_scaling(net: nbfc.MLP) -> None:
    mean, deviation = net.input_mean, net.input_deviation
    print(
        f"scaling    inputs less the training rows' mean ({mean.min():.4g} to {mean.max():.4g}), over their deviation "
        f"({deviation.min():.4g} to {deviation.max():.4g})"
    )


def _print_quality(net: nbfc.MLP, which: str, X: Array, y: Array) -> None:
    outputs = net.predict(X)
    if net.class_names:
        share = accuracy(y, outputs)
        print(f"{which + ' accuracy':<18} {share:.4f} ({round(share * len(y)):,} of {len(y):,})")
        return
    squares = np.mean((outputs - y) ** 2, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r_squared = np.mean(1 - squares / y.var(axis=0))
    print(f"{which + ' R²':<18} {r_squared:.4f}, root mean squared error {np.sqrt(squares.mean()):.4g}")


def _draw(file: str, net: nbfc.MLP, history: nbfc.History, samples: Samples, held_out: bool) -> None:
    """Draw the history, and the confusion matrix, or what is predicted over the targets."""
    figure, axes = plots.figure_of_history(history, panels=2)
    (X, y), title = samples, "test rows" if held_out else "training rows"
    outputs = net.predict(X)
    if net.class_names:
        plots.draw_confusion(axes[-1], y, outputs.argmax(axis=1), net.class_names, title)
    else:
        plots.draw_outputs(axes[-1], y, outputs, title)
    figure.savefig(file, dpi=120)


def predict(options: argparse.Namespace) -> None:
    """Write a line for each row of a file: the class and its probability, or the numbers predicted."""
    net = nbfc.load(options.model)
    X = tables.read_inputs(options.data, net.input_names, net.widths[0])
    outputs = net.predict(X).astype(float)
    if net.class_names and len(net.class_names) == net.widths[-1]:
        shares = outputs if net.activations[-1] == "softmax" else CrossEntropy().predictions(outputs)
        probability = shares.max(axis=1)
        names = [net.class_names[label] for label in outputs.argmax(axis=1)]
        header = ["prediction", "probability"]
        rows: list[tuple[str, ...]] = [(name, f"{share:.6f}") for name, share in zip(names, probability, strict=True)]
    else:
        header = ["prediction"] if outputs.shape[1] == 1 else [f"prediction {j + 1}" for j in range(outputs.shape[1])]
        rows = [tuple(f"{value:.9g}" for value in row) for row in outputs]
    with open(options.out, "w", newline="", encoding="utf-8") if options.out else nullcontext(sys.stdout) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    if options.out:
        print(f"wrote {len(rows):,} predictions to {options.out}")
