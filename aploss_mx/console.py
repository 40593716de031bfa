"""What programs print: whole on any terminal, and harmless to it, whatever names of files and classes hold."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import Any, Iterator, TextIO

from aploss_mx.text import visible


class _Escaping:
    """A text stream that writes control characters as escapes."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(visible(text, lines=True))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def safe_output() -> Iterator[None]:
    """Within, what standard output cannot say, in its encoding or without harm, is written as escapes."""
    stream = sys.stdout
    errors = getattr(stream, "errors", None)
    reconfigure = getattr(stream, "reconfigure", lambda errors: None)  # which what replaces a stream may lack
    reconfigure(errors="backslashreplace")
    sys.stdout = _Escaping(stream)
    try:
        yield
    finally:
        sys.stdout = stream
        reconfigure(errors=errors)


def complain(text: str) -> None:
    """Print to standard error, control characters as escapes."""
    print(visible(text, lines=True), file=sys.stderr)
