"""Everything a registry can hold arrives bit by bit, through every kind of place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.app.copying import copy_image
from syncer.app.places import Opened
from syncer.errors import NotFound
from syncer.oci import Digest, Manifest, Reference, parse_reference
from syncer.oci.referrers import cosign_tags
from tests.support import images
from tests.support.docker_registry import docker_registry
from tests.support.observing import Recorder
from tests.support.transfer import read_blob
from tests.support.world import HERE, embedded, fill, run, spec_between

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.content import Source
    from tests.support.images import Sample

pytestmark = pytest.mark.untraced


class Everything:
    """One repository's worth of every kind of content, some of it referring to other."""

    def __init__(self) -> None:
        self.multi = images.index(attestations=True, seed="multi")
        self.nested = images.nested_index(depth=3, seed="nested")
        self.listed = images.docker_list(seed="list")
        self.docker = images.docker_image(seed="docker")
        self.artifact = images.artifact(artifact_type="application/vnd.nobody.knows+thing", seed="unknown")
        child = self.multi.children[0]
        self.signature = images.artifact(subject=self.multi.manifest, seed="signature")
        self.child_sbom = images.artifact(subject=child, seed="sbom", annotations={"of": "child"})
        self.counter = images.artifact(subject=self.signature.manifest, seed="counter")
        self.cosign = images.artifact(seed="cosign")
        self.tags: dict[str, Sample] = {
            "multi": self.multi,
            "nested": self.nested,
            "list": self.listed,
            "docker": self.docker,
            "artifact": self.artifact,
            cosign_tags(child.digest)[0]: self.cosign,
        }
        self.referrers = {"@1": self.signature, "@2": self.child_sbom, "@3": self.counter}

    async def assert_in(self, source: Source, *names: str) -> None:
        """Everything under ``names`` (all tags by default), and what refers to it, reads back equal."""
        tags = {name: self.tags[name] for name in names} if names else dict(self.tags)
        if "multi" in tags:
            tags |= {tag: sample for tag, sample in self.tags.items() if sample is self.cosign}
        for tag, sample in tags.items():
            assert (await source.fetch_manifest(tag)).raw == sample.manifest.raw, tag
            await self._assert_sample(source, sample)
        if "multi" in tags:
            for sample in self.referrers.values():
                await self._assert_sample(source, sample)

    async def _assert_sample(self, source: Source, sample: Sample) -> None:
        for manifest in sample.manifests:
            assert (await source.fetch_manifest(manifest.digest)).raw == manifest.raw
        for descriptor in sample.descriptors():
            assert await read_blob(source, descriptor) == sample.blobs[descriptor.digest]


@pytest.fixture
def everything() -> Everything:
    """Return a repository's worth of content."""
    return Everything()


async def assert_registry(everything: Everything, host: str, repository: str) -> None:
    """The registry holds everything, and lists the referrers as such."""
    async with Opened(HERE, Recorder()) as opened:
        source = await opened.source(Reference(registry=host, repository=repository))
        await everything.assert_in(source)
        listed = await source.referrers(everything.multi.digest)  # type: ignore[attr-defined]  # a registry lists them
        assert [one.digest for one in listed] == [everything.signature.digest]
        child = everything.multi.children[0].digest
        listed = await source.referrers(child)  # type: ignore[attr-defined]  # same
        assert [(one.digest, one.annotations) for one in listed] == [(everything.child_sbom.digest, {"of": "child"})]


async def test_registry_to_registry(tmp_path: Path, everything: Everything) -> None:
    """Index with referrers of its children, nested index, artifact of no known type, Docker list: all equal."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "team/app", everything.tags | everything.referrers)
        report = await run(spec_between(a.host, b.host, "name: e, from: source/team/app, to: target/x/app"), tmp_path)
        assert not report.failures
        await assert_registry(everything, b.host, "x/app")


async def test_registry_to_layout_to_registry(tmp_path: Path, everything: Everything) -> None:
    """The same by way of a layout tree, which is what a disk carries across an air gap."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "team/app", everything.tags | everything.referrers)
        out = spec_between(a.host, b.host, "name: out, from: source/team/app, to: usb/team/app", layout="./carried")
        assert not (await run(out, tmp_path)).failures
        back = spec_between(a.host, b.host, "name: in, from: usb/**, to: 'target/x/{name}'", layout="./carried")
        assert not (await run(back, tmp_path)).failures
        await assert_registry(everything, b.host, "x/app")
        again = await run(back, tmp_path)
        assert again.totals.streamed == 0
        assert again.totals.manifests.count == 0


