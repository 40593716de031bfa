#!/usr/bin/env python
"""The command `aploss-mx reproduce`, for a checkout."""

import sys

from aploss_mx.cli import run

if __name__ == "__main__":
    sys.exit(run("reproduce", prog="python scripts/reproduce.py"))
