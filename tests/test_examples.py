"""The programs in examples/ run on small data."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import pytest

SSD = Path(__file__).resolve().parents[1] / "examples" / "ssd.py"


def test_only_the_loss_of_the_classes_changes_in_ssd(shapes, monkeypatch, capsys):
    monkeypatch.setattr("aploss_mx.data.shapes.generate", lambda root: shapes)
    main = runpy.run_path(str(SSD))["main"]
    losses = []
    for loss in ("ap", "softmax"):
        main(["--epochs", "1", "--loss", loss])
        epoch, result = capsys.readouterr().out.splitlines()
        losses.append(float(epoch.rpartition(" ")[2]))
        assert 0 <= float(result.split()[1]) <= 100
    # One step from the same start: an AP-loss of at most 1, and 4 cross entropies a positive, no better than chance.
    assert losses[1] - losses[0] > 4 * math.log(6) - 1


def test_no_epoch_is_no_training(capsys):
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SSD))["main"](["--epochs", "0"])
    assert end.value.code == 2 and "--epochs: must be at least 1, not 0" in capsys.readouterr().err


def test_other_pictures_are_left_alone_with_a_message(shapes):
    with pytest.raises(SystemExit, match="error: .* holds a shapes data set made with .* Nothing was changed"):
        runpy.run_path(str(SSD))["main"](["--dataset-root", str(shapes)])
