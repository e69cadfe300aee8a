"""Data that come with the package.

digits.npz is the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI
Machine Learning Repository, https://doi.org/10.24432/C50P49, licensed under CC BY 4.0; scikit-learn ships the same
1,797 images. Changes: pixels and labels are stored as unsigned bytes, in the original order, and a fifth of each class,
drawn once at random, is marked for testing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nbfc._arrays import Array

Samples = tuple[Array, Array]


def load_digits() -> tuple[Samples, Samples]:
    """Return 1,797 handwritten digits of 8 × 8 pixels, in a fixed split that has the same share of each digit.

    Returns
    -------
    (X, y), (X_test, y_test)
        1,438 samples to train with and 359 to test with. X is float32 (N, 64), pixel values from 0 to 16, row by row
        from the top left; y is int64 (N,), the digit.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        X, y, test = file["pixels"].astype(np.float32), file["labels"].astype(np.int64), file["test"]
    return (X[~test], y[~test]), (X[test], y[test])
