"""The programs in examples/ run on small data."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

SSD = Path(__file__).resolve().parents[1] / "examples" / "ssd.py"


@pytest.mark.parametrize("loss", ["ap", pytest.param("softmax", marks=pytest.mark.slow)])
def test_ssd(shapes, monkeypatch, capsys, loss):
    monkeypatch.setattr("aploss_mx.data.shapes.generate", lambda root: shapes)
    runpy.run_path(str(SSD))["main"](["--epochs", "2", "--loss", loss])
    first, second, result = capsys.readouterr().out.splitlines()
    assert np.isfinite([float(line.rpartition(" ")[2]) for line in (first, second)]).all()
    assert 0 <= float(result.split()[1]) <= 100
