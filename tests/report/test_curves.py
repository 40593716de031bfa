"""Curves: what is read of a run, and what is drawn of several seeds and learning rates."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aploss_mx.report import plots
from aploss_mx.report.plots import Point, curve_of, draw_curves, write_curves


def points_of(*points):
    return [Point(*point, "c") for point in points]


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
    monkeypatch.setattr(plots, "Figure", lambda **kwargs: figures.append(Figure(**kwargs)) or figures[0])
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
    assert line.get_label() == "ap: 66.000"  # of steps 60, 61 and 62, and both seeds
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


def test_seeds_of_other_data_are_told_before_the_file_is_written(tmp_path):
    path = tmp_path / "figure5a.csv"
    write_curves(path, points_of(("ap", 0, 10, 1.0)))
    before = path.read_text()
    with pytest.raises(ValueError, match="the seeds of ap share no step, so their data differ"):
        write_curves(path, points_of(("ap", 1, 7, 1.0)))
    assert path.read_text() == before
