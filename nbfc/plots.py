"""Pictures of training, by matplotlib (``pip install "nbfc[plot]"``), which is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbfc._arrays import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nbfc.history import History

NAMES_SHOWN = 30  # of classes, at most: more would overlap
COUNTS_SHOWN = 15  # likewise for the numbers in a confusion matrix


def figure_of_history(history: History, panels: int = 1, height: float = 4.0) -> tuple[Figure, Any]:
    """Return a figure with the losses, and the metrics where there are any, of all epochs, and room for more panels."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    metrics = list(history[0].metrics) if history else []
    count = panels + bool(metrics)
    figure = Figure(figsize=(1 + 4.5 * count, height), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    epochs = history.column("epoch")
    for name in ("loss", "validation_loss"):
        if history and history.column(name)[-1] is not None:
            label = "training" if name == "loss" else "validation"
            axes[0].plot(epochs, history.column(name), marker=".", label=label)
    axes[0].set(xlabel="epoch", ylabel="loss")
    if history and min(history.column("loss")) > 0:
        axes[0].set_yscale("log")
    if metrics:
        for name in metrics:
            axes[1].plot(epochs, history.column(name), marker=".", label=name)
        axes[1].set(xlabel="epoch", ylabel=metrics[0] if len(metrics) == 1 else "metrics")
    for panel in axes[: 1 + bool(metrics)]:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend()
    return figure, axes


def draw_confusion(axes: Any, labels: Array, predicted: Array, names: Sequence[str], title: str) -> None:
    """Draw how many samples of each class, a row, were taken for each class, a column."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (labels, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= COUNTS_SHOWN:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    if len(names) <= NAMES_SHOWN:
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="class", title=title)


def draw_outputs(axes: Any, targets: Array, outputs: Array, title: str) -> None:
    """Draw what was predicted over what was to be predicted, (N, n) both."""
    low, high = min(targets.min(), outputs.min()), max(targets.max(), outputs.max())
    for j in range(targets.shape[1]):
        axes.plot(targets[:, j], outputs[:, j], ".", markersize=3, alpha=0.5)
    axes.plot([low, high], [low, high], color="gray", linewidth=1)
    axes.locator_params(nbins=5)
    axes.set(xlabel="target", ylabel="predicted", title=title)


def figure_of_learning_rates(rates: Array, losses: Array, smooth: Array, suggestion: float) -> Figure:
    """Return a figure of the loss over the learning rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="C0", alpha=0.3, label="of each batch")
    axes.plot(rates, smooth, color="C0", label="smoothed")
    axes.axvline(suggestion, color="gray", linestyle="--", label=f"suggestion: {suggestion:.2g}")
    start = smooth[: max(2, len(smooth) // 2)].max()
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(0.9 * losses.min(), 1.3 * start))
    axes.legend()
    return figure
