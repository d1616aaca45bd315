"""Images, indexes and artifacts made up for tests: random bytes from a seed, valid in every link.

Each builder returns a :class:`Sample`: the manifest at its root, every manifest below it and
every blob they name. The same arguments give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncer.oci import Descriptor, Digest, Manifest, Platform
from syncer.oci import media_types as mt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

EMPTY = b"{}"
ATTESTED = "vnd.docker.reference.digest"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A graph of content: its root, its manifests (children first, the root last), its blobs."""

    manifest: Manifest
    manifests: tuple[Manifest, ...]
    blobs: Mapping[Digest, bytes] = field(repr=False)

    @property
    def digest(self) -> Digest:
        """The root's digest."""
        return self.manifest.digest

    @property
    def children(self) -> tuple[Manifest, ...]:
        """Every manifest but the root."""
        return self.manifests[:-1]

    @property
    def size(self) -> int:
        """Bytes of all blobs and manifests together."""
        return sum(map(len, self.blobs.values())) + sum(manifest.size for manifest in self.manifests)

    def descriptors(self) -> tuple[Descriptor, ...]:
        """The descriptors of the blobs, as the manifests give them, each digest once."""
        found = {blob.digest: blob for manifest in self.manifests for blob in manifest.blobs()}
        return tuple(found.values())


def blob(data: bytes, media_type: str = "application/octet-stream") -> Descriptor:
    """Describe ``data``."""
    return Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data))


def random_bytes(size: int, seed: object = 0) -> bytes:
    """Return ``size`` bytes that do not compress, the same for the same seed."""
    return random.Random(f"{seed}/{size}").randbytes(size)  # noqa: S311 - test content, not a secret


def image(
    *,
    layers: int = 2,
    size: int = 1024,
    seed: object = 0,
    docker: bool = False,
    platform: Platform | str = "linux/amd64",
    annotations: Mapping[str, str] | None = None,
    subject: Manifest | None = None,
    shared: Sequence[bytes] = (),
    foreign: Sequence[Descriptor] = (),
    state_media_type: bool = True,
) -> Sample:
    """Build an image of ``layers`` layers of ``size`` random bytes each.

    Args:
        layers: how many layers; ``shared`` ones come before them.
        size: bytes of each layer, as stored.
        seed: other seeds give other bytes.
        docker: Docker schema 2 in place of OCI.
        platform: what the config says it runs on.
        annotations: of the manifest.
        subject: the manifest this one refers to.
        shared: layers given as bytes, to have the same blob in several images.
        foreign: descriptors of layers that live elsewhere; no bytes are made for them.
        state_media_type: False leaves the manifest's mediaType out, as OCI allows.
    """
    if isinstance(platform, str):
        platform = Platform.parse(platform)
    datas = [*shared, *(random_bytes(size, f"{seed}/layer/{at}") for at in range(layers))]
    config = _json(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Env": [f"SEED={seed}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in datas]},
        }
    )
    layer_type = mt.DOCKER_LAYER if docker else mt.OCI_LAYER
    document: dict[str, Any] = {"schemaVersion": 2}
    media_type = mt.DOCKER_MANIFEST if docker else mt.OCI_MANIFEST
    if state_media_type:
        document["mediaType"] = media_type
    document["config"] = blob(config, mt.DOCKER_CONFIG if docker else mt.OCI_CONFIG).to_json()
    document["layers"] = [
        *(layer.to_json() for layer in foreign),
        *(blob(data, layer_type).to_json() for data in datas),
    ]
    if subject is not None:
        document["subject"] = subject.descriptor.to_json()
    if annotations:
        document["annotations"] = dict(annotations)
    manifest = Manifest.parse(_json(document), media_type)
    return Sample(manifest=manifest, manifests=(manifest,), blobs=_blobs([config, *datas]))


def real_image(*, files: Mapping[str, bytes] | None = None, seed: object = 0) -> Sample:
    """Build an image whose layer is a gzip-compressed tar that tools can unpack."""
    import io  # noqa: PLC0415 - only this builder makes tars
    import tarfile  # noqa: PLC0415 - same

    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, data in (files or {"hello": f"hello {seed}\n".encode()}).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    layer = gzip.compress(tar.getvalue(), mtime=0)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar.getvalue()))]},
        }
    )
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": blob(config, mt.OCI_CONFIG).to_json(),
        "layers": [blob(layer, mt.OCI_LAYER_GZIP).to_json()],
    }
    manifest = Manifest.parse(_json(document))
    return Sample(manifest=manifest, manifests=(manifest,), blobs=_blobs([config, layer]))


