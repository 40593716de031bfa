"""Know who of a distributed run is there, say whom it waits for, and end it where one is lost; without MXNet.

MXNet's scheduler, servers and workers wait for each other for ever and in silence. So each of them also tells the
scheduler's process once a second, on the port after MXNet's, that it is there, and hears who is missing. Where that
breaks off, or nobody makes a step any more, all of them end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Callable, Mapping, NamedTuple

from aploss_mx.training.environment import Address

LOST = 75  # exit status of a process that ends because of another one
BEAT_SECONDS = 1.0
LONGEST_SECONDS = 1e6  # sockets take no endless times
SAY_AFTER_SECONDS = 10.0
LONGEST_LINE = 1 << 16  # of a stranger on the port
SILENCE = (socket.timeout, TimeoutError)  # the same from Python 3.10 on

End = Callable[[str], None]


class Timeouts(NamedTuple):
    """Seconds to wait: at the start until all are joined, and then for a sign of life, or a step."""

    start: float = 600
    training: float = 120


TIMEOUTS = Timeouts()


@dataclass(frozen=True)
class State:
    """What a process says of itself."""

    role: str  # worker or server
    name: str
    start: float  # its timeouts
    training: float
    steps: int = -1  # exchanges made with the others; -1 before MXNet has joined them
    alone: bool = False  # it works while the others wait for it
    done: bool = False


def add_timeout_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--timeout``."""
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="with several machines, how long to wait for the others (default: {:g} at the start, {:g} in "
        "training)".format(*TIMEOUTS),
    )


def timeouts_of(seconds: float | None) -> Timeouts:
    """Return what ``--timeout`` means; it is no less than a few beats, and no more than days."""
    if seconds is None:
        return TIMEOUTS
    limited = min(max(5 * BEAT_SECONDS, seconds), LONGEST_SECONDS)  # in this order NaN becomes the least
    return Timeouts(limited, limited)


def end_process(reason: str) -> None:
    """Say why, and end this process at once, whatever its other threads wait for."""
    print(f"error: {reason}", file=sys.stderr, flush=True)
    os._exit(LOST)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Presence:
    """This process's part: it is there until it leaves, and ends where another one is lost.

    Parameters
    ----------
    role : str
        worker or server.
    address : tuple of str and int
        Where the roll is called.
    timeouts : Timeouts
    end : callable
        Ends this process; takes the reason.
    """

    def __init__(self, role: str, address: Address, timeouts: Timeouts, end: End = end_process):
        self.state = State(role, f"{socket.gethostname()}:{os.getpid()}", *timeouts)
        self._address, self._end = address, end
        self._where = "{}:{}".format(*address)
        threading.Thread(target=self._hear, daemon=True).start()

    def update(self, **changes: int | bool) -> None:
        """Change what the process says of itself."""
        self.state = replace(self.state, **changes)

    def step(self) -> None:
        """Count an exchange with the others."""
        self.update(steps=max(0, self.state.steps) + 1)

    def leave(self) -> None:
        """Say that this process is done, and give it so long to end: MXNet waits for the others once more."""
        self.update(done=True)
        time.sleep(2 * BEAT_SECONDS)  # until it is told
        signal.alarm(int(self.state.training) + 1)

    def _hear(self) -> None:
        begin, said = time.monotonic(), ""
        peer = self._connect(begin)
        if peer is None:
            return
        threading.Thread(target=self._beat, args=(peer,), daemon=True).start()
        peer.settimeout(self.state.training)
        try:
            with peer.makefile("rb") as file:
                for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                    told = json.loads(line)
                    if told["lost"]:
                        self._end(told["lost"])
                        return
                    if told["waiting"] != said and time.monotonic() - begin > SAY_AFTER_SECONDS:
                        said = told["waiting"]
                        _say(said or "all are there")
            why = "has ended"
        except (ValueError, TypeError, KeyError):
            why = "is none of aploss_mx: is the port right?"
        except SILENCE:
            why = f"says nothing for {self.state.training:g} s"
        except OSError:
            why = "has ended"
        time.sleep(2 * BEAT_SECONDS)  # after a run that went well a server ends meanwhile
        if not self.state.done:
            self._end(f"the scheduler at {self._where} {why}")

    def _connect(self, begin: float) -> socket.socket | None:
        said = False
        while True:
            try:
                return socket.create_connection(self._address, timeout=5)
            except OSError as error:
                waited = time.monotonic() - begin
                if waited > self.state.start:
                    self._end(f"no scheduler at {self._where} within {self.state.start:g} s ({error})")
                    return None
                if waited > SAY_AFTER_SECONDS and not said:
                    said = True
                    _say(f"waiting for the scheduler at {self._where} ({error})")
            time.sleep(BEAT_SECONDS)

    def _beat(self, peer: socket.socket) -> None:
        with suppress(OSError):  # which `_hear` meets as well
            while True:
                peer.sendall(json.dumps(asdict(self.state)).encode() + b"\n")
                time.sleep(BEAT_SECONDS)


