"""What the kernels cost, counted where there is no GPU to time them: python tests/ranking/gpu/kernel_costs.py.

For one AP-loss with its gradient, a score: atomic additions to shared and to global memory, lanes that wait in one of
them for others of their warp, and bytes of global memory that threads ask for (the second time mostly from a cache).
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emulated_gpu import EmulatedGPU, build

from aploss_mx.ranking.exact import ap_loss
from aploss_mx.ranking.gpu.launches import SOURCE, solve_group
from aploss_mx.ranking.random_scores import BATCHES, REGIMES, random_batch

COSTS = ("shared atomics", "global atomics", "waiting lanes", "bytes read", "bytes written")


class CountingGPU(EmulatedGPU):
    """Adds up what its launches cost; its library is built for counting."""

    def launch(self, kernel, blocks, *arguments):
        arrays = [argument for argument in arguments if isinstance(argument, np.ndarray)]
        ends = [address for array in arrays for address in (array.ctypes.data, array.ctypes.data + array.nbytes)]
        spans = (ctypes.c_size_t * 128).in_dll(self.compiled, "arrays")
        spans[:] = ends + [0] * (len(spans) - len(ends))
        super().launch(kernel, blocks, *arguments)


def costs_of(library: ctypes.CDLL, size: str, regime: str) -> dict[str, float]:
    """Return the costs a score of one batch."""
    logits, class_targets = random_batch(*BATCHES[size], regime, seed=0)
    counters = (ctypes.c_int64 * len(COSTS)).in_dll(library, "costs")
    counters[:] = [0] * len(COSTS)
    loss, gradient = np.zeros(1, np.float32), np.empty_like(logits)
    shape = (class_targets.size, logits.shape[-1])
    method = ap_loss()
    solve_group(
        CountingGPU(library), logits, class_targets, shape, method.objective, method.delta, 1.0, loss, gradient
    )  # fmt: skip
    return {name: count / logits.size for name, count in zip(COSTS, counters)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kernels", type=Path, default=SOURCE, metavar="FILE", help="other kernels (default: today's)")
    parser.add_argument("--sizes", nargs="+", choices=BATCHES, default=["voc", "coco"], help="(default: voc coco)")
    arguments = parser.parse_args(argv)
    print("| scores | positives | regime |", " | ".join(COSTS), "|\n|", " ---: |" * (3 + len(COSTS)))
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder), arguments.kernels.resolve(), counting=True)
        for size in arguments.sizes:
            shape, positives = BATCHES[size]
            for regime in REGIMES:
                costs = costs_of(library, size, regime)
                numbers = [f"{costs[name]:.{1 if name.startswith('bytes') else 4}f}" for name in COSTS]
                print(f"| {np.prod(shape):,} | {positives:,} | {regime} |", " | ".join(numbers), "|", flush=True)


if __name__ == "__main__":
    main()
