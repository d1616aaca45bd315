"""The readers of what is on the disk find each thing that can be wrong: a violation of every kind is planted."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from syncer.layout.store import LayoutStore
from syncer.oci import Digest
from tests.support import images
from tests.support.layouts.directories import read_dir
from tests.support.layouts.findings import Flaw
from tests.support.layouts.opened import open_layout, told_of_tree
from tests.support.layouts.reading import Changing, assert_valid, flaws_below, leftovers, read_layout, read_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.support.layouts.findings import Finding

SAMPLE = images.index(seed="planted", layers=1)
ROOT, CHILD = SAMPLE.digest, SAMPLE.children[0]
CONFIG, LAYER = (blob.digest for blob in CHILD.blobs())
OTHER = images.image(seed="other", layers=1)
#: A descriptor of a manifest that is nowhere.
NOWHERE = images.image(seed="nowhere").manifest.descriptor.to_json()
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Place:
    """A layout written by hand: an index of two images under the tag ``v1``."""

    path: Path

    @classmethod
    def written(cls, path: Path) -> Place:
        """Write it whole."""
        place = cls(path)
        for digest, data in SAMPLE.blobs.items():
            place.write(digest, data)
        for manifest in SAMPLE.manifests:
            place.write(manifest.digest, manifest.raw)
        place.list(SAMPLE.manifest.descriptor.to_json())
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        return place

    def blob(self, digest: str) -> Path:
        """Return where a blob is."""
        return self.path / "blobs" / digest.replace(":", "/")

    def write(self, digest: str, data: bytes) -> None:
        """Write a blob, or something else in its place."""
        self.blob(digest).parent.mkdir(parents=True, exist_ok=True)
        self.blob(digest).write_bytes(data)

    def list(self, *entries: dict[str, Any], tag: str = "v1") -> None:
        """Write index.json, with the one tag at each of the entries."""
        listed = [{**entry, "annotations": {REF_NAME: tag}} for entry in entries]
        self.index({"schemaVersion": 2, "manifests": listed})

    def index(self, document: object) -> None:
        """Write something as index.json."""
        (self.path / "index.json").write_text(json.dumps(document))

    def root(self, **changed: Any) -> str:
        """List another index in place of the one that is there, with some of its keys changed; return its digest."""
        raw = json.dumps({**json.loads(SAMPLE.manifest.raw), **changed}).encode()
        digest = Digest.of(raw)
        self.write(digest, raw)
        self.list({"digest": digest, "size": len(raw)})
        return digest

    def journal(self, *changes: object) -> None:
        """Write the journal."""
        (self.path / ".syncer").mkdir(exist_ok=True)
        (self.path / ".syncer" / "journal").write_text("".join(f"{json.dumps(change)}\n" for change in changes))

    def flip(self, digest: str) -> None:
        """Change a byte of a blob."""
        data = self.blob(digest).read_bytes()
        self.write(digest, bytes([data[0] ^ 1]) + data[1:])

    def in_its_place(self, digest: str) -> None:
        """Put a folder where a blob was."""
        self.blob(digest).unlink()
        self.blob(digest).mkdir()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A layout in which nothing is wrong."""
    return Place.written(tmp_path / "layout")


def kinds(findings: Iterable[Finding]) -> set[tuple[Flaw, str]]:
    """Return the kinds and the subjects of findings."""
    return {(finding.flaw, finding.subject) for finding in findings}


def wrong_size(place: Place) -> None:
    """Let an index give another size of its child."""
    children = json.loads(SAMPLE.manifest.raw)["manifests"]
    place.root(manifests=[{**children[0], "size": 7}, *children[1:]])


