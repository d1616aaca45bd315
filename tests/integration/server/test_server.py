"""The server as a whole: TLS, read-only, the request hook, starting and stopping, memory, many clients."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import ipaddress
import os
import ssl
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.to_thread import run_sync
from structlog.testing import capture_logs

from syncer.errors import UsageError
from syncer.layout.tree import LayoutTree
from syncer.oci import Digest
from syncer.server import AuthMode, RegistryServer, ServerSettings
from tests.integration.server.peer import serving
from tests.support import images
from tests.support.faults.virtual_time import virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.server.peer import Peer

MIB = 1024 * 1024
ABSENT = Digest.of(b"absent")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1, and its key."""
    from cryptography import x509  # noqa: PLC0415 - slow to import, and one fixture needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - same
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - same

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = (tmp_path / "cert.pem", tmp_path / "key.pem")
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def test_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """With a certificate the server speaks TLS: blobs of any size go in and come out unharmed."""
    trust = await run_sync(lambda: ssl.create_default_context(cafile=certificate[0]))
    async with serving(tmp_path / "root", certificate=certificate[0], key=certificate[1], trust=trust) as peer:
        assert peer.server.url.startswith("https://")
        data = images.random_bytes(5 * MIB + 1)
        digest = await peer.push_blob("app", data)
        whole = await peer.ask("GET", f"/v2/app/blobs/{digest}")
        part = await peer.ask("GET", f"/v2/app/blobs/{digest}", Range="bytes=7-")
        assert (whole.body == data, part.body == data[7:]) == (True, True)


