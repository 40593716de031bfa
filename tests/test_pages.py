"""The pages' numbers are those of the committed measurements, rounded."""

from __future__ import annotations

import csv
import json
import re
import statistics
from pathlib import Path
from typing import Sequence

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RESULTS = (REPOSITORY / "results" / "README.md").read_text(encoding="utf-8")
SMALL = sorted(path.stem for path in (REPOSITORY / "results" / "small").glob("table*.md"))


def measured(name: str) -> list[dict[str, str]]:
    with (REPOSITORY / "results" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(row: dict[str, str], *columns: str) -> list[float]:
    return [float(row[column]) for column in columns]


def table(header: str, page: str = README) -> list[list[str]]:
    """Cells of the rows under the one line that starts so, without the ruler."""
    _, rest = page.split(f"\n{header}")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rest.split("\n\n")[0].splitlines()[2:]]


def claim(pattern: str) -> str:
    """The group of the one place that the pattern matches, where a blank may be the end of a line."""
    (found,) = re.findall(pattern.replace(" ", r"\s+"), README, re.DOTALL)
    return found


def assert_shown(text: str, expected: Sequence[float]) -> None:
    """Assert that a text's numbers are the expected ones, to half a unit of the last digit of each."""
    shown = re.findall(r"\d[\d,]*(?:\.\d+)?", text)
    assert len(shown) == len(expected), text
    for number, value in zip(shown, expected):
        unit = 10.0 ** -len(number.partition(".")[2])
        assert abs(float(number.replace(",", "")) - value) <= unit * 0.5001, (number, value, text)


@pytest.mark.parametrize("page, name", [("README.md", "table2"), *(("results/README.md", name) for name in SMALL)])
def test_pages_show_the_committed_figures(page, name):
    """Paper and measured of each row's figures, without the differences."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    lines = (REPOSITORY / "results" / "small" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if re.match(r"\| .* \| \d", line)]
    assert len(rows) >= 2
    for row in rows:
        figures = row[3:-1]
        assert " | ".join(figure for place, figure in enumerate(figures) if place % 3 < 2) in text


def test_score_shifts():
    rows = zip(measured("small/score_shift_val.csv"), measured("small/score_shift_train.csv"))
    columns = [f"{images} together" for images in (1, 2, 4, 8)]
    cells = table("| trained with rankings of |", RESULTS)
    assert len(cells) == 4
    for (_, *losses), pair in zip(cells, rows):
        assert_shown(" | ".join(losses), [number for row in pair for number in numbers(row, *columns)])


def test_ends_of_the_optimisers():
    ends: dict[str, list[float]] = {}
    for point in measured("small/figure5b.csv"):
        if int(point["step"]) >= 630:
            ends.setdefault(point["row"], []).append(float(point["value"]))
    names = ("error-driven update", "approximate gradient", "structured hinge loss")
    for rate, *losses in table("| learning rate | error-driven update |", RESULTS):
        assert_shown(" | ".join(losses), [statistics.mean(ends.pop(f"{name}, lr {rate}")) for name in names])
    assert not ends


def test_times_of_loss_and_loop():
    rows = measured("loss.csv")
    cells = table("| scores | positives |")
    assert len(rows) == len(cells) == 6
    for row, (scores, positives, regime, *times) in zip(rows, cells):
        assert regime == row["regime"]
        if scores:
            assert_shown(f"{scores} | {positives}", numbers(row, "scores", "positives"))
        columns = ("exact_seconds", "numpy_seconds", "loop_seconds", "speed_up", "copies")
        assert_shown(" | ".join(times), numbers(row, *columns))


def test_claims_of_speed():
    rows = measured("loss.csv")
    early, late, gains = [], [], []
    for row in rows:
        exact, numpy, loop = numbers(row, "exact_seconds", "numpy_seconds", "loop_seconds")
        (late if row["regime"] == "late" else early).append((loop / exact, loop / numpy))
        gains.append(numpy / exact)
    ends = [end(speeds) for part in (early, late) for speeds in zip(*part) for end in (min, max)]
    assert_shown(claim(r"\[measured\]\(#speed\) at (.*?)\n\n"), ends)
    assert_shown(claim(r"on the CPU\]\(#speed\) up to ([\d.]+) times"), [max(gains)])
    memory = [float(row["memory"]) for row in rows]
    assert_shown(claim(r"the gradient included, is (.*?) times"), [min(memory), max(memory)])


def test_times_of_all_losses():
    rows = measured("loss_contenders.csv")
    cells = table("| scores as in training | `ap` |")
    assert len(cells) == 3
    for regime, *times in cells:
        of_regime = [row for row in rows if row["regime"] == regime]
        assert_shown(
            " | ".join(times), [*numbers(of_regime[0], "seconds"), *(float(row["to_ap"]) for row in of_regime[1:])]
        )


def test_times_of_steps():
    columns = {
        "load, augment and assign targets of the batch, one process": "load",
        "class loss and its gradient": "class loss",
        "network on a test image": "network",
    }
    rows = [*measured("step_resnet50_512.csv"), *measured("step_resnet101_512.csv")]
    assert [row["loss"] for row in rows] == ["ap", "focal"] * 2
    for name, *times in table("| seconds | ResNet-50, `ap` |"):
        assert_shown(" | ".join(times), [float(row[columns.get(name, name)]) for row in rows])
    shares = [100 * float(row["class loss, share of a step"]) for row in rows[::2]]
    assert_shown(claim(r"AP-loss takes ([\d.]+ to [\d.]+) % of these steps"), [min(shares), max(shares)])


def test_losses_on_the_quickstart():
    times = {row["loss"]: numbers(row, "class loss", "whole step") for row in measured("step_quickstart.csv")}
    for name, seeds, *cells in table("| `--loss` | seeds |"):
        loss = name.strip("`")
        runs = [row for row in measured("quickstart_losses.csv") if row["loss"] == loss]
        assert len(runs) == int(seeds)
        measures = (statistics.mean, statistics.stdev)[: min(2, len(runs))]
        precisions = [[float(run[column]) for run in runs] for column in ("AP", "AP50", "AP75")]
        expected = [measure(values) for values in precisions for measure in measures]
        assert_shown(" | ".join(cells), [*expected, *times[loss]])


def test_other_trainings():
    files = ("quickstart/metrics", "small_voc/metrics", "small_bccd/metrics", "small_coco/metrics",
             "small_coco/metrics_from_32x32")  # fmt: skip
    rows = table("| data | recipe |")
    assert len(rows) == len(files)
    for name, (_, _, _, *precisions, _) in zip(files, rows):
        metrics = json.loads((REPOSITORY / "results" / f"{name}.json").read_text(encoding="utf-8"))
        expected = [100 * metrics[column] for column in ("AP", "AP50", "AP75", "VOC07_AP50")]
        assert_shown(" | ".join(precisions), expected)
