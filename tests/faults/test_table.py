"""The page with the fault matrix says what is stated in the rows."""

from __future__ import annotations

from tests.faults import table


def test_the_page_is_up_to_date() -> None:
    """Write it anew by ``python -m tests.faults --page``."""
    text = table.PAGE.read_text()
    assert table.page(text) == text
    assert all(title in text for lines in table.stated().values() for title in lines)
