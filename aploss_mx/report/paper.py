"""The paper's own results, each with the commands that would reproduce it."""

from __future__ import annotations

from dataclasses import dataclass, field

from aploss_mx.config import RANKING_LOSSES

AP_FIGURES = ("AP", "AP50", "AP75")
COCO_FIGURES = (*AP_FIGURES, "APs", "APm", "APl")

# The paper does not say which scales its multi-scale rows use. These are our choice: five, equally spaced around the
# 500 of its single-scale rows, near the 512 that it trains at.
MULTI_SCALE = ("--test-scales", "300,400,500,600,700", "--test-flip", "true")


def papers_ranking(flags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the flags by which a ranking loss ranks what each of the paper's two devices does, on one as well."""
    loss = flags[flags.index("--loss") + 1] if "--loss" in flags else "ap"
    return ("--ranking-batch", "8") if loss in RANKING_LOSSES and "--ranking-batch" not in flags else ()


@dataclass(frozen=True)
class Published:
    """One row of the paper.

    Attributes
    ----------
    table : str
        Where it stands: '1a' … '3'.
    row : str
        What tells it from the table's other rows.
    recipe : str
        Name of the recipe that it is trained with.
    split : str
        What it is tested on, as ``--split`` takes it; '2012_test' and 'test-dev2017' are scored by their servers.
    figures : dict of str to float
        The paper's results, in percent.
    train_flags, test_flags : tuple of str
        What the training and the test take besides.
    """

    table: str
    row: str
    recipe: str
    split: str
    figures: dict[str, float]
    train_flags: tuple[str, ...] = ()
    test_flags: tuple[str, ...] = field(default=())

    @property
    def dataset(self) -> str:
        """'voc' or 'coco'."""
        return "coco" if self.recipe.startswith("coco") else "voc"

    @property
    def run(self) -> str:
        """Name of the training run, which rows that differ in their test alone share."""
        values = [flag.replace(",", "-") for flag in self.train_flags if not flag.startswith("--")]
        keys = [flag[2:] for flag in self.train_flags if flag.startswith("--")]
        return "_".join([self.recipe, *(f"{key}-{value}" for key, value in zip(keys, values))])

    def train_command(self, dataset_root: str, gpus: str) -> list[str]:
        """Return the command that trains it."""
        return [
            "python", f"scripts/train_{self.dataset}.py", "--recipe", self.recipe, *self.train_flags,
            *papers_ranking(self.train_flags),
            "--dataset-root", dataset_root, "--gpus", gpus, "--save-prefix", f"runs/{self.run}",
        ]  # fmt: skip

    def test_command(self, dataset_root: str, gpu: str, folder: str = "") -> list[str]:
        """Return the command that tests it, or writes what its server takes; `folder` is that of the run."""
        folder = folder or f"runs/{self.run}"
        test = "multi-scale" if self.test_flags else "single-scale"
        command = [
            "python", "scripts/evaluate.py", "--params", f"{folder}/last.npz",
            "--dataset-root", dataset_root, "--split", self.split, "--gpus", gpu, *self.test_flags,
        ]  # fmt: skip
        if self.split == "2012_test":
            command += ["--detect-only", "--voc-results", f"{folder}/comp4_{test}.zip"]
        if self.split == "test-dev2017":
            command += ["--detect-only", "--coco-results", f"{folder}/detections_test-dev2017_{test}_results.json"]
        return command


def _published() -> tuple[Published, ...]:
    def of(names: tuple[str, ...], *values: float) -> dict[str, float]:
        return dict(zip(names, values))

    voc07, minival = ("voc07_resnet50", "2007_test"), ("coco_resnet50", "val2017")
    batches = {1: (52.4, 80.2, 56.7), 2: (53.0, 81.7, 57.8), 4: (52.8, 82.2, 58.0), 8: (53.1, 82.3, 58.1)}
    deltas = {0.25: (50.2, 80.7, 53.6), 0.5: (51.3, 81.6, 55.4), 1: (53.1, 82.3, 58.1), 2: (52.8, 82.6, 57.2)}
    interpolated = {"false": (52.6, 82.2, 57.1), "true": (53.1, 82.3, 58.1)}
    losses = {
        "ohem": ((49.1, 81.5, 51.5), (30.8, 50.9, 32.6)),
        "focal": ((51.3, 80.9, 55.3), (33.9, 55.0, 35.7)),
        "auc": ((49.3, 79.7, 51.8), (25.5, 44.9, 26.0)),
        "ap": ((53.1, 82.3, 58.1), (35.0, 57.2, 36.6)),
    }
    rows = []
    for images, figures in batches.items():
        flags = () if images == 8 else ("--ranking-batch", str(images))
        rows.append(Published("1a", f"batch {images}", *voc07, of(AP_FIGURES, *figures), flags))
    for delta, figures in deltas.items():
        flags = () if delta == 1 else ("--delta", f"{delta:g}")
        rows.append(Published("1b", f"delta {delta:g}", *voc07, of(AP_FIGURES, *figures), flags))
    for value, figures in interpolated.items():
        flags = () if value == "true" else ("--interpolated", value)
        rows.append(Published("1c", f"interpolated {value}", *voc07, of(AP_FIGURES, *figures), flags))
    for name, both in losses.items():
        flags = () if name == "ap" else ("--loss", name)
        for on, (recipe, split), figures in zip(("VOC07", "COCO"), (voc07, minival), both):
            rows.append(Published("2", f"{name}, {on}", recipe, split, of(AP_FIGURES, *figures), flags))
    for scales, flags, voc07_ap50, voc12_ap50, coco in (
        ("single scale", (), 83.9, 83.1, (37.4, 58.6, 40.5, 17.3, 40.8, 51.9)),
        ("multi-scale", MULTI_SCALE, 84.9, 84.5, (42.1, 63.5, 46.4, 25.6, 45.0, 53.9)),
    ):
        for on, recipe, split, figures in (
            ("VOC07", "voc07_resnet101", "2007_test", {"AP50": voc07_ap50}),
            ("VOC12", "voc12_resnet101", "2012_test", {"AP50": voc12_ap50}),
            ("COCO test-dev", "coco_resnet101", "test-dev2017", of(COCO_FIGURES, *coco)),
        ):
            rows.append(Published("3", f"ap, {on}, {scales}", recipe, split, figures, (), flags))
    focal = of(COCO_FIGURES, 34.4, 53.1, 36.8, 14.7, 38.5, 49.1)
    rows.append(
        Published(
            "3",
            "focal (RetinaNet500, cited), COCO test-dev",
            "coco_resnet101",
            "test-dev2017",
            focal,
            ("--loss", "focal"),
        )
    )
    return tuple(rows)


PUBLISHED = _published()
"""Tables 1 to 3 (Chen et al., CVPR 2019). "Batch size" in Table 1a is read as the images that are ranked together,
while the optimizer's step takes 16 in all rows. Of the methods that Table 3 cites RetinaNet500 alone is here; its
figures are its own authors', and the command trains it with our recipe."""
