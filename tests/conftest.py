"""Fixtures shared by all tests."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
from pathlib import Path

import pytest

# The tests' networks are tiny: several threads would spend their time waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import aploss_mx  # noqa: F401  (prepares the process for `import mxnet`)

# isort: split
from browser import browsing
from coco_shapes import coco_flags, to_coco
from contexts import device
from emulated_gpu import build, compiler
from hypothesis import HealthCheck, settings
from shared_folder import SHARED
from tiny_training import link_images, paint_shapes, tiny_flags

from aploss_mx.commands import train_coco, train_voc
from aploss_mx.detection.detector import Detector
from aploss_mx.training.loop import TrainingRun

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
if hasattr(ctypes.CDLL(None), "mallopt"):
    # Arrays beyond it go back to the system when they are freed; by itself, glibc raises it and keeps them.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
# How long an example takes, and its making, is the machine's affair.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Leave all that is imported by now out of collections of garbage, which then take milliseconds."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Free networks, which refer to themselves, before the next test makes its own."""
    yield  # until pytest has let go of the test's fixtures, too: what is frozen with them stays until the file ends
    if nextitem is None or nextitem.path != item.path:
        gc.unfreeze()  # what the tests of a file had in common
    gc.collect()
    gc.freeze()  # what is left, such as what numba has compiled, would cost the next collection 30 ms


@pytest.fixture(scope="session", autouse=True)
def default_device():
    """Arrays without a device of their own are on the one that is tested."""
    with device():
        yield


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing, and under CI nothing that needs it may skip")
        pytest.skip(f"needs {folder} (set APLOSS_MX_SHARED to the folder that holds it)")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data sets VOCdevkit, bccd, coco and demo; skips where it is missing."""
    return _existing(SHARED / "data")


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """The GPU kernels compiled for the CPU, for `emulated_gpu.EmulatedGPU`; skips where there is no compiler."""
    if compiler() is None:
        if os.environ.get("CI"):
            pytest.fail("there is no C++ compiler, and under CI nothing that needs one may skip")
        pytest.skip("needs a C++ compiler")
    return build(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The ImageNet ResNet-18 in torchvision naming; skips where it is missing."""
    return _existing(SHARED / "weights") / "resnet18_imagenet_bnfolded_stem_to_layer3.npz"


@pytest.fixture(scope="session")
def whole_resnet18() -> Path:
    """An ImageNet ResNet-18 with its BatchNorm, but for the classifier; ``…_reference.npz`` beside it has features."""
    return _existing(SHARED / "weights") / "resnet18_imagenet_whole.npz"


@pytest.fixture(scope="session")
def voc(shared_data, tmp_path_factory) -> Path:
    """Four real images of PASCAL VOC as split ``2007_tiny``."""
    source = shared_data / "VOCdevkit" / "VOC2007"
    root = tmp_path_factory.mktemp("voc")
    link_images(source, root / "VOC2007", (source / "ImageSets" / "Main" / "train.txt").read_text().split()[:4])
    return root


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """Generated shapes in VOC layout, not to be changed: ``train`` of 8 pictures, ``val`` of 4, ``empty`` of none."""
    root = paint_shapes(tmp_path_factory.mktemp("data") / "shapes")
    (root / "VOC2007" / "ImageSets" / "Main" / "empty.txt").write_text("\n")
    return root


@pytest.fixture(scope="session")
def trained(shapes, tmp_path_factory) -> Path:
    """The folder of a run of one epoch of two steps on shapes, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_voc.main(tiny_flags(shapes, folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def coco(shapes, tmp_path_factory) -> Path:
    """Generated shapes in COCO layout, not to be changed."""
    return to_coco(shapes, tmp_path_factory.mktemp("coco") / "coco")


@pytest.fixture
def own_coco(coco, tmp_path) -> Path:
    """A copy of `coco`, to be spoilt."""
    return shutil.copytree(coco, tmp_path / "own")


@pytest.fixture(scope="session")
def trained_on_coco(coco, tmp_path_factory) -> Path:
    """The folder of a run of one epoch on `coco`, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_coco.main(coco_flags(coco, folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; skips where there is none."""
    with browsing() as one:
        yield one


@pytest.fixture
def no_work(monkeypatch) -> None:
    """Loading a network, or training one, fails."""
    monkeypatch.setattr(Detector, "load", lambda *_, **__: pytest.fail("it loads a network"))
    monkeypatch.setattr(TrainingRun, "run", lambda _: pytest.fail("it trains"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder for a run, removed afterwards for its large checkpoints, which pytest would keep for days."""
    yield tmp_path / "run"
    for path in tmp_path.rglob("*.npz"):
        path.unlink()
