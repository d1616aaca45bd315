"""References: where an image is, in the words of Skopeo and the Docker Hub.

``docker://`` (or nothing) names a registry; ``oci:``, ``oci-archive:`` and ``dir:`` name a
path. The grammar of names and tags is distribution-spec "Pulling manifests"; the rule that
``alpine`` is ``docker.io/library/alpine:latest`` is distribution/reference's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from syncer.errors import InvalidReference
from syncer.oci.digest import Digest

if TYPE_CHECKING:
    from typing import Self

DOCKER_HUB = "docker.io"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
#: What no host and no repository begins with, and paths do.
_PATHS = ("./", "../", "/", "~")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*\.?|\[[0-9a-fA-F:.]+\])"
    r"(?::[0-9]{1,5})?"
)
#: distribution/reference's NameTotalLengthMax, for host and name together.
MAX_NAME_LENGTH = 255
MAX_PORT = 65535


def check_repository(name: str) -> str:
    """Return ``name`` when it is a repository name.

    Raises:
        InvalidReference: when it breaks the grammar of the distribution-spec.
    """
    if len(name) > MAX_NAME_LENGTH or _NAME.fullmatch(name) is None:
        raise InvalidReference(
            f"invalid repository name {name[:160]!r}",
            hint="Use lower-case letters and digits, separated by one of . _ __ - within a part, and / between parts.",
        )
    return name


def check_tag(tag: str) -> str:
    """Return ``tag`` when it is a tag.

    Raises:
        InvalidReference: when it breaks the grammar of the distribution-spec.
    """
    if _TAG.fullmatch(tag) is None:
        raise InvalidReference(
            f"invalid tag {tag[:160]!r}",
            hint="A tag has up to 128 letters, digits, dots, underscores and dashes, and starts with none of . and -.",
        )
    return tag


def is_tag(text: str) -> bool:
    """Tell whether ``text`` is a tag by the grammar."""
    return _TAG.fullmatch(text) is not None


def check_host(host: str) -> str:
    """Return the registry ``host[:port]``, in lower case, the Docker Hub's names as ``docker.io``.

    Raises:
        InvalidReference: when it is not a host name or address with an optional port.
    """
    if _HOST.fullmatch(host) is None:
        raise InvalidReference(
            f"invalid registry {host[:160]!r}",
            hint="Write a host name or address, with :port where it is not 443.",
        )
    port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else ""
    if port and not 0 < int(port) <= MAX_PORT:
        raise InvalidReference(f"invalid registry {host!r}: there is no port {port}", hint="Ports are 1 to 65535.")
    host = host.lower()
    return DOCKER_HUB if host in _HUB_NAMES else host


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A repository of a registry, with a tag, a digest, both or neither."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``[docker://][host[:port]/]name[:tag][@digest]``; the tag is not defaulted.

        Raises:
            InvalidReference: when a part breaks its grammar.
            InvalidDigest: when the digest does.
        """
        rest = text.removeprefix("docker://")
        if "://" in rest:
            raise InvalidReference(
                f"invalid reference {text[:200]!r}: it looks like a URL",
                hint="Write host[:port]/repository[:tag][@digest], without http:// or https://.",
            )
        if rest.startswith(_PATHS):
            raise InvalidReference(
                f"invalid reference {text[:200]!r}: it looks like a path",
                hint="Write oci:PATH[:tag] for an OCI layout, oci-archive:FILE[:tag] for a tar file, or dir:PATH.",
            )
        if not rest or rest != rest.strip():
            raise InvalidReference(f"invalid reference {text[:200]!r}", hint="Write host/repository[:tag][@digest].")
        rest, at, digest = rest.partition("@")
        host, name, tag = _split(rest, text)
        host = check_host(host)
        if host == DOCKER_HUB and "/" not in name:
            name = f"library/{name}"
        try:
            check_repository(name)
            if tag:
                check_tag(tag)
        except InvalidReference as error:
            raise InvalidReference(f"invalid reference {text[:200]!r}: {error.message}", hint=error.hint) from None
        if len(host) + 1 + len(name) > MAX_NAME_LENGTH:
            raise InvalidReference(
                f"invalid reference {text[:200]!r}: host and name are over {MAX_NAME_LENGTH} characters"
            )
        return cls(registry=host, repository=name, tag=tag, digest=Digest(digest) if at else None)

    @property
    def locator(self) -> str:
        """What to ask the registry for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or "latest"

    @property
    def name(self) -> str:
        """``registry/repository``, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def with_tag(self, tag: str) -> Reference:
        """Return the same repository with another tag, and no digest."""
        return replace(self, tag=check_tag(tag), digest=None)

    def __str__(self) -> str:
        text = self.name
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


