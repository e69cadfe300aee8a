"""The notes as plain loops over float64 numbers: the oracle. It imports nothing from nbfc."""

from itertools import pairwise
from math import copysign, exp, log, sqrt, tanh

import numpy as np

# ---- activations and their derivatives, of the argument z -----------------------------------------------------------


def sigmoid(z):
    return 1 / (1 + exp(-z)) if z >= 0 else exp(z) / (1 + exp(z))


ACTIVATIONS = {
    "identity": (lambda z: z, lambda z: 1.0),
    "relu": (lambda z: z if z >= 0 else 0.0, lambda z: 1.0 if z > 0 else 0.0),
    "tanh": (tanh, lambda z: 1 - tanh(z) ** 2),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
}

# ---- the four equations ---------------------------------------------------------------------------------------------


def forward(X, W, b, activation="identity"):
    """y_i = Σ_j w_ij x_j + b_i, then the activation."""
    N, m, n = len(X), len(W), len(b)
    f = ACTIVATIONS[activation][0]
    Y = np.zeros((N, n))
    for i in range(N):
        for j in range(n):
            Y[i, j] = f(sum(float(X[i, k]) * float(W[k, j]) for k in range(m)) + float(b[j]))
    return Y


def bias_gradient(dY):
    """① ∂J/∂B = Σ_i (1/N) (∂J/∂y⁽ⁱ⁾)ᵀ."""
    N, n = dY.shape
    return np.array([sum(float(dY[i, j]) for i in range(N)) / N for j in range(n)])


def weight_gradient(X, dY):
    """② the mean over samples of the outer product of x⁽ⁱ⁾ and ∂J⁽ⁱ⁾/∂y⁽ⁱ⁾."""
    N, m, n = len(X), X.shape[1], dY.shape[1]
    dW = np.zeros((m, n))
    for k in range(m):
        for j in range(n):
            dW[k, j] = sum(float(X[i, k]) * float(dY[i, j]) for i in range(N)) / N
    return dW


def input_gradient(dY, W):
    """③ ∂J/∂x = w × ∂J/∂y, for every sample."""
    N, m, n = len(dY), len(W), W.shape[1]
    dX = np.zeros((N, m))
    for i in range(N):
        for k in range(m):
            dX[i, k] = sum(float(W[k, j]) * float(dY[i, j]) for j in range(n))
    return dX


# ---- losses: one number per sample ----------------------------------------------------------------------------------


def mse(y, t):
    return sum((a - b) ** 2 for a, b in zip(y, t, strict=True)) / len(y)


def log_softmax(y):
    highest = max(y)
    log_sum = log(sum(exp(a - highest) for a in y))
    return [(a - highest) - log_sum for a in y]


def cross_entropy(y, t):
    """Of logits y, and t a label or a row of probabilities."""
    if np.ndim(t) == 0:
        return -log_softmax(y)[t]
    return -sum(b * a for a, b in zip(log_softmax(y), t, strict=True))


def log_sigmoid(a):
    return -log(1 + exp(-a)) if a >= 0 else a - log(1 + exp(a))


def binary_cross_entropy(y, t):
    """Of logits y; log(1 − σ(y)) is log σ(−y)."""
    return -sum(b * log_sigmoid(a) + (1 - b) * log_sigmoid(-a) for a, b in zip(y, t, strict=True)) / len(y)


def mae(y, t):
    return sum(abs(a - b) for a, b in zip(y, t, strict=True)) / len(y)


def huber(y, t, delta=1.0):
    errors = [abs(a - b) for a, b in zip(y, t, strict=True)]
    return sum(e**2 / 2 if e < delta else delta * e - delta**2 / 2 for e in errors) / len(y)


def quantile(y, t, q=0.5):
    return sum((b - a) * (q if b > a else q - 1) for a, b in zip(y, t, strict=True)) / len(y)


def poisson(y, t):
    """Half the deviance of counts t from rates exp(y)."""
    return sum(exp(a) - b - (b * (a - log(b)) if b > 0 else 0) for a, b in zip(y, t, strict=True)) / len(y)


def gaussian_nll(y, t):
    """−log of the density of t under means and log variances y, but for log(2π) / 2."""
    n = len(t)
    log_density = [-((b - y[j]) ** 2) / (2 * exp(y[n + j])) - log(sqrt(exp(y[n + j]))) for j, b in enumerate(t)]
    return -sum(log_density) / n


LOSSES = {
    "mse": mse,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "mae": mae,
    "huber": huber,
    "quantile": quantile,
    "poisson": poisson,
    "gaussian_nll": gaussian_nll,
}


def losses(name, Y, T, *number):
    return np.array([LOSSES[name]([float(a) for a in y], t, *number) for y, t in zip(Y, T, strict=True)])


# ---- a whole network ------------------------------------------------------------------------------------------------


def unpack(parameters, widths):
    """Return each layer's W and b from the flat vector: layer by layer W, row by row, then b."""
    layers, at = [], 0
    for m, n in pairwise(widths):
        layers.append((np.reshape(parameters[at : at + m * n], (m, n)), parameters[at + m * n : at + m * n + n]))
        at += m * n + n
    assert at == len(parameters)
    return layers


def predict(parameters, widths, activations, X):
    for (W, b), activation in zip(unpack(parameters, widths), activations, strict=True):
        X = forward(X, W, b, activation)
    return X


def mean_loss(parameters, widths, activations, X, T, loss):
    return losses(loss, predict(parameters, widths, activations, X), T).mean()


# ---- optimizers: one step on a vector -------------------------------------------------------------------------------


def sgd(theta, g, m, learning_rate, momentum=0.0, nesterov=False):
    for p in range(len(theta)):
        m[p] = momentum * m[p] + g[p]
        theta[p] -= learning_rate * (g[p] + momentum * m[p] if nesterov else m[p])


def nadam(theta, g, m, v, t, learning_rate, beta1, beta2, epsilon):
    for p in range(len(theta)):
        m[p] = beta1 * m[p] + (1 - beta1) * g[p]
        v[p] = beta2 * v[p] + (1 - beta2) * g[p] ** 2
        m_hat = beta1 * m[p] / (1 - beta1 ** (t + 1)) + (1 - beta1) * g[p] / (1 - beta1**t)
        theta[p] -= learning_rate * m_hat / (sqrt(v[p] / (1 - beta2**t)) + epsilon)


def lion(theta, g, m, learning_rate, beta1, beta2, weight_decay):
    for p in range(len(theta)):
        direction = beta1 * m[p] + (1 - beta1) * g[p]
        theta[p] -= learning_rate * (copysign(1, direction) + weight_decay * theta[p])
        m[p] = beta2 * m[p] + (1 - beta2) * g[p]


def adam(theta, g, m, v, t, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0):
    for p in range(len(theta)):
        theta[p] -= learning_rate * weight_decay * theta[p]
        m[p] = beta1 * m[p] + (1 - beta1) * g[p]
        v[p] = beta2 * v[p] + (1 - beta2) * g[p] ** 2
        m_hat, v_hat = m[p] / (1 - beta1**t), v[p] / (1 - beta2**t)
        theta[p] -= learning_rate * m_hat / (sqrt(v_hat) + epsilon)
