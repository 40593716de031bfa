"""Trained detectors that come with the package, found by name; ``models/README.md`` says what each is and knows."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "models"
DEFAULT = "voc-resnet18"
"""The detector that `aploss-mx demo` takes where none is named."""


def model_names() -> list[str]:
    """Return the names of the detectors that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.npz"))


def model_path(name: str | Path) -> Path:
    """Return the file of a detector that comes with the package, or else the name as a path, its ``~`` expanded.

    A file or folder of the same name goes first.
    """
    path = Path(os.path.expanduser(name))
    return FOLDER / f"{name}.npz" if str(name) in model_names() and not path.exists() else path
