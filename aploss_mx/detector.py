"""A trained network with all it takes to use it: classes, preprocessing, decoding and NMS."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon.data import DataLoader
from tqdm import tqdm

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.config import Recipe
from aploss_mx.data.loader import EvaluationSet, evaluation_loader
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import EvalTransform
from aploss_mx.evaluation.detections import Detections
from aploss_mx.postprocess import PostProcessing, drop_background, to_image
from symbols.retinanet import RetinaNet


class Detector:
    """Finds objects in images.

    Parameters
    ----------
    network : RetinaNet
        With its parameters on `device`.
    classes : sequence of str
        Names of the network's classes.
    recipe : Recipe
        Its test settings say how images are resized and which boxes are kept.
    device : Context
    shown_score : float or None
        Score from which on detections are worth showing; by default the lowest that the recipe keeps.
    """

    def __init__(
        self,
        network: RetinaNet,
        classes: Sequence[str],
        recipe: Recipe,
        device: mx.Context,
        shown_score: float | None = None,
    ):
        self.network = network
        self.classes = tuple(classes)
        self.recipe = recipe
        self.shown_score = recipe.score_threshold if shown_score is None else shown_score
        self.device = device
        self.transform = EvalTransform(recipe.test_short, recipe.test_long)
        self.postprocess = PostProcessing(
            recipe.topk, recipe.score_threshold, recipe.nms_threshold, recipe.max_detections
        )

    @classmethod
    def load(cls, path: str | Path, device: mx.Context | None = None, **settings: Any) -> Detector:
        """Load a checkpoint; `settings` override its recipe's, such as ``test_short=600``.

        Raises
        ------
        CheckpointError
            As `Checkpoint.load`.
        ConfigError
            If a setting cannot be used.
        """
        device = device or mx.cpu()
        checkpoint = Checkpoint.load(path)
        network = checkpoint.network(device)
        network.hybridize(static_alloc=True)
        recipe = checkpoint.recipe.override(**settings)
        return cls(network, checkpoint.classes, recipe, device, checkpoint.best_f1_score)

    def predict(self, image: np.ndarray) -> Detections:
        """Return the detections in one image, uint8 RGB of shape (H, W, 3), highest score first, in its pixels."""
        pixels, scale = self.transform(image)
        return self._detect(mx.nd.array(pixels[None]), scale[None], [image.shape[:2]])[0]

    def loader(self, samples: Sequence[Sample], num_workers: int) -> DataLoader:
        """Return the loader that `detect` takes."""
        return evaluation_loader(EvaluationSet(samples, self.transform), num_workers)

    def detect(
        self, samples: Sequence[Sample], loader: DataLoader, after_batch: Callable[[], None] = lambda: None
    ) -> dict[str, Detections]:
        """Return the detections in all samples by image id, with a progress bar; calls `after_batch` now and then."""
        detections = {}
        with tqdm(total=len(samples), desc="detecting", unit="img", leave=False, disable=None) as bar:
            for images, scales, indices in loader:
                batch = [samples[index] for index in indices.asnumpy()]
                shapes = [(sample.height, sample.width) for sample in batch]
                found = self._detect(images, scales.asnumpy(), shapes)
                detections.update(zip((sample.image_id for sample in batch), found))
                bar.update(len(batch))
                after_batch()
        return detections

    def _detect(self, images: mx.nd.NDArray, scales: np.ndarray, shapes: Sequence[tuple[int, int]]) -> list[Detections]:
        logits, deltas = (output.asnumpy() for output in self.network(images.as_in_context(self.device)))
        if logits.shape[-1] > len(self.classes):
            logits = drop_background(logits)
        return [
            to_image(self.postprocess(logits[row], deltas[row], *images.shape[2:]), scale, width, height)
            for row, (scale, (height, width)) in enumerate(zip(scales, shapes))
        ]
