"""Where the real data sets and weights stand; in a module of its own, since `conftest` is the name of several."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("APLOSS_MX_SHARED", Path(__file__).resolve().parents[2] / "shared"))