PLANTED: dict[str, tuple[Callable[[Place], object], set[tuple[Flaw, str]]]] = {
    "no oci-layout": (
        lambda it: (it.path / "oci-layout").unlink(),
        {(Flaw.ABSENT, "oci-layout")},
    ),
    "an oci-layout that is no JSON": (
        lambda it: (it.path / "oci-layout").write_text("{"),
        {(Flaw.VERSION, "oci-layout")},
    ),
    "an oci-layout of another version": (
        lambda it: (it.path / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}'),
        {(Flaw.VERSION, "oci-layout")},
    ),
    "no index.json": (
        lambda it: (it.path / "index.json").unlink(),
        {(Flaw.ABSENT, "index.json")},
    ),
    "an index.json that is no JSON": (
        lambda it: (it.path / "index.json").write_text("["),
        {(Flaw.INDEX, "index.json")},
    ),
    "an index.json that is no object": (
        lambda it: it.index([]),
        {(Flaw.INDEX, "index.json")},
    ),
    "an index.json of another schema": (
        lambda it: it.index({"schemaVersion": 1, "manifests": []}),
        {(Flaw.INDEX, "index.json")},
    ),
    "an index.json without a list": (
        lambda it: it.index({"schemaVersion": 2, "manifests": {}}),
        {(Flaw.INDEX, "index.json")},
    ),
    "an entry that is no descriptor": (
        lambda it: it.index({"schemaVersion": 2, "manifests": [{"digest": ROOT}]}),
        {(Flaw.INDEX, "index.json")},
    ),
    "a tag at two entries": (
        lambda it: it.list(SAMPLE.manifest.descriptor.to_json(), CHILD.descriptor.to_json()),
        {(Flaw.TAG_TWICE, "v1")},
    ),
    "no folder of blobs": (
        lambda it: (it.path / "blobs").rename(it.path / "elsewhere"),
        {(Flaw.ABSENT, "blobs"), (Flaw.MISSING, ROOT)},
    ),
    "a blob with other bytes": (
        lambda it: it.flip(LAYER),
        {(Flaw.CONTENT, LAYER)},
    ),
    "a file that no digest names": (
        lambda it: (it.path / "blobs" / "sha256" / "stray").touch(),
        {(Flaw.CONTENT, "sha256:stray")},
    ),
    "a file of no known algorithm": (
        lambda it: it.write("sha0:stray", b""),
        {(Flaw.CONTENT, "sha0/stray")},
    ),
    "a folder among the blobs": (
        lambda it: (it.path / "blobs" / "sha256" / "stray").mkdir(),
        {(Flaw.CONTENT, "sha256/stray")},
    ),
    "a manifest that is missing": (
        lambda it: it.blob(ROOT).unlink(),
        {(Flaw.MISSING, ROOT)},
    ),
    "a folder in place of a manifest": (
        lambda it: it.in_its_place(ROOT),
        {(Flaw.MISSING, ROOT), (Flaw.CONTENT, ROOT.replace(":", "/"))},
    ),
    "an entry that gives another size": (
        lambda it: it.list({**SAMPLE.manifest.descriptor.to_json(), "size": 7}),
        {(Flaw.SIZE, ROOT)},
    ),
    "a manifest that is no JSON": (
        lambda it: it.write(ROOT, b"{" * SAMPLE.manifest.size),
        {(Flaw.MANIFEST, ROOT), (Flaw.CONTENT, ROOT)},
    ),
    "a manifest that is no object": (
        lambda it: it.write(ROOT, b"[]".ljust(SAMPLE.manifest.size)),
        {(Flaw.MANIFEST, ROOT), (Flaw.CONTENT, ROOT)},
    ),
    "a child that is missing": (
        lambda it: it.blob(CHILD.digest).unlink(),
        {(Flaw.MISSING, CHILD.digest)},
    ),
    "a child of another size": (
        wrong_size,
        {(Flaw.SIZE, CHILD.digest)},
    ),
    "a config that is missing": (
        lambda it: it.blob(CONFIG).unlink(),
        {(Flaw.MISSING, CONFIG)},
    ),
    "a layer that is missing": (
        lambda it: it.blob(LAYER).unlink(),
        {(Flaw.MISSING, LAYER)},
    ),
    "a folder in place of a layer": (
        lambda it: it.in_its_place(LAYER),
        {(Flaw.MISSING, LAYER), (Flaw.CONTENT, LAYER.replace(":", "/"))},
    ),
    "a layer that is cut off": (
        lambda it: it.write(LAYER, it.blob(LAYER).read_bytes()[:-1]),
        {(Flaw.SIZE, LAYER), (Flaw.CONTENT, LAYER)},
    ),
}


