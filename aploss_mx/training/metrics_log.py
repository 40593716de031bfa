"""Log a run's metrics as they come: a CSV file and TensorBoard events."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path
from typing import Any, Mapping

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tqdm import tqdm

from aploss_mx.atomic import free_path, naming, replacing

COLUMNS = (
    "epoch", "step", "seconds", "lr", "loss", "cls_loss", "box_loss", "ap_loss", "score_spread",
    "images_per_second", "AP", "AP50", "AP75", "VOC07_AP50",
)  # fmt: skip


class MetricsLog:
    """Writes rows to ``metrics.csv`` and scalars to ``tensorboard/`` in a run's folder.

    Parameters
    ----------
    folder : Path
    step : int
        Steps done: rows of an interrupted run beyond them are dropped when the first one comes again.
    other_test : bool
        Whether the evaluations in it are not to be compared with those that follow: then they are dropped, too, and a
        copy of the file is kept beside it.

    Attributes
    ----------
    evaluated : set of int
        Steps after which the log held an evaluation, by the same test, when it was opened.
    """

    def __init__(self, folder: Path, step: int = 0, other_test: bool = False):
        self.path = folder / "metrics.csv"
        rows = [row for row in read_metrics(self.path) if int(row["step"]) <= step] if step else []
        self.evaluated = {int(row["step"]) for row in rows if _is_evaluation(row)}
        self._set_aside = other_test and bool(self.evaluated)
        if self._set_aside:
            rows, self.evaluated = [row for row in rows if not _is_evaluation(row)], set()
        self._kept: list[dict[str, str]] | None = rows
        if not step:
            self._begin()
        # Not SummaryWriter, whose thread lags behind and, once it has met a full disk, is waited for for ever.
        (folder / "tensorboard").mkdir(exist_ok=True)
        self.board = EventsWriter(str(folder / "tensorboard" / "events"))
        self._add_event(step + 1, session_log=SessionLog(status=SessionLog.START))

    def _begin(self) -> None:
        """Drop the rows that are not to stay, once; until then another checkpoint may go on after them."""
        if self._kept is None:
            return
        if self._set_aside:
            kept = free_path(self.path.with_name("metrics_before.csv"))
            with naming(kept):
                shutil.copy(self.path, kept)
            tqdm.write(f"{self.path.name} has evaluations by another test and is kept as {kept.name}")
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self._kept)
        self._kept = None

    def write(self, metrics: Mapping[str, float]) -> None:
        """Append a row; columns that `metrics` lacks stay empty, and others are left out."""
        self._begin()
        row = {name: metrics[name] for name in COLUMNS if metrics.get(name) is not None}
        with naming(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
        values = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in row.items()
            if name not in ("epoch", "step")
        ]
        self._add_event(int(row["step"]), summary=Summary(value=values))

    def _add_event(self, step: int, **content: Any) -> None:
        with naming(self.path.parent / "tensorboard"):
            self.board.write_event(Event(step=step, wall_time=time.time(), **content))
            self.board.flush()

    def close(self) -> None:
        """End the TensorBoard file."""
        self.board.close()


class NoLog:
    """Stands in for `MetricsLog` where another worker keeps the log."""

    evaluated: frozenset[int] = frozenset()

    def write(self, metrics: Mapping[str, float]) -> None:
        """Leave the row to the other worker."""

    def close(self) -> None:
        """There is nothing to end."""


def _is_evaluation(row: Mapping[str, str]) -> bool:
    return bool(row.get("AP") or row.get("VOC07_AP50"))


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Return the rows of a metrics file, without one that was cut off; none where there is no file.

    Raises
    ------
    ValueError
        If it has no steps, or other columns than `COLUMNS`.
    """
    if not path.is_file():
        return []
    # What is no text is told with the file's name below.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    rows = list(csv.DictReader(whole))
    names = set().union(*rows)
    if rows and not {"step"} <= names <= set(COLUMNS):
        raise ValueError(f"{path} is not what a training logs: restore it, or remove it")
    return [row for row in rows if (row["step"] or "").isdigit()]
