"""A served tree for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from syncer.layout.tree import LayoutTree
from tests.integration.server.peer import Peer, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest_asyncio.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    """Talk to an open registry with the default settings."""
    async with serving(tmp_path / "registry") as peer:
        yield peer


@pytest.fixture
def tree(tmp_path: Path) -> LayoutTree:
    """Give a tree that nothing serves."""
    return LayoutTree(tmp_path / "registry", durable=False)
