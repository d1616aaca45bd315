"""What a failed exchange means: every foreign error as one of Syncer's, with what to do about it."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from http import HTTPStatus

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from syncer.errors import (
    OUT_OF_FILES,
    OUT_OF_FILES_HINT,
    CertificateError,
    ConnectionFailed,
    Denied,
    ProtocolViolation,
    RegistryError,
    ServerFailure,
    StatusError,
    Timeout,
)
from syncer.oci.reference import DOCKER_HUB
from syncer.registry.network.urls import redact
from syncer.registry.settings import HUB_API_HOST

#: What aiohttp and the operating system raise on the way to an answer and through its body.
FOREIGN = (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError, TimeoutError, ValueError)
#: Hints for the two ways to be wrong about TLS.
WANTS_TLS = "If it wants TLS, remove 'plain_http: true', or give --no-plain-http (--no-src-…, --no-dest-… in a copy)."
WANTS_PLAIN = "If it serves plain HTTP, set 'plain_http: true', or give --plain-http (--src-…, --dest-… in a copy)."
#: What OpenSSL says when the other side does not speak TLS at all.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})
_NAME_AUTHORITY = "Name the authority that signed it: 'tls: {ca: FILE}' in the spec, --ca FILE, or a file in certs.d."
#: What to do about a certificate that no authority makes good, by what OpenSSL says of it.
_UNTRUSTED = {
    "has expired": "It has to be renewed at the registry; or the clock of this machine is wrong.",
    "not yet valid": "The clock of this machine, or of who issued the certificate, is wrong.",
    "mismatch": "Reach the registry by a name that is in its certificate, or have the certificate issued for this one.",
}
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
_HANGING_UP = frozenset({None, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})


class translated:  # noqa: N801 - a context manager used as a statement
    """Turn everything aiohttp and the operating system raise into a RegistryError."""

    __slots__ = ("_method", "_proxy", "_registry", "_url")

    def __init__(self, registry: str, method: str, url: URL, *, proxy: str = "") -> None:
        """Translate for ``url``; ``proxy`` is the one through which it was asked, without its password."""
        self._registry = registry
        self._method = method
        self._url = url
        self._proxy = proxy

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Raise what the error of the block is to us."""
        if not isinstance(error, FOREIGN):
            return
        if self._proxy and isinstance(error, aiohttp.ClientHttpProxyError):
            raise proxy_refusal(error.status, self._registry, self._method, self._url, self._proxy) from None
        raise _translation(error, self._registry, self._method, self._url, self._proxy) from None


def proxy_refusal(status: int, registry: str, method: str, url: URL, proxy: str) -> RegistryError:
    """Return the error for a ``proxy`` that answered ``status`` in place of whom it was to connect to."""
    there = place(registry, url)
    kind: type[StatusError]
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        kind, message = Denied, f"the proxy {proxy} wants a user name and password, or other ones, for {there}"
        hint = "They go into the proxy's URL, before the host and an @, with special characters percent-encoded."
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind, message = ServerFailure, f"the proxy {proxy} cannot reach {there}: status {status}"
        hint = "Check the host's name and port, and the proxy; NO_PROXY names what is reached directly."
    else:
        kind, message = Denied, f"the proxy {proxy} refuses the connection to {there}: status {status}"
        hint = "Let the proxy allow it, or name the host in NO_PROXY."
    # Said of the proxy: no credentials of the registry's are at fault.
    return kind(message, status=status, registry=proxy, method=method, url=redact(url), hint=hint)


def _translation(error: Exception, registry: str, method: str, url: URL, proxy: str) -> RegistryError:
    """Return the error that a foreign ``error`` is."""
    there = place(registry, url) + (f", through the proxy {proxy}" if proxy else "")
    cause = _tls_cause(error)
    if cause is not None:
        kind, message, hint = _of_tls(cause, there)
    elif isinstance(error, aiohttp.ClientConnectorError):
        if proxy and error.host == URL(proxy).raw_host:
            there = f"the proxy {proxy} for {place(registry, url)}"
            kind, message, _ = _of_connecting(error, there, is_secure=False)
            hint = "Check the proxy's address in HTTPS_PROXY, HTTP_PROXY or the spec, and that it is running."
        else:
            kind, message, hint = _of_connecting(error, there, is_secure=url.scheme == "https")
    else:
        kind, message, hint = _of_exchange(error, there)
        if not hint and url.scheme == "http" and _is_like_tls(error):
            hint = WANTS_TLS
    translation = kind(message, registry=registry, method=method, url=redact(url), hint=hint)
    if isinstance(translation, ConnectionFailed):
        translation.is_absent = _is_absent(error)
        translation.is_nameless = translation.is_absent and isinstance(error, aiohttp.ClientConnectorDNSError)
    return translation


