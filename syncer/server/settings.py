"""What an operator may set on the embedded registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from syncer.oci.manifest import MAX_MANIFEST_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class AuthMode(StrEnum):
    """How clients say who they are."""

    NONE = "none"
    BASIC = "basic"
    TOKEN = "token"  # noqa: S105 - the name of a mode, not a secret


class Action(StrEnum):
    """What a client may do; the words are those of the token scopes."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"


ALL_ACTIONS = frozenset(Action)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What a user may do in the repositories that match a glob.

    ``user`` may be ``*`` for everyone who has logged in. ``repositories`` is a glob in which ``*``
    also matches ``/``; :attr:`Action.CATALOG` does not look at it.
    """

    user: str
    repositories: str = "*"
    actions: frozenset[Action] = ALL_ACTIONS


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRecord:
    """One request that was answered, for logs and for tests that count.

    ``bytes_in`` and ``bytes_out`` are the lengths of the bodies on the wire; ``seconds`` is the time
    from the request's headers to the end of the handler. ``status`` is 499 when the client left first.
    """

    method: str
    path: str
    query: str
    status: int
    bytes_in: int
    bytes_out: int
    seconds: float
    user: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """The settings of one server; the defaults are an open registry on a trusted network.

    Attributes:
        read_only: answer every write with 405.
        durable: an acknowledged upload or tag survives a loss of power, not only of the process.
        max_manifest_size: bytes; larger manifests are answered with 413. 4 MiB is also the most the
            rest of Syncer reads.
        max_blob_size: bytes, None for no bound; larger blobs are answered with 413.
        upload_lifetime: seconds after which an upload session that nobody touched is removed.
        session_patience: seconds that a request waits for another on the same upload session, before it is
            told the offset of that moment (GET) or 409.
        stall_timeout: seconds without progress after which a body is given up, in either direction.
        drain_timeout: seconds that a stopping server gives to requests in progress; with what it does after them they
            are less than the ten after which ``docker stop`` kills.
        page_size: entries of the longest page of tags or repositories.
        tag_digests: lists of tags tell what each tag stands for, as gcr.io's do: who mirrors need not ask for each.
        certificate, key: paths of PEM files; TLS is on when they are given.
        auth: whether, and how, clients log in.
        htpasswd: path of the password file.
        grants: what each user may do; without any, everyone who has logged in may do everything.
        anonymous_pull: reading needs no login.
        service: the name in the token challenge.
        realm: the absolute URL of the token service; by default it is told from the request.
        token_lifetime: seconds.
        token_secret: the key of the tokens; random for each start when empty.
        on_request: called with a record of every request, on the event loop: it must be quick.
    """

    read_only: bool = False
    durable: bool = True
    max_manifest_size: int = MAX_MANIFEST_SIZE
    max_blob_size: int | None = None
    upload_lifetime: float = 7 * 24 * 3600.0
    session_patience: float = 2.0
    stall_timeout: float = 60.0
    drain_timeout: float = 7.0
    page_size: int = 10_000
    tag_digests: bool = False
    certificate: Path | None = None
    key: Path | None = None
    auth: AuthMode = AuthMode.NONE
    htpasswd: Path | None = None
    grants: tuple[Grant, ...] = ()
    anonymous_pull: bool = False
    service: str = "syncer"
    realm: str = ""
    token_lifetime: int = 300
    token_secret: bytes = field(default=b"", repr=False)
    on_request: Callable[[RequestRecord], None] | None = None
