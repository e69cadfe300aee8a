"""The README's scripts, as they stand there."""

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def scripts():
    """The scripts in the order in which they stand, by the heading above them (the first has two)."""
    sections = re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {part.split("\n")[0]: re.findall(r"```python\n(.*?)```", part, re.DOTALL) for part in sections}
    return {heading: blocks for heading, blocks in found.items() if blocks}


def run(script):
    names = {}
    exec(compile(script, "README.md", "exec"), names)
    return names


def test_the_scripts_run_and_train_the_same_network(scripts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    by_fit, by_hand = map(run, scripts["A training script"])
    assert np.array_equal(by_fit["net"].parameters, by_hand["net"].parameters)
    assert (tmp_path / "digits.safetensors").exists()
    shown = capsys.readouterr().out
    assert float(re.search(r"test accuracy ([\d.]+)", shown)[1]) >= 0.97
    assert f"accuracy {by_fit['history'][-1].metrics['accuracy']:.4g}" in shown


def test_the_script_with_callbacks_stops_early(scripts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(scripts["Callbacks and learning rates"][0])
    assert names["history"].stopped.startswith("by EarlyStopping")
    assert max(names["history"].column("accuracy")) >= 0.97
    assert len((tmp_path / "log.csv").read_text().splitlines()) == len(names["history"]) + 1


def test_the_training_scripts_are_as_short_as_they_say(scripts):
    assert all(
        len([line for line in script.splitlines() if line.strip()]) <= 10 for script in scripts["A training script"]
    )


def test_the_simulation_ends_where_python_takes_it(scripts):
    names = run(scripts["Inside compiled code"][0].replace("10_000", "100"))
    swing, policy = names["swing"], names["policy"]
    expected = swing.py_func(policy, 1.0, 0.0, 100)
    assert abs(expected - [1, 0]).min() > 1e-4
    np.testing.assert_allclose(swing(policy, 1.0, 0.0, 100), expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_estimators_classify(scripts, capsys):
    pytest.importorskip("sklearn", minversion="1.7")
    run(scripts["Like scikit-learn"][0])
    assert min(float(line) for line in capsys.readouterr().out.splitlines()) > 0.95


def test_the_options_train(scripts):
    history = run(scripts["Options of training"][0])["history"]
    assert history[-1].loss < history[0].loss / 2
    assert len(scripts) == 5
