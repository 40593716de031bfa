"""Hold out a part of the training images to choose settings by, so that the test images have no say in them."""

from __future__ import annotations

from pathlib import Path

from aploss_mx.atomic import write_text
from aploss_mx.data.voc_splits import SPLIT_FOLDER, find_split, folder_of, read_split

EVERY = 5  # one image in five is held out


def hold_out(root: Path, folder: Path, train_split: str, val_split: str) -> None:
    """Make a data set of a VOC data set's training images alone, a fifth of them under the name of the test split.

    Annotations and images are links to those of `root`.

    Parameters
    ----------
    root : Path
        Folder that holds VOC2007 and its like, or a data set itself.
    folder : Path
        The new one, which is there.
    train_split, val_split : str
        Their names, in both.

    Raises
    ------
    DataError
        If there is no such split.
    ValueError
        If there are too few images, or the folder holds those of another data set.
    OSError
        If the folder cannot be written.
    """
    listed = find_split(root, train_split)
    images = [line for _, line in read_split(listed)]
    if len(images) < EVERY:
        raise ValueError(f"{listed} lists {len(images)} images, too few to hold some out")
    for linked in ("Annotations", "JPEGImages"):
        link, target = folder / linked, (folder_of(listed) / linked).resolve()
        if not link.is_symlink():
            link.symlink_to(target, target_is_directory=True)
        elif link.resolve() != target:
            raise ValueError(f"{link} leads to {link.resolve()}, not to {target}: choose another --runs, or remove it")
    for split in (train_split, val_split):
        kept = [image for number, image in enumerate(images) if (number % EVERY == 0) == (split == val_split)]
        write_text(folder / SPLIT_FOLDER / f"{split}.txt", "\n".join(kept) + "\n")
