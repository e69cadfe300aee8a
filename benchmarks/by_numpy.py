"""A training step and a prediction in NumPy, as a careful user would write them: the products go to its BLAS."""

import numpy as np

RATE, MOMENTS, EPSILON = 1e-4, (0.9, 0.999), 1e-8  # small, so that parameters stay where they are for many steps


def by_numpy(work):
    """Return a function that takes a step and returns the loss, or one that predicts; it reuses its memory."""
    X, y, parameters = work.data()
    act = (lambda Y: np.maximum(Y, 0, out=Y)) if work.activation == "relu" else (lambda Y: np.tanh(Y, out=Y))
    outputs = [np.empty((work.batch, n), work.dtype) for n in work.widths[1:]]
    last = len(parameters) - 1

    def forward():
        source = X
        for layer, ((W, b), Y) in enumerate(zip(parameters, outputs, strict=True)):
            np.matmul(source, W, out=Y)
            Y += b
            source = act(Y) if layer < last else Y
        return source

    if not work.optimizer:
        return forward
    gradients = [(np.empty_like(W), np.empty_like(b)) for W, b in parameters]
    moments = [[np.zeros_like(p) for p in pair for _ in range(2)] for pair in parameters]
    step_number = 0

    def step():
        nonlocal step_number
        step_number += 1
        Y = forward()
        if work.loss == "mse":
            dY = Y - y
            loss = float(np.mean(dY * dY))
            dY *= 2 / (Y.size)
        else:
            Y -= Y.max(axis=1, keepdims=True)
            dY = np.exp(Y)
            sums = dY.sum(axis=1, keepdims=True)
            rows = np.arange(work.batch)
            loss = float(np.mean(np.log(sums[:, 0]) - Y[rows, y]))
            dY /= sums
            dY[rows, y] -= 1
            dY /= work.batch
        for layer in range(last, -1, -1):
            source = outputs[layer - 1] if layer else X
            np.matmul(source.T, dY, out=gradients[layer][0])
            np.sum(dY, axis=0, out=gradients[layer][1])
            if layer:
                dY = dY @ parameters[layer][0].T
                dY *= (source > 0) if work.activation == "relu" else (1 - source * source)
        for pair, slopes, kept in zip(parameters, gradients, moments, strict=True):
            for p, g, m, v in zip(pair, slopes, kept[::2], kept[1::2], strict=True):
                if work.optimizer == "sgd":
                    p -= RATE * g
                else:
                    m *= MOMENTS[0]
                    m += (1 - MOMENTS[0]) * g
                    v *= MOMENTS[1]
                    v += (1 - MOMENTS[1]) * g * g
                    rate = RATE * (1 - MOMENTS[1] ** step_number) ** 0.5 / (1 - MOMENTS[0] ** step_number)
                    p -= rate * m / (np.sqrt(v) + EPSILON)
        return loss

    return step
