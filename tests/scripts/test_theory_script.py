"""`scripts/theory.py` leaves a figure and a line for each experiment."""

from __future__ import annotations

import pytest
from narrow_network import NAME
from PIL import Image
from tiny_training import paint_shapes

from aploss_mx.data.shapes import SHAPES_CLASSES
from aploss_mx.theory import counterexample, optimisers
from scripts import theory
from symbols.retinanet import get_network

FAST = ["accuracy_and_ap", "step_functions", "observation_1", "accumulated_loss", "stuck_descent", "score_shift"]


def assert_drawn(folder, names, capsys):
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in printed if ": " in line] == names
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in names}
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) >= 500
            assert len(picture.convert("L").getcolors(1 << 16)) > 10


def test_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(counterexample, "descend", lambda _, descend=counterexample.descend: descend(100))
    theory.main(["--output", str(tmp_path / "figures"), "--only", *FAST])
    assert_drawn(tmp_path / "figures", FAST, capsys)


@pytest.mark.parametrize("real", [pytest.param(False, marks=pytest.mark.slow), True])
def test_optimisers_on_generated_and_on_given_images(real, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(optimisers, "get_network", lambda _, *sizes, **kwargs: get_network(NAME, *sizes, **kwargs))
    flags = ["--output", str(tmp_path / "figures"), "--only", "optimisers", "--steps", "2"]
    if real:
        shapes = paint_shapes(tmp_path / "shapes")
        flags += ["--dataset-root", str(shapes), "--split", "2007_val", "--classes", ",".join(SHAPES_CLASSES)]
    theory.main(flags)
    assert_drawn(tmp_path / "figures", ["optimisers"], capsys)


def test_errors_are_readable(tmp_path):
    flags = ["--output", str(tmp_path), "--only", "optimisers", "--dataset-root"]
    with pytest.raises(SystemExit, match=r"error: errors in the data \(1\)\s+no such folder"):
        theory.main([*flags, str(tmp_path / "nowhere")])
    shapes = paint_shapes(tmp_path / "shapes")
    for path in (shapes / "VOC2007" / "Annotations").glob("train_*.xml"):
        path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    with pytest.raises(SystemExit, match="error: not one object in the 8 images counts: there is nothing to train on"):
        theory.main([*flags, str(shapes), "--classes", ",".join(SHAPES_CLASSES)])
    for flags in (["--only", "proof"], ["--split", "2007_val"]):
        with pytest.raises(SystemExit) as end:
            theory.main(flags)
        assert end.value.code == 2
