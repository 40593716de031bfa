"""The plot of a training run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from aploss_mx.report.plots import plot_training

HEADER = "epoch,step,lr,loss,cls_loss,box_loss,images_per_second,AP,AP50,AP75\n"
TRAINING_ROW = "{epoch},{step},0.01,1.5,1.0,0.5,30.0,,,\n"
EVALUATION_ROW = "{epoch},{step},,,,,,0.25,0.5,0.2\n"


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """Figures that were saved, so that tests can read the curves behind the pixels."""
    saved = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (saved.append(self), savefig(self, *args, **kw)))
    return saved


def write_log(folder: Path, *rows: str) -> Path:
    path = folder / "metrics.csv"
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


def curves(figure: Figure) -> list[dict[str, np.ndarray]]:
    """Points of every curve, by the first word of its legend, for each panel."""
    return [{line.get_label().split()[0].rstrip(","): line.get_xydata() for line in axes.lines} for axes in figure.axes]


def assert_is_picture(path: Path) -> None:
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(path) as image:
        image.load()
        assert 1000 <= image.width <= 3000
        assert 400 <= image.height <= image.width
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_curves_hold_the_numbers_of_the_log(tmp_path, figures):
    rows = [
        "1,10,0.01,3.0,2.0,1.0,30,,,\n",
        "1,20,0.01,2.5,1.75,0.75,30,,,\n",
        "1,20,,,,,,0.1,0.3,0.05\n",
        "2,40,0.01,2.0,1.5,0.5,30,0.2,0.4,0.15\n",
    ]
    plot_training(write_log(tmp_path, *rows), tmp_path / "run.png")
    assert_is_picture(tmp_path / "run.png")
    losses, precisions = curves(figures[0])
    assert losses["total"].tolist() == [[10, 3.0], [20, 2.5], [40, 2.0]]
    assert losses["classification"].tolist() == [[10, 2.0], [20, 1.75], [40, 1.5]]
    assert losses["box"].tolist() == [[10, 1.0], [20, 0.75], [40, 0.5]]
    assert precisions["AP"].tolist() == [[1, 0.1], [2, 0.2]]
    assert precisions["AP50"].tolist() == [[1, 0.3], [2, 0.4]]
    assert precisions["AP75"].tolist() == [[1, 0.05], [2, 0.15]]


def test_one_row_without_an_evaluation(tmp_path, figures):
    path = tmp_path / "new" / "run.pdf"  # a folder is made, and PNG whatever the name
    plot_training(write_log(tmp_path, TRAINING_ROW.format(epoch=1, step=10)), path)
    assert_is_picture(path)
    losses, precisions = curves(figures[0])
    assert losses["total"].tolist() == [[10, 1.5]]
    assert precisions == {}
    assert [text.get_text() for text in figures[0].axes[1].texts] == ["no evaluation logged yet"]


def test_one_evaluation_without_a_loss(tmp_path, figures):
    plot_training(write_log(tmp_path, EVALUATION_ROW.format(epoch=3, step=90)), tmp_path / "run.png")
    assert_is_picture(tmp_path / "run.png")
    losses, precisions = curves(figures[0])
    assert losses == {}
    assert precisions["AP50"].tolist() == [[3, 0.5]]


def test_a_log_of_a_header_alone(tmp_path, figures):
    plot_training(write_log(tmp_path), tmp_path / "run.png")
    assert_is_picture(tmp_path / "run.png")
    assert curves(figures[0]) == [{}, {}]
    assert all(len(axes.texts) == 1 for axes in figures[0].axes)


def test_a_diverged_run_and_fields_that_are_no_numbers_can_be_plotted(tmp_path, figures):
    rows = ["1,10,0.01,nan,nan,inf,30,,,\n", "1,20,0.01,x,2,1,30,,,\n"]
    plot_training(write_log(tmp_path, *rows), tmp_path / "run.png")
    assert_is_picture(tmp_path / "run.png")
    losses, _ = curves(figures[0])
    assert "total" not in losses and losses["classification"].tolist() == [[20, 2]]


def test_curves_are_told_apart_without_colour_and_axes_say_what_they_show(tmp_path, figures):
    rows = [
        row.format(epoch=epoch, step=step)
        for epoch, step in ((1, 10), (2, 20))
        for row in (TRAINING_ROW, EVALUATION_ROW)
    ]
    plot_training(write_log(tmp_path, *rows), tmp_path / "run.png")
    for axes, x_label in zip(figures[0].axes, ("step", "epoch")):
        assert len({line.get_linestyle() for line in axes.lines}) == 3
        assert len({line.get_color() for line in axes.lines}) == 3
        assert len(axes.get_legend().get_texts()) == 3
        assert axes.get_xlabel().startswith(x_label)
        assert axes.get_ylabel()
        assert axes.get_title()
        assert axes.get_ylim()[0] == 0


def test_the_same_log_gives_the_same_picture(tmp_path):
    path = write_log(tmp_path, TRAINING_ROW.format(epoch=1, step=10), EVALUATION_ROW.format(epoch=1, step=10))
    plot_training(path, tmp_path / "a.png")
    plot_training(path, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_global_state_of_matplotlib_is_left_alone(tmp_path):
    plot_training(write_log(tmp_path), tmp_path / "run.png")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
