"""What an answer to a POST or to a commit is worth: mounts, missing repositories, and servers that agree to all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.content import BlobOutcome
from syncer.errors import Denied, NotFound, ProtocolViolation, RateLimitReached
from syncer.oci import Digest
from syncer.registry import RegistrySettings
from syncer.registry.settings import CreationKind, CreationSettings, UploadForm, UploadSettings
from tests.support import images
from tests.support.scripted import connected, cut, scripted
from tests.support.uploading import Source, Target, described, methods, push, repository_of

if TYPE_CHECKING:
    from tests.support.scripted import Handler

DATA = images.random_bytes(100_000, "data")
BLOB = described(DATA)


def portal(**headers: str) -> Handler:
    """Return a log-in page that says 201 to what writes and 200 to what reads, as captive portals do."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.content.read()
        if request.method == "POST" and "digest" not in request.query and "mount" not in request.query:
            return web.Response(status=202, headers={"Location": "/login"})
        status = 200 if request.method in ("GET", "HEAD") else 201
        return web.Response(status=status, text="<html>Please log in</html>", headers=headers)

    return handle


@pytest.mark.parametrize("form", [UploadForm.SINGLE_POST, UploadForm.PUT, UploadForm.STREAM, UploadForm.CHUNKS])
async def test_a_portal_that_agrees_to_everything(form: UploadForm) -> None:
    """A blob that is said to be there, without its digest, is looked for: a page in its place is no success."""
    async with scripted(portal()) as server:
        settings = RegistrySettings(host=server.address, plain_http=True, upload=UploadSettings(form=form))
        async with connected(server.address, settings=settings) as it:
            with pytest.raises(ProtocolViolation, match="does not show it") as caught:
                await push(it, Source(DATA))
    assert "log-in page" in caught.value.hint


@pytest.mark.parametrize("status", [200, 204])
async def test_only_201_says_created(status: int) -> None:
    """200 or 204 to a commit counts with the digest, and not without."""
    target = Target(trouble={"PUT": [web.Response(status=status)]})
    async with scripted(target.handle) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="without the digest"):
            await push(it, Source(DATA))
    named = web.Response(status=status, headers={"Docker-Content-Digest": BLOB.digest})
    async with scripted(Target(trouble={"PUT": [named]}).handle) as server, connected(server.address) as it:
        assert await push(it, Source(DATA)) is BlobOutcome.STREAMED


async def test_a_registry_that_names_no_digest_is_checked_once() -> None:
    """One HEAD for the first blob; after that its 201 is believed for half an hour."""
    target = Target(names_digest=False)
    async with scripted(target.handle) as server, connected(server.address) as it:
        await push(it, Source(DATA))
        await push(it, Source(DATA[::-1]))
        assert methods(server.lines) == "POST PUT HEAD POST PUT"
        it.clock.now += 3600
        await push(it, Source(DATA[1:]))
    assert methods(server.lines) == "POST PUT HEAD POST PUT POST PUT HEAD"


async def test_an_empty_blob_proves_nothing() -> None:
    """The empty blob may be anywhere: the next one is looked for as well."""
    target = Target(names_digest=False)
    async with scripted(target.handle) as server, connected(server.address) as it:
        target.blobs.clear()
        await push(it, Source(DATA[:0] or b"1"))
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST PUT HEAD POST PUT"


async def test_a_mount_without_a_digest_is_checked_once() -> None:
    """201 to a mount is believed with the digest, or once the blob was seen."""
    target = Target(trouble={"POST": [web.Response(status=201)]}, blobs={BLOB.digest: DATA})
    async with scripted(target.handle) as server, connected(server.address) as it:
        assert await push(it, Source(DATA)) is BlobOutcome.PRESENT
    assert methods(server.lines) == "POST HEAD"
    target = Target(trouble={"POST": [web.Response(status=201)]})
    async with scripted(target.handle) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="does not show it"):
            await push(it, Source(DATA))


async def test_a_mount_of_another_blob() -> None:
    """201 with another digest is no mount, wherever its Location points."""
    other = web.Response(status=201, headers={"Docker-Content-Digest": Digest.of(b"other"), "Location": "//["})
    async with scripted(Target(trouble={"POST": [other]}).handle) as server, connected(server.address) as it:
        with pytest.raises(ProtocolViolation, match="another digest"):
            await push(it, Source(DATA), mount_from="b")


