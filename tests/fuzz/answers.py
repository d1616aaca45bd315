"""Whole answers of registries, byte for byte on a socket: status line, headers and body of every request there is."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from syncer.content import BlobOutcome
from syncer.errors import Side, SyncerError
from syncer.oci import Digest
from syncer.registry.network.addresses import AddressKind
from tests.fuzz.layouts import IMAGE, INDEX
from tests.fuzz.stage import Family
from tests.support.mutating import mutated_bytes, mutated_json
from tests.support.scripted import connected
from tests.support.transfer import opener_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from random import Random

    from syncer.registry import RegistryClient
    from syncer.registry.network.addresses import IpAddress
    from tests.fuzz.stage import Reader

    Request = Callable[[RegistryClient], Awaitable[object]]

_TOKENS = (
    b"\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: br\r\n", b"Location: /a\r\n", b"Location: https://user:p@other.test/?sig=x\r\n",
    b"Location: http://169.254.169.254/\r\n", b"Link: </v2/x>; rel=next\r\n", b"Link: <//other.test/x>; rel=next\r\n",
    b"Retry-After: 999999999999\r\n", b'WWW-Authenticate: Bearer realm="/t"\r\n',
    b'WWW-Authenticate: Bearer realm="https://other.test/t",scope="a:b:c"\r\n',
    b"Docker-Content-Digest: sha256:x\r\n", b"Range: 0-99999\r\n", b"Content-Range: bytes 0-1/2\r\n",
    b"Docker-Upload-UUID: \xff\r\n", b"OCI-Subject: x\r\n", b"OCI-Filters-Applied: artifactType\r\n", b"HTTP/1.1 ",
    b"HTTP/9.9 ", b"200", b"206", b"301", b"401", b"404", b"429", b"500", b"\0", b"\xff",
)  # fmt: skip
_STATUSES = (
    100,
    101,
    199,
    200,
    201,
    202,
    204,
    206,
    301,
    302,
    307,
    308,
    400,
    401,
    403,
    404,
    405,
    416,
    429,
    451,
    500,
    503,
    599,
    999,
)


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an answer; underscores in the names of headers stand for hyphens."""
    lines = [f"HTTP/1.1 {status} X", *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


async def _list_tags(client: RegistryClient) -> None:
    tags = [tag async for tag in client.repository("team/app", Side.SOURCE).tags()]
    assert len(set(tags)) == len(tags)


async def _list_repositories(client: RegistryClient) -> None:
    assert all([name async for name in client.catalog().repositories("")])


async def _list_referrers(client: RegistryClient) -> None:
    found = await client.repository("team/app", Side.SOURCE).referrers(IMAGE.digest)
    assert all(isinstance(one.digest, Digest) for one in found)


async def _read_manifest(client: RegistryClient) -> None:
    repository = client.repository("team/app", Side.SOURCE)
    with suppress(SyncerError):
        await repository.resolve("1")
    with suppress(SyncerError):
        manifest = await repository.fetch_manifest(IMAGE.digest)
        assert manifest.raw == IMAGE.manifest.raw, "what is asked for by its digest is what has it"
    await repository.fetch_manifest("1")


async def _read_blob(client: RegistryClient) -> None:
    descriptor = next(IMAGE.manifest.blobs())
    async with client.repository("team/app", Side.SOURCE).fetch_blob(descriptor) as chunks:
        got = b"".join([chunk async for chunk in chunks])
    assert len(got) == descriptor.size


async def _write(client: RegistryClient) -> None:
    repository = client.repository("team/app", Side.TARGET)
    descriptor = next(IMAGE.manifest.blobs())
    with suppress(SyncerError):
        begun = await repository.begin_blob(descriptor, mount_from="team/other")
        if not isinstance(begun, BlobOutcome):
            await begun.send(opener_of(IMAGE.blobs[descriptor.digest], descriptor))
    await repository.push_manifest(IMAGE.manifest, "1")


async def _nowhere(host: str, port: int) -> list[str]:
    del port
    raise OSError(f"nobody knows {host}")


def _only_here(address: IpAddress) -> AddressKind:
    # What an answer leads to must not be asked for by a test: the network is not ours.
    return AddressKind.LOOPBACK if str(address) == "127.0.0.1" else AddressKind.METADATA


def asked(request: Request) -> Callable[[Path], AbstractContextManager[Reader]]:
    """Give a reader that sends ``request``, and answers it and all that follows with the document."""

    @contextmanager
    def opened(_folder: Path) -> Iterator[Reader]:
        said = b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(said)
                await writer.drain()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

        with asyncio.Runner() as runner:
            server = runner.run(asyncio.start_server(serve, "127.0.0.1", 0))
            port = server.sockets[0].getsockname()[1]

            async def ask() -> None:
                async with connected(f"127.0.0.1:{port}", lookup=_nowhere, classify=_only_here) as here:
                    await request(here.client)

            def read(data: bytes) -> None:
                nonlocal said
                said = data.replace(b"127.0.0.1", b"here.test").replace(b"localhost", b"here.test")
                runner.run(ask())

            try:
                yield read
            finally:
                server.close()
                runner.run(server.wait_closed())

    return opened


def mutate(random: Random, data: bytes) -> bytes:
    """Change the status, a header, or the body of an answer."""
    head, blank, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    match random.choice(("status", "header", "drop", "body", "body", "bytes", "end")):
        case "status":
            lines[0] = b"HTTP/1.1 %d Y" % random.choice(_STATUSES)
        case "header":
            lines.insert(random.randrange(1, len(lines) + 1), random.choice(_TOKENS).strip(b"\r\n"))
        case "drop" if len(lines) > 1:
            del lines[random.randrange(1, len(lines))]
        case "body":
            body = mutated_json(random, body)[:200_000]
            lines = [line for line in lines if not line.startswith(b"Content-Length")] + [
                b"Content-Length: %d" % len(body)
            ]
        case "bytes":
            return mutated_bytes(random, data, _TOKENS)
        case "end":
            body = body[: random.randrange(len(body) + 1)]
    return b"\r\n".join(lines) + blank + body


def _family(name: str, request: Request, *seeds: bytes) -> Family:
    refusals = (
        answer(401, b"{}", WWW_Authenticate='Bearer realm="/token",service="s",scope="repository:team/app:pull"'),
        answer(429, b"", Retry_After="1"),
        answer(307, b"", Location="/elsewhere?a=%2F"),
    )
    return Family(
        name=f"answers_{name}", is_slow=True, seeds=lambda: (*seeds, *refusals), opened=asked(request), mutate=mutate
    )


_LAYER = IMAGE.blobs[next(IMAGE.manifest.blobs()).digest]
FAMILIES = (
    _family(
        "tags",
        _list_tags,
        answer(200, _json({"tags": ["1"], "manifest": {IMAGE.digest: {"tag": ["1"], "timeCreatedMs": "1"}}})),
        answer(
            200, _json({"name": "team/app", "tags": ["1", "2.0"]}), Link='</v2/team/app/tags/list?last=2>; rel="next"'
        ),
    ),
    _family(
        "catalog",
        _list_repositories,
        answer(200, _json({"repositories": ["a/b", "c"]})),
        answer(200, _json({"repositories": ["a/b", "c"]}), Link="</v2/_catalog?n=1>; rel=next"),
    ),
    _family(
        "referrers",
        _list_referrers,
        answer(
            200,
            INDEX.manifest.raw,
            Content_Type="application/vnd.oci.image.index.v1+json",
            OCI_Filters_Applied="artifactType",
        ),
    ),
    _family(
        "manifest",
        _read_manifest,
        answer(
            200, IMAGE.manifest.raw, Content_Type=IMAGE.manifest.media_type, Docker_Content_Digest=str(IMAGE.digest)
        ),
        answer(200, INDEX.manifest.raw, Content_Type=INDEX.manifest.media_type, ETag=f'"{INDEX.digest}"'),
    ),
    _family(
        "blob",
        _read_blob,
        answer(200, _LAYER, Content_Type="application/octet-stream", Docker_Content_Digest=str(Digest.of(_LAYER))),
    ),
    _family(
        "push",
        _write,
        answer(201, b"", Location="/v2/team/app/blobs/x", Docker_Content_Digest=str(Digest.of(_LAYER))),
        answer(202, b"", Location="/v2/team/app/blobs/uploads/1?_state=x", Range="0-0", Docker_Upload_UUID="1"),
        answer(404, _json({"errors": [{"code": "NAME_UNKNOWN", "message": "x", "detail": {"name": "team/app"}}]})),
    ),
)
