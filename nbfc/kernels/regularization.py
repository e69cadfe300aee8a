"""What may be done to a gradient before the update, and to the weights after it; compiled when first wanted.

Penalties are those of the mean loss J: J + λ₁ Σ |w| + (λ₂/2) Σ w², over the weights and not the biases. The gradient is
then cut to ± `clip_value`, or shortened to the length `clip_norm`. After the update each output's weights, a column of
W, are shortened to the length `max_norm` (Srebro et al., 2005; Srivastava et al., 2014, section 5.1).
"""

from math import sqrt
from typing import Any

from numba import types
from numba.extending import register_jitable

from nbfc._arrays import Array
from nbfc.kernels import further_updates  # noqa: F401  (they enter the table)
from nbfc.kernels._addresses import Table
from nbfc.kernels._jit import kernel
from nbfc.kernels.dense import columns_of, share_of
from nbfc.kernels.layers import BIAS_AT, DENSE, KIND, N_OUT, TABLE, WEIGHTS_AT, weights
from nbfc.kernels.sample_norms import CLIP_ROWS, CLIP_TABLE, has_clip, sum_of_squares
from nbfc.kernels.updates import (
    CLIP,
    CLIP_NORM,
    CLIP_VALUE,
    CODE,
    KEEP,
    L1,
    L2,
    MAX_NORM,
    RULE,
    UPDATE_TABLE,
    has_update,
    update,
)


def arguments(real):
    """Return the types of what the table's parts return and take: layers, parameters, state, rule, two integers."""
    return real(TABLE, real[::1], real[:, ::1], RULE, types.intp, types.intp)


EXTRAS = Table("extras", arguments)
call_of_table, has_extra = EXTRAS.call, EXTRAS.has

# Entries that are not shared out further: what vectors fill and what is left to single numbers, whose last bits differ,
# is then the same wherever the cuts fall.
TOGETHER = 64
PENALIZE, SHORTEN, UPDATE, PROJECT = range(4)


@register_jitable
def penalizes(rule):
    """Return whether a rule changes entries of the gradient by themselves."""
    return rule[L1] > 0 or rule[L2] > 0 or rule[CLIP_VALUE] > 0


@register_jitable
def shortens(rule):
    """Return whether it needs the whole gradient before the update."""
    return rule[CLIP_NORM] > 0


@register_jitable
def projects(rule):
    """Return whether it bounds weights after the update."""
    return rule[MAX_NORM] > 0


@kernel
def finish(layers, parameters, state, rule, start, stop):
    """Do what the rule says with entries start to stop of the gradient, as far as the whole of it is not needed."""
    if penalizes(rule):
        call_of_table(PENALIZE, layers, parameters, state, rule, start, stop)
    if shortens(rule):
        return parameters.dtype.type(0)
    return update(parameters, state, rule, start, stop)


@kernel
def is_loaded(rule, parameters):
    """Return whether what a rule asks for is there."""
    found = rule[CODE] == KEEP or has_update(int(rule[CODE]), parameters)
    if penalizes(rule):
        found &= has_extra(PENALIZE, parameters)
    if shortens(rule):
        found &= has_extra(SHORTEN, parameters) & has_extra(UPDATE, parameters)
    if projects(rule):
        found &= has_extra(PROJECT, parameters)
    if rule[CLIP] > 0:
        found &= has_clip(CLIP_ROWS, parameters)
    return found


@kernel
def phases_of_parameters(rule):
    """Return in how many phases pass 2 is made: 0 makes the gradient, and what `finish` does; others are rarer."""
    return 1 + PROJECT if rule[CODE] != KEEP and (shortens(rule) or projects(rule)) else 1


@kernel
def blocks_of_update(rule, phase, shares):
    """Return into how many blocks a phase (SHORTEN, UPDATE or PROJECT) is cut: one for each share, one, or none."""
    if phase == PROJECT:
        return shares if projects(rule) else 0
    if shortens(rule):
        return 1 if phase == SHORTEN else shares
    return 0


