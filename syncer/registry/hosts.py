"""What is known of public registries by their host names, before anything has been asked.

A name gives defaults only: self-hosted products cannot be told by it, and what a registry is
observed to do wins (see :mod:`syncer.registry.capabilities`). The patterns and facts are those of
the vendors' documentation; reference section 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from syncer.events import RequestKind

if TYPE_CHECKING:
    from collections.abc import Mapping


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


_MIB = 1024 * 1024


def _nothing() -> Mapping[RequestKind, float]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What to assume of a registry until it shows otherwise.

    Attributes:
        kind: who runs it.
        single_post: it takes a small blob in the POST itself; others throw such a body away.
        chunks: it takes a blob in several PATCHes.
        largest_chunk: bytes of the largest PATCH it takes; None where no bound is known.
        tag_page: how many tags to ask for in one page; 0 to leave that to the registry.
        catalog: it lists its repositories.
        delete_scope: the action that a token must allow for a DELETE.
        one_scope: its token service honours one scope in a request only.
        metered_pulls: a GET of a manifest counts against a quota of pulls, and a HEAD does not.
        requests_per_second: a ceiling on all requests together; None for none.
        rates: further ceilings, in requests per second, on requests of one kind.
    """

    kind: HostKind = HostKind.OTHER
    single_post: bool = False
    chunks: bool = True
    largest_chunk: int | None = None
    tag_page: int = 0
    catalog: bool = True
    delete_scope: str = "delete"
    one_scope: bool = False
    metered_pulls: bool = False
    requests_per_second: float | None = None
    rates: Mapping[RequestKind, float] = field(default_factory=_nothing, hash=False)


def _rates(rate: float, *kinds: RequestKind) -> dict[RequestKind, float]:
    return dict.fromkeys(kinds, rate)


_UPLOAD_ENDS = (RequestKind.UPLOAD_POST, RequestKind.UPLOAD_PUT)
_WRITES = (*_UPLOAD_ENDS, RequestKind.UPLOAD_PATCH, RequestKind.MANIFEST_PUT, RequestKind.DELETE)
_LISTS = (RequestKind.TAGS, RequestKind.CATALOG)
_ECR = re.compile(
    r"(?P<account>[0-9]{12})\.dkr[-.]ecr(-fips)?\.(?P<region>[-a-z0-9]+)"
    r"\.(amazonaws\.com(\.cn)?|amazonaws\.eu|on\.aws|c2s\.ic\.gov|sc2s\.sgov\.gov)"
)
_EXACT = MappingProxyType(
    {
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
)
_ENDINGS = MappingProxyType(
    {
        ".gcr.io": HostKind.GAR,
        "-docker.pkg.dev": HostKind.GAR,
        ".azurecr.io": HostKind.ACR,
        ".azurecr.cn": HostKind.ACR,
        ".azurecr.us": HostKind.ACR,
        ".ocir.io": HostKind.OCIR,
    }
)
# Rates are a fifth below what the vendors document, since nobody is alone: reference section 4.
_ALL_TRAITS = (
    Traits(kind=HostKind.DOCKER_HUB, metered_pulls=True, catalog=False),
    Traits(
        kind=HostKind.ECR,
        chunks=False,
        tag_page=1000,
        rates=_rates(80, *_UPLOAD_ENDS) | _rates(8, RequestKind.MANIFEST_PUT) | _rates(400, RequestKind.UPLOAD_PATCH),
    ),
    Traits(
        kind=HostKind.ECR_PUBLIC,
        chunks=False,
        tag_page=1000,
        rates=_rates(8, *_UPLOAD_ENDS, RequestKind.MANIFEST_PUT) | _rates(200, RequestKind.UPLOAD_PATCH),
    ),
    Traits(kind=HostKind.GAR, chunks=False, tag_page=10_000, requests_per_second=240),
    Traits(kind=HostKind.ACR, tag_page=1000, requests_per_second=130, rates=_rates(26, *_WRITES)),
    # A PATCH over 4 MiB is refused there, and several to one blob have been seen to corrupt it.
    Traits(
        kind=HostKind.GHCR,
        chunks=False,
        largest_chunk=4 * _MIB,
        tag_page=1000,
        catalog=False,
        requests_per_second=20,
    ),
    # Its nginx counts by address: 50 a second over HTTP/1, and 5 for what is heavy (conf/nginx).
    Traits(kind=HostKind.QUAY, single_post=True, delete_scope="push", requests_per_second=40, rates=_rates(4, *_LISTS)),
    Traits(kind=HostKind.GITLAB, one_scope=True),
    Traits(kind=HostKind.CHAINGUARD, catalog=False),
    Traits(kind=HostKind.KUBERNETES, tag_page=10_000, catalog=False),
)
_TRAITS = MappingProxyType({traits.kind: traits for traits in _ALL_TRAITS})


def bare_name(host: str) -> str:
    """Return ``host[:port]`` as it is compared: in lower case, without the port and a dot at the end."""
    return host.lower().partition(":")[0].removesuffix(".")


def classify(host: str) -> HostKind:
    """Return who runs ``host[:port]``; a port and a dot at the end do not matter."""
    name = bare_name(host)
    if found := _EXACT.get(name):
        return found
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending) and len(name) > len(ending):
            return kind
    return HostKind.ECR if _ECR.fullmatch(name) else HostKind.OTHER


def traits_of(host: str) -> Traits:
    """Return what to assume of ``host[:port]``."""
    kind = classify(host)
    return _TRAITS.get(kind) or Traits(kind=kind)


def account_and_region(host: str) -> tuple[str, str] | None:
    """Return the AWS account and region of a private ECR registry, None for another host."""
    match = _ECR.fullmatch(bare_name(host))
    return (match["account"], match["region"]) if match else None


def creation_hint(host: str, repository: str) -> str:
    """Return what to do about a ``repository`` that ``host`` says does not exist and would not create on push."""
    project, slash, _ = repository.partition("/")
    match classify(host):
        case HostKind.ECR:
            _, region = account_and_region(host) or ("", "")
            command = f"aws ecr create-repository --repository-name {repository} --region {region}"
            return f"Run '{command}', or let Syncer do so: 'create: ecr' for this registry in the spec."
        case HostKind.ECR_PUBLIC:
            name = repository.partition("/")[2] or repository
            command = f"aws ecr-public create-repository --repository-name {name} --region us-east-1"
            return f"Run '{command}', or let Syncer do so: 'create: ecr' for this registry in the spec."
        case HostKind.GAR:
            return "Create the repository with 'gcloud artifacts repositories create', or check the name."
        case HostKind.DOCKER_HUB | HostKind.QUAY | HostKind.GHCR | HostKind.ACR | HostKind.GITLAB:
            return "Check the name, and whether the credentials may push there."
        case _:
            harbor = f" On Harbor, create the project {project!r}, or write 'create: harbor' for it in the spec."
            return "This registry does not create repositories on push: create it first, or check the name." + (
                harbor if slash else ""
            )
