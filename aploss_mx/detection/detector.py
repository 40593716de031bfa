"""A trained network with all it takes to use it: classes, preprocessing, decoding and NMS."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterable, Sequence, Union

import mxnet as mx
import numpy as np
from tqdm import tqdm

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.config import Recipe
from aploss_mx.data.loader import EvaluationSet, Loader, evaluation_loader
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import EvalTransform, View
from aploss_mx.detection.postprocess import PostProcessing, drop_background, merge, to_image
from aploss_mx.geometry.detections import Detections
from symbols.retinanet import RetinaNet

Images = Union[np.ndarray, mx.nd.NDArray]


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
        self.views = views_of(recipe)
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
        return self._detect([view(image)[None] for view in self.views], [image.shape[:2]])[0]

    def loader(self, samples: Sequence[Sample], num_workers: int) -> Loader:
        """Return the loader that `detect` takes."""
        return evaluation_loader(EvaluationSet(samples, self.views), LoaderProcesses(num_workers))

    def detect(
        self, samples: Sequence[Sample], loader: Loader, after_batch: Callable[[], None] = lambda: None
    ) -> dict[str, Detections]:
        """Return the detections in all samples by image id, with a progress bar; calls `after_batch` now and then."""
        detections = {}
        with tqdm(total=len(samples), desc="detecting", unit="img", leave=False, disable=None) as bar:
            for indices, *views in loader:
                batch = [samples[index] for index in indices.asnumpy()]
                found = self._detect(views, [(sample.height, sample.width) for sample in batch])
                detections.update(zip((sample.image_id for sample in batch), found))
                bar.update(len(batch))
                after_batch()
        return detections

    def _detect(self, views: Sequence[Images], shapes: Sequence[tuple[int, int]]) -> list[Detections]:
        return self.decode(map(self.forward, views), shapes)

    def forward(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's logits and deltas, float32 (B, N, K) or (B, N, K + 1) and (B, N, 4), for its input.

        Parameters
        ----------
        images : ndarray or NDArray of float32, shape (B, 3, H', W')
        """
        pixels = mx.nd.array(images, self.device) if isinstance(images, np.ndarray) else images
        logits, deltas = self.network(pixels.as_in_context(self.device))
        return logits.asnumpy(), deltas.asnumpy()

    def decode(
        self, outputs: Iterable[tuple[np.ndarray, np.ndarray]], shapes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Return the detections in images of these shapes (H, W), each highest score first, in the image's pixels.

        Parameters
        ----------
        outputs : iterable of (ndarray, ndarray)
            What `forward` returns for each view.
        shapes : sequence of (int, int)
            Of the B images.
        """
        candidates: list[list[Detections]] = [[] for _ in shapes]
        for view, (logits, deltas) in zip(self.views, outputs):
            if logits.shape[-1] > len(self.classes):
                logits = drop_background(logits)
            for row, (height, width) in enumerate(shapes):
                shown, scale = view.transform.input_shape(height, width), view.transform.scale(height, width)
                found = self.postprocess.candidates(logits[row], deltas[row], *shown)
                candidates[row].append(to_image(found, scale, width, height, view.mirrored))
        return [self.postprocess.suppress(merge(of_image)) for of_image in candidates]


def views_of(recipe: Recipe) -> list[View]:
    """Return the views of an image that a recipe tests with: each scale, and each mirrored where it says so.

    The limit of the longer side grows and shrinks with the scale.
    """
    sides = recipe.test_scales or (recipe.test_short,)
    transforms = [
        EvalTransform(
            side,
            max(side, round(side * recipe.test_long / recipe.test_short)),
            pixels=recipe.pixels,
            warp=recipe.test_warp,
        )
        for side in sides
    ]
    return [View(transform, mirrored) for transform in transforms for mirrored in (False, True)[: 1 + recipe.test_flip]]
