"""Find what is there twice: pictures that several images have."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from aploss_mx.data.problems import Problem, shortened
from aploss_mx.data.sample import Sample
from aploss_mx.text import cut


def shared_pictures(samples: Sequence[Sample], severity: str) -> list[Problem]:
    """One problem for each picture of more than one image."""
    owners: dict[Path, list[str]] = {}
    for sample in samples:
        owners.setdefault(sample.image_path, []).append(cut(sample.image_id))
    return [
        Problem(severity, "shared picture", str(path), f"it is taken for the picture of {shortened(names, 5)}", path)
        for path, names in owners.items()
        if len(names) > 1
    ]
