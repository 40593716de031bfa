"""Find objects in images: a trained network with classes, preprocessing, decoding, NMS and confidences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterable, List, Sequence, Tuple, Union, overload

import mxnet as mx
import numpy as np
from PIL import Image

from aploss_mx.checkpoint import Checkpoint
from aploss_mx.config import TEST_SETTINGS, ConfigError, Recipe
from aploss_mx.data.loader import EvaluationSet, Loader, evaluation_loader
from aploss_mx.data.pixels import Picture, as_array
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import EvalTransform, View
from aploss_mx.detection.exported import is_exported, load_exported
from aploss_mx.detection.postprocess import PostProcessing, drop_background, merge, to_image
from aploss_mx.evaluation.calibration import Calibration
from aploss_mx.geometry.detections import Detections
from aploss_mx.model_zoo import model_path
from aploss_mx.progress import track

Images = Union[np.ndarray, mx.nd.NDArray]
Shown = Tuple[int, Tuple[int, ...], List[np.ndarray]]
"""An image's index, height and width, and the network's inputs of it, one for each view."""


class Detector:
    """Finds objects in images.

    Parameters
    ----------
    network : RetinaNet, SymbolBlock or ONNXNetwork
        With its parameters on `device`.
    classes : sequence of str
        Names of the network's classes.
    recipe : Recipe
        Its test settings say how images are resized and which boxes are kept.
    device : Context
    shown_score : float or None
        Score from which on detections are worth showing; by default the lowest that the recipe keeps.
    calibration : Calibration or None
        How scores become confidences; without one, detections have none.
    """

    def __init__(
        self,
        network: Any,
        classes: Sequence[str],
        recipe: Recipe,
        device: mx.Context,
        shown_score: float | None = None,
        calibration: Calibration | None = None,
    ):
        self.network = network
        self.classes = tuple(classes)
        self.recipe = recipe
        self.shown_score = recipe.score_threshold if shown_score is None else shown_score
        self.calibration = calibration
        self.device = device
        self.views = views_of(recipe)
        self.postprocess = PostProcessing(
            recipe.topk, recipe.score_threshold, recipe.nms_threshold, recipe.max_detections, recipe.anchors
        )

    @classmethod
    def load(cls, path: str | Path, device: mx.Context | None = None, **settings: Any) -> Detector:
        """Load a checkpoint, or what `aploss-mx export` wrote; `settings` override the recipe's of the test.

        ``Detector.load("last.npz", test_short=600, nms_threshold=0.6)``; `config.TEST_SETTINGS` names them.

        Parameters
        ----------
        path : str or Path
            A checkpoint, the name of a detector that comes with the package (``voc-resnet18``), a folder of an export,
            or the exported network in it, ``…-symbol.json``, its ``…-0000.params`` or ``model.onnx``.
        device : Context
            By default the CPU.

        Raises
        ------
        CheckpointError
            As `Checkpoint.load`.
        ExportedError
            As `exported.load_exported`.
        ConfigError
            If a setting cannot be used, or belongs to the network as it was trained.
        TypeError
            If `device` is no Context.
        """
        others = sorted(set(settings) - set(TEST_SETTINGS))
        if others:
            allowed = f"{', '.join(TEST_SETTINGS)} may change, and its device"
            raise ConfigError(f"{', '.join(others)}: of a trained detector, only {allowed}")
        if not isinstance(device, (mx.Context, type(None))):
            raise TypeError(f"device must be a context of MXNet, such as mx.cpu() or mx.gpu(0), not {device!r}")
        device = device or mx.cpu()
        path = model_path(path)
        if is_exported(path):
            network, recipe, about = load_exported(path, device)
            fitted = about["calibration"] and Calibration(*about["calibration"])
            return cls(network, about["classes"], recipe.override(**settings), device, about["shown_score"], fitted)
        checkpoint = Checkpoint.load(path)
        network = checkpoint.network(device)
        network.hybridize(static_alloc=True)
        recipe = checkpoint.recipe.override(**settings)
        fitted = checkpoint.calibration and Calibration(*checkpoint.calibration)
        return cls(network, checkpoint.classes, recipe, device, checkpoint.best_f1_score, fitted)

    @overload
    def predict(self, images: Picture, batch_size: int = 8) -> Detections: ...

    @overload
    def predict(self, images: Iterable[Picture], batch_size: int = 8) -> list[Detections]: ...

    def predict(self, images: Picture | Iterable[Picture], batch_size: int = 8) -> Detections | list[Detections]:
        """Return the detections in an image, or those in each of several, highest score first, in its own pixels.

        Parameters
        ----------
        images : ndarray or NDArray of uint8, shape (H, W, 3), Pillow's image or a file's path, or iterable of such
            As `pixels.as_array` takes them, in RGB; they are read as they are needed, however many there are.
        batch_size : int
            How many of several images go through the network together, at most; those that it sees in one size do.

        Raises
        ------
        ValueError
            If an image has another shape or type, or `batch_size` is below 1.
        OSError
            If a file cannot be read as an image.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        one = (str, bytes, Path, Image.Image, type(None))  # None is what OpenCV reads of a missing file
        alone = isinstance(images, one) or getattr(images, "ndim", 4) != 4
        waiting: dict[tuple, list[Shown]] = {}
        found: dict[int, Detections] = {}
        for index, image in enumerate([images] if alone else images):  # type: ignore[arg-type]
            array = as_array(image)  # type: ignore[arg-type]
            views = [view(array) for view in self.views]
            alike = waiting.setdefault(tuple(view.shape for view in views), [])
            alike.append((index, array.shape[:2], views))
            if len(alike) == batch_size:
                found.update(self._detect_alike(alike))
                alike.clear()
        for alike in filter(None, waiting.values()):
            found.update(self._detect_alike(alike))
        return found[0] if alone else [found[index] for index in range(len(found))]

    def _detect_alike(self, alike: Sequence[Shown]) -> dict[int, Detections]:
        """Return the detections, by index, in images that the network sees in one size."""
        indices, sizes, views = zip(*alike)
        return dict(zip(indices, self._detect([np.stack(inputs) for inputs in zip(*views)], sizes)))

    def as_drawn(self, score: float) -> tuple[str, float]:
        """Return what `annotate` writes beside a box, 'confidence' or 'score', and how much that is at a score."""
        if self.calibration:
            return "confidence", float(self.calibration.confidence(np.array(score)))
        return "score", score

    def loader(self, samples: Sequence[Sample], num_workers: int) -> Loader:
        """Return the loader that `detect` takes."""
        return evaluation_loader(EvaluationSet(samples, self.views), LoaderProcesses(num_workers))

    def detect(
        self, samples: Sequence[Sample], loader: Loader, after_batch: Callable[[], None] = lambda: None
    ) -> dict[str, Detections]:
        """Return the detections in all samples by image id, with a progress bar; calls `after_batch` now and then."""
        detections: dict[str, Detections] = {}
        with track(desc="detecting", total=len(samples), unit="images", leave=False) as bar:
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

        Raises
        ------
        ValueError
            If the network has not as many logits an anchor as there are classes, or not as many anchors, such as an
            edited model.json names.
        """
        candidates: list[list[Detections]] = [[] for _ in shapes]
        wanted = len(self.classes) + self.recipe.background
        for view, (logits, deltas) in zip(self.views, outputs):
            if logits.shape[-1] != wanted:
                raise ValueError(
                    f"the network is not of these {len(self.classes)} classes, {', '.join(self.classes)}: it gives "
                    f"{logits.shape[-1]} logits an anchor, not {wanted}"
                )
            if self.recipe.background:
                logits = drop_background(logits)
            for row, (height, width) in enumerate(shapes):
                shown, scale = view.transform.input_shape(height, width), view.transform.scale(height, width)
                found = self.postprocess.candidates(logits[row], deltas[row], *shown)
                candidates[row].append(to_image(found, scale, width, height, view.mirrored))
        kept = [self.postprocess.suppress(merge(of_image)) for of_image in candidates]
        if self.calibration:
            kept = [replace(found, confidence=self.calibration.confidence(found.scores)) for found in kept]
        return kept


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
