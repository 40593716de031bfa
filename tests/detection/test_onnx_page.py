"""docs/onnx.md: its program runs as printed, and imports nothing of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
from random_detector import make_detector
from test_onnx_boxes import open_session
from tiny_training import REPOSITORY

from aploss_mx.detection.export import export_onnx, export_onnx_boxes
from aploss_mx.evaluation.calibration import Calibration


def test_the_program_runs_as_printed(tmp_path, shared_data):
    (program,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "onnx.md").read_text("utf-8"), re.DOTALL)
    assert len([line for line in program.splitlines() if line and "import" not in line]) <= 15
    detector = make_detector()
    detector.shown_score = 0.01
    network = export_onnx(detector.network, tmp_path / "exported" / "model.onnx")
    export_onnx_boxes(detector, network, tmp_path / "exported" / "detector.onnx")
    shutil.copy(shared_data / "demo" / "street_small.jpg", tmp_path / "street.jpg")
    program += "\nimport sys\nassert not any(name.split('.')[0] in ('aploss_mx', 'mxnet') for name in sys.modules)\n"
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    before, after = (np.asarray(Image.open(tmp_path / name), int) for name in ("street.jpg", "found.png"))
    drawn = (np.abs(after - before) > 30).any(axis=2)
    assert 0.001 < drawn.mean() < 0.9
    assert (after[drawn] == (255, 0, 0)).all(axis=1).mean() > 0.5


def test_the_table_names_all_outputs(tmp_path):
    detector = make_detector()
    detector.calibration = Calibration(1, 0)
    page = (REPOSITORY / "docs" / "onnx.md").read_text("utf-8")
    outputs = [value.name for value in open_session(detector, tmp_path).get_outputs()]
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == outputs
