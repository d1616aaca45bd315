"""A small run, as events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncer.content import BlobOutcome
from syncer.errors import ConnectionFailed, Denied, Side
from syncer.events import (
    BlobFinished,
    BlobProgress,
    BlobStarted,
    EntryFailed,
    ManifestPushed,
    Notice,
    RepositoryFinished,
    RepositoryListed,
    RepositoryStarted,
    RequestFinished,
    RequestKind,
    RetryScheduled,
    RunFinished,
    RunStarted,
    RunStatus,
    TagFinished,
    TagOutcome,
)
from syncer.oci import Digest

if TYPE_CHECKING:
    from syncer.events import Event

SOURCE = "hub/library/alpine"
TARGET = "prod/mirror/alpine"
OTHER_SOURCE = "hub/library/nginx"
OTHER_TARGET = "prod/mirror/nginx"
BLOBS = [Digest.of(bytes([number])) for number in range(3)]
MANIFEST = Digest.of(b"manifest")


@pytest.fixture
def run() -> list[Event]:
    """Two repositories: in one a tag is copied, one in sync and one fails; the other is in sync."""
    copied = TagOutcome.COPIED
    denied = Denied("no push to mirror/alpine", status=403, hint="Ask for push rights.", side=Side.TARGET)
    offline = ConnectionFailed("quay.io could not be reached", hint="Check the network.", side=Side.SOURCE)
    return [
        RunStarted(run="r1", spec="spec.yaml", entries=2),
        RepositoryStarted(entry="base", source=SOURCE, target=TARGET),
        RepositoryStarted(entry="base", source=OTHER_SOURCE, target=OTHER_TARGET),
        RepositoryListed(source=SOURCE, target=TARGET, listed=10, selected=3),
        RepositoryListed(source=OTHER_SOURCE, target=OTHER_TARGET, listed=1, selected=1),
        RequestFinished(registry="docker.io", kind=RequestKind.MANIFEST_HEAD, method="HEAD", status=200, seconds=0.1),
        RetryScheduled(registry="docker.io", kind=RequestKind.BLOB_GET, attempt=1, delay=0.5, reason="503"),
        BlobStarted(source=SOURCE, target=TARGET, digest=BLOBS[0], size=1000),
        BlobProgress(target=TARGET, digest=BLOBS[0], count=400),
        BlobProgress(target=TARGET, digest=BLOBS[0], count=600),
        BlobFinished(target=TARGET, digest=BLOBS[0], size=1000, outcome=BlobOutcome.STREAMED),
        BlobStarted(source=SOURCE, target=TARGET, digest=BLOBS[1], size=2000),
        BlobFinished(target=TARGET, digest=BLOBS[1], size=2000, outcome=BlobOutcome.MOUNTED),
        BlobStarted(source=SOURCE, target=TARGET, digest=BLOBS[2], size=5000),
        BlobFinished(target=TARGET, digest=BLOBS[2], size=5000, outcome=BlobOutcome.PRESENT),
        ManifestPushed(target=TARGET, digest=MANIFEST, size=300, tag="3.19"),
        RequestFinished(registry="prod", kind=RequestKind.MANIFEST_PUT, method="PUT", status=201, seconds=0.1),
        TagFinished(
            entry="base", source=SOURCE, target=TARGET, tag="3.19", outcome=copied, digest=MANIFEST, referrers=2
        ),
        TagFinished(entry="base", source=SOURCE, target=TARGET, tag="3.18", outcome=TagOutcome.IN_SYNC),
        TagFinished(entry="base", source=SOURCE, target=TARGET, tag="latest", outcome=TagOutcome.FAILED, error=denied),
        TagFinished(entry="base", source=OTHER_SOURCE, target=OTHER_TARGET, tag="1", outcome=TagOutcome.IN_SYNC),
        RepositoryFinished(entry="base", source=SOURCE, target=TARGET, seconds=2.5),
        RepositoryFinished(entry="base", source=OTHER_SOURCE, target=OTHER_TARGET, seconds=0.5),
        EntryFailed(entry="other", error=offline),
        Notice(where="docker.io", text="this image is deprecated"),
        Notice(where="docker.io", text="this image is deprecated"),
        RunFinished(run="r1", status=RunStatus.FAILED, seconds=4.0),
    ]