async def test_tls_realm_is_https(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """Over TLS the token service is named by an https URL."""
    trust = await run_sync(lambda: ssl.create_default_context(cafile=certificate[0]))
    async with serving(
        tmp_path / "root",
        certificate=certificate[0],
        key=certificate[1],
        trust=trust,
        auth=AuthMode.TOKEN,
        anonymous_pull=True,
    ) as peer:
        assert f'realm="{peer.server.url}/token"' in (await peer.ask("GET", "/v2/")).headers["WWW-Authenticate"]


async def test_unusable_certificate(tree: LayoutTree, certificate: tuple[Path, Path]) -> None:
    """A key that is not the certificate's stops the start, and says which files."""
    settings = ServerSettings(certificate=certificate[0], key=certificate[0])
    with pytest.raises(UsageError, match=r"cert\.pem"):
        await RegistryServer(tree, settings).__aenter__()


async def test_address_in_use(peer: Peer, tree: LayoutTree) -> None:
    """An address that is taken is a usage error that names it, and leaves nothing running."""
    with pytest.raises(UsageError, match=str(peer.server.port)):
        await RegistryServer(tree, port=peer.server.port).__aenter__()


async def test_read_only(tmp_path: Path) -> None:
    """Read-only: pulling works; every write is 405 UNSUPPORTED with what is allowed; the disk is not touched."""
    sample = images.image()
    async with serving(tmp_path) as peer:
        await peer.push("app", sample, "1")
    (tmp_path / ".syncer" / "uploads").rmdir()
    async with serving(tmp_path, read_only=True) as peer:
        assert (await peer.ask("GET", "/v2/app/manifests/1")).body == sample.manifest.raw
        for method, path in (
            ("POST", "/v2/app/blobs/uploads/"),
            ("PATCH", "/v2/app/blobs/uploads/x"),
            ("PUT", "/v2/app/blobs/uploads/x"),
            ("PUT", "/v2/app/manifests/1"),
            ("DELETE", "/v2/app/manifests/1"),
            ("DELETE", f"/v2/app/blobs/{sample.digest}"),
        ):
            answer = await peer.ask(method, path)
            assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"]), path
            assert set(answer.headers["Allow"].split(", ")) <= {"GET", "HEAD", ""}
        assert not (tmp_path / ".syncer" / "uploads").exists()


async def test_records(peer: Peer) -> None:
    """The hook is told of every request: method, path, query, status, and bytes both ways."""
    data = images.random_bytes(5000)
    digest = await peer.push_blob("team/app", data)
    await peer.ask("GET", f"/v2/team/app/blobs/{digest}", Range="bytes=0-99")
    await peer.ask("HEAD", f"/v2/team/app/blobs/{digest}")
    await peer.ask("GET", "/v2/Bad/tags/list")
    seen = [(r.method, r.status, r.bytes_in, r.bytes_out) for r in peer.records]
    assert seen[:4] == [("POST", 202, 0, 0), ("PUT", 201, 5000, 0), ("GET", 206, 0, 100), ("HEAD", 200, 0, 0)]
    assert (seen[4][1], seen[4][3] > 0) == (400, True)
    assert peer.records[1].query == f"digest={digest}"
    assert peer.records[2].path == f"/v2/team/app/blobs/{digest}"
    assert all(record.seconds > 0 for record in peer.records)


async def test_failure_is_no_traceback(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong inside is a 500 with an error body that tells nothing of the inside."""
    monkeypatch.setattr(peer.tree, "store", lambda *_a, **_k: 1 / 0)
    answer = await peer.ask("GET", "/v2/app/tags/list")
    assert (answer.status, answer.codes) == (500, ["UNKNOWN"])
    assert b"ZeroDivision" not in answer.body


@pytest.mark.parametrize("repository", ["team/app", "team/nowhere"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "manifests/absent"),
        ("DELETE", "manifests/absent"),
        ("GET", f"manifests/{ABSENT}"),
        ("DELETE", f"manifests/{ABSENT}"),
        ("GET", f"blobs/{ABSENT}"),
        ("DELETE", f"blobs/{ABSENT}"),
        ("GET", f"blobs/uploads/{'0' * 32}"),
    ],
)
async def test_absence_tells_no_directory(peer: Peer, repository: str, method: str, path: str) -> None:
    """A 404 names the repository and what it lacks, and never a directory of the server's machine."""
    await peer.push("team/app", images.image(), "1")
    answer = await peer.ask(method, f"/v2/{repository}/{path}")
    assert answer.status == 404
    (error,) = answer.document["errors"]
    assert repository in error["message"]
    assert str(peer.tree.root).encode() not in answer.body


async def test_absent_repository_tells_no_directory(peer: Peer) -> None:
    """The tags of a repository that is not there are 404 NAME_UNKNOWN, in the server's own words."""
    answer = await peer.ask("GET", "/v2/team/nowhere/tags/list")
    assert (answer.status, answer.codes) == (404, ["NAME_UNKNOWN"])
    assert answer.document["errors"][0]["message"] == "there is no repository team/nowhere"


async def test_full_disk_tells_no_directory(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that the disk has no space for is 507; the log names the directory, and the answer does not."""
    sample = images.image()
    for data in sample.blobs.values():
        await peer.push_blob("app", data)

    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr("os.writev", full)
        answer = await peer.put_manifest("app", sample.manifest, "1")
    assert (answer.status, answer.codes) == (507, ["DENIED"])
    assert str(peer.tree.root).encode() not in answer.body
    assert [log["event"] for log in logs if str(peer.tree.root) in log.get("reason", "")] == ["storage.full"]
    assert (await peer.put_manifest("app", sample.manifest, "1")).status == 201


async def test_stop_lets_requests_end(tmp_path: Path) -> None:
    """A server that stops takes no more connections, and ends what it is doing."""
    data = images.random_bytes(MIB)
    digest = Digest.of(data)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield data[:1000]
        begun.set()
        await go_on.wait()
        yield data[1000:]

    async with serving(tmp_path) as peer:
        location = await peer.open_upload("app")
        upload = asyncio.create_task(peer.ask("PUT", f"{location}?digest={digest}", body()))
        await begun.wait()
        await asyncio.sleep(0.01)
        stopping = asyncio.create_task(peer.server.__aexit__(None, None, None))
        await asyncio.sleep(0.01)
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection(peer.server.host, peer.server.port)
        go_on.set()
        assert (await upload).status == 201
        await stopping


async def test_stop_cuts_off_what_does_not_end(tmp_path: Path) -> None:
    """A request that does not end within the drain time is cut off; its session can be gone on with."""
    async with serving(tmp_path, drain_timeout=0.05) as peer:
        location = await peer.open_upload("app")
        _, writer = await asyncio.open_connection(peer.server.host, peer.server.port)
        writer.write(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n".encode() + b"x" * 1000)
        await writer.drain()
        await asyncio.sleep(0.02)
        with anyio.fail_after(5):
            await peer.server.__aexit__(None, None, None)
        writer.close()
    async with serving(tmp_path) as peer:
        assert (await peer.ask("GET", location)).status == 204


async def test_flushed_when_stopped(tmp_path: Path) -> None:
    """When the server has stopped, other tools see every tag in index.json."""
    sample = images.image()
    async with serving(tmp_path) as peer:
        await peer.push("app", sample, "1.0")
        await peer.server.__aexit__(None, None, None)
        assert b'"1.0"' in await run_sync((tmp_path / "app" / "index.json").read_bytes)


@pytest.mark.untraced
async def test_hundred_pushes_at_once(peer: Peer) -> None:
    """A hundred clients push to ten repositories at once, the same blobs among them: all is there and right."""
    shared = [images.random_bytes(20_000, "shared")]

    async def push(number: int) -> tuple[str, images.Sample]:
        sample = images.image(layers=2, size=5000, seed=number, shared=shared)
        name = f"team{number % 10}/app"
        await peer.push(name, sample, f"v{number}")
        return name, sample

    pushed = await asyncio.gather(*(push(number) for number in range(100)))
    for number, (name, sample) in enumerate(pushed):
        answer = await peer.ask("GET", f"/v2/{name}/manifests/v{number}")
        assert answer.body == sample.manifest.raw
        for digest, data in sample.blobs.items():
            assert (await peer.ask("GET", f"/v2/{name}/blobs/{digest}")).body == data
    assert len((await peer.ask("GET", "/v2/team3/app/tags/list")).document["tags"]) == 10


async def test_pushes_and_deletions_at_once(peer: Peer) -> None:
    """Whatever pushes and deletions do to each other, a tag that answers has all of its blobs."""
    samples = [images.image(layers=1, seed=number) for number in range(5)]

    async def push(sample: images.Sample, tag: str) -> None:
        for _ in range(5):
            for data in sample.blobs.values():
                await peer.push_blob("app", data)
            await peer.put_manifest("app", sample.manifest, tag)

    async def delete(sample: images.Sample, tag: str) -> None:
        for _ in range(5):
            for digest in sample.blobs:
                # A blob goes only while no manifest needs it.
                if (await peer.ask("HEAD", f"/v2/app/manifests/{tag}")).status == 404:
                    await peer.ask("DELETE", f"/v2/app/blobs/{digest}")
            await peer.ask("DELETE", f"/v2/app/manifests/{sample.digest}")

    await asyncio.gather(
        *(act(sample, f"v{number}") for number, sample in enumerate(samples) for act in (push, delete))
    )
    assert {record.status for record in peer.records} <= {200, 201, 202, 400, 404}


def resident() -> int:
    """Return this process's resident memory in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - read many times, in a thread
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_memory_is_bounded(peer: Peer) -> None:
    """A blob of 64 MiB goes in, by PATCH and by PUT, and out again, in a few MiB of memory."""
    block = images.random_bytes(MIB)
    hasher = hashlib.sha256()
    for _ in range(64):
        hasher.update(block)
    digest = f"sha256:{hasher.hexdigest()}"

    async def body() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield block

    await peer.push_blob("warm-up", block)
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.002):
            peak = max(peak, resident())

    before = await run_sync(resident)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        location = await peer.open_upload("app")
        assert (await peer.ask("PATCH", location, body())).status == 202
        assert (await peer.ask("PUT", f"{location}?digest={digest}")).status == 201
        location = await peer.open_upload("other")
        assert (await peer.ask("PUT", f"{location}?digest={digest}", body())).status == 201
        async with peer.session.get(f"{peer.server.url}/v2/app/blobs/{digest}") as response:
            received = 0
            async for chunk in response.content.iter_any():
                received += len(chunk)
    finally:
        stop.set()
        await run_sync(watcher.join)
    assert received == 64 * MIB
    assert peak - before < 24 * MIB


async def test_client_that_stops_reading(tmp_path: Path) -> None:
    """A client that asks for a blob and takes nothing of it is let go after the stall timeout."""
    async with serving(tmp_path, stall_timeout=0.05) as peer:
        digest = await peer.push_blob("app", bytes(10 * MIB))
        _, writer = await asyncio.open_connection(peer.server.host, peer.server.port, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads as well
        writer.write(f"GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
        await asyncio.sleep(0.02)
        with anyio.fail_after(5):
            await peer.server.settled()
        assert peer.records[-1].status == 499
        assert peer.records[-1].bytes_out < 10 * MIB
        writer.transport.abort()


async def test_unusable_passwords_are_told_at_the_start(tmp_path: Path) -> None:
    """Entries of the password file with which nobody can log in are logged, by line and user, without the entry."""
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_text("ann:CANARY\n")
    with capture_logs() as logs:
        async with serving(tmp_path / "root", auth=AuthMode.BASIC, htpasswd=htpasswd):
            pass
    told = [entry for entry in logs if entry["event"] == "htpasswd.entry_unusable"]
    assert [(entry["line"], entry["user"]) for entry in told] == [(1, "ann")]
    assert "CANARY" not in str(logs)


def test_a_stop_is_over_before_the_kill(tmp_path: Path) -> None:
    """With a client that sends no more, a server has ended before the ten seconds are over that ``docker stop`` waits.

    What other tools read is up to date then, which it would not be after a kill.
    """

    async def main() -> float:
        tree = LayoutTree(tmp_path)
        async with RegistryServer(tree) as server:
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"POST /v2/a/blobs/uploads/?digest=sha256:" + b"0" * 64 + b" HTTP/1.1\r\nHost: here\r\n")
            writer.write(b"Content-Length: 5\r\n\r\nwho")
            while not any((tmp_path / ".syncer" / "uploads").iterdir()):  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.001)
            began = asyncio.get_running_loop().time()
        lasted = asyncio.get_running_loop().time() - began
        await tree.close()
        writer.close()
        return lasted

    assert 5 < virtually(main()) < 9
