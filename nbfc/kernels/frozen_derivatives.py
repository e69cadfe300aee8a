"""What users' compiled code calls for derivatives by inputs (see ``derivatives``, and ``frozen`` for what is passed).

Where inputs are standardised, x → (x − mean) / deviation, a derivative by x is the one by the first layer's inputs,
divided by the deviation.
"""

from numba import types

from nbfc.kernels._jit import kernel
from nbfc.kernels.derivatives import hessian_vector_rows, jacobian_row, jvp_rows, size_of_more, vjp_rows
from nbfc.kernels.exported import INPUTS_FAULT, POLICY_FAULT, RESULT_FAULT, SCRATCH_FAULT, VECTOR_FAULT, exported
from nbfc.kernels.frozen import BLOCK, NETWORK, SAMPLES, copy_samples, fits, is_like, parameters_of, table_of
from nbfc.kernels.layers import N_IN, N_OUT
from nbfc.kernels.memory import address_of, matrix_at, matrix_of, quotient, read, rounded, vector_at, vector_of
from nbfc.kernels.workspace import ROWS, rows_of_room

VJP, JVP, HESSIAN_VECTOR = range(3)


@exported
@kernel(once=lambda real: (NETWORK, types.intp, real))
def work_size(net, rows, number):
    """Return how many entries `work` has for so many samples."""
    return size_of_work(table_of(net), max(1, min(ROWS, rows))) if fits(net) else -POLICY_FAULT


@kernel
def size_of_work(layers, rows):
    """Return that of a block: copies of x, u and v, the room, and more."""
    copies = 2 * layers[0, N_IN] + layers[-1, N_OUT]
    return rows * (copies + rows_of_room(layers)) + size_of_more(layers, rows)


@exported
@kernel(once=lambda real: (types.intp, NETWORK, *[SAMPLES] * 3, *[BLOCK] * 3, real))
def derivative(which, net, x, u, v, y, result, work, number):
    """Fill `result` by rows, for samples x (N, n_in), and for the first two also the outputs y (N, n_out).

    ============== =============================== ================== ==================
    which          a row of result                 u                  v
    ============== =============================== ================== ==================
    VJP            uᵀ J, (n_in,)                   (N, n_out)         unused
    JVP            J v, (n_out,)                   unused             (N, n_in)
    HESSIAN_VECTOR ∂²(uᵀ y)/∂x² v, (n_in,)         (N, n_out)         (N, n_in)
    ============== =============================== ================== ==================
    """
    if not fits(net):
        return -POLICY_FAULT
    layers, parameters = table_of(net), parameters_of(net, number)
    n_in, n_out = layers[0, N_IN], layers[-1, N_OUT]
    if x.columns != n_in:
        return -INPUTS_FAULT
    if which != JVP and not is_like(u, x.rows, n_out):
        return -VECTOR_FAULT
    if which != VJP and not is_like(v, x.rows, n_in):
        return -VECTOR_FAULT
    columns = n_out if which == JVP else n_in
    if not is_like(result, x.rows, columns) or (which != HESSIAN_VECTOR and not is_like(y, x.rows, n_out)):
        return -RESULT_FAULT
    most = max(1, min(ROWS, x.rows))
    if work.columns < size_of_work(layers, most):
        return -SCRATCH_FAULT
    memory = vector_of(work.address, work.columns, number)
    Y, results = matrix_of(y.address, y.rows, n_out, number), matrix_of(result.address, x.rows, columns, number)
    for r in range(0, x.rows, most):
        s = min(x.rows, r + most)
        N = s - r
        X, V = matrix_at(memory, 0, N, n_in), matrix_at(memory, N * n_in, N, n_in)
        U, at = matrix_at(memory, 2 * N * n_in, N, n_out), N * (2 * n_in + n_out)
        room = matrix_at(memory, at, rows_of_room(layers), N)
        more = vector_at(memory, at + room.size, size_of_more(layers, N))
        copy_samples(net, x, r, N, address_of(X), net.standardised > 0, number)
        if which != JVP:
            copy_samples(net, u, r, N, address_of(U), False, number)
        if which != VJP:
            copy_samples(net, v, r, N, address_of(V), False, number)
            divide_by_deviation(net, V, number)
        if which == VJP:
            vjp_rows(X, U, layers, parameters, room, Y[r:s], results[r:s])
        elif which == JVP:
            jvp_rows(X, V, layers, parameters, room, Y[r:s], results[r:s])
        else:
            hessian_vector_rows(X, U, V, layers, parameters, room, more, results[r:s])
        if which != JVP:
            divide_by_deviation(net, results[r:s], number)
    return 0


@exported
@kernel(once=lambda real: (NETWORK, SAMPLES, BLOCK, BLOCK, real))
def jacobian(net, x, J, work, number):
    """J (N · n_out, n_in) = ∂y/∂x for each of the samples x (N, n_in)."""
    if not fits(net):
        return -POLICY_FAULT
    layers, parameters = table_of(net), parameters_of(net, number)
    n_in, n_out = layers[0, N_IN], layers[-1, N_OUT]
    if x.columns != n_in:
        return -INPUTS_FAULT
    if not is_like(J, x.rows * n_out, n_in):
        return -RESULT_FAULT
    if work.columns < size_of_work(layers, 1):
        return -SCRATCH_FAULT
    memory, all_rows = vector_of(work.address, work.columns, number), matrix_of(J.address, J.rows, n_in, number)
    X, room = matrix_at(memory, 0, 1, n_in), matrix_at(memory, n_in, rows_of_room(layers), 1)
    more = vector_at(memory, n_in + room.size, size_of_more(layers, 1))
    for i in range(x.rows):
        copy_samples(net, x, i, 1, address_of(X), net.standardised > 0, number)
        rows = all_rows[i * n_out : (i + 1) * n_out]
        jacobian_row(X, layers, parameters, room, more, rows)
        divide_by_deviation(net, rows, number)
    return 0


@kernel
def divide_by_deviation(net, rows, number):
    """Divide rows of n_in entries by the deviation of the inputs, if there is one, in float64."""
    if net.standardised > 0:
        for i in range(rows.shape[0]):
            for k in range(rows.shape[1]):
                rows[i, k] = rounded(quotient(float(rows[i, k]), read(net.deviation + 8 * k, 1.0)), number)
