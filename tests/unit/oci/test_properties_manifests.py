"""Manifests, searched: any document is read in one way only, or refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import ContentError, MalformedManifest
from syncer.oci import media_types as mt
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest, parse_object
from tests.support.searching import searched

_TYPES = st.sampled_from([mt.OCI_INDEX, mt.OCI_MANIFEST, mt.DOCKER_LIST, "application/x", "a\r\nb: c", "", "\u00e9"])
_DIGESTS = st.binary(max_size=3).map(Digest.of) | st.sampled_from(["sha256:../../x", "sha256:", "", "md5:00"])
_LINKS = st.fixed_dictionaries(
    {"digest": _DIGESTS, "size": st.integers(-2, 10) | st.just(2**70) | st.just(True) | st.just("1")},  # noqa: FBT003 - a JSON value
    optional={"mediaType": _TYPES, "urls": st.lists(st.text(max_size=5), max_size=2)},
)
_DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "mediaType": _TYPES | st.integers(),
        "config": _LINKS | st.none() | st.just({}),
        "layers": st.lists(_LINKS, max_size=3) | st.just({}),
        "manifests": st.lists(_LINKS, max_size=3) | st.just("x"),
        "subject": _LINKS,
        "annotations": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        "artifactType": st.text(max_size=5),
    },
)


@searched
@given(_DOCUMENTS, _TYPES)
def test_any_document_has_one_meaning_or_none(document: dict[str, Any], stated: str) -> None:
    """What is taken is an image or an index, never both, with checked links and a type that fits a header (S2, S17)."""
    raw = json.dumps(document).encode()
    try:
        read = Manifest.parse(raw, stated)
    except ContentError:
        return
    assert read.raw == raw
    assert read.digest.matches(raw)
    assert not (read.manifests and (read.layers or read.config))
    assert read.media_type.isascii()
    assert read.media_type.isprintable()
    links = [*read.blobs(), *read.manifests, *([read.subject] if read.subject else [])]
    assert all(type(link.digest) is Digest and 0 <= link.size < 2**63 for link in links)
    vague = stated in ("", "application/octet-stream")
    assert vague or document.get("mediaType") in (None, "", stated)


@searched
@given(_DOCUMENTS, st.sampled_from(["mediaType", "config", "layers", "manifests", "subject"]), _LINKS)
def test_a_member_twice_is_refused(document: dict[str, Any], name: str, other: dict[str, Any]) -> None:
    """A document that has a member twice, at any depth, has no meaning at all (S2)."""
    text = json.dumps({**document, name: 1})
    twice = text.replace(f'"{name}": 1', f'"{name}": {json.dumps(other)}, "{name}": 1', 1)
    for hostile in (twice, json.dumps({"annotations": {}}).replace("{}", twice)):
        try:
            parse_object(hostile.encode())
        except MalformedManifest:
            continue
        raise AssertionError(hostile)


@searched
@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]":,0e-1 \\u'), max_size=40).map(str.encode))
def test_any_bytes_are_an_object_or_malformed(raw: bytes) -> None:
    """No bytes raise anything but the one error."""
    try:
        assert isinstance(parse_object(raw), dict)
    except MalformedManifest as error:
        assert error.message  # noqa: PT017 - either outcome is right
