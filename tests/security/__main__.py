"""``python -m tests.security``: run the catalogue, and print what is defended and what would succeed without."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.security.stage import Row

_HERE = Path(__file__).parent
_DEFENDED, _SUCCEEDS = "test_is_defended", "test_would_succeed_without_the_defence"
_MODULE = "tests/security/test_catalogue.py"


class Outcomes:
    """Notes the outcome of every test; a plugin of pytest."""

    def __init__(self) -> None:
        self.failed: set[str] = set()
        self.passed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of one phase of one test."""
        name = report.nodeid.rpartition("::")[2]
        if report.failed:
            self.failed.add(name)
        elif report.when == "call" and report.passed:
            self.passed.add(name)

    def word(self, test: str, row: Row, yes: str, no: str) -> str:
        """Say what became of ``test`` for ``row``."""
        name = f"{test}[{row.name}]"
        return no if name in self.failed else yes if name in self.passed else "not run"


def main() -> int:
    """Run and print; return the exit status."""
    outcomes = Outcomes()
    output = io.StringIO()
    arguments = ["-q", "--tb=short", "-n", "0", "-p", "no:cacheprovider", str(_HERE / "test_catalogue.py")]
    with redirect_stdout(output):
        status = int(pytest.main(arguments, plugins=[outcomes]))
    from tests.security.catalogue import ROWS  # noqa: PLC0415 - pytest must import first what it rewrites

    lines = [("row", "threat", "defence", "defended", "without it")]
    lines += [
        (
            row.name,
            row.threat,
            row.defence.removeprefix("syncer."),
            outcomes.word(_DEFENDED, row, "yes", "NO"),
            outcomes.word(_SUCCEEDS, row, "succeeds", "DOES NOT SUCCEED"),
        )
        for row in ROWS
    ]
    for line in lines:
        sys.stdout.write(f"| {' | '.join(line)} |\n")
        if line is lines[0]:
            sys.stdout.write(f"|{'---|' * len(line)}\n")
    sys.stdout.write(f"\n{len(ROWS)} attacks; {_MODULE}::{_DEFENDED}[ROW] and {_MODULE}::{_SUCCEEDS}[ROW]\n")
    if status:
        sys.stdout.write(output.getvalue())
    return status


if __name__ == "__main__":
    sys.exit(main())
