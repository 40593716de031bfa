#!/usr/bin/env python
"""Compare what computes a trained detector's network on the CPU: MXNet, onnxruntime, torchvision; float32 and INT8.

python scripts/benchmarks/inference.py --params runs/quickstart/last.npz --dataset-root datasets/shapes \\
    --split 2007_val --calibration-split 2007_train --torchvision ../venv-torch/bin/python

Each network runs in a process of its own, which is what the memory is of; they take turns, so that whatever else the
machine does slows down all alike. On a busy one, look at the CPU's time and give --threads 1: threads that wait for one
another spend it, too. Timed is the network alone, from images to logits and deltas, the second time that it gets as
many; what makes boxes of them is the same for all. AP is that of the whole detector. --torchvision names the Python of
an environment with torch and torchvision, whose RetinaNet of the same size, of random weights, is timed then, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aploss_mx  # noqa: F401  (prepares the process for `import mxnet`)

# isort: split
import mxnet as mx
import numpy as np

from aploss_mx.archive import write_params
from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.atomic import write_csv, write_text
from aploss_mx.checkpoint import Checkpoint
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import positive_int
from aploss_mx.commands.scoring import detect
from aploss_mx.data.check import Dataset
from aploss_mx.data.dataset import open_dataset
from aploss_mx.data.pixels import read_image
from aploss_mx.data.sample import Sample
from aploss_mx.detection.description import describe
from aploss_mx.detection.detector import Detector
from aploss_mx.detection.export import export_onnx, export_symbol
from aploss_mx.detection.onnx_int8 import quantize_onnx
from aploss_mx.detection.quantize import has_int8_units, quantize
from aploss_mx.devices import count_cores
from aploss_mx.evaluation.evaluate import evaluate
from aploss_mx.progress import track
from aploss_mx.report.markdown import format_head, format_row

WORKER = Path(__file__).with_name("inference_worker.py")
DESCRIPTIONS = ("model.json", "about.json")
BATCHES = (1, 8)
PRECISIONS = ("AP", "AP50")


class Contender(NamedTuple):
    """A network to compare: the worker's way to run it, and its file or folder, in a folder of its own."""

    kind: str
    path: Path

    def size(self) -> int:
        """Return the bytes of the files that hold the network."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return sum(file.stat().st_size for file in folder.iterdir() if file.name not in DESCRIPTIONS)


def write_contenders(detector: Detector, images: list[np.ndarray], root: Path) -> dict[str, Contender]:
    """Write each form of a detector's network into a folder of its own below `root`, and return them by name."""
    folders = [root / name for name in ("mxnet", "fused", "mxnet_int8", "onnx", "onnx_int8")]
    for folder in folders:
        folder.mkdir()
        write_text(folder / "model.json", describe(detector))
    plain, fused, int8, onnx, onnx_int8 = folders
    export_symbol(detector.network, plain)
    fuse(plain, fused)
    export_symbol(quantize(detector, images), int8, "int8")
    export_onnx(detector.network, onnx / "model.onnx")
    quantize_onnx(onnx / "model.onnx", map(detector.views[0], images), onnx_int8 / "int8.onnx")
    return {
        "MXNet float32": Contender("mxnet", plain),
        "MXNet float32, fused": Contender("mxnet", fused),
        "MXNet INT8": Contender("mxnet", int8),
        "onnxruntime float32": Contender("onnx", onnx / "model.onnx"),
        "onnxruntime INT8": Contender("onnx", onnx_int8 / "int8.onnx"),
    }


def fuse(source: Path, target: Path) -> None:
    """Write an exported network as oneDNN computes it fastest: BatchNorm, additions and ReLU in the convolutions."""
    symbol = mx.sym.load(str(source / "model-symbol.json"))
    arrays = mx.nd.load(str(source / "model-0000.params"))
    args, aux = ({name[4:]: array for name, array in arrays.items() if name[:4] == kind} for kind in ("arg:", "aux:"))
    fused = symbol.optimize_for("MKLDNN", args, aux, skip_infer=True)
    write_text(target / "model-symbol.json", fused.tojson())
    write_params(target / "model-0000.params", arrays)


def torchvision_contender(checkpoint: Checkpoint, root: Path) -> Contender:
    """Return torchvision's RetinaNet of a checkpoint's size."""
    folder = root / "torchvision"
    folder.mkdir()
    about = {
        "layers": int(re.findall(r"resnet(\d+)", checkpoint.recipe.network)[0]),
        "channels": checkpoint.recipe.channels,
        "classes": len(checkpoint.classes),
    }
    write_text(folder / "about.json", json.dumps(about))
    return Contender("torchvision", folder / "about.json")


def like_images(detector: Detector, samples: list[Sample], count: int) -> np.ndarray:
    """Return the first images that the network sees in their commonest size, float32 (count, 3, H', W')."""
    sizes = [detector.views[0].transform.input_shape(sample.height, sample.width) for sample in samples]
    ((commonest, _),) = Counter(sizes).most_common(1)
    chosen = [sample for sample, size in zip(samples, sizes) if size == commonest][:count]
    if len(chosen) < count:
        raise ValueError(f"there are only {len(chosen)} images of one size, too few for a batch of {count}")
    return np.stack([detector.views[0](read_image(sample.image_path)) for sample in chosen])


