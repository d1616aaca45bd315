"""Which endpoint of the distribution-spec a path means.

Repository names contain slashes and any word, so a path is read from its end: the last two or
three segments say the endpoint and the rest is the name. One pass, no regular expression over the
whole path.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from syncer.oci.reference import check_repository


class Endpoint(StrEnum):
    """The endpoints, in the order of the table in distribution-spec "Endpoints"."""

    BASE = "base"
    CATALOG = "catalog"
    TOKEN = "token"  # noqa: S105 - the name of an endpoint, not a secret
    BLOB = "blob"
    MANIFEST = "manifest"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    TAGS = "tags"
    REFERRERS = "referrers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """An endpoint, with the repository it is in and the digest, tag or session it names."""

    endpoint: Endpoint
    repository: str = ""
    reference: str = ""


_BY_KIND = {"blobs": Endpoint.BLOB, "manifests": Endpoint.MANIFEST, "referrers": Endpoint.REFERRERS}
_FIXED = {
    "/v2": Route(endpoint=Endpoint.BASE),
    "/v2/": Route(endpoint=Endpoint.BASE),
    "/v2/_catalog": Route(endpoint=Endpoint.CATALOG),
    "/token": Route(endpoint=Endpoint.TOKEN),
}


def parse_path(path: str) -> Route | None:
    """Return the route of a decoded request path, or None when it is no endpoint.

    Raises:
        InvalidReference: when the endpoint is known and the repository name breaks the grammar.
    """
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed
    if not path.startswith("/v2/"):
        return None
    head, _, last = path[4:].rpartition("/")
    name, _, kind = head.rpartition("/")
    if kind == "tags" and last == "list":
        endpoint, last = Endpoint.TAGS, ""
    elif kind == "uploads" and name.endswith("/blobs"):
        endpoint, name = (Endpoint.UPLOAD if last else Endpoint.UPLOADS), name.removesuffix("/blobs")
    elif kind == "blobs" and last == "uploads":
        # Some clients leave the last slash out when they open a session.
        endpoint, last = Endpoint.UPLOADS, ""
    elif kind in _BY_KIND and last:
        endpoint = _BY_KIND[kind]
    else:
        return None
    return Route(endpoint=endpoint, repository=check_repository(name), reference=last)
