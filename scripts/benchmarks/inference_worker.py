#!/usr/bin/env python
"""Time one network for scripts/benchmarks/inference.py, in a process that holds nothing else.

python inference_worker.py KIND PATH IMAGES THREADS: each line of standard input is a number of images, for which a line
of JSON says the seconds that the network took them a second time, those of the CPU, and the peak of memory so far, in
KiB. KIND says what PATH is: mxnet, a folder that Detector.load takes; onnx, a model; torchvision, JSON that says which
RetinaNet to make. IMAGES is a file of NumPy's, float32 (B, 3, H', W').
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

Run = Callable[[np.ndarray], Any]


def of_mxnet(path: Path, _: int) -> Run:
    """Return how to run an exported network; MXNet takes the threads from OMP_NUM_THREADS."""
    from aploss_mx.detection.detector import Detector

    return Detector.load(path).forward


def of_onnx(path: Path, threads: int) -> Run:
    """Return how to run an ONNX model, by onnxruntime alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"data": images})


def of_torchvision(path: Path, threads: int) -> Run:
    """Return how to run torchvision's RetinaNet of random weights, without its anchors and post-processing."""
    import torch
    from torchvision.models import resnet
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops import FrozenBatchNorm2d
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torch.set_num_threads(threads)
    about = json.loads(path.read_text())
    body = getattr(resnet, f"resnet{about['layers']}")(norm_layer=FrozenBatchNorm2d)
    widths = [width * (1 if about["layers"] < 50 else 4) for width in (128, 256, 512)]
    stages = {"layer2": "0", "layer3": "1", "layer4": "2"}
    channels = about["channels"]
    backbone = BackboneWithFPN(body, stages, widths, channels, extra_blocks=LastLevelP6P7(widths[-1], channels))
    network = RetinaNet(backbone, about["classes"]).eval()
    torch.save(network.state_dict(), path.with_name("model.pt"))

    def run(images: np.ndarray) -> Any:
        with torch.inference_mode():
            return network.head(list(network.backbone(torch.from_numpy(images)).values()))

    return run


def peak_memory() -> int:
    """Return this program's peak in KiB; getrusage would give that of the process that started it, if it is higher."""
    return int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])


def main(kind: str, path: str, file: str, threads: str) -> None:
    images = np.load(file)
    run = {"mxnet": of_mxnet, "onnx": of_onnx, "torchvision": of_torchvision}[kind](Path(path), int(threads))
    for line in sys.stdin:
        batch = images[: int(line)]
        run(batch)  # what is prepared for a new size is not timed
        start, start_cpu = time.perf_counter(), time.process_time()
        run(batch)
        seconds = time.perf_counter() - start, time.process_time() - start_cpu
        print(json.dumps([*seconds, peak_memory()]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