@kernel
def phase_of_update(layers, parameters, state, rule, phase, share, shares, overflow):
    """Shorten the gradient, update by it, or project, for a share of the parameters; return as `update` does.

    What overflowed is not projected.
    """
    if phase != PROJECT:
        start, end = share_of(parameters.shape[0], share, shares, TOGETHER)
        return call_of_table(phase, layers, parameters, state, rule, start, end)
    if overflow != 0:
        return parameters.dtype.type(0)
    return call_of_table(PROJECT, layers, parameters, state, rule, share, shares)


@kernel(once=arguments)
def add_penalties(layers, parameters, state, rule, start, stop):
    """g ← g + λ₁ sign w + λ₂ w for the weights, then g cut to ± `clip_value`, for entries start to stop."""
    gradient = state[0]
    real = gradient.dtype.type
    l1, l2, most = real(rule[L1]), real(rule[L2]), real(rule[CLIP_VALUE])
    if l1 > real(0) or l2 > real(0):
        for layer in range(layers.shape[0]):
            first, last = max(start, layers[layer, WEIGHTS_AT]), min(stop, layers[layer, BIAS_AT])
            if first < last and layers[layer, KIND] == DENSE:
                w, g = parameters[first:last], gradient[first:last]
                for p in range(w.shape[0]):
                    sign = real(1) if w[p] > real(0) else (real(-1) if w[p] < real(0) else real(0))
                    g[p] += l2 * w[p] + l1 * sign
    if most > real(0):
        g = gradient[start:stop]
        for p in range(g.shape[0]):
            g[p] = most if g[p] > most else (-most if g[p] < -most else g[p])  # this way round NaN stays NaN
    return real(0)


@kernel(once=arguments)
def shorten(layers, parameters, state, rule, start, stop):
    """g ← g · min(1, `clip_norm` / ‖g‖), Pascanu et al., 2013, algorithm 1."""
    gradient = state[0]
    length = sqrt(sum_of_squares(gradient))
    if length > rule[CLIP_NORM]:
        factor = gradient.dtype.type(rule[CLIP_NORM] / length)
        for p in range(gradient.shape[0]):
            gradient[p] *= factor
    return gradient.dtype.type(0)


@kernel(once=arguments)
def update_block(layers, parameters, state, rule, start, stop):
    """Update entries start to stop; return what `update` does."""
    return update(parameters, state, rule, start, stop)


@kernel(once=arguments)
def project(layers, parameters, state, rule, share, shares):
    """Shorten columns of all W to `max_norm`: a share of each layer's. state[0] is used for the lengths."""
    zero = parameters.dtype.type(0)
    for layer in range(layers.shape[0]):
        if layers[layer, KIND] != DENSE:
            continue
        j0, j1 = columns_of(layers[layer, N_OUT], share, shares)
        W, sums = weights(layers, parameters, layer)[:, j0:j1], weights(layers, state[0], layer)[0, j0:j1]
        for j in range(sums.shape[0]):
            sums[j] = zero
        for k in range(W.shape[0]):
            w = W[k]
            for j in range(sums.shape[0]):
                sums[j] += w[j] * w[j]
        longest = 0.0
        for j in range(sums.shape[0]):
            length = sqrt(sums[j])
            longest = max(longest, length)
            sums[j] = rule[MAX_NORM] / length if length > rule[MAX_NORM] else 1.0
        if longest > rule[MAX_NORM]:
            for k in range(W.shape[0]):
                w = W[k]
                for j in range(sums.shape[0]):
                    w[j] *= sums[j]
    return zero


for _code, _extra in ((PENALIZE, add_penalties), (SHORTEN, shorten), (UPDATE, update_block), (PROJECT, project)):
    EXTRAS.add(_code, _extra.kernel)


def ask_for_rule(rule: Array, dtype: Any) -> None:
    """Let what a rule needs be compiled (see `Table.ask`)."""
    UPDATE_TABLE.ask(int(rule[CODE]), dtype)
    for extra, is_asked in ((PENALIZE, penalizes), (SHORTEN, shortens), (UPDATE, shortens), (PROJECT, projects)):
        if is_asked(rule):
            EXTRAS.ask(extra, dtype)
    if rule[CLIP] > 0:
        CLIP_TABLE.ask(CLIP_ROWS, dtype)
