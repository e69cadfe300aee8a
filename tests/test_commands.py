"""The commands of the shell, as a person would run them."""

import csv

import numba
import numpy as np
import pytest

import nbfc
from nbfc.__main__ import main
from nbfc.commands import _task_of
from nbfc.tables import held_out

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


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_with_the_defaults_reach_97_percent(capsys, seed):
    shown = run(capsys, "train", "--seed", seed)
    line = next(line for line in shown.splitlines() if line.startswith("test accuracy"))
    assert float(line.split()[2]) >= 0.97
    for part in ("1,438 to train, 359 to test", "64 × 256", "19,210", "mean (0 to 12.06)", "in the last", "seconds"):
        assert part in shown


def test_the_main_job_compiles_once_and_then_starts_several_times_faster(python, tmp_path):
    code = """
import time
from numba.core import event
started = time.perf_counter()
with event.install_recorder("numba:compile") as recorder:
    from nbfc.__main__ import main
    main(["train"])
print(time.perf_counter() - started, len(recorder.buffer))
"""
    runs = [python(code, NUMBA_CACHE_DIR=str(tmp_path)).splitlines()[-1].split() for _ in ("cold", "warm")]
    (cold, compiled), (warm, compiled_again) = ((float(seconds), int(events)) for seconds, events in runs)
    assert compiled > 0
    assert compiled_again == 0
    assert warm < cold / 3


def test_a_seed_and_threads_give_the_same_model(capsys, tmp_path):
    models = []
    for name, threads in (("a", 1), ("b", 2), ("c", 2)):
        run(capsys, "train", *SMALL, "--threads", threads, "--seed", 3, "--save", tmp_path / name)
        models.append((tmp_path / name).read_bytes())
    assert len(set(models)) == 1


def test_threads_are_used_and_set_back(capsys, monkeypatch):
    before, seen = numba.get_num_threads(), []
    monkeypatch.setattr(nbfc.commands.nbfc, "fit", lambda *_, **__: seen.append(numba.get_num_threads()) or 1 / 0)
    for threads in (1, 2):
        with pytest.raises(ZeroDivisionError):
            main(["train", "--threads", str(threads)])
        assert numba.get_num_threads() == before
    assert seen == [1, 2]


def test_options_reach_the_network_and_the_loop(capsys, tmp_path):
    """A model trained by hand in the way that the options say."""
    given = ["--hidden", "9,8", "--activation", "tanh", "--optimizer", "adamw", "--learning-rate", "0.01"]
    given += ["--epochs", "2", "--batch-size", "100", "--seed", "7"]
    run(capsys, "train", *given, "--save", tmp_path / "model")
    (X, y), _ = nbfc.datasets.load_digits()
    net = nbfc.MLP([64, 9, 8, 10], "tanh", seed=7)
    net.standardize_inputs(X)
    optimizer = nbfc.AdamW(0.01)
    nbfc.fit(net, X, y, loss="cross_entropy", optimizer=optimizer, epochs=2, batch_size=100, seed=7)
    assert np.array_equal(nbfc.load(tmp_path / "model").parameters, net.parameters)


