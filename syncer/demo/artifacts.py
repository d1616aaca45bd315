"""Artifacts that refer to the demo's images: signatures in both of cosign's ways, and an SBOM.

The signatures have the form of real ones and the key is public, so they prove nothing; they are here
to be carried along. The SBOM is a real SPDX 2.3 document of the files of the image.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.oci.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from syncer.demo.layers import File

SIGNATURE_TYPE = "application/vnd.dev.cosign.artifact.sig.v1+json"
SBOM_TYPE = "application/spdx+json"
_PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_DEMO_KEY = b"syncer demo: everyone has this key"
_EMPTY_CONFIG = b"{}"


def encode(document: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


def describe(data: bytes, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
    """Return the descriptor of ``data``."""
    return Descriptor(
        media_type=media_type, digest=Digest.of(data), size=len(data), annotations=dict(annotations or {})
    )


def signature_artifact(repository: str, subject: Manifest, created: str) -> tuple[Manifest, list[bytes]]:
    """Sign ``subject`` with an artifact that refers to it; returns the manifest and its blobs."""
    payload = _payload(repository, subject.digest)
    layer = describe(payload, _PAYLOAD_TYPE, {_SIGNATURE: _sign(payload)})
    return _artifact(SIGNATURE_TYPE, layer, subject, created), [_EMPTY_CONFIG, payload]


def signature_tag(repository: str, subject: Manifest, created: str) -> tuple[Manifest, list[bytes]]:
    """Sign ``subject`` as cosign before 3.0 did, with an image for the tag ``sha256-<hex>.sig``."""
    payload = _payload(repository, subject.digest)
    config = encode(
        {
            "architecture": "",
            "os": "",
            "created": created,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(payload))]},
        }
    )
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": describe(config, media_types.OCI_CONFIG).to_json(),
        "layers": [describe(payload, _PAYLOAD_TYPE, {_SIGNATURE: _sign(payload)}).to_json()],
    }
    return Manifest.parse(encode(document)), [config, payload]


def sbom_artifact(name: str, subject: Manifest, files: Iterable[File], created: str) -> tuple[Manifest, list[bytes]]:
    """Describe ``files`` in an SPDX document that refers to ``subject``; returns the manifest and its blobs."""
    document = encode(spdx(name, subject.digest, files, created))
    layer = describe(document, SBOM_TYPE, {"org.opencontainers.image.title": "sbom.spdx.json"})
    return _artifact(SBOM_TYPE, layer, subject, created), [_EMPTY_CONFIG, document]


def spdx(name: str, digest: Digest, files: Iterable[File], created: str) -> dict[str, Any]:
    """Return an SPDX 2.3 document of one package, the image ``name``, and its files."""
    entries = []
    sums = []
    for number, file in enumerate(sorted(files, key=lambda it: it.path)):
        # SPDX 2.3, clause 8.4: a SHA1 is mandatory; it identifies here and protects nothing.
        sha1 = hashlib.sha1(file.data, usedforsecurity=False).hexdigest()
        sums.append(sha1)
        entries.append(
            {
                "SPDXID": f"SPDXRef-File-{number}",
                "fileName": f"./{file.path}",
                "checksums": [
                    {"algorithm": "SHA1", "checksumValue": sha1},
                    {"algorithm": "SHA256", "checksumValue": hashlib.sha256(file.data).hexdigest()},
                ],
                "licenseConcluded": "NOASSERTION",
                "copyrightText": "NOASSERTION",
            }
        )
    # Clause 7.9: the verification code is the hash of the files' hashes in order.
    code = hashlib.sha1("".join(sorted(sums)).encode(), usedforsecurity=False).hexdigest()
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.invalid/{name.replace(':', '/')}/{digest.short}",
        "creationInfo": {"created": created, "creators": ["Tool: syncer-demo"]},
        "packages": [
            {
                "SPDXID": "SPDXRef-Image",
                "name": name,
                "versionInfo": str(digest),
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": True,
                "packageVerificationCode": {"packageVerificationCodeValue": code},
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "NOASSERTION",
                "copyrightText": "NOASSERTION",
                "hasFiles": [entry["SPDXID"] for entry in entries],
            }
        ],
        "files": entries,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": "SPDXRef-Image",
            }
        ],
    }


def _artifact(artifact_type: str, layer: Descriptor, subject: Manifest, created: str) -> Manifest:
    # image-spec, manifest.md, "Guidelines for Artifact Usage": the empty config, and the type beside it.
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": describe(_EMPTY_CONFIG, media_types.OCI_EMPTY).to_json(),
        "layers": [layer.to_json()],
        "subject": subject.descriptor.to_json(),
        "annotations": {"org.opencontainers.image.created": created},
    }
    return Manifest.parse(encode(document))


def _payload(repository: str, digest: Digest) -> bytes:
    return encode(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": str(digest)},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )


def _sign(payload: bytes) -> str:
    return base64.b64encode(hmac.digest(_DEMO_KEY, payload, "sha256")).decode()
