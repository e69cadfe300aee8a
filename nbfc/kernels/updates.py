"""Optimizer updates on flat vectors: parameters θ, mean gradient g, moments m and v, all alike in shape.

A rule is a float64 vector, so that one compiled step serves every optimizer: its code, the step's number t ≥ 1, the
learning rate η, the optimizer's own numbers, the length that each sample's gradient is shortened to, the loss's own
number, what ``regularization`` does, and the seed of ``dropout``; 0 is for nothing of the kind.
``nbfc.optimizers`` holds the names and makes the vectors. The updates of most trainings are here, the others in
``further_updates``; all are called by way of a table, and compiled when first wanted. Each is a function (θ, state,
start, rule) of some entries of θ, which lie from `start` on in the rows of the state.
"""

from math import sqrt

from numba import types
from numba.extending import register_jitable

from nbfc._arrays import Array
from nbfc.kernels._addresses import Table
from nbfc.kernels._jit import kernel

KEEP, SGD, ADAM = range(3)  # KEEP leaves parameters and gradient as they are
RMSPROP, ADAGRAD, NADAM, LION = range(3, 7)  # see ``further_updates``
# Entries of a rule
CODE, STEP, LEARNING_RATE, FIRST, SECOND, THIRD, FOURTH, CLIP, NUMBER = range(9)
L1, L2, CLIP_VALUE, CLIP_NORM, MAX_NORM, SEED = range(9, 15)
LENGTH = SEED + 1
RULE = types.float64[::1]


def arguments(real):
    """Return the types of what updates return and take: θ, the state, where θ's entries lie in it, and the rule."""
    return real(real[::1], real[:, ::1], types.intp, RULE)


UPDATE_TABLE = Table("updates", arguments)
call_of_table, has_update = UPDATE_TABLE.call, UPDATE_TABLE.has


@register_jitable
def rows_of_state(rule: Array) -> int:
    """Return 1 + moments: the rows of a state for a rule; 0 for no rule."""
    code = rule[CODE]
    if code == SGD:
        return 2 if rule[FIRST] != 0 else 1
    if code == RMSPROP:
        return 3 if rule[THIRD] != 0 else 2
    if code in (ADAM, NADAM):
        return 3
    if code in (ADAGRAD, LION):
        return 2
    return int(code == KEEP)


@kernel
def update(parameters, state, rule, start, stop):
    """Update entries start to stop of θ and the moments; return 0 if all of the new θ is finite, NaN if not.

    parameters (P,) is updated. state (1 + moments, P) has the gradient in row 0, m in row 1 and v in row 2. Moments
    are updated, and the gradient is overwritten by the old θ, so that a step that overflowed can be undone.
    """
    if rule[CODE] == KEEP:
        return parameters.dtype.type(0)
    return call_of_table(int(rule[CODE]), parameters[start:stop], state, start, rule)


@kernel(once=arguments)
def sgd(theta, state, start, rule):
    """SGD with or without momentum, which takes a moment."""
    stop = start + theta.shape[0]
    if rule[FIRST] == 0:
        return plain_sgd(rule, theta, state[0, start:stop])
    return momentum_sgd(rule, theta, state[0, start:stop], state[1, start:stop])


@kernel(reassociate=True)
def plain_sgd(rule, theta, g):
    """θ ← θ − η g: without momentum no moment is kept."""
    eta, zero = theta.dtype.type(rule[LEARNING_RATE]), theta.dtype.type(0)
    overflow = zero
    for p in range(theta.shape[0]):
        old = theta[p]
        new = old - eta * g[p]
        theta[p] = new
        g[p] = old
        overflow += zero * new  # 0 · inf and 0 · NaN are NaN; a comparison would keep the loop from being vectorised
    return overflow


@kernel(reassociate=True)
def momentum_sgd(rule, theta, g, m):
    """m ← μ m + g; θ ← θ − η m, or with Nesterov's look-ahead θ ← θ − η (g + μ m).

    FIRST is the momentum μ, SECOND is 1 for Nesterov's form. As in Sutskever et al., 2013, section 2, with η taken
    out of m, as PyTorch does: a change of η then acts at once.
    """
    real = theta.dtype.type
    eta, mu, nesterov = real(rule[LEARNING_RATE]), real(rule[FIRST]), rule[SECOND] != 0
    zero = real(0)
    overflow = zero
    for p in range(theta.shape[0]):
        velocity = mu * m[p] + g[p]
        m[p] = velocity
        old = theta[p]
        new = old - eta * (g[p] + mu * velocity if nesterov else velocity)
        theta[p] = new
        g[p] = old
        overflow += zero * new
    return overflow


@kernel(once=arguments, reassociate=True)
def adam(theta, state, start, rule):
    """m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; θ ← (1 − η λ) θ − η m̂ / (√v̂ + ε), m̂ = m/(1 − β₁ᵗ), v̂ likewise.

    FIRST to FOURTH are β₁, β₂, ε and the decoupled weight decay λ (0 for Adam, Kingma and Ba, 2015, algorithm 1;
    positive for AdamW, Loshchilov and Hutter, 2019, algorithm 2).
    """
    real, stop = theta.dtype.type, start + theta.shape[0]
    t, eta = rule[STEP], rule[LEARNING_RATE]
    beta1, beta2, epsilon, decay = real(rule[FIRST]), real(rule[SECOND]), real(rule[THIRD]), rule[FOURTH]
    rest1, rest2 = real(1 - rule[FIRST]), real(1 - rule[SECOND])
    rate = real(eta / (1 - rule[FIRST] ** t))  # η and m's correction, in float64
    correction = real(1 / (1 - rule[SECOND] ** t))
    keep, zero = real(1 - eta * decay), real(0)
    g, m, v = state[0, start:stop], state[1, start:stop], state[2, start:stop]
    overflow = zero
    for p in range(theta.shape[0]):
        first = beta1 * m[p] + rest1 * g[p]
        second = beta2 * v[p] + rest2 * g[p] * g[p]
        m[p] = first
        v[p] = second
        old = theta[p]
        new = keep * old - rate * first / (sqrt(second * correction) + epsilon)
        theta[p] = new
        g[p] = old
        overflow += zero * new
    return overflow


UPDATE_TABLE.add(SGD, sgd.kernel)
UPDATE_TABLE.add(ADAM, adam.kernel)
