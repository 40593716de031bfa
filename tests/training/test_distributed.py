"""Several workers: each has its part of a batch, together they make the steps of one, and none outlives another."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from tiny_training import STARTED, tiny_flags, tiny_run, wait_until

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import errors, launch_local, train_voc
from aploss_mx.commands.errors import INTERRUPTED
from aploss_mx.config import Recipe
from aploss_mx.data.loader import EpochSampler
from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.data.voc import VOCDetection
from aploss_mx.training import setup
from aploss_mx.training.checksums import checksums
from aploss_mx.training.distributed import Workers, count_workers
from aploss_mx.training.environment import ENVIRONMENT, HIGHEST, WorkersError
from aploss_mx.training.metrics_log import read_metrics

WHOLE = dict(zip(ENVIRONMENT, ("worker", "127.0.0.1", "9000", "1", "3")))
EPOCHS = 10  # of two steps


def flags_of(shapes: Path, folder: Path, **settings) -> list[str]:
    return tiny_flags(shapes, folder, **{"epochs": EPOCHS, **settings})


@pytest.fixture(autouse=True)
def workers_know_the_tests_network(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", STARTED)


def launch(*flags: str) -> list[str]:
    return ["--workers", "2", "train-voc", "--kv-store", "dist_sync", *flags]


def test_without_servers_there_is_one_worker():
    for kv_store in ("device", "local"):
        workers = Workers(kv_store)
        assert (workers.count, workers.rank, workers.leads, workers.kv_store) == (1, 0, True, kv_store)
        np.testing.assert_array_equal(workers.mean(np.array([0.1, 7])), [0.1, 7])


def test_the_environment_says_how_many():
    assert count_workers("dist_sync", WHOLE) == 3
    assert count_workers("device", {}) == 1


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_what_the_environment_lacks_is_told(name):
    with pytest.raises(WorkersError, match=rf"wants {name} in the environment; .*launch-local"):
        count_workers("dist_sync", {**WHOLE, name: ""})


@pytest.mark.parametrize("name", HIGHEST)
@pytest.mark.parametrize("number", ["0", "two", "-1", "²", "1.0", "65536"])
def test_no_number_in_the_environment_is_told(name, number):
    with pytest.raises(WorkersError, match=f"{name} must be a whole number in 1 … 6553., not '{number}'"):
        count_workers("dist_sync", {**WHOLE, name: number})


def test_workers_of_other_settings_classes_or_data_are_told_what_differs(shapes):
    samples = VOCDetection(shapes, "2007_train", SHAPES_CLASSES).samples
    recipe, first = Recipe(), samples[0]
    ours = checksums(recipe, ("a", "b"), samples)
    assert ours == checksums(recipe.override(pretrained="elsewhere.npz"), ["a", "b"], list(samples))
    others = {
        "settings": checksums(recipe.override(lr=0.5), ("a", "b"), samples),
        "classes": checksums(recipe, ("b", "a"), samples),
        "training data": checksums(recipe, ("a", "b"), samples[1:]),
        "settings and classes": checksums(recipe.override(seed=1), ("a", "c"), samples),
    }
    for change in ({"boxes": first.boxes + 1}, {"labels": first.labels[::-1] + 1}, {"image_id": "x"}):
        assert checksums(recipe, ("a", "b"), [replace(first, **change), *samples[1:]]) != ours
    workers = Workers("device")
    workers.check_alike(ours)
    for name, theirs in others.items():
        numbers = iter(theirs.values())
        workers.mean = lambda values, numbers=numbers: (values + divmod(next(numbers), 1 << 16)) / 2
        with pytest.raises(WorkersError, match=f"another worker has other {name}: "):
            workers.check_alike(ours)


@pytest.mark.parametrize("other", [pytest.param("settings", marks=pytest.mark.slow), "pretrained weights"])
def test_a_run_of_workers_with_other_flags_does_not_start(other, shapes, tmp_path, capfd):
    weights = str(tmp_path / "backbone.params")
    tiny_run(shapes, tmp_path / "start").network.backbone.save_parameters(weights)
    more = {"settings": ["--seed", "5"], "pretrained weights": ["--pretrained", weights]}
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from aploss_mx.commands import train_voc\n"
        f"more = {more[other]} if os.environ['DMLC_TASK_ID'] == '1' else []\n"
        "train_voc.main([*sys.argv[1:], *more])\n"
    )
    flags = flags_of(shapes, tmp_path / "run")
    with pytest.raises(SystemExit) as end:
        launch_local.main(["--workers", "2", str(script), "--kv-store", "dist_sync", *flags])
    assert end.value.code not in (0, None)
    assert f"another worker has other {other}: give all the same flags and data" in capfd.readouterr().err
    assert not list((tmp_path / "run").glob("*.npz"))


def test_what_workers_must_share_is_compared_as_a_run_is_set_up(shapes, folder, monkeypatch):
    workers, compared = Workers("device"), []
    workers.count, workers.check_alike = 2, lambda checksums: compared.extend(checksums)
    monkeypatch.setattr(setup, "Workers", lambda *_: workers)
    tiny_run(shapes, folder)
    assert compared == ["settings", "classes", "training data", "pretrained weights"]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_parts_of_batches_make_the_batches(parts):
    whole, split = EpochSampler(10, 4, seed=1), [EpochSampler(10, 4, seed=1) for _ in range(parts)]
    for part, sampler in enumerate(split):
        sampler.part, sampler.parts, sampler.epoch = part, parts, 3
    whole.epoch = 3
    joined = [list(chain(*shares)) for shares in zip(*split)]
    assert joined == list(whole)
    assert len(joined) == len(whole) == len(split[0]) == 3


def test_two_workers_make_the_steps_of_two_devices_and_none_outlives_the_other(shapes, folder, capfd):
    """One of them is killed amid the training, which another launch then finishes."""
    members = launch_local.start(launch(*flags_of(shapes, folder / "workers", epochs=1000))[2:], 2, 1)
    try:
        last = folder / "workers" / "last.npz"
        wait_until(last.exists, members[-2].process)
        members[-1].process.kill()
        start = time.monotonic()
        status = launch_local.watch(members, 2)
    finally:
        launch_local.stop(members)
    assert time.monotonic() - start < 30
    assert status == 128 + 9
    assert "worker 1 ended with signal SIGKILL; stopping the others" in capfd.readouterr().err
    assert all(member.process.poll() is not None for member in members)

    epoch = Checkpoint.load(last).epoch
    flags = flags_of(shapes, folder / "workers", epochs=epoch + EPOCHS)
    with pytest.raises(SystemExit) as end:
        launch_local.main(launch(*flags, "--resume", "auto"))
    assert end.value.code == 0
    assert f"resuming from {last}, epoch {epoch}" in capfd.readouterr().out
    tiny_run(shapes, folder / "devices", cpus=2, epochs=epoch + EPOCHS).run()
    devices, workers = (Checkpoint.load(folder / name / "last.npz") for name in ("devices", "workers"))
    assert devices.step == workers.step == 2 * (epoch + EPOCHS)
    differences = {
        name: np.abs(workers.parameters[name] - array).max() / np.abs(array).max()
        for name, array in devices.parameters.items()
        if array.any()
    }
    worst = max(differences, key=differences.get)
    with capfd.disabled():
        print(f"\nlargest difference of a weight after {devices.step} steps, relative: {differences[worst]:.1e}")
    assert differences[worst] <= 1e-6
    rows = [len(read_metrics(folder / name / "metrics.csv")) for name in ("devices", "workers")]
    assert rows[0] == rows[1] > 0


RAISING = """
import numpy as np
from aploss_mx.commands.errors import readable_errors
from aploss_mx.training.distributed import Workers
with readable_errors():
    workers = Workers("dist_sync")
    if workers.leads:
        raise {error}("the leader cannot go on")
    workers.mean(np.zeros(2))
