"""The places that the conformance suite runs over.

To add one: write a context manager that takes an empty directory and yields a :class:`Place`, and
name it in :data:`FACTORIES`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from syncer.app.places import Opened
from syncer.layout.archive import ArchiveSource
from syncer.layout.archive_target import ArchiveTarget
from syncer.layout.dir import DirSource, DirTarget
from syncer.layout.repository import LayoutRepository
from syncer.layout.tree import LayoutTree
from syncer.oci import Reference
from tests.support.docker_registry import docker_registry
from tests.support.observing import Recorder
from tests.support.world import HERE, embedded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from syncer.content import Source, Target


class Trait(StrEnum):
    """What only some places can do."""

    TAGS = "tags"
    """Several images, each under its tag; else there is one image, and its reference is empty."""
    REFERRERS = "referrers"
    MOUNTS = "mounts"
    DELETES = "deletes"
    REPOSITORIES = "repositories"
    """Several repositories, by name."""
    FOREIGN_LAYERS = "foreign layers"
    """Takes a manifest whose layer lives elsewhere."""
    MANIFEST_ERRORS = "manifest errors"
    """Says that a blob is no manifest, rather than failing on it."""


class Place(Protocol):
    """Somewhere to write to, and then to read from."""

    @property
    def traits(self) -> frozenset[Trait]:
        """What it can do."""
        ...

    def writing(self, repository: str = "app") -> AbstractAsyncContextManager[Target]:
        """Open a repository for writing; leaving the block ends the writing."""
        ...

    def reading(self, repository: str = "app") -> AbstractAsyncContextManager[Source]:
        """Open a repository for reading, after the writing has ended."""
        ...


@dataclass(frozen=True, kw_only=True)
class _LayoutPlace:
    root: Path
    traits = frozenset(Trait)

    @asynccontextmanager
    async def writing(self, repository: str = "app") -> AsyncGenerator[Target, None]:
        tree = LayoutTree(self.root, durable=False)
        try:
            yield LayoutRepository(tree, repository)
        finally:
            await tree.close()

    @asynccontextmanager
    async def reading(self, repository: str = "app") -> AsyncGenerator[Source, None]:
        tree = LayoutTree(self.root, durable=False)
        try:
            yield LayoutRepository(tree, repository)
        finally:
            await tree.close()


@dataclass(frozen=True, kw_only=True)
class _ArchivePlace:
    path: Path
    traits = frozenset({Trait.TAGS, Trait.REFERRERS, Trait.FOREIGN_LAYERS, Trait.MANIFEST_ERRORS})

    @asynccontextmanager
    async def writing(self, repository: str = "app") -> AsyncGenerator[Target, None]:
        async with await ArchiveTarget.open(self.path, repository, durable=False) as target:
            yield target

    @asynccontextmanager
    async def reading(self, repository: str = "app") -> AsyncGenerator[Source, None]:
        async with await ArchiveSource.open(self.path, repository) as source:
            yield source


@dataclass(frozen=True, kw_only=True)
class _DirPlace:
    path: Path
    traits = frozenset({Trait.FOREIGN_LAYERS, Trait.MANIFEST_ERRORS})

    @asynccontextmanager
    async def writing(self, repository: str = "app") -> AsyncGenerator[Target, None]:
        async with await DirTarget.open(self.path, repository, durable=False) as target:
            yield target

    @asynccontextmanager
    async def reading(self, repository: str = "app") -> AsyncGenerator[Source, None]:
        yield await DirSource.open(self.path, repository)


@asynccontextmanager
async def layout(folder: Path) -> AsyncGenerator[Place, None]:
    """Yield a tree of OCI layouts."""
    yield _LayoutPlace(root=folder / "tree")


@asynccontextmanager
async def archive(folder: Path) -> AsyncGenerator[Place, None]:
    """Yield an OCI archive."""
    yield _ArchivePlace(path=folder / "archive.tar")


@asynccontextmanager
async def directory(folder: Path) -> AsyncGenerator[Place, None]:
    """Yield a ``dir:``."""
    yield _DirPlace(path=folder / "dir")


@dataclass(frozen=True, kw_only=True)
class _RegistryPlace:
    host: str
    traits: frozenset[Trait] = frozenset(Trait)

    @asynccontextmanager
    async def writing(self, repository: str = "app") -> AsyncGenerator[Target, None]:
        async with Opened(HERE, Recorder()) as opened:
            yield await opened.target(Reference(registry=self.host, repository=repository))

    @asynccontextmanager
    async def reading(self, repository: str = "app") -> AsyncGenerator[Source, None]:
        async with Opened(HERE, Recorder()) as opened:
            yield await opened.source(Reference(registry=self.host, repository=repository))


@asynccontextmanager
async def registry(folder: Path) -> AsyncGenerator[Place, None]:
    """Yield an embedded registry, asked through the client."""
    async with embedded(folder / "served") as server:
        yield _RegistryPlace(host=server.host)


@asynccontextmanager
async def witness(folder: Path) -> AsyncGenerator[Place, None]:
    """Yield Debian's docker-registry, asked through the client.

    It deletes no tag on its own, takes no foreign layer unless configured to, and answers 500 when a
    blob is asked for as a manifest.
    """
    lacks = {Trait.DELETES, Trait.FOREIGN_LAYERS, Trait.MANIFEST_ERRORS}
    with docker_registry(folder / "witness") as server:
        yield _RegistryPlace(host=server.host, traits=frozenset(Trait) - lacks)


FACTORIES: dict[str, Callable[[Path], AbstractAsyncContextManager[Place]]] = {
    "layout": layout,
    "archive": archive,
    "dir": directory,
    "registry": registry,
    "docker-registry": witness,
}
