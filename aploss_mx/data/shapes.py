"""Paint a small detection data set, rather than download one, in the layout of PASCAL VOC.

Run ``python -m aploss_mx.data.shapes --output DIR`` and train on DIR as on any VOC data set.
"""

from __future__ import annotations

import argparse
import errno
import json
import tempfile
from pathlib import Path
from typing import Iterator, Sequence

import cv2
import numpy as np

from aploss_mx.arguments import ArgumentParser
from aploss_mx.data.painted_shapes import SHAPES_CLASSES, SPLITS, PaintedShape, paint_picture
from aploss_mx.progress import track

# Raise it with any change to the pictures, so that a folder from before the change is not taken for one from after.
_GENERATOR_VERSION = 1
_PARAMETERS_FILE = "shapes.json"
_VOC_YEAR = "VOC2007"

_MIN_PICTURE = 64  # px; below it the largest shape would hardly exceed the smallest


def _annotation(image_id: str, size: int, shapes: Sequence[PaintedShape]) -> str:
    """Text of a VOC annotation file."""
    objects = "".join(_annotation_object(shape) for shape in shapes)
    return (
        "<annotation>\n"
        f"\t<folder>{_VOC_YEAR}</folder>\n"
        f"\t<filename>{image_id}.jpg</filename>\n"
        "\t<source>\n\t\t<database>aploss_mx shapes</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{size}</width>\n\t\t<height>{size}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        "\t<segmented>0</segmented>\n"
        f"{objects}"
        "</annotation>\n"
    )


def _annotation_object(shape: PaintedShape) -> str:
    xmin, ymin, xmax, ymax = shape.box
    return (
        "\t<object>\n"
        f"\t\t<name>{SHAPES_CLASSES[shape.label]}</name>\n"
        "\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{int(shape.truncated)}</truncated>\n"
        f"\t\t<difficult>{int(shape.difficult)}</difficult>\n"
        "\t\t<bndbox>\n"
        f"\t\t\t<xmin>{xmin}</xmin>\n\t\t\t<ymin>{ymin}</ymin>\n\t\t\t<xmax>{xmax}</xmax>\n\t\t\t<ymax>{ymax}</ymax>\n"
        "\t\t</bndbox>\n"
        "\t</object>\n"
    )


