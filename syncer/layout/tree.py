"""A directory of many repositories, each an OCI image layout of its own at ROOT/<name>."""

from __future__ import annotations

import heapq
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio
from anyio.to_thread import run_sync

from syncer.errors import InvalidReference, LayoutError, NotFound
from syncer.layout import files
from syncer.layout.ledger import INDEX_FILE, LAYOUT_FILE, PRIVATE
from syncer.layout.store import LayoutStore, is_layout
from syncer.oci.reference import check_repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

#: Names that a layout needs for itself; as part of a repository's name they get an underscore in front,
#: which no part of a name starts with.
_TAKEN = frozenset({"blobs", LAYOUT_FILE, INDEX_FILE})
#: Stores that stay open although nobody uses them.
_KEPT_OPEN = 256
#: Names found per visit to a thread.
_PAGE = 1000


class LayoutTree:
    """Every repository below one root; implements :class:`syncer.content.Catalog`.

    A repository has one store, however many ask for it at the same time: a store lives as long as
    somebody holds it, and the ones used last are held here.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        """Look at ``root``; nothing is read or made before a store is asked for."""
        self.root = root
        self._durable = durable
        self._lock = files.FileLock(root / PRIVATE / "lock")
        self._locking = threading.Lock()
        self._alive: WeakValueDictionary[str, LayoutStore] = WeakValueDictionary()
        self._recent: OrderedDict[str, LayoutStore] = OrderedDict()
        self._opening: dict[str, anyio.Event] = {}

    def path(self, repository: str) -> Path:
        """Return the directory of a repository.

        Raises:
            InvalidReference: when the name breaks the grammar.
        """
        parts = check_repository(repository).split("/")
        return self.root.joinpath(*(f"_{part}" if part in _TAKEN else part for part in parts))

    async def store(self, repository: str, *, create: bool = False) -> LayoutStore:
        """Return the repository's layout, opened once.

        Raises:
            InvalidReference: when the name breaks the grammar.
            NotFound: when there is none and ``create`` is not set.
            LayoutError: when it cannot be used, or created while another process writes to the tree.
        """
        path = self.path(repository)
        while True:
            store = self._alive.get(repository)
            if store is not None:
                await self._keep(repository, store)
                return store
            under_way = self._opening.get(repository)
            if under_way is None:
                break
            await under_way.wait()
        self._opening[repository] = anyio.Event()
        try:
            store = await self._open(path, repository, create=create)
            self._alive[repository] = store
        finally:
            self._opening.pop(repository).set()
        await self._keep(repository, store)
        return store

    async def _open(self, path: Path, repository: str, *, create: bool) -> LayoutStore:
        def check() -> None:
            folder = self.root
            for part in path.relative_to(self.root).parts:
                folder /= part
                files.refuse_links(folder)
            if not create and not is_layout(path):
                raise NotFound(f"there is no repository {repository} in {self.root}")

        await run_sync(check)
        return await LayoutStore.open(path, create=create, durable=self._durable, before_writing=self._claim)

    def _claim(self) -> None:
        """Become the one process that writes to this tree; runs in a worker thread."""
        with self._locking:
            if not self._lock.is_held():
                files.refuse_links(self.root / PRIVATE)
                files.make_directory(self.root / PRIVATE, durable=self._durable)
                self._lock.acquire()

    async def _keep(self, repository: str, store: LayoutStore) -> None:
        self._recent[repository] = store
        self._recent.move_to_end(repository)
        while len(self._recent) > _KEPT_OPEN:
            _, oldest = self._recent.popitem(last=False)
            # Whoever still uses it goes on to; it is let go of here, and files and lock go with its last user.
            if oldest.is_dirty:
                # Its journal has everything; a full disk is for the one who writes to it to hear of.
                with suppress(LayoutError):
                    await oldest.flush()

    async def repositories(self, prefix: str = "") -> AsyncIterator[str]:
        """Yield the names that start with ``prefix``, in lexical order.

        Raises:
            NotFound: when the tree's root is not there.
        """
        names = self._walk(prefix)

        def page() -> list[str]:
            return list(islice(names, _PAGE))

        while found := await run_sync(page):
            for name in found:
                yield name

    def _walk(self, prefix: str) -> Iterator[str]:
        if not self.root.is_dir():
            raise NotFound(f"there is no layout tree at {self.root}", hint="Check the path.")
        # "a-b" sorts before "a/b", which is not the order of directories: a name and the names below it
        # ("a", "a/") are two entries of one heap.
        pending = list(self._below("", prefix))
        heapq.heapify(pending)
        while pending:
            name = heapq.heappop(pending)
            if name.endswith("/"):
                for entry in self._below(name, prefix):
                    heapq.heappush(pending, entry)
            elif is_layout(self.path(name)):
                yield name

    def _below(self, parent: str, prefix: str) -> Iterator[str]:
        folder = self.path(parent[:-1]) if parent else self.root
        with files.reported(folder), os.scandir(folder) as entries:
            parts = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for part in parts:
            plain = part[1:] if part[:1] == "_" and part[1:] in _TAKEN else part
            if part in _TAKEN or not _is_name(plain):
                continue
            name = f"{parent}{plain}"
            if name.startswith(prefix):
                yield name
            if name.startswith(prefix) or prefix.startswith(f"{name}/"):
                yield f"{name}/"

    async def flush(self) -> None:
        """Bring the index.json of every repository up to date, so that other tools see everything."""
        for store in list(self._alive.values()):
            if store.is_dirty:
                await store.flush()

    async def close(self) -> None:
        """Bring everything up to date and let other processes write.

        Raises:
            LayoutError: the first that a store raised; the others are closed all the same.
        """
        failures: list[LayoutError] = []
        with anyio.CancelScope(shield=True):
            for store in list(self._alive.values()):
                try:
                    await store.close()
                except LayoutError as error:
                    failures.append(error)
            self._recent.clear()
            await run_sync(self._lock.release)
        if failures:
            raise failures[0]


def _is_name(part: str) -> bool:
    try:
        check_repository(part)
    except InvalidReference:
        return False
    return True
