"""What is left to compile, and a second process that compiles a part of it.

To compile a kernel takes the types of those that it calls by address (see ``_addresses``), but not their code. So they
wait in a line, behind the kernel that `launch` calls. Numba and LLVM compile one function at a time in a process;
where there is a second core, another process therefore takes some from the line, and puts what it makes into the cache
on disk, from where it is loaded here. That process is a help and no more: what it does not do, for whatever reason, is
done here.
"""

import atexit
import gc
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numba
from numba.core.compiler_lock import global_compiler_lock

from nbfc.kernels._cache import STAMP

# Seconds that the second process has for a kernel, and for which it waits where there is nothing to do.
PATIENCE, LINGER = 300, 5


class Job(Protocol):
    """A kernel to be compiled for one dtype."""

    name: str
    is_own: bool  # a user's function, which may have an error in it

    @property
    def is_published(self) -> bool:
        """Whether others can call it."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes find on disk what one of them compiles."""

    def run(self) -> None:
        """Compile the kernel or load it from the disk."""

    def publish(self) -> None:
        """Let others call it."""


class Jobs:
    """The jobs of a process, found by their names.

    Kernels are published together: none is called before all are there that it calls. After an error, or Ctrl-C, what
    is left waits for the next call of `finish` or `compile`.
    """

    def __init__(self, find: Callable[[str], Job]) -> None:
        self.unfinished: set[str] = set()  # names of all jobs that are not published
        self._find = find
        self._waiting: deque[Job] = deque()
        self._done_elsewhere: deque[Job] = deque()  # to be loaded
        self._current: Job | None = None
        self._done: list[Job] = []
        self._changed = threading.Condition()
        self.is_at_work = False  # in the thread that has the compiler's lock
        self._is_cold = self._is_second = False
        self._second: Second | None = None

    def add(self, job: Job) -> None:
        """Let a job wait at the end of the line."""
        with self._changed:
            if job.name not in self.unfinished and not job.is_published:
                self._waiting.append(job)
                self.unfinished.add(job.name)
                self._changed.notify_all()
                self._get_help()

    def finish(self) -> None:
        """Do all jobs, and all that turn up in doing them."""
        if self.unfinished:
            self._work(lambda: None, is_cold=False)

    def compile(self, compiler: Callable[..., Any], *args: Any) -> Any:
        """Compile what Python calls, and only then all that it calls, which a second process has begun meanwhile.

        No job may call it in its turn, as it is not there before all jobs are done.
        """
        return self._work(partial(compiler, *args), is_cold=True)

    def get(self, getter: Callable[..., Any], *args: Any) -> Any:
        """Get what Python calls, compiled or from the disk: not within other work, which would come after its call."""
        with global_compiler_lock:
            self._refuse_within()
            return getter(*args)

    def _refuse_within(self) -> None:
        if self.is_at_work:
            raise RuntimeError(
                "nbfc was called from within its own compiling, as by a signal handler: expected a call after that"
            )

    def _work(self, first: Callable[[], Any], is_cold: bool) -> Any:
        with global_compiler_lock:
            self._refuse_within()
            self.is_at_work, self._is_cold = True, is_cold
            try:
                with self._changed:
                    self._get_help()
                with _no_garbage_collection():
                    result = first()
                    self._do_all()
                return result
            finally:
                self.is_at_work = self._is_cold = False

    def missed(self) -> None:
        """Hear that a kernel is not on disk: so others will not be."""
        with self._changed:
            self._is_cold = self.is_at_work
            self._get_help()

    def _get_help(self) -> None:
        wanted = self._is_cold and not self._is_second and self._waiting and self._waiting[-1].is_shared
        if wanted and (not self._second or self._second.is_idle):  # one that failed is not started again
            self._second = Second(self)
            self._second.start()

    def forget_second(self) -> None:
        """Go on in a child process that was forked: threads stay behind."""
        self._changed = threading.Condition()
        if self._second and self._second.in_hand:
            self._waiting.append(self._second.in_hand)
        self._second = None

    def serve(self) -> None:
        """Be the second process: do the jobs whose names come in lines, and answer with a name and those it led to."""
        self.is_at_work = self._is_second = True
        print(STAMP, flush=True)
        for line in sys.stdin:
            with suppress(Exception), _no_garbage_collection():  # the first process will see for itself
                self._find(line.strip()).run()
            print(line.strip(), *(job.name for job in self._waiting), flush=True)
            self._waiting.clear()

    def _do_all(self) -> None:
        while job := self._next():
            try:
                job.run()
            except Exception:
                if job.is_own:  # it would fail again
                    self.unfinished.discard(job.name)
                    self._current = None
                raise
            self._done.append(job)
            self._current = None
        for job in self._done:
            job.publish()
        self.unfinished.difference_update([job.name for job in self._done])
        self._done.clear()

    def _next(self) -> Job | None:
        """Return the next job, or nothing when all are done; wait for the second process when it has the last one.

        Ctrl-C may come between any two lines: a job is then where it was, or in two places, and done again.
        """
        with self._changed:
            if self._current:
                return self._current
            while not (self._waiting or self._done_elsewhere) and self._second and self._second.in_hand:
                if not self._changed.wait(PATIENCE):
                    self._second.kill()
            for jobs in (self._waiting, self._done_elsewhere):
                if jobs:
                    self._current = jobs[0]
                    jobs.popleft()
                    break
            return self._current

    # ---- for the second process --------------------------------------------------------------------------------------

    def take(self, second: "Second") -> str:
        """Give it the last job that waits; wait for one. Return its name, or nothing if there seem to be no more."""
        with self._changed:
            while not (self._waiting and self._waiting[-1].is_shared):
                if not self._changed.wait(LINGER) and not self.is_at_work:
                    second.is_idle = True
                    return ""
            second.in_hand = self._waiting.pop()
            return second.in_hand.name

    def give_back(self, second: "Second", found: list[str]) -> None:
        """Take the job that it has done, to be loaded here, and the names of what that led to."""
        with self._changed:
            if second.in_hand:
                self._done_elsewhere.append(second.in_hand)
            second.in_hand = None
            for name in found:
                self.add(self._find(name))
            self._changed.notify_all()

    def let_go(self, second: "Second") -> None:
        """Take the job that it has not done."""
        with self._changed:
            if second.in_hand:
                self._waiting.append(second.in_hand)
            second.in_hand = None
            self._changed.notify_all()


