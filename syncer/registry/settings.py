"""What is configured for one registry."""

from __future__ import annotations

from dataclasses import dataclass, field

from syncer.oci.reference import DOCKER_HUB

#: The host that serves the Docker Hub's API; ``docker.io`` is only its name.
HUB_API_HOST = "registry-1.docker.io"


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsSettings:
    """How the registry's TLS is verified; paths are empty where nothing is set."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeoutSettings:
    """How long to wait, in seconds.

    Attributes:
        connect: for a connection to be made.
        read: for the next bytes of an answer.
        commit: for the answer to a blob that was sent whole; registries hash or copy it first.
        stall: for the target to take more bytes of a blob.
    """

    connect: float = 10.0
    read: float = 60.0
    commit: float = 300.0
    stall: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrySettings:
    """One registry: where it is, how it is reached, and how hard it may be pushed.

    Attributes:
        host: ``host[:port]``; the Docker Hub is ``docker.io``.
        plain_http: speak HTTP without TLS.
        tls: certificates.
        connections: how many requests for metadata may be under way at once.
        data_connections: how many blobs may move at once.
        requests_per_second: a ceiling on the rate of requests; None for none.
        bandwidth: a ceiling on blob traffic in bytes per second, both ways together; None for none.
        user_agent: what the registry is told about who asks.
        timeouts: how long to wait.
    """

    host: str
    plain_http: bool = False
    tls: TlsSettings = field(default_factory=TlsSettings)
    connections: int = 32
    data_connections: int = 16
    requests_per_second: float | None = None
    bandwidth: int | None = None
    user_agent: str = "syncer"
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)

    @property
    def base_url(self) -> str:
        """The origin of the API, without a slash at the end."""
        host = HUB_API_HOST if self.host == DOCKER_HUB else self.host
        return f"{'http' if self.plain_http else 'https'}://{host}"
