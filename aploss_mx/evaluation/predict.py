"""The network's detections on a data set."""
from __future__ import annotations

from typing import Sequence

import mxnet as mx
from mxnet.gluon import HybridBlock
from mxnet.gluon.data import DataLoader
from tqdm import tqdm

from aploss_mx.data.sample import Sample
from aploss_mx.detector import PostProcessing, to_image
from aploss_mx.evaluation.detections import Detections


def detect(
    network: HybridBlock,
    loader: DataLoader,
    samples: Sequence[Sample],
    postprocess: PostProcessing,
    device: mx.Context,
    progress: bool = True,
) -> dict[str, Detections]:
    """Run the network over a `test_loader` and return the detections by image id, in pixels of the images."""
    detections = {}
    with tqdm(total=len(samples), desc="detecting", unit="img", leave=False, disable=None if progress else True) as bar:
        for images, scales, indices in loader:
            logits, deltas = (output.asnumpy() for output in network(images.as_in_context(device)))
            for row, (scale, index) in enumerate(zip(scales.asnumpy(), indices.asnumpy())):
                sample = samples[int(index)]
                found = postprocess(logits[row], deltas[row], *images.shape[2:])
                detections[sample.image_id] = to_image(found, scale, sample.width, sample.height)
            bar.update(len(images))
    return detections
