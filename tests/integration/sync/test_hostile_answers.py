"""Whatever bytes a registry answers with, a run ends, says so, and remembers it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio

from syncer.events import RunStatus
from syncer.oci import Manifest
from syncer.state.store import StateStore
from tests.support import images
from tests.support.streams import answering
from tests.support.world import embedded, fill, run, spec_between

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = "name: e, from: source/app, to: target/app"
NOT_ASCII = b"sha256:\xff\xfe\x1b[2J"


def target_of_bytes(head: bytes) -> bytes:
    """Answer as an empty target that confirms every blob and manifest with a digest outside ASCII."""
    if head.startswith(b"POST"):
        return b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    if head.startswith(b"PUT"):
        return b"HTTP/1.1 201 Created\r\nDocker-Content-Digest: " + NOT_ASCII + b"\r\nContent-Length: 0\r\n\r\n"
    return b"HTTP/1.1 404 Not Found\r\nWarning: 299 - " + b'"\xff\x1b[2J"' + b"\r\nContent-Length: 0\r\n\r\n"


async def test_bytes_outside_ascii_fail_the_tag_and_not_the_run(tmp_path: Path) -> None:
    """A digest header that is no text makes a failure of the tag, which is told, remembered, and can be encoded."""
    async with embedded(tmp_path / "a") as a, answering(target_of_bytes) as target:
        await fill(a.host, "app", {"v1": images.image(seed=1), "v2": images.image(seed=2)})
        with anyio.fail_after(20):
            report = await run(spec_between(a.host, target, ENTRY), tmp_path)
    assert report.status is RunStatus.FAILED
    assert sorted(failure.tag for failure in report.failures) == ["v1", "v2"]
    for text in [failure.message for failure in report.failures] + [notice.text for notice in report.notices]:
        text.encode()
        assert "\x1b" not in text
    async with StateStore.read(tmp_path / "state.db") as state:
        assert [one.status for one in await state.runs()] == [RunStatus.FAILED]
        assert sorted(record.tag for record in await state.failures()) == ["v1", "v2"]


async def test_a_platform_that_is_no_text_fails_the_tag(tmp_path: Path) -> None:
    """Half a surrogate pair in an index ends up, escaped, in a failure, and the run ends."""
    child = images.image(seed=1)
    entry = {**child.manifest.descriptor.to_json(), "platform": {"os": "linux\ud800", "architecture": "arm64"}}
    document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    top = Manifest.parse(json.dumps(document).encode())
    hostile = images.Sample(manifest=top, manifests=(child.manifest, top), blobs=child.blobs)
    async with embedded(tmp_path / "a") as a, embedded(tmp_path / "b") as b:
        await fill(a.host, "app", {"v1": hostile})
        with anyio.fail_after(20):
            report = await run(spec_between(a.host, b.host, f"{ENTRY}, platforms: [linux/amd64]"), tmp_path)
    assert report.status is RunStatus.FAILED
    (failure,) = report.failures
    assert "linux\\ud800" in failure.message
