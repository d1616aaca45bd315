"""What can go wrong with one HTTP exchange: the catalogue (reference section 6.2).

Each is a :class:`~tests.support.faults.injection.Fault`, or a function that makes one.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import socket
from dataclasses import replace
from email.utils import formatdate
from struct import pack
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, urlencode

import anyio
from aiohttp import web
from yarl import URL

from tests.support import images
from tests.support.faults.injection import Fault
from tests.support.personalities.history import Step, What, nobodys_doing
from tests.support.personalities.registry import Personality

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.faults.injection import Struck

#: Steps whose request has a body, whose answer has one, and that bring a blob.
SENDING = frozenset({Step.PATCH, Step.PUT, Step.MANIFEST_PUT_DIGEST, Step.MANIFEST_PUT_TAG})
BLOBS = frozenset({Step.BLOB_GET, Step.STORAGE})
READING = BLOBS | {Step.TOKEN, Step.CATALOG, Step.TAGS, Step.MANIFEST_GET, Step.REFERRERS}
WRITING = SENDING | {Step.POST, Step.MOUNT, Step.ABORT}
OPENING = frozenset({Step.POST, Step.MOUNT})
MANIFEST_PUTS = frozenset({Step.MANIFEST_PUT_DIGEST, Step.MANIFEST_PUT_TAG})
IN_SESSION = frozenset({Step.PATCH, Step.PUT, Step.STATUS})
_DATE = 1_800_000_000

# ---------------------------------------------------------------------- lost connections


def _abort(struck: Struck) -> None:
    """Reset the connection: whoever is on the other side gets ECONNRESET, and not an orderly end."""
    struck.exchange.is_delivered = False
    if (transport := struck.request.transport) is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        transport.abort()


def _close(struck: Struck) -> None:
    """End the connection after what was written to it."""
    struck.exchange.is_delivered = False
    if struck.request.transport is not None:
        struck.request.transport.close()


async def _at_once(struck: Struck) -> None:
    _abort(struck)


async def _eof_at_once(struck: Struck) -> None:
    await struck.request.content.read()
    _close(struck)


async def _within_request(struck: Struck) -> None:
    length = int(struck.request.headers.get("Content-Length") or 0)
    taken = 0
    while taken < length // 2 and (part := await struck.request.content.read(length // 2 - taken)):
        taken += len(part)
    _abort(struck)


async def _before_answer(struck: Struck) -> None:
    await struck.request.content.read()
    _abort(struck)


async def _lost(struck: Struck) -> None:
    struck.was_answered(await struck.answer(), is_delivered=False)
    _abort(struck)


async def _within_headers(struck: Struck) -> None:
    response = await struck.answer()
    struck.was_answered(response, is_delivered=False)
    if struck.request.transport is not None:
        struck.request.transport.write(f"HTTP/1.1 {response.status} OK\r\nContent-Le".encode())
        await asyncio.sleep(0)
    _close(struck)


def _within_body(end: Callable[[Struck], None]) -> Callable[[Struck], Awaitable[None]]:
    async def act(struck: Struck) -> None:
        response = await struck.answer()
        struck.was_answered(response, is_delivered=False)
        body = _body(response)
        await _send(struck, response, body[: len(body) // 2], length=len(body))
        await asyncio.sleep(0)
        end(struck)

    return act


RESET_AT_ONCE = Fault("reset at once", _at_once)
EOF_BEFORE_HEADERS = Fault("EOF before headers", _eof_at_once)
RESET_WITHIN_REQUEST = Fault("reset within the request", _within_request, SENDING)
RESET_BEFORE_ANSWER = Fault("reset before the answer", _before_answer)
#: It was done, and nobody heard of it.
LOST_ANSWER = Fault("lost answer", _lost)
CUT_HEADERS = Fault("cut within headers", _within_headers)
CUT_BODY = Fault("EOF within body", _within_body(_close), READING)
RESET_BODY = Fault("reset within body", _within_body(_abort), READING)
LOST_CONNECTIONS = (
    RESET_AT_ONCE,
    EOF_BEFORE_HEADERS,
    RESET_WITHIN_REQUEST,
    RESET_BEFORE_ANSWER,
    LOST_ANSWER,
    CUT_HEADERS,
    CUT_BODY,
    RESET_BODY,
)

# ---------------------------------------------------------------------- answers of another status


def answering(
    name: str,
    status: int,
    body: bytes = b"",
    *,
    steps: frozenset[Step] = frozenset(Step),
    is_done: bool = False,
    **headers: str,
) -> Fault:
    """Return a fault that answers ``status``; ``is_done`` when the site does what was asked all the same.

    Underscores in the names of headers stand for hyphens.
    """
    shown = {key.replace("_", "-"): text for key, text in headers.items()}

    async def act(struck: Struck) -> web.StreamResponse:
        if is_done:
            await struck.answer()
        else:
            await struck.request.content.read()
        return web.Response(status=status, body=b"" if struck.request.method == "HEAD" else body, headers=shown)

    return Fault(name, act, steps)


def _error(code: str) -> bytes:
    return f'{{"errors":[{{"code":"{code}","message":"injected"}}]}}'.encode()


def throttled(name: str, **headers: str) -> Fault:
    """Return a 429."""
    return answering(name, 429, _error("TOOMANYREQUESTS"), steps=frozenset(Step), is_done=False, **headers)


def _dated(seconds: int) -> dict[str, str]:
    """Return a Retry-After that is a date, and the Date that it is relative to."""
    return {"Retry_After": formatdate(_DATE + seconds, usegmt=True), "Date": formatdate(_DATE, usegmt=True)}


TOO_MANY_SECONDS = throttled("429, 7 seconds", Retry_After="7")
TOO_MANY_DATE = throttled(
    "429, a date", Retry_After=formatdate(_DATE + 9, usegmt=True), Date=formatdate(_DATE, usegmt=True)
)
TOO_MANY_PAST = throttled(
    "429, a past date", Retry_After=formatdate(_DATE - 9, usegmt=True), Date=formatdate(_DATE, usegmt=True)
)
TOO_MANY_BARE = throttled("429, no Retry-After")
TOO_MANY_NEGATIVE = throttled("429, negative", Retry_After="-5")
TOO_MANY_ZERO = throttled("429, zero", Retry_After="0")
TOO_MANY_ABSURD = throttled("429, 10^9 seconds", Retry_After="1000000000")
TOO_MANY_NONSENSE = throttled("429, nonsense", Retry_After="in a while")
#: Longer than anybody waits: what is left is for another run.
TOO_MANY_HOURS = throttled("429, two hours", Retry_After="7200")
UNAVAILABLE_SECONDS = answering("503, 7 seconds", 503, _error("UNAVAILABLE"), Retry_After="7")
THROTTLING = (
    TOO_MANY_SECONDS,
    TOO_MANY_DATE,
    TOO_MANY_PAST,
    TOO_MANY_BARE,
    TOO_MANY_NEGATIVE,
    TOO_MANY_ZERO,
    TOO_MANY_ABSURD,
    TOO_MANY_NONSENSE,
    UNAVAILABLE_SECONDS,
)

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
INTERNAL = answering("500", 500, _error("UNKNOWN"))
BAD_GATEWAY = answering("502, HTML", 502, PAGE, Content_Type="text/html")
UNAVAILABLE = answering("503", 503)
GATEWAY_TIMEOUT = answering("504", 504)
REQUEST_TIMEOUT = answering("408", 408)
CLOUDFLARE = answering("520", 520, PAGE, Content_Type="text/html")
MISSING_PAGE = answering("404, HTML", 404, PAGE, Content_Type="text/html")
TOO_LARGE = answering("413, HTML", 413, PAGE, Content_Type="text/html")
NOT_ALLOWED = answering("405", 405)
#: The site has done it, and something in front of it says that it failed.
DONE_BUT_FAILED = answering("500 after it was done", 500, is_done=True, steps=WRITING)
GZIPPED_ERROR = answering(
    "503, gzip'ed", 503, gzip.compress(_error("UNAVAILABLE")), Content_Encoding="gzip", Content_Type="application/json"
)
GARBLED_ERROR = answering("503, not UTF-8", 503, b"\xff\xfe\x00\x80{" * 20, Content_Type="application/json")
PASSING = (
    INTERNAL,
    BAD_GATEWAY,
    UNAVAILABLE,
    GATEWAY_TIMEOUT,
    REQUEST_TIMEOUT,
    CLOUDFLARE,
    DONE_BUT_FAILED,
    GZIPPED_ERROR,
    GARBLED_ERROR,
)


async def _huge_error(struck: Struck) -> web.StreamResponse | None:
    """A body of 100 MB: whoever reads it all takes 100 MB."""
    await struck.request.content.read()
    response = web.StreamResponse(status=503, headers={"Content-Length": str(_HUGE)})
    if struck.request.method == "HEAD":
        return response
    await response.prepare(struck.request)
    struck.was_answered(response)
    for _ in range(_HUGE // len(_PIECE)):
        await response.write(_PIECE)
    return response


_PIECE = b"x" * 65_536
_HUGE = 1600 * len(_PIECE)
HUGE_ERROR = Fault("503, 100 MB", _huge_error)

# ---------------------------------------------------------------------- tokens


async def _revoked(struck: Struck) -> web.StreamResponse:
    """Every token is taken back, and the site finds that out."""
    for site in struck.internet.sites.values():
        tokens = getattr(site, "tokens", None)
        if tokens is not None and getattr(site, "host", "") == struck.exchange.site:
            tokens.revoke()
    return await struck.answer()


_API = frozenset(Step) - {Step.TOKEN, Step.STORAGE}
EXPIRED = Fault("401 in mid-run", _revoked, _API)


async def _refused(struck: Struck) -> web.StreamResponse:
    """Whatever is shown is not enough; the challenge is the site's own."""
    await struck.request.content.read()
    registry = _registry(struck)
    action = "pull" if struck.request.method in ("GET", "HEAD") else "pull,push"
    scope = f"repository:{struck.exchange.repository}:{action}"
    realm = registry.tokens.realm if registry.tokens else ""
    challenge = f'Bearer realm="{realm}",service="{registry.host}",scope="{scope}",error="invalid_token"'
    return web.Response(status=401, body=_error("UNAUTHORIZED"), headers={"WWW-Authenticate": challenge})


