"""What error answers become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import (
    Denied,
    ImmutableTag,
    NotFound,
    ProtocolViolation,
    QuotaExceeded,
    RangeRejected,
    RateLimited,
    ServerFailure,
    StatusError,
    SyncerError,
    Unauthorized,
    Unsupported,
)
from syncer.oci import Digest
from syncer.registry.failures import Answer, failure, parse_error_body


def answer(status: int, body: bytes = b"", *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """Return an answer to be judged."""
    return Answer(
        registry="reg.io",
        method=method,
        url="https://reg.io/v2/a/manifests/1",
        asked="reg.io/a:1",
        status=status,
        headers=headers or {},
        body=body,
        wanted=frozenset({200}),
        now=0.0,
    )


def errors(code: str, message: str = "", detail: Any = None) -> bytes:
    """Return a body in the form of the distribution-spec."""
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, errors("UNAUTHORIZED"), Unauthorized),
        (403, errors("DENIED", "requested access is denied"), Denied),
        (403, errors("DENIED", "quota exceeded for project"), QuotaExceeded),
        (507, b"", QuotaExceeded),
        (402, b"", QuotaExceeded),
        (404, b"", NotFound),
        (405, errors("UNSUPPORTED"), Unsupported),
        (501, b"", Unsupported),
        (406, b"", Unsupported),
        (412, errors("PRECONDITION", "configured as immutable"), ImmutableTag),
        (400, errors("TAG_INVALID", "tag 1 already exists and cannot be overwritten"), ImmutableTag),
        (412, errors("PROJECTPOLICYVIOLATION", "vulnerable"), Denied),
        (416, b"", RangeRejected),
        (429, b"", RateLimited),
        (500, b"<html>", ServerFailure),
        (502, b"", ServerFailure),
        (520, b"", ServerFailure),
        (408, b"", ServerFailure),
        (418, b"", StatusError),
        (413, b"<html><title>413 Request Entity Too Large</title>", StatusError),
        (200, b"<html>", ProtocolViolation),
        (302, b"", ProtocolViolation),
    ],
)
def test_classes(status: int, body: bytes, expected: type[SyncerError]) -> None:
    """Each answer becomes the error that says what it is."""
    assert expected is type(failure(answer(status, body)))


def test_message_names_what_was_asked_and_what_was_said() -> None:
    """The message has the registry, the reference, the status, the code and the registry's own words."""
    error = failure(answer(403, errors("DENIED", "no\x1b[31m\nway")))
    assert isinstance(error, StatusError)
    assert error.message == "reg.io answered 403 to GET for reg.io/a:1: DENIED, no [31m way"
    assert (error.status, error.codes, error.registry, error.method) == (403, ("DENIED",), "reg.io", "GET")
    assert error.hint


def test_not_found_names_the_reference() -> None:
    """A 404 says what was not found."""
    assert failure(answer(404, errors("MANIFEST_UNKNOWN"))).message == "reg.io/a:1 was not found"


def test_missing_repository_on_push_says_to_create_it() -> None:
    """NAME_UNKNOWN on a write is about the repository."""
    assert "create it first" in failure(answer(404, errors("NAME_UNKNOWN"), method="POST")).hint


def test_missing_blobs_are_listed() -> None:
    """MANIFEST_BLOB_UNKNOWN names every digest, in either form of its detail."""
    one, two = Digest.of(b"1"), Digest.of(b"2")
    body = json.dumps(
        {
            "errors": [
                {"code": "MANIFEST_BLOB_UNKNOWN", "detail": one},
                {"code": "MANIFEST_BLOB_UNKNOWN", "detail": {"digest": two}},
                {"code": "MANIFEST_BLOB_UNKNOWN", "detail": "sha256:../../x"},
            ]
        }
    ).encode()
    error = failure(answer(400, body, method="PUT"))
    assert isinstance(error, NotFound)
    assert (one, two) == error.missing


def test_unknown_blob_in_words() -> None:
    """Quay's and zot's MANIFEST_INVALID about an unknown blob is the same thing."""
    assert isinstance(failure(answer(400, errors("MANIFEST_INVALID", "Unknown blob x"), method="PUT")), NotFound)


def test_retry_after_is_kept() -> None:
    """429 and 503 with Retry-After both say when to come back."""
    for status in (429, 503):
        error = failure(answer(status, headers={"Retry-After": "7"}))
        assert isinstance(error, RateLimited)
        assert (status, 7.0) == (error.status, error.retry_after)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"message": "plain"}', "plain"),
        (b"<html><title>Bad gateway</title></html>", "Bad gateway"),
        (b"no json \xff", "no json"),
        (b"[" * 100_000, "[" * 200),
        (b'{"errors": ["x", {"code": 5}, {"code": "A", "message": null}]}', ""),
    ],
)
def test_other_bodies(body: bytes, expected: str) -> None:
    """Whatever a proxy sends, its first words are kept and no more."""
    assert parse_error_body(body).text.startswith(expected)


@given(st.binary(max_size=300), st.integers(200, 599), st.sampled_from(["GET", "PUT", "POST"]))
def test_any_answer_becomes_an_error(body: bytes, status: int, method: str) -> None:
    """No body raises, and no message is long or unprintable."""
    error = failure(answer(status, body, method=method))
    assert len(error.message) < 600
    assert all(character.isprintable() or character == " " for character in error.message)
