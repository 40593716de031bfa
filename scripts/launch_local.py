#!/usr/bin/env python
"""The command `aploss-mx launch-local`, for a checkout."""

import sys

from aploss_mx.cli import run

if __name__ == "__main__":
    sys.exit(run("launch-local", prog="python scripts/launch_local.py"))
