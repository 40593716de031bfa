"""A wheel, in an environment of its own and outside the checkout, has the commands and all that they need."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from tiny_training import REPOSITORY, tiny_flags

NOT_PACKED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "datasets", "results")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of programs of an environment that has the wheel, and this one's other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(REPOSITORY, folder / "source", symlinks=True, ignore=NOT_PACKED)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", folder, folder / "source"], check=True)
    shutil.rmtree(folder / "source")
    venv.create(folder / "venv", with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(folder / "venv"), "platbase": str(folder / "venv")})
    # A line of such a file is a folder to import from; what is installed in it as editable does not count.
    Path(paths["purelib"], "packages.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    python, (wheel,) = Path(paths["scripts"], "python"), folder.glob("*.whl")
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--ignore-installed", wheel], check=True)
    return python.parent


@pytest.mark.parametrize("link", ["a file", "nothing"])
def test_a_source_without_its_detectors_is_told(tmp_path, link):
    """ZIP archives turn links into files, and some tools leave them out."""
    (tmp_path / "aploss_mx").mkdir()
    for name in ("setup.py", "README.md"):
        shutil.copy(REPOSITORY / name, tmp_path)
    if link == "a file":
        (tmp_path / "aploss_mx" / "models").write_text("../models")
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and "aploss_mx/models is no folder" in done.stderr


@pytest.mark.slow
def test_a_wheel_trains_evaluates_and_draws(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(program: str, *arguments: str) -> str:
        command = [str(installed / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    where = run("python", "-c", "import aploss_mx, symbols; print(aploss_mx.__file__); print(symbols.__file__)")
    assert all(installed.parent in Path(line).parents for line in where.splitlines())
    assert Path(where.split()[0]).with_name("models").joinpath("README.md").is_file()

    data, split = ["--dataset-root", "shapes"], ["--split", "2007_val"]
    run("aploss-mx", "shapes", "--output", "shapes", "--train", "8", "--val", "4", "--size", "64")
    run("aploss-mx", "check", *data, *split, "--classes", "circle,square,triangle,star,cross")
    run("aploss-mx", "train-voc", *tiny_flags(Path("shapes"), Path("run"), network="resnet18_v1b"))
    run("aploss-mx", "evaluate", "--params", "run/last.npz", *data, *split, "--output", "metrics.json")
    trained, tested = (json.loads((tmp_path / name).read_text()) for name in ("run/metrics.json", "metrics.json"))
    assert trained["AP"] == tested["AP"]
    run("aploss-mx", "report", "run")
    run("aploss-mx", "check", *data, *split, "--classes", "data", "--html", "data.html")
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "data.html").is_file()
    run("aploss-mx", "demo", "--params", "run/last.npz", "--input", "shapes/VOC2007/JPEGImages/val_*.jpg")
    assert len(list((tmp_path / "runs" / "demo").glob("val_*.png"))) == 4
    told = run("aploss-mx", "demo", "--input", "shapes/VOC2007/JPEGImages/val_000000.jpg", "--output", "by name")
    assert "detector: voc-resnet18" in told
    run("aploss-mx", "export", "--params", "run/last.npz", "--output", "exported")
    assert (tmp_path / "exported" / "model.json").is_file()
    run("python", "-m", "aploss_mx", "reproduce", "table1a", "--only", "batch 8", *data)
    assert (tmp_path / "runs" / "reproduce" / "results" / "smoke" / "table1a.md").is_file()
    (note,) = tmp_path.glob("runs/reproduce/smoke/*/done.json")
    assert json.loads(note.read_text())["commit"] == ""
