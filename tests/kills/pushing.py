"""What a client does to a registry that is killed beneath it, step by step, and what it was promised so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import aiohttp

    from syncer.oci import Digest, Manifest
    from tests.support.images import Sample

OCTETS = {"Content-Type": "application/octet-stream"}
#: The repository that all clients write to, and the tag that they all push.
CROWD, CROWDED = "crowd/app", "latest"
_GONE = 404


class Refused(Exception):
    """The registry gave an answer that it must not give."""


@dataclass
class Promises:
    """What a registry has acknowledged: the paths that are there, those that are gone, and what tags stand for."""

    held: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, repository: str, digest: str, kind: str = "blobs") -> None:
        """Content was acknowledged."""
        path = f"/v2/{repository}/{kind}/{digest}"
        self.held.add(path)
        self.gone.discard(path)

    def remove(self, repository: str, digest: str, kind: str = "blobs") -> None:
        """A deletion was acknowledged."""
        path = f"/v2/{repository}/{kind}/{digest}"
        self.held.discard(path)
        self.gone.add(path)
        self.tags = {key: value for key, value in self.tags.items() if (key[0], value) != (repository, digest)}

    def tags_of(self, repository: str) -> dict[str, str]:
        """Return what the tags of a repository stand for."""
        return {tag: digest for (name, tag), digest in self.tags.items() if name == repository}


@dataclass(frozen=True)
class Answer:
    """What the registry said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Client:
    """One client: its connection, the upload session it has open, and how many bytes it had to send again."""

    http: aiohttp.ClientSession
    url: str
    location: str = ""
    acknowledged: int = 0
    resent: int = 0

    async def ask(self, method: str, path: str, *, data: bytes = b"", **headers: str) -> Answer:
        """Ask for ``path``."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, self.url + path, data=data, headers={**OCTETS, **names}) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def demand(self, status: int, method: str, path: str, *, data: bytes = b"", **headers: str) -> str:
        """Ask, and insist on a status; return where the answer leads to.

        Raises:
            Refused: when it is another.
        """
        answer = await self.ask(method, path, data=data, **headers)
        if answer.status != status:
            raise Refused(f"{method} {path}: {answer.status} in place of {status}: {answer.body!r}")
        return answer.headers.get("Location", "")

    async def has(self, path: str) -> bool:
        """Tell whether something is there."""
        return (await self.ask("HEAD", path)).status != _GONE


class Step(Protocol):
    """One thing that a client asks for, once or, when it was never told of an end, again."""

    async def do(self, client: Client, *, again: bool) -> None:
        """Ask for it.

        Raises:
            Refused: when the answer is not what it must be.
            aiohttp.ClientError, OSError: when the server died.
        """
        ...

    def note(self, promises: Promises) -> None:
        """Take note that it was acknowledged."""
        ...


@dataclass(frozen=True)
class Blob:
    """Push a blob in one piece: POST and PUT, or a POST alone."""

    repository: str
    data: bytes
    digest: Digest
    in_one: bool = False

    async def do(self, client: Client, *, again: bool) -> None:
        """Ask for it."""
        if again:
            if await client.has(f"/v2/{self.repository}/blobs/{self.digest}"):
                return
            client.resent += len(self.data)
        start = f"/v2/{self.repository}/blobs/uploads/"
        if self.in_one:
            await client.demand(201, "POST", f"{start}?digest={self.digest}", data=self.data)
            return
        location = await client.demand(202, "POST", start)
        await client.demand(201, "PUT", f"{location}?digest={self.digest}", data=self.data)

    def note(self, promises: Promises) -> None:
        """Take note."""
        promises.add(self.repository, self.digest)


@dataclass(frozen=True)
class Open:
    """Open an upload session."""

    repository: str

    async def do(self, client: Client, *, again: bool) -> None:
        """Ask for it."""
        del again
        client.location = await client.demand(202, "POST", f"/v2/{self.repository}/blobs/uploads/")
        client.acknowledged = 0

    def note(self, promises: Promises) -> None:
        """Nothing that lasts was promised."""


@dataclass(frozen=True)
class Chunk:
    """Send the bytes of a session up to ``end``, from where the registry says it is."""

    data: bytes
    end: int

    async def do(self, client: Client, *, again: bool) -> None:
        """Ask for it."""
        start = client.acknowledged
        if again:
            start = await self._offset(client)
            client.resent += client.acknowledged + len(self.data[client.acknowledged : self.end]) - start
        if start < self.end:
            span = f"{start}-{self.end - 1}"
            part = self.data[start : self.end]
            await client.demand(202, "PATCH", client.location, data=part, Content_Range=span)
        client.acknowledged = self.end

    def note(self, promises: Promises) -> None:
        """What was promised is in the client: the offset."""

    async def _offset(self, client: Client) -> int:
        answer = await client.ask("GET", client.location)
        last = int(answer.headers.get("Range", "0-0").partition("-")[2])
        offset = last + 1 if last else 0
        if answer.status != 204 or offset < client.acknowledged:
            raise Refused(f"the session is at {offset} ({answer.status}), and was at {client.acknowledged}")
        return offset


@dataclass(frozen=True)
class Commit:
    """End the session: what was sent is a blob now."""

    repository: str
    digest: Digest

    async def do(self, client: Client, *, again: bool) -> None:
        """Ask for it."""
        if again and await client.has(f"/v2/{self.repository}/blobs/{self.digest}"):
            return
        await client.demand(201, "PUT", f"{client.location}?digest={self.digest}")

    def note(self, promises: Promises) -> None:
        """Take note."""
        promises.add(self.repository, self.digest)


@dataclass(frozen=True)
class Mount:
    """Mount a blob from another repository."""

    repository: str
    origin: str
    digest: Digest

    async def do(self, client: Client, *, again: bool) -> None:
        """Ask for it."""
        del again
        query = f"mount={self.digest}&from={self.origin}"
        await client.demand(201, "POST", f"/v2/{self.repository}/blobs/uploads/?{query}")

    def note(self, promises: Promises) -> None:
        """Take note."""
        promises.add(self.repository, self.digest)


@dataclass(frozen=True)
class Put:
    """Push a manifest, by ``tag`` or by its digest."""

    repository: str
    manifest: Manifest
    tag: str = ""

    async def do(self, client: Client, *, again: bool) -> None:
        """Ask for it."""
        del again
        path = f"/v2/{self.repository}/manifests/{self.tag or self.manifest.digest}"
        await client.demand(201, "PUT", path, data=self.manifest.raw, Content_Type=self.manifest.media_type)

    def note(self, promises: Promises) -> None:
        """Take note."""
        promises.add(self.repository, self.manifest.digest, "manifests")
        if self.tag:
            promises.tags[self.repository, self.tag] = self.manifest.digest


@dataclass(frozen=True)
class Delete:
    """Delete a manifest, a blob (``kind`` says which), or a tag."""

    repository: str
    reference: str
    kind: str = "manifests"

    async def do(self, client: Client, *, again: bool) -> None:
        """Ask for it; who asks again may find it gone."""
        path = f"/v2/{self.repository}/{self.kind}/{self.reference}"
        if not again or await client.has(path):
            await client.demand(202, "DELETE", path)

    def note(self, promises: Promises) -> None:
        """Take note."""
        if ":" in self.reference:
            promises.remove(self.repository, self.reference, self.kind)
        else:
            promises.tags.pop((self.repository, self.reference), None)


def image(repository: str, sample: Sample, tag: str = "", *, lacking: Sequence[Digest] | None = None) -> list[Step]:
    """Return the steps that push a sample, of its blobs only those ``lacking`` when given."""
    steps: list[Step] = [
        Blob(repository, data, digest, in_one=at % 2 == 1)
        for at, (digest, data) in enumerate(sample.blobs.items())
        if lacking is None or digest in lacking
    ]
    steps += [Put(repository, child) for child in sample.children]
    return [*steps, Put(repository, sample.manifest, tag)]


class Script:
    """A client's life: pushes in every form, tags that move and come back, deletions of each kind.

    It has two repositories of its own; in :data:`CROWD` it pushes the tag that all clients push.
    """

    def __init__(self, team: str = "team") -> None:
        self.app, self.other = f"{team}/app", f"{team}/other"
        shared = images.random_bytes(3000, "shared")
        self.crowded = images.image(seed=team, layers=1)
        self.shared = images.blob(shared)
        self.first = images.image(seed="first", layers=1, shared=[shared])
        self.second = images.image(seed="second", layers=1, shared=[shared])
        self.nightly = images.index(seed="nightly", layers=1)
        #: What is in the registry, and in its index.json, before the first step.
        self.before = {"v1": self.first, "old": images.image(seed="old", layers=1), "nightly": self.nightly}
        self.steps = self._steps()

    def promises(self) -> Promises:
        """Return what holds before the first step."""
        promises = Promises()
        for tag, sample in self.before.items():
            for digest in sample.blobs:
                promises.add(self.app, digest)
            for manifest in sample.manifests:
                promises.add(self.app, manifest.digest, "manifests")
            promises.tags[self.app, tag] = str(sample.digest)
        return promises

    def _steps(self) -> list[Step]:
        large = images.random_bytes(400_000, "large")
        streamed = images.image(seed="streamed", layers=0, shared=[large])
        multi = images.index(seed="multi", layers=1)
        signature = images.artifact(subject=multi.manifest, seed="signature")
        alone = images.image(seed="alone", layers=1, shared=[images.random_bytes(3000, "shared")])
        own = self.first.manifest.layers[-1].digest
        old = self.before["old"]
        lacking = [digest for digest in alone.blobs if digest != self.shared.digest]
        return [
            *image(CROWD, self.crowded, CROWDED),
            *image(self.app, self.second, "v1", lacking=[d for d in self.second.blobs if d != self.shared.digest]),
            Delete(self.app, "old"),
            Delete(self.app, self.first.digest),
            Delete(self.app, own, "blobs"),
            Open(self.app),
            Chunk(large, 150_000),
            Chunk(large, 400_000),
            Commit(self.app, images.blob(large).digest),
            *image(
                self.app,
                streamed,
                "streamed",
                lacking=[config.digest for config in streamed.manifest.blobs() if config.size < len(large)],
            ),
            *image(self.app, multi, "multi"),
            *image(self.app, signature),
            Mount(self.other, self.app, self.shared.digest),
            *image(self.other, alone, "alone", lacking=lacking),
            # The children of an index stay, with entries of their own from now on.
            Delete(self.app, self.nightly.digest),
            Delete(self.app, old.digest),
            *(Delete(self.app, digest, "blobs") for digest in old.blobs),
            Put(CROWD, self.crowded.manifest, CROWDED),
            *image(self.app, self.first, "back", lacking=[own]),
            Put(self.app, self.first.manifest, "v1"),
            Delete(self.other, alone.digest),
            *(Delete(self.other, digest, "blobs") for digest in lacking),
            *image(self.other, alone, "alone", lacking=lacking),
        ]
