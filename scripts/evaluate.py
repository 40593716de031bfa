#!/usr/bin/env python
"""The command `aploss-mx evaluate`, for a checkout."""

import sys

from aploss_mx.cli import run

if __name__ == "__main__":
    sys.exit(run("evaluate", prog="python scripts/evaluate.py"))
