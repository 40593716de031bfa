"""Tables: means, spread and noise beside the paper's figures, made of CSV alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from aploss_mx.commands import reproduce
from aploss_mx.evaluation.coco import METRICS
from aploss_mx.report.plots import Point, write_curves
from aploss_mx.report.tables import format_table, measured_row, read_rows, summarise, update_rows, write_summary


def metrics_of(ap: float) -> dict:
    return {**dict.fromkeys(METRICS, ap), "APs": None, "epoch": 5}


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "whole" / "table2.csv"
    rows = [("ap, VOC07", 0, 0.5), ("focal, VOC07", 0, 0.4), ("ap, VOC07", 1, 0.54)]
    update_rows(path, [measured_row(row, seed, metrics_of(ap), "abc") for row, seed, ap in rows])
    return path


def test_table_has_paper_mean_spread_and_difference(table):
    text = format_table("table2", "whole", read_rows(table))
    lines = text.splitlines()
    assert lines[0] == "# Table 2, scale `whole`"
    assert "not comparable with the published figures" in text
    (ap,) = [line for line in lines if line.startswith("| ap")]
    assert ap.startswith("| ap, VOC07 | 2 | 53.1 | 52.0 ± 2.8 | -1.1 | 82.3 | 52.0 ± 2.8 | -30.3 |")
    (focal,) = [line for line in lines if line.startswith("| focal")]
    assert focal.startswith("| focal, VOC07 | 1 | 51.3 | 40.0 | -11.3 |")
    (auc,) = [line for line in lines if line.startswith("| auc")]
    assert auc.startswith("| auc, VOC07 | 0 | 49.3 | – | – |")
    assert "vary by 2.8 AP (standard deviation, pooled over rows of several): smaller differences" in text
    assert "Rows of one seed, which say less: 1." in text
    alone = [row for row in read_rows(table) if row["seed"] == "0"]
    assert "noise is was not measured" in format_table("table2", "whole", alone)


def test_noise_is_pooled_over_rows_by_their_seeds(table):
    """Deviations of 2.83 from 2 seeds and 1 from 3: the root of (1 * 8 + 2 * 1) / 3."""
    rows = [("focal, VOC07", seed, ap) for seed, ap in enumerate([0.39, 0.40, 0.41])]
    update_rows(table, [measured_row(row, seed, metrics_of(ap), "abc") for row, seed, ap in rows])
    text = format_table("table2", "whole", read_rows(table))
    assert "vary by 1.8 AP (standard deviation, pooled over rows of several)" in text


def test_the_summary_has_what_the_table_has(table):
    summary = {(one["row"], one["figure"]): one for one in summarise("table2", "whole", read_rows(table))}
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


def test_rows_come_by_name_and_by_the_number_of_the_seed(table):
    update_rows(table, [measured_row("ap, VOC07", seed, metrics_of(0.5), "abc") for seed in (10, 2)])
    rows = [(row["row"].split(",")[0], row["seed"]) for row in read_rows(table)]
    assert rows == [("ap", "0"), ("ap", "1"), ("ap", "2"), ("ap", "10"), ("focal", "0")]


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
