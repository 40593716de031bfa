#!/usr/bin/env python
"""The command `aploss-mx demo`, for a checkout."""

import sys

from aploss_mx.cli import run

if __name__ == "__main__":
    sys.exit(run("demo", prog="python scripts/demo.py"))
