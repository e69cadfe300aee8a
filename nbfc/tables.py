"""Tables from files, as the shell commands take them: .npz with X and y, or .csv with numbers and a label column."""

from __future__ import annotations

import csv
import os
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TextIO

import numpy as np

from nbfc._arrays import Array, check_finite, check_rows, check_shape, numbers


@dataclass(frozen=True)
class Table:
    """Inputs and targets, one sample a row."""

    X: Array
    """(N, m), finite; N ≥ 1."""
    y: Array
    """(N,) finite numbers or text, or (N, k) finite numbers."""
    names: tuple[str, ...] | None
    """The inputs' names, where the file has a header."""


def read(path: str, target: str | None = None, text: bool | None = None) -> Table:
    """Read inputs and targets from a .npz file, or from a .csv file whose column `target`, or last, is the label.

    `text` says whether labels of a .csv file are text; if None, they are where none of them is a number.

    Raises
    ------
    ValueError
        If the file is of another kind, or its contents are not as expected.
    TypeError
        If it holds no real numbers.
    OSError
        If it cannot be read.
    """
    if _is_npz(path):
        if target is not None:
            raise ValueError(
                f"a target column, {target!r}, was named for {path}: expected a .csv file, which has names."
            )
        X, y, names = *_arrays(path, "X", "y"), None
        if y.dtype.kind == "S":
            y = y.astype(str)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
    else:
        with open(path, encoding="utf-8-sig", newline="") as file:
            sheet = _Sheet(path, file)
            at = sheet.columns - 1 if target is None else sheet.position(target)
            inputs = [column for column in range(sheet.columns) if column != at]
            if not inputs:
                raise ValueError(f"{path} has one column: expected inputs and a label, separated by commas.")
            names = None if sheet.names is None else tuple(sheet.names[column] for column in inputs)
            if names is not None:
                sheet.check_names(names)
            X, labels = sheet.read(inputs, at)
        y = _labels(path, labels, text)
    X = _matrix(X)
    if y.ndim == 0:
        raise ValueError("y is a single number: expected a target for each row of X.")
    check_rows(X, y)
    if y.dtype.kind != "U":
        y = numbers("y", y)
        check_finite("y", y)
    return Table(X, y, names)


def read_inputs(path: str, names: Sequence[str] | None, n_in: int) -> Array:
    """Read inputs for a network that takes `n_in` of them, (N, n_in).

    Columns of a .csv file are found by the `names` that the network was trained with, in any order and among others.
    Without names they stand in their order, and one more column, the last, is taken for the label and left out.

    Raises
    ------
    ValueError
        If the file is of another kind, or its contents are not as expected.
    TypeError
        If it holds no real numbers.
    OSError
        If it cannot be read.
    """
    if _is_npz(path):
        return _matrix(*_arrays(path, "X"))
    with open(path, encoding="utf-8-sig", newline="") as file:
        sheet = _Sheet(path, file)
        if names is not None:
            inputs = [sheet.position(name) for name in names]
        elif sheet.columns in (n_in, n_in + 1):
            inputs = list(range(n_in))
        else:
            raise ValueError(
                f"{path} has {sheet.columns} columns: expected {n_in} inputs, and perhaps a label after them."
            )
        return _matrix(sheet.read(inputs)[0])


