"""Make batches in a process of their own, without MXNet, and leave them in shared memory."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
import threading
import traceback
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from queue import SimpleQueue
from typing import Any, Callable, List, Sequence, Tuple, Union

import numpy as np

SLOTS = 2  # batches of a process: one is made while another waits to be taken
SOCKET = 0  # standard input
ALIGNMENT = 64

Item = Callable[[], Sequence[Any]]  # one row of a batch, made when it is called; picklable
Layout = List[Tuple[str, Tuple[int, ...]]]  # dtype and shape of each array of a batch
Answer = Union[Layout, Tuple[Exception, str]]  # or what was raised, and its traceback


class Slot:
    """Shared memory for one batch: a file without a name, which the system forgets with the last process."""

    def __init__(self, file: int):
        self._file = file
        self._size = 0
        self._memory: mmap.mmap | None = None

    def resize(self, size: int) -> None:
        """Make the file as large as a batch; where memory is scarce, MemoryError now and no SIGBUS later."""
        if size == self._size:
            return
        try:
            os.ftruncate(self._file, size)
            os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            raise MemoryError(f"{error.strerror}: shared memory for a batch of {size / 1e6:.0f} MB") from error

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def arrays(self, layout: Layout) -> list[np.ndarray]:
        """Return the batch's arrays, in the shared memory itself."""
        starts, size = _places(layout)
        if size != self._size:
            self._memory, self._size = mmap.mmap(self._file, size), size
        return [np.ndarray(shape, dtype, self._memory, start) for (dtype, shape), start in zip(layout, starts)]

    def fill(self, items: Sequence[Item]) -> Layout:
        """Make a batch of items and leave it here."""
        columns = columns_of(items)
        layout = [(column[0].dtype.str, (len(column), *column[0].shape)) for column in columns]
        self.resize(_places(layout)[1])
        for column, array in zip(columns, self.arrays(layout)):
            np.stack(column, out=array)
        return layout


def new_file() -> int:
    """Return the descriptor of a file for a `Slot`: memory without a limit of its own, or in /dev/shm."""
    if hasattr(os, "memfd_create"):  # Pythons built for an old glibc lack it
        return os.memfd_create("aploss_mx_batch")
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        return os.dup(file.fileno())


def columns_of(items: Sequence[Item]) -> list[list[np.ndarray]]:
    """Make items and return their first arrays, their second ones …"""
    return [list(map(np.asarray, column)) for column in zip(*(item() for item in items))]


def _places(layout: Layout) -> tuple[list[int], int]:
    """Return where each array starts, and the size of all, in bytes."""
    starts, end = [], 0
    for dtype, shape in layout:
        starts.append(end)
        size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return starts, end


def serve() -> None:
    """Fill slots in turn as the socket asks, and end when it is closed: the asking process has ended, however."""
    socket = Connection(SOCKET)
    slots = cycle([Slot(recv_handle(socket)) for _ in range(SLOTS)])
    jobs: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(socket, jobs), daemon=True).start()
    while True:
        job, slot = jobs.get(), next(slots)
        answer: Answer
        try:
            answer = slot.fill(pickle.loads(job))
        except Exception as error:
            answer = _picklable(error), traceback.format_exc()
        with suppress(ConnectionError):  # then `_receive` ends this process
            socket.send(answer)


def _receive(socket: Connection, jobs: SimpleQueue) -> None:
    try:
        while True:
            jobs.put(socket.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)  # also amid a batch


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
