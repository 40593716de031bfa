"""A run that was stopped and resumed ends exactly like one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny_training import (
    assert_same_arrays,
    paint_shapes,
    running,
    running_script,
    tiny_flags,
    tiny_run,
    wait_until,
)

from aploss_mx.atomic import UNFINISHED
from aploss_mx.checkpoint import Checkpoint, CheckpointError
from aploss_mx.commands import train_voc
from aploss_mx.config import ConfigError
from aploss_mx.training.loop import TrainingRun
from aploss_mx.training.metrics_log import read_metrics
from aploss_mx.training.options import LOCK, Options
from aploss_mx.training.resume import omp_num_threads
from symbols.mxnet_setup import count_threads

# Epochs have two steps: the warm-up spans the stop after the first, and a decay follows.
SCHEDULE = {"epochs": 3, "warmup_steps": 4, "warmup_factor": 0.5, "lr_decay_epoch": "2", "lr": 0.008}
RATES = [0.004, 0.005, 0.006, 0.007, 0.0008, 0.0008]


def assert_same_end(folder, other) -> None:
    one, two = Checkpoint.load(folder / "last.npz"), Checkpoint.load(other / "last.npz")
    assert (one.epoch, one.step, one.recipe, one.best) == (two.epoch, two.step, two.recipe, two.best)
    assert_same_arrays(one.parameters, two.parameters)
    assert_same_arrays(one.optimizer, two.optimizer)
    timed = {"seconds", "images_per_second"}
    rows, other_rows = (
        [{name: text for name, text in row.items() if name not in timed} for row in read_metrics(path / "metrics.csv")]
        for path in (folder, other)
    )
    assert rows == other_rows
    for name in ("metrics.json", "detections.json"):
        assert json.loads((folder / name).read_text()) == json.loads((other / name).read_text())


@pytest.mark.parametrize("settings", [{}, {"optimizer": "adam", "lr": 0.002}], ids=["sgd", "adam"])
def test_a_run_that_breaks_off_amid_an_epoch_ends_alike(shapes, folder, monkeypatch, settings):
    settings = {**SCHEDULE, "epochs": 2, **settings}
    whole, broken = folder / "whole", folder / "broken"
    tiny_run(shapes, whole, **settings).run()

    update = TrainingRun.update

    def fail_at_the_fourth(run, batch, rate):
        if run.step == 3:
            raise ConnectionError("the power failed")
        return update(run, batch, rate)

    monkeypatch.setattr(TrainingRun, "update", fail_at_the_fourth)
    with pytest.raises(ConnectionError):
        tiny_run(shapes, broken, **settings).run()
    monkeypatch.undo()
    assert [int(row["step"]) for row in read_metrics(broken / "metrics.csv")] == [1, 2, 3]
    run = tiny_run(shapes, broken, resume="auto", **settings)
    assert (run.epoch, run.step) == (1, 2)
    run.run()
    assert_same_end(broken, whole)


def test_rates_and_steps_after_a_stop(shapes, folder):
    first, second = folder / "first", folder / "second"
    tiny_run(shapes, first, **{**SCHEDULE, "epochs": 1}).run()
    tiny_run(shapes, second, resume=str(first / "last.npz"), **SCHEDULE).run()
    rows = [[row for row in read_metrics(folder / "metrics.csv") if row["lr"]] for folder in (first, second)]
    assert [[int(row["step"]) for row in part] for part in rows] == [[1, 2], [3, 4, 5, 6]]
    assert [float(row["lr"]) for part in rows for row in part] == pytest.approx(RATES)


def test_a_killed_process_goes_on_as_if_nothing_had_happened(folder):
    shapes = paint_shapes(folder / "shapes", num_train=64)  # 16 steps an epoch
    whole, killed = folder / "whole", folder / "killed"
    settings = {"epochs": 2, "augmentation": "ssd", "warmup_steps": 20, "lr_decay_epoch": "1"}

    def flags(folder):
        return [*tiny_flags(shapes, folder, **settings), "--num-workers", "1", "--resume", "auto"]

    train_voc.main(flags(whole))
    with running_script("train_voc.py", flags(killed)) as process:
        wait_until(lambda: (killed / "last.npz").exists() and len(read_metrics(killed / "metrics.csv")) >= 18, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    checkpoint = Checkpoint.load(killed / "last.npz")
    steps = [int(row["step"]) for row in read_metrics(killed / "metrics.csv")]
    assert (checkpoint.epoch, checkpoint.step) == (1, 16)
    assert 16 < steps[-1] < 32  # amid the second epoch

    train_voc.main(flags(killed))
    assert_same_end(killed, whole)
    steps = [int(row["step"]) for row in read_metrics(killed / "metrics.csv") if row["loss"]]
    assert steps == list(range(1, 33))
    assert [path.name for path in killed.glob(".*")] == [LOCK]


@pytest.mark.parametrize("settings", [{}, {"optimizer": "adam", "lr": 0.002}], ids=["sgd", "adam"])
def test_two_devices_go_on_alike(shapes, folder, settings):
    whole, broken = folder / "whole", folder / "broken"
    tiny_run(shapes, whole, cpus=2, epochs=2, **settings).run()
    tiny_run(shapes, broken, cpus=2, epochs=1, **settings).run()
    run = tiny_run(shapes, broken, cpus=2, epochs=2, resume="auto", **settings)
    run.run()
    assert_same_arrays(Checkpoint.load(whole / "last.npz").optimizer, Checkpoint.load(broken / "last.npz").optimizer)
    for name, param in run.network._collect_params_with_prefix().items():
        one, two = (array.asnumpy() for array in param.list_data())
        if not name.endswith(("running_mean", "running_var")):  # each device has statistics of its own
            np.testing.assert_array_equal(one, two, err_msg=name)


def test_a_step_without_any_loss_counts_for_the_schedule_but_not_for_adam(shapes, folder, monkeypatch):
    whole, broken = folder / "whole", folder / "broken"
    update = TrainingRun.update

    def find_no_object_in_the_first_step(run, batch, rate):
        images, class_targets, box_targets = batch
        return update(run, (images, class_targets * (run.step > 0), box_targets), rate)

    monkeypatch.setattr(TrainingRun, "update", find_no_object_in_the_first_step)
    settings = {"optimizer": "adam", "lr": 0.002}
    tiny_run(shapes, whole, epochs=2, **settings).run()
    tiny_run(shapes, broken, epochs=1, **settings).run()
    tiny_run(shapes, broken, epochs=2, resume="auto", **settings).run()
    one, two = Checkpoint.load(whole / "last.npz"), Checkpoint.load(broken / "last.npz")
    assert (one.step, one.updates) == (two.step, two.updates) == (4, 3)
    assert_same_arrays(one.parameters, two.parameters)
    assert_same_arrays(one.optimizer, two.optimizer)


def test_an_evaluation_that_breaks_off_is_made_up_for(shapes, folder, monkeypatch):
    whole, broken = folder / "whole", folder / "broken"
    tiny_run(shapes, whole, epochs=2, val_interval=1).run()
    evaluate = TrainingRun.evaluate

    def fail(*_):
        raise ConnectionError("the power failed")

    monkeypatch.setattr(TrainingRun, "evaluate", fail)
    with pytest.raises(ConnectionError):
        tiny_run(shapes, broken, epochs=2, val_interval=1).run()
    assert Checkpoint.load(broken / "last.npz").epoch == 1
    monkeypatch.setattr(TrainingRun, "evaluate", evaluate)
    tiny_run(shapes, broken, epochs=2, val_interval=1, resume="auto").run()
    assert_same_end(whole, broken)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"epochs": 3, "lr": 0.1}, True),
        ({"epochs": 3, "test_short": 32}, False),
        ({"epochs": 3, "max_detections": 5}, False),
        ({"epochs": 3, "val_split": "2007_train"}, False),
    ],
)
def test_the_best_evaluation_counts_as_long_as_it_is_measured_alike(shapes, trained, folder, settings, kept):
    shutil.copytree(trained, folder)
    best, content = Checkpoint.load(folder / "last.npz").best, (folder / "best.npz").read_bytes()
    run = tiny_run(shapes, folder, resume="auto", **settings)
    assert run.best == (best if kept else {})
    run.log.close()
    run.held.close()
    before = folder / ("best.npz" if kept else f"best_epoch{best['epoch']}.npz")
    assert before.read_bytes() == content and (folder / "best.npz").exists() == kept


def names_of(folder):
    return sorted(path.name for path in folder.glob("*.npz"))


def test_no_kept_checkpoint_is_overwritten(shapes, trained, folder, capsys):
    shutil.copytree(trained, folder)
    tiny_run(shapes, folder, resume="auto", epochs=2, test_short=32).run()
    assert names_of(folder) == ["best.npz", "best_epoch1.npz", "last.npz"]
    first = (folder / "best_epoch1.npz").read_bytes()
    epoch = Checkpoint.load(folder / "best.npz").epoch
    run = tiny_run(shapes, folder, resume=str(folder / "best_epoch1.npz"), epochs=2, test_short=32)
    run.log.close()
    run.held.close()
    kept = "best_epoch1_2.npz" if epoch == 1 else "best_epoch2.npz"
    assert f"is kept as {kept}" in capsys.readouterr().out
    assert (folder / "best_epoch1.npz").read_bytes() == first
    assert Checkpoint.load(folder / kept).epoch == epoch
    (folder / "best.npz").write_bytes(b"damaged")
    run = tiny_run(shapes, folder, resume=str(folder / "best_epoch1.npz"), epochs=2, test_short=48)
    run.log.close()
    run.held.close()
    assert (folder / "best_of_before.npz").read_bytes() == b"damaged"


def test_a_finished_run_is_measured_anew_by_another_test(shapes, trained, folder):
    shutil.copytree(trained, folder)
    metrics = tiny_run(shapes, folder, resume="auto", test_short=32).run()
    for name in ("best.npz", "last.npz"):
        checkpoint = Checkpoint.load(folder / name)
        assert checkpoint.recipe.test_short == 32 and checkpoint.best["AP"] == metrics["AP"]
    assert float(read_metrics(folder / "metrics.csv")[-1]["AP"]) == metrics["AP"]
    again = tiny_run(shapes, folder, resume="auto", test_short=32)
    assert not again.remeasure and again.best["AP"] == metrics["AP"]
    again.log.close()
    again.held.close()


@pytest.mark.parametrize("interval", [1, 0])
def test_evaluations_by_two_tests_are_not_mixed(shapes, trained, folder, interval):
    """Another test measures what it resumes from at once, so that metrics.json is never of the test before."""
    shutil.copytree(trained, folder)
    tiny_run(shapes, folder, resume="auto", epochs=2, val_interval=interval, test_short=32).run()
    rows, before = read_metrics(folder / "metrics.csv"), read_metrics(folder / "metrics_before.csv")
    assert [row["epoch"] for row in rows if row["AP"]] == ["1", "2"]
    steps = [row for row in before if not row["AP"]]
    assert len(steps) < len(before) and [row for row in rows if not row["AP"]][: len(steps)] == steps


def test_rows_stay_until_they_come_again(shapes, trained, folder):
    """Who resumes from an older checkpoint, and thinks better of it, has lost none."""
    shutil.copytree(trained, folder)
    shutil.copy(folder / "last.npz", folder / "older.npz")
    tiny_run(shapes, folder, epochs=2, val_interval=1, resume="auto").run()
    rows = (folder / "metrics.csv").read_text()
    run = tiny_run(shapes, folder, epochs=2, val_interval=1, resume=str(folder / "older.npz"))
    assert (folder / "metrics.csv").read_text() == rows
    run.log.write({"epoch": 2, "step": run.step + 1, "loss": 1})
    run.log.close()
    run.held.close()
    steps = [int(row["step"]) for row in read_metrics(folder / "metrics.csv")]
    assert steps[-1] == run.step + 1 and max(steps[:-1]) == run.step


@pytest.mark.parametrize("threads", ["1\r", " 2 , 1\n", ",".join(["2"] * 30)])
def test_whatever_number_of_threads_is_noted_can_be_read(trained, folder, monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert count_threads()
    noted = omp_num_threads()
    replace(Checkpoint.load(trained / "last.npz"), omp_num_threads=noted).save(folder / "noted.npz")
    assert Checkpoint.load(folder / "noted.npz").omp_num_threads == noted


def test_the_best_of_a_new_folder_is_in_it(shapes, trained, folder):
    run = tiny_run(shapes, folder, resume=str(trained / "last.npz"), epochs=3)
    assert run.best == {}
    run.run()
    assert (folder / "best.npz").exists()


def test_another_number_of_devices_is_told_and_can_be_made_up_for(shapes, folder, capsys):
    tiny_run(shapes, folder, cpus=2, epochs=1).run()
    for cpus, ranking_batch, told in ((2, 0, False), (1, 0, True), (1, 2, False)):
        run = tiny_run(shapes, folder, cpus=cpus, epochs=2, ranking_batch=ranking_batch, resume="auto")
        run.log.close()
        run.held.close()
        text = "2 images were ranked and normalised together, and now 4: another training"
        assert (text in capsys.readouterr().out) == told
    with pytest.raises(CheckpointError, match="other settings .ranking_batch: 0 → 4"):
        tiny_run(shapes, folder, epochs=2, ranking_batch=4, resume="auto")


CHECK_FREE = """
import sys
from pathlib import Path
from aploss_mx.training.options import Options
for _ in range(5000):
    Options(Path(sys.argv[1]), []).check_free()
