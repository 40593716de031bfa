"""`python -m aploss_mx` is the command `aploss-mx`."""

import sys

from aploss_mx.cli import main

sys.exit(main(prog="python -m aploss_mx"))
