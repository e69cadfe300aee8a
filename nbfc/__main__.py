"""``python -m nbfc``: train a network on a table, and predict with it, from the shell."""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numba

from nbfc import DivergenceError, commands
from nbfc.architecture import NAMES
from nbfc.optimizers import OPTIMIZERS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments`, or the shell, give; return the exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without × shows ? rather than nothing
    try:
        with _threads(options.threads):
            options.run(options)
    except (ValueError, TypeError, OSError, MemoryError, DivergenceError) as error:
        print(f"nbfc {options.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"nbfc {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nbfc", description="Fully connected neural networks on the CPU.")
    subparsers = parser.add_subparsers(dest="command", required=True)

    train = subparsers.add_parser(
        "train",
        help="train a network on a table (by default on the handwritten digits that come with nbfc)",
        description="Train a network on a table, test it on rows held out, and print how it went.",
    )
    train.set_defaults(run=commands.train)
    data = train.add_argument_group("data")
    data.add_argument("--data", metavar="FILE", help=".npz with arrays X and y, or numeric .csv; default: the digits")
    data.add_argument("--target", metavar="NAME", help="the .csv column with the label; default: the last")
    data.add_argument(
        "--task",
        choices=["classify", "regress"],
        help="default: classify text, and whole numbers with at most 20 values",
    )
    data.add_argument("--test-fraction", type=float, metavar="F", help="share of the rows held out; default: 0.2")
    network = train.add_argument_group("network and training")
    network.add_argument(
        "--hidden",
        type=_widths,
        default="256",
        metavar="N,…",
        help="widths of the hidden layers (default: %(default)s)",
    )
    network.add_argument(
        "--activation",
        choices=list(NAMES),
        default="relu",
        help="of the hidden layers (default: %(default)s)",
    )
    network.add_argument(
        "--optimizer", choices=list(OPTIMIZERS), default="adam", help="update rule (default: %(default)s)"
    )
    network.add_argument("--learning-rate", type=float, metavar="R", help="default: 0.001, for sgd 0.01")
    network.add_argument(
        "--epochs",
        type=int,
        default=30,
        metavar="N",
        help="how often to go over the rows (default: %(default)s)",
    )
    network.add_argument("--batch-size", type=int, default=32, metavar="N", help="rows a step (default: %(default)s)")
    network.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of weights, split and shuffling (default: %(default)s)",
    )
    network.add_argument("--save", metavar="MODEL", help="write the network to this file (safetensors)")
    network.add_argument("--plot", metavar="FILE", help="draw losses and results to this file (.png, .pdf or .svg)")

    predict = subparsers.add_parser(
        "predict",
        help="predict with a network that train saved",
        description="Print a line for each row: the class and its probability, or the number predicted.",
    )
    predict.set_defaults(run=commands.predict)
    predict.add_argument("model", metavar="MODEL", help="a file that train --save wrote")
    predict.add_argument("--data", metavar="FILE", required=True, help=".npz with an array X, or .csv with the inputs")
    predict.add_argument("--out", metavar="FILE", help="write .csv to this file; default: print")

    for command in (train, predict):
        command.add_argument("--threads", type=int, metavar="N", help="default: all cores")
    return parser


def _widths(text: str) -> list[int]:
    try:
        return [int(width) for width in text.split(",")] if text.strip() else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers with commas, such as 256,128") from None


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Use so many threads in here, and as many as before thereafter."""
    if count is None:
        yield
        return
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if not 1 <= count <= most:
        raise ValueError(f"--threads is {count}: expected 1 to {most}, the number that Numba has on this machine.")
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


if __name__ == "__main__":
    sys.exit(main())
