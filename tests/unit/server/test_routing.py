"""Paths to endpoints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import InvalidReference
from syncer.server.routing import Endpoint, Route, parse_path

PART = st.from_regex(r"[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,4})?", fullmatch=True) | st.sampled_from(
    ["blobs", "manifests", "tags", "list", "uploads", "referrers", "v2"]
)
NAME = st.lists(PART, min_size=1, max_size=5).map("/".join)
SUFFIXES = [
    ("tags/list", Endpoint.TAGS, ""),
    ("blobs/uploads/", Endpoint.UPLOADS, ""),
    ("blobs/uploads", Endpoint.UPLOADS, ""),
    ("blobs/uploads/0a", Endpoint.UPLOAD, "0a"),
    ("blobs/sha256:00", Endpoint.BLOB, "sha256:00"),
    ("manifests/1.0", Endpoint.MANIFEST, "1.0"),
    ("referrers/sha256:00", Endpoint.REFERRERS, "sha256:00"),
]


@given(name=NAME, suffix=st.sampled_from(SUFFIXES))
def test_any_name(name: str, suffix: tuple[str, Endpoint, str]) -> None:
    """Whatever words a repository's name is made of, the end of the path says the endpoint."""
    ending, endpoint, reference = suffix
    assert parse_path(f"/v2/{name}/{ending}") == Route(endpoint=endpoint, repository=name, reference=reference)


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [("/v2", Endpoint.BASE), ("/v2/", Endpoint.BASE), ("/v2/_catalog", Endpoint.CATALOG), ("/token", Endpoint.TOKEN)],
)
def test_fixed_paths(path: str, endpoint: Endpoint) -> None:
    """The endpoints without a repository have one path each."""
    assert parse_path(path) == Route(endpoint=endpoint)


@pytest.mark.parametrize(
    "path", ["/", "", "/v1/", "/v3/app/tags/list", "/v2/app", "/v2/app/tags/", "/v2/app/manifests/", "/v2/app/blobs/"]
)
def test_no_endpoint(path: str) -> None:
    """Other paths are no endpoint."""
    assert parse_path(path) is None


@pytest.mark.parametrize("path", ["/v2//tags/list", "/v2/tags/list", "/v2/A/tags/list", "/v2/a/../b/blobs/x"])
def test_bad_names(path: str) -> None:
    """A known endpoint of a name that breaks the grammar is an error of its own."""
    with pytest.raises(InvalidReference):
        parse_path(path)