REFUSED = Fault("401", _refused, _API)
DENIED = answering("403", 403, _error("DENIED"), steps=_API)


def token(name: str, **members: object) -> Fault:
    """Return a fault that changes the members of a token's answer; None takes one out."""

    async def act(struck: Struck) -> web.StreamResponse:
        response = await struck.answer()
        document = {**_json(response), **members}
        kept = {key: value for key, value in document.items() if value is not None}
        return web.json_response(kept)

    return Fault(name, act, frozenset({Step.TOKEN}))


async def _access_token_only(struck: Struck) -> web.StreamResponse:
    document = _json(await struck.answer())
    return web.json_response({"access_token": document["token"]})


async def _subset(struck: Struck) -> web.StreamResponse:
    """A token that allows to pull, whatever was asked for."""
    asked = parse_qsl(struck.request.raw_path.partition("?")[2])
    pulls = [(key, f"{text.rpartition(':')[0]}:pull" if key == "scope" else text) for key, text in asked]
    path = f"{struck.request.raw_path.partition('?')[0]}?{urlencode(pulls)}"
    lesser = struck.request.clone(rel_url=URL(path, encoded=True))
    lesser._message = lesser._message._replace(path=path)
    return await struck.internet.sites[struck.exchange.site].answer(lesser)


SUBSET = Fault("a token for less", _subset, frozenset({Step.TOKEN}))
NO_LIFETIME = token("no expires_in", expires_in=None)
NO_TIME = token("expires_in: 0", expires_in=0)
ACCESS_TOKEN = Fault("access_token only", _access_token_only, frozenset({Step.TOKEN}))
NO_TOKEN = token("no token in the answer", token=None)

