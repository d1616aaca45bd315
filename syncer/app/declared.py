"""From what a spec says of a registry to its client."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from syncer.app.registries import USER_AGENT, made_client, within_files
from syncer.events import Notice
from syncer.registry.credentials.values import Basic, RegistryToken
from syncer.registry.network.proxies import ProxySettings
from syncer.registry.settings import (
    CreationKind,
    CreationSettings,
    DownloadSettings,
    RegistrySettings,
    TimeoutSettings,
    TlsSettings,
    UploadForm,
    UploadSettings,
)
from syncer.spec.values import PasswordCredentials, TokenCredentials

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syncer.app.surroundings import Surroundings
    from syncer.events import Observer
    from syncer.registry.auth.memory import Demand
    from syncer.registry.client import RegistryClient
    from syncer.registry.credentials.values import Credential
    from syncer.registry.standing import Standings
    from syncer.registry.unfinished import UnfinishedUploads
    from syncer.spec.values import Creation, Download, Proxy, RegistrySpec, Timeouts, TlsFiles


def client_of_spec(
    spec: RegistrySpec,
    surroundings: Surroundings,
    observer: Observer,
    *,
    standings: Standings | None = None,
    learned: Iterable[Demand] = (),
    unfinished: UnfinishedUploads | None = None,
) -> RegistryClient:
    """Return a client for a registry of the spec; clients of one registry share its standing, of ``standings``.

    It starts with what an earlier run ``learned``, and with the uploads that it left ``unfinished``.
    """
    if spec.tls is not None and spec.tls.insecure:
        text = (
            "any certificate is taken, as 'tls: {insecure: true}' says: whoever sits in between can read and change all"
        )
        observer.notify(Notice(where=spec.host, text=text))
    explicit = {spec.host: credential} if (credential := _credential(spec)) else None
    settings = settings_of_spec(spec, surroundings)
    standing = standings.of(settings, spec.location) if standings else None
    return made_client(
        settings,
        surroundings,
        observer,
        explicit=explicit,
        standing=standing,
        learned=learned,
        unfinished=unfinished,
    )


def settings_of_spec(spec: RegistrySpec, surroundings: Surroundings) -> RegistrySettings:
    """Return what is configured for a registry of the spec."""
    limits = spec.limits
    defaults = RegistrySettings(host=spec.host)
    settings = RegistrySettings(
        host=spec.host,
        plain_http=spec.plain_http,
        tls=_tls(spec.tls, surroundings),
        connections=limits.connections or defaults.connections,
        data_connections=limits.connections or defaults.data_connections,
        bulk_connections=min(limits.connections or defaults.bulk_connections, defaults.bulk_connections),
        requests_per_second=limits.requests_per_second,
        bandwidth=limits.bandwidth,
        user_agent=USER_AGENT,
        timeouts=_timeouts(spec.timeouts),
        proxies=_proxies(spec.proxy, surroundings),
        trusted_hosts=spec.trusted_hosts,
        download=_download(spec.download),
        upload=UploadSettings(form=UploadForm(spec.upload.form), chunk=spec.upload.chunk),
        creation=_creation(spec.creation, surroundings) if spec.creation else None,
    )
    return within_files(settings, surroundings.files)


def _download(spec: Download) -> DownloadSettings:
    defaults = DownloadSettings()
    return DownloadSettings(parallel=spec.parallel, large=spec.large or defaults.large)


def _timeouts(spec: Timeouts) -> TimeoutSettings:
    given = {each.name: value for each in fields(spec) if (value := getattr(spec, each.name)) is not None}
    return replace(TimeoutSettings(), **given)


def _credential(spec: RegistrySpec) -> Credential | None:
    match spec.credentials:
        case PasswordCredentials(username=username, password=password):
            return Basic(username=username, password=password.reveal())
        case TokenCredentials(token=token):
            return RegistryToken(token=token.reveal())
        case _:
            return None


def _tls(files: TlsFiles | None, surroundings: Surroundings) -> TlsSettings:
    folders = surroundings.certificate_folders
    if files is None:
        return TlsSettings(folders=folders)
    return TlsSettings(
        ca=str(files.ca or ""),
        cert=str(files.cert or ""),
        key=str(files.key or ""),
        insecure=files.insecure,
        folders=folders,
    )


def _proxies(proxy: Proxy | None, surroundings: Surroundings) -> ProxySettings:
    if proxy is None:
        return ProxySettings.of(surroundings.environ)
    url = proxy.url.reveal() if proxy.url else ""
    return ProxySettings(http=url, https=url)


def _creation(creation: Creation, surroundings: Surroundings) -> CreationSettings:
    return CreationSettings(kind=CreationKind(creation.kind), command=creation.command, environ=surroundings.environ)
