"""The programs of ``nbfc.examples``, in a short form, each with its picture."""

import pytest

pytest.importorskip("matplotlib")

from nbfc.examples import cartpole, surrogate

PNG = b"\x89PNG"


def test_the_pole_stays_up(tmp_path, capsys):
    picture = tmp_path / "cartpole.png"
    assert cartpole.main(["--out", str(picture)]) >= cartpole.SOLVED
    assert "solved" in capsys.readouterr().out
    assert picture.read_bytes().startswith(PNG)


def test_the_surrogate_follows_the_integral(tmp_path, capsys):
    picture = tmp_path / "surrogate.png"
    assert surrogate.main(["--epochs", "30", "--steps", "100", "--out", str(picture)]) < 0.1
    assert "times faster" in capsys.readouterr().out
    assert picture.read_bytes().startswith(PNG)
