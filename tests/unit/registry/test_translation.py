"""Nothing that aiohttp raises leaves the transport as it is."""

from __future__ import annotations

import inspect
import socket
import ssl
from typing import TYPE_CHECKING
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from yarl import URL

from syncer.errors import CertificateError, ConnectionFailed, ProtocolViolation, RegistryError, Timeout
from syncer.registry.transport import translated

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey

KEY: ConnectionKey = Mock(ssl=True, host="reg.io", port=443, is_ssl=True)
FIELDS = {
    "_os_error": OSError(111, "refused"),
    "_certificate_error": ssl.SSLCertVerificationError("bad"),
    "_conn_key": KEY,
    "message": "",
}
FOREIGN = sorted(
    (
        kind
        for module in (client_exceptions, http_exceptions)
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and issubclass(kind, Exception)
        and kind.__module__.startswith("aiohttp")
        and issubclass(kind, aiohttp.ClientError | http_exceptions.HttpProcessingError | OSError)
    ),
    key=lambda kind: kind.__name__,
)


def translate(error: BaseException) -> RegistryError:
    """Return what becomes of ``error``."""
    with (
        pytest.raises(RegistryError) as caught,
        translated("reg.io", "GET", URL("https://reg.io/x?sig=canary", encoded=True)),
    ):
        raise error
    return caught.value


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_map_is_complete(kind: type[Exception]) -> None:
    """Each class of aiohttp's errors becomes a RegistryError that names registry, method and redacted URL."""
    error = kind.__new__(kind)
    for name, value in FIELDS.items():
        # Made without its constructor, whose arguments differ; what its properties and its text read is set here.
        setattr(error, name, value)
    found = translate(error)
    assert (found.registry, found.method, found.url) == ("reg.io", "GET", "https://reg.io/x?sig=…")
    assert found.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), Timeout),
        (aiohttp.ServerTimeoutError(), Timeout),
        (aiohttp.ConnectionTimeoutError(), Timeout),
        (aiohttp.SocketTimeoutError(), Timeout),
        (aiohttp.ServerDisconnectedError(), ConnectionFailed),
        (aiohttp.ClientPayloadError(), ConnectionFailed),
        (aiohttp.ClientOSError(104, "reset"), ConnectionFailed),
        (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), ConnectionFailed),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "unknown")), ConnectionFailed),
        (ConnectionResetError(104, "reset"), ConnectionFailed),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("bad")), CertificateError),
        (ssl.SSLCertVerificationError("bad"), CertificateError),
        (aiohttp.ClientResponseError(Mock(), ()), ProtocolViolation),
        (http_exceptions.BadStatusLine("x"), ProtocolViolation),
        (aiohttp.InvalidURL("x"), ProtocolViolation),
        (ValueError("a header with a line break"), ProtocolViolation),
    ],
)
def test_classes(error: Exception, expected: type[RegistryError]) -> None:
    """Each failure becomes the error that decides rightly whether to try again."""
    assert expected is type(translate(error))


def test_not_tls() -> None:
    """A registry that speaks plain HTTP on its TLS port is not asked again, and the hint says why."""
    cause = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    cause.reason = "WRONG_VERSION_NUMBER"
    found = translate(aiohttp.ClientConnectorSSLError(KEY, cause))
    assert isinstance(found, CertificateError)
    assert "plain_http" in found.hint


def test_client_certificate_wanted() -> None:
    """A registry that wants a client certificate is not asked again, and the hint says what to set."""
    cause = ssl.SSLError(1, "alert")
    cause.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    found = translate(cause)
    assert isinstance(found, CertificateError)
    assert "cert:" in found.hint


def test_urls_stay_out_of_messages() -> None:
    """What aiohttp writes about a URL, with its query, is not passed on."""
    assert "canary" not in str(translate(aiohttp.ClientOSError(None, "cannot write to https://reg.io/x?sig=canary")))
