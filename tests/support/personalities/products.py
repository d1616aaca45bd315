"""Registries that people run themselves. Each override names its source: sections of the protocol reference."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.support.personalities.registry import Call, Personality
from tests.support.personalities.sites import Login, TokenService, basic, refusal

if TYPE_CHECKING:
    from tests.support.personalities.internet import Internet
    from tests.support.personalities.store import Stored


class Distribution(Personality):
    """CNCF Distribution with htpasswd: no referrers API, and a single POST is thrown away."""

    title = "distribution"
    host = "registry.dist.example"
    login = Login(user="jane", password="canary-dist-password")
    has_referrers = False

    async def session_patch(self, call: Call) -> web.StreamResponse:
        """1.3: the Content-Type is empty or octet-stream; Content-Range counts only beside a Content-Length."""
        if call.request.headers.get("Content-Type", "application/octet-stream") != "application/octet-stream":
            return refusal(400, "UNSUPPORTED", "bad Content-Type")
        return await super().session_patch(call)

    def manifest_headers(self, call: Call) -> dict[str, str]:
        """1.8: an ETag on manifests."""
        found = self.repository(call.name).find(call.of)
        return {"Etag": f'"{found[0]}"'} if found else {}


class Zot(Personality):
    """zot: mounts without asking from where, takes a blob in the POST."""

    title = "zot"
    host = "zot.example"
    login = Login(user="jane", password="canary-zot-password")
    takes_single_post = True

    async def post_post(self, call: Call) -> web.StreamResponse:
        """1.4, 3.1: ``from`` alone is 405, two mounts 400, and a single POST without octet-stream 415."""
        if "from" in call.query and "mount" not in call.query:
            return refusal(405, "UNSUPPORTED")
        if len(call.query.get("mount", ())) > 1:
            return refusal(400, "UNSUPPORTED")
        kind = call.request.headers.get("Content-Type")
        if call.parameter("digest") and kind != "application/octet-stream":
            return web.Response(status=415)
        return await super().post_post(call)

    def mount(self, call: Call, digest: str, source: str) -> web.Response | None:
        """1.4: 201 from its dedupe index, whatever ``from`` says."""
        for repository in self.held.values():
            if digest in repository.blobs:
                self.repository(call.name).hold_blob(digest, repository.blobs[digest])
                return self.created(call, digest)
        return None

    def lacking(self, missing: list[str]) -> web.Response:
        """1.5: MANIFEST_INVALID."""
        return refusal(400, "MANIFEST_INVALID", "blob not found")


class _QuayTokens(TokenService):
    def grant(self, scopes: list[str]) -> list[str]:
        """1.6: no right at all when ``delete`` is among the actions."""
        return [scope for scope in scopes if "delete" not in scope.rpartition(":")[2]]


class Quay(Personality):
    """Quay: Ranges of its own, short pages, manifests judged by their blobs."""

    title = "Quay"
    host = "quay.io"
    login = Login(user="team+robot", password="canary-quay-password")
    token_host = "quay.io"
    token_path = "/v2/auth"
    storage_host = "cdn01.quay.io"
    takes_single_post = is_known_for_single_post = True
    #: 1.6: 100 at most there; 4 here.
    page_size = 4

    def make_token_service(self) -> TokenService:
        """Return one that refuses ``delete``."""
        login, path = self.login, self.token_path
        return _QuayTokens(self.internet, host=self.token_host, login=login, path=path, registry=self.host)

    def redirect_status(self) -> int:
        """2.4: 302."""
        return 302

    def opening_range(self) -> str:
        """3.1: ``bytes=0--1``."""
        return "bytes=0--1"

    async def session_get(self, call: Call) -> web.StreamResponse:
        """3.1: ``bytes=0-N``, off by one, and no Location (blob.py:297-311)."""
        session = self.session_of(call)
        if session is None:
            return self.no_session()
        return web.Response(status=204, headers={"Range": f"bytes=0-{len(session.data)}"})

    def judge_manifest(self, call: Call, stored: Stored, digest: str) -> web.Response | None:
        """3.1: manifests without layers are rejected."""
        if not stored.is_index and not stored.document.get("layers"):
            return refusal(400, "MANIFEST_INVALID", "manifest has no layers")
        return super().judge_manifest(call, stored, digest)

    def lacking(self, missing: list[str]) -> web.Response:
        """1.5: MANIFEST_INVALID, 'Unknown blob'."""
        return refusal(400, "MANIFEST_INVALID", f"Unknown blob `{missing[0]}`")

    def surcharge(self, role: str, scenario: str) -> dict[str, int]:
        """The tag list comes in pages."""
        return {"tags": 1}


class Harbor(Distribution):
    """Harbor: projects, cookies, two scopes in one value, Basic after a bad token."""

    title = "Harbor"
    host = "harbor.example"
    login = Login(user="robot$team+sync", password="canary-harbor-password")
    token_host = "harbor.example"
    token_path = "/service/token"
    has_referrers = True

    def __init__(self, internet: Internet) -> None:
        super().__init__(internet)
        self.projects = {"team", "mirror"}
        self.immutable: set[str] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """2.5 S15: every answer sets cookies, and who sends them back is asked for a CSRF token."""
        if request.raw_path.startswith("/api/v2.0/projects"):
            return await self._create_project(request)
        response = await super().answer(request)
        if not response.prepared:
            response.headers.add("Set-Cookie", "sid=canary-session; Path=/; HttpOnly")
            response.headers.add("Set-Cookie", "__csrf=canary-csrf; Path=/")
        return response

    async def _create_project(self, request: web.BaseRequest) -> web.StreamResponse:
        if basic(request.headers.get("Authorization", "")) != self.login:
            return refusal(401, "UNAUTHORIZED")
        name = json.loads(await request.content.read())["project_name"]
        if name in self.projects:
            return refusal(409, "CONFLICT", f"The project named {name} already exists")
        self.projects.add(name)
        return web.Response(status=201, headers={"Location": "/api/v2.0/projects/1"})

    def challenge(self, call: Call) -> str:
        """2.1: two scopes in one value; Basic when the request had an Authorization header (v2auth/auth.go)."""
        if call.authorization:
            return 'Basic realm="harbor"'
        action = "pull" if call.actions == ((call.name, "pull"),) else "pull,push"
        scope = f"repository:{call.name}:{action}"
        if source := call.parameter("from"):
            scope += f" repository:{source}:pull"
        return f'Bearer realm="{self.tokens.realm if self.tokens else ""}",service="harbor-registry",scope="{scope}"'

    async def post_post(self, call: Call) -> web.StreamResponse:
        """3.1: the project must exist."""
        project = call.name.partition("/")[0]
        if project not in self.projects:
            return refusal(404, "NAME_UNKNOWN", f"project {project} not found")
        return await super().post_post(call)

    def judge_manifest(self, call: Call, stored: Stored, digest: str) -> web.Response | None:
        """3.1: an immutable tag is 412 PRECONDITION."""
        held = self.repository(call.name)
        if call.of in self.immutable and call.of in held.tags:
            return refusal(412, "PRECONDITION", "Failed to process request due to immutable configured tag")
        return super().judge_manifest(call, stored, digest)

    def no_manifest(self, call: Call) -> web.Response:
        """3.1: what is not found may come as UNKNOWN (v2.10.2)."""
        return refusal(404, "UNKNOWN", f"artifact {call.name}:{call.of} not found")


class _GitLabTokens(TokenService):
    def grant(self, scopes: list[str]) -> list[str]:
        """2.1: of several scope parameters, the last overwrites (manifest-tool#53, kaniko#181)."""
        return scopes[-1:]


class GitLab(Distribution):
    """GitLab: a token service under another name that honours one scope; a late 401 at a commit."""

    title = "GitLab"
    host = "registry.gitlab.com"
    login = Login(user="deploy-token", password="canary-gitlab-password")
    token_host = "gitlab.com"
    token_path = "/jwt/auth"

    def __init__(self, internet: Internet) -> None:
        super().__init__(internet)
        self.was_late = False

    def make_token_service(self) -> TokenService:
        """Return one that grants the last scope only, for five minutes."""
        return _GitLabTokens(
            self.internet, host=self.token_host, login=self.login, path=self.token_path, registry=self.host
        )

    async def session_put(self, call: Call) -> web.StreamResponse:
        """2.1: a token that ends during a large PUT is refused at the commit (moby#33558); here once."""
        if self.was_late or self.tokens is None:
            return await super().session_put(call)
        self.was_late = True
        await call.request.content.read()
        return self.unauthorized(call)

    def surcharge(self, role: str, scenario: str) -> dict[str, int]:
        """The blob of the late 401 starts over with a new token; a mount misses its second scope and takes a PUT."""
        if role == "source" or scenario not in ("first sync", "interrupted"):
            return {}
        return {"challenge": 1, "post": 1, "session-put": 1, "session-delete": 1, "token again": 1}


class Artifactory(Personality):
    """Artifactory before 7.90: 403 for what is not there, no referrers, digests among the tags."""

    title = "Artifactory"
    host = "company.jfrog.io"
    login = Login(user="jane", password="canary-artifactory-password")
    token_host = "company.jfrog.io"
    token_path = "/artifactory/api/docker/docker/v2/token"
    has_referrers = False
    #: 3.1: none.
    mounts = False

    def no_manifest(self, call: Call) -> web.Response:
        """3.1: 403 in place of 404 (RTFACT-13797)."""
        return refusal(403, "DENIED", "The client does not have permission for manifest")

    def no_referrers(self) -> web.Response:
        """3.1: 406 before 7.90.1 (ggcr#2026)."""
        return web.Response(status=406, text="Not Acceptable")

    def tags(self, call: Call) -> list[Any]:
        """1.6: digests as tags (skopeo#2346)."""
        held = self.repository(call.name)
        return [*sorted(held.tags), *list(held.manifests)[:1]]

    def surcharge(self, role: str, scenario: str) -> dict[str, int]:
        """A list of referrers that is denied is looked for among the tags before it is taken for missing."""
        return {"tags": 1} if role == "target" and scenario in ("first sync", "interrupted") else {}


class Nexus(Personality):
    """Nexus with the Docker Bearer Token Realm: no scope in the challenge, nulls among the tags."""

    title = "Nexus"
    host = "nexus.example"
    login = Login(user="jane", password="canary-nexus-password")
    token_host = "nexus.example"
    token_path = "/v2/token"
    has_referrers = False
    mounts = False

    def challenge(self, call: Call) -> str:
        """3.1: no scope (nexus-public#659)."""
        return f'Bearer realm="{self.tokens.realm if self.tokens else ""}",service="{self.host}"'

    def tags(self, call: Call) -> list[Any]:
        """1.6: JSON nulls (Nexus 3.58, skopeo#2409)."""
        return [None, *sorted(self.repository(call.name).tags), None]

    def no_referrers(self) -> web.Response:
        """3.1: often missing; a page of the product's own."""
        return web.Response(status=404, text="<!DOCTYPE html><html><body>Nexus Repository Manager</body></html>")


class WithoutHead(Personality):
    """No product: a proxy that does not let HEAD through (3.3, rule 1)."""

    title = "no HEAD"
    host = "proxy.example"

    async def manifest_head(self, call: Call) -> web.StreamResponse:
        """3.3: 405."""
        return web.Response(status=405)

    def surcharge(self, role: str, scenario: str) -> dict[str, int]:
        """What a HEAD would tell takes a GET; the HEADs that start together find out together."""
        return {"manifest-get": 8, "manifest-head": 8}
