"""Every error Syncer raises, in one tree.

::

    SyncerError                     .side is SOURCE, TARGET or None; .retryable; .hint says what to do
    ├── SpecError                   file, line, column, path "sync[2].tags", what was expected
    ├── UsageError                  the command line asks for something that cannot be
    ├── InvalidReference            a reference, repository name or tag that breaks the grammar
    │   └── InvalidDigest
    ├── ContentError
    │   ├── DigestMismatch          bytes do not hash to their digest
    │   ├── SizeMismatch            fewer or more bytes than the descriptor says
    │   ├── NotFound                no such manifest, blob, tag or repository
    │   ├── MalformedManifest       not JSON, ambiguous, or not what its media type says
    │   ├── UnsupportedMediaType    known, and known not to be copyable (Docker schema 1)
    │   └── SizeExceedsLimit        a document or graph over its bound
    ├── CredentialsError            a credential file or helper could not be used
    ├── RegistryError               registry, method, redacted URL
    │   ├── TransportError                                                      (retryable)
    │   │   ├── Timeout
    │   │   └── ConnectionFailed
    │   ├── CertificateError        TLS verification failed: never retried
    │   │   └── CertificateFileError  a certificate or key that is named cannot be used
    │   ├── StatusError             status and the specification's error codes
    │   │   ├── Unauthorized
    │   │   ├── Denied
    │   │   ├── RateLimited         retry_after, in seconds                     (retryable)
    │   │   ├── RangeRejected       offset, in bytes
    │   │   ├── ServerFailure       5xx and the other passing answers           (retryable)
    │   │   ├── QuotaExceeded       the registry is out of space or quota
    │   │   ├── ImmutableTag        the target refuses to move a tag
    │   │   └── Unsupported         405, 501: the registry does not offer this
    │   ├── RateLimitReached        the registry's allowance is used up for now; resumable
    │   └── ProtocolViolation       the registry broke the specification
    │       └── UnsafeAddress       it leads to an address where it must not lead
    ├── PolicyViolation             the spec or a policy forbids the action
    ├── LayoutError                 bad index.json, missing blob, wrong version
    │   └── StorageFull             no space left where a layout or the state lives
    ├── StateError                  the state file cannot be used
    │   ├── StateFailed             it is damaged, or its disk fails
    │   ├── StateLocked             another process holds it
    │   └── SchemaTooNew            written by a newer Syncer
    └── Interrupted                 stopped by signal, deadline or rate limit; resumable

The docstring of a class is its default message. Message and hint can always be encoded and shown:
what a registry slipped into them is escaped (see :func:`printable`), and what it made too long is cut.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import ClassVar

#: Characters of a message and of a hint. The longest that somebody reads are the twenty problems of a spec; what is
#: longer quotes a document of somebody else's, which may have megabytes.
LONGEST_MESSAGE = 16_000
LONGEST_HINT = 4000
#: This process, or the machine, may open no more files.
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})
#: What to do then.
OUT_OF_FILES_HINT = (
    "Raise the limit on open files ('ulimit -n', or LimitNOFILE= of a systemd unit), or let less be asked at once by "
    "'limits: {connections: N}' of a registry."
)
#: What to do about a manifest that a registry acknowledges and cannot read.
NOT_GIVEN_BACK_HINT = (
    "The registry has acknowledged this manifest and does not give it back. Its disk may have been full when it was "
    "first written: remove what its storage has under this digest, and run again with --recheck."
)


class Side(StrEnum):
    """Which side of a copy an error belongs to."""

    SOURCE = "source"
    TARGET = "target"


def printable(text: str) -> str:
    """Return ``text`` with every character escaped that cannot be encoded or would steer a terminal.

    Headers and documents of registries bring lone surrogates (bytes that are no UTF-8), control and
    formatting characters. Line breaks stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character == "\n" or character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _bounded(text: str, most: int) -> str:
    # Cut first, lest megabytes be escaped, and again: one character may become ten.
    shown = printable(text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


class SyncerError(Exception):
    """Something went wrong."""

    retryable: ClassVar[bool] = False
    #: True when nothing failed: what is left is for another run, at the registry's wish.
    is_deferral: ClassVar[bool] = False

    def __init__(self, message: str = "", *, hint: str = "", side: Side | None = None) -> None:
        """Keep ``message`` (what happened), ``hint`` (what to do) and ``side`` (of a copy)."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        self.side = side
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """What happened, as :func:`printable` text of bounded length."""
        return self._message

    @message.setter
    def message(self, text: str) -> None:
        self._message = _bounded(text, LONGEST_MESSAGE)

    @property
    def hint(self) -> str:
        """What to do, as :func:`printable` text of bounded length; empty where nobody knows."""
        return self._hint

    @hint.setter
    def hint(self, text: str) -> None:
        self._hint = _bounded(text, LONGEST_HINT)

    def paragraph(self) -> str:
        """Return the message and the hint as one paragraph for a person."""
        text = self.message.rstrip()
        if text and text[-1] not in ".!?":
            text += "."
        return f"{text} {self.hint}".strip() if self.hint else text


class SpecError(SyncerError):
    """The spec is not valid."""

    def __init__(
        self,
        message: str = "",
        *,
        file: str = "",
        line: int | None = None,
        column: int | None = None,
        path: str = "",
        hint: str = "",
    ) -> None:
        """Place ``message`` at ``file:line:column`` (both from 1) and at the key ``path``."""
        self.file = file
        self.line = line
        self.column = column
        self.path = path
        self.detail = _bounded(message, LONGEST_MESSAGE)
        place = ":".join(str(part) for part in (file, line, column) if part not in ("", None))
        super().__init__(": ".join(part for part in (place, path, message) if part), hint=hint)


class UsageError(SyncerError):
    """The command line asks for something that cannot be done."""


class InvalidReference(SyncerError):
    """The reference does not follow the grammar."""


class InvalidDigest(InvalidReference):
    """The digest does not follow the grammar."""


class ContentError(SyncerError):
    """The content is not what it should be."""


class DigestMismatch(ContentError):
    """The bytes do not hash to their digest."""


class SizeMismatch(ContentError):
    """There are fewer or more bytes than the descriptor says."""


class NotFound(ContentError):
    """There is no such manifest, blob, tag or repository."""

    #: The digests that a manifest needs and its repository lacks, when a push was refused for that.
    missing: tuple[str, ...] = ()
    #: The distribution-spec error codes of a registry's answer.
    codes: tuple[str, ...] = ()


class MalformedManifest(ContentError):
    """The manifest is not what its media type says."""


class UnsupportedMediaType(ContentError):
    """This kind of manifest cannot be copied."""


class SizeExceedsLimit(ContentError):
    """A document or a manifest graph is over its bound."""


class CredentialsError(SyncerError):
    """The credentials could not be read."""


class RegistryError(SyncerError):
    """The registry could not do what was asked."""

    #: How often it was tried, once that has been given up.
    attempts: int = 0

    def __init__(
        self,
        message: str = "",
        *,
        registry: str = "",
        method: str = "",
        url: str = "",
        hint: str = "",
        side: Side | None = None,
    ) -> None:
        """Keep the ``registry`` asked, the ``method`` and the redacted ``url`` of the request."""
        self.registry = registry
        self.method = method
        self.url = url
        super().__init__(message, hint=hint, side=side)


class TransportError(RegistryError):
    """The connection failed."""

    retryable = True


class Timeout(TransportError):
    """The registry did not answer in time."""


class ConnectionFailed(TransportError):
    """The registry could not be reached."""

    #: True when there is nobody and there was nobody before: the connection is refused, or the name does not exist.
    is_absent: bool = False
    #: True when that is because the name does not exist.
    is_nameless: bool = False


class CertificateError(RegistryError):
    """The registry's certificate is not trusted."""


class CertificateFileError(CertificateError):
    """A certificate or key that is named cannot be used."""


class StatusError(RegistryError):
    """The registry answered with an error."""

    def __init__(
        self,
        message: str = "",
        *,
        status: int,
        codes: tuple[str, ...] = (),
        registry: str = "",
        method: str = "",
        url: str = "",
        hint: str = "",
        side: Side | None = None,
    ) -> None:
        """Keep the HTTP ``status`` and the distribution-spec error ``codes`` of the body."""
        self.status = status
        self.codes = codes
        super().__init__(message, registry=registry, method=method, url=url, hint=hint, side=side)


class Unauthorized(StatusError):
    """The registry does not accept the credentials."""


class Denied(StatusError):
    """The registry does not allow this."""


class RateLimited(StatusError):
    """The registry asks to slow down."""

    retryable = True
    is_deferral = True
    retry_after: float | None = None


class RangeRejected(StatusError):
    """The registry refused the offset."""

    offset: int | None = None


class ServerFailure(StatusError):
    """The registry failed; asking again may help."""

    retryable = True


class QuotaExceeded(StatusError):
    """The registry is out of space or quota."""


class ImmutableTag(StatusError):
    """The registry does not let this tag move."""


class Unsupported(StatusError):
    """The registry does not offer this."""


class ProtocolViolation(RegistryError):
    """The registry broke the distribution specification."""


class UnsafeAddress(ProtocolViolation):
    """The registry leads to an address where it must not lead."""


class RateLimitReached(RegistryError):
    """The registry's allowance of requests is used up for now."""

    is_deferral = True
    #: Seconds until there is a new one, where the registry says so.
    resets_in: float | None = None


class PolicyViolation(SyncerError):
    """A policy forbids this."""


class LayoutError(SyncerError):
    """The OCI image layout cannot be used."""


class StorageFull(LayoutError):
    """No space is left on the device."""


class StateError(SyncerError):
    """The state file cannot be used."""


class StateFailed(StateError):
    """The state file cannot be read or written any more."""


class StateLocked(StateError):
    """Another process is using the state file."""


class SchemaTooNew(StateError):
    """The state file was written by a newer version of Syncer."""


class Interrupted(SyncerError):
    """Stopped before the end; nothing is lost."""
