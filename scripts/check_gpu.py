#!/usr/bin/env python
"""The command `aploss-mx check-gpu`, for a checkout."""

import sys

from aploss_mx.cli import run

if __name__ == "__main__":
    sys.exit(run("check-gpu", prog="python scripts/check_gpu.py"))
