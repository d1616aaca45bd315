"""The spec as the rest of Syncer sees it: frozen values, everything resolved.

Defaults are folded into the entries, sizes are bytes per second, paths are absolute, and nothing
here knows of YAML or the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from syncer.oci.platform import Platform
    from syncer.spec.routing import RepositoryPattern, RepositoryTemplate
    from syncer.spec.selection import TagSelection


class Secret:
    """A text that does not show: not in ``repr``, not in ``str``, not in an error."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself, for the one place that sends it."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where something is written; ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PasswordCredentials:
    """A user name and a password, or what a registry takes for one."""

    username: str
    password: Secret


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCredentials:
    """A bearer token that is sent as it is."""

    token: Secret


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """PEM files: a private authority to trust, and a certificate with its key to show; ``insecure`` trusts anybody."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Ceilings for one registry; None leaves it to the engine. ``bandwidth`` is bytes per second."""

    connections: int | None = None
    requests_per_second: float | None = None
    bandwidth: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long to wait, in seconds, and the ``slowest`` rate in bytes per second (0: none); None for the usual."""

    connect: float | None = None
    read: float | None = None
    commit: float | None = None
    stall: float | None = None
    slowest: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """How blobs are read: one of at least ``large`` bytes on up to ``parallel`` connections; None for the default."""

    parallel: int = 1
    large: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """How blobs are sent: the ``form`` by its name in the spec, and ``chunk`` in bytes, 0 for Syncer's choice."""

    form: str = "auto"
    chunk: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Creation:
    """How a missing repository is created: ``harbor``, ``ecr``, or ``command`` with a program and its arguments."""

    kind: str
    command: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """Through which proxy a registry is reached; without a ``url`` through none. The URL may hold a password."""

    url: Secret | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrySpec:
    """A registry that is reached over HTTP; ``host`` has its port where that is not the usual one.

    Attributes:
        proxy: None to do as the environment says.
        trusted_hosts: hosts, and ``*.domains``, that it may lead to wherever they are.
        creation: None to create nothing.
    """

    name: str
    host: str
    credentials: PasswordCredentials | TokenCredentials | None = None
    tls: TlsFiles | None = None
    plain_http: bool = False
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    proxy: Proxy | None = None
    trusted_hosts: tuple[str, ...] = ()
    download: Download = field(default_factory=Download)
    upload: Upload = field(default_factory=Upload)
    creation: Creation | None = None
    place: Place | None = field(default=None, compare=False)

    @property
    def location(self) -> str:
        """Equal for two keys of the spec that mean one registry."""
        has_port = not self.host.endswith("]") and self.host.rpartition(":")[2].isdigit() and ":" in self.host
        return self.host if has_port else f"{self.host}:{80 if self.plain_http else 443}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutSpec:
    """A tree of OCI image layouts at an absolute ``path``."""

    name: str
    path: Path
    place: Place | None = field(default=None, compare=False)

    @property
    def location(self) -> str:
        """Equal for two keys of the spec that mean one tree."""
        return f"oci:{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What holds for an entry that does not say otherwise; no ``platforms`` means all of them."""

    platforms: tuple[Platform, ...] = ()
    referrers: bool = True
    sole_writer: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncEntry:
    """One line of work: which repositories and tags of one registry go where in another.

    The registries are keys of :attr:`Spec.registries`. Without ``platforms`` every platform is copied. With
    ``sole_writer`` nobody but runs with the spec's state file writes to the target repositories.
    """

    name: str
    source_registry: str
    source: RepositoryPattern
    target_registry: str
    target: RepositoryTemplate
    tags: TagSelection
    platforms: tuple[Platform, ...] = ()
    referrers: bool = True
    sole_writer: bool = False
    place: Place | None = field(default=None, compare=False)

    def route(self, repository: str) -> str | None:
        """Return the target repository for the source ``repository``, or None when it is not wanted.

        Raises:
            InvalidReference: when the template makes no repository name of it.
        """
        return self.target.render(repository) if self.source.matches(repository) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """A whole spec. ``state`` is the absolute path of the state file.

    ``registries_conf`` is ``off``, the absolute path of the one to read, or empty for the usual ones.
    """

    file: str
    state: Path
    registries: Mapping[str, RegistrySpec | LayoutSpec]
    entries: tuple[SyncEntry, ...]
    defaults: Defaults = field(default_factory=Defaults)
    registries_conf: str = ""
