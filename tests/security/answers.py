"""Attacks with answers: without end, compressed, too friendly, with cookies, or made to break out of a header."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from syncer.errors import MalformedManifest, ProtocolViolation, Side, SizeExceedsLimit, SyncerError, Unauthorized
from syncer.events import RequestKind
from syncer.oci import manifest
from syncer.registry import manifests
from syncer.registry.auth import token_service
from syncer.registry.call import Call
from syncer.registry.credentials.values import Basic
from syncer.registry.network.transport import HttpResponse, Transport
from syncer.registry.upload import forms, proof
from syncer.registry.upload.calls import UploadCalls
from syncer.registry.upload.opening import open_session
from tests.security.stage import Heard, Outcome, Row, Warehouse, reply, rewritten, said, sync, wire
from tests.support import images
from tests.support.scripted import connected
from tests.support.transfer import push_blob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    import pytest

    from syncer.registry import RegistryRepository
    from tests.security.stage import Answer

DATA = images.random_bytes(2000, "answers")
BLOB = images.blob(DATA)
SAMPLE = images.image(seed="answers")
MIB = 1024 * 1024


# ---------------------------------------------------------------------------------- S4: answers without end


async def flooded(
    act: Callable[[RegistryRepository], Awaitable[object]], answer: Callable[[Heard], Answer | None], *, mib: int = 64
) -> Outcome:
    """Answer with ``mib`` mebibytes where ``answer`` has none; the loot is that they were all taken."""
    block = b" " * MIB
    status = 200

    def flood() -> Iterator[bytes]:
        yield f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n".encode()
        for _ in range(mib):
            yield block

    def respond(heard: Heard) -> Answer:
        nonlocal status
        status = 500 if heard.method == "DELETE" else 200
        given = answer(heard)
        return flood() if given is None else given

    async with wire(respond) as server, connected(server.address, credential=Basic(username="u", password="p")) as it:
        error = await said(act(it.client.repository("app")), SyncerError)
        return Outcome(loot=f"{server.sent} bytes" if server.sent > mib * MIB else "", error=error)


async def listed(repository: RegistryRepository) -> None:
    """List the tags."""
    assert [tag async for tag in repository.tags()]


async def endless_manifest(_tmp_path: Path) -> Outcome:
    """Send a manifest of 64 MiB."""
    return await flooded(lambda repository: repository.fetch_manifest("1"), lambda _: None)


async def endless_page(_tmp_path: Path) -> Outcome:
    """Send a page of tags of 128 MiB."""
    return await flooded(listed, lambda _: None, mib=128)


async def endless_token(_tmp_path: Path) -> Outcome:
    """Send a token of 16 MiB."""

    def answer(heard: Heard) -> Answer | None:
        if heard.path == "/token":
            return None
        return reply(401, WWW_Authenticate=f'Bearer realm="http://{heard.headers["Host"]}/token",service="s"')

    return await flooded(lambda repository: repository.resolve("1"), answer, mib=16)


async def endless_error(_tmp_path: Path) -> Outcome:
    """Send an error of 16 MiB."""
    return await flooded(lambda repository: repository.delete_tag("1"), lambda _: None, mib=16)


def _read_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(self: HttpResponse, _limit: int) -> bytes:
        return await self._gather(1 << 60)

    monkeypatch.setattr(HttpResponse, "read", read)


def _read_all_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_start(self: HttpResponse, _limit: int) -> bytes:
        return await self._gather(1 << 60)

    monkeypatch.setattr(HttpResponse, "read_start", read_start)


# ---------------------------------------------------------------------------------- S11: decompression


async def bomb(_tmp_path: Path) -> Outcome:
    """Send a blob of 8 KiB that a Content-Encoding blows up to 8 MiB."""
    packed = gzip.compress(bytes(8 * MIB))
    blob = images.blob(packed)
    taken = 0

    async def take() -> None:
        nonlocal taken
        # What arrives is what matters here, wherever it goes: the bound of the descriptor comes after it.
        async with await it.client.open(call_of(it.client.repository("app"), blob.digest)) as answered:
            response = answered.response
            while chunk := await response.read_some():
                taken += len(chunk)

    async with wire(lambda _: reply(200, packed, Content_Encoding="gzip")) as server, connected(server.address) as it:
        error = await said(take(), SyncerError)
    return Outcome(loot=f"{taken} bytes out of {len(packed)}" if taken > len(packed) else "", error=error)


def call_of(repository: RegistryRepository, digest: str) -> Call:
    """Return the request for a blob."""
    url = repository.client.url(f"/v2/{repository.repository}/blobs/{digest}")
    return Call(
        kind=RequestKind.BLOB_GET, method="GET", url=url, asked="a blob", scopes=repository.scopes, is_data=True
    )


async def asked_to_compress(_tmp_path: Path) -> Outcome:
    """Look whether compressed answers are asked for."""
    async with wire(Warehouse()) as server, connected(server.address) as it:
        await said(it.client.repository("app").resolve("1"), SyncerError)
        asked = {heard.headers.get("Accept-Encoding", "") for heard in server.heard}
    return Outcome(loot=" ".join(asked - {"identity"}))


# ---------------------------------------------------------------------------------- S13: 200 to everything


async def log_in_page(_tmp_path: Path) -> Outcome:
    """Answer 200 and a page to everything, as a captive portal does."""
    page = b"<html><title>Please log in</title></html>"
    return await _pushed(lambda heard: reply(200, b"" if heard.method == "HEAD" else page, length=len(page)), _manifest)


async def yes_to_manifests(_tmp_path: Path) -> Outcome:
    """Answer "created" to everything, and show nothing."""
    return await _pushed(lambda heard: reply(201 if heard.method in ("PUT", "POST") else 404), _manifest)


async def yes_to_blobs(_tmp_path: Path) -> Outcome:
    """Answer "created" to every upload, and show nothing."""

    def answer(heard: Heard) -> Answer:
        if heard.method == "POST":
            return reply(202, Location="/up")
        return reply(201 if heard.method == "PUT" else 404)

    return await _pushed(answer, _blob)


async def yes_to_mounts(_tmp_path: Path) -> Outcome:
    """Answer "mounted" to every upload, and show nothing."""
    return await _pushed(lambda heard: reply(201 if heard.method == "POST" else 404), _blob)


async def _manifest(repository: RegistryRepository) -> None:
    await repository.push_manifest(SAMPLE.manifest, "1")


async def _blob(repository: RegistryRepository) -> None:
    await push_blob(repository, BLOB, DATA)


async def _pushed(
    answer: Callable[[Heard], Answer], push: Callable[[RegistryRepository], Awaitable[object]]
) -> Outcome:
    async with wire(answer) as server, connected(server.address) as it:
        error = await said(push(it.client.repository("app", Side.TARGET)), SyncerError)
    return Outcome(loot="" if error else "pushed to nowhere", error=error)


def _believe_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stored(*_: object) -> bool:
        return True

    monkeypatch.setattr(manifests, "_is_stored", stored)


def _believe_blobs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stored(_calls: object) -> bool:
        return True

    monkeypatch.setattr(proof, "is_stored", stored)


def _believe_any_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every answer below 400 for a success, as others do: both checks of an answer without a digest go."""
    rewritten(
        monkeypatch, manifests, "put", "(reply.status != _CREATED and named != manifest.digest)", "reply.status > 399"
    )
    _believe_manifests(monkeypatch)


