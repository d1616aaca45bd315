"""The registries of the clouds. Each override names where the fact is from: sections of the protocol reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aiohttp import web

from tests.support.personalities.products import Distribution
from tests.support.personalities.registry import Call, Personality
from tests.support.personalities.sites import Login, TokenService, refusal

if TYPE_CHECKING:
    from tests.support.personalities.store import Session, Stored


class Ecr(Personality):
    """Amazon's registry: Basic, repositories that must exist, S3 behind, PATCH answered 201."""

    title = "ECR"
    host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    login = Login(user="AWS", password="canary-ecr-password")
    storage_host = "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com"
    #: 1.4: since 2026 an opt-in of the account; without it, 202.
    mounts = False
    #: Repositories whose tags never move.
    immutable: ClassVar[tuple[str, ...]] = ("mirror/fixed",)
    existing: ClassVar[tuple[str, ...]] = ("team/app", "team/other", "mirror/app", "mirror/other", "mirror/fixed")

    def challenge(self, call: Call) -> str:
        """3.1: Basic, with a service."""
        return f'Basic realm="{self.internet.origin(self.host)}/",service="ecr.amazonaws.com"'

    async def post_post(self, call: Call) -> web.StreamResponse:
        """3.1: 404 NAME_UNKNOWN where nobody has created the repository."""
        if call.name not in self.existing:
            return refusal(404, "NAME_UNKNOWN", f"The repository with name '{call.name}' does not exist")
        return await super().post_post(call)

    def patched(self, session: Session) -> web.Response:
        """3.1: PATCH is answered 201 (regclient blob.go:540), and the Range stays at the first chunk."""
        return self.accepted(session, 201, reach=f"0-{max(len(session.data) - 1, 0)}")

    def judge_manifest(self, call: Call, stored: Stored, digest: str) -> web.Response | None:
        """3.1: an immutable tag is refused with 400 even for the digest that it has; no mediaType, no manifest."""
        if "mediaType" not in stored.document:
            return refusal(405, "UNSUPPORTED", "Invalid parameter: 'ImageManifest' … 'Invalid JSON syntax'")
        if call.name in self.immutable and call.of in self.repository(call.name).tags:
            text = f"The image tag '{call.of}' already exists in the repository and cannot be overwritten because the"
            return refusal(400, "TAG_INVALID", f"{text} repository is immutable.")
        return super().judge_manifest(call, stored, digest)

    async def tags_get(self, call: Call) -> web.StreamResponse:
        """1.6: pages of over 1000 tags are an error."""
        if int(call.parameter("n") or 0) > 1000:
            return refusal(400, "PAGINATION_NUMBER_INVALID")
        return await super().tags_get(call)


class EcrPublic(Personality):
    """Amazon's public gallery: Bearer, and mounts that fail."""

    title = "ECR Public"
    host = "public.ecr.aws"
    login = Login(user="AWS", password="canary-ecr-public-password")
    token_host = "public.ecr.aws"
    token_path = "/token/"
    storage_host = "d5l0dvt14r5h8.cloudfront.net"
    mounts = False

    def mount(self, call: Call, digest: str, source: str) -> web.Response | None:
        """3.1: failing (containers-roadmap#1459)."""
        return refusal(405, "UNSUPPORTED", "The operation is unsupported.")

    def surcharge(self, role: str, scenario: str) -> dict[str, int]:
        """Every blob of the first wave finds out for itself that mounts fail: they start together."""
        return {"post": 16} if role == "target" else {}


class Gar(Personality):
    """Google's Artifact Registry: whole blobs only, tag lists with digests."""

    title = "GAR"
    host = "europe-west1-docker.pkg.dev"
    repositories = ("project/team/app", "project/team/other")
    login = Login(user="oauth2accesstoken", password="canary-gar-access-token")
    token_host = "europe-west1-docker.pkg.dev"
    token_path = "/v2/token"
    storage_host = "storage.googleapis.com"
    #: 3.1: conflicting reports; the one that costs more.
    mounts = False
    lists_digests = True

    def redirect_status(self) -> int:
        """2.4: 302."""
        return 302

    async def session_patch(self, call: Call) -> web.StreamResponse:
        """3.1: no chunked upload (dotnet/sdk-container-builds#287)."""
        if "Content-Range" in call.request.headers:
            self.internet.violate("a chunk was sent to a registry that is known to take none")
            return refusal(400, "BLOB_UPLOAD_INVALID")
        return await super().session_patch(call)

    def tags_document(self, call: Call) -> dict[str, Any]:
        """1.6: every manifest with its tags, all in one page."""
        repository = self.repository(call.name)
        manifests = {
            digest: {
                "imageSizeBytes": str(len(stored.raw)),
                "layerId": "",
                "mediaType": stored.media_type,
                "tag": [tag for tag, at in repository.tags.items() if at == digest],
                "timeCreatedMs": "0",
                "timeUploadedMs": "1700000000000",
            }
            for digest, stored in repository.manifests.items()
        }
        return {"child": [], "manifest": manifests}


