"""A registry that wants tokens, and the service that gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.guarded import GuardedRegistry, guarded_registry
from tests.support.token_service import TokenService, token_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def service() -> AsyncIterator[TokenService]:
    """Serve tokens."""
    async with token_service() as running:
        yield running


@pytest.fixture
async def registry(service: TokenService) -> AsyncIterator[GuardedRegistry]:
    """Serve a registry that checks them."""
    async with guarded_registry(service) as running:
        yield running
