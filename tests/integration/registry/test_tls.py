"""TLS: whom the client trusts, and to whom it shows its certificate."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from syncer.errors import CertificateError, RegistryError, SyncerError
from syncer.registry import RegistrySettings, TlsSettings
from tests.support import images
from tests.support.authority import Authority
from tests.support.certificates import make_pem, serving
from tests.support.scripted import connected, scripted

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = images.image()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a self-signed certificate for 127.0.0.1 and localhost, with its key, into one file."""
    return make_pem(tmp_path_factory.mktemp("tls"))


async def manifest(_request: web.BaseRequest) -> web.StreamResponse:
    """Answer with a manifest."""
    return web.Response(body=SAMPLE.manifest.raw, content_type=SAMPLE.manifest.media_type)


async def test_configured_authority(pem: Path) -> None:
    """A registry whose authority is configured is trusted."""
    async with scripted(manifest, tls=serving(pem)) as server:
        settings = RegistrySettings(host=server.address, tls=TlsSettings(ca=str(pem)))
        async with connected(server.address, settings=settings) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest


async def test_unknown_authority(pem: Path) -> None:
    """A certificate of an unknown authority ends it at the first try, and the hint says what to set."""
    async with (
        scripted(manifest, tls=serving(pem)) as server,
        connected(server.address, settings=RegistrySettings(host=server.address)) as it,
    ):
        with pytest.raises(CertificateError) as caught:
            await it.client.repository("a").fetch_manifest("1")
        assert it.clock.slept == []
    assert "ca:" in caught.value.hint
    assert server.seen == []


async def test_plain_http_on_the_tls_port(pem: Path) -> None:
    """A registry that serves TLS and is asked without fails with a hint at the setting."""
    async with (
        scripted(manifest, tls=serving(pem)) as server,
        connected(server.address, settings=RegistrySettings(host=server.address, plain_http=True)) as it,
    ):
        with pytest.raises(RegistryError) as caught:
            await it.client.repository("a").fetch_manifest("1")
    assert "--no-plain-http" in caught.value.hint


async def test_insecure_is_for_the_registry_only(pem: Path) -> None:
    """Leniency is for the configured host: another host that it redirects to is verified."""
    async with scripted(manifest, tls=serving(pem)) as storage:

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            if request.path.endswith("/direct"):
                return await manifest(request)
            return web.Response(status=307, headers={"Location": f"https://localhost:{storage.address[10:]}/x"})

        async with scripted(handler, tls=serving(pem)) as server:
            settings = RegistrySettings(host=server.address, tls=TlsSettings(insecure=True))
            async with connected(server.address, settings=settings) as it:
                assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("direct")).digest
                with pytest.raises(CertificateError):
                    await it.client.repository("a").fetch_manifest("1")
        assert storage.seen == []


async def test_client_certificate(pem: Path) -> None:
    """A client certificate is shown to the registry, and not to another port that it redirects to."""
    async with scripted(manifest, tls=serving(pem, ssl.CERT_REQUIRED)) as storage:

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            if request.path.endswith("/direct"):
                return await manifest(request)
            return web.Response(status=307, headers={"Location": f"https://{storage.address}/x"})

        async with scripted(handler, tls=serving(pem, ssl.CERT_REQUIRED)) as server:
            tls = TlsSettings(ca=str(pem), cert=str(pem))
            async with connected(server.address, settings=RegistrySettings(host=server.address, tls=tls)) as it:
                assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("direct")).digest
                with pytest.raises(SyncerError):
                    await it.client.repository("a").fetch_manifest("1")
        assert storage.seen == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a certificate authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


