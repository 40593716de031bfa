"""Carry out trials: train and test, as many at a time as there are devices for them."""

from __future__ import annotations

import shlex
import sys
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Callable, Sequence

from tqdm import tqdm

from aploss_mx.config import RANKING_LOSSES, load_recipe
from aploss_mx.progress import track
from aploss_mx.report.paper import to_flags
from aploss_mx.report.plan import PROGRAM, Trial
from aploss_mx.report.runs import LOG, RunError, Runner, about, is_done, read_json
from aploss_mx.report.tables import measured_row
from aploss_mx.text import visible

TEST = "test"  # folder within a run's, of a test that is not the training's


@dataclass(frozen=True)
class Execution:
    """Where and how trials are carried out.

    Attributes
    ----------
    runner : Runner
    runs : Path
        Folder of the runs.
    voc_root, coco_root : str
        Folders of the data.
    pretrained : str
        Weights to start from; '' for the recipe's.
    gpus : sequence of str
        GPUs of a run, for each that may be at work at a time; '' for the CPU.
    jobs : int
        Runs at a time.
    """

    runner: Runner
    runs: Path
    voc_root: str
    coco_root: str
    pretrained: str
    gpus: Sequence[str]
    jobs: int

    def root_of(self, trial: Trial) -> str:
        """Return the folder of a trial's data."""
        return self.coco_root if trial.coco else self.voc_root

    def folder_of(self, trial: Trial) -> Path:
        """Return the folder of a trial's run."""
        return self.runs / trial.run

    def finish(self, trials: Sequence[Trial], record: Callable[[Trial], None] = lambda trial: None) -> list[Trial]:
        """Train and test trials; returns those that are finished, having said of the others why not.

        `record` is called with each once it is finished.
        """
        free: SimpleQueue[str] = SimpleQueue()
        for gpus in islice(cycle(self.gpus), self.jobs):
            free.put(gpus)
        runs: dict[str, list[Trial]] = {}
        for trial in trials:
            runs.setdefault(trial.run, []).append(trial)
        failed = set()
        with ThreadPoolExecutor(self.jobs) as pool, track(total=len(runs), unit="runs") as bar:
            outcomes: dict[Future, str] = {pool.submit(self._finish, run, free): name for name, run in runs.items()}
            try:
                for outcome in as_completed(outcomes):
                    name = outcomes[outcome]
                    try:
                        outcome.result()
                        for trial in runs[name]:
                            record(trial)
                    except (RunError, OSError, ValueError) as error:
                        failed.add(name)
                        tqdm.write(visible(f"{name}: {error}", lines=True), file=sys.stderr)
                    bar.update()
            except BaseException:
                self.runner.stop()  # or leaving the pool would wait for all runs
                raise
        return [trial for trial in trials if trial.run not in failed]

    def _finish(self, trials: Sequence[Trial], free: SimpleQueue[str]) -> None:
        """Finish a run, and the tests of trials that share it."""
        self.runner.check()
        folder, root = self.folder_of(trials[0]), self.root_of(trials[0])
        places = {"dataset_root": root, "save_prefix": folder}
        if self.pretrained:
            places["pretrained"] = self.pretrained
        command = trials[0].train_command(places)
        gpus = free.get()
        where = [*_on(gpus), "--no-report"]
        try:
            if not is_done(folder):
                tqdm.write(f"{shlex.join([*command, *where])}  # log: {folder / LOG}")
            self.runner.finish(command, folder, where)
            for test in (trial.test for trial in trials if trial.test and trial.scored_here):
                split = load_recipe(str(folder / "recipe.yaml")).val_split
                places = {"dataset_root": root, "split": split, "output": folder / TEST / "metrics.json"}
                command = [*PROGRAM, "evaluate", *to_flags({"params": folder / "last.npz", **test, **places})]
                self.runner.finish(command, folder / TEST, _on(gpus.split(",")[0]))
        finally:
            free.put(gpus)

    def measure(self, trial: Trial) -> dict[str, str]:
        """Return the CSV row of a finished trial.

        Raises
        ------
        OSError, ValueError
            If what a run left cannot be read.
        """
        folder = self.folder_of(trial)
        metrics, commits = read_json(folder / "metrics.json"), about(folder)["commit"].split(", ")
        if trial.test:
            metrics = {**read_json(folder / TEST / "metrics.json"), "epoch": metrics["epoch"]}
            commits += about(folder / TEST)["commit"].split(", ")
        return measured_row(trial.name, trial.seed, metrics, ", ".join(dict.fromkeys(filter(None, commits))))


def _on(gpus: str) -> list[str]:
    return ["--gpus", gpus] if gpus else []


def check_gpus(trials: Sequence[Trial], gpus: Sequence[str]) -> None:
    """Check that each run means the same on its GPUs as on one, before any starts.

    Raises
    ------
    ValueError
        If its images cannot be shared out, or a ranking would be of fewer of them.
    """
    for devices in (len(one.split(",")) for one in gpus):
        for trial in trials:
            recipe = trial.recipe()
            group = recipe.ranking_batch or (recipe.batch_size if recipe.loss in RANKING_LOSSES else 1)
            if recipe.batch_size % devices or (recipe.batch_size // devices) % group:
                raise ValueError(
                    f"{trial.name}: {recipe.batch_size} images a step, in groups of {group}, cannot be shared out to "
                    f"{devices} GPUs: give fewer to a run, such as --gpus 0 1, with which two runs have one each"
                )
