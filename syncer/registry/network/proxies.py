"""Through which proxy a URL is reached; no I/O.

The variables are those that curl and Go's tools know. Where those two differ, this is as in Go
(``golang.org/x/net/http/httpproxy``), in which Docker, Podman and Skopeo are written: a machine on
which they work needs no other settings.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from yarl import URL

from syncer.errors import RegistryError
from syncer.registry.network.addresses import AddressKind, is_in_network, kind_of, kind_of_name, literal, split_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Set in a CGI program, where a client's header ``Proxy:`` becomes the variable HTTP_PROXY (httpoxy).
_CGI_VARIABLE = "REQUEST_METHOD"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxySettings:
    """The HTTP proxies of the environment; empty for none.

    Attributes:
        http: the URL of the proxy for plain HTTP.
        https: the URL of the proxy for TLS, which is tunnelled through it (CONNECT).
        exceptions: hosts, domains, addresses and networks that are reached directly (``NO_PROXY``).
    """

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    exceptions: tuple[str, ...] = ()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Return the proxies that ``environ`` names; they are checked when they are used."""
        anything = _variable(environ, "ALL_PROXY")
        plain = environ.get("http_proxy", "") if environ.get(_CGI_VARIABLE) else _variable(environ, "HTTP_PROXY")
        return cls(
            http=plain or anything,
            https=_variable(environ, "HTTPS_PROXY") or anything,
            exceptions=tuple(_variable(environ, "NO_PROXY").replace(",", " ").split()),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """One proxy.

    Attributes:
        url: where it is, without user name and password.
        authorization: what it is shown, and nobody else; empty for nothing.
    """

    url: URL
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return str(self.url).rstrip("/")


def proxy_for(settings: ProxySettings, url: URL) -> Proxy | None:
    """Return the proxy through which ``url`` is reached; None for a direct connection.

    Raises:
        RegistryError: when the proxy is not an HTTP proxy.
    """
    text = settings.https if url.scheme == "https" else settings.http
    if not text or _is_direct(url, settings.exceptions):
        return None
    return _parse(text)


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.lower()) or "").strip()


def _parse(text: str) -> Proxy:
    """Read the value of a variable: a URL, or ``host:port``."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    scheme = scheme.lower()
    head, _, tail = rest.partition("/")
    user, at, place = head.rpartition("@")
    if "@" in tail:
        # A slash in the password that is not percent-encoded: what is before it is no host.
        scheme = place = ""
    url = None
    try:
        parts = urlsplit(f"{scheme}://{place}")
        host = parts.hostname or ""
        port = parts.port or _DEFAULT_PORTS.get(scheme, 0)
        shown = f"[{host}]" if ":" in host else host
        literal(host)
        url = URL(f"{scheme}://{shown}:{port}", encoded=True) if scheme in _DEFAULT_PORTS else None
    except ValueError:
        pass
    if scheme.startswith("socks"):
        raise RegistryError(
            f"the proxy {scheme}://{place} is a SOCKS proxy, which Syncer cannot use",
            hint="Set HTTPS_PROXY and HTTP_PROXY to an HTTP proxy, or name the registry in NO_PROXY.",
        )
    if url is None:
        # Not a word of it is shown: it may be all password.
        raise RegistryError(
            "the proxy that the environment or the spec names is not an http or https URL",
            hint="Write HTTPS_PROXY and HTTP_PROXY as http://HOST:PORT. A user name and a password go before the host "
            "and an @, with special characters percent-encoded.",
        )
    return Proxy(url=url, authorization=_basic(user) if at else "")


def _basic(user: str) -> str:
    name, _, password = user.partition(":")
    pair = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    return f"Basic {base64.b64encode(pair).decode()}"


def _is_direct(url: URL, exceptions: Iterable[str]) -> bool:
    """Tell whether ``url`` is this machine's, or NO_PROXY names it."""
    host = (url.raw_host or "").lower().rstrip(".")
    port = url.explicit_port or _DEFAULT_PORTS.get(url.scheme, 0)
    try:
        address = ip_address(host)
    except ValueError:
        return kind_of_name(host) is AddressKind.LOOPBACK or any(_names(host, port, entry) for entry in exceptions)
    if kind_of(address) is AddressKind.LOOPBACK:
        return True
    for entry in exceptions:
        if entry == "*" or is_in_network(address, entry):
            return True
        bare, wanted = split_port(entry)
        if wanted in (None, port) and is_in_network(address, bare):
            return True
    return False


def _names(host: str, port: int, entry: str) -> bool:
    """Tell whether ``entry`` of NO_PROXY names ``host``: ``a.b`` with all below it, ``.a.b`` only what is below."""
    if entry == "*":
        return True
    name, wanted = split_port(entry.lower())
    if wanted not in (None, port):
        return False
    name = name.removeprefix("*").rstrip(".")
    if name.startswith("."):
        return len(name) > 1 and host.endswith(name)
    return bool(name) and (host == name or host.endswith(f".{name}"))
