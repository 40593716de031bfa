#!/usr/bin/env python
"""The command `aploss-mx export`, for a checkout."""

import sys

from aploss_mx.cli import run

if __name__ == "__main__":
    sys.exit(run("export", prog="python scripts/export.py"))