class Roll:
    """The scheduler's part: it knows all who have come, and tells them whom they wait for, or who is lost.

    Parameters
    ----------
    address : tuple of str and int
        Where to listen; OSError if that cannot be.
    wanted : dict of str to int
        How many workers and servers there will be.
    timeouts : Timeouts
        Those of the others hold as well, where they are shorter.
    end : callable
        Ends this process, after all others have been told; takes the reason.
    """

    def __init__(self, address: Address, wanted: Mapping[str, int], timeouts: Timeouts, end: End = end_process):
        self._wanted, self._timeouts, self._end = wanted, timeouts, end
        self._where = "{}:{}".format(*address)
        self._states: dict[socket.socket, State] = {}
        self._came: dict[socket.socket, float] = {}
        self._lost = ""
        self._listener = socket.create_server(address)
        for task in (self._accept, self._watch):
            threading.Thread(target=task, daemon=True).start()

    def _limits(self, begin: float) -> tuple[float, float]:
        """Return until when those who are here wait for the others, and how long they wait for a step."""
        members = list(self._states.items())
        until = [begin + self._timeouts.start, *(self._came[peer] + state.start for peer, state in members)]
        return min(until), min([self._timeouts.training, *(state.training for _, state in members)])

    def _accept(self) -> None:
        while True:
            peer, (host, *_) = self._listener.accept()
            threading.Thread(target=self._hear, args=(peer, host), daemon=True).start()

    def _hear(self, peer: socket.socket, host: str) -> None:
        """Listen to one process until it ends; what is none of ours is left alone."""
        peer.settimeout(self._timeouts.training)
        why = "has ended"
        try:
            with peer.makefile("rb") as file:
                for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                    state = State(**json.loads(line))
                    self._came.setdefault(peer, time.monotonic())
                    self._states[peer] = state
                    peer.settimeout(min(self._timeouts.training, state.training))
        except (ValueError, TypeError):
            why = "says what is none of aploss_mx"
        except SILENCE:
            why = f"says nothing for {peer.gettimeout():g} s"
        except OSError:
            why = "has ended"
        state = self._states.get(peer)
        if state is None:
            peer.close()
        elif not state.done:
            self._lost = self._lost or f"{state.role} {state.name} ({host}) {why}: the run cannot go on without it"

    def _watch(self) -> None:
        begin = since = time.monotonic()
        progress: list[int] = []
        said = ""
        while not self._lost:
            time.sleep(BEAT_SECONDS)
            now = time.monotonic()
            states = list(self._states.values())
            workers = [state for state in states if state.role == "worker"]
            until, patience = self._limits(begin)
            if sum(state.done for state in workers) == self._wanted["worker"]:
                time.sleep(patience)  # a process that is well ends meanwhile
                self._end("all workers are done, but MXNet's scheduler does not end")
                return
            waiting = self._waiting(states)
            if waiting != said and now - begin > SAY_AFTER_SECONDS:
                said = waiting
                _say(said or "all are there")
            steps = [state.steps for state in workers]
            if steps != progress or any(state.alone for state in workers):
                progress, since = steps, now
            starting = waiting or -1 in steps
            if starting and now > until:
                self._lost = waiting or f"MXNet has not joined all that came to {self._where}"
                self._lost += f", after {now - begin:.0f} s: are the ports between all of them open?"
            elif not starting and now - since > patience + 10 * BEAT_SECONDS:  # silence is noticed before
                self._lost = f"no step within {patience:g} s: are the ports between all of them open?"
            self._tell(waiting)
        self._tell("")
        time.sleep(BEAT_SECONDS)
        self._end(self._lost)

    def _waiting(self, states: list[State]) -> str:
        here = {role: [state.name for state in states if state.role == role] for role in self._wanted}
        if all(len(here[role]) >= number for role, number in self._wanted.items()):
            return ""
        count = " and ".join(f"{len(here[role])} of {number} {role}(s)" for role, number in self._wanted.items())
        names = ", ".join(f"{role} {name}" for role, names in here.items() for name in names)
        return f"waiting at {self._where}, where {count} have come" + (f" ({names})" if names else "")

    def _tell(self, waiting: str) -> None:
        line = json.dumps({"waiting": waiting, "lost": self._lost}).encode() + b"\n"
        for peer in list(self._states):
            with suppress(OSError):  # its own thread notices
                peer.sendall(line)
