"""Read command lines, in the same way in every program."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Sequence

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


def html_file(name: str) -> Path:
    """Return the path that a flag names, if it is a page's: what it read by mistake would be overwritten."""
    if not name.lower().endswith((".html", ".htm")):
        raise argparse.ArgumentTypeError(f"must end in .html, not be {name!r}: it would be overwritten")
    return Path(name)


def _expand(text: str) -> str:
    flag, equals, value = text.partition("=") if text.startswith("--") else ("", "", text)
    return flag + equals + os.path.expanduser(value)
