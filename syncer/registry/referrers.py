"""What refers to a manifest: the referrers API, and the tag that stands in for it (distribution-spec 1.1)."""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from syncer.errors import (
    ContentError,
    Denied,
    MalformedManifest,
    NotFound,
    ProtocolViolation,
    SizeExceedsLimit,
    StatusError,
)
from syncer.events import RequestKind
from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.manifest import Manifest, parse_object
from syncer.oci.referrers import fallback_tag, referrers_index
from syncer.registry.call import Call
from syncer.registry.capabilities import Capability
from syncer.registry.network.urls import redact, with_query
from syncer.registry.paging import pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from syncer.oci.digest import Digest
    from syncer.registry.call import Reply
    from syncer.registry.repository import RegistryRepository

#: How registries without the API answer; the specification names 404, the others have been seen.
_NOT_OFFERED = frozenset({405, 406, 501})
#: These have been seen too, but may as well be about rights, or about one repository.
_REFUSED = frozenset({400, 401, 403})
#: Bytes of one page of referrers: an index like any other.
_PAGE_LIMIT = 4 * 1024 * 1024
#: Bounds of one list; some pages may be empty, where the registry filters.
_MOST_REFERRERS = 20_000
_MOST_PAGES = 1000
#: How often a list under the tag is written again without what the registry misses.
_MOST_REPAIRS = 8
#: Referrers whose places are remembered while their lists are filled, of all lists together.
_MOST_PLACES = 50_000
#: A list of this size is parsed and written in a thread, to keep the loop going.
_CHANGED_ON_LOOP = 128 * 1024


async def find(
    repository: RegistryRepository, digest: Digest, artifact_type: str, known_tags: Collection[str] | None
) -> list[Descriptor]:
    """Return the descriptors of the manifests whose subject is ``digest``, of ``artifact_type`` if given.

    A registry that turns out to lack the API is not asked again; ``known_tags`` spares the request
    for a tag that is not there. No answer but a list of none counts as an empty list.

    Raises:
        RegistryError: when the registry cannot be asked, or does not answer with a list.
        MalformedManifest: when what it lists cannot be read.
        SizeExceedsLimit: when the list has over 20,000 entries.
    """
    listed: list[Descriptor] | None = None
    capabilities = repository.client.capabilities
    if _is_open(repository):
        # Nobody knows yet whether there is such an API: one asks, and the others wait for what it learns.
        async with capabilities.referrers_probe:
            if _is_open(repository):
                listed = await _from_api(repository, digest, artifact_type)
    is_refused = capabilities.refuses_referrers(repository.repository)
    if listed is None and capabilities.offers(Capability.REFERRERS) and not is_refused:
        listed = await _from_api(repository, digest, artifact_type)
    if listed is None:
        tag = fallback_tag(digest)
        listed = [] if known_tags is not None and tag not in known_tags else await _from_tag(repository, tag)
    # The API filters only if it says so (OCI-Filters-Applied); filtering again costs nothing.
    return [found for found in listed if not artifact_type or found.artifact_type == artifact_type]


def _is_open(repository: RegistryRepository) -> bool:
    """Tell whether neither the registry nor the repository has shown or refused the referrers API."""
    capabilities = repository.client.capabilities
    return capabilities.offers(Capability.REFERRERS) is None and not capabilities.refuses_referrers(
        repository.repository
    )


async def _from_api(repository: RegistryRepository, digest: Digest, artifact_type: str) -> list[Descriptor] | None:
    """Ask the referrers API; None when the registry does not have one."""
    client = repository.client
    url = client.url(f"/v2/{repository.repository}/referrers/{digest}")
    call = Call(
        kind=RequestKind.REFERRERS,
        method="GET",
        url=with_query(url, artifactType=artifact_type) if artifact_type else url,
        asked=f"the referrers of {repository.asked(digest)}",
        scopes=repository.scopes,
        headers={"Accept": media_types.OCI_INDEX},
        side=repository.side,
        limit=_PAGE_LIMIT,
    )
    found: list[Descriptor] = []
    is_begun = False
    try:
        async for document, reply in pages(client, call, most=_MOST_PAGES, allows_empty=True):
            if not reply.body and not client.capabilities.offers(Capability.REFERRERS):
                _refuse(repository, "with nothing")
                return None
            found.extend(
                Descriptor.from_json(item, where="a referrer") for item in _members(repository, document, reply)
            )
            is_begun = True
            client.capabilities.learn(Capability.REFERRERS, offered=True)
            if len(found) > _MOST_REFERRERS:
                raise SizeExceedsLimit(
                    f"{client.host} lists over {_MOST_REFERRERS} referrers of {repository.asked(digest)}",
                    side=repository.side,
                )
    except (NotFound, StatusError) as error:
        # Once the API has worked it is there; a list that breaks off, or a failure, is no empty list.
        if is_begun or not _is_absence(repository, error):
            raise
        # A repository that does not exist has no referrers either; only a registry that has shown the API knows.
        return [] if client.capabilities.offers(Capability.REFERRERS) else None
    except ProtocolViolation as error:
        if not is_begun:
            error.hint = f"{error.hint} Images can be copied without what is attached to them by 'referrers: false'."
        raise
    return found


