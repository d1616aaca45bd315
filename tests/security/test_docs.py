"""docs/security.md speaks of every row of the catalogue, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

from tests.security.catalogue import ROWS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_row_is_promised() -> None:
    """Each row stands in a table with what it promises, and the tables have no row that is not tested."""
    rows = [cell for line in re.findall(r"^\| (S\d+[^|]*) \|", TEXT, flags=re.MULTILINE) for cell in line.split(", ")]
    assert sorted(rows) == sorted(row.name for row in ROWS)


def test_files_that_are_named_are_there() -> None:
    """Every test file and page that the page names exists."""
    for name in re.findall(r"`(tests/[a-z_/*.]+\.py)", TEXT):
        assert list(ROOT.glob(name)), name
    for name in re.findall(r"\]\(([A-Za-z./]+\.md)\)", TEXT):
        assert (ROOT / "docs" / name).is_file(), name
