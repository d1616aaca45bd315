"""Nothing that looks like a credential leaves."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.telemetry.redaction import MASK, printable, redact, redact_event, redact_value

CANARY = "s3cr3t-C4n4ry"
BASIC = base64.b64encode(f"user:{CANARY}".encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {CANARY}",
        f"authorization: {CANARY} and more",
        f"Authorization: Basic {BASIC}",
        f"{{'Authorization': 'Bearer {CANARY}', 'Accept': '*/*'}}",
        f'{{"Proxy-Authorization": "{CANARY}"}}',
        f"X-Registry-Auth: {BASIC}",
        f"X-Amz-Security-Token: {CANARY}",
        f"Set-Cookie: session={CANARY}; Path=/",
        f"sent Bearer {CANARY} to the registry",
        f"sent basic {BASIC}",
        f"https://user:{CANARY}@registry.example.com/v2/",
        f"https://user:{CANARY}%40x@registry.example.com/v2/",
        f"https://user:a@{CANARY}@registry.example.com/v2/",
        f"https://{CANARY}@registry.example.com/v2/",
        f"PUT /v2/a/blobs/uploads/1?_state={CANARY}&digest=sha256:0",
        f"https://bucket.example.com/blob?X-Amz-Credential=A%2F&X-Amz-Signature={CANARY}",
        f"https://acr.example.com/blob?se=2025&sig={CANARY}%3D&sp=r",
        f"https://x.example.com/callback#access_token={CANARY}",
        f"https://auth.example.com/token?service=r&account={CANARY}&scope=repository:a:pull",
        f'the answer was {{"token":"{CANARY}","expires_in":300}}',
        f'{{"access_token": "{CANARY}"}}',
        f"grant_type=password password={CANARY}",
        f"password: {CANARY}",
        f"client_secret='{CANARY} with spaces'",
        f"refresh_token={CANARY}",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.s3cr3t-C4n4ry",
        "docker login -u me -p dckr_pat_s3cr3t-C4n4ry",
    ],
)
def test_masks(text: str) -> None:
    """A credential is masked wherever it stands."""
    masked = redact(text)
    assert CANARY not in masked
    assert BASIC not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "text",
    [
        "GET https://registry.example.com/v2/a/tags/list?n=100&last=3.19",
        "POST /v2/a/blobs/uploads/?mount=sha256:abc&from=library/base",
        "https://auth.example.com/token?service=registry&scope=repository:a/b:pull,push",
        "docker://alpine@sha256:c0ffee",
        "docker://registry.example.com/library/alpine:3.19@sha256:c0ffee",
        "the registry offers Basic authentication only",
        'WWW-Authenticate: Bearer realm="https://auth.example.com/token",service="r"',
        "the registry refused the token: it has expired",
        "no Bearer token was given",
        "see https://docs.example.com/sync#tags for more",
        "prod/mirror/alpine:3.19 is in sync",
    ],
)
def test_leaves_the_rest(text: str) -> None:
    """What is no credential stays readable."""
    assert redact(text) == text


def test_keeps_what_surrounds() -> None:
    """Only the credential is masked: the rest of a URL still tells what was asked for."""
    url = f"https://me:{CANARY}@r.example.com/v2/a/blobs/uploads/7?digest=sha256:ab&_state={CANARY}"
    assert redact(url) == "https://***@r.example.com/v2/a/blobs/uploads/7?digest=sha256:ab&_state=***"


@given(st.text(max_size=300))
def test_is_idempotent(text: str) -> None:
    """Any text can be redacted, and what was redacted once does not change again."""
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize("part", ["//a", "?a", "authorization ", "token=", "bearer ", "eyJaaaaaa.", "x-", "'"])
def test_long_text_takes_linear_time(part: str) -> None:
    """A text made to be slow is not: the loop guard and the timeout of the tests would tell."""
    text = part * (200_000 // len(part))
    before = time.thread_time()
    redact(text)
    assert time.thread_time() - before < 2


def test_fields_by_name() -> None:
    """A field whose name says that it is secret is masked whole, at any depth; numbers keep their type."""
    fields = redact_event(
        None,
        "info",
        {
            "event": "x",
            "password": CANARY,
            "registry_token": [CANARY],
            "nested": {"Authorization": CANARY, "items": [f"https://a:{CANARY}@b/", 7]},
            "size": 12,
            "ok": True,
            "nothing": None,
            "token": None,
            "where": ValueError(f"token={CANARY}"),
        },
    )
    assert CANARY not in str(fields)
    assert fields["size"] == 12
    assert fields["ok"] is True
    assert fields["nothing"] is None
    assert fields["token"] is None
    assert fields["nested"]["items"][1] == 7
    assert redact_value(1.5) == 1.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("one\ntwo\n", "one two"),
        ("\u202eevil", "\\u202eevil"),
        ("Grüße", "Grüße"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    """Control and direction characters are shown and not obeyed."""
    assert printable(text) == expected
