"""The benchmark of networks: each form of the detector runs in its process, and the table comes out."""

from __future__ import annotations

import csv

import pytest

from scripts.benchmarks import inference

NAMES = ("MXNet float32", "MXNet float32, fused", "MXNet INT8", "onnxruntime float32", "onnxruntime INT8")


@pytest.mark.slow  # five processes, three of which import MXNet
def test_table_and_csv(shapes, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inference, "BATCHES", (1, 2))
    flags = ["--params", str(trained / "last.npz"), "--dataset-root", str(shapes), "--split", "val"]
    flags += ["--calibration-split", "train", "--calibrate", "2", "--rounds", "1", "--threads", "1"]
    inference.main([*flags, "--output", str(tmp_path / "new" / "speed.csv")])
    printed = capsys.readouterr().out
    assert "1 threads; images of 64x64" in printed
    with (tmp_path / "new" / "speed.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == list(NAMES)
    for row in rows:
        assert f"| {row['network']} |" in printed
        assert min(float(row[f"{what} {batch}"]) for what in ("batch", "cpu") for batch in (1, 2)) > 0
        assert 0 <= float(row["AP"]) <= float(row["AP50"]) <= 100
        assert float(row["disk"]) < float(row["peak"])
        assert "VNNI" in row["chip"]
    assert len({row["peak"] for row in rows}) > 1  # each its own, not this process's
    sizes = {row["network"]: float(row["disk"]) for row in rows}
    assert sizes["onnxruntime INT8"] < 0.5 * sizes["onnxruntime float32"]


@pytest.mark.parametrize("there", [False, True])
def test_a_python_without_torchvision_is_told_before_the_work(there, tmp_path, monkeypatch):
    python = tmp_path / "python"
    if there:
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
    monkeypatch.setattr(inference, "Detector", None)
    flags = ["--params", "x", "--dataset-root", "x", "--split", "x", "--calibration-split", "x"]
    with pytest.raises(SystemExit, match="cannot import torchvision" if there else "No such file .*python"):
        inference.main([*flags, "--torchvision", str(python)])


def test_a_worker_that_fails_is_told(tmp_path):
    worker = inference.Worker(inference.sys.executable, inference.Contender("onnx", tmp_path), tmp_path, 1)
    with pytest.raises(ChildProcessError, match=r"inference_worker\.py onnx .* failed"):
        worker.run(1)
