"""Looking closer at a blob that a registry says to have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.content import verified
from syncer.errors import ContentError, NotFound, ProtocolViolation
from syncer.registry.capabilities import Capability
from syncer.registry.network.urls import redact
from syncer.registry.upload.calls import UploadCalls
from syncer.registry.upload.proof import look

if TYPE_CHECKING:
    from syncer.oci.descriptor import Descriptor
    from syncer.registry.call import Reply
    from syncer.registry.repository import RegistryRepository


async def examine(repository: RegistryRepository, descriptor: Descriptor) -> bool:
    """Tell whether the blob is there, by the length that a HEAD gives; where that is another, it is read.

    A power cut, or a full disk, leaves files that have a blob's name and not its bytes. Registries that keep files take
    them for the blob: they mount them, and throw away what is sent in their place.

    Raises:
        ProtocolViolation: when other bytes are there.
        RegistryError: when the registry does not say.
    """
    calls = UploadCalls(repository, descriptor)
    try:
        reply = await look(calls)
    except NotFound:
        return False
    if reply is None:
        # That says nothing about the blob.
        return True
    length = reply.headers.get("Content-Length", "")
    if length in ("", str(descriptor.size)) or calls.client.capabilities.offers(Capability.BLOB_LENGTH) is False:
        return True
    await _read(repository, descriptor, reply)
    # What is wrong is the length, as some proxies make it.
    calls.client.capabilities.learn(Capability.BLOB_LENGTH, offered=False)
    return True


async def _read(repository: RegistryRepository, descriptor: Descriptor, reply: Reply) -> None:
    try:
        async with repository.data_slot(descriptor.size), repository.fetch_blob(descriptor) as chunks:
            async for _ in verified(chunks, descriptor):
                pass
    except ContentError as error:
        raise ProtocolViolation(
            f"{repository.registry} has other bytes than {repository.asked(descriptor.digest)}: {error.message}",
            registry=repository.registry,
            method="HEAD",
            url=redact(reply.url),
            hint="Nothing that is sent replaces them: remove what its storage has under this digest, and recheck.",
            side=repository.side,
        ) from None