def place(registry: str, url: URL) -> str:
    """Name who failed: the registry, or the token service or storage that it led to."""
    there = url.host_port_subcomponent or ""
    host = HUB_API_HOST if registry == DOCKER_HUB else registry
    if not there or there.lower() in (host.lower(), host.lower().removesuffix(f":{url.port}")):
        return registry
    return f"{there}, where {registry} leads"


def _of_exchange(error: Exception, place: str) -> tuple[type[RegistryError], str, str]:
    """Say what ended an exchange over a connection; the first line that fits counts."""
    match error:
        case aiohttp.ServerFingerprintMismatch():
            return CertificateError, f"{place} has another certificate than the one expected", ""
        case TimeoutError():
            return Timeout, f"{place} did not answer in time", ""
        case aiohttp.ClientPayloadError():
            return ConnectionFailed, f"the connection to {place} ended in the middle of an answer", ""
        case aiohttp.ServerDisconnectedError():
            return ConnectionFailed, f"{place} closed the connection without an answer", ""
        case aiohttp.ClientResponseError() | http_exceptions.HttpProcessingError():
            return ProtocolViolation, f"{place} did not answer in HTTP: {_brief(error)}", ""
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ProtocolViolation, f"{place} led to something that is no URL", ""
        case aiohttp.ClientConnectionError() | OSError():
            return ConnectionFailed, f"the connection to {place} failed: {_brief(error)}", ""
        case _:
            return ProtocolViolation, f"the request to {place} could not be made: {type(error).__name__}", ""


def _of_connecting(
    error: aiohttp.ClientConnectorError, place: str, *, is_secure: bool
) -> tuple[type[RegistryError], str, str]:
    """Say why there is no connection, in words: with several addresses the system's text lists each."""
    cause = error.os_error
    if isinstance(error, aiohttp.ClientConnectorDNSError) and cause.errno not in OUT_OF_FILES:
        reason = (cause.strerror or str(cause)).lower()
        return ConnectionFailed, f"the name of {place} cannot be resolved: {reason}", "Check the host's name."
    if is_secure and cause.errno in _HANGING_UP:
        return ConnectionFailed, f"{place} closed the connection before TLS was agreed on", WANTS_PLAIN
    reason = os.strerror(cause.errno).lower() if cause.errno else _brief(cause)
    hint = "Check the host and port, and that the registry is running."
    if cause.errno in OUT_OF_FILES:
        hint = OUT_OF_FILES_HINT
    elif cause.errno in _UNREACHABLE:
        hint = "Check the network, and the host's address."
    return ConnectionFailed, f"cannot connect to {place}: {reason}", hint


def _is_absent(error: Exception) -> bool:
    """Tell whether nobody is there, for certain: no name server or network that may have failed in between."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return False
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return error.os_error.errno == socket.EAI_NONAME
    return error.os_error.errno == errno.ECONNREFUSED


def _is_like_tls(error: Exception) -> bool:
    """Tell whether a TLS server may end an exchange like this when it is spoken to in plain HTTP."""
    return isinstance(
        error, aiohttp.ServerDisconnectedError | aiohttp.ClientResponseError | http_exceptions.HttpProcessingError
    )


def _tls_cause(error: BaseException) -> ssl.SSLError | ssl.CertificateError | None:
    """Return what the TLS library said: aiohttp's errors are of its classes too, but hold the real one."""
    found = None
    inner: BaseException | None = error
    for _ in range(4):
        if isinstance(inner, ssl.SSLError | ssl.CertificateError):
            found = inner
        held = getattr(inner, "certificate_error", None) or getattr(inner, "os_error", None)
        inner = held if isinstance(held, BaseException) and held is not inner else None
    return found


def _of_tls(cause: ssl.SSLError | ssl.CertificateError, place: str) -> tuple[type[RegistryError], str, str]:
    reason = getattr(cause, "reason", "") or ""
    if isinstance(cause, ssl.SSLCertVerificationError | ssl.CertificateError):
        detail = getattr(cause, "verify_message", "") or _brief(cause)
        hint = next((advice for words, advice in _UNTRUSTED.items() if words in detail), _NAME_AUTHORITY)
        return (
            CertificateError,
            f"the certificate of {place}{',' if ',' in place else ''} is not trusted: {detail}",
            hint,
        )
    if reason in _NOT_TLS:
        return CertificateError, f"{place} does not speak TLS", WANTS_PLAIN
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return (
            CertificateError,
            f"{place} wants another client certificate: {reason}",
            "Set 'tls: {cert: FILE, key: FILE}' to a certificate that the registry trusts.",
        )
    hint = WANTS_PLAIN if "EOF" in reason else ""
    return ConnectionFailed, f"the TLS connection to {place} failed: {reason or _brief(cause)}", hint


def _brief(error: BaseException) -> str:
    """Return one line on ``error``; aiohttp puts whole URLs, with their queries, into some of its texts."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None)
    if not text and not isinstance(error, aiohttp.ClientResponseError):
        text = str(error)
    lines = str(text or "").strip().splitlines()
    return lines[0][:200].rstrip(" :") if lines and "://" not in lines[0] else type(error).__name__
