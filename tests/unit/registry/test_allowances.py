"""What registries say is left, and what is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from syncer.errors import RateLimitReached
from syncer.events import RequestKind
from syncer.registry import RegistrySettings
from syncer.registry.standing import Standing
from syncer.registry.traffic.allowance import Allowance, Stated, stated

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB_EMPTY = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def hub(clock: Clock | None = None) -> Allowance:
    """Return the allowance of a registry that counts pulls."""
    return Allowance("docker.io", metered_pulls=True, clock=clock or Clock())


def other(clock: Clock | None = None) -> Allowance:
    """Return the allowance of a registry that nothing is known of."""
    return Allowance("r.example", metered_pulls=False, clock=clock or Clock())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (HUB_EMPTY, Stated(remaining=0, window=21600.0, limit=100)),
        ({"RateLimit-Remaining": "76"}, Stated(remaining=76)),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "30"}, Stated(remaining=0, resets_in=30.0)),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "1000000060"}, Stated(remaining=0, resets_in=60.0)),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "999999000"}, Stated(remaining=0, resets_in=0.0)),
        ({"RateLimit": "limit=100, remaining=5, reset=9"}, Stated(remaining=5, resets_in=9.0)),
        ({"RateLimit": '"default";r=0;t=7'}, Stated(remaining=0, resets_in=7.0)),
        ({"RateLimit-Remaining": "many"}, None),
        ({"RateLimit-Remaining": "-1"}, None),
        ({"RateLimit": "unlimited"}, None),
        ({}, None),
    ],
)
def test_what_headers_say(headers: Mapping[str, str], expected: Stated | None) -> None:
    """The Docker Hub's form and those of the drafts are read, a reset as seconds or as a date; garbage is nothing."""
    assert expected == stated(CIMultiDict(headers), 1e9)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_any_header_is_survived(remaining: str, reset: str, combined: str) -> None:
    """No header raises, and none gives a negative number."""
    said = stated(CIMultiDict({"RateLimit-Remaining": remaining, "RateLimit-Reset": reset, "RateLimit": combined}), 0.0)
    assert said is None or (said.remaining >= 0 and (said.resets_in or 0.0) >= 0.0)


def test_no_pulls_left() -> None:
    """A Docker Hub that has no pulls left is asked for no manifest, and for all the rest."""
    allowance = hub()
    assert allowance.note(CIMultiDict(HUB_EMPTY), 0.0) == 0.0
    refused = allowance.refusal(RequestKind.MANIFEST_GET)
    assert refused is not None
    assert refused.registry == "docker.io"
    assert "none of the 100 is left in a window of 6 h" in refused.message
    assert refused.resets_in is None
    assert [
        allowance.refusal(kind) for kind in (RequestKind.MANIFEST_HEAD, RequestKind.BLOB_GET, RequestKind.TAGS)
    ] == [None] * 3


def test_the_form_tells_who_counts_pulls() -> None:
    """A registry by any name that answers in the Hub's form (a proxy of it) counts pulls as it does."""
    allowance = other()
    allowance.note(CIMultiDict(HUB_EMPTY), 0.0)
    assert allowance.refusal(RequestKind.MANIFEST_GET) is not None
    assert allowance.refusal(RequestKind.MANIFEST_HEAD) is None


def test_a_later_answer_counts() -> None:
    """A HEAD that tells of new pulls makes them available at once, and what was said ends with its window."""
    clock = Clock()
    allowance = hub(clock)
    allowance.note(CIMultiDict(HUB_EMPTY), 0.0)
    allowance.note(CIMultiDict({"ratelimit-remaining": "3;w=21600"}), 0.0)
    assert allowance.refusal(RequestKind.MANIFEST_GET) is None
    allowance.note(CIMultiDict(HUB_EMPTY), 0.0)
    clock.now += 21600.0
    assert allowance.refusal(RequestKind.MANIFEST_GET) is None


@pytest.mark.parametrize(
    ("reset", "pause", "is_refused"),
    [("30", 30.0, False), ("300", 300.0, False), ("3600", 0.0, True), ("9" * 9, 0.0, False)],
)
def test_who_counts_every_request(reset: str, pause: float, *, is_refused: bool) -> None:
    """With nothing left until soon the host is paused, until later refused, and what is absurd says nothing."""
    allowance = other()
    headers = CIMultiDict({"RateLimit-Remaining": "0", "RateLimit-Reset": reset})
    assert pause == allowance.note(headers, 0.0)
    assert is_refused == (allowance.refusal(RequestKind.TAGS) is not None)


def test_nothing_left_and_no_time_said() -> None:
    """Without a time there is nothing to plan by: a 429 will say what to do."""
    allowance = other()
    assert allowance.note(CIMultiDict({"RateLimit-Remaining": "0"}), 0.0) == 0.0
    assert allowance.refusal(RequestKind.MANIFEST_GET) is None


def test_closed() -> None:
    """A registry that wants to be left alone for an hour is asked nothing in that time, and says until when."""
    clock = Clock()
    allowance = other(clock)
    allowance.close(3600.0)
    clock.now += 600.0
    refused = allowance.refusal(RequestKind.MANIFEST_HEAD)
    assert refused is not None
    assert refused.resets_in == 3000.0
    clock.now += 3000.0
    assert allowance.refusal(RequestKind.MANIFEST_HEAD) is None


async def test_the_first_pull_tells_for_the_others() -> None:
    """Where pulls are known to count, one is sent first; a user without a limit is not held up after it."""
    allowance = hub()
    most: list[int] = []
    under_way = 0

    async def pull() -> None:
        nonlocal under_way
        await allowance.wait(RequestKind.MANIFEST_GET)
        with allowance.counted(RequestKind.MANIFEST_GET):
            under_way += 1
            most.append(under_way)
            await anyio.lowlevel.checkpoint()
            under_way -= 1
            allowance.told(RequestKind.MANIFEST_GET)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(pull)
    assert most == [*range(1, 2), *range(1, 10)]


async def test_no_more_pulls_go_out_than_are_left() -> None:
    """With three pulls left, of ten that start together three go out, and none goes out after them."""
    allowance = hub()
    left = 3
    allowance.note(CIMultiDict({"ratelimit-remaining": f"{left};w=60"}), 0.0)
    sent = 0
    refused = 0
    most = 0

    async def pull() -> None:
        nonlocal left, sent, refused, most
        try:
            await allowance.wait(RequestKind.MANIFEST_GET)
        except RateLimitReached:
            refused += 1
            return
        with allowance.counted(RequestKind.MANIFEST_GET):
            sent += 1
            most = max(most, sent)
            await anyio.lowlevel.checkpoint()
            left -= 1
        allowance.note(CIMultiDict({"ratelimit-remaining": f"{left};w=60"}), 0.0)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(pull)
    assert (sent, refused, left) == (3, 7, 0)


def test_places_that_a_registry_leads_to() -> None:
    """Of the places that a registry leads to, those are kept that want to be left alone: storages are many."""
    standing = Standing(RegistrySettings(host="r.example"))
    assert standing.allowance("https://a") is not standing.allowance("https://a")
    standing.close(3600.0, "https://a")
    assert standing.allowance("https://a").refusal(RequestKind.BLOB_GET) is not None
    assert [standing.allowance(place).refusal(RequestKind.BLOB_GET) for place in ("https://b", "")] == [None, None]
    assert standing.allowance() is standing.allowance()
