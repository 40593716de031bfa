#!/usr/bin/env python
"""The command `aploss-mx demo`, for a checkout."""

from aploss_mx.commands.demo import main

if __name__ == "__main__":
    main(prog="python scripts/demo.py")
