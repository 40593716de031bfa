"""The loss benchmark at its small size: the rows come out, and both methods compute the same thing."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from aploss_mx.ranking.reference import ap_loss_and_grad
from scripts.benchmarks import loss as benchmark_loss


def run(capsys, tmp_path, *flags):
    """Run on the small size; return the table's cells and the CSV's rows."""
    output = tmp_path / "reports" / "loss.csv"
    benchmark_loss.main(["--sizes", "small", "--repeats", "1", "--output", str(output), *flags])
    printed, contenders = capsys.readouterr().out.rsplit("\n\n", 1)
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert all(contenders.count(f"| {name} |") == len(lines) - 2 for name in ("ap", "hinge-ap", "ohem"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == benchmark_loss.HEADER
    assert {len(row) for row in cells} == {len(benchmark_loss.HEADER)}
    with output.open(newline="") as file:
        return cells[2:], list(csv.DictReader(file))


def test_rows_of_complete_loops(capsys, tmp_path):
    # A budget of nothing, which --complete overrules.
    table, rows = run(capsys, tmp_path, "--loop-seconds", "0", "--complete")
    assert [row[2] for row in table] == [row["regime"] for row in rows] == ["early", "mid", "late"]
    assert not any("~" in cell for row in table for cell in row)
    for row in rows:
        assert row["loop_complete"] == "True"
        assert int(row["loop_visits"]) == int(row["positives"]) == 100
        assert 0 < int(row["kept"]) < int(row["scores"]) == 200_000
        assert float(row["distance"]) < 1e-5
        assert float(row["speed_up"]) == pytest.approx(float(row["loop_seconds"]) / float(row["exact_seconds"]))
        assert float(row["memory"]) >= 1, "the gradient alone takes as many bytes as the scores"
        assert float(row["copies"]) > 0
    assert float(rows[0]["loss"]) > float(rows[1]["loss"]) > float(rows[2]["loss"]) > 0


def test_rows_of_contenders(capsys, tmp_path):
    run(capsys, tmp_path, "--loop-seconds", "0", "--regimes", "mid")
    with (tmp_path / "reports" / "loss_contenders.csv").open(newline="") as file:
        rows = {row["contender"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["ap", "auc", "smooth-ap", "hinge-ap", "focal", "ohem"]
    logits, class_targets = benchmark_loss.random_batch(*benchmark_loss.BATCHES["small"], "mid", seed=0)
    assert (class_targets > 0).sum() == 100
    labels = class_targets[..., None] == np.arange(1, 21)
    assert float(rows["ap"]["value"]) == pytest.approx(ap_loss_and_grad(logits, labels)[0], rel=1e-5)
    for row in rows.values():
        assert float(row["seconds"]) > 0
        assert float(row["to_ap"]) == pytest.approx(float(row["seconds"]) / float(rows["ap"]["seconds"]))


def test_rows_of_loops_cut_short(capsys, tmp_path):
    table, rows = run(capsys, tmp_path, "--loop-seconds", "0", "--regimes", "mid", "early")
    assert [row["regime"] for row in rows] == ["mid", "early"]
    for cells, row in zip(table, rows):
        assert row["loop_complete"] == "False"
        assert row["distance"] == ""
        loop, speed_up = (cells[benchmark_loss.HEADER.index(name)] for name in ("loop (s)", "speed-up"))
        assert loop.startswith("~")
        assert loop.endswith("(k = 3)")
        assert speed_up.startswith("~")
        assert float(row["numpy_seconds"]) > 0


@pytest.mark.parametrize("regime", benchmark_loss.REGIMES)
def test_the_loop_is_the_reference(regime):
    scores, labels = benchmark_loss.random_scores(2_000, 30, regime, seed=1)
    labels[np.random.default_rng(1).random(2_000) < 0.1] = -1
    loss, grad = benchmark_loss.loop_ap_loss_and_grad(scores, labels)
    expected_loss, expected_grad = ap_loss_and_grad(scores, labels, benchmark_loss.DELTA)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert np.abs(grad - expected_grad).sum() <= 1e-5 * np.abs(expected_grad).sum()


def test_sizes_are_those_of_8_images():
    # 32,736 anchors of 512x512 (strides 8 ... 128, six a cell), 20 and 80 classes.
    anchors = 6 * sum((512 // stride) ** 2 for stride in (8, 16, 32, 64, 128))
    assert benchmark_loss.SIZES["voc"] == (anchors * 20 * 8, 600)
    assert benchmark_loss.SIZES["coco"] == (anchors * 80 * 8, 2_000)


@pytest.mark.parametrize("seconds", ["nan", "-1"])
def test_a_budget_that_is_none_is_refused(capsys, seconds):
    with pytest.raises(SystemExit) as end:
        benchmark_loss.main(["--loop-seconds", seconds])
    assert end.value.code == 2
    assert f"--loop-seconds: must be at least 0, not {seconds}" in capsys.readouterr().err


def test_errors_are_readable(monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(benchmark_loss, "benchmark", full)
    with pytest.raises(SystemExit, match="error: No space left on device"):
        benchmark_loss.main([])


def test_a_folder_in_the_second_tables_place_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_loss, "benchmark", None)
    (tmp_path / "loss_contenders.csv").mkdir()
    with pytest.raises(SystemExit, match="error: .*loss_contenders.csv"):
        benchmark_loss.main(["--output", str(tmp_path / "loss.csv")])


def test_help_explains_every_column(capsys):
    with pytest.raises(SystemExit):
        benchmark_loss.main(["--help"])
    text = capsys.readouterr().out
    for word in ("kept", "speed-up", "distance", "copies", "memory", "tracemalloc", "--complete", "--output"):
        assert word in text
