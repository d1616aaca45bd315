"""What a token service is asked, and how old its answers are."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.registry.auth.scopes import Scope, are_covered, scopes_of_path
from syncer.registry.auth.token_service import TOKEN_BEARER, TokenRequest, Way, parse_token
from syncer.registry.credentials.values import Anonymous, Basic, Credential, IdentityToken, RegistryToken

USER = Basic(username="u", password="canary")
IDENTITY = IdentityToken(token="canary", username="me")
DATE = "Mon, 23 Nov 2026 12:00:00 GMT"


def request_of(credential: Credential, way: Way | None = None) -> TokenRequest:
    """Return a request for two scopes."""
    scopes = (Scope.repository("a", "pull", "push"), Scope.repository("b", "pull"))
    return TokenRequest(realm="https://auth.io/t", service="s", scopes=scopes, credential=credential, way=way)


def form_of(request: TokenRequest) -> dict[str, list[str]]:
    """Read the body of a POST."""
    return parse_qs((request.form or b"").decode())


def test_password_by_post() -> None:
    """The password grant has everything in its body, the scopes in one value, and nothing in the URL or a header."""
    request = request_of(USER, Way.POST)
    assert form_of(request) == {
        "grant_type": ["password"],
        "username": ["u"],
        "password": ["canary"],
        "service": ["s"],
        "client_id": ["syncer"],
        "scope": ["repository:a:pull,push repository:b:pull"],
    }
    assert (str(request.url), request.authorization) == ("https://auth.io/t", "")


@pytest.mark.parametrize(("username", "shown"), [("me", "me"), ("", TOKEN_BEARER)])
def test_identity_token_by_get(username: str, shown: str) -> None:
    """By GET an identity token is the password of whoever it was given to."""
    request = request_of(IdentityToken(token="canary", username=username), Way.GET)
    assert base64.b64decode(request.authorization.removeprefix("Basic ")).decode() == f"{shown}:canary"
    assert request.form is None
    assert "canary" not in str(request.url)


@pytest.mark.parametrize("credential", [IDENTITY, Basic(username=TOKEN_BEARER, password="canary")])
def test_refresh_tokens_by_post(credential: Credential) -> None:
    """A refresh token is exchanged as one, also where it came as the password of ACR's user."""
    form = form_of(request_of(credential, Way.POST))
    assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["canary"])


@pytest.mark.parametrize(
    ("credential", "status", "expected"),
    [
        (USER, 404, Way.POST),
        (USER, 405, Way.POST),
        (USER, 401, None),
        (USER, 400, None),
        (IDENTITY, 404, Way.GET),
        (IDENTITY, 405, Way.GET),
        (IDENTITY, 401, Way.GET),
        (IDENTITY, 400, Way.GET),
        (IDENTITY, 403, None),
        (Anonymous(), 404, None),
        (RegistryToken(token="t"), 404, None),
    ],
)
def test_which_refusals_turn_to_the_other_way(credential: Credential, status: int, expected: Way | None) -> None:
    """A password that is refused is not shown again; an unknown path or method, or exchange, is tried the other way."""
    turned = request_of(credential).turned(status)
    assert expected == (turned.method if turned else None)


@pytest.mark.parametrize(
    ("issued_at", "date", "expected"),
    [
        ("2026-11-23T12:00:00Z", DATE, 270.0),
        ("2026-11-23T11:59:00Z", DATE, 240 * 0.9 + 0.0),
        ("2026-11-23T11:59:00.123456789Z", DATE, 0.9 * 240.123456),
        ("2026-11-23T12:59:00+01:00", DATE, 216.0),
        ("2026-11-23T11:59:00", DATE, 216.0),
        ("2026-11-23T12:10:00Z", DATE, 270.0),
        ("2020-01-01T00:00:00Z", DATE, 270.0),
        ("2026-11-23T11:59:00Z", "", 270.0),
        ("2026-11-23T11:59:00Z", "whenever", 270.0),
        ("0001-01-01T00:00:00Z", DATE, 270.0),
        ("9" * 300, DATE, 270.0),
    ],
)
def test_age_of_a_token(issued_at: str, date: str, expected: float) -> None:
    """A token that was issued before its answer, by the service's own clock, lives shorter; nonsense is ignored."""
    body = f'{{"token": "t", "expires_in": 300, "issued_at": "{issued_at}"}}'.encode()
    assert expected == pytest.approx(parse_token(request_of(USER), body, 0.0, date).refresh_at)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_times_are_survived(issued_at: str, date: str) -> None:
    """Whatever stands in the two times, the token is used at most as long as it says."""
    body = f'{{"token": "t", "expires_in": 300, "issued_at": {json.dumps(issued_at)}}}'.encode()
    assert 0 < parse_token(request_of(USER), body, 0.0, date).refresh_at <= 270.0


def test_rotation_is_for_identity_tokens() -> None:
    """A refresh token in the answer to a password is not kept: the password is at hand."""
    body = b'{"token": "t", "refresh_token": "canary-next"}'
    assert parse_token(request_of(IDENTITY), body, 0.0).rotation == "canary-next"
    assert parse_token(request_of(USER), body, 0.0).rotation == ""
    assert "canary" not in repr(parse_token(request_of(IDENTITY), body, 0.0))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/a/b/manifests/1", "repository:a/b:pull"),
        ("/v2/a/blobs/sha256:00", "repository:a:pull"),
        ("/v2/a/tags/list", "repository:a:pull"),
        ("/v2/a/manifests/manifests/1", "repository:a/manifests:pull"),
        ("/v2/a/b", ""),
        ("/v2/", ""),
        ("/bucket/v2/a/blobs/x", ""),
        ("/v2/A%2F../blobs/x", ""),
        ("/v2/a/blobs/uploads/1", ""),
    ],
)
def test_scope_of_a_path(path: str, expected: str) -> None:
    """The path of a read names the repository, wherever a registry has redirected it to."""
    assert expected == " ".join(map(str, scopes_of_path(path)))


def test_star_covers_every_action() -> None:
    """A token for * is good for everything on its resource, and for nothing on another."""
    star = Scope.repository("a", "*")
    assert are_covered([Scope.repository("a", "pull", "push"), Scope.repository("a", "delete")], [star])
    assert not are_covered([Scope.repository("b", "pull")], [star])
    assert not are_covered([star], [Scope.repository("a", "pull", "push", "delete")])
