"""Check the GPU kernels of AP-loss and AUC-loss on an NVIDIA GPU, and time them.

%(prog)s            # any GPU, through CuPy: pip install 'cupy-cuda12x<14'
%(prog)s --mxnet    # a GPU that MXNet supports: the operator, a training step, two GPUs if there are

The first compares loss and gradient with those of the host, and prints a table of times. The second is what to run
first where MXNet has a GPU: whether device, driver and libraries will do, operators on GPU and CPU, one training step
on either, and one over two GPUs against one with each half of the batch. It switches TF32 off.
"""

from __future__ import annotations

import argparse
import os
import statistics
from typing import Any, Callable, Sequence

# Of cuDNN, before it is loaded: TF32, its default from Ampere on, has 10 bits, too few for the limits below.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")

import aploss_mx  # noqa: F401  (prepares the process for `import mxnet`)

# isort: split
import mxnet as mx
import numpy as np
from mxnet import autograd

from aploss_mx.arguments import ArgumentParser, output_file
from aploss_mx.atomic import write_csv
from aploss_mx.commands.errors import readable_errors
from aploss_mx.commands.flags import positive_int
from aploss_mx.cuda import find_gpus, find_libraries
from aploss_mx.losses import APLoss, AUCLoss, BoxLoss
from aploss_mx.ranking.exact import PiecewiseRanking, ap_loss, auc_loss
from aploss_mx.ranking.gpu import rtc
from aploss_mx.ranking.gpu.launches import COMPILER_OPTIONS, THREADS, read_kernels, read_source, solve_group
from aploss_mx.ranking.problem import solve_anchors
from aploss_mx.ranking.random_scores import BATCHES, REGIMES, random_batch
from aploss_mx.report.markdown import format_head, format_row
from symbols.retinanet import get_network

METHODS = (ap_loss(), ap_loss(0.25, interpolated=False), auc_loss())
TOLERANCE = 1e-6
SCALARS = {"int": np.int32, "double": np.float64}

EPILOG = """\
columns of the table
  microseconds  loss and gradient of one batch, the median of --repeats, by the GPU's own clock; launching from
                Python and the one wait for the number of positives included
  bandwidth     bytes that it must move at least (scores read twice, gradient written) per second
  of a copy     that bandwidth divided by the one of copying the scores, measured in the same run
"""


class CheckError(ValueError):
    """The GPU does not do what the host does."""


class CuPyGPU:
    """A `launches.Device` on the current GPU of CuPy."""

    def __init__(self, cupy: Any):
        self.cupy = cupy
        self.module = cupy.RawModule(code=read_source(), options=COMPILER_OPTIONS)
        self.kernels = {name: self.module.get_function(name) for name in read_kernels()}

    def zeros(self, size: int, dtype: str) -> Any:
        return self.cupy.zeros(size, dtype)

    def empty(self, size: int, dtype: str) -> Any:
        return self.cupy.empty(size, dtype)

    def read(self, array: Any) -> np.ndarray:
        return self.cupy.asnumpy(array)

    def launch(self, kernel: str, blocks: int, *arguments: Any) -> None:
        kinds = [kind for kind, _ in read_kernels()[kernel].parameters]
        converted = [SCALARS[kind](arg) if kind in SCALARS else arg for kind, arg in zip(kinds, arguments)]
        self.kernels[kernel]((blocks,), (THREADS,), tuple(converted))


def solve_with_cupy(device: CuPyGPU, method: PiecewiseRanking, logits: Any, class_targets: Any) -> tuple[Any, Any]:
    """Return loss (1,) and gradient (B, N, K) of one ranking, on the GPU."""
    loss, gradient = device.zeros(1, "float32"), device.cupy.empty_like(logits)
    shape = (class_targets.size, logits.shape[-1])
    solve_group(device, logits, class_targets, shape, method.objective, method.delta, 1.0, loss, gradient)
    return loss, gradient


def distance(gradient: np.ndarray, expected: np.ndarray) -> float:
    """Return the L1 distance of two gradients over the L1 norm of the second."""
    norm = np.abs(expected).sum(dtype=np.float64)
    return float(np.abs(gradient - expected).sum(dtype=np.float64) / max(norm, np.finfo(np.float32).tiny))


def require(what: str, value: float, limit: float = TOLERANCE) -> None:
    """Print a difference; raise CheckError where it exceeds the limit."""
    print(f"{what}: {value:.1e} (limit {limit:.0e})")
    if not value <= limit:
        raise CheckError(f"{what} differ by {value:.1e}, more than {limit:.0e}")


