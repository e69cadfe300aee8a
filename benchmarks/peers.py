"""Time nbfc beside the other libraries on the CPU: training steps and predictions, in one run.

    python peers.py                          the workloads of ``workloads.py``, every installed library
    python peers.py --only mnist,wide        some of them
    python peers.py --sweep 40               random architectures instead; the worst come first

Each library runs in a process of its own. The processes take turns, a fraction of a second each, so that what else
the machine does falls on all alike; a time is the median over the turns, and so are the machine's peak, which is
measured in each turn, and the ratio to the best peer. Before it is timed, a library's first step (or prediction) must
agree with nbfc's. Results are printed as a table and written as JSON and as a picture.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from fma_peak import fma_peak
from frameworks import FRAMEWORKS, threads
from workloads import WORKLOADS, Workload, random_workloads

TURN = 0.25  # seconds
PAUSE = 0.15  # between turns: until the last one's threads have gone to sleep, for which OpenBLAS takes 0.11
AGREE = {"float32": 1e-3, "float64": 1e-6}


class Peer:
    """A library in a process of its own, in which a script answers questions."""

    def __init__(self, name, script=__file__, *options):
        self.name = name
        command = [sys.executable, script, *options, "--worker", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"error": "its process ended"}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def worker(name):
    """Answer questions, a line of JSON each, until there are no more. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "prepare" in question:
                run, check = FRAMEWORKS[name](Workload.from_json(question["prepare"]))
                answer = {"check": check()}
                warm_up(run)
            else:
                answer = {"seconds": timed(run, question["seconds"])}
        except (ImportError, NotImplementedError) as error:
            answer = {"skip": str(error)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def warm_up(run):
    end = time.perf_counter() + TURN
    while time.perf_counter() < end:
        run(2)


def timed(run, seconds):
    """Return the seconds of one step, from as many as take about `seconds`."""
    count = 1
    while True:
        start = time.perf_counter()
        run(count)
        took = time.perf_counter() - start
        if took > 0.5 * seconds:
            return took / count
        count = max(2 * count, int(0.8 * count * seconds / max(took, 1e-9))) if took < 0.1 * seconds else 2 * count


def compare(work, names, turns):
    """Return {library: seconds of a step} for those that take part, and what kept the others away."""
    peers, left_out, agreed = [], {}, None
    for name in names if not work.estimator else [name for name in names if name in ("nbfc", "scikit-learn")]:
        peer = Peer(name)
        answer = peer.ask(prepare=work.as_json())
        if "check" in answer:
            agreed = answer["check"] if agreed is None else agreed
            if abs(answer["check"] - agreed) <= AGREE[work.dtype] * (1 + abs(agreed)):
                peers.append(peer)
                continue
            answer = {"error": f"its result is {answer['check']:.6g}, nbfc's {agreed:.6g}"}
        left_out[name] = answer.get("skip") or answer["error"]
        peer.close()
        if name == "nbfc":
            raise SystemExit(f"nbfc failed: {left_out[name]}")
    times, peaks = {peer.name: [] for peer in peers}, []
    for _ in range(turns):
        time.sleep(PAUSE)
        peaks.append(fma_peak(work.dtype, threads(), seconds=0.05))
        for peer in list(peers):
            time.sleep(PAUSE)
            answer = peer.ask(seconds=TURN)
            if "seconds" in answer:
                times[peer.name].append(answer["seconds"])
                continue
            left_out[peer.name] = answer["error"]
            del times[peer.name]
            peers.remove(peer)
            peer.close()
    for peer in peers:
        peer.close()
    return times, peaks, left_out


def measure(work, names, turns):
    """Return one workload's row of results, as it is written to the JSON file."""
    times, peaks, left_out = compare(work, names, turns)
    seconds = {name: median(values) for name, values in times.items()}
    best = min((name for name in seconds if name != "nbfc"), key=seconds.get, default=None)
    return {
        **work.as_json(),
        "flops": work.flops,
        "peak": median(peaks),
        "seconds": seconds,
        "share_of_peak": {
            name: median(work.flops / value / peak for value, peak in zip(values, peaks, strict=True))
            for name, values in times.items()
        },
        "best_peer": best,
        "ratio": median(b / a for a, b in zip(times["nbfc"], times[best], strict=True)) if best else None,
        "left_out": left_out,
    }


def micro(seconds):
    """Return microseconds, with a decimal more where they are few."""
    return f"{1e6 * seconds:,.1f}" if seconds > 1e-5 else f"{1e6 * seconds:.2f}"


def describe(row):
    widths = "-".join(map(str, row["widths"]))
    what = f"{row['loss']}, {row['optimizer']}" if row["optimizer"] else "predict"
    lines = [f"{row['name']}: {widths} {row['activation']}, batch {row['batch']}, {what}, {row['dtype']}"]
    for name, value in sorted(row["seconds"].items(), key=lambda item: item[1]):
        rate = row["flops"] / value / 1e9
        times = value / row["seconds"]["nbfc"]
        share = row["share_of_peak"][name]
        lines.append(f"  {name:14} {micro(value):>12} µs {rate:7.1f} GFLOP/s {share:6.1%} of peak {times:7.2f} ×")
    lines += [f"  {name:14} left out: {why}" for name, why in row["left_out"].items()]
    return "\n".join(lines)


def summary(rows):
    lines = [
        f"{'workload':24} {'nbfc':>14} {'GFLOP/s':>8} {'of peak':>8} {'best peer':>15} {'its time':>14} {'ratio':>7}"
    ]
    for row in rows:
        mine = row["seconds"]["nbfc"]
        best = row["best_peer"]
        theirs = f"{best:>15} {micro(row['seconds'][best]):>11} µs {row['ratio']:6.2f}×" if best else ""
        share = row["share_of_peak"]["nbfc"]
        lines.append(f"{row['name']:24} {micro(mine):>11} µs {row['flops'] / mine / 1e9:8.1f} {share:8.1%} {theirs}")
    return "\n".join(lines)


def draw(rows, path):
    """Draw how many times longer than nbfc each library takes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = [name for name in FRAMEWORKS if any(name in row["seconds"] for row in rows)]
    colors = dict(zip(FRAMEWORKS, plt.get_cmap("tab10").colors, strict=False))
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.42 * len(rows)), layout="constrained")
    for name in names:
        points = [
            (row["seconds"][name] / row["seconds"]["nbfc"], place)
            for place, row in enumerate(rows)
            if name in row["seconds"]
        ]
        axes.scatter(*zip(*points, strict=True), label=name, color=colors[name], s=70 if name == "nbfc" else 36)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.axvline(1, color=colors["nbfc"], linewidth=1)
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.set_xlabel("time of a step, in times of nbfc's (further right is slower)")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="workloads, separated by commas (the start of a name is enough)")
    parser.add_argument("--peers", default=",".join(list(FRAMEWORKS)[1:]), help="libraries, separated by commas")
    parser.add_argument("--sweep", type=int, default=0, metavar="COUNT", help="time so many random architectures")
    parser.add_argument("--seed", type=int, default=0, help="of the random architectures")
    parser.add_argument("--turns", type=int, default=7, help="of each library in each workload")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("peers.json"),
        metavar="FILE",
        help="of results, as JSON; the picture lies beside it",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    names = ["nbfc", *options.peers.split(",")]
    if unknown := [name for name in names if name not in FRAMEWORKS]:
        parser.error(f"unknown libraries {unknown}; those that can be timed are {list(FRAMEWORKS)[1:]}")
    works = random_workloads(options.sweep, options.seed) if options.sweep else WORKLOADS
    chosen = [work for work in works if work.name.startswith(tuple(options.only.split(",")))]
    if not chosen:
        parser.error(f"no workload is called {options.only}; there are {[work.name for work in works]}")
    if options.out.is_dir() or not options.out.parent.is_dir():
        parser.error(f"results cannot be written to {options.out}: expected a file in a folder that is there")
    rows = []
    for work in chosen:
        rows.append(measure(work, names, options.turns))
        print(describe(rows[-1]), flush=True)
        if options.sweep:
            rows.sort(key=lambda row: row["ratio"] or 0)
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print("\n" + summary(rows))
    draw(rows, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
