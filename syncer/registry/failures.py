"""What a registry's error answer means, as one of Syncer's errors.

The status decides; the codes of the distribution-spec refine it where they are sent. A body may be
anything (a proxy's HTML, nothing at all), so it is read with a bound and believed in little.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from syncer.errors import (
    Denied,
    ImmutableTag,
    InvalidDigest,
    NotFound,
    ProtocolViolation,
    QuotaExceeded,
    RangeRejected,
    RateLimited,
    ServerFailure,
    StatusError,
    SyncerError,
    Unauthorized,
    Unsupported,
)
from syncer.oci.digest import Digest
from syncer.registry.hosts import creation_hint
from syncer.registry.network.translation import WANTS_TLS
from syncer.registry.traffic.retry import PASSING_STATUSES, TOO_MANY_REQUESTS, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes of an error body that are looked at.
ERROR_BODY_LIMIT = 64 * 1024
_GZIP = b"\x1f\x8b"
_MOST_ERRORS = 200
_LONGEST_TEXT = 300
_QUOTA = re.compile(r"quota|storage limit|out of (?:space|storage)|no space left|insufficient storage", re.IGNORECASE)
#: What docker-registry says with a 500: the disk below it is full.
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
#: Errors of a registry's own file system, by their number on Linux, in the words of strerror(3).
_OF_DISK = {
    5: "input/output error",
    13: "permission denied",
    28: "no space left on device",
    30: "read-only file system",
    122: "disk quota exceeded",
}
_IMMUTABLE = re.compile(r"immutab|cannot be overwritten|tag.{0,80}already exists", re.IGNORECASE)
_UNKNOWN_BLOB = re.compile(r"unknown blob|blob unknown|blob not found|missing blob", re.IGNORECASE)
#: What Go's and nginx's servers say on a TLS port.
_WANTS_TLS = re.compile(r"HTTP request (?:was sent )?to (?:an )?HTTPS", re.IGNORECASE)

#: What stands in an Authorization header (but not a word after "Basic" or "Bearer"), and JSON web tokens.
_CREDENTIALS = re.compile(
    r"(?<=\bbasic )(?:[A-Za-z0-9+/_.~-]{16,}=*|(?=[A-Za-z+/]*[0-9=])[A-Za-z0-9+/]{4,}=*)"
    r"|(?<=\bbearer )(?:[A-Za-z0-9+/_.~-]{16,}=*|(?=[A-Za-z+/_.~-]*[0-9=])[A-Za-z0-9+/_.~-]{4,}=*)"
    r"|\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]+)+",
    re.IGNORECASE,
)

_POLICY = (Denied, "A policy of the registry forbids it.")
_ABSENT = (Unsupported, "This registry does not offer it, or it is switched off.")
_KINDS: dict[int, tuple[type[StatusError], str]] = {
    401: (Unauthorized, "Check the credentials of this registry."),
    403: (Denied, "The credentials are known but do not allow this; ask for the right on the repository."),
    405: _ABSENT,
    406: _ABSENT,
    412: _POLICY,
    413: (StatusError, "The registry, or a proxy before it, refuses bodies of this size."),
    416: (RangeRejected, ""),
    451: _POLICY,
    501: _ABSENT,
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ErrorBody:
    """What was understood of an error body."""

    codes: tuple[str, ...] = ()
    text: str = ""
    digests: tuple[Digest, ...] = ()


def parse_error_body(body: bytes) -> ErrorBody:
    """Read ``{"errors": [{code, message, detail}]}``, or keep the first printable words of anything else."""
    if body.startswith(_GZIP):
        body = _unpacked(body)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return ErrorBody(text=_plain(document, body))
    codes: list[str] = []
    texts: list[str] = []
    digests: list[Digest] = []
    for error in errors[:_MOST_ERRORS]:
        if not isinstance(error, dict):
            continue
        code = error.get("code")
        if isinstance(code, str) and code:
            codes.append(_shown(code, 64))
        message = _shown(error.get("message"))
        detail = _shown(error.get("detail")) or _of_disk(error.get("detail"))
        texts.append(f"{message} ({detail})" if message and detail else message or detail)
        if (digest := _digest(error.get("detail"))) is not None:
            digests.append(digest)
    text = "; ".join(dict.fromkeys(text for text in texts if text))
    return ErrorBody(
        codes=tuple(dict.fromkeys(codes)), text=text[:_LONGEST_TEXT], digests=tuple(dict.fromkeys(digests))
    )


def _of_disk(detail: Any) -> str:
    """Return what ailed the file system of a docker-registry, whose detail is the error of its storage driver."""
    enclosed = detail.get("Enclosed") if isinstance(detail, dict) else None
    number = enclosed.get("Err") if isinstance(enclosed, dict) else None
    return _OF_DISK.get(number, "") if isinstance(number, int) else ""


def _unpacked(body: bytes) -> bytes:
    """Return what a proxy has compressed although nobody asked it to, up to the bound of any error body."""
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(body, ERROR_BODY_LIMIT)
    except zlib.error:
        return b""


def _plain(document: Any, body: bytes) -> str:
    if isinstance(document, dict):
        for key in ("message", "error_description", "details", "error"):
            if isinstance(document.get(key), str):
                return _shown(document[key])
    if body.lstrip()[:1] == b"<":
        # A page of HTML tells nothing that its status does not; its title might.
        title = re.search(rb"<title>([^<]{1,200})</title>", body[:4096], re.IGNORECASE)
        return _shown(title[1].decode(errors="replace")) if title else ""
    return _shown(body[:200].decode(errors="replace"))


def _digest(detail: Any) -> Digest | None:
    value = detail.get("digest") if isinstance(detail, dict) else detail
    try:
        return Digest(value) if isinstance(value, str) else None
    except InvalidDigest:
        return None


def without_credentials(text: str) -> str:
    """Return ``text`` without what looks like the credentials of the request: some services repeat them."""
    return _CREDENTIALS.sub("…", text)


def _shown(text: Any, length: int = 200) -> str:
    if not isinstance(text, str):
        return ""
    text = without_credentials(text[: length * 2])
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:length]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answer:
    """An answer that is not the one expected, and to what.

    Attributes:
        asked: what the request was about, for people: ``registry/repository:tag``.
        repository: the ``registry/repository`` asked; empty when none was.
        wanted: the statuses that would have been right.
        now: seconds since the epoch, for Retry-After dates.
    """

    registry: str
    method: str
    url: str
    asked: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    wanted: frozenset[int]
    now: float
    repository: str = ""


def failure(answer: Answer) -> SyncerError:
    """Return the error that ``answer`` is."""
    parsed = parse_error_body(answer.body)
    status = answer.status
    if status < 400:  # noqa: PLR2004 - the first status that is an error (RFC 9110)
        return ProtocolViolation(
            f"{answer.registry} answered {status} to {answer.method} for {answer.asked}, "
            f"where {' or '.join(map(str, sorted(answer.wanted)))} is expected",
            registry=answer.registry,
            method=answer.method,
            url=answer.url,
            hint="Something that is not a registry may be answering: a proxy, or a log-in page.",
        )
    absent = _missing(answer, parsed) or _not_found(answer, parsed)
    if absent is not None:
        absent.codes = parsed.codes
        return absent
    kind, hint = _kind(status, parsed)
    if status == 400 and answer.url.startswith("http:") and _WANTS_TLS.search(parsed.text):  # noqa: PLR2004 - Bad Request
        hint = WANTS_TLS
    said = ", ".join(part for part in (" ".join(parsed.codes), parsed.text) if part)
    error = kind(
        f"{answer.registry} answered {status} to {answer.method} for {answer.asked}" + (f": {said}" if said else ""),
        status=status,
        codes=parsed.codes,
        registry=answer.registry,
        method=answer.method,
        url=answer.url,
        hint=hint,
    )
    if isinstance(error, RateLimited):
        error.retry_after = retry_after(answer.headers, answer.now)
    elif status == 503 and "Retry-After" in answer.headers:  # noqa: PLR2004 - Service Unavailable, see below
        return _throttled(error, answer)
    return error


def _throttled(error: StatusError, answer: Answer) -> RateLimited:
    """503 with Retry-After is what 429 is: a wish to be left alone for a while."""
    limited = RateLimited(
        error.message,
        status=error.status,
        codes=error.codes,
        registry=error.registry,
        method=error.method,
        url=error.url,
        hint=error.hint,
    )
    limited.retry_after = retry_after(answer.headers, answer.now)
    return limited


def _missing(answer: Answer, parsed: ErrorBody) -> NotFound | None:
    """Return NotFound for the refusal of a manifest whose content is not there."""
    if answer.method != "PUT":
        return None
    # docker-registry says 500 when the code comes with others: a definite answer all the same.
    named = answer.status in (400, 404, 422, 500) and "MANIFEST_BLOB_UNKNOWN" in parsed.codes
    # zot and Quay say MANIFEST_INVALID, and name the blob in words.
    in_words = "MANIFEST_INVALID" in parsed.codes and _UNKNOWN_BLOB.search(parsed.text)
    if not named and not (answer.status in (400, 404) and ("BLOB_UNKNOWN" in parsed.codes or in_words)):
        return None
    listed = ", ".join(parsed.digests[:3]) or parsed.text or "blobs"
    error = NotFound(
        f"{answer.registry} misses content that {answer.asked} links to: {listed}",
        hint="It was removed from the registry meanwhile; run again to copy it anew.",
    )
    error.missing = parsed.digests
    return error


def _not_found(answer: Answer, parsed: ErrorBody) -> NotFound | None:
    """Return NotFound for a 404, saying what there is not where the code tells."""
    if answer.status != 404:  # noqa: PLR2004 - Not Found
        return None
    # Who opens an upload has asked for nothing but the repository (Harbor: NOT_FOUND, its project).
    is_about_name = answer.method == "POST" and not any("BLOB" in code for code in parsed.codes)
    is_write = answer.method in ("POST", "PUT", "PATCH")
    if answer.repository and is_write and (is_about_name or "NAME_UNKNOWN" in parsed.codes):
        said = f": {parsed.text}" if parsed.text else ""
        name = answer.repository.removeprefix(f"{answer.registry}/")
        return NotFound(
            f"{answer.registry} has no repository for {answer.asked}{said}", hint=creation_hint(answer.registry, name)
        )
    if "NAME_UNKNOWN" in parsed.codes and answer.repository:
        return NotFound(f"the repository {answer.repository} does not exist", hint="Check the name of the repository.")
    # registry/repository:tag or registry/repository@digest; anything else is not about one of them.
    is_about_it = answer.repository and answer.method in ("GET", "HEAD", "DELETE")
    rest = answer.asked.removeprefix(answer.repository) if is_about_it else ""
    if "MANIFEST_UNKNOWN" in parsed.codes and rest.startswith(":"):
        hint = f"'syncer list-tags {answer.repository}' lists those it has."
        return NotFound(f"{answer.repository} has no tag {rest[1:]}", hint=hint)
    kind = "blob" if "BLOB_UNKNOWN" in parsed.codes else "manifest" if "MANIFEST_UNKNOWN" in parsed.codes else ""
    if kind and rest.startswith("@"):
        hint = "Check the digest, or whether it was deleted meanwhile."
        return NotFound(f"{answer.repository} has no {kind} {rest[1:]}", hint=hint)
    said = f": {parsed.text}" if parsed.text and not parsed.codes else ""
    return NotFound(f"{answer.asked} was not found{said}", hint="Check the name, or whether it was deleted meanwhile.")


def _kind(status: int, parsed: ErrorBody) -> tuple[type[StatusError], str]:
    """Choose the class of error for a status, and what to advise."""
    immutable = "TAG_INVALID" in parsed.codes or "TAGIMMUTABLE" in "".join(parsed.codes).upper()
    if status in (400, 403, 409, 412) and (_IMMUTABLE.search(parsed.text) or (immutable and status != 403)):  # noqa: PLR2004 - Forbidden
        return ImmutableTag, "The registry keeps this tag as it is; list it under 'immutable', or lift the rule there."
    said_full = _FULL if status == 500 else _QUOTA if status in (400, 403, 413) else None  # noqa: PLR2004 - Internal Server Error
    if status in (402, 507) or (said_full is not None and said_full.search(parsed.text)):
        return QuotaExceeded, "Free space in the registry, or raise its quota."
    if status == TOO_MANY_REQUESTS or "TOOMANYREQUESTS" in parsed.codes:
        return RateLimited, "Lower 'limits' for this registry, or try later."
    if status in _KINDS:
        return _KINDS[status]
    if status in PASSING_STATUSES or status > 500:  # noqa: PLR2004 - 501 is decided above
        return ServerFailure, "The log of the registry, or of the proxy before it, tells why."
    return StatusError, ""
