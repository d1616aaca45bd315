"""The registries of a spec, opened for the engine by the keys they have there."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from anyio import to_thread

from syncer.app.declared import client_of_spec
from syncer.app.layouts import layout_repository, layout_tree
from syncer.app.mirroring import Mirroring
from syncer.app.registries import HASTY, made_client, open_unnamed
from syncer.errors import Side
from syncer.plan.records import LearnedChallenge
from syncer.registry.auth.memory import Demand
from syncer.registry.standing import Standings
from syncer.spec.values import LayoutSpec, RegistrySpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path

    from syncer.app.surroundings import Surroundings
    from syncer.content import Catalog, Source, Target
    from syncer.events import Observer
    from syncer.layout.tree import LayoutTree
    from syncer.registry.client import RegistryClient
    from syncer.registry.settings import RegistrySettings
    from syncer.registry.standing import Standing
    from syncer.registry.unfinished import UnfinishedUploads
    from syncer.spec.values import Spec


class _SpecClients:
    """The clients of a spec's registries and of the mirrors that a ``registries.conf`` names; ``stack`` closes them."""

    def __init__(
        self,
        spec: Spec,
        surroundings: Surroundings,
        observer: Observer,
        stack: AsyncExitStack,
        *,
        learned: Sequence[LearnedChallenge],
        unfinished: UnfinishedUploads | None,
    ) -> None:
        self.by_name: dict[str, RegistryClient] = {}
        self._spec = spec
        self._surroundings = surroundings
        self._observer = observer
        self._stack = stack
        self._learned = learned
        self._unfinished = unfinished
        # Two keys may mean one registry, and what guards against oneself must be one, too.
        self._standings = Standings(clock=surroundings.clock, sleep=surroundings.sleep, random=surroundings.random)
        self._hasty = self._standings.with_policy(HASTY)

    async def declared(self, registry: RegistrySpec) -> RegistryClient:
        """Return the client of a registry of the spec."""
        known = self.by_name.get(registry.name)
        if known is not None:
            return known
        client = client_of_spec(
            registry,
            self._surroundings,
            self._observer,
            standings=self._standings,
            learned=[
                Demand(prefix=one.prefix, realm=one.realm, service=one.service)
                for one in self._learned
                if one.location == registry.location
            ],
            unfinished=self._unfinished,
        )
        self.by_name[registry.name] = await self._stack.enter_async_context(client)
        return self.by_name[registry.name]

    async def connect(self, host: str, *, insecure: bool, patient: bool) -> RegistryClient:
        """Return a client of a mirror: as the spec declares its host, else as a host of which nothing is said."""
        declared = _declared(self._spec, host)
        if declared is not None:
            return await self.declared(declared)
        known = self._standings if patient else self._hasty
        return await open_unnamed(host, self._surroundings, self._open, known, insecure=insecure)

    async def _open(self, settings: RegistrySettings, standing: Standing) -> RegistryClient:
        client = made_client(settings, self._surroundings, self._observer, standing=standing)
        return await self._stack.enter_async_context(client)


class SpecPlaces:
    """The registries of a spec, by their keys; what the engine calls Places."""

    def __init__(
        self,
        registries: Mapping[str, RegistrySpec | LayoutSpec],
        clients: dict[str, RegistryClient],
        trees: dict[str, LayoutTree],
        mirroring: Mirroring,
    ) -> None:
        self._registries = registries
        self._clients = clients
        self._trees = trees
        self._mirroring = mirroring

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        spec: Spec,
        surroundings: Surroundings,
        observer: Observer,
        *,
        learned: Iterable[LearnedChallenge] = (),
        unfinished: UnfinishedUploads | None = None,
    ) -> AsyncIterator[SpecPlaces]:
        """Open the registries that the entries of ``spec`` use; no request is sent before one is asked for.

        What an earlier run ``learned`` of how they want to be asked spares the first refusal. Uploads that it
        left ``unfinished`` are gone on with; without it none is noted either.

        Raises:
            LayoutError: when a layout tree cannot be opened.
            CertificateError, CredentialsError: when a file that the spec names cannot be used.
            SpecError: when a registries.conf cannot be used.
        """
        if spec.registries_conf:
            surroundings = replace(surroundings, registries_conf=spec.registries_conf)
        used = {name for entry in spec.entries for name in (entry.source_registry, entry.target_registry)}
        trees: dict[str, LayoutTree] = {}
        # Two keys may mean one tree, and what guards against oneself must be one, too.
        opened: dict[Path, LayoutTree] = {}
        async with AsyncExitStack() as stack:
            clients = _SpecClients(spec, surroundings, observer, stack, learned=tuple(learned), unfinished=unfinished)
            for name in sorted(used):
                match spec.registries[name]:
                    case RegistrySpec() as registry:
                        await clients.declared(registry)
                    case LayoutSpec(path=path):
                        place = await to_thread.run_sync(path.resolve)
                        if place not in opened:
                            opened[place] = await stack.enter_async_context(layout_tree(path))
                        trees[name] = opened[place]
            mirroring = await Mirroring.open(surroundings, clients.connect, observer)
            yield cls(spec.registries, clients.by_name, trees, mirroring)

    def learned(self) -> dict[str, list[LearnedChallenge]]:
        """Return how each registry wants to be asked, by its location; without any secret, for the next run."""
        found: dict[str, list[LearnedChallenge]] = {}
        for name, client in self._clients.items():
            location = self._registries[name].location
            found.setdefault(location, []).extend(
                LearnedChallenge(location=location, prefix=one.prefix, realm=one.realm, service=one.service)
                for one in client.learned()
            )
        return found

    def source(self, registry: str, repository: str) -> Source:
        """Return a repository to read from."""
        client = self._clients.get(registry)
        if client is None:
            return layout_repository(self._trees[registry], repository)
        # What the spec says of a registry holds, so an 'insecure' elsewhere adds nothing to it.
        route = self._mirroring.route(client.host, repository, has_say=True)
        if route is None:
            return client.repository(repository, Side.SOURCE)
        return self._mirroring.repository(client.host, repository, route, client)

    def target(self, registry: str, repository: str) -> Target:
        """Return a repository to write to."""
        if client := self._clients.get(registry):
            return client.repository(repository, Side.TARGET)
        return layout_repository(self._trees[registry], repository)

    def catalog(self, registry: str) -> Catalog:
        """Return the list of the registry's repositories."""
        if client := self._clients.get(registry):
            self._mirroring.check(client.host)
            return client.catalog(Side.SOURCE)
        return self._trees[registry]


def _declared(spec: Spec, host: str) -> RegistrySpec | None:
    """Return what the spec says of the registry ``host``, should it say anything."""
    found = (place for place in spec.registries.values() if isinstance(place, RegistrySpec))
    return next((registry for registry in found if registry.host == host), None)
