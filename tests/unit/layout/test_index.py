"""The entries of index.json in memory."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import LayoutError
from syncer.layout.index import REF_NAME, Change, LayoutIndex, Put, Remove, Untag
from syncer.layout.journal import from_line, to_line
from syncer.oci import Descriptor, Digest
from syncer.oci import media_types as mt
from tests.support import images

MANIFESTS = [images.artifact(seed=at).manifest for at in range(4)]
TAGS = ["a", "b", "c"]


def described(at: int) -> Descriptor:
    """Return the descriptor of one of a few manifests."""
    return MANIFESTS[at].descriptor


positions = st.integers(0, len(MANIFESTS) - 1)
puts = st.builds(
    lambda at, tag, covers, subject: Put(
        descriptor=described(at),
        tag=tag,
        covers=tuple(described(child).digest for child in covers if child != at),
        subject=None if subject is None else described(subject).digest,
        referrer=None if subject is None else described(at),
    ),
    positions,
    st.sampled_from(["", *TAGS]),
    st.lists(positions, max_size=2),
    st.none() | positions,
)
untags = st.builds(lambda tag: Untag(tag=tag), st.sampled_from(TAGS))
removes = st.builds(
    lambda at, orphans: Remove(
        digest=described(at).digest, orphans=tuple(described(child) for child in orphans if child != at)
    ),
    positions,
    st.lists(positions, max_size=2),
)
histories: st.SearchStrategy[list[Change]] = st.lists(st.one_of(puts, untags, removes), max_size=12)


def state(index: LayoutIndex) -> tuple[object, ...]:
    """Return everything an index says, in an order of its own."""
    document = json.loads(b"".join(index.serialise()))
    entries = sorted(json.dumps(entry, sort_keys=True) for entry in document["manifests"])
    subjects = sorted((subject, referrer.digest) for subject, referrer in index.subjects())
    return entries, subjects, index.tags()


def reachable(index: LayoutIndex) -> tuple[object, ...]:
    """Return the tags with their digests, and who refers to whom."""
    tags = {tag: found.digest for tag in index.tags() if (found := index.find(tag)) is not None}
    return tags, sorted((subject, referrer.digest) for subject, referrer in index.subjects())


def replayed(history: list[Change], index: LayoutIndex) -> LayoutIndex:
    """Apply ``history`` to ``index``."""
    for change in history:
        index.apply(change)
    return index


@given(histories)
def test_journal_lines_round_trip(history: list[Change]) -> None:
    """A journal that is read again gives the state that was in memory."""
    read = [from_line(to_line(change)) for change in history]
    assert read == history
    assert state(replayed(read, LayoutIndex())) == state(replayed(history, LayoutIndex()))


@given(histories)
def test_replay_over_its_own_result(history: list[Change]) -> None:
    """A journal that outlived its compaction changes no tag and no referrer, and loses no entry, when applied again."""
    final = replayed(history, LayoutIndex())
    again = LayoutIndex.parse(b"".join(final.serialise()), where="index.json")
    for subject, referrer in final.subjects():
        again.refer(subject, referrer)
    replayed(history, again)
    assert reachable(again) == reachable(final)
    assert set(final.digests()) <= set(again.digests())


@given(histories)
def test_index_json_round_trips(history: list[Change]) -> None:
    """index.json that is read again says the same entries."""
    index = replayed(history, LayoutIndex())
    again = LayoutIndex.parse(b"".join(index.serialise()), where="index.json")
    assert state(again)[0] == state(index)[0]
    assert again.tags() == index.tags()


def test_a_tag_that_moves_leaves_its_manifest_listed() -> None:
    """A manifest that lost its last tag has an entry without one."""
    index = LayoutIndex()
    index.apply(Put(descriptor=described(0), tag="a"))
    index.apply(Put(descriptor=described(1), tag="a"))
    assert index.is_listed(described(0).digest)
    assert not index.is_listed(described(1).digest)


def test_the_first_of_two_entries_counts() -> None:
    """Where index.json gives a tag twice, the first entry is it (image-spec, image-index.md)."""
    entries = [{**described(at).to_json(), "annotations": {REF_NAME: "a"}} for at in (0, 1)]
    index = LayoutIndex.parse(json.dumps({"schemaVersion": 2, "manifests": entries}).encode(), where="index.json")
    assert index.find("a") == described(0)


def test_what_others_wrote_is_kept() -> None:
    """Annotations, platforms and members of other tools are written back as they were."""
    entry = {
        **described(0).to_json(),
        "platform": {"os": "linux", "architecture": "amd64"},
        "annotations": {REF_NAME: "a", "io.containerd.image.name": "docker.io/library/a:a"},
    }
    document = {"schemaVersion": 2, "manifests": [entry], "annotations": {"made": "elsewhere"}}
    index = LayoutIndex.parse(json.dumps(document).encode(), where="index.json")
    index.apply(Put(descriptor=described(0), tag="a"))
    index.apply(Put(descriptor=described(1), tag="b"))
    written = json.loads(b"".join(index.serialise()))
    assert written["annotations"] == {"made": "elsewhere"}
    assert written["manifests"][0] == entry
    assert index.find("a") == described(0)


def test_names_that_are_no_tags() -> None:
    """A ref.name that is no tag is found under its name, kept, and not listed among the tags."""
    name = "docker.io/library/alpine:3.19"
    entry = {**described(0).to_json(), "annotations": {REF_NAME: name}}
    index = LayoutIndex.parse(json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(), where="index.json")
    assert index.find(name) == described(0)
    assert index.tags() == []
    assert json.loads(b"".join(index.serialise()))["manifests"] == [entry]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"manifests":{}}',
        b'{"manifests":[1]}',
        b'{"manifests":[{"digest":"sha256:../../etc/passwd","size":1}]}',
        b'{"manifests":[{"digest":"x","size":-1}]}',
        b'{"manifests":[],"manifests":[]}',
        b'{"manifests":' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_bad_index(raw: bytes) -> None:
    """An index.json that is none is a LayoutError that names it."""
    with pytest.raises(LayoutError, match=r"where/index\.json"):
        LayoutIndex.parse(raw, where="where/index.json")


def test_many_tags_stay_sorted() -> None:
    """Tags are in lexical order however many were added and deleted in between."""
    index = LayoutIndex()
    names = [f"v{at * 7919 % 5000}" for at in range(5000)]
    for name in names:
        index.apply(Put(descriptor=described(0), tag=name))
    for name in names[::3]:
        index.apply(Untag(tag=name))
    assert index.tags() == sorted(set(names) - set(names[::3]))


def test_a_media_type_can_change() -> None:
    """Bytes pushed again with another media type have that one under every tag."""
    index = LayoutIndex()
    digest = Digest.of(b"{}")
    for tag, media_type in (("a", mt.OCI_MANIFEST), ("b", mt.OCI_ARTIFACT)):
        index.apply(Put(descriptor=Descriptor(media_type=media_type, digest=digest, size=2), tag=tag))
    assert {found.media_type for name in ("a", "b", digest) if (found := index.find(name))} == {mt.OCI_ARTIFACT}


@pytest.mark.parametrize("depth", [50, 150, 500, 700, 900])
def test_what_is_read_can_be_written(depth: int) -> None:
    """An index.json with members that are nested deep is refused when it is read, and not when a push is to be kept."""

    def written(index: LayoutIndex, frames: int) -> bytes:
        return written(index, frames - 1) if frames else b"".join(index.serialise())

    raw = b'{"manifests":[],"x":' + b"[" * depth + b"]" * depth + b"}"
    if depth > 100:
        with pytest.raises(LayoutError, match="nested too deep"):
            LayoutIndex.parse(raw, where="index.json")
    else:
        assert b"[" * depth in written(LayoutIndex.parse(raw, where="index.json"), 300)
