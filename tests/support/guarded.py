"""A registry that checks tokens as distribution does, scope by scope, and keeps nothing else."""

from __future__ import annotations

import base64
import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from tests.support import images
from tests.support.scripted import Scripted, scripted
from tests.support.token_service import SERVICE, TokenService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SAMPLE = images.image()
_PATH = re.compile(r"/v2/(?P<name>.+?)/(?:manifests|blobs|tags)/")
_ACTIONS = {"GET": ("pull",), "HEAD": ("pull",), "DELETE": ("delete",)}


@dataclass(kw_only=True)
class GuardedRegistry:
    """A registry in front of a token service.

    Attributes:
        service: whose tokens are believed; whether they have expired is not looked at.
        service_of: whose tokens are believed for a repository, where that differs.
        lenient_mounts: answer 202 to a mount whose source the token does not name, in place of a refusal.
        revoked: tokens that are not believed any more.
        status: of a refusal for want of scope.
        instead: answers a request that is let in, where it returns something.
    """

    service: TokenService
    service_of: Callable[[str], TokenService] | None = None
    lenient_mounts: bool = False
    revoked: set[str] = field(default_factory=set)
    status: int = 401
    instead: Callable[[web.BaseRequest], web.StreamResponse | None] | None = None
    server: Scripted = field(default_factory=lambda: Scripted(""))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        await request.read()
        name = match["name"] if (match := _PATH.match(request.path)) else ""
        needed = {(name, action) for action in _ACTIONS.get(request.method, ("pull", "push"))} if name else set()
        source = request.query.get("from", name)
        if source != name and not self.lenient_mounts:
            needed.add((source, "pull"))
        if (refusal := self._refusal(request, name, needed)) is not None:
            return refusal
        if self.instead is not None and (response := self.instead(request)) is not None:
            return response
        return self._answer(request, is_mounted=source != name and (source, "pull") in self._granted(request))

    def _refusal(self, request: web.BaseRequest, name: str, needed: set[tuple[str, str]]) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        service = self.service_of(name) if self.service_of else self.service
        granted = self._granted(request) if token in service.issued else set()
        if needed <= granted and token not in self.revoked:
            return None
        lacking = {name: set[str]() for name, _ in sorted(needed - granted or needed)}
        for resource, action in needed:
            if resource in lacking:
                lacking[resource].add(action)
        scope = " ".join(f"repository:{name}:{','.join(sorted(actions))}" for name, actions in lacking.items())
        is_scant = token in service.issued and token not in self.revoked
        error = ',error="insufficient_scope"' if is_scant else ',error="invalid_token"' if token else ""
        return web.Response(
            status=self.status if is_scant else 401,
            headers={"WWW-Authenticate": f'Bearer realm="{service.realm}",service="{SERVICE}",scope="{scope}"{error}'},
        )

    def _granted(self, request: web.BaseRequest) -> set[tuple[str, str]]:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token.count(".") != 2:
            return set()
        payload = token.split(".")[1]
        access = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["access"]
        return {(entry["name"], action) for entry in access for action in entry["actions"]}

    def _answer(self, request: web.BaseRequest, *, is_mounted: bool) -> web.Response:
        if request.method == "POST":
            created = is_mounted and "mount" in request.query
            return web.Response(status=201 if created else 202, headers={"Location": f"{request.path}session"})
        if request.method == "PUT":
            digest = request.query.get("digest")
            return web.Response(status=201, headers={"Docker-Content-Digest": digest} if digest else {})
        if request.method == "DELETE":
            return web.Response(status=202)
        if "/blobs/" in request.path:
            return web.Response(headers={"Docker-Content-Digest": request.path.rpartition("/")[2]})
        return web.Response(
            body=b"" if request.method == "HEAD" else SAMPLE.manifest.raw,
            content_type=SAMPLE.manifest.media_type,
            headers={"Docker-Content-Digest": SAMPLE.digest, "Content-Length": str(len(SAMPLE.manifest.raw))},
        )


@asynccontextmanager
async def guarded_registry(service: TokenService) -> AsyncIterator[GuardedRegistry]:
    """Serve a guarded registry on a free loopback port."""
    registry = GuardedRegistry(service=service)
    async with scripted(registry.handle) as server:
        registry.server = server
        yield registry
