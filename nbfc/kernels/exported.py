"""Kernels that users' own compiled code calls.

It calls them by address (see ``_addresses``), so that a user's function holds a few instructions and not a copy of the
kernel. A kernel returns a number, or minus that of a fault in its arguments. It has changed nothing then, but for what
a step that diverged had updated before.
"""

from typing import Any

from nbfc.errors import DivergenceError
from nbfc.kernels.vectors import INT

FAULTS = (
    "nbfc.jit: x has another length than the network has inputs: expected (n_in,), or rows (N, n_in)",
    "nbfc.jit: y has another shape than the outputs: expected (n_out,), or (N, n_out) for x (N, n_in)",
    "nbfc.jit: y shares memory with x: expected an array of its own, or all of x itself, where the network has no more "
    "outputs than inputs",
    "nbfc.jit: rows is below 1: expected the number of samples at a time",
    "nbfc.jit: scratch is too small: expected what nbfc.jit.scratch(policy) returns",
    "nbfc.jit: the policy's arrays do not belong together: expected layers as net.freeze() returns them, and "
    "parameters, mean and deviation of the lengths that these say",
    "nbfc.jit: the state's arrays do not belong together: expected what trainer.freeze() returns",
    "nbfc.jit: the learning rate in the state's rule is negative or NaN",
    "nbfc.jit: v has another shape than the outputs: expected (n_out,), or (N, n_out) for x (N, n_in)",
    "nbfc.jit: v has another shape than x: expected a direction for each sample",
    "nbfc.jit: w has another shape than the outputs: expected (n_out,), or (N, n_out) for x (N, n_in)",
    "nbfc.jit: there are no samples: expected at least one, as the mean over the batch needs",
    "nbfc.jit: targets have another shape than the outputs (labels, which are integers, are one for each sample)",
    "nbfc.jit: integer targets are labels, which only cross_entropy takes: expected floats, such as "
    "t.astype(np.float64)",
    "nbfc.jit: a label lies outside 0 ... n_out - 1, where n_out is the number of the network's outputs",
    "nbfc.jit: a target lies outside 0 ... 1, or a row of probabilities does not sum to 1",
    "nbfc.jit: the loss or a parameter would become NaN or infinite, so the step was not taken and the parameters are "
    "as they were. A smaller learning rate, or standardised inputs and targets, may help; at a first step, look for "
    "NaN and infinity in X and y",
)
(
    X_COLUMNS,
    Y_SHAPE,
    Y_PLACE,
    NO_ROWS,
    SCRATCH_SIZE,
    POLICY_FAULT,
    STATE_FAULT,
    RATE_FAULT,
    V_OUTPUTS,
    V_INPUTS,
    W_OUTPUTS,
    NO_SAMPLES,
    TARGET_SHAPE,
    NOT_FOR_LABELS,
    LABEL_RANGE,
    TARGET_RANGE,
    DIVERGED,
) = range(1, len(FAULTS) + 1)


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
