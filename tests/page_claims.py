"""Read the pages of the repository, and hold what they say against the committed measurements."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Sequence

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("[mr]*/README.md"))
}
README, RESULTS = PAGES["README.md"], PAGES["results/README.md"]
METHOD, SPEED, DEPLOYMENT = (PAGES[f"docs/{name}.md"] for name in ("method", "speed", "deployment"))
LOSSES_OF_TABLE = {"AP-loss": "ap", "AUC-loss": "auc", "focal loss": "focal", "OHEM": "ohem"}


def measured(name: str) -> list[dict[str, str]]:
    with (REPOSITORY / "results" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(row: dict[str, str], *columns: str) -> list[float]:
    return [float(row[column]) for column in columns]


def table(header: str, page: str) -> list[list[str]]:
    """Cells of the rows under the one line that starts so, without the ruler."""
    _, rest = page.split(f"\n{header}")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rest.split("\n\n")[0].splitlines()[2:]]


def claim(pattern: str, page: str) -> str:
    """The group of the one place that the pattern matches, where a blank may be the end of a line."""
    (found,) = re.findall(pattern.replace(" ", r"\s+"), page, re.DOTALL)
    return found


def assert_shown(text: str, expected: Sequence[float]) -> None:
    """Assert that a text's numbers are the expected ones, to half a unit of the last digit of each."""
    shown = re.findall(r"\d[\d,]*(?:\.\d+)?", text)
    assert len(shown) == len(expected), text
    for number, value in zip(shown, expected):
        unit = 10.0 ** -len(number.partition(".")[2])
        assert abs(float(number.replace(",", "")) - value) <= unit * 0.5001, (number, value, text)