def _members(repository: RegistryRepository, document: dict[str, Any], reply: Reply) -> list[Any]:
    """Return what a page lists; some registries write an empty list as null, or not at all."""
    listed = document.get("manifests")
    if isinstance(listed, list):
        return listed
    if listed is None and (document.get("mediaType") == media_types.OCI_INDEX or "schemaVersion" in document):
        return []
    raise ProtocolViolation(
        f"{repository.registry} answered with something that is no list of referrers",
        registry=repository.registry,
        method="GET",
        url=redact(reply.url),
        hint="Something that is not a registry may be answering: a proxy, or a log-in page.",
        side=repository.side,
    )


def _is_absence(repository: RegistryRepository, error: NotFound | StatusError) -> bool:
    """Tell whether ``error`` says that there is nothing to be asked here, and remember it where it does.

    What is not the answer that the specification gives for an absent API is told of: signatures that
    only the API lists would be missed.
    """
    capabilities = repository.client.capabilities
    if isinstance(error, NotFound):
        if "NAME_UNKNOWN" in error.codes:
            return True
        if not capabilities.offers(Capability.REFERRERS):
            if "MANIFEST_UNKNOWN" in error.codes and not capabilities.referrers_in_doubt:
                # A subject that has just been deleted must not hide what refers to all others.
                capabilities.referrers_in_doubt = True
                return True
            capabilities.learn(Capability.REFERRERS, offered=False)
        elif "MANIFEST_UNKNOWN" not in error.codes:
            # It was there a while ago, and perhaps is on another of the machines behind this name.
            capabilities.forget(Capability.REFERRERS)
        return True
    if capabilities.offers(Capability.REFERRERS):
        return False
    if error.status in _NOT_OFFERED:
        capabilities.learn(Capability.REFERRERS, offered=False)
    elif error.status in _REFUSED:
        _refuse(repository, str(error.status))
        return True
    else:
        return False
    _tell(repository, str(error.status), "this registry")
    return True


def _refuse(repository: RegistryRepository, answer: str) -> None:
    repository.client.capabilities.refuse_referrers(repository.repository)
    _tell(repository, answer, str(repository))


def _tell(repository: RegistryRepository, answer: str, place: str) -> None:
    repository.client.notice(
        f"the referrers API answered {answer}: the signatures and the like of {place} are found by tags only"
    )


async def delete(repository: RegistryRepository, digest: Digest) -> None:
    """Delete a manifest, and take it off the list of what refers to its subject where that is kept under a tag.

    distribution-spec "Deleting Manifests": a registry with the referrers API does the latter itself. Where that
    is not known, the manifest is read first, for its subject.

    Raises:
        NotFound: when there is no such manifest.
        RegistryError: when it cannot be deleted, or the list not be written afterwards.
    """
    subject: Descriptor | None = None
    if not repository.client.capabilities.offers(Capability.REFERRERS):
        try:
            subject = (await repository.fetch_manifest(digest)).subject
        except (ContentError, ProtocolViolation, StatusError) as error:
            if isinstance(error, NotFound) or error.retryable:
                raise
            # What cannot be read may be deleted all the same, and is no referrer that anybody could list.
            subject = None
    await repository.delete(digest)
    if subject is not None:
        await repository.client.fallback_tags.remove(repository, subject.digest, digest)


async def _from_tag(repository: RegistryRepository, tag: str) -> list[Descriptor]:
    manifest = await _held(repository, tag)
    # Anybody can push anything under such a tag; what is no index lists nothing.
    return list(manifest.manifests) if manifest is not None and manifest.is_index else []


async def _held(repository: RegistryRepository, tag: str) -> Manifest | None:
    """Return what the tag of a list stands for; None when there is no such tag."""
    try:
        return await repository.fetch_manifest(tag)
    except NotFound:
        return None
    except Denied:
        # Artifactory denies what is not there. A list that is there and may not be read is another matter.
        if tag in [listed async for listed in repository.tags()]:
            raise
        return None


