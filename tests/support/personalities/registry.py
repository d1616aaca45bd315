"""A registry that keeps to distribution-spec 1.1; the personalities override what theirs do otherwise.

It checks its clients as it goes: every rule of reference 6.4 that a request breaks is noted in
``internet.violations``.
"""

from __future__ import annotations

import itertools
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs

from aiohttp import web

from syncer.oci import media_types as mt
from tests.support.personalities.history import What
from tests.support.personalities.sites import Login, Storage, TokenService, basic, blob_answer, refusal
from tests.support.personalities.store import Repository, Session, Stored, sha256

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from tests.support.personalities.internet import Internet

_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = rf"(?:{_DIGEST}|[a-zA-Z0-9_][a-zA-Z0-9._-]{{0,127}})"
_ROUTES = {
    "tags": rf"/v2/(?P<name>{_NAME})/tags/list",
    "manifest": rf"/v2/(?P<name>{_NAME})/manifests/(?P<of>{_REFERENCE})",
    "post": rf"/v2/(?P<name>{_NAME})/blobs/uploads/",
    "session": rf"/v2/(?P<name>{_NAME})/blobs/uploads/(?P<of>[-0-9A-Za-z]+)",
    "blob": rf"/v2/(?P<name>{_NAME})/blobs/(?P<of>{_DIGEST})",
    "referrers": rf"/v2/(?P<name>{_NAME})/referrers/(?P<of>{_DIGEST})",
    "catalog": r"/v2/(?P<name>_catalog)",
    "ping": r"/v2/?(?P<name>)",
}
_ACCEPTED = (mt.OCI_MANIFEST, mt.OCI_INDEX, mt.DOCKER_MANIFEST, mt.DOCKER_LIST)


class Call:
    """One request to the API, taken apart."""

    def __init__(self, request: web.BaseRequest, route: str, name: str, of: str) -> None:
        self.request = request
        self.method = request.method
        self.route = route
        self.name = name
        self.of = of
        self.query = parse_qs(request.raw_path.partition("?")[2], keep_blank_values=True)
        self.authorization = request.headers.get("Authorization", "")

    def parameter(self, name: str) -> str:
        """Return the first value of a parameter; empty for none."""
        return self.query.get(name, [""])[0]

    @property
    def actions(self) -> tuple[tuple[str, str], ...]:
        """What the request needs: pairs of repository and action."""
        if self.method in ("GET", "HEAD") and self.route != "session":
            return ((self.name, "pull"),)
        needed = [(self.name, "push"), (self.name, "pull")]
        return tuple(needed)


