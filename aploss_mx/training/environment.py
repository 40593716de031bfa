"""Read what DMLC's environment variables tell each process of a distributed run."""

from __future__ import annotations

from typing import Mapping, Tuple

# What MXNet reads when it is imported; the highest that a number may be.
ENVIRONMENT = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_SERVER", "DMLC_NUM_WORKER")
HIGHEST = {"DMLC_PS_ROOT_PORT": 65534, "DMLC_NUM_SERVER": 65535, "DMLC_NUM_WORKER": 65535}

Address = Tuple[str, int]


class WorkersError(ValueError):
    """Workers that cannot join; the message says why."""


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise WorkersError where a variable of a distributed run is missing, or not the number that it must be."""
    missing = ", ".join(name for name in ENVIRONMENT if not environment.get(name))
    if missing:
        raise WorkersError(
            f"a distributed run wants {missing} in the environment; on one machine, aploss-mx launch-local sets them"
        )
    for name, highest in HIGHEST.items():
        number = environment[name]
        if not (number.isdecimal() and 1 <= int(number) <= highest):
            raise WorkersError(f"{name} must be a whole number in 1 … {highest}, not {number!r}")


def address_of(environment: Mapping[str, str]) -> Address:
    """Return where the roll is called: on the scheduler's machine, one port after MXNet's own."""
    return environment["DMLC_PS_ROOT_URI"], int(environment["DMLC_PS_ROOT_PORT"]) + 1
