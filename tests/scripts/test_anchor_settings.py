"""Anchors other than the paper's, from the flag to the boxes."""

import numpy as np
import pytest
import yaml
from tiny_training import paint_shapes, tiny_flags

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands import export, train_voc
from aploss_mx.data.pixels import read_image
from aploss_mx.detection.detector import Detector

ANCHORS = {"anchor_size": 2.0, "anchor_scales": [1.0], "anchor_ratios": [1.0, 4.0]}


def test_from_the_flag_to_the_boxes(tmp_path):
    shapes, run = paint_shapes(tmp_path / "shapes"), tmp_path / "run"
    flags = tiny_flags(shapes, run, anchor_size=2, anchor_scales="1", anchor_ratios="1,4", score_threshold=0)
    train_voc.main(flags)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert {name: recipe[name] for name in ANCHORS} == ANCHORS

    checkpoint = Checkpoint.load(run / "last.npz")
    outputs = [array for name, array in checkpoint.parameters.items() if name.endswith("head.4.bias")]
    assert sorted(map(len, outputs)) == [2 * 4, 2 * len(checkpoint.classes)]

    image = read_image(next((shapes / "VOC2007" / "JPEGImages").iterdir()))
    found = Detector.load(run / "last.npz").predict(image)
    assert len(found)
    export.main(["--params", str(run / "last.npz"), "--output", str(tmp_path / "exported")])
    again = Detector.load(tmp_path / "exported").predict(image)
    np.testing.assert_allclose(again.boxes, found.boxes, atol=0.01)

    with pytest.raises(SystemExit, match="anchor_ratios"):
        train_voc.main([*flags, "--anchor-ratios", "1,3", "--resume", "auto", "--epochs", "2"])
