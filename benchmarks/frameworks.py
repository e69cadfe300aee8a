"""Each library's best fair form of a workload.

``FRAMEWORKS`` maps a name to a function from a `Workload` to (run, check): ``run(count)`` takes so many steps (or
predictions) and returns when they are done, ``check()`` gives a number that all libraries must agree on: the first
step's loss, or the mean of the squared outputs. Outputs of several rows go where those before them were, in libraries
that offer it: fresh memory takes a tenth of the time where it is large. A function raises ImportError where its library
is not installed, and NotImplementedError for what the library does not do.
"""

import os
import warnings

import numpy as np
from by_numpy import EPSILON, MOMENTS, RATE, by_numpy
from estimators import epochs


def of_nbfc(work):
    import nbfc

    if work.estimator:
        import nbfc.estimators

        return epochs(nbfc.estimators, work.estimator, work.dtype)
    X, y, parameters = work.data()
    net = nbfc.MLP(work.widths, activation=work.activation, dtype=work.dtype)
    for layer, (W, b) in enumerate(parameters):
        net.weights[layer], net.biases[layer] = W, b
    if work.inside:
        from in_numba import call_by_nbfc

        return inside(*call_by_nbfc(work, net))
    if not work.optimizer:
        out = np.empty((work.batch, work.widths[-1]), work.dtype) if work.batch > 1 else None

        def predict():
            return net.predict(X, out)

        return repeat(predict), lambda: mean_square(predict())
    trainer = nbfc.Trainer(net, work.loss, {"sgd": nbfc.SGD, "adam": nbfc.Adam}[work.optimizer](RATE))
    return repeat(lambda: trainer.step(X, y)), lambda: trainer.step(X, y)


def of_numba(work):
    if not work.inside:
        raise NotImplementedError("only for what is called inside compiled code")
    from in_numba import call_by_hand

    return inside(*call_by_hand(work))


def inside(run, y):
    """Return the two functions, for a run that leaves its outputs in y."""

    def check():
        run(1)
        return mean_square(y)

    return run, check


def of_numpy(work):
    call = by_numpy(work)
    return repeat(call), call if work.optimizer else lambda: mean_square(call())


def of_torch(work, compiled=False):
    import torch
    from torch import nn

    torch.set_num_threads(threads())
    X, y, parameters = work.data()
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    modules = []
    for W, b in parameters:
        linear = nn.Linear(*W.shape, dtype=X.dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T))
            linear.bias.copy_(torch.from_numpy(b))
        modules += [linear, nn.ReLU() if work.activation == "relu" else nn.Tanh()]
    net = nn.Sequential(*modules[:-1])
    if not work.optimizer:
        net.requires_grad_(False)
        forward = torch.compile(net, mode="max-autotune-no-cudagraphs") if compiled else net

        def predict():
            with torch.inference_mode():
                return forward(X)

        return repeat(predict), lambda: mean_square(predict().numpy())
    optimizer = (
        torch.optim.SGD(net.parameters(), lr=RATE, fused=True)
        if work.optimizer == "sgd"
        else torch.optim.Adam(net.parameters(), lr=RATE, betas=MOMENTS, eps=EPSILON, fused=True)
    )
    cost = nn.MSELoss() if work.loss == "mse" else nn.CrossEntropyLoss()

    def loss_of(X, y):
        return cost(net(X), y)

    if compiled:
        loss_of = torch.compile(loss_of)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(X, y)
        loss.backward()
        optimizer.step()
        return loss

    return repeat(step), lambda: float(step().detach())


def of_torch_compile(work):
    return of_torch(work, compiled=True)


def of_jax(work):
    """Compile the whole step, with the old parameters' memory given away for the new; wait only at the end."""
    import jax
    from jax import numpy as jnp

    jax.config.update("jax_enable_x64", work.dtype == "float64")
    X, y, parameters = work.data()
    X, y, parameters = jax.device_put((X, y, parameters))
    act = jax.nn.relu if work.activation == "relu" else jnp.tanh

    def forward(parameters, X):
        for W, b in parameters[:-1]:
            X = act(X @ W + b)
        W, b = parameters[-1]
        return X @ W + b

    if not work.optimizer:
        predict = jax.jit(forward)
        return repeat(lambda: predict(parameters, X).block_until_ready()), lambda: mean_square(predict(parameters, X))

    def cost(parameters, X, y):
        Y = forward(parameters, X)
        if work.loss == "mse":
            return jnp.mean((Y - y) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(Y), y[:, None], axis=1))

    def step(state, X, y):
        parameters, first, second, t = state
        loss, slopes = jax.value_and_grad(cost)(parameters, X, y)
        tree = jax.tree.map
        if work.optimizer == "sgd":
            return (tree(lambda p, g: p - RATE * g, parameters, slopes), first, second, t), loss
        t = t + 1
        first = tree(lambda m, g: MOMENTS[0] * m + (1 - MOMENTS[0]) * g, first, slopes)
        second = tree(lambda v, g: MOMENTS[1] * v + (1 - MOMENTS[1]) * g * g, second, slopes)
        one, two = 1 - MOMENTS[0] ** t, 1 - MOMENTS[1] ** t
        new = tree(lambda p, m, v: p - RATE * (m / one) / (jnp.sqrt(v / two) + EPSILON), parameters, first, second)
        return (new, first, second, t), loss

    zeros = jax.tree.map(jnp.zeros_like, parameters) if work.optimizer == "adam" else ()
    again = jax.tree.map(jnp.zeros_like, parameters) if work.optimizer == "adam" else ()
    state = (parameters, zeros, again, jnp.zeros((), X.dtype))
    compiled = jax.jit(step, donate_argnums=0)

    def run(count):
        nonlocal state
        for _ in range(count):
            state, loss = compiled(state, X, y)
        jax.block_until_ready(state)
        return float(loss)

    return run, lambda: run(1)


