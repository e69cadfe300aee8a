"""Networks inside other people's compiled code, at the latency of a function call.

``net.freeze()`` gives a policy, which ``@njit`` functions take as an argument::

    @njit(cache=True)
    def control(policy, state):
        action, scratch = np.empty(4, np.float32), nbfc.jit.scratch(policy)
        for _ in range(1000):
            nbfc.jit.predict_into(policy, state, action, scratch)
            ...

Every network is a policy of one type, so that another architecture compiles nothing anew. ``trainer.freeze()`` gives a
state, with which compiled code can also train.

The functions here work in compiled code, in loops over threads too, and from Python. They compute in the network's
dtype, on the caller's thread alone. Values are those of ``net.predict`` to the bit, and steps are those of
``Trainer.step``. Samples x are float32 or float64 arrays of any layout: one sample (n_in,), or one a row (N, n_in).
"""

from nbfc.jit._derivatives import hessian_vector, jacobian, jvp, vjp
from nbfc.jit._logits import argmax, sample, softmax
from nbfc.jit._predict import predict, predict_into, scratch
from nbfc.jit._training import loss_gradient, train_step
from nbfc.kernels.frozen import Policy
from nbfc.kernels.frozen_training import State
from nbfc.kernels.updates import LEARNING_RATE

__all__ = [
    "LEARNING_RATE",
    "Policy",
    "State",
    "argmax",
    "hessian_vector",
    "jacobian",
    "jvp",
    "loss_gradient",
    "predict",
    "predict_into",
    "sample",
    "scratch",
    "softmax",
    "train_step",
    "vjp",
]
