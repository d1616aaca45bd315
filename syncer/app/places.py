"""Opening what specs and references name, and closing it together.

:class:`SpecPlaces` serves the engine by the keys of a spec's registries, :class:`Opened` serves
commands by references.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import CancelScope, Lock, to_thread

from syncer.app.mirroring import Mirroring
from syncer.app.registries import HASTY, client_of_spec, made_client, open_unnamed, settings_of_host
from syncer.errors import InvalidReference, Side
from syncer.oci.reference import PathReference, Reference, Transport, check_host
from syncer.plan.records import LearnedChallenge
from syncer.registry.auth.memory import Demand
from syncer.registry.settings import TlsSettings
from syncer.registry.standing import Standings
from syncer.spec.values import LayoutSpec, RegistrySpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from syncer.app.surroundings import Surroundings
    from syncer.content import Catalog, Source, Target
    from syncer.events import Observer
    from syncer.layout.repository import LayoutRepository
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
        self._standings = Standings(clock=surroundings.clock, random=surroundings.random)
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
                            opened[place] = await stack.enter_async_context(_layout_tree(path))
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
            return _layout_repository(self._trees[registry], repository)
        # What the spec says of a registry holds, so an 'insecure' elsewhere adds nothing to it.
        route = self._mirroring.route(client.host, repository, has_say=True)
        if route is None:
            return client.repository(repository, Side.SOURCE)
        return self._mirroring.repository(client.host, repository, route, client)

    def target(self, registry: str, repository: str) -> Target:
        """Return a repository to write to."""
        if client := self._clients.get(registry):
            return client.repository(repository, Side.TARGET)
        return _layout_repository(self._trees[registry], repository)

    def catalog(self, registry: str) -> Catalog:
        """Return the list of the registry's repositories."""
        if client := self._clients.get(registry):
            self._mirroring.check(client.host)
            return client.catalog(Side.SOURCE)
        return self._trees[registry]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """How the registry of a reference is reached; the paths are PEM files, empty where there is none."""

    #: Hosts, and ``*.domains``, that it may lead to wherever they are.
    trusted_hosts: tuple[str, ...] = ()
    #: None: plain HTTP for loopback addresses where nothing is said of certificates, TLS for all others.
    plain_http: bool | None = None
    ca: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False


class Opened:
    """What a command has opened by reference; closed with its context.

    An archive appears under its name when the context ends without an error, and not at all otherwise.
    """

    def __init__(self, surroundings: Surroundings, observer: Observer) -> None:
        self._surroundings = surroundings
        self._observer = observer
        self._stack = AsyncExitStack()
        self._clients: dict[tuple[str, Reach], RegistryClient] = {}
        self._standings = Standings(clock=surroundings.clock, random=surroundings.random)
        self._hasty = self._standings.with_policy(HASTY)
        self._mirroring: Mirroring | None = None
        self._lock = Lock()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def source(self, reference: Reference | PathReference, reach: Reach | None = None) -> Source:
        """Open what ``reference`` names for reading.

        Raises:
            NotFound, LayoutError: when there is no such path, or it is not what the transport says.
            CertificateError, CredentialsError: when a file that is named cannot be used.
            SpecError: when a registries.conf cannot be used.
        """
        if not isinstance(reference, Reference):
            return await self._stack.enter_async_context(_path_source(reference))
        registry, repository = reference.registry, reference.repository
        mirroring = await self._rules()
        has_say = reach is not None and replace(reach, trusted_hosts=()) != Reach()
        route = mirroring.route(registry, repository, has_say=has_say)
        if route is None:
            return (await self.client(registry, reach)).repository(repository, Side.SOURCE)
        own = None if route.primary.insecure and not has_say else await self.client(registry, reach)
        return mirroring.repository(registry, repository, route, own)

    async def target(self, reference: Reference | PathReference, reach: Reach | None = None) -> Target:
        """Open what ``reference`` names for writing; layouts, archives and directories are created.

        Raises:
            LayoutError: when the path cannot be written or holds something else.
            CertificateError, CredentialsError: when a file that is named cannot be used.
        """
        if isinstance(reference, Reference):
            client = await self.client(reference.registry, reach)
            return client.repository(reference.repository, Side.TARGET)
        return await self._stack.enter_async_context(_path_target(reference))

    async def catalog(self, text: str, reach: Reach | None = None) -> Catalog:
        """Open the list of repositories of ``host[:port]``, or of the layout tree ``oci:PATH``.

        Raises:
            InvalidReference: when the text is neither.
        """
        if text.startswith(f"{Transport.OCI}:"):
            path = text.removeprefix(f"{Transport.OCI}:")
            if not path:
                raise InvalidReference(f"invalid registry {text!r}: the path is empty", hint="Write oci:PATH.")
            return await self._stack.enter_async_context(_layout_tree(Path(path)))
        name, slash, rest = text.removeprefix("docker://").rstrip("/").partition("/")
        if slash and "://" not in text.removeprefix("docker://"):
            raise InvalidReference(
                f"{text[:200]!r} is more than a registry", hint=f"Write {name}, with --prefix {rest}/ for a part of it."
            )
        host = check_host(name + slash + rest)
        (await self._rules()).check(host)
        client = await self.client(host, reach)
        return client.catalog(Side.SOURCE)

    async def client(self, host: str, reach: Reach | None = None) -> RegistryClient:
        """Open the registry ``host[:port]``."""
        reach = reach or Reach()
        known = self._clients.get((host, reach))
        if known is not None:
            return known
        tls = TlsSettings(ca=reach.ca, cert=reach.cert, key=reach.key, insecure=reach.insecure)
        settings = settings_of_host(host, self._surroundings, plain_http=reach.plain_http, tls=tls)
        settings = replace(settings, trusted_hosts=reach.trusted_hosts)
        standing = self._standings.of(settings, settings.base_url)
        self._clients[host, reach] = await self._enter(settings, standing)
        return self._clients[host, reach]

    async def _rules(self) -> Mirroring:
        async with self._lock:
            if self._mirroring is None:
                self._mirroring = await Mirroring.open(self._surroundings, self._connect, self._observer)
            return self._mirroring

    async def _enter(self, settings: RegistrySettings, standing: Standing) -> RegistryClient:
        client = made_client(settings, self._surroundings, self._observer, standing=standing)
        return await self._stack.enter_async_context(client)

    async def _connect(self, host: str, *, insecure: bool, patient: bool) -> RegistryClient:
        known = self._standings if patient else self._hasty
        return await open_unnamed(host, self._surroundings, self._enter, known, insecure=insecure)


