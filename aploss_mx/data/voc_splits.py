"""Which images a split of data in the layout of PASCAL VOC has."""

from __future__ import annotations

import re
from pathlib import Path

from aploss_mx.data.problems import ERROR, WARNING, DataError, Problem, shortened

YEAR_FOLDERS = "VOC[0-9][0-9][0-9][0-9]"
SPLIT_FOLDER = Path("ImageSets", "Main")


def find_split(root: Path, split: str) -> Path:
    """The list of images that a split's name stands for.

    ``2007_train`` is ``VOC2007/ImageSets/Main/train.txt`` under `root`, or ``ImageSets/Main/train.txt`` where `root`
    itself holds the images (unless it is named after another year). ``train`` is ``ImageSets/Main/train.txt``, or the
    same in the one folder like ``VOC2007`` that has it.

    Raises
    ------
    DataError
        No such file, or more than one; the message lists the places and the splits that exist.
    """
    year, name = re.fullmatch(r"(?:(\d{4})_)?(.*)", split, flags=re.DOTALL).groups()
    if year is None:
        places = [root, *sorted(root.glob(YEAR_FOLDERS))]
    elif re.fullmatch(r"VOC\d{4}", root.name) and root.name != f"VOC{year}":
        places = [root / f"VOC{year}"]
    else:
        places = [root / f"VOC{year}", root]
    tried = [place / SPLIT_FOLDER / f"{name}.txt" for place in places]
    if year is not None:
        tried.append(root / SPLIT_FOLDER / f"{split}.txt")
    found = [path for path in tried if path.is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        message = f"it may be any of {shortened([str(path) for path in found])}; name the year, or a deeper folder"
        raise DataError([Problem(ERROR, "ambiguous split", split, message)])
    message = (
        f"none of {shortened([str(path) for path in tried])} exists; "
        f"splits there: {shortened(_existing_splits(root), 20) or 'none'}"
    )
    raise DataError([Problem(ERROR, "missing split", split, message)])


def list_annotations(root: Path, splits: str, problems: list[Problem]) -> list[Path]:
    """Paths of the annotation files that the splits list, each once; `problems` gets the images that are listed again.

    Raises
    ------
    DataError
        A list is missing, named twice or unreadable.
    """
    lists: dict[Path, str] = {}
    annotations: dict[str, Path] = {}
    for split in splits.split("+"):
        path = find_split(root, split)
        if path in lists:
            message = f"both {lists[path]} and {split} lead to it; name it once"
            raise DataError([Problem(ERROR, "repeated split", str(path), message)])
        lists[path] = split
        for stem in read_split(path):
            annotation = path.parents[2] / "Annotations" / f"{stem}.xml"
            if stem not in annotations:
                annotations[stem] = annotation
            elif annotations[stem] == annotation:
                problems.append(Problem(WARNING, "repeated image", str(annotation), f"again in {path}; read once"))
            else:
                problems.append(
                    Problem(
                        ERROR,
                        "repeated image name",
                        str(annotation),
                        f"{annotations[stem]} has the same name, and detections are told apart by it; rename one",
                    )
                )
    return list(annotations.values())


def read_split(path: Path) -> list[str]:
    """Names of a list's images. Lists for one class hold a second column (1, 0 or -1), which does not matter here.

    Raises
    ------
    DataError
        The file cannot be read, or lists no image.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([Problem(ERROR, "unreadable split", str(path), str(error))]) from error
    stems = [line.split()[0] for line in lines if line.strip()]
    if not stems:
        raise DataError([Problem(ERROR, "empty split", str(path), "it lists no image")])
    return stems


def _existing_splits(root: Path) -> list[str]:
    """Names that `find_split` knows under `root`, those of single classes (``cat_train``) last."""
    names = [path.stem for path in (root / SPLIT_FOLDER).glob("*.txt")]
    for folder in root.glob(YEAR_FOLDERS):
        names += [f"{folder.name[3:]}_{path.stem}" for path in (folder / SPLIT_FOLDER).glob("*.txt")]
    return sorted(names, key=lambda name: (name.count("_"), name))
