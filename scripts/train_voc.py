#!/usr/bin/env python
"""The command `aploss-mx train-voc`, for a checkout."""

from aploss_mx.commands.train_voc import main

if __name__ == "__main__":
    main(prog="python scripts/train_voc.py")
