#!/usr/bin/env python
"""The command `aploss-mx train-coco`, for a checkout."""

import sys

from aploss_mx.cli import run

if __name__ == "__main__":
    sys.exit(run("train-coco", prog="python scripts/train_coco.py"))
