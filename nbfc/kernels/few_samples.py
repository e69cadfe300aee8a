"""Pass 1 of a training step where samples are few, or few beside the weights: threads share weights and not rows.

They meet after every layer. What takes time then is to bring W to the threads, or to copy it by panels. So each has
nearly the same rows of a W in ③ and in pass 2, where it changes them; and if there are two, forward as well: there
a sum over many inputs is cut into two chains, for any number of threads, which are added when both are there. (Where
threads share the columns of W instead, each has changed half of what the other reads next: steps of few samples take
1.3 to 1.6 times as long on two cores without a common cache, and at most three times. Of more samples the outputs are
so many that to add them takes longer, if they are not few beside the inputs.)
"""

from numba.extending import register_jitable

from nbfc.kernels._jit import inlined, kernel
from nbfc.kernels.dense import FEW_ROWS, LARGE, MORE_ROWS, ROWS_TOGETHER, WHOLE, columns_of, forward_chain, share_of
from nbfc.kernels.dropout import drop, drop_back
from nbfc.kernels.layers import DENSE, KIND, N_IN, N_OUT, SIZE, W_ROWS, bias, weights
from nbfc.kernels.rows import activate_outputs, back_layer, forward_layer, gather, take_loss
from nbfc.kernels.sample_norms import clip
from nbfc.kernels.workspace import all_outputs, batch_size, gradients, inputs, number_of_parts, outputs, rows_of_batch

SMALL = 2**18  # products of numbers that one thread takes as soon as two; to fetch a weight counts for eight
# Weights in a network, for each output of each sample: each thread had better read a part of them alone. The second
# number is for networks that no cache near a thread holds, where samples may be any number: to meet takes no time
# beside reading these.
MANY_WEIGHTS, MANY_LARGE = 8, 4
CHAINS, MANY_INPUTS = 2, 128  # of a sum over so many inputs at least; with more samples, over so many times the outputs
FEW_NUMBERS = 2**12  # that one thread goes over, as to gather or add them, in the time of two and their meeting

GATHER, FORWARD, ADD, LOSS, BACK, CLIP = range(6)  # what a phase does


@register_jitable
def shares_weights(layers, N):
    """Return whether samples are few: fewer than `FEW_ROWS`, or few beside the weights.

    Then to exchange all outputs takes less time than for each thread to read all weights. A batch that is cut into
    parts is never few (see ``workspace``).
    """
    if layers[-1, SIZE] > LARGE:
        few = layers[-1, SIZE] > MANY_LARGE * N * all_outputs(layers) and number_of_parts(layers, N) == 0
    else:
        few = N < MORE_ROWS and layers[-1, SIZE] > MANY_WEIGHTS * N * all_outputs(layers)
    return few or N < FEW_ROWS


@inlined
def phases(layers, N):
    """Return in how many phases pass 1 is made: one, but where threads share weights."""
    return 3 * layers.shape[0] + 2 if shares_weights(layers, N) else 1


@inlined
def task_of(layers, phase):
    """Return what a phase does, and for which layer."""
    L = layers.shape[0]
    if phase == 0:
        return GATHER, 0
    if phase <= 2 * L:
        return FORWARD if phase % 2 == 1 else ADD, (phase - 1) // 2
    if phase == 2 * L + 1:
        return LOSS, L - 1
    if phase <= 3 * L:
        return BACK, 3 * L + 1 - phase
    return CLIP, 0


@kernel
def blocks_of_phase(layers, order, goal, N, phase, threads):
    """Return into how many blocks a phase is cut: one for each of so many threads, one, or 0 if there is nothing to do.

    It is by products of numbers in a layer of weights, else by how many numbers there are.
    """
    task, layer = task_of(layers, phase)
    if task in (FORWARD, BACK) and layers[layer, KIND] == DENSE:
        shared = N_OUT if task == FORWARD else N_IN
        by_rows = shares_rows(layers, layer, N, shared)
        alone = is_little(layers, layer, N) if by_rows else is_small(layers, layer, N, shared)
        return 1 if alone else threads
    numbers = N * layers[layer, N_OUT]
    if task == GATHER:
        numbers = N * layers[layer, N_IN] if order.shape[0] > 0 else 0
    elif task == ADD and not has_chains(layers, layer, N):
        numbers = 0
    elif task == CLIP:
        numbers = N * all_outputs(layers) if goal.longest > 0 else 0
    return threads if numbers >= FEW_NUMBERS else min(numbers, 1)


@kernel
def is_little(layers, layer, N):
    """Return whether threads would gain less by a layer than it costs them to meet."""
    return max(N, 8) * layers[layer, W_ROWS] * layers[layer, N_OUT] < SMALL


