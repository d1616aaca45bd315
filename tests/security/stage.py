"""Where attacks take place: servers that record every byte they get, and a way to take one defence out.

A :class:`Wire` is a raw HTTP server: what it answers is bytes, so that it can say what no library would, and
what it heard is kept whole. A :class:`Warehouse` is a registry that believes and stores everything.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import textwrap
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from multidict import CIMultiDict

from syncer.events import TagFinished
from syncer.oci import Digest
from tests.support.observing import Recorder
from tests.support.world import run, spec_between

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

    import pytest

    from syncer.errors import SyncerError
    from syncer.events import Event
    from tests.support.images import Sample

    Answer = bytes | Iterable[bytes]
    Answerer = Callable[["Heard"], Answer]

ENTRY = "name: e, from: source/app, to: target/app"
_MESSAGE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n(.*?)\r\n\r\n", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an attack came to: what the attacker got (empty: nothing), and what Syncer said."""

    loot: str = ""
    error: SyncerError | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the catalogue.

    Attributes:
        name: the row of the catalogue it belongs to, and which way in: ``S5-location``.
        threat: what the attacker wants, in a few words.
        defence: the function of the product that holds the defence.
        attack: mounts the attack, with a folder to play in.
        switch_off: takes the defence, and nothing else, out of the product.
        refusal: the error that the defended product ends with; None where it simply goes on.
    """

    name: str
    threat: str
    defence: str
    attack: Callable[[Path], Awaitable[Outcome]]
    switch_off: Callable[[pytest.MonkeyPatch], None]
    refusal: type[SyncerError] | None = None


# ---------------------------------------------------------------------------------- servers


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One request, whole."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        """The query, decoded."""
        return parse_qs(urlsplit(self.target).query)

    @property
    def authorization(self) -> str:
        """The Authorization header; empty for none."""
        return self.headers.get("Authorization", "")


@dataclass
class Wire:
    """A server, what it heard, and how many bytes of one answer it could get rid of."""

    address: str = ""
    scheme: str = "http"
    heard: list[Heard] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    sent: int = 0
    certificates: int = 0

    @property
    def url(self) -> str:
        """The server's origin."""
        return f"{self.scheme}://{self.address}"

    @property
    def authorizations(self) -> list[str]:
        """The credentials it was shown."""
        return [heard.authorization for heard in self.heard if heard.authorization]

    @property
    def lines(self) -> list[str]:
        """Every request as ``METHOD target``."""
        return [f"{heard.method} {heard.target}" for heard in self.heard]


def reply(status: int = 200, body: bytes = b"", *, length: int | None = None, **headers: str) -> bytes:
    """Return a whole answer; an underscore in a header's name is a dash."""
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body


@asynccontextmanager
async def wire(
    answer: Answerer, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Wire]:
    """Serve what ``answer`` makes of each request; an iterable is sent piece by piece, and ends the connection."""
    it = Wire(scheme="https" if tls else "http")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        it.certificates += bool(writer.get_extra_info("peercert"))
        try:
            while True:
                heard = await _hear(reader, it.raw)
                it.heard.append(heard)
                answered = answer(heard)
                count = 0
                for piece in [answered] if isinstance(answered, bytes) else answered:
                    writer.write(piece)
                    await writer.drain()
                    count += len(piece)
                    it.sent = max(it.sent, count)
                if not isinstance(answered, bytes):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    try:
        name, number = server.sockets[0].getsockname()[:2]
        it.address = f"{name}:{number}"
        yield it
    finally:
        server.close()