"""


def test_programs_that_look_at_a_folder_do_not_refuse_each_other(tmp_path):
    """As workers do that resume together."""
    options = Options(tmp_path, [])
    options.lock().close()
    written = (tmp_path / LOCK).stat()
    with running([sys.executable, "-c", CHECK_FREE, str(tmp_path)]) as process:
        while process.poll() is None:
            options.check_free()
        assert process.returncode == 0, process.stderr.read()
    assert (tmp_path / LOCK).stat().st_mtime_ns == written.st_mtime_ns
    with options.lock(), pytest.raises(ConfigError, match=f"process {os.getpid()} on .* trains in"):
        options.check_free()
    options.check_free()


def test_a_folder_is_of_one_training_at_a_time(shapes, folder):
    first = tiny_run(shapes, folder)
    last = first.options.last
    with pytest.raises(ConfigError, match=f"process {os.getpid()} on .* trains in {folder}: wait for it, or choose"):
        tiny_run(shapes, folder, resume="auto")
    with pytest.raises(SystemExit, match="trains in"):
        train_voc.main(tiny_flags(shapes, folder))
    first.run()
    written = last.stat().st_mtime_ns
    with pytest.raises(ConfigError, match="holds a run already"):
        tiny_run(shapes, folder)
    assert last.stat().st_mtime_ns == written
    with pytest.raises(CheckpointError, match="other settings"):
        tiny_run(shapes, folder, resume="auto", lr=0.3, batch_size=8)
    tiny_run(shapes, folder, resume="auto", epochs=2).run()  # neither end nor error keep the folder


def test_what_killed_programs_leave_is_cleared_away(shapes, folder):
    folder.mkdir()
    other, left = folder.parent / "other", folder / f"{UNFINISHED}01234567.last.npz"
    other.write_text("precious")
    left.symlink_to(other)
    tiny_run(shapes, folder).run()
    assert other.read_text() == "precious"
    assert [path.name for path in folder.glob(".*")] == [LOCK]


def test_another_number_of_threads_is_told(shapes, folder, capsys, monkeypatch):
    """Sums of several threads end in other bits."""
    tiny_run(shapes, folder).run()
    assert Checkpoint.load(folder / "last.npz").omp_num_threads == os.environ["OMP_NUM_THREADS"]
    tiny_run(shapes, folder, resume="auto", epochs=2)
    assert "OMP_NUM_THREADS" not in capsys.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", "63")
    tiny_run(shapes, folder, resume="auto", epochs=2)
    assert "OMP_NUM_THREADS was 1 and is 63" in capsys.readouterr().out