@kernel
def is_small(layers, layer, N, shared):
    """Return whether threads would gain less than it costs them to meet, if they share a layer's N_OUT or N_IN."""
    return is_little(layers, layer, N) or layers[layer, shared] < 2 * WHOLE


@kernel
def shares_rows(layers, layer, N, shared):
    """Return whether threads share samples instead: where a layer goes over whole rows, or has few columns for many."""
    return layers[layer, KIND] != DENSE or (N >= MORE_ROWS and layers[layer, shared] < 2 * WHOLE)


@kernel
def has_chains(layers, layer, N):
    """Return whether a layer's sums are cut into chains."""
    n_in, n_out = layers[layer, N_IN], layers[layer, N_OUT]
    many = n_in >= MANY_INPUTS and (N < MORE_ROWS or n_in > CHAINS * n_out)
    return layers[layer, KIND] == DENSE and many and not is_small(layers, layer, N, N_OUT)


@kernel
def phase_of_weights(X, order, goal, layers, parameters, room, phase, share, shares):
    """Do a share of what a phase is for: by inputs going back and gathering, by chains or outputs going forward.

    Some layers are shared out by rows instead, as are the loss and what it makes.
    """
    N = batch_size(X, order)
    rows = rows_of_batch(X, order, layers, room, 0, N, 0)
    task, layer = task_of(layers, phase)
    if task == GATHER:
        k0, k1 = columns_of(X.shape[1], share, shares)
        gather(X, order, inputs(layers, room, 0, N), k0, k1)
    elif task == LOSS:
        r, s = share_of(N, share, shares, 1)
        take_loss(goal, r, s, layers, room, r)
    elif task == CLIP:
        r, s = share_of(N, share, shares, 1)
        clip(rows[r:s], layers, room, r, goal.longest)
    elif task == BACK:
        r, s, k0, k1 = rows_and_columns_of(layers, layer, N, N_IN, share, shares)
        back_layer(layers, parameters, room, layer, goal.key, r, s, N < FEW_ROWS, k0, k1)
        drop_back(layers, room, layer - 1, goal.key, r, r, s, k0, k1)
    elif task == ADD:
        j0, j1 = columns_of(layers[layer, N_OUT], share, shares)
        add_chains(layers, room, layer, N, j0, j1)
        drop(layers, room, layer, goal.key, 0, 0, N, j0, j1)
    elif has_chains(layers, layer, N):
        make_chains(rows, layers, parameters, room, layer, share, shares)
    else:
        r, s, j0, j1 = rows_and_columns_of(layers, layer, N, N_OUT, share, shares)
        forward_layer(rows[r:s], layers, parameters, room, layer, r, s, j0, j1)
        drop(layers, room, layer, goal.key, r, r, s, j0, j1)


@kernel
def rows_and_columns_of(layers, layer, N, shared, share, shares):
    """Return which rows and columns are a thread's: all N rows and some columns, or some rows and all columns."""
    if shares_rows(layers, layer, N, shared):
        r, s = share_of(N, share, shares, ROWS_TOGETHER)
        return r, s, 0, layers[layer, shared]
    j0, j1 = columns_of(layers[layer, shared], share, shares)
    return 0, N, j0, j1


@kernel
def make_chains(rows, layers, parameters, room, layer, share, shares):
    """Fill chains of a layer's sums: the first where Y will be, with the bias, and the second where dY will be.

    More threads than chains share the columns of each.
    """
    N, groups = rows.shape[0], (shares + CHAINS - 1) // CHAINS
    W, b = weights(layers, parameters, layer), bias(layers, parameters, layer)
    X = outputs(layers, room, layer - 1, 0, N) if layer > 0 else rows
    for part in range(CHAINS * groups * share // shares, CHAINS * groups * (share + 1) // shares):
        chain = part // groups
        k0, k1 = columns_of(W.shape[0], chain, CHAINS)
        j0, j1 = columns_of(W.shape[1], part - chain * groups, groups)
        target = outputs(layers, room, layer, 0, N) if chain == 0 else gradients(layers, room, layer, 0, N)
        forward_chain(X, W, b, target, k0, k1, j0, j1)


@kernel
def add_chains(layers, room, layer, N, j0, j1):
    """Y ← activation(the sum of both chains), for outputs j0 to j1."""
    Y, second = outputs(layers, room, layer, 0, N), gradients(layers, room, layer, 0, N)
    for i in range(N):
        y, more = Y[i, j0:j1], second[i, j0:j1]
        for j in range(y.shape[0]):
            y[j] += more[j]
    activate_outputs(layers, room, layer, 0, N, j0, j1)