async def _hear(reader: asyncio.StreamReader, raw: bytearray) -> Heard:
    head = await reader.readuntil(b"\r\n\r\n")
    raw += head
    match = _MESSAGE.fullmatch(head)
    assert match is not None, head
    pairs = [line.partition(":") for line in match[3].decode("latin-1").split("\r\n")]
    headers = CIMultiDict((name, value.strip()) for name, _, value in pairs)
    if headers.get("Transfer-Encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).strip() or b"0", 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        try:
            body = await reader.readexactly(int(headers.get("Content-Length", "0")))
        except asyncio.IncompleteReadError as cut:
            raw += cut.partial
            raise
    raw += body
    return Heard(method=match[1].decode(), target=match[2].decode(), headers=headers, body=body)


_PLACE = re.compile(r"/v2/(.+?)/(manifests|blobs|tags|referrers)/(.*)")


class Warehouse:
    """A registry that asks no questions: it stores what it is sent under the name it is sent under.

    ``special`` may answer first; None leaves it to the warehouse.
    """

    def __init__(self, special: Callable[[Heard], Answer | None] | None = None) -> None:
        self.special = special
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.tags: list[str] = []

    def put(self, sample: Sample, tag: str) -> None:
        """Store a sample under ``tag``."""
        self.blobs.update({str(digest): data for digest, data in sample.blobs.items()})
        for manifest in sample.manifests:
            self.manifests[manifest.digest] = (manifest.media_type, manifest.raw)
        self.put_raw(sample.manifest.raw, sample.manifest.media_type, tag)

    def put_raw(self, raw: bytes, media_type: str, tag: str = "") -> str:
        """Store any bytes as a manifest; return their digest."""
        digest = Digest.of(raw)
        self.manifests[digest] = (media_type, raw)
        if tag:
            self.manifests[tag] = (media_type, raw)
            self.tags.append(tag)
        return digest

    def __call__(self, heard: Heard) -> Answer:
        """Answer a request."""
        if self.special is not None and (answer := self.special(heard)) is not None:
            return answer
        place = _PLACE.fullmatch(heard.path)
        if place is None:
            return reply(200 if heard.path == "/v2/" else 404)
        kind, rest = place[2], place[3]
        if kind == "tags":
            names = ",".join(f'"{tag}"' for tag in self.tags)
            return reply(200, f'{{"name":"x","tags":[{names}]}}'.encode())
        if kind == "manifests":
            return self._manifest(heard, rest)
        return self._blob(heard, rest) if kind == "blobs" else reply(404)

    def _manifest(self, heard: Heard, reference: str) -> bytes:
        if heard.method == "PUT":
            self.manifests[reference] = (heard.headers.get("Content-Type", ""), heard.body)
            digest = reference if ":" in reference else Digest.of(heard.body)
            return reply(201, Docker_Content_Digest=digest)
        media_type, raw = self.manifests.get(reference, ("", b""))
        if not raw:
            return reply(404)
        digest = reference if ":" in reference else Digest.of(raw)
        is_head = heard.method == "HEAD"
        return reply(
            200, b"" if is_head else raw, length=len(raw), Content_Type=media_type, Docker_Content_Digest=digest
        )

    def _blob(self, heard: Heard, rest: str) -> bytes:
        if heard.method == "POST":
            return reply(202, Location=f"{heard.path}session")
        if heard.method == "PUT":
            digest = heard.query["digest"][0]
            self.blobs[digest] = heard.body
            return reply(201, Docker_Content_Digest=digest)
        if heard.method == "DELETE":
            return reply(204)
        data = self.blobs.get(rest)
        if data is None:
            return reply(404)
        return reply(200, b"" if heard.method == "HEAD" else data, length=len(data), Docker_Content_Digest=rest)


# ---------------------------------------------------------------------------------- acting


async def said(act: Awaitable[object], kind: type[SyncerError]) -> SyncerError | None:
    """Return the typed error that ``act`` ends with; None when it ends well."""
    try:
        await act
    except kind as error:
        return error
    return None


async def sync(
    tmp_path: Path, source: str, target: str = "", *entries: str, layout: str = "", observer: Recorder | None = None
) -> SyncerError | None:
    """Run a spec between two registries (or into a layout); return the first failure of a tag or an entry."""
    recorder = observer or Recorder()
    text = spec_between(source, target or source, *(entries or (ENTRY,)), layout=layout)
    await run(text, tmp_path, recorder)
    return failure_of(recorder.events)


def failure_of(events: Iterable[Event]) -> SyncerError | None:
    """Return the first failure among the events of a run."""
    for event in events:
        error = getattr(event, "error", None)
        if error is not None and not (isinstance(event, TagFinished) and event.error is None):
            found: SyncerError = error
            return found
    return None


# ---------------------------------------------------------------------------------- taking a defence out


def rewritten(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, old: str, new: str) -> None:
    """Replace the function ``name`` of ``owner`` by itself with ``old``, which it has once, as ``new``.

    So a single condition goes, and everything around it stays as it is in the product. When the text is not
    there any more, the defence has moved, and whoever moved it says here where to.
    """
    held = inspect.getattr_static(owner, name)
    function = inspect.unwrap(held.__func__ if isinstance(held, classmethod | staticmethod) else held)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{owner.__name__}.{name} has {source.count(old)} times: {old}"
    code = f"from __future__ import annotations\n{source.replace(old, new)}"
    scope: dict[str, Any] = {}
    exec(compile(code, inspect.getfile(function), "exec"), vars(sys.modules[function.__module__]), scope)  # noqa: S102 - the product's own source
    monkeypatch.setattr(owner, name, scope[function.__name__])
