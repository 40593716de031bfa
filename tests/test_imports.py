"""Imports run in one direction."""

from __future__ import annotations

import re
from pathlib import Path

from page_claims import PAGES, REPOSITORY, table


def test_imports_run_one_way():
    """Each package imports those above it in CONTRIBUTING's table; what stands in none of them, any of them may."""
    cells = [cell for cell, _ in table("| package | what is in it |", PAGES["CONTRIBUTING.md"])]
    order = {Path(name).stem: number for number, cell in enumerate(cells) for name in re.findall("`(.*?)`", cell)}
    assert len(order) > 15
    for path in (*REPOSITORY.glob("aploss_mx/**/*.py"), *REPOSITORY.glob("symbols/*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        here = parts[0] if parts[0] == "symbols" else parts[1]
        for name in re.findall(r"^ *from aploss_mx\.?([\w.]*) import", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert here != "symbols" and order.get(name.split(".")[0], 0) <= order.get(here, len(cells)), (path, name)
