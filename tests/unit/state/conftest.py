"""A place for a state file, and the words to fill it with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.events import Event


class Notebook:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def notify(self, event: Event) -> None:
        """Keep ``event``."""
        self.events.append(event)


@pytest.fixture
def notebook() -> Notebook:
    """Return an observer that keeps what it hears."""
    return Notebook()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a state file that does not exist yet."""
    return tmp_path / "syncer.db"
