"""The commands of the shell, as a person would run them."""

import csv
import time

import numpy as np
import pytest

import nbfc
from nbfc.__main__ import main
from nbfc.commands import _task_of

SMALL = ["--hidden", "16", "--epochs", "3"]


@pytest.fixture
def people(tmp_path, rng):
    """A .csv file with a header, three inputs, text labels in the second column, and a number in the last."""
    path = tmp_path / "people.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "kind of person", "height, cm", "pay"])
        for _ in range(200):
            age, height = rng.integers(20, 60), rng.normal(170, 8)
            writer.writerow([age, "old" if age > 40 else "young", f"{height:.2f}", f"{1000 * age + 20 * height:.2f}"])
    return path


def run(capsys, *arguments, status=0):
    assert main(list(map(str, arguments))) == status
    out, err = capsys.readouterr()
    return err if status else out


# ---- the main job ---------------------------------------------------------------------------------------------------


def test_digits_with_the_defaults_reach_97_percent(capsys):
    shown = run(capsys, "train")
    line = next(line for line in shown.splitlines() if line.startswith("test accuracy"))
    assert float(line.split()[2]) >= 0.97
    for part in ("1,438 to train, 359 to test", "64 × 128", "17,226", "mean (0 to 12.06)", "in the last", "seconds"):
        assert part in shown


def test_the_main_job_runs_in_30_seconds_cold_and_in_4_warm(python, tmp_path):
    code = "from nbfc.__main__ import main; main(['train']); import time; print(time.process_time())"
    for limit in (30, 4):
        started = time.perf_counter()
        busy = float(python(code, NUMBA_CACHE_DIR=str(tmp_path / "cache")).splitlines()[-1])
        # On a machine that others use, the time that it was given; on one of its own, the clock.
        assert min(busy, time.perf_counter() - started) < limit


def test_a_seed_and_threads_give_the_same_model(capsys, tmp_path):
    models = []
    for name, threads in (("a", 1), ("b", 2), ("c", 2)):
        run(capsys, "train", *SMALL, "--threads", threads, "--seed", 3, "--save", tmp_path / name)
        models.append((tmp_path / name).read_bytes())
    assert len(set(models)) == 1


# ---- the user's own files -------------------------------------------------------------------------------------------


def test_classes_from_a_csv_file_and_back(capsys, people, tmp_path):
    model, out = tmp_path / "model", tmp_path / "out.csv"
    shown = run(capsys, "train", "--data", people, "--target", "kind of person", "--epochs", 20, "--save", model)
    assert "200 rows, 3 inputs, 2 classes" in shown
    assert "classify (as the labels suggest" in shown
    net = nbfc.load(model)
    assert net.input_names == ("age", "height, cm", "pay")
    assert net.class_names == ("old", "young")

    assert "wrote 200 predictions" in run(capsys, "predict", model, "--data", people, "--out", out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with people.open(newline="") as file:
        right = [row["kind of person"] for row in csv.DictReader(file)]
    assert np.mean([row["prediction"] == label for row, label in zip(rows, right, strict=True)]) > 0.9
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)
    assert run(capsys, "predict", model, "--data", people) == out.read_text()


def test_columns_are_found_by_name_in_any_order(capsys, people, tmp_path):
    model = tmp_path / "model"
    run(capsys, "train", "--data", people, "--target", "kind of person", *SMALL, "--save", model)
    with people.open(newline="") as file:
        rows = [[row["pay"], "x", row["height, cm"], row["age"]] for row in csv.DictReader(file)]
    other = tmp_path / "other.csv"
    with other.open("w", newline="") as file:
        csv.writer(file).writerows([["pay", "extra", "height, cm", "age"], *rows])
    assert run(capsys, "predict", model, "--data", other) == run(capsys, "predict", model, "--data", people)
    other.write_text("age,pay\n1,2\n")
    message = run(capsys, "predict", model, "--data", other, status=2)
    assert "has no column named 'height, cm': expected one; its columns are age, pay" in message


def test_a_regression_predicts_in_the_targets_own_units(capsys, people, tmp_path):
    with people.open(newline="") as file:
        rows = [(row["age"], row["height, cm"], row["pay"]) for row in csv.DictReader(file)]
    table, model = tmp_path / "pay.csv", tmp_path / "model"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)  # no header
    shown = run(capsys, "train", "--data", table, "--epochs", 60, "--save", model)
    assert "regress (as the labels suggest" in shown
    assert float(next(line for line in shown.splitlines() if line.startswith("test R²")).split()[2].rstrip(",")) > 0.95
    predicted = [float(line) for line in run(capsys, "predict", model, "--data", table).splitlines()[1:]]
    pay = np.array([float(row[2]) for row in rows])
    assert np.sqrt(np.mean((predicted - pay) ** 2)) < 0.2 * pay.std()


