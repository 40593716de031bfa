"""What a GPU is told to be unfit for, without one."""

from __future__ import annotations

import pytest

from aploss_mx.cuda import GPU, Libraries


@pytest.mark.parametrize("capability", [(5, 0), (5, 2), (6, 1), (7, 5), (8, 0), (8, 6), (8, 9)])
def test_from_maxwell_to_ada(capability):
    assert GPU(0, "a GPU", capability).problem() == ""


@pytest.mark.parametrize(("capability", "told"), [((3, 5), "3.5: it"), ((9, 0), "9.0 (Hopper"), ((10, 0), "10.0 (Hop")])
def test_no_others(capability, told):
    assert f"no code for compute capability {told}" in GPU(0, "a GPU", capability).problem()


def test_an_old_driver():
    assert Libraries((12, 4), (11, 8), "8.9.6").problem() == ""
    assert "the driver is of CUDA 10.2" in Libraries((10, 2), (11, 8), "8.9.6").problem()
