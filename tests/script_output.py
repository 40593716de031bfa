"""What scripts print, for tests that call their `main`."""

from __future__ import annotations

import re

import pytest


def message_of(main, flags) -> str:
    """Run a script that must end with a message for the user; return it."""
    with pytest.raises(SystemExit) as end:
        main([str(flag) for flag in flags])
    assert isinstance(end.value.code, str)
    assert end.value.code.startswith("error: ")
    return end.value.code


def table_of(printed: str) -> str:
    """Return the table of average precisions, which comes after that of the objects."""
    return re.search(r"^class .*?(?=\n\n)", printed, re.DOTALL | re.MULTILINE).group()
