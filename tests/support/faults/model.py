"""The registry of the fault tests: by the book, with what a test wants switched on or off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from tests.support.personalities.history import nobodys_doing
from tests.support.personalities.registry import Call, Personality
from tests.support.personalities.sites import Login, refusal

if TYPE_CHECKING:
    from tests.support.images import Sample
    from tests.support.personalities.internet import Internet
    from tests.support.personalities.store import Stored


class Model(Personality):
    """A registry under a name of its own; as many of them as a test needs."""

    title = "model"

    def __init__(
        self,
        internet: Internet,
        host: str = "registry.example",
        *,
        tokens: bool = False,
        token_lifetime: int = 300,
        storage: bool = False,
        referrers: bool = True,
        mounts: bool = True,
        single_post: bool = False,
        page_size: int | None = None,
        trusting: bool = False,
        patches_only: bool = False,
        believing: bool = False,
    ) -> None:
        """Set up an empty registry on ``internet``.

        Args:
            internet: where it is.
            host: its name there; an address of loopback for one that other processes ask.
            tokens: bearer tokens are wanted, of the service ``auth.<host>``, for ``jane`` and a password.
            token_lifetime: of each, in seconds.
            storage: downloads are redirected to ``storage.<host>``.
            referrers: there is a referrers API; without it clients keep lists under tags.
            mounts: blobs can be mounted.
            single_post: a POST with the digest commits its body.
            page_size: tags in one page; None for all.
            trusting: manifests are taken without a look at what they list (ggcr's does so).
            patches_only: a PUT with bytes is refused with 405.
            believing: blobs are stored under whatever digest they are said to have.
        """
        self.host = host
        if tokens:
            self.login = Login(user="jane", password=f"canary-password-of-{host}")
            self.token_host = f"auth.{host}"
        self.token_lifetime = token_lifetime
        self.storage_host = f"storage.{host}" if storage else ""
        self.has_referrers = referrers
        self.mounts = mounts
        self.takes_single_post = single_post
        self.page_size = page_size
        self.is_trusting = trusting
        self.takes_patches_only = patches_only
        self.is_believing = believing
        super().__init__(internet)

    def keep(self, repository: str, sample: Sample, tag: str = "") -> None:
        """Hold ``sample``: put there by somebody else, now."""
        with nobodys_doing():
            self.repository(repository).keep(sample, tag)

    def judge_manifest(self, call: Call, stored: Stored, digest: str) -> web.Response | None:
        """Look at what a manifest lists, unless nobody does."""
        return None if self.is_trusting else super().judge_manifest(call, stored, digest)

    def commit(self, call: Call, digest: str, data: bytes) -> web.Response:
        """Keep a blob that is what it is said to be, unless nobody looks."""
        if not self.is_believing:
            return super().commit(call, digest, data)
        self.repository(call.name).hold_blob(digest, data)
        return self.created(call, digest)

    async def session_put(self, call: Call) -> web.StreamResponse:
        """Take the last bytes, or none where they come by PATCH."""
        if self.takes_patches_only and int(call.request.headers.get("Content-Length") or 0):
            await call.request.content.read()
            return refusal(405, "UNSUPPORTED")
        return await super().session_put(call)

    async def manifest_delete(self, call: Call) -> web.StreamResponse:
        """Delete a manifest with the tags that stand for it, or a tag alone."""
        repository = self.repository(call.name)
        found = repository.find(call.of)
        if found is None:
            return self.no_manifest(call)
        if ":" not in call.of:
            repository.untag(call.of)
            return web.Response(status=202)
        for tag in [tag for tag, digest in repository.tags.items() if digest == call.of]:
            repository.untag(tag)
        repository.drop(call.of)
        repository.dropped.discard(call.of)
        return web.Response(status=202)
