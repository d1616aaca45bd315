"""Media types of the OCI image-spec and of Docker's registry formats."""

from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
#: The artifact manifest that left the image-spec before 1.1; still found in registries.
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT})
MANIFEST_TYPES = INDEX_TYPES | IMAGE_TYPES
SCHEMA1_TYPES = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})

#: The Accept header of every manifest GET and HEAD. It must be the same on both: registries
#: convert to what is accepted, and a converted manifest has another digest.
ACCEPT_MANIFESTS = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}, {OCI_ARTIFACT}, */*;q=0.1"

_FOREIGN_MARKS = (".nondistributable.", "rootfs.foreign.")


def bare(content_type: str) -> str:
    """Return a Content-Type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_index(media_type: str) -> bool:
    """Tell whether the type lists other manifests."""
    return media_type in INDEX_TYPES


def is_manifest(media_type: str) -> bool:
    """Tell whether the type is a manifest of any kind, to be fetched from ``/manifests/``."""
    return media_type in MANIFEST_TYPES


def is_foreign_layer(media_type: str) -> bool:
    """Tell whether a layer of this type may not be redistributed (its ``urls`` say where it lives)."""
    return any(mark in media_type for mark in _FOREIGN_MARKS)
