"""Tables from files, as the shell commands take them: .npz with X and y, or .csv with numbers and a label column."""

import csv
import os
import warnings
from dataclasses import dataclass

import numpy as np

from nbfc._arrays import Array


@dataclass(frozen=True)
class Table:
    """Inputs and targets, one sample a row."""

    X: Array
    """(N, m), as they stand in the file."""
    y: Array
    """(N,) numbers or strings, or (N, k) numbers."""
    input_names: tuple[str, ...] | None
    """The columns' names, where the file has a header."""


def read(path: str, target: str | None = None) -> Table:
    """Read inputs and targets from a .npz file, or from a .csv file whose column `target`, or last, is the label.

    Raises
    ------
    ValueError
        If the file is of another kind, or its contents are not as expected.
    OSError
        If it cannot be read.
    """
    if _is_npz(path):
        if target is not None:
            raise ValueError(
                f"a target column, {target!r}, was named for {path}: expected a .csv file, which has names."
            )
        return Table(_array(path, "X"), _array(path, "y"), None)
    names, columns, skip, delimiter = _head(path)
    at = columns - 1 if target is None else _position(path, names, target)
    others = [c for c in range(columns) if c != at]
    if not others:
        raise ValueError(f"{path} has one column: expected inputs and a label, separated by commas.")
    X = _columns(path, others, skip, delimiter, float)
    y = _numbers_or_text(_columns(path, [at], skip, delimiter, str)[:, 0])
    return Table(X, y, None if names is None else tuple(names[c] for c in others))


def read_inputs(path: str, input_names: tuple[str, ...] | None, n_in: int) -> Array:
    """Read inputs for a network that takes `n_in` of them.

    Columns of a .csv file with a header are found by `input_names`, in any order and among others; without names there
    may be one column too many, the last, which is taken for the label.

    Raises
    ------
    ValueError
        If the file is of another kind, or its contents are not as expected.
    OSError
        If it cannot be read.
    """
    if _is_npz(path):
        return _array(path, "X")
    names, columns, skip, delimiter = _head(path)
    if names is not None and input_names is not None:
        return _columns(path, [_position(path, names, name) for name in input_names], skip, delimiter, float)
    if columns not in (n_in, n_in + 1):
        raise ValueError(f"{path} has {columns} columns: expected {n_in} inputs, and perhaps a label after them.")
    return _columns(path, list(range(n_in)), skip, delimiter, float)


def held_out(classes: Array, fraction: float, rng: np.random.Generator) -> Array:
    """Return a mask (N,) of the rows to test with: that share of each class (N,), drawn at random."""
    groups = np.unique(classes, return_inverse=True)[1]
    test = np.zeros(len(classes), bool)
    for group in range(groups.max() + 1):
        rows = rng.permutation(np.flatnonzero(groups == group))
        test[rows[: round(fraction * len(rows))]] = True
    return test


def _is_npz(path: str) -> bool:
    kind = os.path.splitext(path)[1].lower()
    if kind not in (".npz", ".csv"):
        raise ValueError(f"{path} is not named .npz or .csv: expected one of these two kinds of file.")
    return kind == ".npz"


def _array(path: str, name: str) -> Array:
    with np.load(path, allow_pickle=False) as file:
        if name not in file:
            raise ValueError(f"{path} has the arrays {', '.join(file.files) or '(none)'}: expected one called {name}.")
        return np.asarray(file[name])


def _head(path: str) -> tuple[list[str] | None, int, int, str]:
    """Return a .csv file's column names if it has a header, its number of columns, lines to skip, and delimiter.

    The first line is a header if a cell of it is no number where the cell below is one.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        line = file.readline()
        delimiter = max(",;\t", key=line.count)
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter)
        first, second = next(rows, []), next(rows, [])
    if not first:
        raise ValueError(f"{path} is empty: expected rows of numbers.")
    header = any(_is_number(below) and not _is_number(cell) for cell, below in zip(first, second, strict=False))
    names = [cell.strip() for cell in first] if header else None
    return names, len(first), int(header), delimiter


def _position(path: str, names: list[str] | None, name: str) -> int:
    if names is None:
        raise ValueError(f"{path} has no header: expected one that names the column {name!r}.")
    if names.count(name) != 1:
        found = "no column" if name not in names else f"{names.count(name)} columns"
        raise ValueError(f"{path} has {found} named {name!r}: expected one; its columns are {', '.join(names)}.")
    return names.index(name)


def _columns(path: str, columns: list[int], skip: int, delimiter: str, dtype: type) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "no data": an empty result says it as well
        try:
            table: Array = np.loadtxt(
                path,
                dtype=dtype,
                comments=None,
                delimiter=delimiter,
                skiprows=skip,
                usecols=columns,
                ndmin=2,
                encoding="utf-8-sig",
                quotechar='"',
            )
        except ValueError as error:
            raise ValueError(_first_bad_cell(path, columns, skip, delimiter) or f"{path}: {error}") from None
    return table


def _first_bad_cell(path: str, columns: list[int], skip: int, delimiter: str) -> str | None:
    """Say which cell is no number, by the line and column that an editor shows."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        for number, row in enumerate(rows):
            for c in columns if row and number >= skip else ():
                if c >= len(row):
                    return f"{path}, line {rows.line_num}: it has {len(row)} columns, where the first line has more."
                if not _is_number(row[c]):
                    return (
                        f"{path}, line {rows.line_num}, column {c + 1}: {row[c]!r} is no number, which inputs must be."
                    )
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers_or_text(cells: Array) -> Array:
    """Return a column as integers if it has only whole numbers, else as floats, else as it is."""
    try:
        numbers = cells.astype(float)
    except ValueError:
        return cells
    whole = bool(np.all(np.isfinite(numbers)) and np.all(np.abs(numbers) < 2**53) and np.all(numbers % 1 == 0))
    return numbers.astype(np.int64) if whole else numbers
