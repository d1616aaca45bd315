"""What happened to imitated registries, in order: each exchange, and each change of what they hold.

Whoever judges a client needs nothing else: the entries tell which answers it was given, what it had
asked for, and what the registries held at every instant.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_KINDS = (
    (r"/v2/?", "ping"),
    (r"/v2/_catalog", "catalog"),
    (r"/v2/.+/tags/list", "tags"),
    (r"/v2/.+/referrers/[^/]+", "referrers"),
    (r"/v2/.+/manifests/[^/]+", "manifest"),
    (r"/v2/.+/blobs/uploads/", "post"),
    (r"/v2/.+/blobs/uploads/.+", "session"),
    (r"/v2/.+/blobs/[^/]+", "blob"),
)
_PLACE = re.compile(r"/v2/(?P<repository>.+?)/(?:manifests|blobs|tags|referrers)/(?P<reference>[^?]*)")


class Step(StrEnum):
    """The steps of the protocol, by what a request is for."""

    PING = "ping"
    TOKEN = "token"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST_HEAD = "manifest-head"
    MANIFEST_GET = "manifest-get"
    REFERRERS = "referrers"
    BLOB_HEAD = "blob-head"
    BLOB_GET = "blob-get"
    #: A blob GET that was redirected.
    STORAGE = "storage"
    #: A POST that names another repository to mount from.
    MOUNT = "mount"
    POST = "post"
    PATCH = "patch"
    PUT = "put"
    STATUS = "status"
    ABORT = "abort"
    MANIFEST_PUT_DIGEST = "manifest-put-digest"
    MANIFEST_PUT_TAG = "manifest-put-tag"
    DELETE = "delete"
    OTHER = "other"


_STEPS = {
    "ping": Step.PING,
    "token": Step.TOKEN,
    "storage": Step.STORAGE,
    "catalog": Step.CATALOG,
    "tags": Step.TAGS,
    "referrers": Step.REFERRERS,
    "manifest-head": Step.MANIFEST_HEAD,
    "manifest-get": Step.MANIFEST_GET,
    "manifest-delete": Step.DELETE,
    "blob-head": Step.BLOB_HEAD,
    "blob-get": Step.BLOB_GET,
    "blob-delete": Step.DELETE,
    "session-patch": Step.PATCH,
    "session-put": Step.PUT,
    "session-get": Step.STATUS,
    "session-delete": Step.ABORT,
}


@dataclass(kw_only=True, slots=True)
class Exchange:
    """One request, and how it was answered.

    Attributes:
        number: its place in the history.
        at: when it came, in seconds of the history's clock; ``ended_at`` when its answer was ready.
        site: the name it was sent to; ``site_kind`` what is there: ``registry``, ``token`` or ``storage``.
        target: the path and query, byte for byte.
        status: of the answer that was made; 0 for none.
        received: bytes of the body that came in.
        pause: seconds that the answer asks to be left alone; None when it asks nothing.
        fault: the fault that was injected; empty for none.
        is_delivered: False when the fault kept the answer, or its end, from whoever asked.
    """

    number: int
    at: float
    site: str
    site_kind: str
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    status: int = 0
    ended_at: float | None = None
    received: int = 0
    pause: float | None = None
    fault: str = ""
    is_delivered: bool = True

    @property
    def kind(self) -> str:
        """What it was about, by method and path."""
        if self.site_kind != "registry":
            return self.site_kind
        path = self.target.partition("?")[0]
        name = next((name for pattern, name in _KINDS if re.fullmatch(pattern, path)), "other")
        if name in ("manifest", "blob", "session"):
            return f"{name}-{self.method.lower()}"
        return name

    @property
    def counted_as(self) -> str:
        """The kind, but a refusal for want of a token is a ``challenge``, and a redirect a ``hop``."""
        if self.status == 401:
            return "challenge"
        if self.status in (301, 302, 303, 307, 308):
            return "hop"
        return self.kind

    @property
    def step(self) -> Step:
        """The step of the protocol that it belongs to."""
        kind = self.kind
        if kind == "manifest-put":
            return Step.MANIFEST_PUT_DIGEST if ":" in self.reference else Step.MANIFEST_PUT_TAG
        if kind == "post":
            source = parse_qs(self.target.partition("?")[2]).get("from", [self.repository])[0]
            return Step.POST if source == self.repository else Step.MOUNT
        return _STEPS.get(kind, Step.OTHER)

    @property
    def repository(self) -> str:
        """The repository that it names; empty for none."""
        found = _PLACE.match(self.target)
        return found["repository"] if found else ""

    @property
    def reference(self) -> str:
        """What comes after the kind of thing in the path: a tag, a digest, ``list``, an upload."""
        found = _PLACE.match(self.target)
        return found["reference"] if found else ""

    @property
    def is_success(self) -> bool:
        """True when a whole answer says that it was done."""
        return 200 <= self.status < 300 and self.is_delivered

    def __str__(self) -> str:
        fault = f" [{self.fault}]" if self.fault else ""
        return f"{self.site} {self.method} {self.target} -> {self.status or 'no answer'}{fault}"


class What(StrEnum):
    """What can change in a registry."""

    SESSION_OPENED = "session opened"
    #: Its bytes were taken for a blob, whether they were the blob's or not.
    SESSION_COMMITTED = "session committed"
    SESSION_DELETED = "session deleted"
    #: The registry has forgotten it.
    SESSION_EXPIRED = "session expired"
    BLOB_STORED = "blob stored"
    BLOB_DROPPED = "blob dropped"
    MANIFEST_STORED = "manifest stored"
    MANIFEST_DROPPED = "manifest dropped"
    TAG_SET = "tag set"
    TAG_DROPPED = "tag dropped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One change of what a registry holds.

    Attributes:
        number: its place in the history; ``at`` when.
        name: what changed: the digest that content is kept by, a tag, or an upload.
        content: the digest of the bytes that were stored, or what a tag stands for now.
        before: what a tag stood for until now; empty for nothing.
        links: what a manifest lists directly.
        cause: the number of the exchange that did it; None for what nobody asked for: content that was there
            from the beginning, a fault, somebody else.
    """

    number: int
    at: float
    site: str
    what: What
    repository: str
    name: str
    content: str = ""
    before: str = ""
    links: tuple[str, ...] = ()
    cause: int | None = None

    def __str__(self) -> str:
        moved = f" {self.before or 'nothing'} -> {self.content}" if self.what is What.TAG_SET else ""
        return f"{self.site}/{self.repository}: {self.what} {self.name}{moved}"


