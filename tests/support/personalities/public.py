"""Public registries. Each override names where the fact is from: sections of the protocol reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from tests.support.personalities.clouds import Gar
from tests.support.personalities.products import Distribution
from tests.support.personalities.registry import Call, Personality
from tests.support.personalities.sites import Login, TokenService, refusal

if TYPE_CHECKING:
    from tests.support.personalities.internet import Internet
    from tests.support.personalities.store import Repository, Session


class DockerHub(Distribution):
    """The Docker Hub: pulls are counted by GETs of manifests, downloads come from elsewhere."""

    title = "Docker Hub"
    host = "registry-1.docker.io"
    repositories = ("library/app", "library/other")
    login = Login(user="jane", password="canary-hub-password")
    token_host = "auth.docker.io"
    storage_host = "production.cloudflare.docker.com"

    def __init__(self, internet: Internet) -> None:
        super().__init__(internet)
        self.pulls = 0
        self.quota = 200

    def challenge(self, call: Call) -> str:
        """3.1: the service is not the host."""
        return super().challenge(call).replace(f'service="{self.host}"', 'service="registry.docker.io"')

    async def manifest_get(self, call: Call) -> web.StreamResponse:
        """3.1: a GET of a manifest is a pull, and 429 beyond the quota; a HEAD counts for nothing."""
        self.pulls += call.method == "GET"
        if call.method == "GET" and self.pulls > self.quota:
            return refusal(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
        return await super().manifest_get(call)

    def manifest_headers(self, call: Call) -> dict[str, str]:
        """3.1: the quota on GET and HEAD."""
        return {
            **super().manifest_headers(call),
            "ratelimit-limit": f"{self.quota};w=21600",
            "ratelimit-remaining": f"{max(self.quota - self.pulls, 0)};w=21600",
            "docker-ratelimit-source": "192.0.2.7",
        }

    async def catalog_get(self, call: Call) -> web.StreamResponse:
        """3.1: disabled."""
        return self.unauthorized(call)


class Ghcr(Personality):
    """GitHub's registry: one PUT for a blob, no referrers API."""

    title = "GHCR"
    host = "ghcr.io"
    login = Login(user="jane", password="canary-ghcr-pat")
    token_host = "ghcr.io"
    storage_host = "pkg-containers.githubusercontent.com"
    has_referrers = False

    async def session_patch(self, call: Call) -> web.StreamResponse:
        """3.1: several PATCHes corrupt the blob, and a large chunk is 416."""
        session = self.sessions.get(call.of)
        if "Content-Range" in call.request.headers or (session is not None and session.data):
            self.internet.violate("a chunk was sent to a registry that corrupts chunks")
            return web.Response(status=416)
        return await super().session_patch(call)

    async def catalog_get(self, call: Call) -> web.StreamResponse:
        """3.1: there is none."""
        return refusal(404, "UNSUPPORTED")


class Kubernetes(Personality):
    """registry.k8s.io: sends everybody on, to Artifact Registry for manifests and to S3 for blobs."""

    title = "registry.k8s.io"
    host = "registry.k8s.io"
    repositories = ("team/app", "team/other")
    storage_host = "prod-registry-k8s-io-eu-central-1.s3.dualstack.eu-central-1.amazonaws.com"
    is_pull_only = True
    lists_digests = True
    redirects_all = True
    _PREFIX = "k8s-artifacts-prod/images/"

    def __init__(self, internet: Internet) -> None:
        super().__init__(internet)
        self.backend = _Backend(internet)

    @property
    def sites(self) -> tuple[str, ...]:
        """The front, the backend with its tokens, and the storage."""
        return (*super().sites, self.backend.host)

    def repository(self, name: str) -> Repository:
        """What is here is in the backend."""
        return self.backend.repository(f"{self._PREFIX}{name}")

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """2.4: 307 for everything that is read."""
        path, _, query = request.raw_path.partition("?")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="Only GET and HEAD are allowed.")
        if path.rstrip("/") == "/v2":
            return web.Response()
        if "/blobs/" in path:
            return await super().answer(request)
        if path == "/v2/_catalog":
            return web.Response(status=404)
        where = f"{self.internet.origin(self.backend.host)}/v2/{self._PREFIX}{path.removeprefix('/v2/')}"
        return web.Response(status=307, headers={"Location": f"{where}?{query}" if query else where})

    def surcharge(self, role: str, scenario: str) -> dict[str, int]:
        """The two requests that meet the backend's challenge were redirected there, and are again with a token."""
        return {"hop": 2}


class _Backend(Gar):
    """A regional backend: gives tokens to everybody, and takes no other registry's."""

    title = "the backend of registry.k8s.io"
    host = "europe-west3-docker.pkg.dev"
    token_host = "europe-west3-docker.pkg.dev"
    login = Login()
    storage_host = ""


class _ChainguardTokens(TokenService):
    def grant(self, scopes: list[str]) -> list[str]:
        """Everybody may pull, nobody push."""
        return [f"{scope.rpartition(':')[0]}:pull" for scope in scopes]


class Chainguard(Personality):
    """cgr.dev: a token for another repository is refused for good."""

    title = "cgr.dev"
    host = "cgr.dev"
    token_host = "cgr.dev"
    is_pull_only = True
    storage_host = "9236a389bd48b984df91adc1bc924620.r2.cloudflarestorage.com"

    def make_token_service(self) -> TokenService:
        """Return one that grants pulls only."""
        login, path = self.login, self.token_path
        return _ChainguardTokens(self.internet, host=self.token_host, login=login, path=path, registry=self.host)

    def admit(self, call: Call) -> web.Response | None:
        """3.1: 403 with a token of another scope."""
        refused = super().admit(call)
        if refused is not None and self.tokens is not None and self.tokens.knows(call.authorization):
            if call.method in ("GET", "HEAD"):
                self.internet.violate(f"a token of another scope was sent for {call.name}")
            return refusal(403, "DENIED")
        return refused

    def begin(self, call: Call) -> web.Response:
        """Nothing is pushed here."""
        return refusal(403, "DENIED")

    def location(self, session: Session) -> str:
        """There is none."""
        raise NotImplementedError
