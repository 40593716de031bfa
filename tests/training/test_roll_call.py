"""Who waits, is told for whom and how long; who loses another one ends, and nobody else does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import SimpleNamespace

import pytest
from tiny_training import REPOSITORY, STARTED

from aploss_mx.commands import training
from aploss_mx.commands.launch_local import free_port
from aploss_mx.training import distributed, roll_call
from aploss_mx.training.distributed import Workers
from aploss_mx.training.environment import ENVIRONMENT
from aploss_mx.training.roll_call import LOST, Presence, Roll, Timeouts
from aploss_mx.training.serve import main as serve_main

WANTED = {"worker": 2, "server": 1}
QUICK = Timeouts(start=1.5, training=1.0)
LONG = Timeouts(start=60, training=60)


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch):
    monkeypatch.setattr(roll_call, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(roll_call, "SAY_AFTER_SECONDS", 0.2)


class Group:
    """A roll and those who come, all in this process; `ended` has the reasons why processes would have ended."""

    def __init__(self, timeouts: Timeouts):
        self.ended: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self.address = ("127.0.0.1", free_port())
        self.timeouts = timeouts
        self.roll = Roll(self.address, WANTED, timeouts, lambda reason: self.ended.put(("scheduler", reason)))

    def join(self, role: str, steps: int = -1, timeouts: Timeouts = LONG) -> Presence:
        name = f"{role}"
        presence = Presence(role, self.address, timeouts, lambda reason: self.ended.put((name, reason)))
        presence.update(steps=steps)
        return presence

    def reasons(self, count: int) -> list[tuple[str, str]]:
        return [self.ended.get(timeout=20) for _ in range(count)]

    def nobody_ends(self, seconds: float) -> None:
        with pytest.raises(Empty):
            assert self.ended.get(timeout=seconds) is None


def stranger(address) -> socket.socket:
    """A connection of which the test itself is the other end."""
    return socket.create_connection(address)


def hello(role: str, **more) -> bytes:
    return json.dumps({"role": role, "name": "host:1", "start": 60, "training": 60, **more}).encode() + b"\n"


def test_whoever_is_missing_is_named_and_the_wait_ends(capfd):
    group = Group(QUICK)
    group.join("worker")
    group.join("server")
    reasons = group.reasons(3)
    assert {name for name, _ in reasons} == {"worker", "server", "scheduler"}
    host = socket.gethostname()
    for _, reason in reasons:
        assert f"waiting at 127.0.0.1:{group.address[1]}, where 1 of 2 worker(s) and 1 of 1 server(s) have" in reason
        assert f"worker {host}:{os.getpid()}, server {host}:{os.getpid()}), after " in reason
    assert capfd.readouterr().err.count("1 of 2 worker(s) and 1 of 1 server(s)") >= 3  # before that, by each


def test_the_shortest_timeout_of_all_holds():
    group = Group(LONG)
    group.join("worker", timeouts=QUICK)
    assert all("1 of 2 worker(s) and 0 of 1 server(s)" in reason for _, reason in group.reasons(2))


def test_who_comes_late_waits_for_its_own_time():
    group = Group(LONG)
    time.sleep(1)
    group.join("worker", timeouts=Timeouts(1.5, 60))
    group.nobody_ends(0.8)
    group.reasons(2)


@pytest.mark.parametrize("here", [(), ("server",), ("worker", "server"), ("worker", "worker", "server")])
def test_at_the_start_nobody_has_to_make_steps(here):
    group = Group(Timeouts(60, 0.5))
    for role in here:
        group.join(role)
    group.nobody_ends(2)


def test_a_join_that_mxnet_does_not_finish_is_the_end():
    group = Group(Timeouts(1.5, 60))
    for role in ("worker", "worker", "server"):
        group.join(role)
    assert all("MXNet has not joined all" in reason for _, reason in group.reasons(4))


def test_without_a_scheduler_the_wait_ends_as_well(capfd):
    ended: SimpleQueue[str] = SimpleQueue()
    port = free_port()
    Presence("worker", ("127.0.0.1", port), QUICK, ended.put)
    assert f"no scheduler at 127.0.0.1:{port} within 1.5 s" in ended.get(timeout=20)
    assert f"waiting for the scheduler at 127.0.0.1:{port}" in capfd.readouterr().err


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"[]\n" * 3, b""])
def test_another_service_on_the_port_is_told(answer):
    ended: SimpleQueue[str] = SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as server:
        Presence("worker", server.getsockname(), QUICK, ended.put)
        peer, _ = server.accept()
        peer.sendall(answer)
        told = ended.get(timeout=20)
    assert "is none of aploss_mx: is the port right?" in told if answer else "says nothing for 1 s" in told


def test_those_who_are_well_go_on():
    group = Group(QUICK)
    first, second, server = group.join("worker", 1), group.join("worker", 1), group.join("server")
    for _ in range(8):
        first.step()
        second.step()
        group.nobody_ends(0.3)
    first.update(alone=True)  # it evaluates
    group.nobody_ends(2)
    assert server.state.steps == -1


def test_those_who_have_joined_may_take_their_time_over_the_network():
    """It may have to be downloaded: neither wait, for the join or for steps, is meant for that."""
    group = Group(Timeouts(1.5, 1.0))
    for role in ("worker", "worker", "server"):
        group.join(role, steps=0 if role == "worker" else -1).update(alone=role == "worker")
    group.nobody_ends(3)


def test_workers_tell_when_they_have_joined_and_when_they_are_alone(monkeypatch):
    said: list = []
    presence = SimpleNamespace(update=lambda **changes: said.append(changes), leave=lambda: None)
    store = SimpleNamespace(rank=1, init=lambda *_: said.append("initialised"))
    monkeypatch.setattr(distributed, "Presence", lambda *_: presence)
    monkeypatch.setattr(distributed.mx.kv, "create", lambda _: store)
    monkeypatch.setattr(Workers, "joined", False)
    for name, value in zip(ENVIRONMENT, ("worker", "127.0.0.1", "1", "1", "2")):
        monkeypatch.setenv(name, value)
    workers = Workers("dist_sync")
    with pytest.raises(KeyboardInterrupt), workers.alone():
        raise KeyboardInterrupt
    assert said == ["initialised", {"steps": 0}, {"alone": True}, {"alone": False}]


def test_nobody_making_steps_is_the_end():
    group = Group(Timeouts(start=60, training=1))
    for role, steps in (("worker", 5), ("worker", 5), ("server", -1)):
        group.join(role, steps)
    assert all("no step within" in reason for _, reason in group.reasons(4))


@pytest.mark.parametrize(("break_off", "why"), [(True, "has ended"), (False, "says nothing for 1 s")])
def test_a_process_that_is_lost_ends_all(break_off, why):
    group = Group(Timeouts(60, 1))
    group.join("worker", 1)
    group.join("server")
    peer = stranger(group.address)
    peer.sendall(hello("worker"))
    if break_off:
        time.sleep(0.3)
        peer.close()
    reasons = group.reasons(3)
    assert {reason for _, reason in reasons} == {f"worker host:1 (127.0.0.1) {why}: the run cannot go on without it"}


@pytest.mark.parametrize(
    "garbage", [b"", b"\0\1\2\n", b"GET / HTTP/1.0\r\n\r\n", b"[1]\n", b"{}\n", b'{"role": 1}\n', b"x" * 200_000, b"\n"]
)
def test_strangers_are_left_alone(garbage):
    group = Group(LONG)
    for role in ("worker", "worker", "server"):
        group.join(role, 1)
    peer = stranger(group.address)
    peer.sendall(garbage)
    peer.close()
    group.nobody_ends(0.5)


def test_those_who_are_done_may_end():
    group = Group(LONG)
    group.join("server")
    for _ in range(2):
        peer = stranger(group.address)
        peer.sendall(hello("worker", steps=9))
        peer.sendall(hello("worker", steps=9, done=True))
        time.sleep(0.2)
        peer.close()
    group.nobody_ends(1)


def test_a_server_may_end_a_moment_after_the_scheduler(monkeypatch):
    """Both end with MXNet when the run does, in either order."""
    monkeypatch.setattr(roll_call, "BEAT_SECONDS", 0.5)
    ended: SimpleQueue[str] = SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as scheduler:
        Presence("server", scheduler.getsockname(), LONG, ended.put)
        scheduler.accept()[0].close()
        with pytest.raises(Empty):
            ended.get(timeout=0.5)
        assert "has ended" in ended.get(timeout=20)


class Meeting:
    """A kvstore of two workers in this process: whoever pulls waits for the other one."""

    def __init__(self):
        self.barrier = threading.Barrier(2)

    def push(self, key, array) -> None:
        pass

    def pull(self, key, array) -> None:
        self.barrier.wait(timeout=20)


def test_nobody_leaves_while_the_leader_makes_its_page(monkeypatch, tmp_path):
    """Whoever leaves is ended by an alarm if the others do not."""
    group, store, runs = Group(QUICK), Meeting(), {}
    group.join("server")
    for rank in range(2):
        workers = Workers("device")
        workers.count, workers.rank, workers.kv_store, workers._presence = 2, rank, store, group.join("worker", 1)
        runs[tmp_path / str(rank)] = SimpleNamespace(workers=workers, run=dict, log=SimpleNamespace(path=tmp_path))
    data = SimpleNamespace(classes=("one",), samples=[], problems=[])
    for name, stub in {
        "check_run": lambda *_: None,
        "check_dataset": lambda *_, **__: data,
        "preflight": lambda *_: None,
        "set_up": lambda *given: runs[given[-1].save_prefix],
        "write_note": lambda *_: None,
        "format_table": str,
        "plot_training": lambda *_: time.sleep(2.5),  # longer than anyone may make no step
    }.items():
        monkeypatch.setattr(training, name, stub)
    leader = runs[tmp_path / "0"].workers._presence
    left = []
    monkeypatch.setattr(signal, "alarm", lambda _: left.append("too early" if leader.state.alone else "in time"))

    def take_part(folder) -> None:
        flags = ["--kv-store", "dist_sync", "--no-report", "--save-prefix", str(folder)]
        arguments = training.training_parser("", "quickstart", "").parse_args(flags)
        training.run_training(arguments, lambda *_: data, [])
        runs[folder].workers._presence.leave()

    with ThreadPoolExecutor() as pool:
        list(pool.map(take_part, runs))
    assert left == ["in time"] * 2
    assert group.ended.empty()


def serve(role: str, port: int, *flags: str) -> subprocess.Popen:
    environment = {
        **os.environ, "PYTHONPATH": STARTED, "DMLC_ROLE": role, "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(port), "DMLC_NUM_WORKER": "1", "DMLC_NUM_SERVER": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "aploss_mx.training.serve", *flags]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8")


@pytest.mark.parametrize("taken", [0, 1])
def test_a_port_that_is_taken_is_told(taken):
    port = free_port()
    with socket.create_server(("127.0.0.1", port + taken)):
        process = serve("scheduler", port)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"cannot listen on ports {port} and {port + 1} of 127.0.0.1" in told and "in use" in told


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_what_the_environment_of_a_server_lacks_is_told(name, monkeypatch):
    for other in ENVIRONMENT:
        monkeypatch.setenv(other, "1")
    monkeypatch.delenv(name)
    with pytest.raises(SystemExit, match=f"error: a distributed run wants {name} in the environment; .*launch-local"):
        serve_main([])


def test_mxnets_own_wait_ends_in_time():
    """A scheduler and a server whose worker never comes: both are within MXNet then, which knows no end."""
    port = free_port()
    members = [serve(role, port, "--timeout", "8") for role in ("scheduler", "server")]
    for process in members:
        _, told = process.communicate(timeout=100)
        assert process.returncode == LOST
        assert f"waiting at 127.0.0.1:{port + 1}, where 0 of 1 worker(s) and 1 of 1 server(s) have come" in told


def test_a_program_ends_with_its_parent():
    child = "import subprocess, sys, os; p = subprocess.Popen([sys.executable, '-m', 'aploss_mx.parent', \
str(os.getpid()), sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)']); print(p.pid); \
sys.stdout.flush(); p.wait()"
    with subprocess.Popen([sys.executable, "-c", child], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        lines = {parent.stdout.readline().strip() for _ in range(2)}
        (pid,) = lines - {"1"}
        os.kill(parent.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/exe"):
        assert time.monotonic() < end
        time.sleep(0.05)
