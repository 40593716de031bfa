"""A part of the training images to choose settings by, so that the test images have no say in them."""

from __future__ import annotations

from pathlib import Path

from aploss_mx.atomic import write_text
from aploss_mx.data.voc import SPLIT_FOLDER

EVERY = 5  # one image in five is held out


def hold_out(root: Path, folder: Path, train_split: str, val_split: str) -> None:
    """Make a data set of a VOC data set's training images alone, a fifth of them under the name of the test split.

    Annotations and images are links to those of `root`.

    Parameters
    ----------
    root : Path
        Folder that holds VOC2007 and its like.
    folder : Path
        Where to make the new one.
    train_split, val_split : str
        YEAR_NAME of both, of one year.

    Raises
    ------
    ValueError
        If there are too few images.
    OSError
        If there is no such split, or the folder cannot be written.
    """
    year, name = train_split.split("_", 1)
    source, target = Path(root, f"VOC{year}").resolve(), Path(folder, f"VOC{year}")
    lines = (source / SPLIT_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    images = [line.split()[0] for line in lines if line.strip()]
    if len(images) < EVERY:
        raise ValueError(f"{train_split} of {root} has {len(images)} images, too few to hold some out")
    target.mkdir(parents=True, exist_ok=True)
    for linked in ("Annotations", "JPEGImages"):
        if not (target / linked).is_symlink():
            (target / linked).symlink_to(source / linked, target_is_directory=True)
    for split in (train_split, val_split):
        kept = [image for number, image in enumerate(images) if (number % EVERY == 0) == (split == val_split)]
        write_text(target / SPLIT_FOLDER / f"{split.split('_', 1)[1]}.txt", "\n".join(kept) + "\n")
