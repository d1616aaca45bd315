"""Nothing that aiohttp raises leaves the transport as it is."""

from __future__ import annotations

import errno
import inspect
import socket
import ssl
from typing import TYPE_CHECKING
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from yarl import URL

from syncer.errors import (
    OUT_OF_FILES_HINT,
    CertificateError,
    ConnectionFailed,
    ProtocolViolation,
    RegistryError,
    Timeout,
)
from syncer.registry.network.translation import translated

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


def translate(
    error: BaseException, *, registry: str = "reg.io", url: str = "https://reg.io/x?sig=canary"
) -> RegistryError:
    """Return what becomes of ``error``."""
    with pytest.raises(RegistryError) as caught, translated(registry, "GET", URL(url, encoded=True)):
        raise error
    return caught.value


def unconnected(number: int | None, text: str = "Connect call failed ('127.0.0.1', 1)") -> aiohttp.ClientConnectorError:
    """Return aiohttp's error for a connection that the operating system refused with ``number``."""
    return aiohttp.ClientConnectorError(KEY, OSError(text) if number is None else OSError(number, text))


@pytest.mark.parametrize("kind", [aiohttp.ClientConnectorError, aiohttp.ClientConnectorDNSError])
def test_too_many_open_files(kind: type[aiohttp.ClientConnectorError]) -> None:
    """A process that may open no more files is told so; neither the registry nor its name is blamed for it."""
    error = translate(kind(KEY, OSError(errno.EMFILE, "Too many open files")))
    assert isinstance(error, ConnectionFailed)
    assert (error.retryable, error.is_absent) == (True, False)
    assert error.message == "cannot connect to reg.io: too many open files"
    assert error.hint == OUT_OF_FILES_HINT


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


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("self-signed certificate", "Name the authority"),
        ("unable to get local issuer certificate", "Name the authority"),
        ("certificate has expired", "renewed"),
        ("certificate is not yet valid", "clock"),
        ("Hostname mismatch, certificate is not valid for 'reg.io'.", "by a name"),
        ("IP address mismatch, certificate is not valid for '10.0.0.1'.", "by a name"),
    ],
)
def test_certificates_that_are_not_trusted(said: str, hint: str) -> None:
    """Nobody is told to trust an authority where that would not help."""
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = said
    found = translate(cause)
    assert said in found.message
    assert hint in found.hint


def test_client_certificate_wanted() -> None:
    """A registry that wants a client certificate is not asked again, and the hint says what to set."""
    cause = ssl.SSLError(1, "alert")
    cause.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    found = translate(cause)
    assert isinstance(found, CertificateError)
    assert "cert:" in found.hint


@pytest.mark.parametrize(
    ("number", "reason", "hint"),
    [
        (errno.ECONNREFUSED, "connection refused", "Check the host and port, and that the registry is running."),
        (errno.EHOSTUNREACH, "no route to host", "Check the network, and the host's address."),
        (errno.ENETUNREACH, "network is unreachable", "Check the network, and the host's address."),
    ],
)
def test_connections_that_cannot_be_made(number: int, reason: str, hint: str) -> None:
    """The operating system's reason is given in words, without numbers and addresses, and with what to check."""
    found = translate(unconnected(number), registry="127.0.0.1:1", url="http://127.0.0.1:1/v2/")
    assert isinstance(found, ConnectionFailed)
    assert (found.message, found.hint) == (f"cannot connect to 127.0.0.1:1: {reason}", hint)
    assert found.is_absent is (number == errno.ECONNREFUSED)


def test_several_addresses() -> None:
    """A host with several addresses that all refuse is told of once."""
    found = translate(unconnected(errno.ECONNREFUSED, "Multiple exceptions: [Errno 111] ('::1'), [Errno 111] …"))
    assert found.message == "cannot connect to reg.io: connection refused"


@pytest.mark.parametrize(("number", "is_absent"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)])
def test_names_that_cannot_be_resolved(number: int, *, is_absent: bool) -> None:
    """A name that does not exist is told from a name server that does not answer now."""
    text = socket.gaierror(number, "Name or service not known")
    found = translate(aiohttp.ClientConnectorDNSError(KEY, text))
    assert isinstance(found, ConnectionFailed)
    assert found.message == "the name of reg.io cannot be resolved: name or service not known"
    assert (found.hint, found.is_absent) == ("Check the host's name.", is_absent)


@pytest.mark.parametrize("error", [unconnected(errno.ECONNRESET), unconnected(None, "")])
def test_connections_that_end_before_tls(error: Exception) -> None:
    """A server that hangs up on the TLS greeting may speak plain HTTP, and the hint says what to set."""
    found = translate(error)
    assert type(found) is ConnectionFailed
    assert found.message == "reg.io closed the connection before TLS was agreed on"
    assert "plain_http: true" in found.hint
    assert "--plain-http" in found.hint


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientResponseError(Mock(), (), message="Bad status line:\n\n  b'\\x15\\x03'"),
    ],
)
def test_plain_http_on_a_tls_port(error: Exception) -> None:
    """A server that hangs up on plain HTTP, or answers in another protocol, may want TLS; over TLS it does not."""
    found = translate(error, url="http://reg.io/v2/")
    assert "--no-plain-http" in found.hint
    assert not found.message.endswith(":")
    assert "plain" not in translate(error).hint


def test_another_host_is_named() -> None:
    """A token service or a storage that fails is not taken for the registry that led there."""
    found = translate(unconnected(errno.ECONNREFUSED), url="https://auth.io:8443/token?account=canary")
    assert found.message == "cannot connect to auth.io:8443, where reg.io leads: connection refused"
    assert found.registry == "reg.io"
    found = translate(TimeoutError(), registry="docker.io", url="https://registry-1.docker.io/v2/")
    assert found.message == "docker.io did not answer in time"


def test_urls_stay_out_of_messages() -> None:
    """What aiohttp writes about a URL, with its query, is not passed on."""
    assert "canary" not in str(translate(aiohttp.ClientOSError(None, "cannot write to https://reg.io/x?sig=canary")))
