"""Pictures: that they are drawn of what was measured, and written."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import nbfc
from nbfc import __main__, plots
from nbfc.history import Epoch, History

PNG = b"\x89PNG"


def epochs(count, validation=None, **metrics):
    return History(Epoch(i, 1 / i, validation, metrics, 0.1, 100.0, 0.01) for i in range(1, count + 1))


def test_a_history_is_drawn(tmp_path):
    figure = epochs(3, 0.5, accuracy=0.9, mine=2.0).plot()
    losses, metrics = figure.axes
    assert [line.get_label() for line in losses.lines] == ["training", "validation"]
    assert list(losses.lines[0].get_ydata()) == [1, 1 / 2, 1 / 3]
    assert [line.get_label() for line in metrics.lines] == ["accuracy", "mine"]
    figure.savefig(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(PNG)
    assert len(epochs(2).plot().axes) == 1
    assert len(History().plot().axes) == 1


def test_a_confusion_matrix_counts_rows_of_classes():
    _, axes = plots.figure_of_history(epochs(1), panels=2)
    plots.draw_confusion(axes[-1], np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]), ["a", "b", "c"], "")
    assert sorted((text.get_position(), text.get_text()) for text in axes[-1].texts) == [
        ((0, 0), "1"),
        ((1, 1), "1"),
        ((2, 0), "1"),
        ((2, 2), "1"),
    ]


@pytest.mark.parametrize("target", ["kind", "price"])
def test_the_shell_draws_its_picture(target, tmp_path, rng, capsys):
    table = tmp_path / "table.csv"
    rows = [f"{x:.3f},{y:.3f},{'high' if x > y else 'low'},{x + y:.3f}" for x, y in rng.random((60, 2))]
    if target == "price":
        table.write_text("\n".join(["x,y,price", *[",".join(np.delete(row.split(","), 2)) for row in rows]]))
    else:
        table.write_text("\n".join(["x,y,kind", *[row.rpartition(",")[0] for row in rows]]))
    picture = tmp_path / "picture.png"
    command = ["train", "--data", str(table), "--epochs", "2", "--plot", str(picture)]
    assert __main__.main(command) == 0
    assert f"picture    {picture}" in capsys.readouterr().out
    assert picture.read_bytes().startswith(PNG)


@pytest.mark.parametrize(("file", "message"), [("a.txt", "ends in .png"), ("/nowhere/a.png", "a folder that exists")])
def test_a_picture_that_cannot_be_written_is_refused_first(file, message, capsys):
    assert __main__.main(["train", "--plot", file]) == 2
    assert message in capsys.readouterr().err


def test_learning_rates_are_drawn(tmp_path):
    rates = np.geomspace(1e-4, 1, 20)
    found = nbfc.LearningRates(rates, 1 - rates / 2, 1 - rates / 2, 0.1)
    found.plot().savefig(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(PNG)
