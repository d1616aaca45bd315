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
from syncer.events import RequestKind
from syncer.oci import Digest
from syncer.registry.failures import Answer, failure, parse_error_body
from syncer.registry.traffic.retry import FailureClass, classify


def answer(
    status: int,
    body: bytes = b"",
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    asked: str = "reg.io/a:1",
    scheme: str = "https",
) -> Answer:
    """Return an answer to be judged."""
    return Answer(
        registry="reg.io",
        method=method,
        url=f"{scheme}://reg.io/v2/a/manifests/1",
        asked=asked,
        repository="reg.io/a",
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


@pytest.mark.parametrize(
    ("detail", "expected", "words"),
    [
        ("write /var/lib/registry/x/data: no space left on device", QuotaExceeded, "no space left on device"),
        ({"Enclosed": {"Op": "mkdir", "Path": "/x", "Err": 28}}, QuotaExceeded, "no space left on device"),
        ({"Enclosed": {"Op": "write", "Path": "/x", "Err": 122}}, QuotaExceeded, "disk quota exceeded"),
        ({"Enclosed": {"Op": "mkdir", "Path": "/x", "Err": 30}}, ServerFailure, "read-only file system"),
        ({"Enclosed": {"Op": "mkdir", "Path": "/x", "Err": 13}}, ServerFailure, "permission denied"),
        ({"Enclosed": {"Op": "mkdir", "Path": "/x", "Err": 99}}, ServerFailure, "unknown error"),
        ({"Enclosed": {"Err": [28]}}, ServerFailure, "unknown error"),
        ({"Enclosed": 28}, ServerFailure, "unknown error"),
    ],
)
def test_what_the_disk_of_docker_registry_said(detail: Any, expected: type[SyncerError], words: str) -> None:
    """docker-registry answers 500 UNKNOWN when its disk is full, and tells why in the detail, in words or numbers."""
    error = failure(answer(500, errors("UNKNOWN", "unknown error", detail), method="POST"))
    assert expected is type(error)
    assert words in error.message


def test_a_failure_of_the_registry_says_where_to_look() -> None:
    """Who meets a 500 that explains nothing is told where the explanation is."""
    assert "log" in failure(answer(500)).hint


def test_message_names_what_was_asked_and_what_was_said() -> None:
    """The message has the registry, the reference, the status, the code and the registry's own words."""
    error = failure(answer(403, errors("DENIED", "no\x1b[31m\nway")))
    assert isinstance(error, StatusError)
    assert error.message == "reg.io answered 403 to GET for reg.io/a:1: DENIED, no [31m way"
    assert (error.status, error.codes, error.registry, error.method) == (403, ("DENIED",), "reg.io", "GET")
    assert error.hint


BLOB = Digest.of(b"blob")


@pytest.mark.parametrize(
    ("asked", "code", "message", "hint"),
    [
        ("reg.io/a", "NAME_UNKNOWN", "the repository reg.io/a does not exist", "name"),
        ("reg.io/a:1", "NAME_UNKNOWN", "the repository reg.io/a does not exist", "name"),
        ("reg.io/a:1", "MANIFEST_UNKNOWN", "reg.io/a has no tag 1", "syncer list-tags reg.io/a"),
        (f"reg.io/a@{BLOB}", "MANIFEST_UNKNOWN", f"reg.io/a has no manifest {BLOB}", "deleted"),
        (f"reg.io/a@{BLOB}", "BLOB_UNKNOWN", f"reg.io/a has no blob {BLOB}", "deleted"),
        ("reg.io/a", "MANIFEST_UNKNOWN", "reg.io/a was not found", "name"),
        ("the referrers of reg.io/a@x", "BLOB_UNKNOWN", "the referrers of reg.io/a@x was not found", "name"),
        ("reg.io/a:1", "OTHER", "reg.io/a:1 was not found", "name"),
    ],
)
def test_not_found_says_what(asked: str, code: str, message: str, hint: str) -> None:
    """A 404 with a code tells a repository that does not exist from one without the tag, the manifest or the blob."""
    error = failure(answer(404, errors(code, "not known here"), asked=asked))
    assert isinstance(error, NotFound)
    assert error.message == message
    assert hint in error.hint
    assert error.codes == (code,)


def test_not_found_without_a_code_names_the_reference() -> None:
    """A 404 that explains nothing, as every HEAD's, says what was not found, in the registry's words if it has any."""
    assert failure(answer(404)).message == "reg.io/a:1 was not found"
    assert failure(answer(404, b"404 page not found")).message == "reg.io/a:1 was not found: 404 page not found"


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


@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_missing_blobs_are_a_definite_answer(status: int) -> None:
    """MANIFEST_BLOB_UNKNOWN is what it is under any status, a 500 among other codes included; no retry cures it."""
    missing = Digest.of(b"1")
    entries = [{"code": "UNKNOWN"}, {"code": "MANIFEST_BLOB_UNKNOWN", "detail": missing}]
    error = failure(answer(status, json.dumps({"errors": entries}).encode(), method="PUT"))
    assert isinstance(error, NotFound)
    assert (missing,) == error.missing
    assert classify(error, RequestKind.MANIFEST_PUT) is FailureClass.CONTRADICTED


@pytest.mark.parametrize(("status", "method"), [(500, "GET"), (401, "PUT"), (403, "PUT"), (429, "PUT")])
def test_other_answers_stay_what_they_are(status: int, method: str) -> None:
    """Neither a refusal nor a failure to read is about content that a manifest misses."""
    body = errors("MANIFEST_BLOB_UNKNOWN", "no")
    assert not isinstance(failure(answer(status, body, method=method)), NotFound)


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<html><title>400 The plain HTTP request was sent to HTTPS port</title>",
    ],
)
def test_plain_http_that_a_tls_port_understood(body: bytes) -> None:
    """A server that says it wants TLS is believed when it was asked without, and the hint says what to change."""
    assert "--no-plain-http" in failure(answer(400, body, scheme="http")).hint
    assert "--no-plain-http" not in failure(answer(400, body)).hint


def test_messages_that_are_no_text() -> None:
    """A message that is a number or a list is not shown."""
    assert parse_error_body(b'{"errors": [{"code": "A", "message": [1]}, {"message": {"x": 2}}]}').text == ""


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
