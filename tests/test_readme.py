"""The README's scripts, as they stand there."""

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def scripts():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    return blocks


def run(script):
    names = {}
    exec(compile(script, "README.md", "exec"), names)
    return names


def test_the_scripts_run_and_train_the_same_network(scripts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    by_fit, by_hand = map(run, scripts)
    assert np.array_equal(by_fit["net"].parameters, by_hand["net"].parameters)
    assert (tmp_path / "digits.safetensors").exists()
    shown = capsys.readouterr().out
    assert float(re.search(r"test accuracy ([\d.]+)", shown)[1]) >= 0.97
    assert f"accuracy {by_fit['history'][-1].metrics['accuracy']:.4g}" in shown


def test_the_script_is_as_short_as_it_says(scripts):
    assert all(len([line for line in script.splitlines() if line.strip()]) <= 10 for script in scripts)