def index(
    *,
    platforms: Sequence[str] = ("linux/amd64", "linux/arm64/v8"),
    layers: int = 2,
    size: int = 1024,
    seed: object = 0,
    docker: bool = False,
    attestations: bool = False,
    annotations: Mapping[str, str] | None = None,
    subject: Manifest | None = None,
    shared: Sequence[bytes] = (),
) -> Sample:
    """Build a multi-platform image: an OCI index, or a Docker manifest list.

    ``attestations`` adds an ``unknown/unknown`` manifest for each platform, as BuildKit does.
    """
    samples: list[Sample] = []
    entries: list[Descriptor] = []
    for name in platforms:
        platform = Platform.parse(name)
        sample = image(layers=layers, size=size, seed=f"{seed}/{name}", docker=docker, platform=platform, shared=shared)
        samples.append(sample)
        entries.append(_entry(sample, platform))
        if attestations:
            proof = image(layers=1, size=200, seed=f"{seed}/{name}/attestation", platform="unknown/unknown")
            samples.append(proof)
            entries.append(_entry(proof, Platform.parse("unknown/unknown"), {ATTESTED: sample.digest}))
    return index_of(samples, entries, docker=docker, annotations=annotations, subject=subject)


def nested_index(*, depth: int = 2, seed: object = 0, size: int = 512) -> Sample:
    """Build an index that lists an index, ``depth`` indexes deep, with an image beside each."""
    sample = index(seed=f"{seed}/0", size=size, layers=1)
    for level in range(1, depth):
        beside = image(seed=f"{seed}/{level}", size=size, layers=1)
        sample = index_of([sample, beside], annotations={"level": str(level)})
    return sample


def index_of(
    samples: Sequence[Sample],
    entries: Sequence[Descriptor] | None = None,
    *,
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
    subject: Manifest | None = None,
) -> Sample:
    """Build an index that lists ``samples``; ``entries`` are their descriptors when they say more than the plain."""
    media_type = mt.DOCKER_LIST if docker else mt.OCI_INDEX
    if entries is None:
        entries = [sample.manifest.descriptor for sample in samples]
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [entry.to_json() for entry in entries],
    }
    if subject is not None:
        document["subject"] = subject.descriptor.to_json()
    if annotations:
        document["annotations"] = dict(annotations)
    root = Manifest.parse(_json(document), media_type)
    manifests = {manifest.digest: manifest for sample in samples for manifest in sample.manifests}
    blobs = {digest: data for sample in samples for digest, data in sample.blobs.items()}
    return Sample(manifest=root, manifests=(*manifests.values(), root), blobs=blobs)


def artifact(
    *,
    subject: Manifest | None = None,
    artifact_type: str = "application/vnd.example.sbom.v1",
    size: int = 300,
    seed: object = 0,
    annotations: Mapping[str, str] | None = None,
) -> Sample:
    """Build an artifact (image-spec "Guidelines for Artifact Usage"), a referrer when it has a ``subject``."""
    data = random_bytes(size, f"{seed}/artifact")
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": blob(EMPTY, mt.OCI_EMPTY).to_json(),
        "layers": [blob(data, artifact_type).to_json()],
    }
    if subject is not None:
        document["subject"] = subject.descriptor.to_json()
    if annotations:
        document["annotations"] = dict(annotations)
    manifest = Manifest.parse(_json(document), mt.OCI_MANIFEST)
    return Sample(manifest=manifest, manifests=(manifest,), blobs=_blobs([EMPTY, data]))


def docker_image(*, layers: int = 2, size: int = 1024, seed: object = 0) -> Sample:
    """Build a Docker schema 2 image."""
    return image(layers=layers, size=size, seed=seed, docker=True)


def docker_list(*, platforms: Sequence[str] = ("linux/amd64", "linux/arm64/v8"), seed: object = 0) -> Sample:
    """Build a Docker manifest list."""
    return index(platforms=platforms, seed=seed, docker=True)


def _entry(sample: Sample, platform: Platform, annotations: Mapping[str, str] | None = None) -> Descriptor:
    plain = sample.manifest.descriptor
    return Descriptor(
        media_type=plain.media_type,
        digest=plain.digest,
        size=plain.size,
        platform=platform,
        annotations=annotations or {},
    )


def _blobs(datas: Iterable[bytes]) -> dict[Digest, bytes]:
    return {Digest.of(data): data for data in datas}


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
