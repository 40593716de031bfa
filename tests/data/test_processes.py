"""Processes that load: what they make is what was asked for, and however one ends, nobody waits and nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from aploss_mx.data import processes as processes_module
from aploss_mx.data import worker
from aploss_mx.data.processes import LoaderError, LoaderProcesses

REPOSITORY = Path(__file__).resolve().parents[2]
SLEEP = partial(eval, "__import__('time').sleep(60)")


def rows_of(*texts: str) -> list:
    """A job whose items are these expressions, evaluated in the process."""
    return [partial(eval, text) for text in texts]


def numbers(count: int) -> list:
    return [rows_of(f"[{number}]", f"[{-number}]") for number in range(count)]


def values_of(batches) -> list:
    return [[array.asnumpy().tolist() for array in batch] for batch in batches]


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_ended(pids: list[int], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while any(map(runs, pids)):
        assert time.monotonic() < end, "it outlives its parent"
        time.sleep(0.01)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_batches_come_in_order(count):
    processes = LoaderProcesses(count)
    for jobs in (0, 1, 4, 11, 11, 0, 1):
        assert values_of(processes.batches(numbers(jobs))) == [[[number, -number]] for number in range(jobs)]


@pytest.mark.parametrize("count", [0, 1])
def test_rows_are_stacked_with_their_dtypes_and_shapes_whatever_came_before(count):
    texts = [
        f"[{size}, __import__('numpy').full(({size}, 3), {size}, '{kind}')]" for size in (1, 700, 2) for kind in "fd"
    ]
    batches = list(LoaderProcesses(count).batches([rows_of(text, text) for text in texts]))
    for (sizes, arrays), size, kind in zip(batches, (1, 1, 700, 700, 2, 2), "fd" * 3):
        assert (sizes.dtype, arrays.dtype) == (np.int64, np.dtype(kind))
        assert sizes.asnumpy().tolist() == [size, size]
        np.testing.assert_array_equal(arrays.asnumpy(), np.full((2, size, 3), size))


def test_the_processes_do_without_mxnet():
    """Its import takes seconds and hundreds of megabytes in each of them."""
    loaded = "[__import__('aploss_mx.data.examples') is None or 'mxnet' in __import__('sys').modules]"
    assert values_of(LoaderProcesses(1).batches([rows_of(loaded)])) == [[[False]]]


@pytest.mark.parametrize("memfd", [True, False])
def test_shared_memory_has_no_name(monkeypatch, memfd):
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    before = set(os.listdir("/dev/shm"))
    for batch in LoaderProcesses(1).batches(numbers(3)):
        assert len(batch) == 1
        assert set(os.listdir("/dev/shm")) <= before


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSEGV", "SIGTERM"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_ended_ends_the_iteration(number, victim):
    processes = LoaderProcesses(2)
    batches = processes.batches(numbers(1000))
    next(batches)
    os.kill(processes.pids[victim], signal.Signals[number])
    with pytest.raises(LoaderError, match=f"loader process {victim} was ended by {number}") as error:
        for _ in batches:
            pass
    assert ("memory" in str(error.value)) == (number == "SIGKILL")
    with pytest.raises(LoaderError, match=number):  # nor does a later one wait
        next(processes.batches(numbers(1)))


def test_the_death_of_another_is_seen_while_waiting_for_one(monkeypatch):
    monkeypatch.setattr(processes_module, "POLL_SECONDS", 0.05)
    processes = LoaderProcesses(2)
    batches = processes.batches([[SLEEP], *numbers(1)])
    os.kill(processes.pids[1], signal.SIGKILL)
    with pytest.raises(LoaderError, match="loader process 1"):
        next(batches)


def test_a_process_that_exits_is_told():
    with pytest.raises(LoaderError, match="loader process 0 ended with status 7"):
        next(LoaderProcesses(1).batches([rows_of("__import__('os')._exit(7)")]))


def test_what_an_item_raises_is_raised_here_and_the_processes_go_on():
    processes = LoaderProcesses(2)
    for text, kind in (("1 / 0", ZeroDivisionError), ("open('/nowhere')", FileNotFoundError), ("int('x')", ValueError)):
        with pytest.raises(kind) as error:
            list(processes.batches([rows_of(text), *numbers(5)]))
        assert text in str(error.value.__cause__) or "<string>" in str(error.value.__cause__)
        assert values_of(processes.batches(numbers(2))) == [[[0, 0]], [[1, -1]]]


def test_errors_that_cannot_travel_are_described():
    text = "(_ for _ in ()).throw(type('Odd', (Exception,), {})('hello'))"
    with pytest.raises(RuntimeError, match="Odd: hello"):
        list(LoaderProcesses(1).batches([rows_of(text)]))


def test_want_of_memory_is_told():
    with pytest.raises(LoaderError, match="lacks memory .*fewer --num-workers or a smaller --batch-size"):
        list(LoaderProcesses(1).batches([rows_of("[__import__('numpy').zeros(1 << 46)]")]))
    with open("/dev/null", "r+b") as file, pytest.raises(MemoryError, match="shared memory for a batch of 3 MB"):
        worker.Slot(file.fileno()).resize(3_000_000)


def test_an_iteration_that_is_broken_off_leaves_nothing_to_the_next():
    processes = LoaderProcesses(2)
    first = processes.batches(numbers(50))
    assert values_of([next(first)]) == [[[0, 0]]]
    assert values_of(processes.batches(numbers(3))) == [[[0, 0]], [[1, -1]], [[2, -2]]]
    with pytest.raises(RuntimeError, match="another iteration"):
        next(first)


def test_processes_end_with_the_object():
    files = len(os.listdir("/proc/self/fd"))
    processes = LoaderProcesses(2)
    pids = processes.pids
    next(processes.batches([*numbers(1), [SLEEP], *numbers(9)]))
    assert all(map(runs, pids))
    del processes
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # not even as zombies
    assert len(os.listdir("/proc/self/fd")) == files


FORK = """
import os, sys
from functools import partial
from aploss_mx.data.processes import LoaderProcesses
processes = LoaderProcesses(1)
pid = os.fork()
if not pid:
    sys.exit()
