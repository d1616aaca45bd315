"""The vocabulary of the OCI specifications: values and grammar, no I/O."""

from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest
from syncer.oci.platform import Platform
from syncer.oci.reference import PathReference, Reference, Transport, parse_reference

__all__ = [
    "Descriptor",
    "Digest",
    "Manifest",
    "PathReference",
    "Platform",
    "Reference",
    "Transport",
    "parse_reference",
]
