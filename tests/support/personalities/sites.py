"""What stands beside a registry: the service that gives tokens, and the storage that holds the bytes."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from aiohttp import web

if TYPE_CHECKING:
    from tests.support.personalities.internet import Internet


@dataclass(frozen=True, kw_only=True)
class Login:
    """A user name and a password; both empty for nobody."""

    user: str = ""
    password: str = ""


def basic(authorization: str) -> Login | None:
    """Return what a Basic Authorization header says."""
    scheme, _, value = authorization.partition(" ")
    if scheme != "Basic":
        return None
    try:
        user, _, password = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Login(user=user, password=password)


def refusal(status: int, code: str, message: str = "", **headers: str) -> web.Response:
    """Return an error as the specification writes it."""
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower(), "detail": None}]}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


async def blob_answer(request: web.BaseRequest, internet: Internet, data: bytes, **headers: str) -> web.StreamResponse:
    """Answer a GET or HEAD of a blob, in whole or from an offset on."""
    if request.headers.get("Accept-Encoding") != "identity":
        internet.violate(f"a blob was asked for in any encoding: {request.raw_path}")
    status, start = 200, 0
    if wanted := re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")):
        start = int(wanted[1])
        if start >= len(data):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    part = data[start:]
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(part)), **headers}
    if internet.trap is None or request.method == "HEAD":
        return web.Response(status=status, body=b"" if request.method == "HEAD" else part, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    await response.write(part[: len(part) // 2])
    await internet.reach("blob")
    await response.write(part[len(part) // 2 :])
    return response


class TokenService:
    """Gives bearer tokens by distribution's token specification: GET, with Basic for those who have a password."""

    def __init__(
        self,
        internet: Internet,
        *,
        host: str,
        login: Login,
        path: str = "/token",
        registry: str,
        lifetime: int = 300,
        field: str = "token",
    ) -> None:
        self.internet = internet
        self.host = host
        self.path = path
        self.registry = registry
        self.login = login
        self.lifetime = lifetime
        self.field = field
        #: The scope sets that were asked for, each time.
        self.asked: list[frozenset[str]] = []
        #: What each token allows, and until when.
        self._granted: dict[str, tuple[frozenset[tuple[str, str]], float]] = {}
        self._numbers = itertools.count(1)

    def kind_of(self, path: str) -> str:
        """Everything here is about tokens."""
        return "token"

    @property
    def realm(self) -> str:
        """The URL that a challenge names."""
        return f"{self.internet.origin(self.host)}{self.path}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a GET with a token; everything else is not offered."""
        path, _, query = request.raw_path.partition("?")
        if path != self.path:
            return refusal(404, "UNKNOWN")
        if request.method != "GET":
            return await self.refuse_post(request)
        shown = request.headers.get("Authorization", "")
        if (basic(shown) or Login()) != self.login:
            return refusal(401, "UNAUTHORIZED", "incorrect username or password")
        scopes = parse_qs(query).get("scope", [])
        self.asked.append(frozenset(scopes))
        return self._give(self.grant(scopes))

    async def refuse_post(self, request: web.BaseRequest) -> web.StreamResponse:
        """Refuse the OAuth form, as most do for passwords (reference 2.1: 404 at GCR)."""
        await request.content.read()
        return refusal(404, "UNSUPPORTED")

    def grant(self, scopes: list[str]) -> list[str]:
        """Return the scopes that the token is good for."""
        return scopes

    def allows(self, authorization: str, repository: str, action: str) -> bool:
        """Tell whether what a request carries allows ``action``."""
        granted, until = self._granted.get(authorization.removeprefix("Bearer "), (frozenset(), 0.0))
        is_good = self.internet.history.clock() < until
        return is_good and ((repository, action) in granted or (repository, "*") in granted)

    def knows(self, authorization: str) -> bool:
        """Tell whether the token is one of ours."""
        return authorization.removeprefix("Bearer ") in self._granted

    def revoke(self) -> None:
        """Take back every token that was given."""
        self._granted.clear()

    def _give(self, scopes: list[str]) -> web.Response:
        granted: set[tuple[str, str]] = set()
        for scope in " ".join(scopes).split():
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            if kind == "repository":
                granted.update((name, action) for action in actions.split(","))
        token = f"canary-token-{next(self._numbers)}-of-{self.host}"
        self._granted[token] = frozenset(granted), self.internet.history.clock() + self.lifetime
        self.internet.keep_secret(token, self.registry)
        body = {self.field: token, "expires_in": self.lifetime}
        return web.Response(body=json.dumps(body).encode(), content_type="application/json")


class Storage:
    """Holds bytes behind signed URLs that must come back byte for byte, and wants no Authorization beside them."""

    #: Percent-encodings of both cases, doubled slashes, pluses and a colon: what careless clients rewrite.
    _SIGNATURE = "X-Amz-Expires=900&response=a+b%20c%2F~:@%2b&X-Amz-Signature="

    def __init__(self, internet: Internet, *, host: str) -> None:
        self.internet = internet
        self.host = host
        #: Whoever has it can read: it is a secret as a password is, for as long as it holds.
        self._signed = f"canary%2fsignature%2Dof-{host}%3d"
        internet.keep_secret(self._signed, host)
        self._held: dict[str, bytes] = {}

    def kind_of(self, path: str) -> str:
        """Everything here is bytes."""
        return "storage"

    def sign(self, digest: str, data: bytes) -> str:
        """Return the URL under which ``data`` is now to be had."""
        path = f"/bucket//docker/registry/v2/blobs/{digest.replace(':', '%3A')}/data?{self._SIGNATURE}{self._signed}"
        self._held[path] = data
        return f"{self.internet.origin(self.host)}{path}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Give the bytes to those who use the URL as it is (oras-java#334, Azure/acr#217: no second credential)."""
        if "Authorization" in request.headers:
            self.internet.violate(f"Authorization was sent to the storage {self.host}")
            return web.Response(status=400, text="<Error><Code>InvalidArgument</Code>Only one auth mechanism allowed")
        data = self._held.get(request.raw_path)
        if data is None:
            self.internet.violate(f"a signed URL came back changed: {request.raw_path}")
            return web.Response(status=403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")
        return await blob_answer(request, self.internet, data)
