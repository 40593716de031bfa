"""Ctrl-C that lets the step at work finish: MXNet and its workers do not survive being torn out of one."""

from __future__ import annotations

import signal
import sys
from typing import Any


class GracefulInterrupt:
    """While entered, the first Ctrl-C waits for the next `check`; a second one ends the program at once.

    Outside the main thread, and where Ctrl-C is ignored as in background jobs, nothing changes.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._previous: Any = None

    def __enter__(self) -> GracefulInterrupt:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                self._previous = signal.signal(signal.SIGINT, self._press)
            except ValueError:  # not the main thread
                self._previous = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _press(self, *_: object) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        print("\nstopping after this step; once more stops at once", file=sys.stderr)

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.pressed:
            raise KeyboardInterrupt
