"""What is here needs the GPU build of MXNet: `make test-gpu`."""

from __future__ import annotations

from contexts import KIND

if KIND != "gpu":
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter) -> None:
    """Show what tests recorded; pytest-xdist's workers cannot print."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