@pytest.mark.parametrize("journal", [False, True], ids=["by others", "with the journal"])
@pytest.mark.parametrize(("plant", "expected"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_flaw_is_found(
    place: Place, plant: Callable[[Place], object], expected: set[tuple[Flaw, str]], *, journal: bool
) -> None:
    """What is wrong is found, and nothing else, whether the journal is read or not."""
    assert read_layout(place.path, journal=journal).findings == []
    plant(place)
    assert kinds(read_layout(place.path, journal=journal).findings) == expected


@pytest.mark.parametrize("links", [{"manifests": None}, {"manifests": [{"digest": ROOT}]}, {"layers": [7]}], ids=str)
def test_a_manifest_that_links_to_nothing_sensible(place: Place, links: dict[str, Any]) -> None:
    """A manifest whose descriptors are none is found."""
    digest = place.root(**links)
    assert kinds(read_layout(place.path).findings) == {(Flaw.MANIFEST, digest)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["no object"], {(Flaw.JOURNAL, "the journal")}),
        ([{"nothing": "known"}], {(Flaw.JOURNAL, "the journal")}),
        ([{"put": {"digest": ROOT}}], {(Flaw.JOURNAL, "the journal")}),
        ([{"put": NOWHERE}], {(Flaw.MISSING, NOWHERE["digest"])}),
        ([{"put": {**CHILD.descriptor.to_json(), "size": 7}}], {(Flaw.SIZE, CHILD.digest)}),
        ([{"remove": NOWHERE["digest"]}, {"put": NOWHERE}], {(Flaw.MISSING, NOWHERE["digest"])}),
    ],
    ids=str,
)
def test_a_flaw_in_the_journal(place: Place, changes: list[object], expected: set[tuple[Flaw, str]]) -> None:
    """What is wrong with the journal, or with what it adds, is found by whoever reads it, and no concern of others."""
    place.journal(*changes)
    assert read_layout(place.path).findings == []
    assert kinds(read_layout(place.path, journal=True).findings) == expected


def test_a_line_that_is_no_json(place: Place) -> None:
    """A whole line of the journal that is no JSON is found; one that was torn off was never acknowledged."""
    place.journal()
    journal = place.path / ".syncer" / "journal"
    journal.write_bytes(b'{"put')
    assert read_layout(place.path, journal=True).findings == []
    journal.write_bytes(b'{"put\n')
    assert kinds(read_layout(place.path, journal=True).findings) == {(Flaw.JOURNAL, "the journal")}


def test_tags_with_and_without_the_journal(place: Place) -> None:
    """Others see the tags of index.json; with the journal they are moved, put, taken away, and go with manifests."""
    child = CHILD.descriptor.to_json()
    place.journal({"put": child, "tag": "v2"}, {"put": child, "tag": "v3"}, {"put": child}, {"untag": "v3"})
    assert read_layout(place.path).tags == {"v1": ROOT}
    layout = read_layout(place.path, journal=True)
    assert layout.tags == {"v1": ROOT, "v2": CHILD.digest}
    assert layout.digests == {ROOT, CHILD.digest}
    place.journal({"put": child, "tag": "v1"})
    assert read_layout(place.path, journal=True).tags == {"v1": CHILD.digest}
    place.journal({"remove": ROOT})
    assert read_layout(place.path, journal=True).tags == {}


def test_a_removed_manifest_may_have_gone(place: Place) -> None:
    """What the journal removes need not be there; for those who see index.json alone it is missing all the same."""
    place.journal({"remove": ROOT})
    place.blob(ROOT).unlink()
    assert read_layout(place.path, journal=True).findings == []
    assert kinds(read_layout(place.path).findings) == {(Flaw.MISSING, ROOT)}


