"""Steps against PyTorch's: the same weights, data, losses and optimizers. Skipped where PyTorch is not installed."""

import numpy as np
import pytest
import samples

import nbfc

torch = pytest.importorskip("torch")

ACTIVATIONS = {
    "identity": torch.nn.Identity,
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
}
LOSSES = {
    "mse": torch.nn.MSELoss,
    "cross_entropy": torch.nn.CrossEntropyLoss,
    "binary_cross_entropy": torch.nn.BCEWithLogitsLoss,
}
FURTHER_LOSSES = {
    "mae": torch.nn.L1Loss(),
    "huber": torch.nn.HuberLoss(),
    "poisson": lambda y, t: torch.mean(torch.exp(y) - t * y + torch.special.xlogy(t, t) - t),
    "gaussian_nll": lambda y, t: torch.nn.functional.gaussian_nll_loss(y[:, :2], t, y[:, 2:].exp(), eps=0),
}
OPTIMIZERS = [
    (nbfc.SGD(0.05), lambda p: torch.optim.SGD(p, 0.05)),
    (nbfc.SGD(0.05, momentum=0.9, nesterov=True), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True)),
    (nbfc.Adam(0.001), lambda p: torch.optim.Adam(p, 0.001)),
    (nbfc.AdamW(0.001, weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.001, weight_decay=0.1)),
]


def twin(net):
    """Return the same network in PyTorch, whose weights are the transpose of ours."""
    modules = []
    for W, b, activation in zip(net.weights, net.biases, net.activations, strict=True):
        linear = torch.nn.Linear(*W.shape, dtype=getattr(torch, net.dtype.name))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T.copy()))
            linear.bias.copy_(torch.from_numpy(b.copy()))
        modules += [linear, ACTIVATIONS[activation]()]
    return torch.nn.Sequential(*modules)


def parameters(model):
    parts = [p.detach().numpy().T.ravel() for p in model.parameters()]
    return np.concatenate(parts)


FURTHER_OPTIMIZERS = [
    (nbfc.RMSprop(0.001), lambda p: torch.optim.RMSprop(p, 0.001, alpha=0.9)),
    (nbfc.RMSprop(0.001, momentum=0.5), lambda p: torch.optim.RMSprop(p, 0.001, alpha=0.9, momentum=0.5)),
    (nbfc.Adagrad(0.01), lambda p: torch.optim.Adagrad(p, 0.01)),
]


@pytest.mark.parametrize("case", samples.LOSSES)
@pytest.mark.parametrize(("optimizer", "make"), OPTIMIZERS, ids=[str(ours) for ours, _ in OPTIMIZERS])
def test_twenty_steps_are_pytorchs(case, optimizer, make, dtype, rng):
    compare(case, LOSSES[case.split()[0]](), 5, optimizer, make, dtype, rng)


@pytest.mark.parametrize("case", FURTHER_LOSSES)
def test_twenty_steps_are_pytorchs_for_further_losses(case, dtype, rng):
    compare(case, FURTHER_LOSSES[case], 4, *OPTIMIZERS[1], dtype, rng)


@pytest.mark.parametrize(("optimizer", "make"), FURTHER_OPTIMIZERS, ids=[str(ours) for ours, _ in FURTHER_OPTIMIZERS])
def test_twenty_steps_are_pytorchs_for_further_optimizers(optimizer, make, dtype, rng):
    compare("mse", LOSSES["mse"](), 5, optimizer, make, dtype, rng)


def compare(case, criterion, n, optimizer, make, dtype, rng):
    net = nbfc.MLP([13, 37, 21, n], ["relu", "tanh"], dtype=dtype, seed=0)
    model = twin(net)
    theirs = make(model.parameters())
    loss, _ = samples.targets(case, 1, n, rng)
    trainer = nbfc.Trainer(net, loss, optimizer)
    eps = float(np.finfo(dtype).eps)
    for _ in range(20):
        X = rng.standard_normal((41, 13)).astype(dtype)
        _, y = samples.targets(case, 41, n, rng)
        y = y.astype(dtype) if y.ndim == 2 else y
        theirs.zero_grad()
        expected = criterion(model(torch.from_numpy(X)), torch.from_numpy(y))
        expected.backward()
        theirs.step()
        assert trainer.step(X, y) == pytest.approx(expected.item(), rel=200 * eps)
    # Rounding of a gradient grows through Adam's division by √v where that is small: at most one step's length.
    difference = np.linalg.norm(net.parameters - parameters(model)) / np.linalg.norm(net.parameters)
    assert difference < 20 * 41 * eps
