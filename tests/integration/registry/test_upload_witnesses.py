"""Every form of upload to Debian's docker-registry, which counts the requests itself."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from anyio.to_thread import run_sync

from syncer.content import BlobOutcome
from syncer.errors import DigestMismatch
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.capabilities import Capability
from syncer.registry.settings import UploadForm, UploadSettings
from tests.support import images
from tests.support.docker_registry import docker_registry
from tests.support.observing import Recorder
from tests.support.scripted import Clock, Connected, Keys
from tests.support.uploading import Source, described, push

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.docker_registry import Witness

pytestmark = pytest.mark.witness

DATA = images.random_bytes(3_000_000, "data")
SMALL = images.random_bytes(30_000, "small")
for known in (DATA, SMALL):
    described(known)


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    """Run docker-registry."""
    with docker_registry(tmp_path / "registry") as running:
        yield running


@asynccontextmanager
async def client_of(witness: Witness, form: UploadForm) -> AsyncIterator[Connected]:
    """Give a client of the witness that uploads in ``form``, a million bytes at a time."""
    uploads = UploadSettings(form=form, chunk=1_000_000 if form is UploadForm.CHUNKS else 0)
    settings = RegistrySettings(host=witness.host, plain_http=True, upload=uploads)
    recorder = Recorder()
    async with RegistryClient(settings, Keys(), recorder) as client:
        yield Connected(client, Clock(), recorder)


async def requests(witness: Witness) -> str:
    """Return the methods and statuses that the registry has answered."""
    return " ".join(f"{access.method}:{access.status}" for access in await run_sync(witness.requests))


async def stored(witness: Witness, data: bytes) -> bool:
    """Tell whether the registry holds ``data``, byte for byte."""
    digest = described(data).digest
    path = witness.storage / "data/docker/registry/v2/blobs/sha256" / digest.encoded[:2] / digest.encoded / "data"
    return await run_sync(path.read_bytes) == data


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (UploadForm.PUT, "POST:202 PUT:201"),
        (UploadForm.STREAM, "POST:202 PATCH:202 PUT:201"),
        (UploadForm.CHUNKS, "POST:202 PATCH:202 PATCH:202 PATCH:202 PUT:201"),
    ],
)
async def test_every_form(witness: Witness, form: UploadForm, expected: str) -> None:
    """Each form stores the blob, in as many requests as it should take, and finds it there the next time."""
    async with client_of(witness, form) as it:
        assert await push(it, Source(DATA)) is BlobOutcome.STREAMED
        assert expected == await requests(witness)
        assert await stored(witness, DATA)
        assert await push(it, Source(DATA)) is BlobOutcome.PRESENT


async def test_a_single_post_is_learned_to_be_wasted(witness: Witness) -> None:
    """docker-registry opens a session for a POST with bytes and throws them away; that is found out once."""
    async with client_of(witness, UploadForm.SINGLE_POST) as it:
        await push(it, Source(SMALL))
        assert it.client.capabilities.observed(Capability.SINGLE_POST) is False
        await push(it, Source(SMALL[1:]))
    assert await requests(witness) == "POST:202 PUT:201 POST:202 PUT:201"
    assert await stored(witness, SMALL)


async def test_a_mount(witness: Witness) -> None:
    """A blob of another repository is mounted by one POST."""
    async with client_of(witness, UploadForm.AUTO) as it:
        await push(it, Source(SMALL))
        begun = await it.client.repository("b").begin_blob(described(SMALL), mount_from="a")
    assert begun is BlobOutcome.MOUNTED
    assert await requests(witness) == "POST:202 PUT:201 POST:201"


async def test_other_bytes_than_announced(witness: Witness) -> None:
    """Bytes that were changed on the way are refused, sent once more, and then a mismatch at the target."""

    class Changed(Source):
        def __call__(self) -> object:  # type: ignore[override] # unverified, as if the network had changed them
            @asynccontextmanager
            async def opening() -> AsyncIterator[AsyncIterator[bytes]]:
                async def chunks() -> AsyncIterator[bytes]:
                    yield b"x" + self.data[1:]

                yield chunks()

            return opening()

    async with client_of(witness, UploadForm.CHUNKS) as it:
        with pytest.raises(DigestMismatch):
            await push(it, Changed(SMALL))
    assert await requests(witness) == "POST:202 PATCH:202 PUT:400 POST:202 PATCH:202 PUT:400"
