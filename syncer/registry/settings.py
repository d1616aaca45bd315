"""What is configured for one registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from syncer.oci.reference import DOCKER_HUB
from syncer.registry.network.proxies import ProxySettings

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The host that serves the Docker Hub's API; ``docker.io`` is only its name.
HUB_API_HOST = "registry-1.docker.io"


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsSettings:
    """How the registry's TLS is verified; paths are empty where nothing is set.

    Attributes:
        ca: a PEM file of authorities to trust besides those of the system.
        cert: the client certificate, a PEM file; with ``key``.
        key: the key of the client certificate.
        insecure: believe any certificate.
        folders: where ``certs.d`` directories may be, the first that has one for the registry wins.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeoutSettings:
    """How long to wait, in seconds.

    Attributes:
        connect: for a connection to one address; twice that for all there is to a connection.
        read: for the next bytes of an answer.
        commit: for the answer to a blob that was sent whole; registries hash or copy it first.
        stall: for the target to take more bytes of a blob.
        slowest: bytes per second below which a blob is given up, over ``stall`` seconds; 0 for no floor.
    """

    connect: float = 10.0
    read: float = 60.0
    commit: float = 300.0
    stall: float = 60.0
    slowest: int = 1024


class UploadForm(StrEnum):
    """How the bytes of a blob are sent."""

    #: Learned: PUT, and what the registry's answers call for after that.
    AUTO = "auto"
    #: POST with the digest and the bytes, for small blobs; then as AUTO.
    SINGLE_POST = "single-post"
    #: POST, then PUT with the bytes.
    PUT = "put"
    #: POST, then PATCH with the bytes, then an empty PUT.
    STREAM = "stream"
    #: POST, then a PATCH for each chunk, then PUT.
    CHUNKS = "chunks"


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadSettings:
    """What is configured of uploads; ``chunk`` is bytes, 0 for Syncer's own choice."""

    form: UploadForm = UploadForm.AUTO
    chunk: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadSettings:
    """How blobs are read: one of at least ``large`` bytes on up to ``parallel`` connections."""

    parallel: int = 1
    large: int = 64 * 1024 * 1024


class CreationKind(StrEnum):
    """How a repository is created in a registry that does not do so on push."""

    #: Harbor's API: POST /api/v2.0/projects for the first part of the name.
    HARBOR = "harbor"
    #: The AWS command-line tool: ``aws ecr create-repository``.
    ECR = "ecr"
    #: A program of the user's.
    COMMAND = "command"


@dataclass(frozen=True, kw_only=True, slots=True)
class CreationSettings:
    """What to do when the registry says that a target repository does not exist.

    Attributes:
        kind: by which means it is created.
        command: the program and its arguments, for COMMAND; ``{registry}``, ``{repository}`` and ``{project}``
            stand for names. It is run without a shell.
        environ: the environment of the program; None for that of this process.
    """

    kind: CreationKind
    command: tuple[str, ...] = ()
    environ: Mapping[str, str] | None = field(default=None, repr=False, hash=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrySettings:
    """One registry: where it is, how it is reached, and how hard it may be pushed.

    Attributes:
        host: ``host[:port]``; the Docker Hub is ``docker.io``.
        plain_http: speak HTTP without TLS.
        tls: certificates.
        connections: how many requests for metadata may be under way at once, at most.
        data_connections: how many blobs may move at once, at most, the large ones not counted.
        bulk_connections: how many blobs over 1 MiB may move at once, at most.
        is_fixed: begin with as many of each as there may be, instead of finding out how many are best; for
            measurements.
        requests_per_second: a ceiling on the rate of requests; None for none.
        bandwidth: a ceiling on blob traffic in bytes per second, both ways together; None for none.
        user_agent: what the registry is told about who asks.
        timeouts: how long to wait.
        proxies: through which proxies it is reached.
        trusted_hosts: hosts that it may lead to wherever they are: names, ``*.domain``, each with ``:port`` or not.
        download: how blobs are read.
        upload: how blobs are sent.
        creation: how missing repositories are created; None to leave it.
    """

    host: str
    plain_http: bool = False
    tls: TlsSettings = field(default_factory=TlsSettings)
    connections: int = 256
    data_connections: int = 128
    bulk_connections: int = 16
    is_fixed: bool = False
    requests_per_second: float | None = None
    bandwidth: int | None = None
    user_agent: str = "syncer"
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    proxies: ProxySettings = field(default_factory=ProxySettings)
    trusted_hosts: tuple[str, ...] = ()
    download: DownloadSettings = field(default_factory=DownloadSettings)
    upload: UploadSettings = field(default_factory=UploadSettings)
    creation: CreationSettings | None = None

    @property
    def base_url(self) -> str:
        """The origin of the API, without a slash at the end."""
        host = HUB_API_HOST if self.host == DOCKER_HUB else self.host
        return f"{'http' if self.plain_http else 'https'}://{host}"
