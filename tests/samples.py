"""Data that fit each loss, one matrix in every layout that a user may bring, and networks with biases."""

import numpy as np

import nbfc

LOSSES = ("mse", "cross_entropy of labels", "cross_entropy of rows", "binary_cross_entropy")
FURTHER_LOSSES = ("mae", "huber", "quantile", "poisson", "gaussian_nll")


def targets(case, N, n, rng):
    """Return the loss's name and targets for N samples and n outputs."""
    name = case.split()[0]
    if case == "cross_entropy of labels":
        return name, rng.integers(0, n, N)
    if case == "cross_entropy of rows":
        rows = rng.random((N, n)) + 0.01
        return name, rows / rows.sum(axis=1, keepdims=True)
    if case == "binary_cross_entropy":
        return name, rng.random((N, n))
    if case == "poisson":
        return name, rng.integers(0, 4, (N, n)).astype(float)
    if case == "gaussian_nll":
        return name, rng.standard_normal((N, n // 2))
    return name, rng.standard_normal((N, n))


def layouts(X, folder):
    """Yield a name and the values of X (N, m), small whole numbers, as another kind of array."""
    yield "list", X.tolist()
    for kind in ("float16", "float32", "float64", "int8", "uint16", "int64", ">f4", ">f8", ">i4", "longdouble"):
        yield kind, X.astype(kind)
    yield "Fortran-ordered", np.asfortranarray(X)
    wide = np.zeros((2 * len(X), 3 * X.shape[1]), X.dtype)
    wide[::2, 1::3] = X
    yield "strided", wide[::2, 1::3]
    yield "negative-strided", np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    read_only = X.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only
    memory = np.zeros(X.nbytes + 1, np.uint8)[1:].view(X.dtype).reshape(X.shape)
    memory[:] = X
    yield "unaligned", memory
    path = folder / "X.npy"
    np.save(path, X)
    yield "memory-mapped", np.load(path, mmap_mode="r")
    fortran = folder / "F.npy"
    np.save(fortran, np.asfortranarray(X))
    yield "memory-mapped, Fortran-ordered", np.load(fortran, mmap_mode="r")


def network(widths, activation="tanh", output="identity", dtype="float64", seed=0, standardized=False):
    """Return a network with biases, and with inputs that are standardised if so said."""
    net, rng = nbfc.MLP(widths, activation, output, dtype, seed), np.random.default_rng(seed)
    for b in net.biases:
        b[:] = rng.standard_normal(b.shape) / 4
    if standardized:
        net.standardize_inputs(rng.standard_normal((20, widths[0])) * 3 + 1)
    return net
