"""List the paper's own results, each with the commands that would reproduce it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

import numpy as np

from aploss_mx.config import RANKING_LOSSES

COCO_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
AP_METRICS = COCO_METRICS[:3]


def to_text(value: Any) -> str:
    """Return a setting's value as it is typed on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-")
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_words(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and values of settings as they are typed."""
    return [(name.replace("_", "-"), to_text(value)) for name, value in settings.items()]


def to_flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as the flags of a command."""
    return [part for name, value in to_words(settings) for part in (f"--{name}", value)]


def papers_ranking(settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the setting by which a ranking loss ranks what each of the paper's two devices does, on one as well."""
    ranks = settings.get("loss", "ap") in RANKING_LOSSES and "ranking_batch" not in settings
    return {"ranking_batch": 8} if ranks else {}


@dataclass(frozen=True)
class Row:
    """A row of a table: a training and its test.

    Attributes
    ----------
    name : str
        What tells it from the table's other rows.
    recipe : str
        Name of the recipe that it is trained with.
    split : str
        What it is tested on, as ``--split`` takes it, '' for the recipe's; '2012_test' and 'test-dev2017' are scored by
        their servers.
    published : tuple of float or None
        The paper's results in percent, in the order of COCO_METRICS, as far as there are any.
    train, test : dict of str to value
        Settings that the training and the test take besides.
    """

    name: str
    recipe: str
    split: str = ""
    published: tuple[float | None, ...] = ()
    train: Mapping[str, Any] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """The paper's results by name."""
        return {name: value for name, value in zip(COCO_METRICS, self.published) if value is not None}

    @property
    def dataset(self) -> str:
        """'voc' or 'coco'."""
        return "coco" if self.recipe.startswith("coco") else "voc"

    @property
    def run(self) -> str:
        """Name of the training run, which rows that differ in their test alone share."""
        return "_".join([self.recipe, *map("-".join, to_words(self.train))]).replace(",", "-")

    def train_command(self, dataset_root: str, gpus: str) -> list[str]:
        """Return the command that trains it."""
        settings = {"recipe": self.recipe, **self.train, **papers_ranking(self.train)}
        places = {"dataset_root": dataset_root, "gpus": gpus, "save_prefix": f"runs/{self.run}"}
        return ["aploss-mx", f"train-{self.dataset}", *to_flags({**settings, **places})]

    def test_command(self, dataset_root: str, gpu: str, folder: str = "") -> list[str]:
        """Return the command that tests it, or writes what its server takes; `folder` is that of the run."""
        folder = folder or f"runs/{self.run}"
        test = "multi-scale" if self.test else "single-scale"
        places = {"params": f"{folder}/last.npz", "dataset_root": dataset_root, "split": self.split, "gpus": gpu}
        command = ["aploss-mx", "evaluate", *to_flags({**places, **self.test})]
        if self.split == "2012_test":
            command += ["--detect-only", "--voc-results", f"{folder}/comp4_{test}.zip"]
        if self.split == "test-dev2017":
            command += ["--detect-only", "--coco-results", f"{folder}/detections_test-dev2017_{test}_results.json"]
        return command


# The paper does not say which scales its multi-scale rows use. These are our choice: five, equally spaced around the
# 500 of its single-scale rows, near the 512 that it trains at.
MULTI_SCALE = {"test_scales": (300, 400, 500, 600, 700), "test_flip": True}

PUBLISHED = {
    "1a": (
        Row("batch 1", "voc07_resnet50", "2007_test", (52.4, 80.2, 56.7), {"ranking_batch": 1}),
        Row("batch 2", "voc07_resnet50", "2007_test", (53.0, 81.7, 57.8), {"ranking_batch": 2}),
        Row("batch 4", "voc07_resnet50", "2007_test", (52.8, 82.2, 58.0), {"ranking_batch": 4}),
        Row("batch 8", "voc07_resnet50", "2007_test", (53.1, 82.3, 58.1)),
    ),
    "1b": (
        Row("delta 0.25", "voc07_resnet50", "2007_test", (50.2, 80.7, 53.6), {"delta": 0.25}),
        Row("delta 0.5", "voc07_resnet50", "2007_test", (51.3, 81.6, 55.4), {"delta": 0.5}),
        Row("delta 1", "voc07_resnet50", "2007_test", (53.1, 82.3, 58.1)),
        Row("delta 2", "voc07_resnet50", "2007_test", (52.8, 82.6, 57.2), {"delta": 2}),
    ),
    "1c": (
        Row("interpolated false", "voc07_resnet50", "2007_test", (52.6, 82.2, 57.1), {"interpolated": False}),
        Row("interpolated true", "voc07_resnet50", "2007_test", (53.1, 82.3, 58.1)),
    ),
    "2": (
        Row("ohem, VOC07", "voc07_resnet50", "2007_test", (49.1, 81.5, 51.5), {"loss": "ohem"}),
        Row("ohem, COCO", "coco_resnet50", "val2017", (30.8, 50.9, 32.6), {"loss": "ohem"}),
        Row("focal, VOC07", "voc07_resnet50", "2007_test", (51.3, 80.9, 55.3), {"loss": "focal"}),
        Row("focal, COCO", "coco_resnet50", "val2017", (33.9, 55.0, 35.7), {"loss": "focal"}),
        Row("auc, VOC07", "voc07_resnet50", "2007_test", (49.3, 79.7, 51.8), {"loss": "auc"}),
        Row("auc, COCO", "coco_resnet50", "val2017", (25.5, 44.9, 26.0), {"loss": "auc"}),
        Row("ap, VOC07", "voc07_resnet50", "2007_test", (53.1, 82.3, 58.1)),
        Row("ap, COCO", "coco_resnet50", "val2017", (35.0, 57.2, 36.6)),
    ),
    "3": (
        Row("ap, VOC07, single scale", "voc07_resnet101", "2007_test", (None, 83.9)),
        Row("ap, VOC12, single scale", "voc12_resnet101", "2012_test", (None, 83.1)),
        Row("ap, COCO test-dev, single scale", "coco_resnet101", "test-dev2017", (37.4, 58.6, 40.5, 17.3, 40.8, 51.9)),
        Row("ap, VOC07, multi-scale", "voc07_resnet101", "2007_test", (None, 84.9), test=MULTI_SCALE),
        Row("ap, VOC12, multi-scale", "voc12_resnet101", "2012_test", (None, 84.5), test=MULTI_SCALE),
        Row("ap, COCO test-dev, multi-scale", "coco_resnet101", "test-dev2017",
            (42.1, 63.5, 46.4, 25.6, 45.0, 53.9), test=MULTI_SCALE),
        Row("focal (RetinaNet500, cited), COCO test-dev", "coco_resnet101", "test-dev2017",
            (34.4, 53.1, 36.8, 14.7, 38.5, 49.1), {"loss": "focal"}),
    ),
}  # fmt: skip
"""The rows of Tables 1 to 3 (Chen et al., CVPR 2019). "Batch size" in Table 1a is read as the images that are ranked
together, while the optimizer's step takes 16 in all rows. Of the methods that Table 3 cites RetinaNet500 alone is here;
its figures are its own authors', and the command trains it with our recipe."""
