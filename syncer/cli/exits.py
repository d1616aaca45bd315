"""Exit codes: what a script learns without reading a word."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from syncer import errors
from syncer.events import RunStatus

if TYPE_CHECKING:
    from syncer.errors import SyncerError
    from syncer.telemetry.report import Report


class ExitCode(IntEnum):
    """The codes of ARCHITECTURE section 5; 6 and 7 belong to the bundle commands."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CHANGES_DUE = 3
    VERIFICATION = 4
    BLOCKED = 5
    AUTHENTICATION = 8
    NO_SPACE = 9
    STOPPED = 75


#: The code of every class of errors.py; a test holds that none is missing.
CODES: dict[type[SyncerError], ExitCode] = {
    errors.SyncerError: ExitCode.FAILED,
    errors.SpecError: ExitCode.USAGE,
    errors.UsageError: ExitCode.USAGE,
    errors.InvalidReference: ExitCode.USAGE,
    errors.InvalidDigest: ExitCode.USAGE,
    errors.ContentError: ExitCode.FAILED,
    errors.DigestMismatch: ExitCode.VERIFICATION,
    errors.SizeMismatch: ExitCode.VERIFICATION,
    errors.NotFound: ExitCode.FAILED,
    errors.MalformedManifest: ExitCode.FAILED,
    errors.UnsupportedMediaType: ExitCode.FAILED,
    errors.SizeExceedsLimit: ExitCode.FAILED,
    errors.CredentialsError: ExitCode.AUTHENTICATION,
    errors.RegistryError: ExitCode.FAILED,
    errors.TransportError: ExitCode.FAILED,
    errors.Timeout: ExitCode.FAILED,
    errors.ConnectionFailed: ExitCode.FAILED,
    errors.CertificateError: ExitCode.FAILED,
    # Nothing was requested: the command line or the spec names a file that is no good.
    errors.CertificateFileError: ExitCode.USAGE,
    errors.StatusError: ExitCode.FAILED,
    errors.Unauthorized: ExitCode.AUTHENTICATION,
    errors.Denied: ExitCode.AUTHENTICATION,
    # "Stopped by … rate limit; resumable": the one passing answer that has a code of its own.
    errors.RateLimited: ExitCode.STOPPED,
    errors.RangeRejected: ExitCode.FAILED,
    errors.ServerFailure: ExitCode.FAILED,
    errors.QuotaExceeded: ExitCode.NO_SPACE,
    errors.ImmutableTag: ExitCode.BLOCKED,
    errors.Unsupported: ExitCode.FAILED,
    errors.RateLimitReached: ExitCode.STOPPED,
    errors.ProtocolViolation: ExitCode.FAILED,
    errors.UnsafeAddress: ExitCode.FAILED,
    errors.PolicyViolation: ExitCode.BLOCKED,
    errors.LayoutError: ExitCode.FAILED,
    errors.StorageFull: ExitCode.NO_SPACE,
    errors.StateError: ExitCode.USAGE,
    # Not what the spec says, but what became of the file, and perhaps in the middle of a run.
    errors.StateFailed: ExitCode.FAILED,
    errors.StateLocked: ExitCode.STOPPED,
    errors.SchemaTooNew: ExitCode.USAGE,
    errors.Interrupted: ExitCode.STOPPED,
}

#: Codes that a whole run gets when everything that failed in it failed for that reason.
_SPECIFIC = frozenset(
    {ExitCode.VERIFICATION, ExitCode.BLOCKED, ExitCode.AUTHENTICATION, ExitCode.NO_SPACE, ExitCode.STOPPED}
)


def code_of(error: SyncerError) -> ExitCode:
    """Return the code for a command that ended with ``error``; a subclass without a code has its parent's."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def code_of_report(report: Report) -> ExitCode:
    """Return the code of a run: that of its failures where they share a specific one, else 1."""
    if report.status is RunStatus.INTERRUPTED:
        return ExitCode.STOPPED
    if not report.failures:
        return ExitCode.FAILED if report.status is RunStatus.FAILED else ExitCode.DONE
    by_name = {kind.__name__: code for kind, code in CODES.items()}
    codes = {by_name.get(failure.error, ExitCode.FAILED) for failure in report.failures}
    if report.deferrals:
        codes.add(ExitCode.STOPPED)
    return codes.pop() if len(codes) == 1 and codes <= _SPECIFIC else ExitCode.FAILED