async def test_the_location_of_a_mount_is_not_looked_at() -> None:
    """A mount's Location says nothing that is needed, so it may be anything."""
    answer = web.Response(status=201, headers={"Docker-Content-Digest": BLOB.digest, "Location": "gopher://x/sha1:0"})
    async with scripted(Target(trouble={"POST": [answer]}).handle) as server, connected(server.address) as it:
        assert await push(it, Source(DATA), mount_from="b") is BlobOutcome.MOUNTED


@pytest.mark.parametrize("status", [200, 204, 202, 400, 403, 404, 500])
async def test_mounts_that_fail_in_any_way(status: int) -> None:
    """Another 2xx, a 202 without a Location, 4xx and 5xx: one plain POST follows."""
    target = Target(trouble={"POST": [web.Response(status=status)]})
    async with scripted(target.handle) as server, connected(server.address) as it:
        assert await push(it, Source(DATA), mount_from="b") is BlobOutcome.STREAMED
    assert methods(server.lines) == "POST POST PUT"
    assert "mount=" in server.lines[0]
    assert "mount=" not in server.lines[1]


async def test_a_repository_that_may_not_be_mounted_from_is_remembered() -> None:
    """403 to a mount: the same repository is not named again, another is."""
    target = Target(trouble={"POST": [web.Response(status=403)]})
    async with scripted(target.handle) as server, connected(server.address) as it:
        await push(it, Source(DATA), mount_from="b")
        await push(it, Source(DATA[1:]), mount_from="b")
        await push(it, Source(DATA[2:]), mount_from="c")
    assert methods(server.lines) == "POST POST PUT POST PUT POST PUT"
    assert [("from=" in line) for line in server.lines if line.startswith("POST")] == [True, False, False, True]


async def test_a_target_that_may_not_be_pushed_to_says_nothing_of_the_source() -> None:
    """Where the plain POST is denied as well, it was not the right to the source that was missing."""
    target = Target(blobs={BLOB.digest: DATA})

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=403) if "/v2/denied/" in request.path else await target.handle(request)

    async with scripted(handle) as server, connected(server.address) as it:
        with pytest.raises(Denied):
            await repository_of(it, "denied").begin_blob(BLOB, mount_from="b")
        assert await push(it, Source(DATA), mount_from="b") is BlobOutcome.MOUNTED
    assert methods(server.lines) == "POST POST POST"


async def test_a_missing_repository_is_created_once() -> None:
    """NAME_UNKNOWN to the POST: the hook runs, and the same POST is sent again."""
    missing = {"errors": [{"code": "NAME_UNKNOWN"}]}
    target = Target(trouble={"POST": [web.json_response(missing, status=404)]})
    async with scripted(target.handle) as server:
        settings = RegistrySettings(
            host=server.address,
            plain_http=True,
            creation=CreationSettings(kind=CreationKind.COMMAND, command=("true", "{repository}")),
        )
        async with connected(server.address, settings=settings) as it:
            await push(it, Source(DATA))
    assert methods(server.lines) == "POST POST PUT"
    assert all("mount=" in line for line in server.lines[:2])


async def test_a_missing_repository_without_a_hook() -> None:
    """Without a hook the error says that the repository is missing."""
    missing = {"errors": [{"code": "NAME_UNKNOWN"}]}
    target = Target(trouble={"POST": [web.json_response(missing, status=404) for _ in range(2)]})
    async with scripted(target.handle) as server, connected(server.address) as it:
        with pytest.raises(NotFound, match="no repository"):
            await push(it, Source(DATA))


async def test_a_mount_in_a_long_pause_is_not_asked_without_it() -> None:
    """A registry that wants to be left alone for hours is left alone."""
    busy = web.Response(status=429, headers={"Retry-After": "20000"})
    async with scripted(Target(trouble={"POST": [busy]}).handle) as server, connected(server.address) as it:
        with pytest.raises(RateLimitReached):
            await push(it, Source(DATA))
    assert methods(server.lines) == "POST"


async def test_a_cut_mount_is_one_more_post() -> None:
    """A connection that ends over the mount (ggcr#1404) is answered by a plain POST."""
    seen = 0
    target = Target()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        if seen == 1:
            cut(request)
        return await target.handle(request)

    async with scripted(handle) as server, connected(server.address) as it:
        await push(it, Source(DATA))
    assert methods(server.lines) == "POST POST PUT"
