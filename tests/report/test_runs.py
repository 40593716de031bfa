"""Runs are finished once, resumed, refused where they are others, and end with what started them."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aploss_mx import devices
from aploss_mx.evaluation.coco import METRICS
from aploss_mx.report.plan import SCALES, trials_of
from aploss_mx.report.runner import TEST, Execution
from aploss_mx.report.runs import RunError, Runner, about, commit_of, is_done


def counting(folder: Path, seconds: float = 0, status: int = 0) -> list[str]:
    """A command that notes that it was run."""
    code = f"import sys, time; open({str(folder / 'times')!r}, 'a').write('x'); time.sleep({seconds}); print('said'); "
    return [sys.executable, "-c", code + f"sys.exit({status})"]


def times(folder: Path) -> int:
    return len((folder / "times").read_text(encoding="utf-8"))


def finish(command: list[str], folder: Path, repository: Path = Path("/")) -> None:
    Runner(repository).finish(command, folder)


def test_a_finished_run_is_not_run_again(tmp_path):
    for _ in range(2):
        finish(counting(tmp_path), tmp_path)
    assert times(tmp_path) == 1
    assert is_done(tmp_path)
    assert about(tmp_path) == {"commit": "", "command": counting(tmp_path)}
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == "said\n"


def test_a_run_that_failed_is_run_again(tmp_path):
    code = f"import os; open({str(tmp_path / 'times')!r}, 'a').write('x'); print('said'); " + (
        f"raise SystemExit(0 if os.path.getsize({str(tmp_path / 'times')!r}) > 1 else 3)"
    )
    command = [sys.executable, "-c", code]
    with pytest.raises(RunError, match="status 3; the end of .*run.log:\nsaid"):
        finish(command, tmp_path)
    assert not is_done(tmp_path)
    finish(command, tmp_path)
    assert is_done(tmp_path)
    assert times(tmp_path) == 2


def test_a_run_of_other_flags_is_refused(tmp_path):
    finish(counting(tmp_path), tmp_path)
    with pytest.raises(RunError, match="other flags .*sleep.0.*, now .*sleep.1.*: choose another --runs and --results"):
        finish(counting(tmp_path, seconds=1), tmp_path)
    assert times(tmp_path) == 1


def test_a_run_may_go_on_elsewhere(tmp_path):
    code = f"import sys; open({str(tmp_path / 'times')!r}, 'a').write(sys.argv[1]); sys.exit(sys.argv[1] == 'a')"
    with pytest.raises(RunError, match="status 1"):
        Runner(tmp_path).finish([sys.executable, "-c", code], tmp_path, ["a"])
    Runner(tmp_path).finish([sys.executable, "-c", code], tmp_path, ["b"])
    assert (tmp_path / "times").read_text(encoding="utf-8") == "ab"


def test_a_run_is_the_same_wherever_scripts_data_and_folder_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for script in (tmp_path / "one" / "t.py", tmp_path / "other" / "t.py"):
        script.parent.mkdir()
        script.write_text("open('times', 'a').write('x')", encoding="utf-8")
    flags = ["--save-prefix", "one/run", "--dataset-root", "data/", "--lr", "0.1", "--test-flip"]
    finish(["python", "one/t.py", *flags], tmp_path / "run")
    moved = ["--save-prefix", "run", "--dataset-root", str(tmp_path / "data"), "--lr", "0.1", "--test-flip"]
    finish(["python3", "other/t.py", *moved], tmp_path / "run")
    finish(["python3", "other/t.py", "--test-flip", "--lr", "9", *moved[:-1]], tmp_path / "run")  # the last --lr counts
    assert times(tmp_path) == 1
    moved[5] = "0.2"
    with pytest.raises(RunError, match=r"flags \(--lr 0.1, now --lr 0.2\)"):
        finish(["python", "one/t.py", *moved], tmp_path / "run")
    with pytest.raises(RunError, match=r"flags \(--test-flip, now nothing\)"):
        finish(["python", "one/t.py", *flags[:-1]], tmp_path / "run")


def test_a_run_of_the_script_is_one_of_the_command(tmp_path):
    """Runs that were made before there were commands are not made again."""
    flags = ["--recipe", "quickstart", "--dataset-root", "data"]
    for name in ("started.json", "done.json"):
        note = {"commit": "a1b2c3", "command": ["/old/python", "/old/scripts/train_voc.py", *flags]}
        (tmp_path / name).write_text(json.dumps(note), encoding="utf-8")
    program = ["/not/there/python", "-m", "aploss_mx"]
    finish([*program, "train-voc", *flags], tmp_path)
    with pytest.raises(RunError, match="train-voc, now train-coco"):
        finish([*program, "train-coco", *flags], tmp_path)


def test_two_processes_at_once_run_it_once(tmp_path):
    start = multiprocessing.get_context("fork")
    both = [start.Process(target=finish, args=(counting(tmp_path, 0.5), tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert times(tmp_path) == 1


def test_the_command_ends_with_the_process_that_ran_it(tmp_path):
    """Otherwise two trainings would write to one folder."""
    command = counting(tmp_path, seconds=60)
    killed = multiprocessing.get_context("fork").Process(target=finish, args=(command, tmp_path))
    killed.start()
    while not (tmp_path / "times").exists():
        time.sleep(0.01)
    killed.kill()
    killed.join()
    end = time.monotonic() + 10
    while any(str(tmp_path / "times") in line for line in command_lines()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not is_done(tmp_path)


def command_lines() -> list[str]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().decode(errors="replace"))
    return lines


def test_stopping_ends_commands_and_waiting(tmp_path, capsys):
    holder, waiting = Runner(tmp_path), Runner(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        at_work = pool.submit(holder.finish, counting(tmp_path, seconds=60), tmp_path)
        while not (tmp_path / "times").exists():
            time.sleep(0.01)
        waits = pool.submit(waiting.finish, counting(tmp_path, seconds=60), tmp_path)
        while "which another process works on" not in capsys.readouterr().out:
            time.sleep(0.01)
        waiting.stop()
        with pytest.raises(RunError, match="stopped"):
            waits.result(timeout=10)
        holder.stop()
        with pytest.raises(RunError, match="status -15"):
            at_work.result(timeout=10)
    assert not is_done(tmp_path)


@pytest.mark.parametrize("jobs, given, expected", [(1, None, "all"), (2, None, "3"), (9, None, "1"), (2, "5", "5")])
def test_commands_at_a_time_share_the_cores(tmp_path, monkeypatch, jobs, given, expected):
    monkeypatch.setattr(devices, "count_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    command = [sys.executable, "-c", "import os; print(os.getenv('OMP_NUM_THREADS', 'all'))"]
    Runner(tmp_path, jobs).finish(command, tmp_path)
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == f"{expected}\n"


def test_a_run_has_the_commits_that_it_was_made_with(tmp_path):
    def git(*arguments):
        about_me = ["-c", "user.name=me", "-c", "user.email=me"]
        return subprocess.run(["git", "-C", str(tmp_path), *about_me, *arguments], check=True, capture_output=True)

    assert commit_of(tmp_path) == ""
    git("init")
    commits = []
    for number, status in enumerate((1, 1, 0)):
        (tmp_path / "file").write_text(str(number), encoding="utf-8")
        git("add", "file")
        if number < 2:
            git("commit", "-m", "x")
        commits.append(commit_of(tmp_path))
        (tmp_path / "status").write_text(str(status), encoding="utf-8")
        command = [sys.executable, "-c", f"raise SystemExit(int(open({str(tmp_path / 'status')!r}).read()))"]
        with contextlib.suppress(RunError):
            finish(command, tmp_path / "run", tmp_path)
    first, second, changed = commits
    assert len(first) == 10 and first != second and changed == second + "+"
    assert about(tmp_path / "run")["commit"] == ", ".join(commits)


def test_a_row_has_the_commits_of_its_training_and_its_test(tmp_path):
    (trial,) = trials_of("table3", SCALES["smoke"], [0], ["multi-scale"])
    execution = Execution(Runner(tmp_path), tmp_path, "", "", "", [""], 1)
    metrics = json.dumps({"epoch": 3, **dict.fromkeys(METRICS, 0.5)})
    for folder, commit in ((execution.folder_of(trial), "a, b"), (execution.folder_of(trial) / TEST, "b, c+")):
        folder.mkdir(exist_ok=True)
        (folder / "done.json").write_text(json.dumps({"commit": commit}), encoding="utf-8")
        (folder / "metrics.json").write_text(metrics, encoding="utf-8")
    assert execution.measure(trial)["commit"] == "a, b, c+"
