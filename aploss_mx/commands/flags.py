"""Flags that several commands share."""

from __future__ import annotations

import argparse
import sys
from typing import Sequence

import mxnet as mx

from aploss_mx.devices import count_cores, parse_devices


def positive_int(text: str) -> int:
    """Return a number from 1 for argparse, which reports others."""
    return count(text, least=1)


def count(text: str, least: int = 0) -> int:
    """Return a number from `least` for argparse, which reports others."""
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, not {number}")
    return number


def nonnegative(text: str) -> float:
    """Return a number from 0 for argparse, which reports others."""
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, not {text}")
    return number


def fraction(text: str) -> float:
    """Return a number from 0 to 1 for argparse, which reports others."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must lie in 0 … 1, not {text}")
    return number


def add_gpus_flag(parser: argparse.ArgumentParser, example: str = "0") -> None:
    """Add ``--gpus``; an example that names one GPU is of a command that takes one, see `one_device`."""
    what = "GPUs" if "," in example else "GPU"
    parser.add_argument("--gpus", default="", metavar=example, help=f"{what} to use (default: the CPU)")


def add_workers_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--num-workers``."""
    parser.add_argument(
        "--num-workers",
        type=count,
        default=min(8, count_cores()),
        metavar="N",
        help="processes that load images; 0: this one does (default: %(default)s)",
    )


def command_line(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> list[str]:
    """Return the words that a command was called with."""
    return [*parser.prog.split(), *(sys.argv[1:] if argv is None else argv)]


def one_device(arguments: argparse.Namespace) -> mx.Context:
    """Return the device that ``--gpus`` names.

    Raises
    ------
    ValueError
        If it names several, or as `parse_devices`.
    """
    devices = parse_devices(arguments.gpus)
    if len(devices) > 1:
        raise ValueError(f"--gpus {arguments.gpus}: detection runs on one device")
    return devices[0]
