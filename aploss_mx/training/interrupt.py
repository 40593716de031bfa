"""Let the step at work finish when Ctrl-C is pressed: MXNet and its workers do not survive being torn out of one."""

from __future__ import annotations

import os
import signal
from typing import Any

STDERR = 2


class GracefulInterrupt:
    """While entered, the first Ctrl-C waits for the next `check`; a second one ends the program at once.

    Outside the main thread, and where Ctrl-C is ignored as in background jobs, nothing changes.

    Parameters
    ----------
    work : str
        What is waited for, in the message.
    """

    def __init__(self, work: str = "step") -> None:
        self.pressed = False
        self._message = f"\nstopping after this {work}; Ctrl-C once more stops at once\n".encode()
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
        # print() may not be entered again where the signal struck inside it.
        os.write(STDERR, self._message)

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.pressed:
            raise KeyboardInterrupt
