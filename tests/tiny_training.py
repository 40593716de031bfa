"""A training so small that a test can afford it: a narrow network on a few generated shapes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
from contexts import KIND, device
from narrow_network import NAME, register

from aploss_mx.config import Recipe
from aploss_mx.data.shapes import SHAPES_CLASSES, generate
from aploss_mx.data.voc import VOCDetection
from aploss_mx.training.loop import TrainingRun
from aploss_mx.training.options import Options
from aploss_mx.training.setup import set_up

REPOSITORY = Path(__file__).resolve().parents[1]
STARTED = os.pathsep.join(map(str, (REPOSITORY / "tests" / "started", REPOSITORY)))  # PYTHONPATH of programs
register()
SETTINGS = {
    "network": NAME,
    "channels": 16,
    "new_conv_std": "he",
    "pretrained": "none",
    "classes": ",".join(SHAPES_CLASSES),
    "train_split": "2007_train",
    "val_split": "2007_val",
    "augmentation": "flip",
    "data_shape": 64,
    "batch_size": 4,
    "epochs": 1,
    "lr": 0.01,
    "lr_decay_epoch": "",
    "warmup_steps": 0,
    "val_interval": 0,
    "test_short": 64,
    "test_long": 64,
}


def tiny_recipe(**settings) -> Recipe:
    return Recipe.from_dict({**SETTINGS, **settings})


def paint_shapes(root: Path, num_train: int = 8, num_val: int = 4) -> Path:
    return generate(root, num_train=num_train, num_val=num_val, size=64, progress=False)


def link_images(source: Path, target: Path, image_ids: list[str]) -> None:
    """Make a folder in VOC layout with these images of another, which are its split ``tiny``."""
    for folder in ("Annotations", "JPEGImages"):
        (target / folder).mkdir(parents=True)
        for image_id in image_ids:
            (file,) = (source / folder).glob(f"{image_id}.*")
            (target / folder / file.name).symlink_to(file)
    (target / "ImageSets" / "Main").mkdir(parents=True)
    (target / "ImageSets" / "Main" / "tiny.txt").write_text("".join(f"{image_id}\n" for image_id in image_ids))


def tiny_run(shapes: Path, folder: Path, resume: str = "", cpus: int = 1, workers: int = 0, **settings) -> TrainingRun:
    """Return a run in this process, ready to go; every step writes a row of metrics."""
    recipe = tiny_recipe(**settings)
    train = VOCDetection(shapes, recipe.train_split, SHAPES_CLASSES)
    val = VOCDetection(shapes, recipe.val_split, SHAPES_CLASSES)
    devices = [device(number) for number in range(cpus)]
    options = Options(folder, devices, num_workers=workers, resume=resume, log_interval=1)
    return set_up(recipe, SHAPES_CLASSES, train.samples, val.samples, options)


def tiny_flags(shapes: Path, folder: Path, **settings) -> list[str]:
    """Return the command line of `train_voc.py` for the same run."""
    flags = ["--dataset-root", str(shapes), "--save-prefix", str(folder), "--num-workers", "0", "--log-interval", "1"]
    flags += ["--no-report"]
    if KIND == "gpu" and "cpus" not in settings:
        flags += ["--gpus", "0"]
    for name, value in {**SETTINGS, **settings}.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen]:
    """Start a program, on one thread and as leader of a process group, of which nothing outlives the block."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": STARTED, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def running_script(name: str, flags: list[str]):
    """Start a script, as `running` does."""
    return running([sys.executable, str(REPOSITORY / "scripts" / name), *flags])


def run_script(name: str, flags: list[str], seconds: float = 120) -> str:
    """Run a script to its good end and return what it printed."""
    with running_script(name, flags) as process:
        stdout, stderr = process.communicate(timeout=seconds)
    assert process.returncode == 0, stderr
    return stdout


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 90) -> None:
    """Wait while the process runs; fail where it ends, or the time does, before the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended too early: {process.stderr.read()}"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def assert_same_arrays(one: dict, other: dict) -> None:
    """Assert that two dicts of arrays, or of lists of arrays, hold the same bits."""
    assert one.keys() == other.keys()
    for name in one:
        ours, theirs = (value if isinstance(value, list) else [value] for value in (one[name], other[name]))
        assert len(ours) == len(theirs), name
        for mine, yours in zip(ours, theirs):
            assert mine.dtype == yours.dtype, name
            np.testing.assert_array_equal(mine, yours, err_msg=name)
