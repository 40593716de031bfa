"""What to install where a package is missing that the mathematics alone does not need."""

from __future__ import annotations


def needs(error: ModuleNotFoundError) -> str:
    """Return the end of a sentence on what wants the missing module; raises the error where that is one of ours."""
    missing = (error.name or "").split(".")[0]
    if missing in ("", "aploss_mx", "symbols"):
        raise error
    return (
        f"needs {missing}, which is not installed: pip install '.[cpu]' in a clone, or '.[gpu]' for NVIDIA GPUs, "
        "brings all that detectors need"
    )
