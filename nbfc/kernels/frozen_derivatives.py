"""What users' compiled code calls for derivatives by inputs (see ``derivatives``, and ``frozen`` for what is passed).

Where inputs are standardised, x → (x − mean) / deviation, a derivative by x is the one by the first layer's inputs,
divided by the deviation.
"""

from numba import types

from nbfc.kernels._jit import kernel
from nbfc.kernels.derivatives import hessian_vector_rows, jacobian_row, jvp_rows, size_of_more, vjp_rows
from nbfc.kernels.elementwise import is_further
from nbfc.kernels.exported import NO_SECOND, V_INPUTS, V_OUTPUTS, W_OUTPUTS, exported
from nbfc.kernels.frozen import copy_samples, fault_of, is_like, parameters_of, table_of
from nbfc.kernels.layers import ACTIVATION, DENSE, KIND, N_IN, N_OUT, ROOM
from nbfc.kernels.memory import address_of, matrix_at, matrix_of, quotient, read, rounded, vector_at, vector_of
from nbfc.kernels.passed import BLOCK, NETWORK, SAMPLES
from nbfc.kernels.workspace import ROWS

VJP, JVP, HESSIAN_VECTOR, JACOBIAN = range(4)


@exported
@kernel(once=lambda real: types.intp(types.intp, NETWORK, *[SAMPLES] * 3, real))
def work_size(which, net, x, u, v, number):
    """Return how many entries `work` has for a derivative at samples x, after a look at all that was given for it."""
    fault = fault_of(net, x)
    if fault > 0:
        return -fault
    layers = table_of(net)
    if which in (VJP, HESSIAN_VECTOR) and not is_like(u, x.rows, layers[-1, N_OUT]):
        return -(V_OUTPUTS if which == VJP else W_OUTPUTS)
    if which == HESSIAN_VECTOR:
        for layer in range(layers.shape[0]):
            if is_further(layers[layer, ACTIVATION]) or layers[layer, KIND] != DENSE:
                return -NO_SECOND
    if which in (JVP, HESSIAN_VECTOR) and not is_like(v, x.rows, x.columns):
        return -V_INPUTS
    return size_of_work(layers, 1 if which == JACOBIAN else max(1, min(ROWS, x.rows)))


@kernel
def size_of_work(layers, rows):
    """Return that of a block: copies of x, u and v, the room, and more."""
    copies = 2 * layers[0, N_IN] + layers[-1, N_OUT]
    return rows * (copies + layers[-1, ROOM]) + size_of_more(layers, rows)


@exported
@kernel(once=lambda real: types.intp(types.intp, NETWORK, *[SAMPLES] * 3, *[BLOCK] * 3, real))
def derivative(which, net, x, u, v, y, result, work, number):
    """Fill `result` by rows, for samples x (N, n_in), and for the first two also the outputs y (N, n_out).

    ============== =============================== ================== ==================
    which          a row of result                 u                  v
    ============== =============================== ================== ==================
    VJP            uᵀ J, (n_in,)                   (N, n_out)         unused
    JVP            J v, (n_out,)                   unused             (N, n_in)
    HESSIAN_VECTOR ∂²(uᵀ y)/∂x² v, (n_in,)         (N, n_out)         (N, n_in)
    ============== =============================== ================== ==================

    All of them have been looked at by `work_size`.
    """
    layers, parameters = table_of(net), parameters_of(net, number)
    n_in, n_out = x.columns, layers[-1, N_OUT]
    columns, most = n_out if which == JVP else n_in, max(1, min(ROWS, x.rows))
    memory = vector_of(work.address, work.columns, number)
    Y, results = matrix_of(y.address, y.rows, n_out, number), matrix_of(result.address, x.rows, columns, number)
    for r in range(0, x.rows, most):
        s = min(x.rows, r + most)
        N = s - r
        X, V = matrix_at(memory, 0, N, n_in), matrix_at(memory, N * n_in, N, n_in)
        U, at = matrix_at(memory, 2 * N * n_in, N, n_out), N * (2 * n_in + n_out)
        room = matrix_at(memory, at, layers[-1, ROOM], N)
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
@kernel(once=lambda real: types.intp(NETWORK, SAMPLES, BLOCK, BLOCK, real))
def jacobian(net, x, J, work, number):
    """J (N · n_out, n_in) = ∂y/∂x for each of the samples x (N, n_in), which `work_size` has looked at."""
    layers, parameters = table_of(net), parameters_of(net, number)
    n_in, n_out = x.columns, layers[-1, N_OUT]
    memory, all_rows = vector_of(work.address, work.columns, number), matrix_of(J.address, J.rows, n_in, number)
    X, room = matrix_at(memory, 0, 1, n_in), matrix_at(memory, n_in, layers[-1, ROOM], 1)
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
