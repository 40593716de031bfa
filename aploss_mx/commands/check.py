"""Check a data set in VOC or COCO layout: everything wrong with it, named before training starts.

%(prog)s --dataset-root ~/data/VOCdevkit --split 2007_trainval+2012_trainval
%(prog)s --dataset-root my_data --split train --classes cat,dog --data-shape 256
%(prog)s --dataset-root my_coco --split train --anchor-size 2 --anchor-ratios 0.33,1,3
%(prog)s --recipe own_data --dataset-root my_data --split train --html data.html

Of each class it tells what share no anchor covers at the size of the training images. Training checks its data as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from aploss_mx.arguments import ArgumentParser, html_file
from aploss_mx.commands.recipe_flags import add_settings, settings_given
from aploss_mx.config import Recipe, load_recipe
from aploss_mx.console import complain, safe_output
from aploss_mx.data.check import Report, check_dataset
from aploss_mx.data.dataset import is_coco, open_dataset
from aploss_mx.data.problems import DataError
from aploss_mx.text import visible


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print the report of a data set; 0 if training can start, 1 if not, 2 (by argparse) on misuse."""
    parser = ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dataset-root", required=True, help="folder above VOC2007, or that holds ImageSets or annotations itself"
    )
    parser.add_argument("--split", required=True, help="names joined by +: 2007_train+2007_val, or train2017")
    parser.add_argument(
        "--classes",
        help="'voc', 'data' for those in the data, names separated by commas, or a file with one a line "
        "(default: the recipe's; without a recipe voc, and data in COCO layout)",
    )
    parser.add_argument(
        "--recipe", metavar="FILE|NAME", help="of the training that the data are for; flags override it"
    )
    add_settings(
        parser.add_argument_group("settings", "Of the training that the data are for. In brackets: without --recipe."),
        ("data_shape", "anchor_size", "anchor_scales", "anchor_ratios", "augmentation", "pixels"),
    )
    parser.add_argument(
        "--html",
        type=html_file,
        metavar="FILE",
        help="write a page to look at, also where there are errors: problems with their pictures, sizes, what anchors "
        "cover, examples before and after augmentation",
    )
    arguments = parser.parse_args(argv)
    with safe_output():
        try:
            given = settings_given(arguments)
            recipe = (load_recipe(arguments.recipe) if arguments.recipe else Recipe()).override(**given)
            known = arguments.recipe or arguments.classes is not None
            coco = is_coco(arguments.dataset_root, arguments.split)
            classes = recipe.classes if known else "data" if coco else "voc"
            dataset = open_dataset(arguments.dataset_root, arguments.split, classes, strict=False)
            report = check_dataset(dataset, data_shape=recipe.data_shape, anchors=recipe.anchors)
        except DataError as error:
            complain(str(error))
            dataset, name = None, f"{Path(arguments.dataset_root).name} {arguments.split}"
            report = Report(name, 0, {}, {}, 0, error.problems)
        except (OSError, ValueError) as error:
            parser.error(visible(str(error)))
        else:
            print(report)
        if arguments.html:
            from aploss_mx.data_page.page import write_data_page

            try:
                write_data_page(arguments.html, dataset, report, recipe)
            except OSError as error:
                complain(str(error))
                return 1
            print(f"wrote {visible(str(arguments.html))}")
    return 0 if report.ok else 1
