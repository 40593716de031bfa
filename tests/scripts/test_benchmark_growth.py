"""The benchmark of growth: its slopes are those of known curves, and picture and table come out."""

from __future__ import annotations

import csv

import pytest
from PIL import Image

from scripts.benchmarks import growth as benchmark_growth


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
def test_slope_of_a_known_power(power):
    sizes = [10, 100, 1000, 5000]
    assert benchmark_growth.slope(sizes, [3e-3 * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


def test_picture_and_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_growth, "FIXED_SCORES", 3000)
    monkeypatch.setattr(benchmark_growth, "FIXED_POSITIVES", 20)
    output = tmp_path / "new" / "growth.png"
    flags = ["--scores", "2000", "1000", "--positives", "10", "40", "--repeats", "1", "--output", str(output)]
    benchmark_growth.main(flags)
    *printed, written = capsys.readouterr().out.splitlines()
    assert written == f"wrote {output}, {output.with_suffix('.csv')}"
    assert len(printed) == 6
    assert all("slope" in line for line in printed)
    assert Image.open(output).size == (1080, 432)
    with output.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["panel"] for row in rows] == 3 * ["scores", "scores", "positives", "positives"]
    assert [(row["scores"], row["positives"]) for row in rows[:4]] == [
        ("1000", "20"), ("2000", "20"), ("3000", "10"), ("3000", "40"),
    ]  # fmt: skip
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_what_the_first_call_loads_or_compiles_is_not_timed(monkeypatch):
    calls = []
    monkeypatch.setattr(benchmark_growth, "ap_loss_and_grad", lambda *_: calls.append("called"))
    monkeypatch.setattr(benchmark_growth, "median_seconds", lambda *_: calls.append("timed") or 1.0)
    benchmark_growth.measure([2000], [10], 1)
    assert calls[:2] == ["called", "timed"]


def test_a_folder_in_the_tables_place_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_growth, "measure", None)
    (tmp_path / "growth.csv").mkdir()
    with pytest.raises(SystemExit, match="error: .*growth.csv"):
        benchmark_growth.main(["--output", str(tmp_path / "growth.png")])


@pytest.mark.parametrize(
    ("scores", "told"), [(["500", "1000"], "more scores than positives"), (["1000", "1000"], "one tells no slope")]
)
def test_numbers_that_tell_no_slope_are_refused(scores, told, tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmark_growth.main(["--scores", *scores, "--output", str(tmp_path / "growth.png")])
    assert told in capsys.readouterr().err
