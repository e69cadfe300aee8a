"""Kernels that users' own compiled code calls.

It calls them by address (see ``_addresses``), so that a user's function holds a few instructions and not a copy of the
kernel. A kernel returns a number, or minus that of a fault in its arguments. It has changed nothing then, but for what
a step that diverged had updated before.
"""

from typing import Any

from nbfc.errors import DivergenceError
from nbfc.kernels.vectors import INT

FAULTS: list[str] = []


def _fault(message: str) -> int:
    """Return the number of a new fault, from 1."""
    FAULTS.append(f"nbfc.jit: {message}")
    return len(FAULTS)


X_COLUMNS = _fault("x has another length than the network has inputs: expected (n_in,), or rows (N, n_in)")
Y_SHAPE = _fault("y has another shape than the outputs: expected (n_out,), or (N, n_out) for x (N, n_in)")
Y_PLACE = _fault(
    "y shares memory with x: expected an array of its own, or one that starts where x starts, where the network has no "
    "more outputs than inputs"
)
NO_ROWS = _fault("rows is below 1: expected the number of samples at a time")
SCRATCH_SIZE = _fault("scratch is too small: expected what nbfc.jit.scratch(policy) returns")
POLICY_FAULT = _fault(
    "the policy's arrays do not belong together: expected the layers that net.freeze() returns, or the first of them, "
    "and parameters, mean and deviation of the lengths that these say"
)
STATE_FAULT = _fault("the state's arrays do not belong together: expected what trainer.freeze() returns")
RATE_FAULT = _fault("the learning rate in the state's rule is negative or NaN")
V_OUTPUTS = _fault("v has another shape than the outputs: expected (n_out,), or (N, n_out) for x (N, n_in)")
V_INPUTS = _fault("v has another shape than x: expected a direction for each sample")
W_OUTPUTS = _fault("w has another shape than the outputs: expected (n_out,), or (N, n_out) for x (N, n_in)")
NO_SECOND = _fault(
    "hessian_vector came for an activation whose second derivative is not known: expected identity, relu, tanh or "
    "sigmoid, and no normalisation or softmax"
)
NO_SAMPLES = _fault("there are no samples: expected at least one, as the mean over the batch needs")
TARGET_SHAPE = _fault(
    "targets have another shape than the outputs (labels, which are integers, are one for each sample)"
)
NOT_FOR_LABELS = _fault(
    "integer targets are labels, which only cross_entropy takes: expected floats, such as t.astype(np.float64)"
)
LABEL_RANGE = _fault("a label lies outside 0 ... n_out - 1, where n_out is the number of the network's outputs")
TARGET_RANGE = _fault("a target lies outside 0 ... 1, or a row of probabilities does not sum to 1")
WEIGHTS_SHAPE = _fault("sample_weight has another length than there are samples: expected one weight for each")
WEIGHTS_RANGE = _fault("a sample's weight is negative, NaN or infinite: expected finite ones from 0")
DIVERGED = _fault(
    "the loss or a parameter would become NaN or infinite, so the step was not taken and the parameters are as they"
    " were. A smaller learning rate, or standardised inputs and targets, may help; at a first step, look for NaN "
    "and infinity in X and y"
)


class exported:  # noqa: N801  (a decorator)
    """Let users' compiled code call a kernel, made by ``kernel(once=...)``."""

    def __init__(self, by_address: Any) -> None:
        self._kernel = by_address.kernel

    def load(self, real: Any) -> None:
        """Compile the kernel for float32 or float64, or load it from the disk."""
        self._kernel.compile(real)

    def write_call(self, context: Any, builder: Any, real: Any, values: list[Any]) -> Any:
        """Write a call, which raises for what the kernel finds wrong."""
        result = self._kernel.write_call(context, builder, real, values)
        with builder.if_then(builder.icmp_signed("<", result, INT(0)), likely=False):
            unknown = builder.append_basic_block("unknown")
            which = builder.switch(result, unknown)
            for number, message in enumerate(FAULTS, 1):
                block = builder.append_basic_block(f"fault{number}")
                which.add_case(INT(-number), block)
                error = DivergenceError if number == DIVERGED else ValueError
                with builder.goto_block(block):
                    context.call_conv.return_user_exc(builder, error, (message,))
            builder.position_at_end(unknown)
            context.call_conv.return_user_exc(builder, SystemError, ("nbfc.jit: unknown fault",))
        return result
