"""How errors look on the wire: distribution-spec "Error Codes"."""

from __future__ import annotations

import errno
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aiohttp import web

from syncer.errors import (
    OUT_OF_FILES,
    DigestMismatch,
    InvalidDigest,
    InvalidReference,
    MalformedManifest,
    SizeExceedsLimit,
    SizeMismatch,
    StatusError,
    StorageFull,
    SyncerError,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ErrorCode(StrEnum):
    """The codes of the specification, and three that registries have in common."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    PAGINATION_NUMBER_INVALID = "PAGINATION_NUMBER_INVALID"
    RANGE_INVALID = "RANGE_INVALID"
    UNKNOWN = "UNKNOWN"


#: Order matters: the first class that fits decides.
_TRANSLATION: tuple[tuple[type[SyncerError], int, ErrorCode], ...] = (
    (InvalidDigest, 400, ErrorCode.DIGEST_INVALID),
    (InvalidReference, 400, ErrorCode.NAME_INVALID),
    (DigestMismatch, 400, ErrorCode.DIGEST_INVALID),
    (SizeMismatch, 400, ErrorCode.SIZE_INVALID),
    (SizeExceedsLimit, 413, ErrorCode.SIZE_INVALID),
    (MalformedManifest, 400, ErrorCode.MANIFEST_INVALID),
    (UnsupportedMediaType, 400, ErrorCode.MANIFEST_INVALID),
)


def error_response(
    status: int,
    code: ErrorCode,
    message: str,
    *,
    detail: Any = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return an error answer with one entry."""
    entry: dict[str, Any] = {"code": code, "message": message}
    if detail is not None:
        entry["detail"] = detail
    return errors_response(status, [entry], headers=headers)


def errors_response(
    status: int, entries: Sequence[Mapping[str, Any]], *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error answer with several entries, each ``{"code", "message"[, "detail"]}``."""
    body = json.dumps({"errors": entries}, separators=(",", ":")).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def refusal(error: SyncerError | OSError, *, headers: Mapping[str, str] | None = None) -> web.Response | None:
    """Return the answer that stands for ``error``, or None when it is our failure and not the client's."""
    if isinstance(error, StorageFull) or (isinstance(error, OSError) and error.errno in _NO_SPACE):
        # In our own words: the error names a directory of this machine.
        return error_response(507, ErrorCode.DENIED, "no space is left on the registry's device", headers=headers)
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno in OUT_OF_FILES:
        message = "the registry has as many files open as it may; try again"
        return error_response(503, ErrorCode.UNKNOWN, message, headers={**(headers or {}), "Retry-After": "1"})
    if isinstance(error, OSError):
        return None
    if isinstance(error, StatusError):
        code = ErrorCode(error.codes[0]) if error.codes else ErrorCode.UNKNOWN
        return error_response(error.status, code, error.message, headers=headers)
    for kind, status, code in _TRANSLATION:
        if isinstance(error, kind):
            return error_response(status, code, error.message, headers=headers)
    return None
