"""Read command lines, in the same way in every program."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Sequence


class ArgumentParser(argparse.ArgumentParser):
    """Expands ``~`` where a value starts with it, in ``--flag=~/file`` as well, which shells leave alone."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        return super().parse_known_args([_expand(text) for text in (sys.argv[1:] if args is None else args)], namespace)


def _expand(text: str) -> str:
    flag, equals, value = text.partition("=") if text.startswith("--") else ("", "", text)
    return flag + equals + os.path.expanduser(value)
