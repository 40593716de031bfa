"""Reproduction of tables: runs that are finished once and shared, tables made of CSV alone, and the smoke scale."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from aploss_mx import cores
from aploss_mx.command import training_parser
from aploss_mx.config import RANKING_LOSSES, recipe_from_flags
from aploss_mx.evaluation.coco import FIGURES
from aploss_mx.report import curves
from aploss_mx.report.curves import Point, curve_of, draw_curves, write_curves
from aploss_mx.report.execution import check_gpus
from aploss_mx.report.runs import RunError, Runner, about, commit_of, is_done
from aploss_mx.report.tables import format_table, measured_row, read_rows, summarise, update_rows, write_summary
from aploss_mx.report.trials import GRID, LOSSES, REPORTED, SCALES, TABLES, trials_of
from aploss_mx.theory.optimisers import CONTENDERS
from scripts import reproduce

RESULTS = Path(reproduce.__file__).parents[1] / "results"


def recipe_of(trial):
    return recipe_from_flags(training_parser("", "voc07_resnet50", "").parse_args(list(trial.train[1:])))


# trials ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_its_recipe(table, scale):
    trials = trials_of(table, scale, [0, 3])
    assert {trial.seed for trial in trials} == {0, 3}
    by_run = {}
    for trial in trials:
        recipe = recipe_of(trial)
        assert recipe == trial.recipe()
        assert recipe.seed == trial.seed
        by_run.setdefault(trial.run, set()).add(recipe)
        assert (recipe.batch_size % (recipe.ranking_batch or 1)) == 0
    assert all(len(recipes) == 1 for recipes in by_run.values())
    assert len({recipe for recipes in by_run.values() for recipe in recipes}) == len(by_run)


def test_what_the_rows_vary():
    small = SCALES["small"]
    assert [recipe_of(trial).ranking_batch for trial in trials_of("table1a", small, [0])] == [1, 2, 4, 0]
    assert [recipe_of(trial).delta for trial in trials_of("table1b", small, [0])] == [0.25, 0.5, 1, 2]
    assert [recipe_of(trial).interpolated for trial in trials_of("table1c", small, [0])] == [False, True]
    assert [recipe_of(trial).loss for trial in trials_of("table2", small, [0])] == ["ohem", "focal", "auc", "ap"]
    single, multi = trials_of("table3", small, [0])
    assert single.run == multi.run
    assert single.test == () and "--test-flip" in multi.test
    assert len(trials_of("table2", SCALES["paper"], [0])) == 8
    assert [trial.scored_here for trial in trials_of("table3", SCALES["paper"], [0])].count(False) == 5


def test_each_loss_has_the_same_learning_rates_to_choose_from():
    for scale in (SCALES["small"], SCALES["smoke"]):
        recipes = [recipe_of(trial) for trial in trials_of("learning_rates", scale, [0])]
        choices = {loss: [recipe.lr for recipe in recipes if recipe.loss == loss] for loss in LOSSES}
        assert len(recipes) == len(LOSSES) * len(GRID)
        assert all(rates == [0.00003, 0.0001, 0.0003, 0.001] for rates in choices.values())
        assert len({replace(recipe, loss="ap", lr=1) for recipe in recipes}) == 1
        assert recipes[0].epochs < recipe_of(trials_of("table2", scale, [0])[0]).epochs
    with pytest.raises(ValueError, match="scale paper has the paper's learning rates"):
        trials_of("learning_rates", SCALES["paper"], [0])


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_the_optimisers_train_the_classes_alone_from_the_same_start(scale):
    trials = trials_of("figure5b", scale, [0])
    recipes = [recipe_of(trial) for trial in trials]
    assert {recipe.loss for recipe in recipes} == {"ap", "hinge-ap", "smooth-ap"}
    assert {recipe.box_loss_weight for recipe in recipes} == {0}
    assert len({replace(recipe, loss="ap", lr=1) for recipe in recipes}) == 1
    by_loss = [{recipe.lr for recipe in recipes if recipe.loss == loss} for loss in CONTENDERS.values()]
    assert by_loss == 3 * [by_loss[0]]
    assert len({trial.run for trial in trials}) == len(trials)


def test_the_chosen_learning_rate_is_used_by_all_rows_of_its_loss():
    scale = replace(SCALES["small"], lr={"ap": "0.0007", "focal": "0.0002"})
    assert [recipe_of(trial).lr for trial in trials_of("table2", scale, [0])] == [0.0003, 0.0002, 0.0003, 0.0007]
    assert {recipe_of(trial).lr for trial in trials_of("table1a", scale, [0])} == {0.0007}
    rates = [recipe_of(trial).lr for trial in trials_of("learning_rates", scale, [0])]
    assert rates == 4 * [0.00003, 0.0001, 0.0003, 0.001]


@pytest.mark.parametrize("scale", [scale for scale in SCALES.values() if scale.lr], ids=lambda scale: scale.name)
def test_the_chosen_learning_rate_is_the_best_measured(scale):
    measured = read_rows(RESULTS / scale.name / "learning_rates.csv")
    assert len(measured) == len(LOSSES) * len(GRID)
    for loss in LOSSES:
        best = max((row for row in measured if row["row"].startswith(f"{loss},")), key=lambda row: float(row["AP"]))
        assert best["row"] == f"{loss}, lr {scale.lr[loss]}"


def test_committed_markdown_is_made_of_committed_csv(tmp_path):
    """Pictures are compared by eye: their bytes depend on the version of matplotlib."""
    copied = [path for scale in SCALES for path in sorted((RESULTS / scale).glob("*.csv"))]
    for path in copied:
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.parent.name)
    reproduce.main(["report", "--results", str(tmp_path)])
    tables = [path.relative_to(RESULTS) for path in copied if path.stem in REPORTED]
    texts = [table.with_name(table.stem + end) for table in tables for end in (".md", "_summary.csv")]
    assert texts
    for text in texts:
        assert (tmp_path / text).read_bytes() == (RESULTS / text).read_bytes()


def test_the_paper_ranks_eight_images_on_one_device_or_two():
    for table in (*TABLES, "figure5b"):
        trials = trials_of(table, SCALES["paper"], [0])
        check_gpus(trials, ["", "0", "0,1"])
        for trial in trials:
            recipe = trial.recipe()
            assert (recipe.ranking_batch in (1, 2, 4, 8)) == (recipe.loss in RANKING_LOSSES)


@pytest.mark.parametrize("scale, gpus", [("paper", "0,1,2,3"), ("paper", "0,1,2"), ("small", "0,1")])
def test_gpus_that_would_change_what_is_ranked_are_refused_before_a_run(scale, gpus, tmp_path):
    flags = ["table2", "--scale", scale, "--dataset-root", "x", "--gpus", gpus, "--runs", str(tmp_path / "runs")]
    with pytest.raises(SystemExit, match="images a step, in groups of .*, cannot be shared out"):
        reproduce.main(flags)
    assert not (tmp_path / "runs").exists()


def test_figures_of_voc_have_no_rows_of_coco(tmp_path):
    with pytest.raises(SystemExit, match="figure5a is of VOC: none of its rows is named COCO"):
        reproduce.main(["figure5a", "--scale", "paper", "--only", "COCO", "--runs", str(tmp_path)])


def test_only_some_rows():
    trials = trials_of("table2", SCALES["small"], [0, 1], ["ap", "focal"])
    named = [(trial.row.split(",")[0], trial.seed) for trial in trials]
    assert named == [("focal", 0), ("ap", 0), ("focal", 1), ("ap", 1)]
    with pytest.raises(ValueError, match="named svm; there are: ohem, VOC07; focal"):
        trials_of("table2", SCALES["small"], [0], ["ap", "svm"])


# runs --------------------------------------------------------------------------------------------


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
    with pytest.raises(RunError, match="other flags .*sleep.0.*, now .*sleep.1.*: choose another --runs"):
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
    assert times(tmp_path) == 1
    moved[5] = "0.2"
    with pytest.raises(RunError, match=r"flags \(--lr 0.1, now --lr 0.2\)"):
        finish(["python", "one/t.py", *moved], tmp_path / "run")
    with pytest.raises(RunError, match=r"flags \(--test-flip, now nothing\)"):
        finish(["python", "one/t.py", *flags[:-1]], tmp_path / "run")


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
    monkeypatch.setattr(cores, "count_cores", lambda: 7)
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


# tables and curves -------------------------------------------------------------------------------


def metrics_of(ap: float) -> dict:
    return {**dict.fromkeys(FIGURES, ap), "APs": None, "epoch": 5}


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "small" / "table2.csv"
    rows = [("ap, VOC07", 0, 0.5), ("focal, VOC07", 0, 0.4), ("ap, VOC07", 1, 0.54)]
    update_rows(path, [measured_row(row, seed, metrics_of(ap), "abc") for row, seed, ap in rows])
    return path


def test_table_has_paper_mean_spread_and_difference(table):
    text = format_table("table2", "small", read_rows(table))
    lines = text.splitlines()
    assert lines[0] == "# Table 2, scale `small`"
    assert "not comparable with the published figures" in text
    (ap,) = [line for line in lines if line.startswith("| ap")]
    assert ap.startswith("| ap, VOC07 | 2 | 53.1 | 52.0 ± 2.8 | -1.1 | 82.3 | 52.0 ± 2.8 | -30.3 |")
    (focal,) = [line for line in lines if line.startswith("| focal")]
    assert focal.startswith("| focal, VOC07 | 1 | 51.3 | 40.0 | -11.3 |")
    (auc,) = [line for line in lines if line.startswith("| auc")]
    assert auc.startswith("| auc, VOC07 | 0 | 49.3 | – | – |")
    assert "vary by 2.8 AP (standard deviation, pooled over 1 row(s)): smaller differences" in text
    assert "1 row(s) have one seed alone" in text
    alone = [row for row in read_rows(table) if row["seed"] == "0"]
    assert "noise is was not measured" in format_table("table2", "small", alone)


def test_noise_is_pooled_over_rows_by_their_seeds(table):
    """Deviations of 2.83 from 2 seeds and 1 from 3: the root of (1 * 8 + 2 * 1) / 3."""
    rows = [("focal, VOC07", seed, ap) for seed, ap in enumerate([0.39, 0.40, 0.41])]
    update_rows(table, [measured_row(row, seed, metrics_of(ap), "abc") for row, seed, ap in rows])
    text = format_table("table2", "small", read_rows(table))
    assert "vary by 1.8 AP (standard deviation, pooled over 2 row(s))" in text


def test_the_summary_has_what_the_table_has(table):
    summary = {(one["row"], one["figure"]): one for one in summarise("table2", "small", read_rows(table))}
    assert len(summary) == 4 * 3
    ap = summary["ap, VOC07", "AP"]
    assert (ap["paper"], ap["seeds"], ap["mean"]) == (53.1, 2, 52)
    assert ap["deviation"] == pytest.approx(8**0.5) and ap["difference"] == pytest.approx(-1.1)
    write_summary(table.with_name("summary.csv"), list(summary.values()))
    lines = table.with_name("summary.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "row,figure,paper,seeds,mean,deviation,difference"
    assert '"ap, VOC07",AP,53.10,2,52.00,2.83,-1.10' in lines
    assert '"auc, VOC07",AP50,79.70,0,,,' in lines


def test_rows_replace_those_of_the_same_seed(table):
    before = table.read_text(encoding="utf-8")
    update_rows(table, [measured_row("ap, VOC07", 1, metrics_of(0.6), "new")])
    after = read_rows(table)
    assert len(after) == 3
    assert [row["AP"] for row in after if row["commit"] == "new"] == ["60.00"]
    update_rows(table, [measured_row("ap, VOC07", 1, metrics_of(0.54), "abc")])
    assert table.read_text(encoding="utf-8") == before
    assert {row["APs"] for row in after} == {""}


def points_of(*points):
    return [Point(*point, "c") for point in points]


def test_reports_are_made_of_csv_alone(table, capsys):
    path = table.with_name("figure5a.csv")
    write_curves(path, points_of(("ap", 0, 10, 9.0), ("focal", 0, 9, 1.0), ("focal", 0, 20, 2.0)))
    write_curves(path, points_of(("ap", 0, 10, 1.5), ("ap", 0, 20, 3.0)))  # in place of the first
    points = "row,seed,step,value,commit\nap,0,10,1.5,c\nap,0,20,3.0,c\nfocal,0,9,1.0,c\nfocal,0,20,2.0,c\n"
    assert path.read_text(encoding="utf-8") == points
    results = table.parent.parent
    reproduce.main(["report", "--results", str(results)])
    first = {path.name: path.read_bytes() for path in table.parent.iterdir()}
    assert set(first) == {"table2.csv", "table2_summary.csv", "table2.md", "figure5a.csv", "figure5a.png"}
    for path in (table.with_suffix(".md"), table.with_name("figure5a.png")):
        path.unlink()
    reproduce.main(["report", "--results", str(results)])
    assert {path.name: path.read_bytes() for path in table.parent.iterdir()} == first
    assert Image.open(table.with_name("figure5a.png")).size == (768, 480)


def test_curves_are_those_of_the_metrics(tmp_path):
    text = "epoch,step,ap_loss,AP,AP50\n1,10,0.75,,\n1,10,,0.125,0.3\n2,20,,0.25,0.4\n"
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    assert curve_of("figure5b", "ap", 7, tmp_path, "c") == [("ap", 7, 10, 0.75, "c")]
    points = curve_of("figure5a", "ap", 7, tmp_path, "c")
    assert points == [("ap", 7, 10, 12.5, "c"), ("ap", 7, 20, 25.0, "c")]
    write_curves(tmp_path / "figure5a.csv", points)
    text = (tmp_path / "figure5a.csv").read_text(encoding="utf-8")
    assert text == "row,seed,step,value,commit\nap,7,10,12.5,c\nap,7,20,25.0,c\n"
    draw_curves(tmp_path / "figure5a.csv", "a test")
    assert (tmp_path / "figure5a.png").exists()


def drawn(path: Path, monkeypatch) -> Axes:
    """Draw a figure, and return what is on its axes."""
    figures = []
    monkeypatch.setattr(curves, "Figure", lambda **kwargs: figures.append(Figure(**kwargs)) or figures[0])
    draw_curves(path, "a test")
    return figures[0].axes[0]


def test_of_learning_rates_the_one_that_ends_lowest_has_the_legend(tmp_path, monkeypatch):
    """Of the hinge's, one begins lowest, one has the lowest last point, and one the lowest mean of the last five."""
    values = {
        "ap, lr 0.1": 8 * [0.2],
        "hinge, lr 0.1": [0.1, 0.2, 0.3, *5 * [0.7]],
        "hinge, lr 0.3": [0.9, 0.9, 0.9, *4 * [0.6], 0.3],
        "hinge, lr 1": [0.9, 0.9, 0.9, *5 * [0.5]],
    }
    points = [(row, 0, step, value) for row, of_row in values.items() for step, value in enumerate(of_row)]
    write_curves(tmp_path / "figure5b.csv", points_of(*points))
    lines = drawn(tmp_path / "figure5b.csv", monkeypatch).lines
    assert len(lines) == 4
    labels = [line.get_label() for line in lines if not line.get_label().startswith("_")]
    assert labels == ["ap, lr 0.1: 0.200", "hinge, lr 1: 0.500"]