def check_kernels(device: CuPyGPU, size: str) -> None:
    """Compare the kernels with the host on one size, and two runs of them with each other."""
    for regime in REGIMES:
        logits, class_targets = random_batch(*BATCHES[size], regime, seed=0)
        class_targets[0, :5] = -1
        arrays = [device.cupy.asarray(array) for array in (logits, class_targets)]
        for method in METHODS:
            expected_loss, expected_grad = solve_anchors(method, logits, class_targets)
            loss, gradient = (device.read(array) for array in solve_with_cupy(device, method, *arrays))
            name = f"{size}, {regime}, {method.objective.name}, delta {method.delta}"
            require(f"{name}: losses", abs(float(loss[0]) - expected_loss) / max(expected_loss, 1e-12))
            require(f"{name}: gradients", distance(gradient, expected_grad))
            again = [device.read(array) for array in solve_with_cupy(device, method, *arrays)]
            if not (np.array_equal(loss, again[0]) and np.array_equal(gradient, again[1])):
                raise CheckError(f"{name}: two runs give different bits")


def microseconds(cupy: Any, repeats: int, work: Callable[[], Any]) -> float:
    """Return the median time of some work on the GPU."""
    work()
    laps = []
    for _ in range(repeats):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        work()
        end.record()
        end.synchronize()
        laps.append(1000 * cupy.cuda.get_elapsed_time(start, end))
    return statistics.median(laps)


def time_kernels(device: CuPyGPU, size: str, regime: str, repeats: int) -> dict[str, Any]:
    """Measure one row of the table."""
    cupy = device.cupy
    logits, class_targets = (cupy.asarray(array) for array in random_batch(*BATCHES[size], regime, seed=0))
    target = cupy.empty_like(logits)
    copy = microseconds(cupy, repeats, lambda: cupy.copyto(target, logits))
    solve = microseconds(cupy, repeats, lambda: solve_with_cupy(device, METHODS[0], logits, class_targets))
    bandwidth = 3 * logits.nbytes / solve
    return {
        "scores": logits.size,
        "positives": BATCHES[size][1],
        "regime": regime,
        "microseconds": solve,
        "bandwidth": bandwidth / 1000,
        "of a copy": bandwidth / (2 * logits.nbytes / copy),
    }


def check_with_cupy(arguments: argparse.Namespace) -> None:
    """Compare, then time, on CuPy's current GPU."""
    try:
        import cupy
    except ImportError as error:
        # CuPy 14 brings a numpy that MXNet cannot be imported with.
        raise CheckError(f"no CuPy ({error}): pip install 'cupy-cuda12x<14', or 'cupy-cuda11x<14'") from error
    try:
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        print(f"{properties['name'].decode()}, CuPy {cupy.__version__}")
        device = CuPyGPU(cupy)
    except (RuntimeError, cupy.cuda.compiler.CompileException) as error:  # no GPU, or no driver or compiler for it
        raise CheckError(f"CuPy {cupy.__version__} cannot use the GPU: {error}") from error
    for size in arguments.sizes:
        check_kernels(device, size)
    rows = [time_kernels(device, size, regime, arguments.repeats) for size in arguments.sizes for regime in REGIMES]
    print(f"\n{format_head(list(rows[0]))}")
    forms = ("{:,}", "{:,}", "{}", "{:.0f}", "{:.0f} GB/s", "{:.2f}")
    for row in rows:
        print(format_row(form.format(value) for form, value in zip(forms, row.values())))
    if arguments.output:
        write_csv(arguments.output, rows)
        print(f"wrote {arguments.output}")


# MXNet -------------------------------------------------------------------------------------------


def block_step(block: Any, context: mx.Context, logits: np.ndarray, class_targets: np.ndarray) -> list[np.ndarray]:
    """Return loss and gradient of a loss block on a device."""
    inputs, targets = mx.nd.array(logits, context), mx.nd.array(class_targets, context)
    inputs.attach_grad()
    with autograd.record():
        loss = block(inputs, targets)
    loss.backward()
    return [loss.asnumpy(), inputs.grad.asnumpy()]


