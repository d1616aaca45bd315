"""What happens during a run, as frozen records, and who wants to hear of it.

Logs, progress, metrics and the report are Observers of the same records; the engine and the
adapters know none of them. Sizes are bytes, durations seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from syncer.errors import printable

if TYPE_CHECKING:
    from syncer.content import BlobOutcome
    from syncer.errors import SyncerError
    from syncer.oci.digest import Digest


class TagOutcome(StrEnum):
    """What became of one tag."""

    COPIED = "copied"
    IN_SYNC = "in-sync"
    SKIPPED = "skipped"
    FAILED = "failed"
    DEFERRED = "deferred"
    CANCELLED = "cancelled"

    @classmethod
    def of(cls, error: SyncerError) -> TagOutcome:
        """Return what has become of something that ended with ``error``."""
        return cls.DEFERRED if error.is_deferral else cls.FAILED


#: Outcomes of a tag with which a later run has to do.
UNRESOLVED = frozenset({TagOutcome.FAILED, TagOutcome.DEFERRED, TagOutcome.CANCELLED})


class RunStatus(StrEnum):
    """What became of a run; a killed one stays ``running`` until the next run finds it."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted:
    """A run begins."""

    run: str
    spec: str
    entries: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFinished:
    """A run is over."""

    run: str
    status: RunStatus
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryFailed:
    """A whole entry of the spec could not be looked at (its catalog, its registry)."""

    entry: str
    error: SyncerError


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositoryStarted:
    """The task of one repository begins. Names are ``registry/repository``."""

    entry: str
    source: str
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositoryListed:
    """The tags of a repository are known: how many there are, and how many are wanted."""

    source: str
    target: str
    listed: int
    selected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositoryFinished:
    """The task of one repository is over; ``error`` is set when it could not be listed at all."""

    entry: str
    source: str
    target: str
    seconds: float
    error: SyncerError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LookCut:
    """A stop came before all of a repository was looked at; or of an entry, without a ``source`` and a ``target``."""

    entry: str
    source: str = ""
    target: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TagFinished:
    """One tag is done with."""

    entry: str
    source: str
    target: str
    tag: str
    outcome: TagOutcome
    digest: Digest | None = None
    reason: str = ""
    error: SyncerError | None = None
    seconds: float = 0.0
    referrers: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobStarted:
    """A blob of ``size`` bytes is about to be made present in ``target``."""

    source: str
    target: str
    digest: Digest
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobProgress:
    """``count`` more bytes of a blob have been passed on; negative when an upload starts over."""

    target: str
    digest: Digest
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobFinished:
    """A blob is present in ``target``."""

    target: str
    digest: Digest
    size: int
    outcome: BlobOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestPushed:
    """A manifest was written, under a tag or by digest only (``tag`` is empty)."""

    target: str
    digest: Digest
    size: int
    tag: str


class RequestKind(StrEnum):
    """What a request was for, as the request budgets count them."""

    MANIFEST_HEAD = "manifest-head"
    MANIFEST_GET = "manifest-get"
    MANIFEST_PUT = "manifest-put"
    BLOB_HEAD = "blob-head"
    BLOB_GET = "blob-get"
    UPLOAD_POST = "upload-post"
    UPLOAD_PATCH = "upload-patch"
    UPLOAD_PUT = "upload-put"
    UPLOAD_GET = "upload-get"
    UPLOAD_DELETE = "upload-delete"
    TAGS = "tags"
    CATALOG = "catalog"
    REFERRERS = "referrers"
    DELETE = "delete"
    CREATE = "create"
    TOKEN = "token"  # noqa: S105 - a kind of request, not a secret
    PING = "ping"


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFinished:
    """One HTTP exchange is over; ``status`` is 0 when no answer came. Every hop of a redirect is one."""

    registry: str
    kind: RequestKind
    method: str
    status: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryScheduled:
    """A request failed in passing and is sent again after ``delay`` seconds."""

    registry: str
    kind: RequestKind
    attempt: int
    delay: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """Something a person should know once: a registry's Warning header, a state file set aside.

    Both members are printable, whatever bytes they were made of.
    """

    where: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", printable(self.where))
        object.__setattr__(self, "text", printable(self.text))


Event = (
    RunStarted
    | RunFinished
    | EntryFailed
    | RepositoryStarted
    | RepositoryListed
    | RepositoryFinished
    | LookCut
    | TagFinished
    | BlobStarted
    | BlobProgress
    | BlobFinished
    | ManifestPushed
    | RequestFinished
    | RetryScheduled
    | Notice
)


class Observer(Protocol):
    """Hears every event, at once and in the loop's thread; must neither block nor raise."""

    def notify(self, event: Event) -> None:
        """Take note of ``event``."""
        ...


class Observers:
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def notify(self, event: Event) -> None:
        """Pass ``event`` to each observer in turn."""
        for observer in self._observers:
            observer.notify(event)
