"""docs/deployment.md: the table of detections is what `Detector.predict` returns."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
from random_detector import make_detector
from tiny_training import REPOSITORY

from aploss_mx.evaluation.calibration import Calibration
from aploss_mx.geometry.detections import Detections


def test_the_table_of_detections_is_what_predict_returns():
    page = (REPOSITORY / "docs" / "deployment.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \((D[^)]*)\)", page, re.MULTILINE)
    assert [name for name, *_ in rows] == [field.name for field in fields(Detections)]
    detector = make_detector()
    detector.calibration = Calibration(1.0, 0.0)
    found = detector.predict(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))
    for name, kind, shape in rows:
        value = getattr(found, name)
        assert value.dtype == kind
        assert value.shape == {"D,": (len(found),), "D, 4": (len(found), 4)}[shape]