def test_many_points_are_averaged_within_each_seed(tmp_path, monkeypatch):
    points = [("ap", seed, step, seed + step) for seed in (0, 10) for step in range(1, 63)]
    write_curves(tmp_path / "figure5b.csv", points_of(*points))
    axes = drawn(tmp_path / "figure5b.csv", monkeypatch)
    (line,) = axes.lines
    assert line.get_label() == "ap: 66.0"  # of steps 60, 61 and 62, and both seeds
    means = [1.5, *range(4, 63, 3)]
    assert list(line.get_ydata()) == [5 + mean for mean in means]
    (band,) = axes.collections
    heights = {tuple(point) for point in band.get_paths()[0].vertices}
    assert heights >= {(step, seed + mean) for seed in (0, 10) for step, mean in zip([2, *range(5, 63, 3)], means)}


def test_seeds_are_compared_at_the_steps_that_all_have(tmp_path, monkeypatch):
    points = [("ap", seed, step, step + seed) for seed in (0, 2) for step in range(0, 12, seed + 1)]
    write_curves(tmp_path / "figure5a.csv", points_of(*points))
    (line,) = drawn(tmp_path / "figure5a.csv", monkeypatch).lines
    assert [tuple(point) for point in line.get_xydata()] == [(step, step + 1) for step in (0, 3, 6, 9)]


