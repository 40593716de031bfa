#!/usr/bin/env python
"""The command `aploss-mx check-gpu`, for a checkout."""

from aploss_mx.commands.check_gpu import main

if __name__ == "__main__":
    main(prog="python scripts/check_gpu.py")