def test_what_is_whole_is_passed_over(place: Place) -> None:
    """A manifest that is known to be whole is not looked at again, unless it is said to have another size."""
    whole: set[tuple[str, int]] = set()
    root, child = SAMPLE.manifest.descriptor.to_json(), CHILD.descriptor.to_json()
    assert list(flaws_below(place.path, root, whole)) == []
    assert whole == {(manifest.digest, manifest.size) for manifest in SAMPLE.manifests}
    place.blob(LAYER).unlink()
    assert list(flaws_below(place.path, root, whole)) == []
    assert kinds(flaws_below(place.path, {**child, "size": 7}, whole)) == {
        (Flaw.SIZE, CHILD.digest),
        (Flaw.MISSING, LAYER),
    }
    whole.clear()
    assert kinds(flaws_below(place.path, root, whole)) == {(Flaw.MISSING, LAYER)}
    assert whole == {(SAMPLE.children[1].digest, SAMPLE.children[1].size)}


def test_layers_that_live_elsewhere(place: Place) -> None:
    """A layer with urls need not be there."""
    foreign = {**NOWHERE, "urls": ["https://elsewhere.example/layer"]}
    place.root(layers=[foreign])
    assert read_layout(place.path).findings == []


def test_leftovers(place: Place) -> None:
    """What a writer has begun and left is found, at any depth."""
    assert leftovers(place.path.parent) == []
    (place.path / ".syncer" / "tmp").mkdir(parents=True)
    (place.path / ".syncer" / "tmp" / "blob").touch()
    (place.path / "index.json.tmp-7").touch()
    assert kinds(leftovers(place.path.parent)) == {
        (Flaw.LEFTOVER, "layout/.syncer/tmp/blob"),
        (Flaw.LEFTOVER, "layout/index.json.tmp-7"),
    }


def test_a_tree(place: Place) -> None:
    """Each layout of a tree is read, by its path; one that is broken fails the assertion, with what is wrong."""
    root = place.path.parent
    assert read_tree(root / "nothing") == {}
    Place.written(root / "a" / "b").journal({"put": CHILD.descriptor.to_json(), "tag": "v2"})
    assert assert_valid(root) == {"layout": {"v1": ROOT}, "a/b": {"v1": ROOT, "v2": CHILD.digest}}
    assert {name: layout.tags for name, layout in read_tree(root).items()} == {
        "layout": {"v1": ROOT},
        "a/b": {"v1": ROOT},
    }
    place.blob(LAYER).unlink()
    for quiet in (True, False):
        with pytest.raises(AssertionError, match=rf"^layout: {LAYER} is missing below {CHILD.digest}"):
            assert_valid(root, quiet=quiet)
    assert [name for name, layout in read_tree(root).items() if layout.findings] == ["layout"]


@pytest.mark.parametrize(
    ("name", "settles"),
    [("stray", True), ("stray", False), (Digest.of(b"").encoded, False)],
    ids=["settles", "never settles", "nothing is wrong"],
)
def test_a_writer_at_work(place: Place, name: str, *, settles: bool) -> None:
    """What seems wrong while the record changes is looked at again, until it holds still or too often."""
    pipe = place.blob(f"sha256:{name}")
    os.mkfifo(pipe)
    stop = threading.Event()
    looks: list[int] = []

    def write() -> None:
        """Change the record during each look: whoever reads the pipe waits for this."""
        while not stop.is_set():
            with pipe.open("wb"):
                looks.append(len(looks))
                os.utime(place.path / "index.json", ns=(len(looks), len(looks)))
                pipe.unlink()
                if settles:
                    return
                os.mkfifo(pipe)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    if name == "stray" and not settles:
        with pytest.raises(Changing, match="sha256:stray has the content of"):
            assert_valid(place.path, quiet=False)
    else:
        assert assert_valid(place.path, quiet=False) == {".": {"v1": ROOT}}
    assert (len(looks) > 1) is (name == "stray" and not settles)
    stop.set()
    if not settles:
        # The writer waits for another look.
        with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)):
            writer.join()
    writer.join()


def directory(path: Path) -> Path:
    """Write the sample as Skopeo's ``dir`` has it."""
    path.mkdir()
    (path / "version").write_text("Directory Transport Version: 1.1\n")
    (path / "manifest.json").write_bytes(SAMPLE.manifest.raw)
    for child in SAMPLE.children:
        (path / f"{child.digest.encoded}.manifest.json").write_bytes(child.raw)
    for digest, data in SAMPLE.blobs.items():
        (path / digest.encoded).write_bytes(data)
    return path