def test_no_results_are_told(tmp_path):
    with pytest.raises(SystemExit, match="holds no tables"):
        reproduce.main(["report", "--results", str(tmp_path)])


# the program -------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch) -> None:
    """A smoke scale for tests: a few pictures, one epoch."""
    monkeypatch.setattr(reproduce, "SMOKE_IMAGES", (8, 4))
    smoke = SCALES["smoke"]
    flags = (*smoke.flags, "--epochs", "1", "--lr-decay-epoch", "", "--num-workers", "0", "--log-interval", "1")
    monkeypatch.setitem(SCALES, "smoke", replace(smoke, flags=flags, optimisers=()))


def run(tmp_path: Path, *flags: str) -> None:
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    reproduce.main([*flags, "--scale", "smoke", *folders])


def test_table_and_figure_of_the_same_runs(tmp_path, tiny, capsys):
    run(tmp_path, "table2", "--only", "ap", "focal")
    printed = capsys.readouterr().out
    assert "# Table 2, scale `smoke`" in printed
    results, done = tmp_path / "results" / "smoke", tmp_path / "runs" / "smoke"
    assert printed.endswith((results / "table2.md").read_text(encoding="utf-8") + "\n")
    folders = sorted(path.name for path in done.iterdir())
    assert folders == ["quickstart_ap_seed0", "quickstart_loss_focal_seed0"]
    with (tmp_path / "results" / "smoke" / "table2.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row, folder in zip(rows, folders):
        metrics = json.loads((tmp_path / "runs" / "smoke" / folder / "metrics.json").read_text(encoding="utf-8"))
        assert float(row["AP50"]) == pytest.approx(100 * metrics["AP50"], abs=0.005)
        assert row["epoch"] == "1"

    notes = [(done / folder / "done.json").stat().st_mtime_ns for folder in folders]
    run(tmp_path, "figure5a", "--only", "ap", "focal")
    assert notes == [(done / folder / "done.json").stat().st_mtime_ns for folder in folders]
    assert (tmp_path / "results" / "smoke" / "figure5a.png").exists()

    run(tmp_path, "figure6")
    assert notes == [(done / folder / "done.json").stat().st_mtime_ns for folder in folders]
    sheet = Image.open(tmp_path / "results" / "smoke" / "figure6.jpg")
    assert sheet.width > sheet.height > 300  # two rows of four pictures
    assert "a row for each of focal, VOC07; ap, VOC07" in capsys.readouterr().out


def test_three_optimisers(tmp_path, tiny):
    run(tmp_path, "figure5b")
    with (tmp_path / "results" / "smoke" / "figure5b.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert {point["row"] for point in points} == set(CONTENDERS)
    assert all(0 < float(point["value"]) <= 1 for point in points)
    assert len({point["value"] for point in points if point["step"] == "1"}) == 1  # the same start
    assert (tmp_path / "results" / "smoke" / "figure5b.png").exists()


def test_multi_scale_tests_the_same_run_again(tmp_path, tiny):
    run(tmp_path, "table3")
    assert [path.name for path in (tmp_path / "runs" / "smoke").iterdir()] == ["quickstart_ap_seed0"]
    with (tmp_path / "results" / "smoke" / "table3.csv").open(newline="") as file:
        rows = {row["row"].split(", ")[-1]: row for row in csv.DictReader(file)}
    assert set(rows) == {"single scale", "multi-scale"}
    folder = tmp_path / "runs" / "smoke" / "quickstart_ap_seed0"
    files = (folder / name for name in ("metrics.json", "test/metrics.json"))
    trained, tested = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    assert tested["AR100"] != trained["AR100"]
    assert float(rows["single scale"]["AP50"]) == pytest.approx(100 * trained["AP50"], abs=0.005)
    assert float(rows["multi-scale"]["AP50"]) == pytest.approx(100 * tested["AP50"], abs=0.005)


def test_learning_rates_are_compared_without_the_test_images(tmp_path, tiny, capsys):
    run(tmp_path, "learning_rates", "--only", "ohem, lr 0.001")
    text = (tmp_path / "results" / "smoke" / "learning_rates.md").read_text(encoding="utf-8")
    assert text.startswith("# Learning rates, scale `smoke`")
    assert "| row | seeds | AP | AP50 | AP75 |" in text
    sets = tmp_path / "runs" / "smoke" / "held_out" / "ImageSets" / "Main"
    assert (sets / "2007_train.txt").read_text().split() == [f"train_{index:06d}" for index in (1, 2, 3, 4, 6, 7)]
    assert (sets / "2007_val.txt").read_text().split() == ["train_000000", "train_000005"]


def test_a_failed_run_does_not_stop_the_others(tmp_path, tiny, capsys, monkeypatch):
    real = Runner.finish

    def fail_focal(self, command, folder, where):
        if "focal" in folder.name:
            raise RunError("it broke")
        real(self, command, folder, where)

    monkeypatch.setattr(Runner, "finish", fail_focal)
    with pytest.raises(SystemExit, match=r"1 run\(s\) failed: quickstart_loss_focal_seed0"):
        run(tmp_path, "table2", "--only", "ap", "focal")
    text = (tmp_path / "results" / "smoke" / "table2.md").read_text(encoding="utf-8")
    assert "| ap, VOC07 | 1 |" in text and "| focal, VOC07 | 0 |" in text


def test_each_job_has_its_gpus(tmp_path, tiny, monkeypatch):
    at_work, seen = [], []

    def pretend(self, command, folder, where):
        at_work.append(where[1])
        assert len(set(at_work)) == len(at_work) <= 2
        time.sleep(0.05)
        at_work.remove(where[1])
        seen.append(where)

    monkeypatch.setattr(Runner, "finish", pretend)
    with pytest.raises(SystemExit, match=r"4 run\(s\) failed"):  # for they left nothing to measure
        run(tmp_path, "table2", "--gpus", "0", "1")
    assert len(seen) == 4
    assert {tuple(where) for where in seen} == {("--gpus", "0"), ("--gpus", "1")}


def test_data_are_wanted_beyond_smoke(tmp_path):
    with pytest.raises(SystemExit, match="scale small wants --dataset-root"):
        reproduce.main(["table2", "--scale", "small", "--runs", str(tmp_path)])
