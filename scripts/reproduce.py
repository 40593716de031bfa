#!/usr/bin/env python
"""The paper's tables: each published figure, and the commands that would reproduce it.

python scripts/reproduce.py list
python scripts/reproduce.py list --table 2 --voc-root ~/data/VOCdevkit --coco-root ~/data/coco
"""

from __future__ import annotations

import argparse
import shlex

from aploss_mx.report.published import PUBLISHED


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="print the paper's figures and the commands for each")
    tables = sorted({row.table for row in PUBLISHED})
    listing.add_argument("--table", choices=tables, help="one table only (default: all)")
    listing.add_argument("--voc-root", default="datasets/VOCdevkit", help="folder of VOC (default: %(default)s)")
    listing.add_argument("--coco-root", default="datasets/coco", help="folder of COCO (default: %(default)s)")
    listing.add_argument("--gpus", default="0,1", help="GPUs to train on (default: %(default)s, as in the paper)")
    arguments = parser.parse_args(argv)
    roots = {"voc": arguments.voc_root, "coco": arguments.coco_root}
    for row in PUBLISHED:
        if arguments.table in (None, row.table):
            figures = "  ".join(f"{name} {value:.1f}" for name, value in row.figures.items())
            print(f"Table {row.table}, {row.row}: paper {figures}")
            print("  " + shlex.join(row.train_command(roots[row.dataset], arguments.gpus)))
            print("  " + shlex.join(row.test_command(roots[row.dataset], arguments.gpus.split(",")[0])))


if __name__ == "__main__":
    main()
