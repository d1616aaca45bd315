"""From what the spec or the command line says of a registry to its client."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from syncer import __version__
from syncer.registry.client import RegistryClient
from syncer.registry.credentials.keychain import Keychain
from syncer.registry.credentials.values import Basic, RegistryToken
from syncer.registry.settings import RegistrySettings, TlsSettings
from syncer.spec.values import PasswordCredentials, TokenCredentials

if TYPE_CHECKING:
    from syncer.app.surroundings import Surroundings
    from syncer.events import Observer
    from syncer.registry.credentials.values import Credential
    from syncer.registry.referrers import FallbackTags
    from syncer.spec.values import RegistrySpec, TlsFiles

USER_AGENT = f"syncer/{__version__}"


def keychain(surroundings: Surroundings, explicit: dict[str, Credential] | None = None) -> Keychain:
    """Return the credential store of a process, with what the spec says first.

    Raises:
        CredentialsError: when the environment names a configuration that is not valid.
    """
    return Keychain(
        environ=surroundings.environ,
        home=surroundings.home,
        explicit=explicit,
        authfile=Path(surroundings.authfile) if surroundings.authfile else None,
    )


def client_of_spec(
    spec: RegistrySpec, surroundings: Surroundings, observer: Observer, *, fallback_tags: FallbackTags | None = None
) -> RegistryClient:
    """Return a client for a registry of the spec; clients of one registry share their ``fallback_tags``."""
    limits = spec.limits
    defaults = RegistrySettings(host=spec.host)
    settings = RegistrySettings(
        host=spec.host,
        plain_http=spec.plain_http,
        tls=_tls(spec.tls),
        connections=limits.connections or defaults.connections,
        data_connections=min(limits.connections or defaults.data_connections, defaults.data_connections),
        requests_per_second=limits.requests_per_second,
        bandwidth=limits.bandwidth,
        user_agent=USER_AGENT,
    )
    explicit = {spec.host: credential} if (credential := _credential(spec)) else None
    return RegistryClient(settings, keychain(surroundings, explicit), observer, fallback_tags=fallback_tags)


def is_loopback(host: str) -> bool:
    """Tell whether ``host[:port]`` is this machine, which is reached without TLS unless told otherwise."""
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _credential(spec: RegistrySpec) -> Credential | None:
    match spec.credentials:
        case PasswordCredentials(username=username, password=password):
            return Basic(username=username, password=password.reveal())
        case TokenCredentials(token=token):
            return RegistryToken(token=token.reveal())
        case _:
            return None


def _tls(files: TlsFiles | None) -> TlsSettings:
    if files is None:
        return TlsSettings()
    return TlsSettings(ca=str(files.ca or ""), cert=str(files.cert or ""), key=str(files.key or ""))