"""


@pytest.mark.parametrize(
    "error", ["ValueError", *(pytest.param(name, marks=pytest.mark.slow) for name in ("KeyError", "KeyboardInterrupt"))]
)
def test_a_worker_that_fails_alone_does_not_wait_for_the_others(tmp_path, capfd, error):
    script = tmp_path / "raise.py"
    script.write_text(RAISING.format(error=error))
    start = time.monotonic()
    with pytest.raises(SystemExit) as end:
        launch_local.main(["--workers", "2", str(script), "dist_sync"])
    assert time.monotonic() - start < 60
    assert end.value.code == (130 if error == "KeyboardInterrupt" else 1)
    told = capfd.readouterr().err
    assert "the leader cannot go on" in told or "interrupted" in told
    assert "stopping the others" in told


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [(ValueError, 1, "error: no"), (KeyError, 1, "Traceback"), (KeyboardInterrupt, INTERRUPTED, "")],
)
def test_any_error_leaves_the_other_workers(monkeypatch, error, status, told):
    left = []
    monkeypatch.setattr(errors, "leave_workers", lambda status, message="": left.append((status, message)))
    with pytest.raises((SystemExit, error)), errors.readable_errors():
        raise error("no")
    ((ended, message),) = left
    assert ended == status and message.startswith(told)


def test_evaluation_is_the_work_of_one(shapes, tmp_path):
    with pytest.raises(SystemExit, match="leave out --kv-store dist_sync"):
        train_voc.main([*flags_of(shapes, tmp_path / "run"), "--kv-store", "dist_sync", "--eval-only"])


def test_a_batch_must_divide_over_the_workers(shapes, tmp_path, monkeypatch):
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(setup, "Workers", lambda *_: pytest.fail("it waits for the others"))
    with pytest.raises(SystemExit, match="batch_size 4 cannot be split evenly over 3 devices"):
        train_voc.main([*flags_of(shapes, tmp_path / "run"), "--kv-store", "dist_sync"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("handler", "status"), [(signal.SIG_IGN, 0), (signal.SIG_DFL, 130)], ids=["ignored", "not ignored"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_are_ignored_stay_so(monkeypatch, number, handler, status):
    """As under nohup."""
    monkeypatch.setattr(launch_local, "start", lambda *_: [])
    monkeypatch.setattr(launch_local, "watch", lambda *_: signal.raise_signal(number) or 0)
    previous = signal.signal(number, handler)
    try:
        with pytest.raises(SystemExit) as end:
            launch_local.main(launch())
        assert signal.getsignal(number) == handler
    finally:
        signal.signal(number, previous)
    assert end.value.code == status


@pytest.mark.parametrize(
    ("flags", "handed_on"),
    [([], []), (["--timeout", "900"], ["--timeout=900.0"]), (["--timeout=7.5", "--epochs", "1"], ["--timeout=7.5"])],
)
def test_the_timeout_is_that_of_scheduler_and_servers_too(monkeypatch, flags, handed_on):
    """The shortest holds, and theirs would be that of the default."""
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    launch_local.start(launch(*flags)[2:], 2, 2)
    *serving, first, second = (command[command.index("-m", 3) :] for command in started)
    assert serving == [["-m", "aploss_mx.training.serve", *handed_on]] * 3
    assert first == second == ["-m", "aploss_mx", "train-voc", "--kv-store", "dist_sync", *flags]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give the training or the script to run"),
        (["train-voc"], "give it --kv-store dist_sync"),
        (["nowhere.py", "--kv-store=dist_sync"], "there is no script nowhere.py"),
        (["--workers", "0", "train-voc"], "must be at least 1"),
    ],
)
def test_misuse_of_the_launcher_is_told(arguments, told, capsys):
    with pytest.raises(SystemExit) as end:
        launch_local.main(arguments)
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_a_script_alone_wants_the_environment(shapes, tmp_path, capsys, monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match="aploss-mx launch-local sets them"):
        train_voc.main([*flags_of(shapes, tmp_path / "run"), "--kv-store", "dist_sync"])
    assert not os.path.exists(tmp_path / "run")
