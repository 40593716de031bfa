"""Find what is there twice: pictures that several images have, and boxes that several objects have."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Sequence

from aploss_mx.data.problems import WARNING, Problem, shortened
from aploss_mx.data.sample import Sample
from aploss_mx.text import cut


def shared_pictures(samples: Sequence[Sample], named: str) -> list[Problem]:
    """One problem for each picture of more than one image: of severity `named` if it has the name of one of them.

    Then the others' are missing; else it is a warning.
    """
    owners: dict[Path, list[str]] = {}
    for sample in samples:
        owners.setdefault(sample.image_path, []).append(sample.image_id)
    problems = []
    for path, names in owners.items():
        if len(names) > 1:
            its_own = any(path.with_suffix("").as_posix().endswith(f"/{name}") for name in names)
            images = shortened([cut(name) for name in names], 5)
            message = f"it is taken for the picture of {images}: add what is missing, or leave all but one out"
            problems.append(Problem(named if its_own else WARNING, "shared picture", str(path), message, path))
    return problems


def repeated_boxes(sample: Sample, classes: Sequence[str]) -> list[Problem]:
    """A warning for each box that several of an image's objects have, of one class or of several."""
    path, problems, kept = sample.image_path, [], ~sample.difficult
    labels: dict[tuple[float, ...], list[int]] = {}
    for box, label in zip(sample.boxes[kept].tolist(), sample.labels[kept].tolist()):
        labels.setdefault(tuple(box), []).append(label)
    for box, of_box in labels.items():
        if len(of_box) > 1:
            kind = "repeated box" if len(set(of_box)) == 1 else "box of several classes"
            names = [f"{count} {classes[label]}" for label, count in Counter(of_box).items()]
            corners = ", ".join(f"{side:g}" for side in box)
            message = f"{len(of_box)} objects of image {cut(sample.image_id)} have the corners [{corners}] from 0: "
            message += shortened(names, 5)
            problems.append(Problem(WARNING, kind, str(path), message, path, box))
    return problems
