#!/usr/bin/env python
"""The command `aploss-mx launch-local`, for a checkout."""

from aploss_mx.commands.launch_local import main

if __name__ == "__main__":
    main(prog="python scripts/launch_local.py")
