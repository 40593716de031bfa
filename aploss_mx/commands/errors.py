"""How a command ends where something is wrong: with one message, and a status that says so."""

from __future__ import annotations

import os
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from typing import Iterator

import cv2
import mxnet as mx

from aploss_mx.console import safe_output
from aploss_mx.data.problems import DataError
from aploss_mx.detection.export import ExportError
from aploss_mx.report.runs import RunError
from aploss_mx.text import visible
from aploss_mx.training.distributed import TASK, leave_workers
from aploss_mx.training.loop import TrainingError

SECONDS_TO_LET_TELL = 10
# Of MXNet, CUDA, cuDNN and OpenCV.
NO_MEMORY = ("out of memory", "ALLOC_FAILED", "Failed to allocate CPU Memory", "Insufficient memory")
LESS_MEMORY = (
    "; training needs less with a smaller --batch-size or --data-shape, or more --gpus, and whatever detects with a "
    "smaller --test-short"
)
INTERRUPTED = 130  # exit status of a program that Ctrl-C ends


@contextmanager
def readable_errors() -> Iterator[None]:
    """End the program with one message instead of a traceback where the user can mend what is wrong.

    The environment variable APLOSS_MX_TRACEBACK brings the traceback back. What is printed cannot act on the terminal.
    """
    try:
        with safe_output():
            yield
    except KeyboardInterrupt as interrupt:
        print("; ".join(["\ninterrupted", *map(str, interrupt.args)]), file=sys.stderr)
        leave_workers(INTERRUPTED)
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, MemoryError, TrainingError, ExportError, RunError, mx.MXNetError, cv2.error) as error:
        message = str(error)
        if isinstance(error, mx.MXNetError):
            message = message.strip().splitlines()[-1]  # MXNet puts its own stack above
        no_memory = isinstance(error, MemoryError) or any(sign in message for sign in NO_MEMORY)
        if (isinstance(error, cv2.error) and not no_memory) or os.environ.get("APLOSS_MX_TRACEBACK"):
            leave_workers(1, traceback.format_exc())
            raise
        if no_memory:
            message = (message.strip() or "out of memory") + LESS_MEMORY
        if "CustomOpFBFunc" in message:  # whose own error MXNet prints, and does not pass on
            message = "an operator in Python failed, for the reason that is printed above"
        message = visible(message, lines=True)
        if isinstance(error, DataError) and os.environ.get(TASK, "0") != "0":
            time.sleep(SECONDS_TO_LET_TELL)  # the first worker on this machine has the same error
        leave_workers(1, f"error: {message}")
        with suppress(mx.MXNetError):  # others that are pending, which would be told with a traceback at the end
            mx.nd.waitall()
        sys.exit(f"error: {message}")
    except Exception:
        leave_workers(1, traceback.format_exc())
        raise
