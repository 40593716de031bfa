"""Run MXNet's scheduler or a server of a distributed run, whichever DMLC_ROLE says, until the run ends.

python -m aploss_mx.training.serve
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys

from aploss_mx.arguments import ArgumentParser
from aploss_mx.training.environment import WorkersError, address_of, check_environment
from aploss_mx.training.roll_call import Presence, Roll, Timeouts, add_timeout_flag, timeouts_of


def main(argv: list[str] | None = None) -> None:
    """Serve; importing MXNet does that."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_timeout_flag(parser)
    timeouts = timeouts_of(parser.parse_args(argv).timeout)
    try:
        check_environment(os.environ)
    except WorkersError as error:
        sys.exit(f"error: {error}")
    role, address = os.environ.get("DMLC_ROLE"), address_of(os.environ)
    if role == "scheduler":
        call_roll(address, timeouts)
    elif role == "server":
        Presence(role, address, timeouts)
    else:
        sys.exit(f"error: DMLC_ROLE must be scheduler or server here, not {role!r}")
    importlib.import_module("mxnet")


def call_roll(address: tuple[str, int], timeouts: Timeouts) -> None:
    """Start to call the roll, or end where a port is taken, with which MXNet would abort."""
    host, port = address
    try:
        socket.create_server((host, port - 1)).close()
        Roll(address, {kind: int(os.environ[f"DMLC_NUM_{kind.upper()}"]) for kind in ("worker", "server")}, timeouts)
    except OSError as error:
        sys.exit(f"error: the scheduler cannot listen on ports {port - 1} and {port} of {host}: {error}")


if __name__ == "__main__":
    main()
