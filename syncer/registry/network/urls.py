"""URLs as they are on the wire.

A registry's Location is opaque: its path and query may be signed, so not one byte of it may be
decoded and encoded again. Every URL here is built with ``encoded=True`` for that reason, and what
is our own is percent-encoded first.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from syncer.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Query keys whose values say nothing secret; everything else is shown as ``…``.
_SHOWN_KEYS = frozenset({"mount", "from", "n", "last", "digest", "artifactType", "scope", "service"})
_LONGEST_SHOWN = 500
#: What is relative to nothing (RFC 3986 section 5.2.2); most registries say where an upload is in this way.
_WITH_AUTHORITY = re.compile(r"https?://[A-Za-z0-9\[]", re.IGNORECASE)
_PRINTABLE = string.ascii_letters + string.digits + string.punctuation


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what a credential is bound to (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @staticmethod
    def of(url: URL) -> Origin:
        """Return the origin of an absolute ``url``."""
        return _origin(url.scheme, url.raw_host, url.explicit_port)

    @property
    def is_secure(self) -> bool:
        """True when the origin is reached over TLS."""
        return self.scheme == "https"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@lru_cache(maxsize=256)
def _origin(scheme: str, host: str | None, port: int | None) -> Origin:
    # Every request asks for it several times, and nearly all are to the same few origins.
    scheme = scheme.lower()
    return Origin(scheme, (host or "").lower(), port or _DEFAULT_PORTS.get(scheme, 0))


def octets(text: str) -> bytes:
    """Return the bytes of ``text`` in UTF-8, and those that were no UTF-8 when it was read (PEP 383) as they were.

    Half a surrogate pair, which only JSON can bring, is a question mark.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def absolute(text: str) -> URL:
    """Return ``text`` as an absolute HTTP URL, byte for byte, without its fragment.

    What must not stand in a URL (spaces, letters outside ASCII) is percent-encoded; nothing else is touched.

    Raises:
        ProtocolViolation: when it is not an http or https URL with a host, or carries a user name.
    """
    cleaned = quote(octets(text.partition("#")[0]), safe=_PRINTABLE)
    try:
        parts = urlsplit(cleaned)
        port = parts.port
        url = URL(cleaned, encoded=True)
        Origin.of(url)
    except ValueError:
        raise ProtocolViolation(f"not a URL: {redact(text)[:200]!r}") from None
    if parts.scheme.lower() not in _DEFAULT_PORTS or not parts.hostname or port == 0:
        raise ProtocolViolation(f"not an http or https URL: {redact(cleaned)!r}")
    if "@" in parts.netloc or "\\" in parts.netloc:
        raise ProtocolViolation(f"a URL with a user name in it: {redact(cleaned)!r}")
    return url


def resolve(base: URL, location: str, *, home: Origin) -> URL:
    """Return the absolute URL of a Location or Link, relative to the ``base`` of the request.

    A registry behind a TLS proxy often believes that it speaks plain HTTP, and says so in its
    Location: on the ``home`` host and its port the scheme is put right, never the other way.

    Raises:
        ProtocolViolation: when it is no HTTP URL, or leads from https to http.
    """
    text = location.strip()
    try:
        joined = text if _WITH_AUTHORITY.match(text) else urljoin(str(base), text)
    except ValueError:
        raise ProtocolViolation(f"not a URL: {redact(location)[:200]!r}") from None
    url = absolute(joined)
    there = Origin.of(url)
    if there.is_secure or not Origin.of(base).is_secure:
        return url
    if there.host == home.host and home.is_secure and url.explicit_port in (None, 80, home.port):
        rest = str(url).partition("://")[2].partition("/")
        return URL(f"{home}/{rest[2]}", encoded=True)
    raise ProtocolViolation(
        f"the registry leads from https to http, to {there}",
        hint="Let the registry return relative URLs, or tell it its own https address.",
    )


def with_query(url: URL, **values: str) -> URL:
    """Append our own ``values`` to the query, and leave what is there as it is."""
    text = str(url)
    added = "&".join(f"{_encoded(key)}={_encoded(value)}" for key, value in values.items())
    joint = "" if text.endswith(("?", "&")) else "&" if "?" in text else "?"
    return URL(f"{text}{joint}{added}", encoded=True)


@lru_cache(maxsize=1024)
def _encoded(text: str) -> str:
    # A digest and a repository come in several requests.
    return quote(octets(text), safe="")


def links(headers: Iterable[str], relation: str = "next") -> Iterator[str]:
    """Yield the targets of the Link headers (RFC 8288) that have the ``relation``."""
    for header in headers:
        at = 0
        while (start := header.find("<", at)) >= 0 and (end := header.find(">", start)) >= 0:
            parameters, at = _parameters(header, end + 1)
            if relation in parameters.get("rel", "").lower().split():
                yield header[start + 1 : end]


def _parameters(header: str, at: int) -> tuple[dict[str, str], int]:
    """Read ``;name=value`` pairs up to the comma that ends the link; return them and where they end."""
    found: dict[str, str] = {}
    text, quoted = "", False
    while at < len(header) and (quoted or header[at] != ","):
        if quoted and header[at] == "\\":
            # A quoted pair (RFC 9110 section 5.6.4): what follows stands for itself, a quote too.
            text += header[at + 1 : at + 2]
            at += 1
        elif header[at] == '"':
            quoted = not quoted
        elif header[at] == ";" and not quoted:
            _note(found, text)
            text = ""
        else:
            text += header[at]
        at += 1
    _note(found, text)
    return found, at + 1


def _note(found: dict[str, str], pair: str) -> None:
    name, equals, value = pair.partition("=")
    if equals:
        found.setdefault(name.strip().lower(), value.strip())


def redact(url: URL | str) -> str:
    """Return ``url`` for people and logs: no user name, and only known query values.

    Signed storage URLs and upload states are secrets while they live.
    """
    text = str(url).partition("#")[0]
    head, mark, query = text.partition("?")
    # A Location may be without a scheme (RFC 3986 section 4.2), and is shown before it is resolved.
    scheme, separator, rest = head.partition("//")
    if separator and scheme[-1:] in ("", ":"):
        authority, slash, path = rest.partition("/")
        head = f"{scheme}//{authority.rpartition('@')[2]}{slash}{path}"
    if mark:
        shown = []
        for pair in query.split("&"):
            key, equals, value = pair.partition("=")
            shown.append(f"{key}{equals}{value if key in _SHOWN_KEYS else '…' if equals else ''}")
        head = f"{head}?{'&'.join(shown)}"
    return head if len(head) <= _LONGEST_SHOWN else f"{head[:_LONGEST_SHOWN]}…"
