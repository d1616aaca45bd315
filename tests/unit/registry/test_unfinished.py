"""Which Locations of uploads may be kept in a file, and followed when they come from one."""

from __future__ import annotations

import pytest

from syncer.oci import Digest
from syncer.plan.records import UnfinishedUpload
from syncer.registry.network.urls import Origin, absolute
from syncer.registry.unfinished import kept_location, may_be_kept

HOME = Origin("https", "registry.example.com", 443)
UPLOADS = "https://registry.example.com/v2/team/app/blobs/uploads"
UUID = "0b9c1d9e-8a1c-4a57-9d62-5d8f9f5f0c11"


def record(location: str) -> UnfinishedUpload:
    """Return the record of an upload at ``location``."""
    return UnfinishedUpload(
        registry="registry.example.com", repository="team/app", digest=Digest.of(b"x"), location=location
    )


@pytest.mark.parametrize(
    "location",
    [
        f"{UPLOADS}/{UUID}",
        f"{UPLOADS}/{UUID}/",
        f"{UPLOADS}/{UUID}?_state=REnA-gxx_8w2eLtkPcrMIvHsZ1h4=",
        f"{UPLOADS}/{UUID}?_nouploadcache=false&_state=A%2Fx",
        f"https://registry.example.com:443/v2/team/app/blobs/uploads/{UUID}",
        f"HTTPS://Registry.example.com/v2/team/app/blobs/uploads/{UUID}",
    ],
)
def test_a_session_of_the_registry_itself_is_kept(location: str) -> None:
    """The registry's own name for a session, with what distribution and ACR add to it, comes back byte for byte."""
    assert may_be_kept(absolute(location), HOME, "team/app")
    assert kept_location(record(location), HOME) == absolute(location)


@pytest.mark.parametrize(
    "location",
    [
        f"http://registry.example.com/v2/team/app/blobs/uploads/{UUID}",
        f"https://registry.example.com:8443/v2/team/app/blobs/uploads/{UUID}",
        f"https://registry.example.com.evil.io/v2/team/app/blobs/uploads/{UUID}",
        f"https://169.254.169.254/v2/team/app/blobs/uploads/{UUID}",
        f"https://registry.example.com/v2/team/other/blobs/uploads/{UUID}",
        f"https://registry.example.com/v2/team/app/blobs/uploads/../../../other/blobs/uploads/{UUID}",
        f"https://registry.example.com/v2/team/app/blobs/uploads/%2e%2e/{UUID}",
        "https://registry.example.com/v2/team/app/blobs/uploads/..",
        "https://registry.example.com/v2/team/app/blobs/uploads/",
        "https://registry.example.com/v2/team/app/manifests/latest",
        "https://registry.example.com/latest/meta-data/",
        f"{UPLOADS}/{UUID}/token",
        f"{UPLOADS}/{UUID}?X-Amz-Signature=0123",
        f"{UPLOADS}/{UUID}?_state=x&sig=0123",
        f"{UPLOADS}/{UUID}?_state=x;token=0123",
        f"{UPLOADS}/{UUID}?_state=x?token=0123",
        f"{UPLOADS}/{UUID}?0123456789",
        f"{UPLOADS}/{UUID}?_state={'x' * 2048}",
    ],
)
def test_anything_else_is_neither_kept_nor_followed(location: str) -> None:
    """Other origins, repositories and endpoints, and parameters that may be a signature, stay out of the file."""
    assert not may_be_kept(absolute(location), HOME, "team/app")
    assert kept_location(record(location), HOME) is None


@pytest.mark.parametrize(
    "location",
    ["", "/v2/team/app/blobs/uploads/1", "file:///etc/passwd", f"https://u:p@registry.example.com/v2/{UUID}"],
)
def test_what_is_no_url_is_not_followed(location: str) -> None:
    """A file may hold anything."""
    assert kept_location(record(location), HOME) is None


def test_a_record_does_not_show_its_location() -> None:
    """A Location is not for logs, harmless or not."""
    assert UUID not in repr(record(f"{UPLOADS}/{UUID}"))
