"""Hosts as a spec and the command line write them: proxies, and hosts that a registry may lead to."""

from __future__ import annotations

import re

from syncer.errors import InvalidReference, SpecError
from syncer.oci.reference import check_host
from syncer.spec.values import Proxy, Secret

_PROXY = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^@/?#\s]*@)?(?P<host>[^@/?#\s]+)/?")


def parse_proxy(text: str) -> Proxy:
    """Return what ``none`` or ``http[s]://[user:password@]host[:port]`` stands for.

    Raises:
        SpecError: without a place and without the text, which may hold a password.
    """
    if text == "none":
        return Proxy()
    match = _PROXY.fullmatch(text)
    scheme = match["scheme"].lower() if match else ""
    if scheme.startswith("socks"):
        raise SpecError("SOCKS proxies are not supported", hint="Name an HTTP proxy, or write 'none'.")
    if match is None or scheme not in ("http", "https") or not _is_host(match["host"]):
        hint = "Write http://HOST:PORT, without a path; a user name and a password go before the host and an @."
        raise SpecError("expected 'none' or the URL of a proxy", hint=hint)
    return Proxy(url=Secret(text))


def _is_host(text: str) -> bool:
    try:
        check_host(text)
    except InvalidReference:
        return False
    return True


def parse_trusted(text: str) -> str:
    """Return the host name or ``*.domain``, each with ``:port`` or not, in lower case.

    Raises:
        InvalidReference: when it is neither.
    """
    star = "*." if text.startswith("*.") else ""
    name = text.removeprefix(star)
    # Not check_host's result: that gives the Docker Hub's names one meaning, and here each stands for itself.
    check_host(name)
    return f"{star}{name.lower()}"