def _declared(spec: Spec, host: str) -> RegistrySpec | None:
    """Return what the spec says of the registry ``host``, should it say anything."""
    found = (place for place in spec.registries.values() if isinstance(place, RegistrySpec))
    return next((registry for registry in found if registry.host == host), None)


@asynccontextmanager
async def _layout_tree(path: Path) -> AsyncIterator[LayoutTree]:
    from syncer.layout.tree import LayoutTree  # noqa: PLC0415 - registries need none of it

    tree = LayoutTree(path)
    try:
        yield tree
    finally:
        with CancelScope(shield=True):
            await tree.close()


def _layout_repository(tree: LayoutTree, repository: str) -> LayoutRepository:
    from syncer.layout.repository import LayoutRepository  # noqa: PLC0415 - as above

    return LayoutRepository(tree, repository)


@asynccontextmanager
async def _lone_layout(path: Path, *, create: bool) -> AsyncIterator[LayoutRepository]:
    from syncer.layout.repository import LayoutRepository  # noqa: PLC0415 - as above
    from syncer.layout.store import LayoutStore  # noqa: PLC0415 - as above

    store = await LayoutStore.open(path, create=create)
    try:
        yield LayoutRepository(store)
    finally:
        with CancelScope(shield=True):
            await store.close()


@asynccontextmanager
async def _path_source(reference: PathReference) -> AsyncIterator[Source]:
    from syncer.layout.archive import ArchiveSource  # noqa: PLC0415 - as above
    from syncer.layout.dir import DirSource  # noqa: PLC0415 - as above

    path = Path(reference.path)
    match reference.transport:
        case Transport.OCI:
            async with _lone_layout(path, create=False) as repository:
                yield repository
        case Transport.OCI_ARCHIVE:
            async with await ArchiveSource.open(path) as archive:
                yield archive
        case _:
            yield await DirSource.open(path)


@asynccontextmanager
async def _path_target(reference: PathReference) -> AsyncIterator[Target]:
    from syncer.layout.archive_target import ArchiveTarget  # noqa: PLC0415 - as above
    from syncer.layout.dir import DirTarget  # noqa: PLC0415 - as above

    path = Path(reference.path)
    match reference.transport:
        case Transport.OCI:
            async with _lone_layout(path, create=True) as repository:
                yield repository
        case Transport.OCI_ARCHIVE:
            async with await ArchiveTarget.open(path) as archive:
                yield archive
        case _:
            async with await DirTarget.open(path) as directory:
                yield directory