os.waitpid(pid, 0)
print(next(processes.batches([[partial(eval, "[5]")]]))[0].asscalar())
"""


def test_a_fork_that_ends_takes_no_process_with_it():
    run = subprocess.run([sys.executable, "-c", FORK], cwd=REPOSITORY, stdout=subprocess.PIPE, timeout=60, check=True)
    assert run.stdout == b"5\n"


def test_without_a_status_the_end_is_told_all_the_same():
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as a shell's `trap '' CHLD` does for its programs
    try:
        processes = LoaderProcesses(2)
        batches = processes.batches(numbers(100))
        next(batches)
        os.kill(processes.pids[0], signal.SIGKILL)
        with pytest.raises(LoaderError, match="loader process 0 has ended"):
            list(batches)
        pids = processes.pids
        del processes, batches
        wait_until_ended(pids)
    finally:
        signal.signal(signal.SIGCHLD, previous)


OWNER = """
import os, signal, sys
from functools import partial
from types import SimpleNamespace
import aploss_mx
if {quick}:  # MXNet's import takes seconds; the end of a process that has it is tested where Python ends by itself
    sys.modules["mxnet"] = SimpleNamespace(nd=SimpleNamespace(array=lambda array, dtype: array))
from aploss_mx.data.processes import LoaderProcesses
processes = LoaderProcesses(2)
jobs = [[partial(eval, "[0]")]] * 2 + [[partial(eval, "__import__('time').sleep(60)")]] * 4
batches = processes.batches(jobs)
next(batches)
print(*processes.pids, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(1)", "raise ValueError", ""])
def test_processes_end_with_their_parent_amid_a_batch(end):
    owner = subprocess.run(
        [sys.executable, "-c", OWNER.format(end=end, quick=bool(end))],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    pids = list(map(int, owner.stdout.split()))
    assert len(pids) == 2
    wait_until_ended(pids)