class Worker:
    """A process that runs one network."""

    def __init__(self, python: str, contender: Contender, images: Path, threads: int):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [python, str(WORKER), contender.kind, str(contender.path), str(images), str(threads)]
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, images: int) -> tuple[float, float, int]:
        """Return the seconds that so many images took, those of the CPU, and the peak of memory in KiB."""
        try:
            print(images, file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise ChildProcessError(f"{' '.join(self.process.args)} failed") from None

    def close(self) -> None:
        self.process.communicate()


def time_all(workers: dict[str, Worker], rounds: int) -> dict[str, dict[str, float]]:
    """Return each network's speed by batch, medians of `rounds` after one unmeasured, and its peak of memory in bytes.

    ``batch B`` is images a second, ``cpu B`` an image's seconds of the CPU.
    """
    laps: dict[tuple[str, int], list[tuple[float, float]]] = {}
    peaks: dict[str, int] = {}
    for turn in track(range(-1, rounds), "timing", unit="rounds"):
        for batch in BATCHES:
            for name in random.sample(sorted(workers), len(workers)):
                seconds, of_cpu, peaks[name] = workers[name].run(batch)
                if turn >= 0:
                    laps.setdefault((name, batch), []).append((seconds, of_cpu))
    rows: dict[str, dict[str, float]] = {name: {"peak": 1024 * peaks[name]} for name in workers}
    for (name, batch), pairs in laps.items():
        seconds, of_cpu = (statistics.median(values) for values in zip(*pairs))
        rows[name].update({f"batch {batch}": batch / seconds, f"cpu {batch}": of_cpu / batch})
    return rows


def accuracy(contender: Contender, dataset: Dataset) -> dict[str, float | None]:
    """Return AP and AP50 of the whole detector in percent; None of a network that was not trained."""
    if contender.kind == "torchvision":
        return dict.fromkeys(PRECISIONS)
    metrics = evaluate(dataset.samples, detect(Detector.load(contender.path), dataset, 0), dataset.classes)
    return {name: 100 * metrics[name] for name in PRECISIONS}


def chip() -> str:
    """Return what the CPU is called, and whether it has units for INT8."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return f"{found[1] if found else 'unknown'}, {'VNNI' if has_int8_units() else 'no VNNI'}"


def format_table(rows: list[dict[str, Any]]) -> str:
    """Lay out the rows as Markdown."""
    speeds = [*(f"images/s, {batch}" for batch in BATCHES), *(f"CPU ms an image, {batch}" for batch in BATCHES)]
    columns = ["network", *speeds, "AP", "AP50", "file, MB", "peak memory, MB"]
    lines = [format_head(columns, texts=1)]
    for row in rows:
        speeds = [f"{row[f'batch {batch}']:.1f}" for batch in BATCHES]
        speeds += [f"{1000 * row[f'cpu {batch}']:.1f}" for batch in BATCHES]
        precisions = ["–" if row[name] is None else f"{row[name]:.1f}" for name in PRECISIONS]
        sizes = [f"{row[name] / 1e6:.0f}" for name in ("disk", "peak")]
        lines.append(format_row([row["network"], *speeds, *precisions, *sizes]))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", required=True, metavar="FILE", help="checkpoint of the detector")
    parser.add_argument("--dataset-root", required=True, help="folder of a data set in VOC or COCO layout")
    parser.add_argument("--split", required=True, help="images to detect in, for AP and for speed")
    parser.add_argument("--calibration-split", required=True, metavar="SPLIT", help="images to calibrate INT8 with")
    parser.add_argument(
        "--calibrate", type=positive_int, default=32, metavar="N", help="so many (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=positive_int, default=15, help="to measure (default: %(default)s)")
    parser.add_argument("--threads", type=positive_int, default=count_cores(), help="default: %(default)s")
    parser.add_argument("--torchvision", metavar="PYTHON", help="interpreter that has torch and torchvision")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="write the unrounded figures as CSV, too")
    with readable_errors():
        run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> None:
    if arguments.torchvision and subprocess.run([arguments.torchvision, "-c", "import torchvision"]).returncode:
        raise ValueError(f"--torchvision {arguments.torchvision}: cannot import torchvision")
    detector = Detector.load(arguments.params)
    dataset = open_dataset(arguments.dataset_root, arguments.split, detector.classes)
    calibration = open_dataset(arguments.dataset_root, arguments.calibration_split, detector.classes).samples
    images = like_images(detector, dataset.samples, max(BATCHES))
    spread = np.unique(np.linspace(0, len(calibration) - 1, arguments.calibrate).round().astype(int))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        np.save(root / "images.npy", images)
        contenders = write_contenders(detector, [read_image(calibration[i].image_path) for i in spread], root)
        if arguments.torchvision:
            contenders["torchvision float32"] = torchvision_contender(Checkpoint.load(arguments.params), root)
        workers = {}
        for name, contender in contenders.items():
            python = arguments.torchvision if contender.kind == "torchvision" else sys.executable
            workers[name] = Worker(python, contender, root / "images.npy", arguments.threads)
            stack.callback(workers[name].close)
        speeds = time_all(workers, arguments.rounds)
        where = {
            "input": "x".join(map(str, images.shape[2:])),
            "threads": arguments.threads,
            "chip": chip(),
            "load": os.getloadavg()[1],
        }
        rows = [
            {"network": name, **speeds[name], "disk": contender.size(), **accuracy(contender, dataset), **where}
            for name, contender in contenders.items()
        ]
    print(f"{where['chip']}; {arguments.threads} threads; images of {where['input']}; load {where['load']:.1f}\n")
    print(format_table(rows))
    if arguments.output:
        write_csv(arguments.output, rows)
        print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