CHILD_FILE = f"{CHILD.digest.encoded}.manifest.json"
SPOILT: dict[str, tuple[str, bytes | None, tuple[Flaw, str]]] = {
    "no version": ("version", None, (Flaw.ABSENT, "version")),
    "another version": ("version", b"Directory Transport Version: 2.0", (Flaw.VERSION, "version")),
    "a child is missing": (CHILD_FILE, None, (Flaw.MISSING, CHILD.digest)),
    "a child is another": (CHILD_FILE, OTHER.manifest.raw, (Flaw.CONTENT, CHILD.digest)),
    "a config is missing": (CONFIG.encoded, None, (Flaw.MISSING, CONFIG)),
    "a layer is missing": (LAYER.encoded, None, (Flaw.MISSING, LAYER)),
    "a layer has other bytes": (LAYER.encoded, b"other", (Flaw.CONTENT, LAYER)),
    "the manifest is none": ("manifest.json", b"{", (Flaw.MANIFEST, Digest.of(b"{"))),
}


@pytest.mark.parametrize(("name", "data", "expected"), SPOILT.values(), ids=SPOILT.keys())
def test_a_spoilt_directory(tmp_path: Path, name: str, data: bytes | None, expected: tuple[Flaw, str]) -> None:
    """What is wrong with a directory of Skopeo's is found; where nothing was begun, nothing is."""
    assert read_dir(tmp_path / "nothing", "v1").findings == []
    path = directory(tmp_path / "directory")
    layout = read_dir(path, "v1")
    assert (layout.tags, layout.findings) == ({"v1": ROOT}, [])
    if data is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(data)
    assert expected in kinds(read_dir(path, "v1").findings)


OPENED: dict[str, tuple[Callable[[Place], object], set[tuple[Flaw, str]]]] = {
    "another version": (
        lambda it: (it.path / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}'),
        {(Flaw.REFUSED, "the layout")},
    ),
    "no index.json": (lambda it: (it.path / "index.json").unlink(), {(Flaw.REFUSED, "the layout")}),
    "no manifest": (lambda it: it.blob(ROOT).unlink(), {(Flaw.REFUSED, "v1")}),
    "no child": (lambda it: it.blob(CHILD.digest).unlink(), {(Flaw.REFUSED, CHILD.digest)}),
    "a child with other bytes": (lambda it: it.flip(CHILD.digest), {(Flaw.REFUSED, CHILD.digest)}),
    "no layer": (lambda it: it.blob(LAYER).unlink(), {(Flaw.MISSING, LAYER)}),
    "a folder in place of a layer": (lambda it: it.in_its_place(LAYER), {(Flaw.REFUSED, CHILD.digest)}),
}


@pytest.mark.parametrize(("plant", "expected"), OPENED.values(), ids=OPENED.keys())
async def test_a_planted_flaw_when_opened(
    place: Place, plant: Callable[[Place], object], expected: set[tuple[Flaw, str]]
) -> None:
    """What Syncer itself cannot read, or finds to be missing, is found; where there is no layout, nothing is wrong."""
    assert (await open_layout(place.path.parent / "nothing")).findings == []
    layout = await open_layout(place.path)
    assert (layout.tags, layout.findings) == ({"v1": ROOT}, [])
    assert layout.digests == {manifest.digest for manifest in SAMPLE.manifests}
    plant(place)
    assert kinds((await open_layout(place.path)).findings) == expected


async def test_both_views_of_a_tree(place: Place) -> None:
    """A tree is whole when each layout is, for others and for Syncer; else both say what is wrong."""
    root = place.path.parent
    store = await LayoutStore.open(root / "made", create=True, durable=False)
    await store.close()
    assert await told_of_tree(root) == []
    place.blob(LAYER).unlink()
    assert await told_of_tree(root) == [
        f"layout: {LAYER} is missing below {CHILD.digest}",
        f"layout: {LAYER} is missing below v1, when opened",
    ]
