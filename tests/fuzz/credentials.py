"""Credential files, the output of credential helpers, and the answers of token services."""

from __future__ import annotations

import base64
import json
import math

from syncer.errors import CredentialsError, ProtocolViolation
from syncer.registry.auth.scopes import Scope
from syncer.registry.auth.token_service import TokenRequest, basic_header, parse_token
from syncer.registry.credentials.authfile import parse_auth_file
from syncer.registry.credentials.helper_program import _read_answer
from syncer.registry.credentials.values import Basic, IdentityToken
from tests.fuzz.stage import CANARY, Family, always, pure

_AUTH = base64.b64encode(f"user:{CANARY}-password".encode()).decode()
_PLACES = (
    ("registry.test", ""),
    ("registry.test", "team/app"),
    ("docker.io", "library/alpine"),
    ("127.0.0.1:5000", "a"),
)


def read_file(data: bytes) -> None:
    """Read a credential file, today's form and the old one, and ask it for a few repositories."""
    refused: CredentialsError | None = None
    for legacy in (True, False):
        try:
            file = parse_auth_file(data, "config.json", legacy=legacy)
        except CredentialsError as error:
            refused = error
            continue
        for host, repository in _PLACES:
            assert isinstance(file.helper(host), str)
            try:
                credential = file.credential(host, repository)
            except CredentialsError as error:
                refused = error
                continue
            if isinstance(credential, Basic):
                assert basic_header(credential).isascii()
    if refused is not None:
        raise refused


def read_helper(data: bytes) -> None:
    """Read what a helper printed, with and without a failure."""
    _read_answer("secretservice", 0, data)
    _read_answer("secretservice", 1, data)


def read_token(data: bytes) -> None:
    """Read the answer of a token service, to who has a name and to who has a refresh token."""
    refused: ProtocolViolation | None = None
    for credential in (Basic(username="u", password="p"), IdentityToken(token="t")):
        request = TokenRequest(
            realm="https://auth.test/token",
            service="registry.test",
            scopes=(Scope.repository("team/app", "pull"),),
            credential=credential,
        )
        try:
            token = parse_token(request, data, 1000.0, "Fri, 31 Dec 1999 23:59:59 GMT")
        except ProtocolViolation as error:
            refused = error
            continue
        assert token.header.isascii(), "a token can stand in a header"
        assert token.header.isprintable()
        assert math.isfinite(token.refresh_at)
        assert 1000 < token.refresh_at < 1000 + 24 * 3600, "a token is used for a while, and not for ever"
        assert CANARY not in repr(token), "a token does not show itself"
    if refused is not None:
        raise refused


FILES = Family(
    name="credentials",
    seeds=always(
        json.dumps(
            {
                "auths": {
                    "registry.test": {"auth": _AUTH},
                    "registry.test/team": {"username": "u", "password": f"{CANARY}-2"},
                    "https://index.docker.io/v1/": {"auth": _AUTH, "identitytoken": f"{CANARY}-3"},
                    "127.0.0.1:5000": {"registrytoken": f"{CANARY}-4"},
                },
                "credHelpers": {"ecr.test": "ecr-login"},
                "credsStore": "desktop",
            }
        ).encode(),
        json.dumps({"registry.test": {"auth": _AUTH, "email": "a@b"}}).encode(),
        b"",
    ),
    opened=pure(read_file),
    has_secrets=True,
)
HELPERS = Family(
    name="helpers",
    seeds=always(
        json.dumps({"ServerURL": "registry.test", "Username": "u", "Secret": f"{CANARY}-s"}).encode(),
        json.dumps({"ServerURL": "registry.test", "Username": "<token>", "Secret": f"{CANARY}-t"}).encode(),
        b"credentials not found in native keychain\n",
    ),
    opened=pure(read_helper),
    has_secrets=True,
)
TOKENS = Family(
    name="tokens",
    seeds=always(
        json.dumps(
            {
                "token": f"{CANARY}-t",
                "expires_in": 300,
                "issued_at": "1999-12-31T23:59:30Z",
                "refresh_token": f"{CANARY}-r",
            }
        ).encode(),
        json.dumps(
            {"access_token": f"{CANARY}-a", "expires_in": "3600", "issued_at": "1999-12-31T23:59:30.5+01:00"}
        ).encode(),
    ),
    opened=pure(read_token),
    has_secrets=True,
)
