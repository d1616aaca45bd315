"""A Bearer token service for tests (distribution, docs/spec/auth/token and oauth): signed tokens that expire.

Its tokens are JWTs signed with ES256 under a certificate of its own, so that Debian's docker-registry
accepts them (``auth: token``, with :meth:`TokenService.write_bundle` as its ``rootcertbundle``). What it
refuses, grants less of or answers instead is up to the test; what it was asked is kept.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from tests.support.scripted import scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from tests.support.scripted import Scripted

    Answer = Callable[["Asked"], web.Response | None]

SERVICE = "witness"
ISSUER = "syncer-tests"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request to the service, and how it was answered."""

    method: str
    scopes: tuple[str, ...]
    user: str
    #: The refresh token or password of a POST, or the password of Basic.
    secret: str = field(repr=False)
    #: By the clock of the service.
    at: float
    status: int = 200


@dataclass(kw_only=True)
class TokenService:
    """A running token service.

    Attributes:
        lifetime: seconds that its tokens live.
        users: passwords by user; empty to let everybody in.
        granted: the actions that are granted of those asked for, by repository; others get all.
        answer: answers in its place where it returns something.
        extra: what else is in each answer; None takes a member out.
        takes: the methods that it knows; others are 405.
        most_scopes: over so many in one request is 400.
        clock: seconds since the epoch; tokens are issued by it.
    """

    lifetime: float = 300
    users: Mapping[str, str] = field(default_factory=dict)
    granted: dict[str, set[str]] = field(default_factory=dict)
    answer: Answer | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    takes: frozenset[str] = frozenset({"GET", "POST"})
    most_scopes: int = 100
    clock: Callable[[], float] = time.time
    asked: list[Asked] = field(default_factory=list)
    issued: set[str] = field(default_factory=set, repr=False)
    server: Scripted | None = None
    _signer: Signer | None = None

    @property
    def realm(self) -> str:
        """The URL that challenges name."""
        assert self.server is not None
        return f"{self.server.url}/token"

    @property
    def by_scopes(self) -> Counter[tuple[str, ...]]:
        """How often each set of scopes was asked for."""
        return Counter(asked.scopes for asked in self.asked)

    def write_bundle(self, path: Path) -> Path:
        """Write the certificate that the tokens are signed under, for a registry to believe them."""
        path.write_text(self.signer.certificate_pem)
        return path

    @property
    def signer(self) -> Signer:
        """The key; made when it is first needed."""
        self._signer = self._signer or Signer()
        return self._signer

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request for a token."""
        asked = await self._read(request)
        response = (self.answer(asked) if self.answer else None) or self._answer(asked)
        self.asked.append(Asked(**{**vars(asked), "status": response.status}))
        return response

    async def _read(self, request: web.BaseRequest) -> Asked:
        fields = parse_qs(urlsplit(request.raw_path).query)
        user, secret = "", ""
        if request.method == "POST":
            fields = parse_qs((await request.read()).decode())
            user = fields.get("username", [""])[0]
            secret = (fields.get("password") or fields.get("refresh_token") or [""])[0]
        header = request.headers.get("Authorization", "")
        if header.startswith("Basic "):
            user, _, secret = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        scopes = tuple(scope for value in fields.get("scope", []) for scope in value.split())
        return Asked(method=request.method, scopes=scopes, user=user, secret=secret, at=self.clock())

    def _answer(self, asked: Asked) -> web.Response:
        if asked.method not in self.takes:
            return web.Response(status=405)
        if self.users and self.users.get(asked.user) != asked.secret:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        if len(asked.scopes) > self.most_scopes:
            return web.json_response({"error": "invalid_scope"}, status=400)
        token = self.token(asked.scopes, asked.user)
        document = {"token": token, "expires_in": self.lifetime, **self.extra}
        return web.json_response({name: value for name, value in document.items() if value is not None})

    def token(self, scopes: tuple[str, ...], user: str = "") -> str:
        """Sign a token for what is granted of ``scopes``."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = self.granted.get(name)
            given = [action for action in actions.split(",") if allowed is None or action in allowed]
            access.append({"type": kind, "name": name, "actions": given})
        now = int(self.clock())
        token = self.signer.sign(
            {
                "iss": ISSUER,
                "sub": user,
                "aud": SERVICE,
                "exp": now + max(1, int(self.lifetime)),
                "nbf": now - 10,
                "iat": now,
                "jti": str(len(self.asked)),
                "access": access,
            }
        )
        self.issued.add(token)
        return token


class Signer:
    """An EC key with a certificate that it signed itself."""

    def __init__(self) -> None:
        # cryptography is heavy, and few tests need it.
        from datetime import UTC, datetime, timedelta  # noqa: PLC0415 - goes with the next

        from cryptography import x509  # noqa: PLC0415 - see above
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - see above
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - see above

        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self._chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return ``claims`` as a JWT (RFC 7519) with the certificate in its header."""
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - see above
        from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415 - see above

        head = _part(json.dumps({"typ": "JWT", "alg": "ES256", "x5c": self._chain}).encode())
        body = _part(json.dumps(claims).encode())
        signature = self._key.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(signature)
        return f"{head}.{body}.{_part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@asynccontextmanager
async def token_service(**options: Any) -> AsyncIterator[TokenService]:
    """Serve tokens on a free loopback port."""
    service = TokenService(**options)
    async with scripted(service.handle) as server:
        service.server = server
        yield service


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