def of_sklearn(work):
    """Give many epochs of one batch to one call, since a call's own checks cost far more than a small step."""
    from sklearn import neural_network
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if work.estimator:
        return epochs(neural_network, work.estimator, work.dtype)
    if len(work.widths) < 3:
        raise NotImplementedError("no network without a hidden layer")
    X, y, parameters = work.data()
    if work.loss == "mse" and y.shape[1] == 1:
        y = y[:, 0]
    classify = work.loss == "cross_entropy" and work.optimizer
    if classify and len(np.unique(y)) < max(3, work.widths[-1]):
        raise NotImplementedError("its outputs are as many as classes in the batch, and one for two")
    if work.loss == "cross_entropy" and not classify:
        y = np.eye(work.widths[-1], dtype=X.dtype)[y]  # a classifier would predict labels, not outputs
    net = (MLPClassifier if classify else MLPRegressor)(
        hidden_layer_sizes=work.widths[1:-1],
        activation=work.activation,
        solver=work.optimizer or "sgd",
        alpha=0,
        batch_size=work.batch,
        learning_rate_init=RATE,
        momentum=0,
        nesterovs_momentum=False,
        shuffle=False,
        tol=0,
        n_iter_no_change=10**9,
        warm_start=True,
        random_state=0,
    )

    def run(count):
        net.set_params(max_iter=count)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(X, y)
        return net.loss_curve_[-1]

    run(1)
    net.coefs_, net.intercepts_ = [W for W, _ in parameters], [b for _, b in parameters]
    if not work.optimizer:
        return repeat(lambda: net.predict(X)), lambda: mean_square(net.predict(X))
    return run, lambda: run(1) * (2 if work.loss == "mse" else 1)  # its squared error is a half


def of_onnxruntime(work):
    import onnxruntime

    if work.optimizer:
        raise NotImplementedError("prediction only")
    X, model = work.data()[0], onnx_model(work)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predict():
        return session.run(None, {"X": X})[0]

    if work.batch == 1:
        return repeat(predict), lambda: mean_square(predict())
    Y, binding = np.empty((work.batch, work.widths[-1]), work.dtype), session.io_binding()
    binding.bind_cpu_input("X", X)
    binding.bind_output("Y", "cpu", 0, Y.dtype, Y.shape, Y.ctypes.data)

    def predict_many():
        session.run_with_iobinding(binding)
        return X, Y  # kept, as the binding has their addresses alone

    return repeat(predict_many), lambda: mean_square(predict_many()[1])


def of_openvino(work):
    import openvino

    if work.optimizer:
        raise NotImplementedError("prediction only")
    X, model = work.data()[0], onnx_model(work)
    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads()}
    if work.dtype == "float32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    else:
        raise NotImplementedError("it computes in float32")
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()

    def predict():
        return request.infer([X], share_inputs=True, share_outputs=True)[0]

    return repeat(predict), lambda: mean_square(predict())


def onnx_model(work):
    from onnx import TensorProto, helper, numpy_helper

    parameters = work.data()[2]
    kind = TensorProto.FLOAT if work.dtype == "float32" else TensorProto.DOUBLE
    nodes, constants, source = [], [], "X"
    for layer, (W, b) in enumerate(parameters):
        constants += [numpy_helper.from_array(W, f"W{layer}"), numpy_helper.from_array(b, f"b{layer}")]
        last = layer == len(parameters) - 1
        target = "Y" if last else f"Z{layer}"
        nodes.append(helper.make_node("Gemm", [source, f"W{layer}", f"b{layer}"], [target]))
        if not last:
            source = f"Y{layer}"
            nodes.append(helper.make_node({"relu": "Relu", "tanh": "Tanh"}[work.activation], [target], [source]))
    ends = [
        helper.make_tensor_value_info(name, kind, [work.batch, n])
        for name, n in (("X", work.widths[0]), ("Y", work.widths[-1]))
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def repeat(call):
    def run(count):
        for _ in range(count):
            call()

    return run


def mean_square(Y):
    return float(np.mean(np.square(np.asarray(Y, np.float64))))


def threads():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


FRAMEWORKS = {
    "nbfc": of_nbfc,
    "PyTorch": of_torch,
    "torch.compile": of_torch_compile,
    "JAX": of_jax,
    "scikit-learn": of_sklearn,
    "NumPy": of_numpy,
    "ONNX Runtime": of_onnxruntime,
    "OpenVINO": of_openvino,
    "Numba": of_numba,
}
