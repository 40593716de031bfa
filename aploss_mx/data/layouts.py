"""The two layouts of data sets in words, and the folder that a data set needs in either."""

from __future__ import annotations

import os
from pathlib import Path

from aploss_mx.data.problems import ERROR, DataError, Problem

LAYOUTS = (
    "Wanted are Annotations/NAME.xml, JPEGImages/NAME.jpg and ImageSets/Main/SPLIT.txt with a NAME a line (for "
    "train-voc), or, in COCO's layout, annotations/instances_SPLIT.json and a folder SPLIT of images (for train-coco)"
)


def existing_folder(root: str | Path) -> Path:
    """Return the absolute path of a data set's folder; raise a `DataError` where there is none."""
    folder = Path(os.path.expanduser(root)).absolute()
    if not os.path.isdir(folder):
        raise DataError([Problem(ERROR, "no such folder", str(folder), "correct --dataset-root, or make it")])
    return folder
