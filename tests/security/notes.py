"""Attacks by way of the notes of uploads: what gets into the state, and what is believed that comes from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import to_thread

from syncer.content import BlobOutcome
from syncer.errors import Side, SyncerError
from syncer.oci import Descriptor, Digest
from syncer.plan.records import UnfinishedUpload
from syncer.registry import unfinished
from syncer.registry.unfinished import LARGE, UnfinishedUploads
from syncer.registry.upload import resuming
from syncer.state.store import StateStore
from tests.security.leaks import SIGNATURE
from tests.security.origins import known
from tests.security.stage import Heard, Outcome, Row, reply, said, wire
from tests.support.observing import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.registry.client import RegistryClient
    from tests.security.stage import Answer

_BLOB = Descriptor(media_type="application/octet-stream", digest=Digest.of(b"large"), size=LARGE)


async def _begun(client: RegistryClient, store: StateStore) -> None:
    """Begin the upload, see to it that its note is written, and give it up."""
    begun = await client.repository("app", Side.TARGET).begin_blob(_BLOB)
    await store.flush()
    if not isinstance(begun, BlobOutcome):
        await begun.abort()


async def signed_location(tmp_path: Path) -> Outcome:
    """Open an upload at a signed URL, which whoever reads the state can use."""

    def home(heard: Heard) -> Answer:
        if heard.method == "POST":
            return reply(202, Location=f"/v2/app/blobs/uploads/1?{SIGNATURE}")
        return reply(204)

    path = tmp_path / "state.db"
    async with StateStore.open(path, observer=Recorder()) as store:
        async with wire(home) as server, known(server.address) as client:
            client.unfinished = UnfinishedUploads(store)
            error = await said(_begun(client, store), SyncerError)
        kept = await to_thread.run_sync(lambda: b"".join(each.read_bytes() for each in tmp_path.glob("state.db*")))
    return Outcome(loot=SIGNATURE if SIGNATURE.encode() in kept else "", error=error)


async def changed_note(tmp_path: Path) -> Outcome:
    """Write into the state that an upload goes on elsewhere, in your network, say."""

    def home(heard: Heard) -> Answer:
        return reply(202, Location="/v2/app/blobs/uploads/1") if heard.method == "POST" else reply(204)

    async with wire(lambda _: reply(204, Range="0-9")) as inside, wire(home) as server:
        location = f"{inside.url}/latest/meta-data/"
        note = UnfinishedUpload(registry=server.address, repository="app", digest=_BLOB.digest, location=location)
        async with (
            StateStore.open(tmp_path / "state.db", observer=Recorder()) as store,
            known(server.address) as client,
        ):
            client.unfinished = UnfinishedUploads(store, [note])
            error = await said(_begun(client, store), SyncerError)
        return Outcome(loot=" ".join(inside.lines), error=error)


ROWS = [
    Row(
        name="S7-note",
        threat="a state file that someone has written to leads an upload into the network",
        defence="syncer.registry.unfinished.may_be_kept",
        attack=changed_note,
        switch_off=lambda patch: patch.setattr(unfinished, "may_be_kept", lambda *_: True),
    ),
    Row(
        name="S12-note",
        threat="the signed address of an upload is found in the state file",
        defence="syncer.registry.unfinished.may_be_kept",
        attack=signed_location,
        switch_off=lambda patch: patch.setattr(resuming, "may_be_kept", lambda *_: True),
    ),
]