def training_step(contexts: list[mx.Context], images: np.ndarray, class_targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradients of a small detector, the mean over devices that share the batch evenly."""
    mx.random.seed(0)
    network = get_network("resnet18_v1b", int(class_targets.max()), 16, mx.cpu(), None)
    network.backbone.freeze(set(network.backbone._collect_params_with_prefix()))  # live BatchNorm sees its own half
    params = network._collect_params_with_prefix()
    network.collect_params().reset_ctx(contexts)
    losses = []
    with autograd.record():
        for context, part, targets in zip(
            contexts, np.split(images, len(contexts)), np.split(class_targets, len(contexts))
        ):
            logits, deltas = network(mx.nd.array(part, context))
            targets = mx.nd.array(targets, context)
            losses.append(APLoss()(logits, targets) + BoxLoss()(deltas, mx.nd.ones_like(deltas), targets))
    autograd.backward(losses)
    return {
        name: np.mean([grad.asnumpy() for grad in param.list_grad()], axis=0)
        for name, param in params.items()
        if param.grad_req != "null"
    }


def compare_gradients(what: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], limit: float) -> None:
    """Require that two training steps agree."""
    joined = [np.concatenate([grads[name].ravel() for name in sorted(theirs)]) for grads in (ours, theirs)]
    require(what, distance(*joined), limit)


def report_devices() -> None:
    """Print GPUs and CUDA libraries as MXNet sees them; raise CheckError where they will not do."""
    try:
        libraries, found = find_libraries(), find_gpus()
    except OSError as error:
        raise CheckError(f"a CUDA library that MXNet needs is missing ({error})") from error
    for gpu in found:
        print(f"gpu({gpu.number}): {gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}")
    versions = [f"{name} {major}.{minor}" for name, (major, minor) in zip(("driver for CUDA", "CUDA"), libraries[:2])]
    print(", ".join([f"MXNet {mx.__version__}", *versions, f"cuDNN {libraries.cudnn}"]))
    problems = [libraries.problem(), *(gpu.problem() and f"gpu({gpu.number}): {gpu.problem()}" for gpu in found)]
    if any(problems):
        raise CheckError("; ".join(filter(None, problems)))


def check_with_mxnet(contexts: list[mx.Context], convolution_limit: float = 1e-2) -> None:
    """Compare MXNet's devices with the CPU and with one another.

    `convolution_limit` bounds a whole training step, whose convolutions round otherwise on a GPU.
    """
    logits, class_targets = random_batch(*BATCHES["small"], "mid", seed=0)
    for name, block in (("APLoss", APLoss()), ("AUCLoss", AUCLoss())):
        on_host = block_step(block, mx.cpu(), logits, class_targets)
        for context in contexts:
            loss, gradient = block_step(block, context, logits, class_targets)
            require(f"{name} on {context}: losses", abs(float(loss[0] - on_host[0][0]) / float(on_host[0][0])))
            require(f"{name} on {context}: gradients", distance(gradient, on_host[1]))

    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (4, 3, 64, 64)).astype(np.float32)
    anchors = get_network("resnet18_v1b", 3, 16, mx.cpu(), None)(mx.nd.array(images[:1], mx.cpu()))[0].shape[1]
    targets = rng.choice([-1, 0, 0, 0, 0, 0, 1, 2, 3], (4, anchors)).astype(np.float32)
    expected = training_step([mx.cpu()], images, targets)
    compare_gradients(f"a training step on {contexts[0]}", training_step(contexts[:1], images, targets), expected,
                      convolution_limit)  # fmt: skip
    if len(contexts) > 1:
        halves = [training_step(contexts[:1], *half) for half in zip(np.split(images, 2), np.split(targets, 2))]
        mean = {name: (halves[0][name] + halves[1][name]) / 2 for name in expected}
        compare_gradients("a step over two devices", training_step(contexts[:2], images, targets), mean, 1e-5)
    else:
        print("one device only: two were not compared")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = ArgumentParser(
        prog, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mxnet", action="store_true", help="check MXNet's operators instead of CuPy's kernels")
    sizes = "; ".join(f"{name}: {count:,} positives of {np.prod(shape):,}" for name, (shape, count) in BATCHES.items())
    parser.add_argument("--sizes", nargs="+", choices=BATCHES, default=list(BATCHES), help=f"{sizes} (default: all)")
    parser.add_argument("--repeats", type=positive_int, default=20, help="timed runs (default: %(default)s)")
    parser.add_argument("--output", type=output_file, metavar="FILE", help="write the table as CSV, too")
    arguments = parser.parse_args(argv)
    if arguments.mxnet and arguments.output:
        parser.error("--output takes the table of times, and --mxnet makes none")
    with readable_errors():
        if arguments.mxnet:
            gpus = [mx.gpu(number) for number in range(mx.context.num_gpus())]
            if not gpus:
                raise CheckError("MXNet sees no GPU: docs/devices.md says which build, libraries and driver it needs")
            report_devices()
            unfit = [str(gpu) for gpu in gpus[:2] if not rtc.is_available(gpu)]
            if unfit:
                raise CheckError(f"the kernels do not run on {', '.join(unfit)}: the losses would run on the host")
            check_with_mxnet(gpus[:2])
        else:
            check_with_cupy(arguments)
        print("all is well")
