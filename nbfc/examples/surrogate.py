"""Replace an expensive potential by a network, and integrate the motion in it with the network's derivatives.

    python -m nbfc.examples.surrogate                train, integrate, and draw surrogate.png
    python -m nbfc.examples.surrogate --epochs 20 --out short.png

A particle moves in the plane, in the potential of a charged spiral: an integral along the curve, by 10,000 points at
each evaluation. A network learns the potential from 4000 of its values. An implicit solver then takes the particle
along: each of its steps solves an equation by Newton's method, which needs the force −∇V and the second derivatives of
V. All of it is compiled, and gets them from the network by ``nbfc.jit.vjp`` and ``nbfc.jit.hessian_vector``.
"""

import argparse
import time

import numpy as np
from matplotlib.figure import Figure
from numba import njit, prange

import nbfc
from nbfc.jit import hessian_vector, predict, vjp

POINTS, SOFTNESS, REACH = 10_000, 0.5, 1.6
STEP = 0.02
ONE = np.ones(1)


@njit(cache=True)
def potential(x):
    """Return V, its gradient and its second derivatives at x (2,), by quadrature along the spiral."""
    value, gradient, second = 0.0, np.zeros(2), np.zeros((2, 2))
    for i in range(POINTS):
        t = (i + 0.5) / POINTS
        angle = 4 * np.pi * t
        dx, dy = x[0] - t * np.cos(angle), x[1] - t * np.sin(angle)
        charge = np.sqrt(1 + (4 * np.pi * t) ** 2) / POINTS  # of a piece of the curve, by its length
        square = dx * dx + dy * dy + SOFTNESS**2
        root = np.sqrt(square)
        value -= charge / root
        pull, turn = charge / (square * root), 3 * charge / (square * square * root)
        gradient[0] += pull * dx
        gradient[1] += pull * dy
        second[0, 0] += pull - turn * dx * dx
        second[1, 1] += pull - turn * dy * dy
        second[0, 1] -= turn * dx * dy
    second[1, 0] = second[0, 1]
    return value, gradient, second


@njit(cache=True, parallel=True)
def sampled(X):
    """Return V at each row of X (N, 2)."""
    V = np.empty(len(X))
    for i in prange(len(X)):
        V[i] = potential(X[i])[0]
    return V


@njit(cache=True)
def learned(policy, units, x):
    """Return the same from the network, which gives V less the first of the units, in the second."""
    shift, scale = units
    y, gradient = vjp(policy, x, ONE)
    second = np.empty((2, 2))
    for k in range(2):
        direction = np.zeros(2)
        direction[k] = 1.0
        second[k] = hessian_vector(policy, x, ONE, direction)
    return shift + scale * y[0], scale * gradient, scale * second


@njit(cache=True)
def trajectory(policy, units, exact, x, v, steps):
    """Return the positions at each of so many steps by the implicit midpoint rule, and the energies.

    The rule is x' = x + h v + h²/2 · a((x + x') / 2), with a = −∇V, and v' = 2 (x' − x) / h − v.
    """
    path, energy, h = np.empty((steps + 1, 2)), np.empty(steps + 1), STEP
    for step in range(steps + 1):
        value = potential(x)[0] if exact else units[0] + units[1] * predict(policy, x)[0]
        path[step], energy[step] = x, value + 0.5 * (v[0] ** 2 + v[1] ** 2)
        new = x + h * v
        for _ in range(20):
            middle = 0.5 * (x + new)
            _, gradient, second = potential(middle) if exact else learned(policy, units, middle)
            residual = new - x - h * v + 0.5 * h * h * gradient
            a, b = 1 + 0.25 * h * h * second[0, 0], 0.25 * h * h * second[0, 1]
            c, d = 0.25 * h * h * second[1, 0], 1 + 0.25 * h * h * second[1, 1]
            change = np.array([d * residual[0] - b * residual[1], a * residual[1] - c * residual[0]]) / (a * d - b * c)
            new = new - change
            if np.abs(change).max() < 1e-12:
                break
        x, v = new, 2 * (new - x) / h - v
    return path, energy


def fitted(epochs, seed):
    """Return the network, frozen, and the mean and the deviation of V that it was fitted to."""
    X = np.random.default_rng(seed).uniform(-REACH, REACH, (4000, 2))
    V = sampled(X)
    units = V.mean(), V.std()
    net = nbfc.MLP([2, 64, 64, 1], activation="tanh", dtype="float64", seed=seed)
    y = (V - units[0]) / units[1]
    for rate in (3e-3, 1e-3, 1e-4):
        history = nbfc.fit(net, X, y, loss="mse", optimizer=nbfc.Adam(rate), epochs=epochs, batch_size=100, seed=seed)
    print(f"error of the potential: {units[1] * np.sqrt(history[-1].loss):.1e}, where its deviation is {units[1]:.1e}")
    return net.freeze(), units


def draw(paths, energies, file):
    """Draw both trajectories, and how well each keeps its energy."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    t = np.linspace(0, 1, POINTS)
    left.plot(
        t * np.cos(4 * np.pi * t), t * np.sin(4 * np.pi * t), color="gray", linewidth=3, alpha=0.4, label="charge"
    )
    for (name, path), energy in zip(paths.items(), energies, strict=True):
        line = left.plot(*path.T, linewidth=1, linestyle="-" if name == "quadrature" else "--", label=name)[0]
        right.plot(STEP * np.arange(len(energy)), energy - energy[0], color=line.get_color(), label=name)
    left.set(xlabel="x", ylabel="y", aspect="equal")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    right.set(xlabel="time", ylabel="E(t) − E(0)", title="Change of the energy")
    right.legend()
    figure.savefig(file, dpi=120)


def main(arguments=None):
    """Fit, integrate and draw; return the largest distance between the two trajectories."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200, help="at each of three learning rates")
    parser.add_argument("--steps", type=int, default=1000, help="of the integration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="surrogate.png", help="the picture")
    options = parser.parse_args(arguments)

    policy, units = fitted(options.epochs, options.seed)
    x, v = np.array([1.2, 0.0]), np.array([0.0, 1.3])
    paths, energies, seconds = {}, [], []
    for name, exact in (("quadrature", True), ("network", False)):
        trajectory(policy, units, exact, x, v, 1)  # compiles
        started = time.perf_counter()
        paths[name], energy = trajectory(policy, units, exact, x, v, options.steps)
        seconds.append(time.perf_counter() - started)
        energies.append(energy)
        print(f"{name:10} {1e3 * seconds[-1]:8.1f} ms, energy within {np.ptp(energy):.1e}")
    distance = np.linalg.norm(paths["network"] - paths["quadrature"], axis=1)
    print(f"{seconds[0] / seconds[1]:.0f} times faster; at most {distance.max():.1e} apart in {options.steps} steps")
    draw(paths, energies, options.out)
    print(f"picture: {options.out}")
    return distance.max()


if __name__ == "__main__":
    main()
