"""Odd single replies of token services, with aioresponses in place of sockets."""

from __future__ import annotations

import re
from typing import Any

import pytest

from syncer.errors import ProtocolViolation, StatusError, SyncerError, Unauthorized
from syncer.registry.credentials.values import Basic
from tests.support import images
from tests.support.scripted import connected
from tests.support.single_replies import Replies, single_replies

SAMPLE = images.image()
HOST = "127.0.0.1:5000"
MANIFEST = f"http://{HOST}/v2/a/manifests/1"
REALM = "http://127.0.0.1:5001/token"
TOKENS = re.compile(re.escape(REALM))
USER = Basic(username="u", password="canary")


def ask_for_token(replies: Replies) -> None:
    """Let the registry ask for a token."""
    challenge = {"WWW-Authenticate": f'Bearer realm="{REALM}",service="s"'}
    replies.add("GET", MANIFEST, status=401, headers=challenge)


def give_manifest(replies: Replies) -> None:
    """Let the registry give the manifest."""
    kind = SAMPLE.manifest.media_type
    replies.add("GET", MANIFEST, body=SAMPLE.manifest.raw, content_type=kind)


@pytest.mark.parametrize(
    "answer",
    [
        {"body": b'\xef\xbb\xbf{"token": "t"}'},
        {"body": '{"token": "t"}'.encode("utf-16")},
        {"body": b'{"token": "", "access_token": "t"}'},
        {"body": b'{"token": "t", "access_token": null, "expires_in": {}, "issued_at": [], "scope": 7}'},
        {"body": b'{"token": "t"}', "content_type": "text/html"},
    ],
    ids=["mark", "utf-16", "empty-and-other", "odd-members", "html-type"],
)
async def test_odd_answers_with_a_token(answer: dict[str, Any]) -> None:
    """A token is taken from any JSON object that has one, whatever stands around it."""
    with single_replies() as replies:
        ask_for_token(replies)
        replies.add("GET", TOKENS, **answer)
        give_manifest(replies)
        async with connected(HOST, credential=USER) as it:
            assert (await it.client.repository("a").fetch_manifest("1")).digest == SAMPLE.digest
    assert replies.asked.count(("GET", REALM)) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": 204}, ProtocolViolation),
        ({"status": 203, "body": b'{"token": "t"}'}, ProtocolViolation),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:5002/"}}, ProtocolViolation),
        ({"body": b"[" * 100_000}, ProtocolViolation),
        ({"body": b'{"token": "two words"}'}, ProtocolViolation),
        ({"body": b'{"token": "line\\r\\nX-Evil: 1"}'}, ProtocolViolation),
        ({"status": 402, "body": b"canary"}, StatusError),
        ({"status": 418}, StatusError),
        ({"status": 403, "payload": {"message": "no"}}, Unauthorized),
    ],
    ids=["204", "203", "302", "deep", "blank", "header", "402", "418", "403"],
)
async def test_odd_answers_without_one(answer: dict[str, Any], expected: type[SyncerError]) -> None:
    """Everything else is one typed error after one request."""
    with single_replies() as replies:
        ask_for_token(replies)
        replies.add("GET", TOKENS, **answer)
        async with connected(HOST, credential=USER) as it:
            with pytest.raises(expected):
                await it.client.repository("a").fetch_manifest("1")
    assert [line for line in replies.asked if line[1] != MANIFEST] == [("GET", REALM)]
