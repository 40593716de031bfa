"""Run processes that make batches: started once, watched, and never replaced."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import weakref
from collections import deque
from contextlib import suppress
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.reduction import send_handle
from typing import Iterable, Iterator, Sequence

import mxnet as mx
import numpy as np

from aploss_mx.data.worker import SLOTS, SOCKET, Answer, Item, Slot, columns_of, new_file

SERVE = "import sys; sys.path[:] = {path!r}; from aploss_mx.data.worker import serve; serve()"
# Each makes one image at a time, and BLAS's threads would take memory for nothing.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
POLL_SECONDS = 1.0
LESS = ": fewer --num-workers or a smaller --batch-size need less"
LIKELY = {signal.SIGKILL: f", as the system does where memory runs out{LESS}"}


class LoaderError(OSError):
    """A loader process that has ended; the message says how."""


class LoaderProcesses:
    """Processes for all loaders of a run.

    They are new programs, no forks: a fork of a process in which MXNet has run an operator may wait for a lock for
    ever. They do not import MXNet, and end with this object and with this process, whatever ends it.

    Parameters
    ----------
    count : int
        Number of processes; with 0, this process makes the batches itself.
    """

    def __init__(self, count: int):
        self._processes = [_Process(number) for number in range(count)]
        weakref.finalize(self, _stop, self._processes, os.getpid())
        self._iteration = object()

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self._processes]

    def batches(self, jobs: Iterable[Sequence[Item]]) -> Iterator[list[mx.nd.NDArray]]:
        """Yield for each job, in order, the stacked first arrays of its items, the second ones …

        A later call ends the iterations of earlier ones.

        Raises
        ------
        LoaderError
            If a process has ended, or lacks memory.
        Exception
            What an item raised.
        """
        if not self._processes:
            for items in jobs:
                yield [_to_mxnet(np.stack(column)) for column in columns_of(items)]
            return
        self._iteration = iteration = object()
        for process in self._processes:
            while process.pending:  # of an iteration that was broken off
                self._wait_for(process)
                process.answer()
        jobs = iter(jobs)
        asked: deque[_Process] = deque()

        def ask(process: _Process) -> None:
            for items in islice(jobs, 1):
                process.ask(items)
                asked.append(process)

        for process in SLOTS * self._processes:
            ask(process)
        while asked:
            process = asked.popleft()
            self._wait_for(process)
            batch = [_to_mxnet(array) for array in process.batch_of(process.answer())]
            ask(process)
            yield batch
            if self._iteration is not iteration:
                raise RuntimeError("another iteration over the same loader processes has begun")

    def _wait_for(self, process: _Process) -> None:
        """Wait for a process's answer, and see on the way that all are alive."""
        while True:
            for each in self._processes:
                each.check()
            if process.socket.poll(POLL_SECONDS):
                return


class _Process:
    """One of the processes, seen from this side of its socket."""

    def __init__(self, number: int):
        self.name = f"loader process {number}"
        self.pending = 0  # questions without an answer
        self._end = ""
        self.socket, theirs = Pipe()
        with theirs:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-c", SERVE.format(path=sys.path)],
                {**os.environ, **ENVIRONMENT},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), SOCKET)],
                setsigmask=[signal.SIGINT],  # Ctrl-C reaches all processes of a terminal, and is for this one
            )
        self._slots: deque[Slot] = deque()
        for _ in range(SLOTS):
            file = new_file()
            send_handle(self.socket, file, self.pid)
            self._slots.append(Slot(file))

    def ask(self, items: Sequence[Item]) -> None:
        """Ask for a batch of items."""
        try:
            self.socket.send_bytes(pickle.dumps(items))
        except ConnectionError:
            self.check(wait=True)
        self.pending += 1

    def answer(self) -> Answer:
        """Return the answer to the oldest question."""
        try:
            answer = self.socket.recv()
        except (EOFError, ConnectionError):
            self.check(wait=True)
        self.pending -= 1
        self._slots.rotate(-1)
        return answer

    def batch_of(self, answer: Answer) -> list[np.ndarray]:
        """Return the batch of the last answer, to be copied before the next question, or raise what was raised."""
        if isinstance(answer, list):
            return self._slots[-1].arrays(answer)
        error, trace = answer
        if isinstance(error, MemoryError):
            error = LoaderError(f"{self.name} lacks memory ({error}){LESS}")
        raise error from LoaderError(f"in {self.name}:\n{trace}")

    def check(self, wait: bool = False) -> None:
        """Raise LoaderError if the process has ended, or when it has."""
        if not self._end:
            try:
                pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            except ChildProcessError:  # where SIGCHLD is ignored, as by whoever started this program
                raise LoaderError(f"{self.name} has ended") from None
            if not pid:
                return
            self._end = f"ended with status {os.WEXITSTATUS(status)}, see what it printed"
            if os.WIFSIGNALED(status):
                cause = signal.Signals(os.WTERMSIG(status))
                self._end = f"was ended by {cause.name}{LIKELY.get(cause, '')}"
        raise LoaderError(f"{self.name} {self._end}")

    def stop(self) -> None:
        """End the process, which holds nothing that is not made again, and give back what it took."""
        if not self._end:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        self.socket.close()
        for slot in self._slots:
            slot.close()


def _stop(processes: Sequence[_Process], owner: int) -> None:
    if os.getpid() == owner:  # and no fork of it, whose children they are not
        for process in processes:
            process.stop()


def _to_mxnet(array: np.ndarray) -> mx.nd.NDArray:
    return mx.nd.array(array, dtype=array.dtype)