class Personality:
    """A registry by the book. Class attributes say what kind of registry it is, methods what it answers."""

    title: ClassVar[str] = "plain"
    host: str = "registry.example.com"
    #: Two repositories of one registry that share content.
    repositories: ClassVar[tuple[str, str]] = ("team/app", "team/other")
    is_pull_only: ClassVar[bool] = False
    login: Login = Login()
    #: The name of the token service, which may be the registry itself; empty for Basic or nothing.
    token_host: str = ""
    token_path: str = "/token"
    token_field: ClassVar[str] = "token"
    #: The storage to which downloads are redirected; empty for none.
    storage_host: str = ""
    has_referrers: bool = True
    mounts: bool = True
    takes_single_post: bool = False
    #: By its name; then a small blob costs one request.
    is_known_for_single_post: ClassVar[bool] = False
    #: Everything is redirected, to where a challenge of its own waits.
    redirects_all: ClassVar[bool] = False
    #: The tag list gives digests too, and nothing needs asking tag by tag.
    lists_digests: ClassVar[bool] = False
    #: Tags in one page; None for all.
    page_size: int | None = None
    #: Seconds for which a token is good.
    token_lifetime: int = 300

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        self.held: dict[str, Repository] = {}
        self.sessions: dict[str, Session] = {}
        self._numbers = itertools.count(1)
        self.tokens: TokenService | None = None
        self.storage: Storage | None = None
        internet.sites[self.host] = self
        if self.token_host:
            self.tokens = self.make_token_service()
            if self.token_host != self.host:
                internet.sites[self.token_host] = self.tokens
        if self.storage_host:
            self.storage = Storage(internet, host=self.storage_host)
            internet.sites[self.storage_host] = self.storage
        if self.login.password:
            internet.keep_secret(self.login.password, self.token_host or self.host)

    # ------------------------------------------------------------------ what the tests ask

    @property
    def address(self) -> str:
        """``host:port``, as the spec names it."""
        return f"{self.host}:{self.internet.port}"

    def kind_of(self, path: str) -> str:
        """Tell requests for tokens from those to the API, where both are under one name."""
        return "token" if self.token_host == self.host and path == self.token_path else "registry"

    @property
    def sites(self) -> tuple[str, ...]:
        """Every name that requests to this registry may lead to."""
        return tuple({self.host, self.token_host, self.storage_host} - {""})

    def repository(self, name: str) -> Repository:
        """Return the repository, made if need be."""
        known = self.held.get(name)
        if known is None:
            known = self.held[name] = Repository(journal=partial(self._changed, name))
        return known

    def _changed(
        self, repository: str, what: What, name: str, *, content: str = "", before: str = "", links: Iterable[str] = ()
    ) -> None:
        self.internet.history.change(
            what, site=self.host, repository=repository, name=name, content=content, before=before, links=links
        )

    def surcharge(self, role: str, scenario: str) -> Counter[str] | dict[str, int]:
        """Return the requests beyond the budget of reference 5.5 that this registry costs, and why in its docstring."""
        return {}

    # ------------------------------------------------------------------ admission

    def make_token_service(self) -> TokenService:
        """Return the token service."""
        return TokenService(
            self.internet,
            host=self.token_host,
            login=self.login,
            path=self.token_path,
            registry=self.host,
            lifetime=self.token_lifetime,
            field=self.token_field,
        )

    def challenge(self, call: Call) -> str:
        """Return the WWW-Authenticate header of a 401."""
        if self.tokens is None:
            return 'Basic realm="registry"'
        action = "pull" if call.actions == ((call.name, "pull"),) else "pull,push"
        scope = f',scope="repository:{call.name}:{action}"' if call.name and call.route != "catalog" else ""
        return f'Bearer realm="{self.tokens.realm}",service="{self.host}"{scope}'

    def unauthorized(self, call: Call) -> web.Response:
        """Refuse for want of credentials."""
        return refusal(401, "UNAUTHORIZED", **{"WWW-Authenticate": self.challenge(call)})

    def admit(self, call: Call) -> web.Response | None:
        """Return the refusal of a request that carries too little; None lets it in."""
        if self.tokens is not None:
            needed = call.actions if call.name and call.route != "catalog" else ()
            if self.tokens.knows(call.authorization) and all(
                self.tokens.allows(call.authorization, *pair) for pair in needed
            ):
                return None
            return self.unauthorized(call)
        if self.login.password and basic(call.authorization) != self.login:
            return self.unauthorized(call)
        return None

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Find out what is asked, and answer."""
        path = request.raw_path.partition("?")[0]
        if self.tokens is not None and self.token_host == self.host and path == self.token_path:
            return await self.tokens.answer(request)
        for route, pattern in _ROUTES.items():
            if found := re.fullmatch(pattern, path):
                call = Call(request, route, found["name"] or "", found.groupdict().get("of") or "")
                break
        else:
            self.internet.violate(f"a path that no registry has: {request.raw_path}")
            return refusal(404, "UNSUPPORTED")
        refused = self.admit(call)
        if refused is not None:
            return refused
        return await getattr(self, f"{call.route}_{call.method.lower()}", self.not_offered)(call)

    async def not_offered(self, call: Call) -> web.StreamResponse:
        """Refuse a method that a path does not have."""
        return refusal(405, "UNSUPPORTED")

    async def ping_get(self, call: Call) -> web.StreamResponse:
        """Say that this is a registry."""
        return web.Response(body=b"{}", content_type="application/json")

    # ------------------------------------------------------------------ manifests

    async def manifest_head(self, call: Call) -> web.StreamResponse:
        """Answer as a GET, without the body."""
        return await self.manifest_get(call)

    async def manifest_get(self, call: Call) -> web.StreamResponse:
        """Give a manifest to who accepts every kind of it."""
        accepted = ",".join(call.request.headers.getall("Accept", []))
        if not all(kind in accepted for kind in _ACCEPTED):
            self.internet.violate(f"{call.method} of a manifest without the full Accept list: {accepted}")
        found = self.repository(call.name).find(call.of)
        if found is None:
            return self.no_manifest(call)
        digest, stored = found
        headers = {"Content-Type": stored.media_type, "Docker-Content-Digest": digest, **self.manifest_headers(call)}
        if call.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(stored.raw))})
        return web.Response(body=stored.raw, headers=headers)

    def no_manifest(self, call: Call) -> web.Response:
        """Say that there is no such manifest."""
        return refusal(404, "MANIFEST_UNKNOWN")

    def manifest_headers(self, call: Call) -> dict[str, str]:
        """Return what else goes with a manifest."""
        return {}

    async def manifest_put(self, call: Call) -> web.StreamResponse:
        """Take a manifest whose links are here; a tag never gets something incomplete (I1)."""
        raw = await call.request.content.read()
        digest = sha256(raw)
        try:
            stored = Stored.of(raw, call.request.headers.get("Content-Type", ""))
        except ValueError:
            return refusal(400, "MANIFEST_INVALID")
        if stored.document.get("mediaType", stored.media_type) != stored.media_type:
            self.internet.violate(f"a manifest was put as {stored.media_type} and says otherwise")
        if ":" in call.of and call.of != digest:
            self.internet.violate(f"a manifest was put as {call.of} and is {digest}")
            return refusal(400, "DIGEST_INVALID")
        repository = self.repository(call.name)
        refused = self.judge_manifest(call, stored, digest)
        if refused is not None:
            return refused
        repository.hold_manifest(digest, stored)
        if ":" not in call.of:
            repository.point(call.of, digest)
            if hole := repository.hole(digest):
                self.internet.violate(f"I1: {call.name}:{call.of} was pushed without {hole}")
        headers = {"Location": f"/v2/{call.name}/manifests/{digest}", "Docker-Content-Digest": digest}
        if self.has_referrers and "subject" in stored.document:
            headers["OCI-Subject"] = stored.document["subject"]["digest"]
        return web.Response(status=201, headers=headers)

    def judge_manifest(self, call: Call, stored: Stored, digest: str) -> web.Response | None:
        """Return why a manifest is not taken; None when it is."""
        repository = self.repository(call.name)
        if missing := repository.lacks(stored):
            if unexcused := [digest for digest in missing if digest not in repository.dropped]:
                self.internet.violate(f"a manifest was put to {call.name} before {unexcused}")
            return self.lacking(missing)
        return None

    def lacking(self, missing: list[str]) -> web.Response:
        """Name all that is missing, as distribution does."""
        errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "", "detail": {"digest": one}} for one in missing]
        return web.Response(status=400, body=json.dumps({"errors": errors}).encode(), content_type="application/json")

    # ------------------------------------------------------------------ blobs

    async def blob_head(self, call: Call) -> web.StreamResponse:
        """Tell whether a blob is here."""
        data = self.repository(call.name).blobs.get(call.of)
        if data is None:
            return refusal(404, "BLOB_UNKNOWN")
        return web.Response(headers={"Content-Length": str(len(data)), "Docker-Content-Digest": call.of})

    async def blob_get(self, call: Call) -> web.StreamResponse:
        """Give a blob, or say where it is."""
        data = self.repository(call.name).blobs.get(call.of)
        if data is None:
            return refusal(404, "BLOB_UNKNOWN")
        if self.storage is not None:
            return web.Response(status=self.redirect_status(), headers={"Location": self.storage.sign(call.of, data)})
        return await blob_answer(call.request, self.internet, data, **{"Docker-Content-Digest": call.of})

    def redirect_status(self) -> int:
        """Return the status of a redirect to the storage."""
        return 307

    # ------------------------------------------------------------------ uploads

    async def post_post(self, call: Call) -> web.StreamResponse:
        """Mount a blob, take one that comes along, or open an upload."""
        if call.request.headers.get("Content-Length") is None:
            self.internet.violate(f"POST without a Content-Length: {call.request.raw_path}")
        if call.parameter("mount"):
            refused = self.mount(call, call.parameter("mount"), call.parameter("from"))
            if refused is not None:
                return refused
        elif digest := call.parameter("digest"):
            data = await call.request.content.read()
            await self.internet.reach("commit")
            if self.takes_single_post:
                return self.commit(call, digest, data)
        return self.begin(call)

    def begin(self, call: Call) -> web.Response:
        """Open an upload."""
        session = Session(name=f"upload-{next(self._numbers)}", repository=call.name)
        self.sessions[session.name] = session
        self._changed(call.name, What.SESSION_OPENED, session.name)
        return self.accepted(session, reach=self.opening_range())

    def opening_range(self) -> str:
        """Return the Range of the answer that opens an upload."""
        return "0-0"

    def location(self, session: Session) -> str:
        """Return where an upload goes on; what is in the query has to come back as it is."""
        return f"/v2/{session.repository}/blobs/uploads/{session.name}?_state=aB%2bc%3d%3D//~:{session.turns}"

    def accepted(self, session: Session, status: int = 202, *, reach: str = "") -> web.Response:
        """Answer with where the upload goes on, which is another place each time."""
        session.turns += 1
        session.location = self.location(session)
        return web.Response(
            status=status, headers={"Location": session.location, **({"Range": reach} if reach else {})}
        )

    def mount(self, call: Call, digest: str, source: str) -> web.Response | None:
        """Mount when both parameters and the right to read are there; None opens an upload instead."""
        if not self.mounts or not source or not self.may_read(call, source):
            return None
        data = self.repository(source).blobs.get(digest)
        if data is None:
            return None
        self.repository(call.name).hold_blob(digest, data)
        return self.created(call, digest)

    def may_read(self, call: Call, source: str) -> bool:
        """Tell whether the request allows to mount from ``source``."""
        return self.tokens is None or self.tokens.allows(call.authorization, source, "pull")

    def created(self, call: Call, digest: str) -> web.Response:
        """Say that a blob is here now."""
        location = f"/v2/{call.name}/blobs/{digest}"
        return web.Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})

    def session_of(self, call: Call) -> Session | None:
        """Return the upload that a request goes on with; it has to use the last Location, byte for byte."""
        session = self.sessions.get(call.of)
        if session is None or session.repository != call.name:
            return None
        came = call.request.raw_path
        last = session.location[session.location.index("/v2/") :]
        if call.method == "PUT":
            came, _, digest = came.rpartition("digest=")
            came = came[:-1]
            if not re.fullmatch(r"sha256(:|%3A)[0-9a-f]{64}", digest):
                self.internet.violate(f"a commit whose digest is {digest!r}")
        if came != last and call.method in ("PUT", "PATCH"):
            self.internet.violate(f"an upload went on at {came!r}, and the last Location was {last!r}")
            return None
        return session

    def no_session(self) -> web.Response:
        """Say that there is no such upload."""
        return refusal(404, "BLOB_UPLOAD_UNKNOWN")

    async def session_patch(self, call: Call) -> web.StreamResponse:
        """Take some bytes, in order."""
        session = self.session_of(call)
        if session is None:
            return self.no_session()
        wanted = call.request.headers.get("Content-Range")
        if wanted is not None and not re.fullmatch(rf"{len(session.data)}-\d+", wanted):
            return self.accepted(session, 416, reach=f"0-{len(session.data) - 1}")
        async for chunk in call.request.content.iter_any():
            session.data += chunk
        return self.patched(session)

    def patched(self, session: Session) -> web.Response:
        """Say how far an upload has come."""
        return self.accepted(session, reach=f"0-{max(len(session.data) - 1, 0)}")

    async def session_put(self, call: Call) -> web.StreamResponse:
        """Take the last bytes, which may be all, and commit."""
        session = self.session_of(call)
        if session is None:
            return self.no_session()
        data = bytes(session.data) + await call.request.content.read()
        await self.internet.reach("commit")
        self.end_session(session.name, What.SESSION_COMMITTED)
        return self.commit(call, call.parameter("digest"), data)

    def commit(self, call: Call, digest: str, data: bytes) -> web.Response:
        """Keep a blob that is what it is said to be (I5)."""
        if sha256(data) != digest:
            return refusal(400, "DIGEST_INVALID")
        self.repository(call.name).hold_blob(digest, data)
        return self.created(call, digest)

    def end_session(self, name: str, what: What) -> bool:
        """Forget an upload; False when there is none."""
        session = self.sessions.pop(name, None)
        if session is not None:
            self._changed(session.repository, what, name)
        return session is not None

    async def session_get(self, call: Call) -> web.StreamResponse:
        """Say how far an upload has come."""
        session = self.session_of(call)
        if session is None:
            return self.no_session()
        return self.accepted(session, 204, reach=f"0-{max(len(session.data) - 1, 0)}")

    async def session_delete(self, call: Call) -> web.StreamResponse:
        """Give an upload up."""
        if not self.end_session(call.of, What.SESSION_DELETED):
            return self.no_session()
        return web.Response(status=204)

    # ------------------------------------------------------------------ lists

    def tags(self, call: Call) -> list[Any]:
        """Return what the tag list holds."""
        return sorted(self.repository(call.name).tags)

    async def tags_get(self, call: Call) -> web.StreamResponse:
        """List the tags."""
        if not self.repository(call.name).manifests:
            return self.no_repository(call)
        tags = self.tags(call)
        headers = {}
        if self.page_size is not None:
            start = int(call.parameter("next_page") or 0)
            if start + self.page_size < len(tags):
                link = f"/v2/{call.name}/tags/list?n={self.page_size}&next_page={start + self.page_size}"
                headers["Link"] = f'<{link}>; rel="next"'
            tags = tags[start : start + self.page_size]
        document = {"name": call.name, "tags": tags, **self.tags_document(call)}
        return web.Response(body=json.dumps(document).encode(), content_type="application/json", headers=headers)

    def tags_document(self, call: Call) -> dict[str, Any]:
        """Return what else a tag list says."""
        return {}

    def no_repository(self, call: Call) -> web.Response:
        """Say that there is no such repository."""
        return refusal(404, "NAME_UNKNOWN")

    async def referrers_get(self, call: Call) -> web.StreamResponse:
        """List what refers to a manifest."""
        if not self.has_referrers:
            return self.no_referrers()
        entries = self.repository(call.name).referrers(call.of)
        body = json.dumps({"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": entries}).encode()
        return web.Response(body=body, headers={"Content-Type": mt.OCI_INDEX})

    def no_referrers(self) -> web.Response:
        """Answer as registries do that know no referrers API."""
        return web.Response(status=404, text="404 page not found\n")

    async def catalog_get(self, call: Call) -> web.StreamResponse:
        """List the repositories."""
        body = json.dumps({"repositories": sorted(self.held)}).encode()
        return web.Response(body=body, content_type="application/json")
