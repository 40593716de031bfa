"""Quantise a detector's network to INT8 for CPUs, by MXNet's own ``mx.contrib.quantization``."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

import mxnet as mx
import numpy as np
from mxnet.contrib.quantization import quantize_net_v2

from aploss_mx.detection.detector import Detector


def quantize(detector: Detector, images: Sequence[np.ndarray]) -> mx.gluon.SymbolBlock:
    """Return a detector's network with convolutions in INT8, BatchNorm folded into them; the CPU computes it.

    Weights are quantised by channel, activations by the range that they span on the calibration images.

    Parameters
    ----------
    detector : Detector
        On the CPU.
    images : sequence of ndarray of uint8, shape (H, W, 3)
        Like those that it will see; a few dozen suffice. They are shown in its first view.

    Raises
    ------
    ValueError
        If there are no images.
    """
    if not len(images):
        raise ValueError("INT8 needs images to calibrate with")
    inputs = [detector.views[0](image) for image in images]
    # One shape for all: filled up with 0, the mean colour, as each is anyway.
    height, width = (max(array.shape[axis] for array in inputs) for axis in (1, 2))
    batch = np.zeros((len(inputs), 3, height, width), np.float32)
    for row, array in zip(batch, inputs):
        row[:, : array.shape[1], : array.shape[2]] = array
    with _quiet():
        block = quantize_net_v2(
            detector.network,
            quantized_dtype="auto",
            quantize_mode="smart",
            quantize_granularity="channel-wise",
            calib_data=mx.io.NDArrayIter({"data": mx.nd.array(batch)}, batch_size=1),
            calib_mode="naive",
            num_calib_examples=len(batch),
            ctx=mx.cpu(),
            logger=logging.getLogger(__name__),
        )
    block(mx.nd.array(batch[:1]))  # before it, `export` would leave out all parameters
    return block


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what is written to standard error: MXNet's C++ logs two lines a layer, whatever the level."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a type that it cannot infer before the first image
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def has_int8_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this CPU multiplies INT8 in one step (VNNI); False where that cannot be found out."""
    try:
        words = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return any(flag in words for flag in ("avx512_vnni", "avx_vnni"))