# ---------------------------------------------------------------------------------- S9: sizes that are wished for


async def chunk_wish(_tmp_path: Path) -> Outcome:
    """Ask for chunks of an exbibyte."""
    wish = reply(202, Location="/up", OCI_Chunk_Min_Length=str(1 << 60))
    async with wire(lambda _: wish) as server, connected(server.address) as it:
        calls = UploadCalls(it.client.repository("app", Side.TARGET), images.blob(DATA))
        opened = await open_session(calls)
        terms = forms.Terms.of(it.client.capabilities, it.client.uploads)
        size = forms.chunk_size(1 << 50, it.client.uploads, terms, opened.chunk_minimum)
    return Outcome(loot=f"{size} bytes" if size > 1 << 41 else "")


# ---------------------------------------------------------------------------------- S15: cookies


async def cookie(_tmp_path: Path) -> Outcome:
    """Set a cookie and look whether it comes back."""
    special = lambda heard: reply(404, Set_Cookie="sid=mallory; Path=/")  # noqa: E731, ARG005 - one line
    async with wire(special) as server, connected(server.address) as it:
        for _ in range(2):
            await said(it.client.repository("app").resolve("1"), SyncerError)
        assert len(server.heard) == 2
        return Outcome(loot=" ".join(heard.headers.get("Cookie", "") for heard in server.heard).strip())


