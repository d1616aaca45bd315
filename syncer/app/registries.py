"""From what the command line and the machine say of a registry to its client."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from syncer import __version__
from syncer.errors import CertificateError, RegistryError, TransportError
from syncer.events import RequestKind
from syncer.registry.call import Call
from syncer.registry.client import RegistryClient
from syncer.registry.credentials.keychain import Keychain
from syncer.registry.network.proxies import ProxySettings
from syncer.registry.settings import RegistrySettings, TlsSettings
from syncer.registry.traffic.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from syncer.app.surroundings import Surroundings
    from syncer.events import Observer
    from syncer.registry.auth.memory import Demand
    from syncer.registry.credentials.values import Credential
    from syncer.registry.standing import Standing, Standings
    from syncer.registry.unfinished import UnfinishedUploads

#: Where somebody else can be asked, a mirror that fails gets one more chance, and one that is not there none.
HASTY = RetryPolicy(tries=2, absent_tries=1, nameless_tries=1)
#: Open files that are no connections: the state, programs, layouts, and what the interpreter reads.
_OTHER_FILES = 64
#: Parts into which the others are divided: requests and blobs of a source and a target, and as much for chance.
_SHARES = 6
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


def made_client(
    settings: RegistrySettings,
    surroundings: Surroundings,
    observer: Observer,
    *,
    explicit: dict[str, Credential] | None = None,
    standing: Standing | None = None,
    learned: Iterable[Demand] = (),
    unfinished: UnfinishedUploads | None = None,
) -> RegistryClient:
    """Return a client that lives by the clocks of ``surroundings``, and finds credentials there, after ``explicit``.

    Raises:
        CredentialsError: as :func:`keychain`.
    """
    return RegistryClient(
        settings,
        keychain(surroundings, explicit),
        observer,
        standing=standing,
        clock=surroundings.clock,
        wall_clock=surroundings.wall_clock,
        sleep=surroundings.sleep,
        random=surroundings.random,
        learned=learned,
        unfinished=unfinished,
    )


def settings_of_host(
    host: str, surroundings: Surroundings, *, plain_http: bool | None = None, tls: TlsSettings | None = None
) -> RegistrySettings:
    """Return the settings of a registry of which no spec says anything.

    Without a word on ``plain_http``, loopback addresses are reached without TLS, unless ``tls`` names
    certificates: who speaks of certificates means TLS, wherever the registry is.
    """
    tls = tls or TlsSettings()
    if plain_http is None:
        plain_http = is_loopback(host) and not (tls.ca or tls.cert or tls.insecure)
    settings = RegistrySettings(
        host=host,
        plain_http=plain_http,
        tls=replace(tls, folders=surroundings.certificate_folders),
        user_agent=USER_AGENT,
        proxies=ProxySettings.of(surroundings.environ),
    )
    return within_files(settings, surroundings.files)


def within_files(settings: RegistrySettings, files: int | None) -> RegistrySettings:
    """Lower the ceilings on connections to what a process that may have so many ``files`` open has room for."""
    if files is None:
        return settings
    most = max(1, (files - _OTHER_FILES) // _SHARES)
    return replace(
        settings,
        connections=min(settings.connections, most),
        data_connections=min(settings.data_connections, most),
        bulk_connections=min(settings.bulk_connections, most),
    )


async def open_unnamed(
    host: str,
    surroundings: Surroundings,
    opener: Callable[[RegistrySettings, Standing], Awaitable[RegistryClient]],
    standings: Standings,
    *,
    insecure: bool,
) -> RegistryClient:
    """Open a registry to which a ``registries.conf`` leads and of which nobody said anything else.

    One that is called insecure there need not have a certificate to be trusted, nor TLS.
    """

    async def attempt(settings: RegistrySettings) -> RegistryClient:
        # One that answers in plain HTTP is not the one that failed in TLS before it.
        return await opener(settings, standings.of(settings, settings.base_url))

    if not insecure:
        return await attempt(settings_of_host(host, surroundings))
    client = await attempt(settings_of_host(host, surroundings, tls=TlsSettings(insecure=True)))
    if await _speaks_tls(client):
        return client
    return await attempt(settings_of_host(host, surroundings, plain_http=True))


async def _speaks_tls(client: RegistryClient) -> bool:
    """Ask whether the registry of ``client``, which takes any certificate, speaks TLS at all."""
    call = Call(
        kind=RequestKind.PING,
        method="GET",
        url=client.url("/v2/"),
        asked=client.host,
        expected=frozenset({200, 401, 403, 404}),
        authorization="",
        tries=1,
    )
    try:
        await client.exchange(call)
    except (TransportError, CertificateError):
        return False
    except RegistryError:
        # Whatever it says, it has said it over TLS.
        return True
    return True


def is_loopback(host: str) -> bool:
    """Tell whether ``host[:port]`` is this machine, which is reached without TLS unless told otherwise."""
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
