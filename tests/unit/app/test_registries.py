"""What a spec, a command line and the machine say of a registry becomes its client's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syncer.app import registries
from syncer.app.declared import client_of_spec, settings_of_spec
from syncer.app.places import Opened, Reach
from syncer.app.registries import settings_of_host
from syncer.app.surroundings import Surroundings
from syncer.events import Notice
from syncer.registry.client import RegistryClient
from syncer.registry.settings import (
    CreationKind,
    DownloadSettings,
    RegistrySettings,
    TimeoutSettings,
    TlsSettings,
    UploadForm,
    UploadSettings,
)
from syncer.spec import RegistrySpec, parse_spec
from tests.support.observing import Recorder

BARE = Surroundings(environ={}, home=Path("/h"), etc=Path("/e"))
PROXIED = Surroundings(
    environ={"HTTPS_PROXY": "http://env:1", "NO_PROXY": "a.example", "AWS_PROFILE": "p"},
    home=Path("/h"),
    etc=Path("/e"),
)
FOLDERS = ("/h/.config/containers/certs.d", "/e/containers/certs.d", "/e/docker/certs.d")


def declared(value: str) -> RegistrySpec:
    """Return the registry that ``value`` makes in a spec."""
    text = f"version: 1\nregistries:\n  a: {value}\n  b: {{layout: ./b}}\nsync:\n  - {{from: a/x, to: b/x}}\n"
    found = parse_spec(text, file="s.yaml", base=Path("/base"), environ={}).registries["a"]
    assert isinstance(found, RegistrySpec)
    return found


def test_a_registry_of_which_little_is_said() -> None:
    """Certificates are looked for where other tools look, and everything else is as by default."""
    settings = settings_of_spec(declared("{host: a.example}"), BARE)
    assert settings == RegistrySettings(
        host="a.example", tls=TlsSettings(folders=FOLDERS), user_agent=settings.user_agent
    )
    assert settings.user_agent.startswith("syncer/")


def test_every_key_arrives() -> None:
    """What the spec says of downloads, uploads, creation, trust and limits is what the client is given."""
    settings = settings_of_spec(
        declared(
            "{host: a.example, tls: {ca: ca.pem, cert: c.pem, key: k.pem}, trusted_hosts: ['*.s.example:8443'], "
            "download: {parallel: 4, large: 8MiB}, upload: {form: single-post, chunk: 1MiB}, "
            "create: [make, '{repository}'], "
            "limits: {connections: 4, requests_per_second: 2, bandwidth: 1MiB/s}, "
            "timeouts: {read: 2m, slowest: none}}"
        ),
        PROXIED,
    )
    assert settings.tls == TlsSettings(ca="/base/ca.pem", cert="/base/c.pem", key="/base/k.pem", folders=FOLDERS)
    assert settings.trusted_hosts == ("*.s.example:8443",)
    assert settings.timeouts == TimeoutSettings(read=120.0, slowest=0)
    assert settings.download == DownloadSettings(parallel=4, large=8 * 1024**2)
    assert settings.upload == UploadSettings(form=UploadForm.SINGLE_POST, chunk=1024**2)
    assert settings.creation is not None
    assert (settings.creation.kind, settings.creation.command) == (CreationKind.COMMAND, ("make", "{repository}"))
    # The program gets the environment of the run, a profile of AWS among it.
    assert settings.creation.environ == PROXIED.environ
    assert (settings.connections, settings.data_connections) == (4, 4)
    assert (settings.requests_per_second, settings.bandwidth) == (2.0, 1024**2)


@pytest.mark.parametrize("kind", ["harbor", "ecr"])
def test_ways_to_create(kind: str) -> None:
    """The words of the spec are those of the client."""
    settings = settings_of_spec(declared(f"{{host: a.example, create: {kind}}}"), BARE)
    assert settings.creation is not None
    assert settings.creation.kind == kind


@pytest.mark.parametrize(
    ("value", "https", "exceptions"),
    [
        ("", "http://env:1", ("a.example",)),
        (", proxy: none", "", ()),
        (", proxy: 'http://u:p@spec:2'", "http://u:p@spec:2", ()),
    ],
)
def test_where_the_proxy_comes_from(value: str, https: str, exceptions: tuple[str, ...]) -> None:
    """The spec's word, where there is one, else the environment's; a password shows in no repr."""
    settings = settings_of_spec(declared(f"{{host: a.example{value}}}"), PROXIED)
    assert (settings.proxies.https, settings.proxies.exceptions) == (https, exceptions)
    assert "u:p" not in repr(settings)
    assert settings_of_host("b.example", PROXIED).proxies.https == "http://env:1"


@pytest.mark.parametrize(
    ("host", "tls", "plain_http"),
    [
        ("localhost:5000", TlsSettings(), True),
        ("[::1]:5000", TlsSettings(), True),
        ("localhost:5000", TlsSettings(ca="ca.pem"), False),
        ("127.0.0.1:5000", TlsSettings(insecure=True), False),
        ("a.example", TlsSettings(), False),
    ],
)
def test_loopback_is_plain_where_nothing_is_said(host: str, tls: TlsSettings, plain_http: bool) -> None:  # noqa: FBT001 - a table
    """A command reaches this machine without TLS unless certificates are spoken of."""
    settings = settings_of_host(host, BARE, tls=tls)
    assert settings.plain_http is plain_http
    assert settings.tls.folders == FOLDERS
    assert settings_of_host(host, BARE, tls=tls, plain_http=False).plain_http is False


def test_taking_any_certificate_is_told_each_run() -> None:
    """Whoever opens a registry with ``insecure`` hears of it; others hear nothing."""
    recorder = Recorder()
    client_of_spec(declared("{host: a.example}"), BARE, recorder)
    assert recorder.events == []
    client_of_spec(declared("{host: a.example, tls: {insecure: true}}"), BARE, recorder)
    (notice,) = recorder.of(Notice)
    assert notice.where == "a.example"
    assert "any certificate" in notice.text


async def test_the_command_line_can_trust_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command is told to trust is what its client is given."""
    given: list[RegistrySettings] = []

    class Noting(RegistryClient):
        def __init__(self, settings: RegistrySettings, *rest: Any, **options: Any) -> None:
            given.append(settings)
            super().__init__(settings, *rest, **options)

    monkeypatch.setattr(registries, "RegistryClient", Noting)
    async with Opened(BARE, Recorder()) as opened:
        await opened.client("a.example", Reach(trusted_hosts=("storage.internal",)))
    assert [settings.trusted_hosts for settings in given] == [("storage.internal",)]
