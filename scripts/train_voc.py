#!/usr/bin/env python
"""The command `aploss-mx train-voc`, for a checkout."""

import sys

from aploss_mx.cli import run

if __name__ == "__main__":
    sys.exit(run("train-voc", prog="python scripts/train_voc.py"))
