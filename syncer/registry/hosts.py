"""What is known of public registries by their host names, before anything has been asked.

A name gives defaults only: self-hosted products cannot be told by it, and what a registry is
observed to do wins (see :mod:`syncer.registry.capabilities`). The patterns and facts are those of
the vendors' documentation; reference section 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class HostKind(StrEnum):
    """Who runs a registry, as far as the name tells."""

    DOCKER_HUB = "docker-hub"
    ECR = "ecr"
    ECR_PUBLIC = "ecr-public"
    GAR = "gar"
    ACR = "acr"
    GHCR = "ghcr"
    QUAY = "quay"
    GITLAB = "gitlab"
    DIGITALOCEAN = "digitalocean"
    OCIR = "ocir"
    CHAINGUARD = "chainguard"
    KUBERNETES = "kubernetes"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What to assume of a registry until it shows otherwise.

    Attributes:
        kind: who runs it.
        single_post: it takes a small blob in the POST itself; others throw such a body away.
        chunks: it takes a blob in several PATCHes.
        tag_digests: its tag list may come with the digests of the tags (GCR).
        delete_scope: the action that a token must allow for a DELETE.
        one_scope: its token service honours one scope in a request only.
        metered_pulls: a GET of a manifest counts against a quota of pulls, and a HEAD does not.
    """

    kind: HostKind = HostKind.OTHER
    single_post: bool = False
    chunks: bool = True
    tag_digests: bool = False
    delete_scope: str = "delete"
    one_scope: bool = False
    metered_pulls: bool = False


_ECR = re.compile(
    r"[0-9]{12}\.dkr[-.]ecr(-fips)?\.[-a-z0-9]+"
    r"\.(amazonaws\.com(\.cn)?|amazonaws\.eu|on\.aws|c2s\.ic\.gov|sc2s\.sgov\.gov)"
)
_EXACT = {
    "docker.io": HostKind.DOCKER_HUB,
    "index.docker.io": HostKind.DOCKER_HUB,
    "registry-1.docker.io": HostKind.DOCKER_HUB,
    "public.ecr.aws": HostKind.ECR_PUBLIC,
    "gcr.io": HostKind.GAR,
    "ghcr.io": HostKind.GHCR,
    "quay.io": HostKind.QUAY,
    "registry.gitlab.com": HostKind.GITLAB,
    "registry.digitalocean.com": HostKind.DIGITALOCEAN,
    "cgr.dev": HostKind.CHAINGUARD,
    "registry.k8s.io": HostKind.KUBERNETES,
}
_ENDINGS = {
    ".gcr.io": HostKind.GAR,
    "-docker.pkg.dev": HostKind.GAR,
    ".azurecr.io": HostKind.ACR,
    ".azurecr.cn": HostKind.ACR,
    ".azurecr.us": HostKind.ACR,
    ".ocir.io": HostKind.OCIR,
}
_TRAITS = {
    HostKind.DOCKER_HUB: Traits(kind=HostKind.DOCKER_HUB, metered_pulls=True),
    HostKind.ECR: Traits(kind=HostKind.ECR, chunks=False),
    HostKind.ECR_PUBLIC: Traits(kind=HostKind.ECR_PUBLIC, chunks=False),
    HostKind.GAR: Traits(kind=HostKind.GAR, chunks=False, tag_digests=True),
    HostKind.GHCR: Traits(kind=HostKind.GHCR, chunks=False),
    HostKind.QUAY: Traits(kind=HostKind.QUAY, single_post=True, delete_scope="push"),
    HostKind.GITLAB: Traits(kind=HostKind.GITLAB, one_scope=True),
    HostKind.KUBERNETES: Traits(kind=HostKind.KUBERNETES, tag_digests=True),
}


def classify(host: str) -> HostKind:
    """Return who runs ``host[:port]``; a port and a dot at the end do not matter."""
    name = host.lower().partition(":")[0].rstrip(".")
    if found := _EXACT.get(name):
        return found
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending) and len(name) > len(ending):
            return kind
    return HostKind.ECR if _ECR.fullmatch(name) else HostKind.OTHER


def traits_of(host: str) -> Traits:
    """Return what to assume of ``host[:port]``."""
    kind = classify(host)
    return _TRAITS.get(kind, Traits(kind=kind))