def test_rows_held_out_are_the_same_share_of_each_class_at_random(rng):
    classes = np.repeat([0, 1, 2], [100, 50, 1])
    first, second = (held_out(classes, 0.2, np.random.default_rng(seed)) for seed in (0, 1))
    assert [np.sum(first & (classes == label)) for label in range(3)] == [20, 10, 0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(np.flatnonzero(first[:100]), np.arange(20))
    assert held_out(classes, 0.99, rng).sum() == 99 + 49 + 0


def test_a_model_is_saved_before_a_closed_pipe_can_lose_it(python, tmp_path):
    code = f"""
import sys
from nbfc.__main__ import main
class Closed:
    def write(self, text):
        if "trained" in text: raise BrokenPipeError("closed")
    def flush(self): pass
sys.stdout = Closed()
sys.exit(main(["train", "--epochs", "1", "--save", {str(tmp_path / "model")!r}]))
"""
    python(code, status=2)
    assert nbfc.load(tmp_path / "model").widths == (64, 256, 10)


def test_a_terminal_without_unicode_shows_the_rest(python):
    assert "test accuracy" in python("from nbfc.__main__ import main; main(['train'])", PYTHONIOENCODING="ascii")


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
    assert "without names" in shown
    assert float(next(line for line in shown.splitlines() if line.startswith("test R²")).split()[2].rstrip(",")) > 0.95
    predicted = [float(line) for line in run(capsys, "predict", model, "--data", table).splitlines()[1:]]
    pay = np.array([float(row[2]) for row in rows])
    assert np.sqrt(np.mean((predicted - pay) ** 2)) < 0.2 * pay.std()


@pytest.mark.parametrize(("offset", "dtype"), [(0, "float32"), (1e8, "float64"), (-1e35, "float64")])
def test_targets_far_from_zero_are_fitted_as_well(capsys, tmp_path, rng, offset, dtype):
    path, model = tmp_path / "data.npz", tmp_path / "model"
    X = rng.standard_normal((300, 2))
    scale = max(1, abs(offset) / 1e8)
    y = offset + scale * (3 * X[:, 0] - X[:, 1])
    np.savez(path, X=X, y=y)
    run(capsys, "train", "--data", path, "--hidden", "", "--epochs", 200, "--learning-rate", 0.01, "--save", model)
    net = nbfc.load(model)
    assert net.dtype == dtype
    error = (net.predict(X)[:, 0] - y) / scale
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.std(y / scale)
    # The network is linear: what it has learnt can be read off.
    np.testing.assert_allclose(net.weights[0][:, 0] / net.input_deviation / scale, [3, -1], atol=0.1)


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
        (np.arange(1000) % 20, "classify"),
        (np.arange(1000) % 21, "regress"),
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
        ("a,b\n", (), "has a header and no rows"),
        ("\n\na,b,c\n\n1,2,3\n4,,6\n", (), "line 6, column 2 (b): '' is no number, which inputs must be"),
        ("1,NA,0\n2,3,1\n", (), "line 1, column 2: 'NA' is no number"),
        ("a,b,c\n1,2,3\n4\n", (), "line 3: it has 1 columns, where the first line has 3"),
        ("a,b,c\n1,2,3\n4,5,6,7\n", (), "line 3: it has 4 columns, where the first line has 3"),
        (",b,c\n1,2,3\n", (), "has a column without a name"),
        ("a,a,c\n1,2,3\n", (), "has 2 columns named 'a'"),
        ("1,2\n3,\n", (), "line 2: the label is missing"),
        ("1,2\n3,x\n4,5\n", (), "line 2: the label 'x' is no number, as other labels are (--task classify"),
        ("1,x\n3,y\n4,\n", (), "line 3: the label is missing"),
        ("a,caf\xe9\n1,2\n".encode("latin-1"), (), "is no text in UTF-8"),
        ("1\n2\n", (), "has one column: expected inputs and a label"),
        ("a,b\n1,2\n3,4\n", ("--target", "c"), "has no column named 'c': expected one; its columns are a, b"),
        ("a,a\n1,2\n3,4\n", ("--target", "a"), "has 2 columns named 'a'"),
        ("1,2\n3,4\n", ("--target", "a"), "has no header: expected one that names the column 'a'"),
        ("1,nan\n2,1\n", (), "y[0] is nan: expected finite numbers"),
        ("nan,1\n2,1\n", (), "X[0, 0] is nan: expected finite numbers"),
        ("1,5\n2,5\n3,5\n", (), "all labels are '5': expected at least two"),
        ("1,a\n2,b\n", ("--task", "regress"), "line 1: the label 'a' is no number"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(capsys, tmp_path, content, arguments, message):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in run(capsys, "train", "--data", path, *arguments, status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs is 0: expected at least 1"),
        (["--batch-size", "-2"], "--batch-size is -2: expected at least 1"),
        (["--hidden", "16,0"], "widths[2] is 0: expected at least 1"),
        (["--learning-rate", "nan"], "learning_rate is nan: expected a finite number"),
        (["--learning-rate", "1e30", "--optimizer", "sgd"], "epoch 1, batch 2: the loss is"),
        (["--test-fraction", "1"], "--test-fraction is 1.0: expected at least 0 and below 1"),
        (["--threads", "0"], "--threads is 0: expected 1 to"),
        (["--target", "x"], "need --data"),
        (["--data", "table.txt"], "table.txt is not named .npz or .csv"),
        (["--data", "table.npz", "--target", "x"], "expected a .csv file, which has names"),
        (["--save", "no/such/folder/model"], "expected a file in a folder that exists"),
        (["--save", "."], "expected a file in a folder that exists"),
        (["--seed", "-1"], "--seed is -1: expected at least 0"),
        (["--hidden", "99999999999,9"], "expected at most 1e+12 weights in a layer"),
        (["--hidden", "9999999,99999"], "Unable to allocate"),
    ],
)
def test_options_that_cannot_be_used_are_refused(capsys, arguments, message):
    assert message in run(capsys, "train", *arguments, status=2)


def test_a_width_that_is_missing_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--hidden", "256,,3"])
    assert "'256,,3': expected whole numbers with commas" in capsys.readouterr().err


def test_predict_refuses_files_that_do_not_fit(capsys, tmp_path):
    model, table = tmp_path / "model", tmp_path / "table.csv"
    run(capsys, "train", *SMALL, "--save", model)
    table.write_text("1,2,3\n")
    assert "has 3 columns: expected 64 inputs" in run(capsys, "predict", model, "--data", table, status=2)
    np.savez(tmp_path / "a.npz", x=np.ones((2, 64)))
    assert "has the arrays x: expected one called X" in run(
        capsys, "predict", model, "--data", tmp_path / "a.npz", status=2
    )
    np.savez(tmp_path / "a.npz", X=np.full((2, 64), np.nan))
    assert "X[0, 0] is nan" in run(capsys, "predict", model, "--data", tmp_path / "a.npz", status=2)
    np.savez(tmp_path / "a.npz", X=np.ones((2, 63)))
    assert "X has shape (2, 63): expected (batch, 64)" in run(
        capsys, "predict", model, "--data", tmp_path / "a.npz", status=2
    )
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "a.npz").write_bytes(content)
        message = run(capsys, "predict", model, "--data", tmp_path / "a.npz", status=2)
        assert "is no .npz file of plain arrays, or is damaged" in message
    model.write_bytes(model.read_bytes()[:500])
    assert "is not a model of nbfc, or is damaged" in run(capsys, "predict", model, "--data", table, status=2)


def test_a_table_without_names_does_not_fit_a_model_that_has_them(capsys, people, tmp_path):
    run(capsys, "train", "--data", people, "--target", "kind of person", *SMALL, "--save", tmp_path / "model")
    (tmp_path / "bare.csv").write_text("1,2,3\n")
    message = run(capsys, "predict", tmp_path / "model", "--data", tmp_path / "bare.csv", status=2)
    assert "has no header: expected one that names the column 'age'" in message


def test_labels_in_an_npz_may_be_a_column_or_bytes(capsys, tmp_path, rng):
    path = tmp_path / "data.npz"
    X = rng.standard_normal((60, 4))
    np.savez(path, X=X, y=(X[:, :1] > 0).astype(int))
    assert "2 classes" in run(capsys, "train", "--data", path, *SMALL)
    np.savez(path, X=X, y=np.where(X[:, 0] > 0, b"up", b"down"))
    run(capsys, "train", "--data", path, *SMALL, "--save", tmp_path / "model")
    assert nbfc.load(tmp_path / "model").class_names == ("down", "up")