@pytest.mark.witness
async def test_a_registry_without_the_referrers_api(tmp_path: Path, everything: Everything) -> None:
    """Debian's docker-registry, which knows no referrers, gets the tag schema, and gives it back."""
    with docker_registry(tmp_path / "witness") as witness:
        async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
            await fill(a.host, "team/app", everything.tags | everything.referrers)
            there = spec_between(a.host, witness.host, "name: there, from: source/team/app, to: target/w/app")
            assert not (await run(there, tmp_path)).failures
            await assert_registry(everything, witness.host, "w/app")
            back = spec_between(witness.host, b.host, "name: back, from: source/w/app, to: target/x/app")
            assert not (await run(back, tmp_path)).failures
            await assert_registry(everything, b.host, "x/app")
            again = await run(back, tmp_path)
            assert again.totals.manifests.count == 0


@pytest.mark.parametrize("transport", ["oci-archive", "oci"])
@pytest.mark.parametrize("tag", ["multi", "nested", "list", "docker", "artifact"])
async def test_through_an_archive(tmp_path: Path, everything: Everything, transport: str, tag: str) -> None:
    """A single image, with all that refers to it, survives a file and comes back under another name."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "team/app", everything.tags | everything.referrers)
        file = parse_reference(f"{transport}:{tmp_path / 'carried'}:{tag}")
        for source, target in (
            (parse_reference(f"{a.host}/team/app:{tag}"), file),
            (file, parse_reference(f"{b.host}/x/app:{tag}")),
        ):
            async with Opened(HERE, Recorder()) as opened:
                copied = await copy_image(source, target, opened=opened, observer=Recorder())
                assert copied.digest == everything.tags[tag].digest
        async with Opened(HERE, Recorder()) as opened:
            arrived = await opened.source(Reference(registry=b.host, repository="x/app"))
            await everything.assert_in(arrived, tag)


@pytest.mark.parametrize("transport", ["oci-archive", "oci"])
async def test_a_signed_image_without_a_name(tmp_path: Path, transport: str) -> None:
    """An image with a cosign signature goes to a path without a tag, and is read back without one."""
    sample = images.image(seed=1)
    async with embedded(tmp_path / "a") as a:
        await fill(a.host, "app", {"v1": sample, cosign_tags(sample.digest)[0]: images.artifact(seed=2)})
        path = parse_reference(f"{transport}:{tmp_path / 'carried'}")
        async with Opened(HERE, Recorder()) as opened:
            await copy_image(parse_reference(f"{a.host}/app:v1"), path, opened=opened, observer=Recorder())
    async with Opened(HERE, Recorder()) as opened:
        assert (await (await opened.source(path)).fetch_manifest("")).digest == sample.digest


async def test_through_a_directory(tmp_path: Path, everything: Everything) -> None:
    """Skopeo's dir: carries an index bit by bit, too."""
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "team/app", everything.tags)
        folder = parse_reference(f"dir:{tmp_path / 'carried'}")
        for source, target in (
            (parse_reference(f"{a.host}/team/app:multi"), folder),
            (folder, parse_reference(f"{b.host}/x/app:multi")),
        ):
            async with Opened(HERE, Recorder()) as opened:
                await copy_image(source, target, opened=opened, observer=Recorder())
        async with Opened(HERE, Recorder()) as opened:
            source_b = await opened.source(Reference(registry=b.host, repository="x/app"))
            assert (await source_b.fetch_manifest("multi")).raw == everything.multi.manifest.raw


async def test_a_failed_copy_leaves_no_archive(tmp_path: Path) -> None:
    """An archive appears whole or not at all."""
    sample = images.image()
    async with embedded(tmp_path / "a") as a:
        await fill(a.host, "app", {"v1": sample})
        layer = sample.manifest.layers[0].digest
        (tmp_path / "a" / "app" / "blobs" / "sha256" / layer.encoded).unlink()
        target = parse_reference(f"oci-archive:{tmp_path / 'x.tar'}:v1")
        with pytest.raises(NotFound):
            async with Opened(HERE, Recorder()) as opened:
                await copy_image(parse_reference(f"{a.host}/app:v1"), target, opened=opened, observer=Recorder())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # noqa: ASYNC240 - a test may look


async def test_a_target_digest_must_be_what_arrives(tmp_path: Path) -> None:
    """A target that names a digest gets that digest or nothing."""
    sample = images.image()
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "app", {"v1": sample})
        source = parse_reference(f"{a.host}/app:v1")
        async with Opened(HERE, Recorder()) as opened:
            right = parse_reference(f"{b.host}/app@{sample.digest}")
            await copy_image(source, right, opened=opened, observer=Recorder())
            wrong = parse_reference(f"{b.host}/app@{Digest.of(b'else')}")
            with pytest.raises(Exception, match="the target asks for"):
                await copy_image(source, wrong, opened=opened, observer=Recorder())
            there = await opened.source(right)
            assert isinstance(await there.fetch_manifest(sample.digest), Manifest)
            assert [tag async for tag in there.tags()] == []
