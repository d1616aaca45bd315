"""Reading sources where ``registries.conf`` says: the files are found, the places opened as they are asked.

Only what is read is rerouted. A target is written where its name says, whatever the files say.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio
from anyio import to_thread

from syncer.app.surroundings import OFF
from syncer.errors import PolicyViolation, Side, SpecError
from syncer.registry.conf_places import VARIABLE, conf_places, is_without_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncer.app.surroundings import Surroundings
    from syncer.content import Source
    from syncer.events import Observer
    from syncer.registry.client import RegistryClient
    from syncer.registry.conf_places import ConfPlaces
    from syncer.registry.mirrors import MirroredRepository, MirrorHealth
    from syncer.registry.registries_conf import RegistriesConf, Route, Rule, Stop


_MAX_BYTES = 4 * 1024 * 1024
_HINT = "Correct it, or read no such file: --registries-conf off, or 'registries_conf: off' in the spec."


class Connect(Protocol):
    """Opens a registry."""

    async def __call__(self, host: str, *, insecure: bool, patient: bool) -> RegistryClient:
        """Return the client of ``host``.

        Args:
            host: ``host[:port]``.
            insecure: it need not have a certificate to be trusted, nor TLS.
            patient: it is worth the usual tries, as there is nobody else to ask.
        """
        ...


class Mirroring:
    """The rules of a process, and the sources that follow from them."""

    def __init__(self, conf: RegistriesConf | None, connect: Connect, observer: Observer) -> None:
        """Read along ``conf``, if there is any; the places on the way are opened by ``connect``, each once."""
        self._conf = conf
        self._connect = connect
        self._observer = observer
        self._health: MirrorHealth | None = None
        self._clients: dict[tuple[str, bool, bool], RegistryClient] = {}
        self._locks: dict[tuple[str, bool, bool], anyio.Lock] = {}

    @classmethod
    async def open(cls, surroundings: Surroundings, connect: Connect, observer: Observer) -> Mirroring:
        """Read the files.

        Raises:
            SpecError: when one of them cannot be read or is not valid.
        """
        return cls(await to_thread.run_sync(read_registries_conf, surroundings), connect, observer)

    def route(self, registry: str, repository: str, *, has_say: bool) -> Route | None:
        """Return how ``repository`` of ``registry`` is read; None where it is read as if there were no rule.

        With ``has_say``, spec or command line have said how the registry is reached, and ``insecure`` of
        a rule changes nothing of that.

        Raises:
            SpecError: when a rule makes something of the name that is none.
        """
        route = self._conf.route(registry, repository) if self._conf else None
        if route is None:
            return None
        primary = route.primary
        stays = primary.registry == registry and primary.repository == repository
        changes = route.mirrors or route.rule.blocked or (primary.insecure and not has_say)
        return None if stays and not changes else route

    def repository(
        self, registry: str, repository: str, route: Route, own: RegistryClient | None = None
    ) -> MirroredRepository:
        """Return the repository to read from along ``route``; ``own`` is the client of ``registry`` where it has one.

        What is configured for the registry, its credentials among it, goes to ``own`` only: other hosts
        are asked with what is known for them.
        """
        from syncer.registry.mirrors import MirroredRepository, MirrorHealth  # noqa: PLC0415 - most names have no mirror

        self._health = self._health or MirrorHealth(self._observer)

        async def opener(stop: Stop) -> Source:
            if own is not None and stop.registry == registry:
                return own.repository(stop.repository, Side.SOURCE)
            client = await self._client(stop.registry, insecure=stop.insecure, patient=stop is route.primary)
            return client.repository(stop.repository, Side.SOURCE)

        return MirroredRepository(registry, repository, route=route, opener=opener, health=self._health)

    def check(self, registry: str) -> None:
        """Refuse to list the repositories of a registry that is blocked.

        Raises:
            PolicyViolation: when it is.
        """
        rule = self._conf.rule(registry) if self._conf else None
        if rule is not None and rule.blocked:
            raise PolicyViolation(f"{registry} is blocked by {rule.file}", hint=_HINT, side=Side.SOURCE)

    async def _client(self, host: str, *, insecure: bool, patient: bool) -> RegistryClient:
        key = (host, insecure, patient)
        async with self._locks.setdefault(key, anyio.Lock()):
            if key not in self._clients:
                self._clients[key] = await self._connect(host, insecure=insecure, patient=patient)
            return self._clients[key]


def read_registries_conf(surroundings: Surroundings) -> RegistriesConf | None:
    """Read the files of this machine, or the one that is asked for; None where they hold no rules. Blocks.

    Raises:
        SpecError: when one of them cannot be read or is not valid.
    """
    asked = surroundings.registries_conf
    if asked == OFF:
        return None
    named = Path(asked) if asked else None
    places = conf_places(surroundings.environ, surroundings.home, surroundings.etc, named)
    files = list(_read_all(places, "" if named else f"${VARIABLE}"))
    if not any(files):
        return None
    from syncer.registry.registries_conf import RegistriesConf  # noqa: PLC0415 - most machines have no rules

    return RegistriesConf.merged(files)


def _read_all(places: ConfPlaces, named_by: str) -> Iterator[tuple[Rule, ...]]:
    folders = places.folders
    if places.named is not None:
        rules = _read(places.named)
        if rules is None:
            by = f", and {named_by} names it" if named_by else ""
            raise SpecError(
                f"there is no such file{by}", file=str(places.named), hint="Check the path, or write 'off'."
            )
        yield rules
    for path, following in places.usual:
        rules = _read(path)
        if rules is not None:
            folders = following
            yield rules
            break
    for folder in folders:
        for path in _additions(folder):
            yield _read(path) or ()


def _additions(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        try:
            return sorted(path for path in folder.iterdir() if path.suffix == ".conf" and path.is_file())
        except PermissionError:
            raise SpecError("the folder cannot be read: permission denied", file=str(folder), hint=_HINT) from None
    return []


def _read(path: Path) -> tuple[Rule, ...] | None:
    """Return the rules of a file; None when there is none."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise SpecError(f"cannot be read: {reason}", file=str(path), hint=_HINT) from None
    if len(raw) > _MAX_BYTES:
        raise SpecError("larger than 4 MiB", file=str(path), hint=_HINT)
    if is_without_rules(raw):
        return ()
    from syncer.registry.registries_conf import parse_registries_conf  # noqa: PLC0415 - as above

    return parse_registries_conf(raw, str(path))
