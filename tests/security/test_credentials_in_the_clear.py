"""Which other origins may be shown what is kept for their hosts (S6)."""

from __future__ import annotations

import pytest

from syncer.registry.auth.origins import Nobody, may_see_credentials
from syncer.registry.credentials.values import Anonymous, Basic
from syncer.registry.network.urls import Origin, absolute


@pytest.mark.parametrize(
    "url",
    [
        "https://registry.test",
        "https://10.0.0.1:5000",
        "http://127.0.0.1:5000",
        "http://localhost",
        "http://[::1]:5000",
    ],
)
def test_those_with_tls_and_this_machine_may(url: str) -> None:
    """TLS proves who it is, and nobody sits on the way to this machine."""
    origin = Origin.of(absolute(url))
    assert may_see_credentials(origin, [origin.host])


@pytest.mark.parametrize(
    "url",
    [
        "http://registry.test",
        "http://10.0.0.1:5000",
        "http://localhost.test",
        "http://[fd00::1]",
        "http://127.0.0.1.test",
        "http://a_b%41/",
    ],
)
def test_those_in_the_clear_may_not(url: str) -> None:
    """Without TLS, anyone on the way may be the one that answers."""
    origin = Origin.of(absolute(url))
    assert not may_see_credentials(origin, [origin.host])


def test_only_those_that_are_trusted_may() -> None:
    """TLS alone does not make another registry one that our credentials may be used at."""
    origin = Origin.of(absolute("https://other.test"))
    assert not may_see_credentials(origin, [])
    assert not may_see_credentials(origin, ["another.test", "*.other.test"])
    assert may_see_credentials(origin, ["*.test"])


async def test_nobody_knows_anything() -> None:
    """The store for the others has nothing, and gets nothing by asking again."""
    refused = Basic(username="u", password="p")
    assert [await Nobody().get("a", "b"), await Nobody().renew("a", "b", refused)] == [Anonymous(), Anonymous()]