# ---------------------------------------------------------------------------------- S17: out of the header


async def parameter(_tmp_path: Path) -> Outcome:
    """Name a service that adds parameters of its own to the request for a token."""

    def answer(heard: Heard) -> Answer:
        if heard.path == "/token":
            return reply(200, b'{"token": "t"}')
        realm = f"http://{heard.headers['Host']}/token"
        return reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s&scope=repository:all:*"')

    async with wire(answer) as server, connected(server.address) as it:
        error = await said(it.client.repository("app").resolve("1"), SyncerError)
        scopes = {scope for heard in server.heard for scope in heard.query.get("scope", [])}
    return Outcome(loot=" ".join(scopes - {"repository:app:pull"}), error=error)


async def token_header(_tmp_path: Path) -> Outcome:
    """Give a token that ends the header and begins another."""

    def answer(heard: Heard) -> Answer:
        if heard.path == "/token":
            return reply(200, json.dumps({"token": "t\r\nX-Evil: 1"}).encode())
        realm = f"http://{heard.headers['Host']}/token"
        return reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')

    async with wire(answer) as server, connected(server.address) as it:
        error = await said(it.client.repository("app").resolve("1"), SyncerError)
        return Outcome(
            loot=" ".join(heard.headers["X-Evil"] for heard in server.heard if "X-Evil" in heard.headers), error=error
        )


async def type_header(tmp_path: Path) -> Outcome:
    """Serve a manifest whose media type ends its header and begins another, to be written to the target."""
    document = {**json.loads(SAMPLE.manifest.raw), "mediaType": "application/x\r\nX-Evil: 1"}
    source = Warehouse()
    source.put(SAMPLE, "other")
    source.put_raw(json.dumps(document).encode(), "", "v1")
    async with wire(source) as from_here, wire(Warehouse()) as to_there:
        error = await sync(tmp_path, from_here.address, to_there.address)
        evil = [heard.headers["X-Evil"] for heard in to_there.heard if "X-Evil" in heard.headers]
    return Outcome(loot=" ".join(evil), error=error)


def _raw_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the check of the media type out, and aiohttp's own of every header."""
    condition = "if not effective.isascii() or not effective.isprintable():"
    rewritten(monkeypatch, manifest, "_effective_media_type", condition, "if False:")
    _raw_headers(monkeypatch)


def _raw_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the check of the token out, and aiohttp's own of every header."""
    monkeypatch.setattr(token_service, "_is_token", lambda value: isinstance(value, str))
    _raw_headers(monkeypatch)


def _raw_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take aiohttp's check of headers out, which would come behind ours."""
    naive = lambda line, headers: (  # noqa: E731 - a stand-in
        line + "\r\n" + "\r\n".join(f"{name}: {value}" for name, value in headers.items()) + "\r\n\r\n"
    ).encode()
    monkeypatch.setattr(aiohttp.http_writer, "_serialize_headers", naive)


