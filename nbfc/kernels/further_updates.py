"""Updates of optimizers that fewer trainings have: functions (θ, state, start, rule) like those of ``updates``."""

from math import sqrt

from nbfc.kernels._jit import kernel
from nbfc.kernels.updates import (
    ADAGRAD,
    FIRST,
    FOURTH,
    LEARNING_RATE,
    LION,
    NADAM,
    RMSPROP,
    SECOND,
    STEP,
    THIRD,
    UPDATE_TABLE,
    arguments,
)


@kernel(once=arguments, reassociate=True)
def rmsprop(theta, state, start, rule):
    """v ← ρ v + (1 − ρ) g²; θ ← θ − η u, where u = g / (√v + ε), or with a momentum m ← μ m + u, and u is m.

    FIRST to THIRD are ρ, ε and μ. Tieleman and Hinton, 2012, lecture 6.5; with momentum as PyTorch has it.
    """
    real, stop = theta.dtype.type, start + theta.shape[0]
    eta, rho, rest = real(rule[LEARNING_RATE]), real(rule[FIRST]), real(1 - rule[FIRST])
    epsilon, mu, zero = real(rule[SECOND]), real(rule[THIRD]), real(0)
    g, v = state[0, start:stop], state[1, start:stop]
    m = state[2 if rule[THIRD] > 0 else 1, start:stop]
    overflow = zero
    for p in range(theta.shape[0]):
        old, square = theta[p], rho * v[p] + rest * g[p] * g[p]
        v[p] = square
        change = g[p] / (sqrt(square) + epsilon)
        if mu > zero:
            change += mu * m[p]
            m[p] = change
        new = old - eta * change
        theta[p] = new
        g[p] = old
        overflow += zero * new
    return overflow


@kernel(once=arguments, reassociate=True)
def adagrad(theta, state, start, rule):
    """v ← v + g²; θ ← θ − η g / (√v + ε). FIRST is ε. Duchi et al., 2011, section 1.1."""
    real, stop = theta.dtype.type, start + theta.shape[0]
    eta, epsilon, zero = real(rule[LEARNING_RATE]), real(rule[FIRST]), real(0)
    g, v = state[0, start:stop], state[1, start:stop]
    overflow = zero
    for p in range(theta.shape[0]):
        old, square = theta[p], v[p] + g[p] * g[p]
        v[p] = square
        new = old - eta * g[p] / (sqrt(square) + epsilon)
        theta[p] = new
        g[p] = old
        overflow += zero * new
    return overflow


@kernel(once=arguments, reassociate=True)
def nadam(theta, state, start, rule):
    """Adam's moments m and v; θ ← θ − η (β₁ m/(1 − β₁ᵗ⁺¹) + (1 − β₁) g/(1 − β₁ᵗ)) / (√v̂ + ε).

    FIRST to THIRD are β₁, β₂ and ε. Dozat, 2016, algorithm 2, with one μ = β₁ for all steps.
    """
    real, stop, t = theta.dtype.type, start + theta.shape[0], rule[STEP]
    beta1, beta2, epsilon = real(rule[FIRST]), real(rule[SECOND]), real(rule[THIRD])
    rest1, rest2 = real(1 - rule[FIRST]), real(1 - rule[SECOND])
    ahead = real(rule[LEARNING_RATE] * rule[FIRST] / (1 - rule[FIRST] ** (t + 1)))
    now = real(rule[LEARNING_RATE] * (1 - rule[FIRST]) / (1 - rule[FIRST] ** t))
    correction, zero = real(1 / (1 - rule[SECOND] ** t)), real(0)
    g, m, v = state[0, start:stop], state[1, start:stop], state[2, start:stop]
    overflow = zero
    for p in range(theta.shape[0]):
        old = theta[p]
        first, second = beta1 * m[p] + rest1 * g[p], beta2 * v[p] + rest2 * g[p] * g[p]
        m[p] = first
        v[p] = second
        new = old - (ahead * first + now * g[p]) / (sqrt(second * correction) + epsilon)
        theta[p] = new
        g[p] = old
        overflow += zero * new
    return overflow


@kernel(once=arguments, reassociate=True)
def lion(theta, state, start, rule):
    """θ ← (1 − η λ) θ − η sign(β₁ m + (1 − β₁) g); m ← β₂ m + (1 − β₂) g.

    FIRST, SECOND and FOURTH are β₁, β₂ and λ. Chen et al., 2023, algorithm 2.
    """
    real, stop = theta.dtype.type, start + theta.shape[0]
    eta, keep = real(rule[LEARNING_RATE]), real(1 - rule[LEARNING_RATE] * rule[FOURTH])
    beta1, beta2 = real(rule[FIRST]), real(rule[SECOND])
    rest1, rest2, zero = real(1 - rule[FIRST]), real(1 - rule[SECOND]), real(0)
    g, m = state[0, start:stop], state[1, start:stop]
    overflow = zero
    for p in range(theta.shape[0]):
        old, direction = theta[p], beta1 * m[p] + rest1 * g[p]
        m[p] = beta2 * m[p] + rest2 * g[p]
        change = eta if direction > zero else (-eta if direction < zero else zero * direction)  # NaN stays NaN
        new = keep * old - change
        theta[p] = new
        g[p] = old
        overflow += zero * new
    return overflow


for _code, _update in ((RMSPROP, rmsprop), (ADAGRAD, adagrad), (NADAM, nadam), (LION, lion)):
    UPDATE_TABLE.add(_code, _update.kernel)