def held_out(classes: Array, fraction: float, rng: np.random.Generator) -> Array:
    """Return a mask (N,) of the rows to test with: that share of each class (N,), at random, but never all of one."""
    groups = np.unique(classes, return_inverse=True)[1]
    test = np.zeros(len(classes), bool)
    for group in range(groups.max() + 1):
        rows = rng.permutation(np.flatnonzero(groups == group))
        test[rows[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
    return test


# ---- .npz -----------------------------------------------------------------------------------------------------------


def _is_npz(path: str) -> bool:
    kind = os.path.splitext(path)[1].lower()
    if kind not in (".npz", ".csv"):
        raise ValueError(f"{path} is not named .npz or .csv: expected one of these two kinds of file.")
    return kind == ".npz"


def _arrays(path: str, *names: str) -> list[Array]:
    try:
        with open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            found = {name: np.asarray(arrays[name]) for name in names if name in arrays}
            held = ", ".join(arrays.files) or "(none)"
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz file of plain arrays, or is damaged: {error}.") from None
    for name in names:
        if name not in found:
            raise ValueError(f"{path} has the arrays {held}: expected one called {name}.")
    return list(found.values())


def _matrix(X: Array) -> Array:
    X = numbers("X", X)
    check_shape("X", X, ("N", "m"), "it has a row for each sample and a column for each input")
    if X.size == 0:
        raise ValueError(f"X has shape {X.shape}: expected at least one row and one column.")
    check_finite("X", X)
    return X


# ---- .csv -----------------------------------------------------------------------------------------------------------


class _Sheet:
    """A .csv file in reading: its delimiter, its header if it has one, and then its rows, each checked by line."""

    def __init__(self, path: str, file: TextIO) -> None:
        self.path = path
        try:
            sample = next((line for line in file if line.strip()), "")
            file.seek(0)
            self._rows = csv.reader(file, delimiter=max(",;\t", key=sample.count))
            rows = self._filled_rows()
            first, second = next(rows, None), next(rows, None)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text in UTF-8: {error}.") from None
        if first is None:
            raise ValueError(f"{path} is empty: expected rows of numbers.")
        self.columns = len(first[1])
        self.names = [cell.strip() for cell in first[1]] if _is_header(first[1], second and second[1]) else None
        start = [row for row in (first, second) if row is not None][self.names is not None :]
        self._filled = chain(start, rows)

    def _filled_rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield line numbers, as an editor shows them, and rows, but for blank lines."""
        try:
            for row in self._rows:
                if row:
                    yield self._rows.line_num, row
        except csv.Error as error:
            raise ValueError(f"{self.path}, line {self._rows.line_num}: {error}.") from None

    def position(self, name: str) -> int:
        """Return the column of that name."""
        if self.names is None:
            raise ValueError(f"{self.path} has no header: expected one that names the column {name!r}.")
        if self.names.count(name) != 1:
            count = self.names.count(name)
            found = f"{count} columns" if count else "no column"
            columns = ", ".join(self.names)
            raise ValueError(f"{self.path} has {found} named {name!r}: expected one; its columns are {columns}.")
        return self.names.index(name)

    def check_names(self, names: Sequence[str]) -> None:
        """Raise a ValueError unless the inputs can be found by name later."""
        for name in names:
            self.position(name)
            if not name:
                raise ValueError(
                    f"{self.path} has a column without a name (a data frame's index?): expected names for all."
                )

    def read(self, inputs: Sequence[int], label: int | None = None) -> tuple[Array, list[tuple[int, str]]]:
        """Return the input columns (N, m) as numbers, and each label as text with its line."""
        values, labels = array("d"), []
        try:
            for line, row in self._filled:
                if len(row) != self.columns:
                    where = f"{self.path}, line {line}"
                    raise ValueError(f"{where}: it has {len(row)} columns, where the first line has {self.columns}.")
                try:
                    values.extend([float(row[column]) for column in inputs])
                except ValueError:
                    raise ValueError(self._bad_cell(line, row, inputs)) from None
                if label is not None:
                    labels.append((line, row[label].strip()))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is no text in UTF-8: {error}.") from None
        if not values:
            raise ValueError(f"{self.path} has a header and no rows: expected rows of numbers.")
        return np.frombuffer(values).reshape(-1, len(inputs)), labels

    def _bad_cell(self, line: int, row: list[str], inputs: Sequence[int]) -> str:
        column = next(column for column in inputs if not _is_number(row[column]))
        name = f" ({self.names[column]})" if self.names else ""
        return (
            f"{self.path}, line {line}, column {column + 1}{name}: {row[column]!r} is no number, which inputs must be."
        )


def _is_header(first: list[str], second: list[str] | None) -> bool:
    """Tell a header: none of its cells is a number where the cell below is one; alone, none of them is a number."""
    above = [cell for cell, below in zip(first, second or first, strict=False) if second is None or _is_number(below)]
    return bool(above) and not any(map(_is_number, above))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _labels(path: str, cells: list[tuple[int, str]], text: bool | None) -> Array:
    """Return labels as text, or as whole numbers where all are, or as numbers."""
    for line, cell in cells:
        if not cell:
            raise ValueError(f"{path}, line {line}: the label is missing.")
    words = [(line, cell) for line, cell in cells if not _is_number(cell)]
    if text or (text is None and len(words) == len(cells)):
        return np.array([cell for _, cell in cells])
    if words:
        line, cell = words[0]
        hint = "" if text is False else " (--task classify takes labels of both kinds)"
        raise ValueError(f"{path}, line {line}: the label {cell!r} is no number, as other labels are{hint}.")
    values = np.array([float(cell) for _, cell in cells])
    whole = np.all(np.abs(values) < 2**53) and np.all(values % 1 == 0)
    return values.astype(np.int64) if whole else values
