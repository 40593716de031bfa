#!/usr/bin/env python
"""The command `aploss-mx train-coco`, for a checkout."""

from aploss_mx.commands.train_coco import main

if __name__ == "__main__":
    main(prog="python scripts/train_coco.py")
