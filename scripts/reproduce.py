#!/usr/bin/env python
"""The command `aploss-mx reproduce`, for a checkout."""

from aploss_mx.commands.reproduce import main

if __name__ == "__main__":
    main(prog="python scripts/reproduce.py")