# ---------------------------------------------------------------------- bodies


def changing(
    name: str,
    change: Callable[[bytes], bytes],
    *,
    steps: frozenset[Step] = BLOBS,
    length: Callable[[bytes, bytes], int | None] = lambda _whole, sent: len(sent),
    is_cut: bool = False,
) -> Fault:
    """Return a fault that sends another body.

    Args:
        name: of the fault.
        change: from the body to what is sent in its place.
        steps: where it can happen.
        length: the Content-Length for a body and what is sent of it; None for chunks without one.
        is_cut: the connection is closed behind it.
    """

    async def act(struck: Struck) -> web.StreamResponse | None:
        response = await struck.answer()
        if response.status not in (200, 206):
            return response
        struck.was_answered(response, is_delivered=False)
        whole = _body(response)
        sent = change(whole)
        made = await _send(struck, response, sent, length=length(whole, sent))
        if is_cut:
            await asyncio.sleep(0)
            _close(struck)
            return None
        await made.write_eof()
        return made

    return Fault(name, act, steps)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


#: The length is announced right, and does not come.
TRUNCATED = changing("truncated", _half, length=lambda whole, _: len(whole), is_cut=True)
SHORT = changing("short, with the length of what comes", _half)
#: All of it, and then a reset in place of the end.
CUT_AT_END = changing("reset after the last byte", bytes, steps=READING, length=lambda _whole, _sent: None, is_cut=True)
CHUNKED = changing("chunked, without a length", bytes, length=lambda _whole, _sent: None)
CHUNKED_DOCUMENT = changing(
    "chunked, without a length", bytes, steps=READING - BLOBS, length=lambda _whole, _sent: None
)
CHUNKED_SHORT = changing("chunked, and ends early", _half, length=lambda _whole, _sent: None)
EXTRA = changing("extra bytes, announced", lambda data: data + b"extra")
EXTRA_CHUNKED = changing("extra bytes, chunked", lambda data: data + b"extra", length=lambda _whole, _sent: None)
FLIPPED = changing("one bit flipped", _flipped)
PADDED = changing("the second half is zeros", lambda data: _half(data) + bytes(len(data) - len(data) // 2))
EMPTY = changing("nothing", lambda _: b"")
FLIPPED_MANIFEST = changing("one bit flipped", _flipped, steps=frozenset({Step.MANIFEST_GET}))
SHORT_DOCUMENT, EXTRA_DOCUMENT, EMPTY_DOCUMENT = (replace(one, steps=READING - BLOBS) for one in (SHORT, EXTRA, EMPTY))
WRONG_BYTES = (SHORT, CHUNKED_SHORT, EXTRA, EXTRA_CHUNKED, FLIPPED, PADDED, EMPTY)


async def _of_before(struck: Struck) -> web.StreamResponse:
    """What something in between kept of a tag, under the headers of what the tag is now."""
    response = await struck.answer()
    held = _registry(struck).repository(struck.exchange.repository).manifests
    before = [one for digest, one in held.items() if digest != response.headers.get("Docker-Content-Digest")]
    if response.status != 200 or ":" in struck.exchange.reference or not before:
        return response
    kept = {key: text for key, text in response.headers.items() if key != "Content-Length"}
    return web.Response(status=200, body=before[0].raw, headers=kept)


OF_BEFORE = Fault("the bytes of another manifest", _of_before, frozenset({Step.MANIFEST_GET}))
PORTAL = answering("200, a log-in page", 200, PAGE, Content_Type="text/html; charset=utf-8")
NOT_UTF8 = answering(
    "200, not UTF-8", 200, b"\xff\xfe{}\x80" * 50, Content_Type="application/json", steps=READING - BLOBS
)


def _gzipped(steps: frozenset[Step]) -> Fault:
    async def act(struck: Struck) -> web.StreamResponse:
        response = await struck.answer()
        if response.status != 200:
            return response
        kept = {key: text for key, text in response.headers.items() if key not in ("Content-Length", "Content-Type")}
        body = gzip.compress(_body(response), mtime=0)
        kept.update({"Content-Encoding": "gzip", "Content-Type": response.headers["Content-Type"]})
        return web.Response(status=200, body=body, headers=kept)

    return Fault("200, gzip'ed unasked", act, steps)


GZIPPED = _gzipped(READING - BLOBS)
GZIPPED_BLOB = _gzipped(BLOBS)

# ---------------------------------------------------------------------- slow ones


async def _silent(struck: Struck) -> None:
    """A black hole: the request is taken, and no answer comes."""
    await struck.request.content.read()
    struck.exchange.is_delivered = False
    await struck.internet.is_over.wait()
    _abort(struck)


def dripping(seconds: float, *, steps: frozenset[Step] = READING) -> Fault:
    """Return a fault that sends the body byte by byte, one in ``seconds``."""

    async def act(struck: Struck) -> web.StreamResponse | None:
        response = await struck.answer()
        struck.was_answered(response, is_delivered=False)
        body = _body(response)
        made = await _send(struck, response, b"", length=len(body))
        for at in range(len(body)):
            if struck.request.transport is None or struck.internet.is_over.is_set():
                break
            await made.write(body[at : at + 1])
            with anyio.move_on_after(seconds):
                await struck.internet.is_over.wait()
        return made

    return Fault(f"a byte in {seconds:g} s", act, steps)


def dripping_headers(seconds: float) -> Fault:
    """Return a fault that sends the headers byte by byte, one in ``seconds``, for ever."""

    async def act(struck: Struck) -> None:
        await struck.request.content.read()
        struck.exchange.is_delivered = False
        for byte in itertools.chain(b"HTTP/1.1 200 OK\r\nX-Slow: ", itertools.repeat(ord("x"))):
            transport = struck.request.transport
            if transport is None or transport.is_closing() or struck.internet.is_over.is_set():
                return
            transport.write(bytes([byte]))
            with anyio.move_on_after(seconds):
                await struck.internet.is_over.wait()

    return Fault(f"a byte of the headers in {seconds:g} s", act)


async def _takes_nothing(struck: Struck) -> None:
    """The request's body is not taken: what has no room on the way stays with who sends it."""
    struck.exchange.is_delivered = False
    if struck.request.transport is not None:
        struck.request.transport.pause_reading()
    await struck.internet.is_over.wait()
    _abort(struck)


BLACK_HOLE = Fault("black hole", _silent)
SLOW_LORIS = dripping(10.0)
SLOW_HEADERS = dripping_headers(10.0)
TAKES_NOTHING = Fault("takes no bytes", _takes_nothing, frozenset({Step.PATCH, Step.PUT}))

# ---------------------------------------------------------------------- ranges


def ranged(name: str, change: Callable[[web.StreamResponse, bytes, int], web.StreamResponse]) -> Fault:
    """Return a fault that answers a GET with a Range as ``change(answer, its body, offset)`` does; others pass."""

    async def act(struck: Struck) -> web.StreamResponse:
        response = await struck.answer()
        asked = struck.request.headers.get("Range", "")
        if not asked or response.status != 206:
            return response
        return change(response, _body(response), int(asked.removeprefix("bytes=").rstrip("-")))

    return Fault(name, act, BLOBS)


async def _no_ranges(struck: Struck) -> web.StreamResponse:
    """The Range is not looked at (RFC 9110 section 14.2 allows that)."""
    headers = {key: text for key, text in struck.request.headers.items() if key != "Range"}
    plain = struck.request.clone(headers=headers)
    site = struck.internet.sites[struck.exchange.site]
    return await site.answer(plain)


def _partial(body: bytes, start: int, total: int) -> web.Response:
    span = f"bytes {start}-{start + len(body) - 1}/{total}"
    return web.Response(status=206, body=body, headers={"Content-Range": span})


NO_RANGES = Fault("200 to a Range", _no_ranges, BLOBS)
WRONG_RANGE = ranged("206, another range", lambda _, body, at: _partial(body[1:], at + 1, at + len(body)))
RANGE_OF_OTHER_SIZE = ranged("206, another size", lambda _, body, at: _partial(body, at, at + len(body) + 7))
RANGE_NONSENSE = ranged("206, no Content-Range", lambda _response, body, _at: web.Response(status=206, body=body))
UNSATISFIABLE = ranged(
    "416 to a Range",
    lambda _, body, at: web.Response(status=416, headers={"Content-Range": f"bytes */{at + len(body)}"}),
)


async def _as_partial(struck: Struck) -> web.StreamResponse:
    response = await struck.answer()
    body = _body(response)
    return _partial(body, 0, len(body)) if response.status == 200 else response


UNASKED_PARTIAL = Fault("206 unasked", _as_partial, BLOBS)


# ---------------------------------------------------------------------- redirects


def redirecting(name: str, location: Callable[[Struck], str], *, steps: frozenset[Step] = READING) -> Fault:
    """Return a fault that leads somewhere else."""

    async def act(struck: Struck) -> web.StreamResponse:
        await struck.request.content.read()
        return web.Response(status=307, headers={"Location": location(struck)})

    return Fault(name, act, steps)


_HOPS = itertools.count(1)
TO_ITSELF = redirecting("redirect loop", lambda struck: struck.request.raw_path)
TO_MANY = redirecting(
    "redirects without an end", lambda struck: f"{struck.request.raw_path.partition('?')[0]}?hop={next(_HOPS)}"
)
TO_METADATA = redirecting("redirect to a link-local address", lambda _: "http://169.254.169.254/latest/meta-data/")
TO_NOWHERE = redirecting("redirect to nonsense", lambda _: "http://[")
EXPIRED_SIGNATURE = answering(
    "403, signature expired", 403, b"<Error><Code>AccessDenied</Code></Error>", steps=frozenset({Step.STORAGE})
)

# ---------------------------------------------------------------------- Locations of uploads


def located(name: str, location: Callable[[Struck, str], str | None]) -> Fault:
    """Return a fault that gives ``location(struck, the right one)`` when an upload opens; None for none at all."""

    async def act(struck: Struck) -> web.StreamResponse:
        response = await struck.answer()
        if response.status != 202:
            return response
        given = location(struck, response.headers.popone("Location"))
        if given is not None:
            response.headers["Location"] = given
        return response

    return Fault(name, act, OPENING)


def _origin(struck: Struck) -> str:
    return struck.internet.origin(struck.exchange.site)


LOCATION_ABSOLUTE = located("Location: absolute", lambda struck, path: f"{_origin(struck)}{path}")
LOCATION_RELATIVE = located("Location: relative to the path", lambda _, path: f"../../../../..{path}")
LOCATION_FRAGMENT = located("Location: with a fragment", lambda _, path: f"{path}#part")
LOCATION_DOWNGRADED = located("Location: without TLS", lambda struck, path: f"{_origin(struck)}{path}")
LOCATION_MISSING = located("Location: missing", lambda _struck, _path: None)
LOCATION_NONSENSE = located("Location: nonsense", lambda _struck, _path: "http://[")
LOCATION_METADATA = located("Location: link-local", lambda _struck, _path: "http://169.254.169.254/v2/uploads/1")

# ---------------------------------------------------------------------- what the registry forgets


async def _session_expired(struck: Struck) -> web.StreamResponse:
    """The session is gone before its next request comes."""
    with nobodys_doing():
        _registry(struck).end_session(struck.exchange.reference.rpartition("/")[2], What.SESSION_EXPIRED)
    return await struck.answer()


async def _mounted_then_gone(struck: Struck) -> web.StreamResponse:
    """The mount is granted, and the blob collected as garbage right after it."""
    response = await struck.answer()
    if response.status == 201:
        with nobodys_doing():
            _registry(struck).repository(struck.exchange.repository).drop(response.headers["Docker-Content-Digest"])
    return response


async def _mounted_in_words(struck: Struck) -> web.StreamResponse:
    """The mount is said to be granted, and nothing is there: the blob was collected in the same moment."""
    await struck.request.content.read()
    asked = parse_qs(struck.exchange.target.partition("?")[2]).get("mount")
    if not asked:
        return await struck.answer()
    digest = asked[0]
    _registry(struck).repository(struck.exchange.repository).dropped.add(digest)
    headers = {"Location": f"/v2/{struck.exchange.repository}/blobs/{digest}", "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def moving(name: str, move: Callable[[], None], *, steps: frozenset[Step], is_before: bool = True) -> Fault:
    """Return a fault in which somebody else changes something, before or after the site answers."""

    async def act(struck: Struck) -> web.StreamResponse:
        response = None if is_before else await struck.answer()
        with nobodys_doing():
            move()
        return response or await struck.answer()

    return Fault(name, act, steps)


def _somebody(name: str, *, steps: frozenset[Step], is_gone: bool = False, is_after: bool = False) -> Fault:
    """Return a fault in which somebody else moves the very tag that is asked for, or takes it away."""

    async def act(struck: Struck) -> web.StreamResponse:
        response = await struck.answer() if is_after else None
        registry, repository, tag = _registry(struck), struck.exchange.repository, struck.exchange.reference
        with nobodys_doing():
            if is_gone:
                registry.repository(repository).untag(tag)
            else:
                registry.repository(repository).keep(images.image(seed="somebody else's", layers=1), tag)
        return response or await struck.answer()

    return Fault(name, act, steps)


_LOOKS = frozenset({Step.MANIFEST_HEAD, Step.MANIFEST_GET})
TAG_MOVES = _somebody("somebody moves the tag, before", steps=_LOOKS | {Step.MANIFEST_PUT_TAG})
TAG_MOVES_AFTER = _somebody("somebody moves the tag, after", steps=_LOOKS, is_after=True)
TAG_GOES = _somebody("somebody takes the tag away, before", steps=_LOOKS, is_gone=True)
BLOB_GONE = answering("404, no such blob", 404, _error("BLOB_UNKNOWN"), steps=BLOBS)
SESSION_EXPIRED = Fault("session expired", _session_expired, IN_SESSION)
MOUNTED_THEN_GONE = Fault("mounted, then collected", _mounted_then_gone, frozenset({Step.MOUNT}))
MOUNTED_IN_WORDS = Fault("201 to a mount, and no blob", _mounted_in_words, OPENING)

#: What a client has to survive when it meets each of them once or twice in a row.
SURVIVABLE = (
    *LOST_CONNECTIONS,
    *THROTTLING,
    *PASSING,
    EXPIRED,
    TRUNCATED,
    CHUNKED,
    CHUNKED_SHORT,
    NO_RANGES,
    WRONG_RANGE,
    UNSATISFIABLE,
    LOCATION_ABSOLUTE,
    SESSION_EXPIRED,
    MOUNTED_THEN_GONE,
)

# ---------------------------------------------------------------------- writing answers by hand


def _registry(struck: Struck) -> Personality:
    site = struck.internet.sites[struck.exchange.site]
    assert isinstance(site, Personality), f"{struck.exchange.site} is no registry"
    return site


def _body(response: web.StreamResponse) -> bytes:
    body = response.body if isinstance(response, web.Response) else b""
    return body if isinstance(body, bytes) else b""


def _json(response: web.StreamResponse) -> dict[str, object]:
    document = json.loads(_body(response))
    assert isinstance(document, dict)
    return document


async def _send(struck: Struck, response: web.StreamResponse, data: bytes, *, length: int | None) -> web.StreamResponse:
    """Send the head of ``response`` with another length, and ``data`` behind it; None is chunks without a length."""
    kept = {key: text for key, text in response.headers.items() if key not in ("Content-Length", "Date", "Server")}
    if length is not None:
        kept["Content-Length"] = str(length)
    made = web.StreamResponse(status=response.status, headers=kept)
    await made.prepare(struck.request)
    if data:
        await made.write(data)
    return made
