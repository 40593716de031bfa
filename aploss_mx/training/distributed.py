"""Join the workers of one run: a process on each machine, by MXNet's parameter servers, or this process alone."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import contextmanager
from typing import Any, Iterator, Mapping

import mxnet as mx
import numpy as np

from aploss_mx.training.environment import WorkersError, address_of, check_environment
from aploss_mx.training.roll_call import TIMEOUTS, Presence, Timeouts

LOCAL, DISTRIBUTED = ("device", "local"), ("dist_sync",)
KV_STORES = LOCAL + DISTRIBUTED
TASK = "DMLC_TASK_ID"  # which worker of its machine a process is, as launchers of MXNet say it
TOTALS_KEY = 1 << 30  # parameters have keys from 0 on
TOTALS = 2


def count_workers(kv_store: str, environment: Mapping[str, str] = os.environ) -> int:
    """Return how many workers the environment promises to a kvstore.

    Raises
    ------
    WorkersError
        As `check_environment`.
    """
    if kv_store in LOCAL:
        return 1
    check_environment(environment)
    return int(environment["DMLC_NUM_WORKER"])


class Workers:
    """All workers of a run; waits until they are there.

    Parameters
    ----------
    kv_store : str
        One of KV_STORES.
    timeouts : Timeouts
        How long to wait for the others, before and after they have joined, until this process ends.

    Attributes
    ----------
    count, rank : int
        The number of workers, and which of them this one is. Worker 0 leads: it evaluates and writes files.
    kv_store : KVStore or str
        For the trainer.

    Raises
    ------
    WorkersError
        As `count_workers`.
    """

    joined = False  # whether this process is one of several

    def __init__(self, kv_store: str, timeouts: Timeouts = TIMEOUTS):
        self.count, self.rank = count_workers(kv_store), 0
        self.kv_store: Any = kv_store
        self._presence: Presence | None = None
        if kv_store in DISTRIBUTED:
            Workers.joined = True
            self._presence = Presence("worker", address_of(os.environ), timeouts)
            self.kv_store = mx.kv.create(kv_store)
            atexit.register(self._presence.leave)  # before MXNet waits for the others
            self.rank = self.kv_store.rank
            self.kv_store.init(TOTALS_KEY, mx.nd.zeros((TOTALS,)))
            self._presence.update(steps=0)

    @property
    def leads(self) -> bool:
        """Whether this is worker 0."""
        return self.rank == 0

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over the workers of two numbers, float32 on the way if there are several; all must ask."""
        if self._presence is None:
            return values
        self._presence.step()
        array = mx.nd.array(values)
        self.kv_store.push(TOTALS_KEY, array)
        self.kv_store.pull(TOTALS_KEY, array)
        return array.asnumpy().astype(np.float64) / self.count

    def check_alike(self, checksums: Mapping[str, int]) -> None:
        """Raise WorkersError where numbers of 32 bits are not the same for all workers; it names what they are of."""
        halves = {name: np.array(divmod(number, 1 << 16), np.float64) for name, number in checksums.items()}
        # All are exchanged first: each worker makes as many exchanges as the others.
        means = {name: self.mean(half) for name, half in halves.items()}  # exact, since halves are below 2^16
        other = [name for name, half in halves.items() if (means[name] != half).any()]
        if other:
            raise WorkersError(f"another worker has other {' and '.join(other)}: give all the same flags and data")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Tell the others that this worker is at work without them."""
        if self._presence:
            self._presence.update(alone=True)
        try:
            yield
        finally:
            if self._presence:
                self._presence.update(alone=False)

    def share_parameters(self, trainer: mx.gluon.Trainer) -> None:
        """Give all devices of all workers the parameters of the first one, and wait until they have them.

        Gluon leaves this to the first step, where it is a race: once two workers' gradients are summed, the servers
        answer with a gradient whoever asks for a weight.
        """
        trainer._init_kvstore()
        trainer._init_params()
        mx.nd.waitall()
        self.wait_for_all()

    def wait_for_all(self) -> None:
        """Wait until all workers are here."""
        self.mean(np.zeros(TOTALS))  # which nobody has before all have asked


def leave_workers(status: int, message: str = "") -> None:
    """End this process at once, with a message, if it is one of several workers.

    At its normal end MXNet would wait for the others, who wait for this one; whoever started them must see it end.
    """
    if not Workers.joined:
        return
    print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
