#!/usr/bin/env python
"""The command `aploss-mx evaluate`, for a checkout."""

from aploss_mx.commands.evaluate import main

if __name__ == "__main__":
    main(prog="python scripts/evaluate.py")