def test_arrays_from_an_npz_file(capsys, tmp_path, rng):
    path, model = tmp_path / "data.npz", tmp_path / "model"
    X = rng.standard_normal((60, 4))
    np.savez(path, X=X, y=np.stack([X.sum(axis=1), X[:, 0]], axis=1))
    assert "60 rows, 4 inputs, 2 targets" in run(capsys, "train", "--data", path, *SMALL, "--save", model)
    assert run(capsys, "predict", model, "--data", path).splitlines()[0] == "prediction 1,prediction 2"
    np.savez(path, X=X, y=np.where(X[:, 0] > 0, "up", "down"))
    run(capsys, "train", "--data", path, *SMALL, "--test-fraction", 0.5, "--save", model)
    assert nbfc.load(model).class_names == ("down", "up")


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (np.array(["a", "b"] * 3), "classify"),
        (np.arange(10) % 3, "classify"),
        (np.arange(10.0) % 3, "classify"),
        (np.arange(10), "regress"),
        (np.arange(1000) % 200, "regress"),
        (np.arange(10) / 2, "regress"),
        (np.ones((4, 2)), "regress"),
    ],
)
def test_the_task_follows_the_labels(y, task):
    assert _task_of(y) == task


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, (), "No such file"),
        ("", (), "is empty: expected rows of numbers"),
        ("a,b\n", (), "line 1, column 1: 'a' is no number"),
        ("a,b,c\n1,2,3\n4,,6\n", (), "line 3, column 2: '' is no number"),
        ("a,b,c\n1,2,3\n4\n", (), "line 3: it has 1 columns, where the first line has more"),
        ("1\n2\n", (), "has one column: expected inputs and a label"),
        ("a,b\n1,2\n3,4\n", ("--target", "c"), "has no column named 'c': expected one; its columns are a, b"),
        ("a,a\n1,2\n3,4\n", ("--target", "a"), "has 2 columns named 'a'"),
        ("1,2\n3,4\n", ("--target", "a"), "has no header: expected one that names the column 'a'"),
        ("1,nan\n2,1\n", (), "y[0] is nan: expected finite numbers"),
        ("nan,1\n2,1\n", (), "X[0, 0] is nan: expected finite numbers"),
        ("1,5\n2,5\n3,5\n", (), "y has 1 classes: expected at least two"),
        ("1,a\n2,b\n", ("--task", "regress"), "y has dtype <U1: expected real numbers"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(capsys, tmp_path, content, arguments, message):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_text(content)
    assert message in run(capsys, "train", "--data", path, *arguments, status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "epochs is 0: expected at least 1"),
        (["--batch-size", "-2"], "batch_size is -2: expected at least 1"),
        (["--hidden", "16,0"], "widths[2] is 0: expected at least 1"),
        (["--learning-rate", "nan"], "learning_rate is nan: expected a finite number"),
        (["--learning-rate", "1e30", "--optimizer", "sgd"], "epoch 1, batch 2: the loss is"),
        (["--test-fraction", "1"], "--test-fraction is 1.0: expected at least 0 and below 1"),
        (["--threads", "0"], "--threads is 0: expected 1 to"),
        (["--target", "x"], "need --data"),
        (["--data", "table.txt"], "table.txt is not named .npz or .csv"),
        (["--data", "table.npz", "--target", "x"], "expected a .csv file, which has names"),
        (["--save", "no/such/folder/model"], "expected a file in a folder that exists"),
    ],
)
def test_options_that_cannot_be_used_are_refused(capsys, arguments, message):
    assert message in run(capsys, "train", *arguments, status=2)


def test_predict_refuses_files_that_do_not_fit(capsys, tmp_path):
    model, table = tmp_path / "model", tmp_path / "table.csv"
    run(capsys, "train", *SMALL, "--save", model)
    table.write_text("1,2,3\n")
    assert "has 3 columns: expected 64 inputs" in run(capsys, "predict", model, "--data", table, status=2)
    np.savez(tmp_path / "a.npz", x=np.ones((2, 64)))
    assert "has the arrays x: expected one called X" in run(
        capsys, "predict", model, "--data", tmp_path / "a.npz", status=2
    )
    np.savez(tmp_path / "a.npz", X=np.ones((2, 63)))
    assert "X has shape (2, 63): expected (batch, 64)" in run(
        capsys, "predict", model, "--data", tmp_path / "a.npz", status=2
    )
    model.write_bytes(model.read_bytes()[:500])
    assert "is not a model of nbfc, or is damaged" in run(capsys, "predict", model, "--data", table, status=2)
