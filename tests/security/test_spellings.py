"""Addresses of the internal network in every spelling, from every place where a registry names a host (S7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.errors import ProtocolViolation, SyncerError, UnsafeAddress
from tests.security.addresses import METADATA, SPELLINGS, inside, read
from tests.security.stage import Heard, reply, said

if TYPE_CHECKING:
    from tests.security.stage import Answer

_MORE = [
    "127.0.0.2.",
    "127.2",
    "127.0.2",
    "0177.0.0.02",
    "0177.0.0.2",
    "2130706434",
    "017700000002",
    "127.0.0.0x2",
    "127.0.0.002",
    "[::ffff:7f00:0002]",
    "[0:0:0:0:0:ffff:127.0.0.2]",
    "[64:ff9b::7f00:2]",
    "[64:ff9b::127.0.0.2]",
    "[2002:7f00:2::]",
    "[::127.0.0.2]",
    "[::ffff:0:127.0.0.2]",
    "internal.test",
    "INTERNAL.test",
    "localhost",
    "LocalHost.",
    "a.localhost",
    "[::1]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fd00:ec2::254]",
    "0",
    "0.0.0.0",
    "[::]",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "127.0.0.%32",
    "%31%32%37.0.0.2",
    "127.0.0.2%00.public.test",
    "127\u30020\u30020\u30022",
    "\uff11\uff12\uff17.0.0.2",
    "public.test@127.0.0.2",
    "public.test\\@127.0.0.2",
    "127.0.0.2#public.test",
    "127.0.0.2?public.test",
]


def _redirect(host: str, port: int) -> bytes:
    return reply(307, Location=f"http://{host}:{port}/latest/meta-data/")


def _realm(host: str, port: int) -> bytes:
    return reply(401, WWW_Authenticate=f'Bearer realm="http://{host}:{port}/latest/",service="s"')


@pytest.mark.parametrize("lead", [_redirect, _realm], ids=["redirect", "realm"])
@pytest.mark.parametrize("host", [*SPELLINGS.values(), *_MORE])
async def test_no_spelling_leads_inside(host: str, lead: object) -> None:
    """A public registry that names the internal network, however it is written, has nothing asked there."""
    assert callable(lead)

    def turn(_heard: Heard, port: int) -> Answer:
        answer: bytes = lead(host, port)
        return answer

    async with inside(turn) as (repository, victim):
        error = await said(read(repository), SyncerError)
    assert error is not None
    assert victim.lines == []


@pytest.mark.parametrize("lead", [_redirect, _realm], ids=["redirect", "realm"])
async def test_the_refusal_says_who_led_where(lead: object) -> None:
    """The error names the host and what it is, and tells an operator what to do about a host of his own."""
    assert callable(lead)
    async with inside(lambda _, port: lead("internal.test", port)) as (repository, _):
        error = await said(read(repository), SyncerError)
    assert isinstance(error, UnsafeAddress)
    assert "internal.test" in error.message
    assert "private" in error.message
    assert "trusted_hosts" in error.hint


async def test_metadata_services_cannot_be_trusted() -> None:
    """No setting opens the way to a metadata service, and the hint names none."""
    async with inside(lambda _, port: _redirect("metadata.test", port), at=METADATA) as (repository, _):
        error = await said(read(repository), SyncerError)
    assert isinstance(error, ProtocolViolation)
    assert "trusted_hosts" not in error.hint
