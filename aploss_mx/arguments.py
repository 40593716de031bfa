"""Read command lines, in the same way in every program."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Callable, Sequence

from aploss_mx.atomic import check_target, check_target_folder
from aploss_mx.console import safe_output


class ArgumentParser(argparse.ArgumentParser):
    """Expands ``~`` where a value starts with it, in ``--flag=~/file`` as well, which shells leave alone.

    Its help can be printed in any encoding.
    """

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        return super().parse_known_args([_expand(text) for text in (sys.argv[1:] if args is None else args)], namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        with safe_output():  # or help would end in a traceback where the terminal's encoding lacks a letter of it
            super()._print_message(message, file)


def output_file(name: str) -> Path:
    """Return the path that a flag names, if a file can be written there: the work for it may take hours."""
    return _writable(name, check_target)


def output_folder(name: str) -> Path:
    """Return the path that a flag names, if files can be written into it, or it can be made."""
    return _writable(name, check_target_folder)


def html_file(name: str) -> Path:
    """Return the path of an `output_file` that is a page: what a flag named by mistake would be overwritten."""
    if not name.lower().endswith((".html", ".htm")):
        raise argparse.ArgumentTypeError(f"must end in .html, not be {name!r}: it would be overwritten")
    return output_file(name)


def _writable(name: str, check: Callable[[Path], None]) -> Path:
    try:
        check(Path(name))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot be written: {error.strerror}: {error.filename}") from error
    return Path(name)


def _expand(text: str) -> str:
    flag, equals, value = text.partition("=") if text.startswith("--") else ("", "", text)
    return flag + equals + os.path.expanduser(value)