#: The number of the exchange that is being answered in this task.
_CAUSE: ContextVar[int | None] = ContextVar("_CAUSE", default=None)


class History:
    """Every exchange and change, in order."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = clock
        self.entries: list[Exchange | Change] = []
        self.seen: list[Exchange] = []

    def begin(self, *, site: str, site_kind: str, method: str, target: str, headers: Mapping[str, str]) -> Exchange:
        """Note a request that comes in; what changes in this task from now on is its doing."""
        exchange = Exchange(
            number=len(self.entries),
            at=self.clock(),
            site=site,
            site_kind=site_kind,
            method=method,
            target=target,
            headers=headers,
        )
        self.entries.append(exchange)
        self.seen.append(exchange)
        _CAUSE.set(exchange.number)
        return exchange

    def end(self, exchange: Exchange, status: int, headers: Mapping[str, str], received: int) -> None:
        """Note how a request is answered."""
        exchange.status = status
        exchange.ended_at = self.clock()
        exchange.received = received
        if status in (429, 503):
            exchange.pause = pause_of(headers)

    def change(
        self,
        what: What,
        *,
        site: str,
        repository: str,
        name: str,
        content: str = "",
        before: str = "",
        links: Iterable[str] = (),
    ) -> None:
        """Note a change."""
        self.entries.append(
            Change(
                number=len(self.entries),
                at=self.clock(),
                site=site,
                what=what,
                repository=repository,
                name=name,
                content=content,
                before=before,
                links=tuple(links),
                cause=_CAUSE.get(),
            )
        )

    def changes(self, *what: What, since: int = 0) -> Iterator[Change]:
        """Yield the changes of the kinds given, or all."""
        for entry in self.entries[since:]:
            if isinstance(entry, Change) and (not what or entry.what in what):
                yield entry


@contextmanager
def nobodys_doing() -> Iterator[None]:
    """What changes in this block is no request's doing: a fault's, or somebody else's."""
    before = _CAUSE.set(None)
    try:
        yield
    finally:
        _CAUSE.reset(before)


def pause_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After asks for, computed without any code of Syncer's; None for none."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+", text):
        return float(text)
    try:
        then, now = (parsedate_to_datetime(one).timestamp() for one in (text, headers.get("Date", "")))
    except (ValueError, TypeError, IndexError):
        return None
    return max(0.0, then - now)
