"""What `make quickstart` promises."""

from __future__ import annotations

import pytest
from tiny_training import assert_same_arrays

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import train_voc
from aploss_mx.data.shapes import generate


@pytest.mark.slow
def test_quickstart_finds_the_shapes_and_one_seed_gives_one_result(tmp_path):
    generate(tmp_path / "shapes", progress=False)
    flags = ["--recipe", "quickstart", "--dataset-root", str(tmp_path / "shapes")]
    runs = [tmp_path / "one", tmp_path / "two"]
    one, two = (train_voc.main([*flags, "--save-prefix", str(run)]) for run in runs)
    assert one["AP50"] >= 0.60
    assert one == two
    assert_same_arrays(*(Checkpoint.load(run / "last.npz").parameters for run in runs))
