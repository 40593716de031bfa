"""The command line `aploss-mx COMMAND …`; a command's module is imported once it is called for."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import Sequence

import aploss_mx
from aploss_mx.arguments import ArgumentParser
from aploss_mx.extras import needs
from symbols.mxnet_setup import count_threads

COMMANDS = {
    "train-voc": ("aploss_mx.commands.train_voc", "train on data in PASCAL VOC layout"),
    "train-coco": ("aploss_mx.commands.train_coco", "train on data in COCO layout"),
    "evaluate": ("aploss_mx.commands.evaluate", "score a checkpoint, or saved detections"),
    "report": ("aploss_mx.commands.report", "make an HTML page of a run, of up to four, or of saved detections"),
    "demo": ("aploss_mx.commands.demo", "find objects in photographs and films"),
    "export": ("aploss_mx.commands.export", "write a checkpoint's network as MXNet symbol or ONNX, or smaller"),
    "check": ("aploss_mx.commands.check", "check a data set before it is trained on"),
    "shapes": ("aploss_mx.data.shapes", "paint a small data set to try everything on"),
    "reproduce": ("aploss_mx.commands.reproduce", "run the paper's tables and figures"),
    "launch-local": ("aploss_mx.commands.launch_local", "train with several workers on this machine"),
    "check-gpu": ("aploss_mx.commands.check_gpu", "check the GPU kernels, and time them"),
}
"""By name, the module whose `main` takes the rest of the command line, and what it does."""


def main(argv: Sequence[str] | None = None, prog: str = "aploss-mx") -> int:
    """Run the command that the command line names; return the exit status."""
    commands = "\n".join(f"  {name:14}{what}" for name, (_, what) in COMMANDS.items())
    parser = ArgumentParser(
        prog,
        usage=f"{prog} COMMAND …",
        description=aploss_mx.__doc__.splitlines()[0],
        epilog=f"commands:\n{commands}\n\n{prog} COMMAND --help tells a command's flags.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"aploss_mx {aploss_mx.__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    argv = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    command = parser.parse_args(argv[:1]).command
    return run(command, argv[1:], prog=f"{prog} {command}")


def run(command: str, argv: Sequence[str] | None = None, *, prog: str) -> int:
    """Run a command with its flags, by default the program's own; return the exit status."""
    try:
        count_threads()
    except ValueError as error:  # which would end `import mxnet` with a traceback
        sys.exit(f"error: {error}")
    try:
        try:
            module = import_module(COMMANDS[command][0])
        except ModuleNotFoundError as error:
            sys.exit(f"error: {prog} {needs(error)}")
        except ImportError as error:
            if error.name:  # a name that a module lacks
                raise
            sys.exit(f"error: {error}")  # MXNet's CUDA build finds no driver
        result = module.main(argv, prog=prog)
    except KeyboardInterrupt:  # of a command that has nothing to clear up
        print("\ninterrupted", file=sys.stderr)
        return 130
    except MemoryError as error:  # of one without MXNet
        sys.exit(f"error: {str(error) or 'out of memory'}")
    return result if isinstance(result, int) else 0
