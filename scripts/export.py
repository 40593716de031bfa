#!/usr/bin/env python
"""The command `aploss-mx export`, for a checkout."""

from aploss_mx.commands.export import main

if __name__ == "__main__":
    main(prog="python scripts/export.py")