class Second:
    """The second process, as the first one sees it: a thread that starts it and hands jobs out, until none come."""

    def __init__(self, jobs: Jobs) -> None:
        self.in_hand: Job | None = None
        self.is_idle = False  # it has ended, since nothing came
        self._jobs = jobs
        self._process: Any = None

    def start(self) -> None:
        """Start the thread."""
        with suppress(RuntimeError):  # at the interpreter's end there are no new threads
            threading.Thread(target=self._hand_out, daemon=True).start()

    def kill(self) -> None:
        """Kill it; the thread gives back what it had in hand."""
        self._process.kill()

    def _hand_out(self) -> None:
        try:
            self._process = started()
            if self._process:
                atexit.register(self.kill)
                with suppress(Exception), self._process as process:
                    self._converse(process)
                    process.kill()
                atexit.unregister(self.kill)
        finally:
            self._jobs.let_go(self)

    def _converse(self, process: Any) -> None:
        expected = STAMP
        while (answer := process.stdout.readline().split()) and answer[0] == expected:
            self._jobs.give_back(self, answer[1:])
            if not (expected := self._jobs.take(self)):
                return
            process.stdin.write(f"{expected}\n")
            process.stdin.flush()


def started() -> Any:
    """Return a process that serves, or None. An interpreter within another program cannot be started again."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1 or hasattr(sys, "frozen") or not Path(sys.executable or "").name.lower().startswith("python"):
        return None
    path = [str(folder) for folder in sys.path]
    code = f"import sys; sys.path[:] = {path}; from nbfc.kernels._addresses import JOBS; JOBS.serve()"
    with suppress(OSError):
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "NUMBA_CACHE_DIR": numba.config.CACHE_DIR},  # type: ignore[attr-defined]
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    return None


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Compile without it: it would look through the compiler's many objects again and again, a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
