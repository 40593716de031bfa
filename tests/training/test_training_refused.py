"""What a training refuses before it starts, and what it may resume with."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest
from test_settings_arrive import CHANGES
from tiny_training import assert_same_arrays, paint_shapes, tiny_recipe, tiny_run

from aploss_mx.checkpoint import Checkpoint, CheckpointError
from aploss_mx.config import ConfigError, load_recipe
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.training.loop import TrainingRun
from aploss_mx.training.metrics_log import read_metrics
from aploss_mx.training.options import LOCK
from aploss_mx.training.resume import CHANGEABLE
from aploss_mx.training.setup import set_up

OTHER = {**{name: value for name, (value, _) in CHANGES.items()}, "temperature": 1}
"""Another value for each setting of the tiny recipe."""


@contextmanager
def as_somebody() -> Iterator[None]:
    """Root may write anywhere: be somebody else in the block."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def content_of(folder) -> dict[str, tuple[int, int]]:
    """Size and time of all files but the lock: enough to see that none was touched."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.name != LOCK
    }


def test_a_folder_that_holds_a_run_is_left_alone(shapes, trained):
    before = content_of(trained)
    with pytest.raises(ConfigError, match="run holds a run already: .*--resume auto, or .*--save-prefix"):
        tiny_run(shapes, trained)
    assert content_of(trained) == before


@pytest.mark.parametrize("resume", ["", "auto", "{trained}/last.npz"])
def test_the_best_checkpoint_is_not_lost_where_the_last_one_is_gone(shapes, trained, folder, resume):
    folder.mkdir()
    shutil.copy(trained / "best.npz", folder)
    before = content_of(folder)
    with pytest.raises(ConfigError, match="holds (a run already: .*--resume .*best.npz, or|another run than) "):
        tiny_run(shapes, folder, resume=resume.format(trained=trained))
    assert content_of(folder) == before
    tiny_run(shapes, folder, resume=str(folder / "best.npz")).held.close()


# The temperature is of no use to the AP-loss, nor to this test.
@pytest.mark.parametrize("name", sorted(OTHER.keys() - CHANGEABLE - {"temperature"}))
def test_a_run_does_not_go_on_with_another_setting(shapes, trained, name):
    before = content_of(trained)
    with pytest.raises(CheckpointError, match=rf"cannot resume with other settings \({name}: .* → "):
        tiny_run(shapes, trained, resume="auto", **{name: OTHER[name]})
    assert content_of(trained) == before


def test_all_changed_settings_are_named(shapes, trained):
    with pytest.raises(CheckpointError, match=r"\(batch_size: 4 → 2; seed: 0 → 7\)"):
        tiny_run(shapes, trained, resume="auto", batch_size=2, seed=7, epochs=9)


def test_a_run_does_not_go_on_with_other_classes(shapes, trained):
    run = tiny_run(shapes, trained, resume="auto")
    run.held.close()
    with pytest.raises(CheckpointError, match="classes are circle, square"):
        set_up(run.recipe, SHAPES_CLASSES[::-1], [], [], run.options)


def test_every_setting_is_changed_in_these_tests():
    recipe = tiny_recipe()
    assert OTHER.keys() == recipe.to_dict().keys()
    for name, value in OTHER.items():
        base = recipe.override(loss="smooth-ap") if name == "temperature" else recipe
        assert getattr(base.override(**{name: value}), name) != getattr(base, name)


@pytest.mark.parametrize("name", sorted(CHANGEABLE))
def test_these_settings_may_change(shapes, trained, folder, name):
    run = tiny_run(shapes, folder, resume=str(trained / "last.npz"), **{name: OTHER[name]})
    assert (run.epoch, run.step) == (1, 2)
    assert load_recipe(str(folder / "recipe.yaml")) == tiny_recipe(**{name: OTHER[name]})


def test_a_finished_run_that_goes_on_writes_no_row_twice(shapes, folder):
    tiny_run(shapes, folder).run()
    once = read_metrics(folder / "metrics.csv")
    before = Checkpoint.load(folder / "last.npz")
    metrics = tiny_run(shapes, folder, resume="auto").run()
    assert metrics["AP"] == float(once[-1]["AP"])
    assert_same_arrays(Checkpoint.load(folder / "last.npz").parameters, before.parameters)
    assert read_metrics(folder / "metrics.csv") == once


def test_data_without_an_object_to_train_on_are_refused(shapes, folder):
    run = tiny_run(shapes, folder)
    run.held.close()
    with pytest.raises(ConfigError, match="no image has an object to train on"):
        set_up(run.recipe, SHAPES_CLASSES, [], run.val_samples, run.options)


def test_a_missing_checkpoint_is_named_and_no_folder_made(shapes, folder):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*nowhere\.npz"):
        tiny_run(shapes, folder, resume=str(folder / "nowhere.npz"))
    assert not folder.exists()


@pytest.mark.parametrize("cpus", [3, 8])
def test_a_batch_must_divide_evenly_over_the_devices(shapes, folder, cpus):
    with pytest.raises(ConfigError, match=f"batch_size 4 cannot be split evenly over {cpus} devices"):
        tiny_run(shapes, folder, cpus=cpus)
    assert not folder.exists()


@pytest.mark.parametrize("below", ["", "run", "a/b/run"])
def test_a_folder_that_cannot_be_made_is_refused_before_training(shapes, tmp_path, below, monkeypatch):
    monkeypatch.setattr(TrainingRun, "update", lambda *_: pytest.fail("it trains"))
    (tmp_path / "notes.txt").write_text("a regular file")
    with pytest.raises(OSError, match=r"notes\.txt"):
        tiny_run(shapes, tmp_path / "notes.txt" / below).run()
    assert (tmp_path / "notes.txt").read_text() == "a regular file"


def test_a_read_only_folder_is_refused_before_training(monkeypatch):
    monkeypatch.setattr(TrainingRun, "update", lambda *_: pytest.fail("it trains"))
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders are closed to others
        os.chmod(root, 0o755)
        shapes, folder = paint_shapes(Path(root) / "shapes"), Path(root) / "run"
        folder.mkdir(mode=0o555)
        with as_somebody(), pytest.raises(OSError, match="cannot write to --save-prefix .*run: Permission denied"):
            tiny_run(shapes, folder).run()
        assert not list(folder.iterdir())


def test_a_full_disk_is_noticed_before_training(shapes, folder, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(TrainingRun, "update", lambda *_: pytest.fail("it trains"))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="run.*Read-only file system"):
        tiny_run(shapes, folder)
