"""Balance a pole on a cart, by a network that is trained without ever leaving compiled code.

    python -m nbfc.examples.cartpole                 train, test on 100 episodes, and draw cartpole.png
    python -m nbfc.examples.cartpole --generations 3 --out short.png

Evolution strategies (Salimans et al., 2017): in each generation the network is tried with many disturbances of its
parameters, in parallel, and moves along those that kept the pole up for longer. The cart is that of Barto, Sutton and
Anderson (1983), with the numbers and the limits of the benchmark CartPole-v1: a reward for each step, 500 at most, and
solved at a mean of 475. The same seed gives the same network, for any number of threads.
"""

import argparse
import math
import time

import numpy as np
from matplotlib.figure import Figure
from numba import njit, prange

import nbfc
from nbfc.jit import Policy, argmax, predict_into, scratch

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
MOST_STEPS, FURTHEST, STEEPEST = 500, 2.4, math.radians(12)
SOLVED, ENOUGH = 475, 495  # of the mean return: what counts as solved, and what training stops at


@njit(cache=True)
def move(state, to_the_right):
    """Move cart and pole by one step: position, velocity, angle, angular velocity."""
    _, speed, angle, turning = state
    force = FORCE if to_the_right else -FORCE
    sine, cosine, mass = math.sin(angle), math.cos(angle), CART + POLE
    push = (force + POLE * HALF_LENGTH * turning**2 * sine) / mass
    angular = (GRAVITY * sine - cosine * push) / (HALF_LENGTH * (4 / 3 - POLE * cosine**2 / mass))
    linear = push - POLE * HALF_LENGTH * angular * cosine / mass
    state[0] += SECONDS * speed
    state[1] += SECONDS * linear
    state[2] += SECONDS * turning
    state[3] += SECONDS * angular


@njit(cache=True)
def episode(policy, start, path):
    """Return for how many steps a policy keeps the pole up; write the states it goes through to `path`, if it can."""
    state, logits, memory = start.copy(), np.empty(2, policy.parameters.dtype), scratch(policy)
    for step in range(MOST_STEPS):
        if step < len(path):
            path[step] = state
        predict_into(policy, state, logits, memory)
        move(state, argmax(logits) == 1)
        if abs(state[0]) > FURTHEST or abs(state[2]) > STEEPEST:
            return step + 1
    return MOST_STEPS


@njit(cache=True, parallel=True)
def mean_returns(policy, candidates, starts):
    """Return the mean number of steps over all starts, for each vector of parameters, on all threads."""
    returns, no_path = np.empty(len(candidates)), np.empty((0, 4))
    for i in prange(len(candidates)):
        candidate = Policy(policy.layers, candidates[i], policy.mean, policy.deviation)
        total = 0
        for start in starts:
            total += episode(candidate, start, no_path)
        returns[i] = total / len(starts)
    return returns


@njit(cache=True)
def random_starts(count, rng):
    """Return states in which episodes start."""
    return rng.uniform(-0.05, 0.05, (count, 4))


@njit(cache=True)
def centered_ranks(values):
    """Return numbers from −½ to ½ in the order of the values, so that a lucky episode does not outweigh all others."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values)] = np.arange(len(values)) / (len(values) - 1) - 0.5
    return ranks


@njit(cache=True)
def train(policy, generations, pairs, episodes, deviation, rate, rng):
    """Improve the policy's parameters in place until the pole stays up; return each generation's mean return."""
    parameters, history = policy.parameters, np.empty(generations)
    noise = np.empty((pairs, parameters.size), parameters.dtype)
    candidates = np.empty((2 * pairs + 1, parameters.size), parameters.dtype)
    for generation in range(generations):
        for i in range(pairs):
            for p in range(parameters.size):
                noise[i, p] = rng.normal(0, deviation)
            candidates[2 * i], candidates[2 * i + 1] = parameters + noise[i], parameters - noise[i]
        candidates[-1] = parameters
        returns = mean_returns(policy, candidates, random_starts(episodes, rng))
        history[generation] = returns[-1]
        if returns[-1] == MOST_STEPS and mean_returns(policy, candidates[-1:], random_starts(100, rng))[0] > ENOUGH:
            return history[: generation + 1]
        ranks = centered_ranks(returns[:-1])
        for i in range(pairs):
            parameters += (rate * (ranks[2 * i] - ranks[2 * i + 1]) / (pairs * deviation**2)) * noise[i]
    return history


def draw(history, path, file):
    """Draw how training went, and one episode after it."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(np.arange(1, len(history) + 1), history, marker="o", markersize=3)
    left.axhline(SOLVED, color="gray", linestyle="--", linewidth=1, label=f"solved: {SOLVED}")
    left.set(xlabel="generation", ylabel="mean steps", title="Training", ylim=(0, MOST_STEPS * 1.05))
    left.legend(loc="lower right")
    seconds = SECONDS * np.arange(len(path))
    for axes, label, values, color in (
        (right, "position of the cart in m", path[:, 0], "C0"),
        (right.twinx(), "angle of the pole in degrees", np.degrees(path[:, 2]), "C1"),
    ):
        axes.plot(seconds, values, color=color)
        axes.set_ylabel(label, color=color)
        axes.tick_params(axis="y", colors=color)
    right.set(xlabel="seconds", title="One episode after it")
    figure.savefig(file, dpi=120)


def main(arguments=None):
    """Train, test and draw; return the mean number of steps over 100 episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=100, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="cartpole.png", help="the picture")
    options = parser.parse_args(arguments)

    started = time.perf_counter()
    policy = nbfc.MLP([4, 16, 2], activation="tanh", seed=options.seed).freeze()
    history = train(policy, options.generations, 32, 4, 0.5, 0.3, np.random.default_rng(options.seed))
    print(f"{len(history)} generations in {time.perf_counter() - started:.1f} s, compiling and loading included")

    rng = np.random.default_rng(options.seed + 1)
    result = mean_returns(policy, policy.parameters[None], random_starts(100, rng))[0]
    print(f"mean return over 100 episodes: {result:.1f}, {'solved' if result >= SOLVED else 'not solved'}")
    path = np.full((MOST_STEPS, 4), np.nan)
    episode(policy, random_starts(1, rng)[0], path)
    draw(history, path, options.out)
    print(f"picture: {options.out}")
    return result


if __name__ == "__main__":
    main()
