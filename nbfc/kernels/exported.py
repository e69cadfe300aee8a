"""Kernels that users' own compiled code calls.

It calls them by address (see ``_jit``), so that a user's function holds a few instructions and not a copy of the
kernel. A kernel returns a number, or minus that of a fault in its arguments; it has changed nothing then.
"""

from typing import Any

from nbfc.errors import DivergenceError
from nbfc.kernels.vectors import INT

FAULTS = (
    "nbfc.jit: x has another number of columns than the network has inputs",
    "nbfc.jit: an array for a result has another shape than the result",
    "nbfc.jit: scratch is too small: expected what nbfc.jit.scratch(policy) returns for as many rows",
    "nbfc.jit: the policy's arrays do not belong together: parameters, mean and deviation have to fit its layers",
    "nbfc.jit: v, w or t has another shape than it stands for: inputs (n_in,), outputs or targets (n_out,), in rows",
    "nbfc.jit: x has no rows: expected at least one sample, as the mean over the batch needs",
    "nbfc.jit: a label lies outside 0 ... n_out - 1, or a target outside what the loss takes",
    "nbfc.jit: the loss or a parameter would become NaN or infinite, so the step was not taken and the parameters are "
    "as they were. A smaller learning rate, or standardised inputs and targets, may help",
)
INPUTS_FAULT, RESULT_FAULT, SCRATCH_FAULT, POLICY_FAULT, VECTOR_FAULT, EMPTY_FAULT, TARGET_FAULT, DIVERGED = range(1, 9)


class exported:  # noqa: N801  (a decorator)
    """Let users' compiled code call a kernel, made by ``kernel(once=...)``."""

    def __init__(self, by_address: Any) -> None:
        self._kernel = by_address.kernel

    def load(self, real: Any) -> None:
        """Compile the kernel for float32 or float64, or load it from the disk."""
        self._kernel.compiled(real)

    def write_call(self, context: Any, builder: Any, real: Any, values: list[Any]) -> Any:
        """Write a call, which raises for what the kernel finds wrong."""
        result = self._kernel.write_call(context, builder, real, values)
        with builder.if_then(builder.icmp_signed("<", result, INT(0)), likely=False):
            for number, message in enumerate(FAULTS, 1):
                with builder.if_then(builder.icmp_signed("==", result, INT(-number))):
                    error = DivergenceError if number == DIVERGED else ValueError
                    context.call_conv.return_user_exc(builder, error, (message,))
        return result