class FallbackTags:
    """Keeps the lists of referrers in registries that do not do so themselves, one change at a time for each."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], tuple[anyio.Lock, int]] = {}
        #: The places that referrers have in the source's list, by repository and tag.
        self._orders: OrderedDict[tuple[str, str], dict[str, int]] = OrderedDict()
        self._places = 0

    def order(self, repository: RegistryRepository, subject: Digest, digests: Sequence[Digest]) -> None:
        """Keep the list of ``subject`` in the order of ``digests``, where it is kept here and holds nothing else."""
        if repository.client.capabilities.offers(Capability.REFERRERS):
            return
        key = (repository.repository, fallback_tag(subject))
        self._forget_order(key)
        self._orders[key] = {digest: at for at, digest in enumerate(digests)}
        self._places += len(self._orders[key])
        while self._places > _MOST_PLACES:
            self._forget_order(next(iter(self._orders)))

    async def add(self, repository: RegistryRepository, subject: Digest, referrer: Descriptor) -> None:
        """List ``referrer`` under the tag of ``subject`` (distribution-spec "Referrers Tag Schema").

        Raises:
            MalformedManifest: when the tag holds something that is no index; it is left alone.
            RegistryError: when the list cannot be read or written.
        """
        tag = fallback_tag(subject)
        async with self._alone(repository.repository, tag):
            current = await self._current(repository, subject, tag)
            if current is not None and any(held.digest == referrer.digest for held in current.manifests):
                return
            await self._write(repository, tag, current, referrer)

    async def remove(self, repository: RegistryRepository, subject: Digest, referrer: Digest) -> None:
        """Take ``referrer`` off the list under the tag of ``subject``, if there is one and it is on it.

        Raises:
            RegistryError: when the list cannot be read or written.
        """
        tag = fallback_tag(subject)
        async with self._alone(repository.repository, tag):
            try:
                current = await _held(repository, tag)
            except ContentError:
                # Something that is no list: nothing to be taken off.
                return
            if current and current.is_index and any(held.digest == referrer for held in current.manifests):
                await self._write(repository, tag, current, None, frozenset({str(referrer)}))

    async def _write(
        self,
        repository: RegistryRepository,
        tag: str,
        current: Manifest | None,
        referrer: Descriptor | None,
        stale: frozenset[str] = frozenset(),
    ) -> None:
        """Write the list with ``referrer`` and without what is ``stale``, or what the registry has no longer."""
        added = () if referrer is None else (referrer,)
        order = self._orders.get((repository.repository, tag), {})
        own = frozenset(one.digest for one in added)
        for is_last in (*[False] * _MOST_REPAIRS, True):
            if current is None:
                changed = Manifest.parse(referrers_index(added), media_types.OCI_INDEX)
            elif current.size > _CHANGED_ON_LOOP:
                changed = await anyio.to_thread.run_sync(_changed, current, added, stale, order)
            else:
                changed = _changed(current, added, stale, order)
            try:
                from syncer.registry import manifests  # noqa: PLC0415 - only what is pushed has a list to be kept

                await manifests.put(repository, changed, tag)
            except NotFound as error:
                # The registry no longer has what somebody listed once, and refuses the list for that.
                held = {one.digest for one in changed.manifests} - own
                if is_last or not held.intersection(error.missing) or own.intersection(error.missing):
                    raise
                stale = stale.union(error.missing)
            else:
                if len(changed.manifests) >= len(order):
                    self._forget_order((repository.repository, tag))
                return

    def _forget_order(self, key: tuple[str, str]) -> None:
        self._places -= len(self._orders.pop(key, ()))

    async def _current(self, repository: RegistryRepository, subject: Digest, tag: str) -> Manifest | None:
        current = await _held(repository, tag)
        if current is None or current.is_index:
            return current
        raise MalformedManifest(
            f"{repository.asked(tag)} should list what refers to {subject}, but it is no index",
            hint="Delete that tag in the target, then run again.",
            side=repository.side,
        )

    @asynccontextmanager
    async def _alone(self, repository: str, tag: str) -> AsyncIterator[None]:
        """Hold the lock of one list; it exists only while somebody wants it."""
        key = (repository, tag)
        lock, users = self._locks.get(key, (anyio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)


def _changed(
    current: Manifest, added: Collection[Descriptor], stale: Collection[str], order: Mapping[str, int]
) -> Manifest:
    """Return the list with ``added`` and without what is ``stale``; the rest stays as it is.

    What is added comes last, but in its place where ``order`` has one for each that is listed.

    Raises:
        MalformedManifest: when it is nested too deep to be written again, or has a number that cannot be.
        SizeExceedsLimit: when it would be over the bounds of an index.
    """
    document = parse_object(current.raw, is_rewritten=True)
    # Some tools write an empty list as null, or not at all.
    kept = [entry for entry in document.get("manifests") or () if entry["digest"] not in stale]
    listed = [*kept, *(referrer.to_json() for referrer in added)]
    if all(entry["digest"] in order for entry in listed):
        listed.sort(key=lambda entry: order[entry["digest"]])
    document["manifests"] = listed
    try:
        raw = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except (RecursionError, ValueError):
        raise MalformedManifest(f"the list of referrers {current.digest} cannot be written again") from None
    return Manifest.parse(raw, media_types.OCI_INDEX)