ROWS = [
    Row(
        name="S4-manifest",
        threat="a manifest without end fills the memory",
        defence="syncer.registry.network.transport.HttpResponse.read",
        attack=endless_manifest,
        switch_off=_read_all,
        refusal=SizeExceedsLimit,
    ),
    Row(
        name="S4-page",
        threat="a list of tags without end fills the memory",
        defence="syncer.registry.network.transport.HttpResponse.read",
        attack=endless_page,
        switch_off=_read_all,
        refusal=SizeExceedsLimit,
    ),
    Row(
        name="S4-token",
        threat="a token without end fills the memory",
        defence="syncer.registry.network.transport.HttpResponse.read",
        attack=endless_token,
        switch_off=_read_all,
        refusal=SizeExceedsLimit,
    ),
    Row(
        name="S4-error",
        threat="an error without end fills the memory",
        defence="syncer.registry.network.transport.HttpResponse.read_start",
        attack=endless_error,
        switch_off=_read_all_errors,
        refusal=SyncerError,
    ),
    Row(
        name="S11-bomb",
        threat="a Content-Encoding blows an answer up",
        defence="syncer.registry.network.transport.Transport._session",
        attack=bomb,
        switch_off=lambda patch: rewritten(
            patch, Transport, "_session", "auto_decompress=False", "auto_decompress=True"
        ),
    ),
    Row(
        name="S11-asked",
        threat="compressed answers are asked for",
        defence="syncer.registry.network.transport.Transport._session",
        attack=asked_to_compress,
        switch_off=lambda patch: rewritten(patch, Transport, "_session", ', "Accept-Encoding": "identity"', ""),
    ),
    Row(
        name="S9-chunk",
        threat="a registry wishes for chunks that no machine holds",
        defence="syncer.registry.upload.forms.chunk_size",
        attack=chunk_wish,
        switch_off=lambda patch: patch.setattr(forms, "LARGEST_MINIMUM", 1 << 62),
    ),
    Row(
        name="S13-page",
        threat="a log-in page answers 200 to a push",
        defence="syncer.registry.manifests.put",
        attack=log_in_page,
        switch_off=_believe_any_status,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S13-manifest",
        threat="whoever says 201 to everything has taken the manifest",
        defence="syncer.registry.manifests._is_stored",
        attack=yes_to_manifests,
        switch_off=_believe_manifests,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S13-blob",
        threat="whoever says 201 to everything has taken the blob",
        defence="syncer.registry.upload.proof.is_stored",
        attack=yes_to_blobs,
        switch_off=_believe_blobs,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S13-mount",
        threat="whoever says 201 to everything has mounted the blob",
        defence="syncer.registry.upload.proof.is_stored",
        attack=yes_to_mounts,
        switch_off=_believe_blobs,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S15-cookie",
        threat="a cookie of one session is shown in another",
        defence="syncer.registry.network.transport.Transport._session",
        attack=cookie,
        switch_off=lambda patch: rewritten(
            patch, Transport, "_session", "aiohttp.DummyCookieJar()", "aiohttp.CookieJar(unsafe=True)"
        ),
    ),
    Row(
        name="S17-parameter",
        threat="a value of the registry's adds parameters to a URL",
        defence="syncer.registry.network.urls.with_query",
        attack=parameter,
        switch_off=lambda patch: patch.setattr(token_service, "with_query", _unquoted),
        refusal=Unauthorized,
    ),
    Row(
        name="S17-header",
        threat="a token ends its header and begins another",
        defence="syncer.registry.auth.token_service._is_token",
        attack=token_header,
        switch_off=_raw_token,
        refusal=ProtocolViolation,
    ),
    Row(
        name="S17-type",
        threat="a media type ends its header and begins another",
        defence="syncer.oci.manifest._effective_media_type",
        attack=type_header,
        switch_off=_raw_type,
        refusal=MalformedManifest,
    ),
]


def _unquoted(url: URL, **values: str) -> URL:
    added = "&".join(f"{key}={value}" for key, value in values.items())
    return URL(f"{url}{'&' if '?' in str(url) else '?'}{added}", encoded=True)