async def test_bundle(tmp_path: Path, authority: Authority) -> None:
    """The file of authorities may hold several."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Authority(tmp_path, "other").ca.read_bytes() + authority.ca.read_bytes())
    async with scripted(manifest, tls=authority.server("127.0.0.1")) as server:
        settings = RegistrySettings(host=server.address, tls=TlsSettings(ca=str(bundle)))
        async with connected(server.address, settings=settings) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest


async def test_system_authorities_by_the_environment(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE names the system's authorities, and what is configured comes on top of them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    async with scripted(manifest, tls=authority.server("127.0.0.1")) as server:
        settings = RegistrySettings(host=server.address, tls=TlsSettings(ca=str(Authority(tmp_path, "other").ca)))
        async with connected(server.address, settings=settings) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_system_authorities_of_a_process(tmp_path: Path, authority: Authority, variable: str) -> None:
    """A process whose environment names the authorities trusts them without any setting."""
    hashed = tmp_path / "certs"
    hashed.mkdir()
    # The name that OpenSSL looks for is made of a hash of the subject.
    known = await anyio.run_process(["openssl", "x509", "-noout", "-subject_hash", "-in", str(authority.ca)])
    (hashed / f"{known.stdout.decode().strip()}.0").write_bytes(authority.ca.read_bytes())
    value = authority.ca if variable == "SSL_CERT_FILE" else hashed
    async with scripted(manifest, tls=authority.server("127.0.0.1")) as server:
        command = [
            sys.executable,
            "-m",
            "syncer",
            "manifest-digest",
            f"docker://{server.address}/a:1",
            "--no-plain-http",
        ]
        done = await anyio.run_process(command, env={variable: str(value), "PATH": "/usr/bin"}, check=False)
    assert (done.stdout.decode().strip(), done.returncode) == (SAMPLE.digest, 0)


async def test_directory_of_certificates(tmp_path: Path, authority: Authority) -> None:
    """The registry's directory in certs.d gives its authority and the client certificate that it wants."""
    async with scripted(manifest, tls=authority.server("127.0.0.1", verify=ssl.CERT_REQUIRED)) as server:
        directory = tmp_path / server.address
        directory.mkdir()
        (directory / "ca.crt").write_bytes(authority.ca.read_bytes())
        for file in authority.issue("me"):
            (directory / file.name).write_bytes(file.read_bytes())
        settings = RegistrySettings(host=server.address, tls=TlsSettings(folders=(str(tmp_path),)))
        async with connected(server.address, settings=settings) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest


async def test_client_certificate_of_a_directory_stays_at_home(tmp_path: Path, authority: Authority) -> None:
    """A client certificate of certs.d is not shown to another port that the registry redirects to."""
    wanting = authority.server("127.0.0.1", verify=ssl.CERT_OPTIONAL)
    shown: list[bool] = []

    async def storage_handler(request: web.BaseRequest) -> web.StreamResponse:
        shown.append(bool(request.transport and request.transport.get_extra_info("peercert")))
        return await manifest(request)

    async with scripted(storage_handler, tls=wanting) as storage:

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            shown.append(bool(request.transport and request.transport.get_extra_info("peercert")))
            return web.Response(status=307, headers={"Location": f"https://{storage.address}/x"})

        async with scripted(handler, tls=wanting) as server:
            directory = tmp_path / server.address
            directory.mkdir()
            for file in (authority.ca, *authority.issue("me")):
                (directory / file.name).write_bytes(file.read_bytes())
            settings = RegistrySettings(host=server.address, tls=TlsSettings(folders=(str(tmp_path),)))
            async with connected(server.address, settings=settings) as it:
                assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
    assert shown == [True, False]


async def test_what_is_configured_comes_before_directories(tmp_path: Path, authority: Authority) -> None:
    """A configured authority replaces those of certs.d."""
    async with scripted(manifest, tls=authority.server("127.0.0.1")) as server:
        directory = tmp_path / server.address
        directory.mkdir()
        (directory / "ca.crt").write_bytes(authority.ca.read_bytes())
        other = str(Authority(tmp_path, "other").ca)
        settings = RegistrySettings(host=server.address, tls=TlsSettings(ca=other, folders=(str(tmp_path),)))
        async with connected(server.address, settings=settings) as it:
            with pytest.raises(CertificateError, match="not trusted"):
                await it.client.repository("a").fetch_manifest("1")


async def test_half_a_pair_in_a_directory(tmp_path: Path) -> None:
    """A client certificate without a key is an error before any request, with the file's name."""
    directory = tmp_path / "reg.test"
    directory.mkdir()
    (directory / "me.cert").touch()
    settings = RegistrySettings(host="reg.test", tls=TlsSettings(folders=(str(tmp_path),)))
    with pytest.raises(CertificateError, match=r"me\.cert has no key"):
        async with connected("", settings=settings):
            pass


async def test_ipv6_over_tls(authority: Authority) -> None:
    """A registry is reached over TLS by an IPv6 address, for which its certificate is checked."""
    async with scripted(manifest, tls=authority.server("::1"), host="::1") as server:
        settings = RegistrySettings(host=server.address, tls=TlsSettings(ca=str(authority.ca)))
        async with connected(server.address, settings=settings) as it:
            assert SAMPLE.digest == (await it.client.repository("a").fetch_manifest("1")).digest
    async with scripted(manifest, tls=authority.server("::2"), host="::1") as server:
        settings = RegistrySettings(host=server.address, tls=TlsSettings(ca=str(authority.ca)))
        async with connected(server.address, settings=settings) as it:
            with pytest.raises(CertificateError):
                await it.client.repository("a").fetch_manifest("1")
