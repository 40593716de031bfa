"""What is here needs the GPU build of MXNet: `make test-gpu`."""

from __future__ import annotations

from contexts import KIND

if KIND != "gpu":
    collect_ignore_glob = ["test_*.py"]
