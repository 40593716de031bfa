"""Run a training as several workers on this machine, joined by MXNet's parameter servers, to try that out.

%(prog)s --workers 2 train-voc --kv-store dist_sync --recipe quickstart --epochs 1 --lr-decay-epoch '' \\
    --dataset-root datasets/shapes --save-prefix runs/two_workers

Starts a scheduler, servers and workers as processes with the environment that MXNet wants, and ends them all where one
of them fails: the others would wait for it for ever. The batch is that of all workers together. In place of train-voc
or train-coco a script of your own may stand, by its path, if it joins by aploss_mx.training.distributed.Workers. The
command's --timeout holds for scheduler and servers as well.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Sequence

from aploss_mx.arguments import ArgumentParser
from aploss_mx.commands.errors import INTERRUPTED
from aploss_mx.commands.flags import positive_int
from aploss_mx.devices import sharing_cores
from aploss_mx.training.distributed import TASK
from aploss_mx.training.roll_call import LOST, add_timeout_flag

TRAININGS = ("train-voc", "train-coco")
PACKAGES = Path(__file__).resolve().parents[2]  # where aploss_mx lies, which a script's process may not know
END_WITH_PARENT = [sys.executable, "-m", "aploss_mx.parent"]
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 10  # between asking a process to end and ending it


class Member(NamedTuple):
    """A process of the group, and what it is called in messages."""

    name: str
    process: subprocess.Popen


def free_port() -> int:
    """Return a port of this machine that nobody listens on now, nor on the next one."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, suppress(OSError, OverflowError):
            port = first.getsockname()[1]
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port


def start(command: Sequence[str], workers: int, servers: int) -> list[Member]:
    """Start scheduler, servers and workers; the workers come last."""
    environment = {
        **sharing_cores(workers),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")])),
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(free_port()),
        "DMLC_NUM_WORKER": str(workers),
        "DMLC_NUM_SERVER": str(servers),
        "DMLC_INTERFACE": "lo",
    }
    members = []
    serve = serving(command)
    for role, count, arguments in (
        ("scheduler", 1, serve),
        ("server", servers, serve),
        ("worker", workers, program(command)),
    ):
        for number in range(count):
            process = subprocess.Popen(
                [*END_WITH_PARENT, str(os.getpid()), sys.executable, *arguments],
                env={**environment, "DMLC_ROLE": role, TASK: str(number)},
                start_new_session=True,
            )
            members.append(Member(f"{role} {number}" if count > 1 else role, process))
    return members


def serving(command: Sequence[str]) -> list[str]:
    """Return what Python runs for the scheduler or a server of a training, with its ``--timeout``."""
    parser = ArgumentParser(prog=command[0], add_help=False)
    add_timeout_flag(parser)
    timeout = parser.parse_known_args(command[1:])[0].timeout
    return ["-m", "aploss_mx.training.serve", *([] if timeout is None else [f"--timeout={timeout}"])]


def program(command: Sequence[str]) -> list[str]:
    """Return what Python runs for a training's name or a script."""
    return [*(["-m", "aploss_mx"] if command[0] in TRAININGS else []), *command]


def watch(members: Sequence[Member], workers: int) -> int:
    """Wait until all workers have ended well, or one member has not; return the exit status of the group."""
    while True:
        statuses = [member.process.poll() for member in members]
        # A process that ends because of another one does so after it.
        for member, status in sorted(zip(members, statuses), key=lambda pair: pair[1] == LOST):
            if status:
                how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
                print(f"launch_local: {member.name} ended with {how}; stopping the others", file=sys.stderr)
                return status if status > 0 else 128 - status
        if all(status == 0 for status in statuses[-workers:]):
            return 0
        time.sleep(POLL_SECONDS)


def stop(members: Sequence[Member]) -> None:
    """End what still runs, with all that it started; loaders may outlive their worker."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for member in members:
            with suppress(ProcessLookupError):
                os.killpg(member.process.pid, signal_number)
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and any(member.process.poll() is None for member in members):
            time.sleep(POLL_SECONDS)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=positive_int, default=2, help="worker processes (default: %(default)s)")
    parser.add_argument("--servers", type=positive_int, default=1, help="parameter servers (default: %(default)s)")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND …", help="a training, or a script, and its flags"
    )
    arguments = parser.parse_args(argv)
    if not arguments.command:
        parser.error("give the training or the script to run, and its flags, with --kv-store dist_sync among them")
    if {"-h", "--help"} & set(arguments.command):
        sys.exit(subprocess.call([sys.executable, *program(arguments.command)]))
    if not any(flag.startswith("dist") or "=dist" in flag for flag in arguments.command):
        parser.error("it must join the servers: give it --kv-store dist_sync")
    if arguments.command[0] not in TRAININGS and not Path(arguments.command[0]).is_file():
        parser.error(f"there is no script {arguments.command[0]}")
    # The members have sessions of their own, and would outlive this process.
    handlers = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # as nohup asks for
    }
    members = start(arguments.command, arguments.workers, arguments.servers)
    try:
        status = watch(members, arguments.workers)
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        stop(members)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    sys.exit(status)
