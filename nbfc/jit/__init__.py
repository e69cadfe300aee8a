"""Networks inside other people's compiled code, at the latency of a function call.

``net.freeze()`` gives a policy, which ``@njit`` functions take as an argument::

    @njit(cache=True)
    def control(policy, state):
        action, scratch = np.empty(4, policy.parameters.dtype), nbfc.jit.scratch(policy)
        for _ in range(1000):
            nbfc.jit.predict_into(policy, state, action, scratch)
            ...

All networks of a dtype are policies of one type, ``numba.typeof(policy)``, so that another architecture compiles
nothing anew. Pass them as arguments: what a global held when a function was compiled, Numba compiles in, and keeps on
disk with ``cache=True``. (``@guvectorize`` and ``@vectorize`` take no tuples.) ``trainer.freeze()`` gives a
state, with which compiled code can train.

The functions here work in compiled code, in loops over threads too, and from Python. They compute in the network's
dtype, on the caller's thread alone. Values are those of ``net.predict`` to the bit, and steps are those of
``Trainer.step``. Samples x are float32 or float64 arrays of any layout: one sample (n_in,), or one a row (N, n_in).

Wrong types are refused where a function is compiled, by Numba's ``TypingError``; wrong shapes where it is called, by a
``ValueError``, before anything is written. Compiled code can catch it as ``Exception`` only, and Numba does not free
what functions hold that an error passes through. In a ``prange`` loop Numba turns errors into others or loses them, and
rows stay unwritten: look at shapes before such a loop, and make a scratch for each thread in its body. The policy there
is an argument of the function (of a state pass ``state.policy``), or made in the body, as Numba hands no other tuples
on to threads::

        for i in prange(len(X)):
            scratch = nbfc.jit.scratch(policy)
            nbfc.jit.predict_into(policy, X[i], Y[i], scratch)
"""

from nbfc.jit._derivatives import hessian_vector, jacobian, jvp, vjp
from nbfc.jit._logits import argmax, sample, softmax
from nbfc.jit._predict import predict, predict_into, scratch
from nbfc.jit._training import loss_gradient, train_step
from nbfc.kernels.frozen import Policy
from nbfc.kernels.frozen_training import State
from nbfc.kernels.updates import LEARNING_RATE

Policy.__module__ = State.__module__ = __name__  # what users' compiled functions know them by

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