def generate(
    root: str | Path,
    num_train: int = 800,
    num_val: int = 200,
    size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write the data set to a folder, or reuse the folder where it already holds just this one.

    The layout is VOC's: ``VOC2007/{Annotations,JPEGImages}`` and ``VOC2007/ImageSets/Main/{train,val}.txt``. The
    parameters stand beside it in ``shapes.json``. A picture depends only on the seed, its split, its number and its
    size, so that a larger set begins with the pictures of a smaller one. The set appears under its name only when it is
    complete.

    Parameters
    ----------
    root : str or Path
        Folder to write; a missing parent is created.
    num_train, num_val : int
        Pictures of each split, at least one.
    size : int
        Width and height of a picture in pixels, at least 64.
    seed : int
        Seed of all randomness, from 0.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    Path
        The folder, ``root``.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    FileExistsError
        If ``root`` exists and is neither empty nor this very data set; nothing is changed then.
    """
    root = Path(root)
    counts = dict(zip(SPLITS, (num_train, num_val)))
    _check_parameters(counts, size, seed)
    parameters = {"generator": _GENERATOR_VERSION, **counts, "size": size, "seed": seed}
    if root.exists() and not _is_empty_folder(root):
        _check_reusable(root, parameters, counts)
        return root

    # An empty folder stays and is filled: it may be the current one, or a mounted one, which nothing can replace.
    parent = root if root.exists() else root.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{root.name}-") as unfinished:
        # One level down, for the temporary folder itself is readable by its owner only.
        staged = Path(unfinished) / "shapes"
        _write_voc(staged / _VOC_YEAR, counts, size, seed, progress)
        (staged / _PARAMETERS_FILE).write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")
        try:
            if parent != root:
                staged.rename(root)
            else:
                for name in (_VOC_YEAR, _PARAMETERS_FILE):
                    (staged / name).rename(root / name)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _check_reusable(root, parameters, counts)  # another process was faster
    return root


def _is_empty_folder(path: Path) -> bool:
    """Whether a folder holds nothing, or only what a process that was killed left unfinished in it."""
    return path.is_dir() and all(item.name.startswith(f".{path.name}-") for item in path.iterdir())


def _check_parameters(counts: dict, size: int, seed: int) -> None:
    for split, count in counts.items():
        if count < 1:
            raise ValueError(f"the shapes data set needs at least one picture in split {split!r}, got {count}")
    if size < _MIN_PICTURE:
        raise ValueError(f"pictures of the shapes data set measure at least {_MIN_PICTURE} px, got size={size}")
    if seed < 0:
        raise ValueError(f"the seed of the shapes data set must not be negative, got {seed}")


def _check_reusable(root: Path, parameters: dict, counts: dict) -> None:
    """Raise FileExistsError unless the folder holds the data set of these parameters with all its files."""
    advice = "Nothing was changed: remove it or choose another output folder."
    try:
        found = json.loads((root / _PARAMETERS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise FileExistsError(f"{root} exists and is not a shapes data set. {advice}") from None
    if found != parameters:
        raise FileExistsError(f"{root} holds a shapes data set made with {found}, not {parameters}. {advice}")
    missing = [path for path in _voc_files(root / _VOC_YEAR, counts) if not path.is_file()]
    if missing:
        raise FileExistsError(f"{root} lacks {len(missing)} of its files, such as {missing[0]}. {advice}")


def _voc_files(folder: Path, counts: dict) -> Iterator[Path]:
    for split, count in counts.items():
        yield folder / "ImageSets" / "Main" / f"{split}.txt"
        for image_id in _image_ids(split, count):
            yield folder / "Annotations" / f"{image_id}.xml"
            yield folder / "JPEGImages" / f"{image_id}.jpg"


def _image_ids(split: str, count: int) -> list[str]:
    return [f"{split}_{index:06d}" for index in range(count)]


def _write_voc(folder: Path, counts: dict, size: int, seed: int, progress: bool) -> None:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    with track(desc="painting shapes", total=sum(counts.values()), unit="pictures", hidden=not progress) as bar:
        for split, count in counts.items():
            image_ids = _image_ids(split, count)
            for index, image_id in enumerate(image_ids):
                image, shapes = paint_picture(seed, split, index, size)
                annotation = _annotation(image_id, size, shapes)
                (folder / "Annotations" / f"{image_id}.xml").write_text(annotation, encoding="utf-8")
                (folder / "JPEGImages" / f"{image_id}.jpg").write_bytes(_jpeg(image))
                bar.update()
            image_list = "".join(f"{image_id}\n" for image_id in image_ids)
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(image_list, encoding="utf-8")


def _jpeg(image: np.ndarray) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return data.tobytes()


def main(argv: Sequence[str] | None = None, prog: str = "python -m aploss_mx.data.shapes") -> None:
    """Generate the data set from the command line."""
    parser = ArgumentParser(
        prog,
        description="Paint a small detection data set in the layout of PASCAL VOC: no download, and enough to see "
        f"a detector learn within minutes. Its classes are {', '.join(SHAPES_CLASSES)}.",
        epilog="The same options always give the same pictures. A folder that already holds them is reused; "
        "a folder that holds anything else is left alone, with an error.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    # SUPPRESS keeps the formatter from ending the help with "(default: None)".
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="folder to write; VOC2007/ and shapes.json appear in it",
    )
    parser.add_argument("--train", type=int, default=800, metavar="N", help="pictures to train on")
    parser.add_argument("--val", type=int, default=200, metavar="N", help="pictures to evaluate on")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="width and height of a picture")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of all randomness, from 0")
    args = parser.parse_args(argv)
    try:
        root = generate(args.output, args.train, args.val, args.size, args.seed)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{root}: {args.train} pictures to train on, {args.val} to evaluate on")


if __name__ == "__main__":
    main()