def _split(rest: str, text: str) -> tuple[str, str, str]:
    first, slash, remainder = rest.partition("/")
    # distribution/reference: the first part is a host if it has a dot or a port or is localhost; otherwise it
    # is the first part of a name on the Docker Hub.
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, remainder) if is_host else (DOCKER_HUB, rest)
    name, colon, tag = path.partition(":")
    if colon and not tag:
        raise InvalidReference(
            f"invalid reference {text[:200]!r}: the tag is empty", hint="Write a tag after the colon."
        )
    return host, name, tag


class Transport(StrEnum):
    """How a reference is reached; the names are Skopeo's."""

    DOCKER = "docker"
    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DIR = "dir"


@dataclass(frozen=True, kw_only=True, slots=True)
class PathReference:
    """An image at a path: ``oci:path[:tag]``, ``oci-archive:file[:tag]``, ``dir:path``."""

    transport: Transport
    path: str
    tag: str = ""
    digest: Digest | None = None

    def __str__(self) -> str:
        text = f"{self.transport}:{self.path}"
        if self.tag or (":" in self.path and self.transport is not Transport.DIR):
            # A path that holds a colon is told from its tag by the last one, also where there is no tag.
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


#: Transports that Skopeo has and Syncer does not, with what to do instead.
_ELSEWHERE = {
    "docker-archive": "Convert it once with 'skopeo copy docker-archive:… oci:…'.",
    "docker-daemon": "Push the image to a registry first; Syncer talks to registries, not to a local daemon.",
    "containers-storage": "Push the image to a registry first; Syncer talks to registries, not to local storage.",
    "sif": "Push the image to a registry first.",
    "tarball": "Build an image from it first.",
    "ostree": "Push the image to a registry first.",
}


def parse_reference(text: str) -> Reference | PathReference:
    """Parse a reference in any transport; no transport means ``docker://``.

    Raises:
        InvalidReference: when the transport is not known or a part breaks its grammar.
    """
    transport, colon, rest = text.partition(":")
    if colon and transport in (Transport.OCI, Transport.OCI_ARCHIVE, Transport.DIR):
        return _parse_path(Transport(transport), rest, text)
    if colon and transport in _ELSEWHERE:
        raise InvalidReference(f"the transport {transport}: is not supported", hint=_ELSEWHERE[transport])
    if colon and transport == Transport.DOCKER and not rest.startswith("//"):
        raise InvalidReference(f"invalid reference {text[:200]!r}", hint=f"Write docker://{rest}.")
    return Reference.parse(text)


def _parse_path(transport: Transport, rest: str, text: str) -> PathReference:
    if transport is Transport.DIR:
        path, tag, digest = rest, "", None
    else:
        rest, at, after = rest.partition("@")
        digest = Digest(after) if at else None
        path, colon, tag = rest.rpartition(":")
        if not colon:
            path, tag = tag, ""
    if not path:
        raise InvalidReference(f"invalid reference {text[:200]!r}: the path is empty", hint=f"Write {transport}:PATH.")
    return PathReference(transport=transport, path=path, tag=tag, digest=digest)