class Gcr(Gar):
    """gcr.io, as Artifact Registry serves it: a 401 may come without a challenge."""

    title = "gcr.io"
    host = "gcr.io"
    token_host = "gcr.io"
    repositories = ("project/app", "project/other")

    def unauthorized(self, call: Call) -> web.Response:
        """2.1: 'sending 401 without a WWW-Authenticate header in the real request' (c-libs docker_client.go:718)."""
        if call.route == "ping":
            return super().unauthorized(call)
        return refusal(401, "UNAUTHORIZED")

    def surcharge(self, role: str, scenario: str) -> dict[str, int]:
        """The challenge has to be asked of /v2/, once (3.1), by a request that is answered 401 too."""
        return {"challenge": 1}


class _AcrTokens(TokenService):
    async def refuse_post(self, request: web.BaseRequest) -> web.StreamResponse:
        """2.1: POST oauth2 with a password is answered 400 (containerd authorizer.go)."""
        await request.content.read()
        return web.Response(status=400, text='{"errors":[{"code":"UNSUPPORTED","message":"grant_type is invalid"}]}')


class Acr(Personality):
    """Azure's registry: a Location with parameters to keep, Azure Storage behind."""

    title = "ACR"
    host = "company.azurecr.io"
    login = Login(user="00000000-0000-0000-0000-000000000000", password="canary-acr-password")
    token_host = "company.azurecr.io"
    token_path = "/oauth2/token"
    token_field = "access_token"
    storage_host = "weumanaged161.blob.core.windows.net"

    def make_token_service(self) -> TokenService:
        """Return one that says ``access_token`` and lets tokens live 75 minutes."""
        return _AcrTokens(
            self.internet,
            host=self.token_host,
            login=self.login,
            path=self.token_path,
            registry=self.host,
            lifetime=4500,
            field=self.token_field,
        )

    def admit(self, call: Call) -> web.Response | None:
        """3.1: 400 when a token is longer than 6089 characters (acr#797)."""
        if len(call.authorization) > 6089:
            return web.Response(status=400, text="<h2>Bad Request - Header Too Long</h2>")
        return super().admit(call)

    def location(self, session: Session) -> str:
        """3.1: ``_nouploadcache`` and ``_state`` must be kept."""
        path = f"/v2/{session.repository}/blobs/uploads/{session.name}"
        return f"{path}?_nouploadcache=false&_state=q0x%2fb+{session.turns}~%3D%3d"


class Ocir(Personality):
    """Oracle's registry: a challenge that names no scope."""

    title = "OCIR"
    host = "fra.ocir.io"
    repositories = ("tenancy/app", "tenancy/other")
    login = Login(user="tenancy/jane@example.com", password="canary-ocir:auth:token")
    token_host = "fra.ocir.io"
    token_path = "/20180419/docker/token"
    mounts = False
    has_referrers = False

    def challenge(self, call: Call) -> str:
        """2.1: no scope in the challenge (solo-io/wasm#264)."""
        return f'Bearer realm="{self.tokens.realm if self.tokens else ""}",service="{self.host}"'


class DigitalOcean(Distribution):
    """DigitalOcean's registry: distribution, with a token service under another name."""

    title = "DigitalOcean"
    host = "registry.digitalocean.com"
    login = Login(user="canary-do-token", password="canary-do-token")
    token_host = "api.digitalocean.com"
    token_path = "/v2/registry/auth"


class Cloudflare(Distribution):
    """A registry behind Cloudflare's proxy: no body over a limit (100 MB there, 4 KiB here)."""

    title = "Cloudflare"
    host = "registry.company.example"
    login = Login(user="jane", password="canary-cloudflare-password")
    LIMIT = 4096

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """3.1: 413 with a page of HTML; the registry behind does not get to see it."""
        length = int(request.headers.get("Content-Length") or 0)
        if length > self.LIMIT:
            page = "<html><head><title>413 Request Entity Too Large</title></head><body>cloudflare</body></html>"
            return web.Response(status=413, text=page, content_type="text/html", headers={"Connection": "close"})
        return await super().answer(request)

    def surcharge(self, role: str, scenario: str) -> dict[str, int]:
        """One blob is over the limit: a PUT that is refused, and the chunks in its place."""
        return {"session-put": 2, "session-patch": 6, "session-get": 1, "post": 2, "session-delete": 2}
