"""``registries.conf``: from where an image is read instead of the registry that its name says.

The format is version 2 of containers-registries.conf(5), which podman, skopeo and buildah read. Pure:
texts come in, rules come out; where the files are says :mod:`syncer.registry.conf_places`, and who reads
them is :mod:`syncer.app.mirroring`.
Of a file only the ``[[registry]]`` tables are used: names are never searched for, and credentials have
their own files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from syncer.errors import InvalidReference, SpecError
from syncer.oci.reference import check_host, check_repository

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

_WILDCARD = "*."
#: The time that the standard library takes for a key grows with the square of its parts; this many take some 0.2 s.
_MOST_WORK = 10_000_000
_TOML_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")


class PullFrom(StrEnum):
    """For which references a mirror is asked (``pull-from-mirror``)."""

    ALL = "all"
    DIGEST_ONLY = "digest-only"
    TAG_ONLY = "tag-only"

    def allows(self, reference: str) -> bool:
        """Tell whether a mirror may be asked for the tag or digest ``reference``."""
        return self is PullFrom.ALL or (self is PullFrom.DIGEST_ONLY) == (":" in reference)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirror:
    """A place that holds what another registry holds: ``location`` is ``host[:port][/namespace…]``."""

    location: str
    insecure: bool = False
    pull: PullFrom = PullFrom.ALL


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One ``[[registry]]`` table.

    Attributes:
        prefix: which names it is about: ``host``, ``host/namespace``, ``host/namespace/repository`` or ``*.domain``.
        location: what takes the prefix's place in a name; empty for ``*.domain`` where names stay as they are.
        file: the file that says so.
        insecure: any certificate will do, and so will plain HTTP.
        blocked: nothing is read from there.
        mirrors: in the order in which they are asked.
    """

    prefix: str
    location: str
    file: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()

    def matches(self, registry: str, repository: str) -> bool:
        """Tell whether the rule is about ``repository`` of ``registry``."""
        host, _, path = self.prefix.partition("/")
        if host.startswith(_WILDCARD):
            return registry.endswith(host[1:]) and len(registry) >= len(host)
        return registry == host and (not path or repository == path or repository.startswith(f"{path}/"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """One place on a route: a repository of a registry, and what may be asked of it."""

    registry: str
    repository: str
    insecure: bool = False
    pull: PullFrom = PullFrom.ALL

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Where a repository is read: its mirrors in order, then the ``primary``, by one ``rule``."""

    rule: Rule
    mirrors: tuple[Stop, ...]
    primary: Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistriesConf:
    """The rules of all files together, one for each prefix."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def merged(cls, files: Iterable[tuple[Rule, ...]]) -> Self:
        """Join the rules of several files; of those with one prefix the last holds."""
        return cls(rules=tuple({rule.prefix: rule for rules in files for rule in rules}.values()))

    def rule(self, registry: str, repository: str = "") -> Rule | None:
        """Return the rule with the longest prefix of the name, None where there is none."""
        fitting = [rule for rule in self.rules if rule.matches(registry, repository)]
        # Of two that are equally long, the one that names the host says more than the one with a star.
        return max(fitting, key=lambda rule: (len(rule.prefix), not rule.prefix.startswith(_WILDCARD)), default=None)

    def route(self, registry: str, repository: str) -> Route | None:
        """Return where to read ``repository`` of ``registry``; None when no rule is about it.

        Raises:
            SpecError: when a rule makes something of the name that is none.
        """
        rule = self.rule(registry, repository)
        if rule is None:
            return None
        host, _, path = rule.prefix.partition("/")
        rest = repository[len(path) :].removeprefix("/")
        keeps = Stop(registry=registry, repository=repository, insecure=rule.insecure)
        stays = not rule.location or (host == registry and rule.location == rule.prefix)
        primary = keeps if stays else _stop(rule, Mirror(location=rule.location, insecure=rule.insecure), rest)
        return Route(rule=rule, mirrors=tuple(_stop(rule, mirror, rest) for mirror in rule.mirrors), primary=primary)


def _stop(rule: Rule, mirror: Mirror, rest: str) -> Stop:
    host, _, namespace = mirror.location.partition("/")
    name = "/".join(part for part in (namespace, rest) if part)
    try:
        check_repository(name)
    except InvalidReference:
        raise SpecError(
            f"the location {mirror.location!r} makes {name or 'no repository'!r} of what is left of a name "
            f"after the prefix {rule.prefix!r}",
            file=rule.file,
            hint="Let the location name a repository where the prefix does.",
        ) from None
    return Stop(registry=host, repository=name, insecure=mirror.insecure, pull=mirror.pull)


# ---------------------------------------------------------------------- what is in a file


def parse_registries_conf(raw: bytes, file: str) -> tuple[Rule, ...]:
    """Read one file; the rules in its order.

    Raises:
        SpecError: when it is not TOML, of version 1, or a table says what cannot be; file and key are named.
            Also when its keys have parts by the thousand.
    """
    import tomllib  # noqa: PLC0415 - most machines have no such file

    if sum(text.count(b".") ** 2 for text in raw.split(b"\n")) > _MOST_WORK:
        raise SpecError("too many dots in a line", file=file, hint="Break the line up, or the file.")
    try:
        document = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError and UnicodeDecodeError are ValueErrors, and so is a number of thousands of digits.
        place = _TOML_PLACE.search(str(error))
        line, column = (int(place[1]), int(place[2])) if place else (None, None)
        raise SpecError("not valid TOML", file=file, line=line, column=column, hint="Correct the file.") from None
    if "registries" in document:
        raise SpecError(
            "this is version 1 of the format, which is not read",
            file=file,
            path="registries",
            hint="Write [[registry]] tables, see containers-registries.conf(5), or read no such file: "
            "--registries-conf off, or 'registries_conf: off' in the spec.",
        )
    tables = document.get("registry", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SpecError("expected [[registry]] tables", file=file, path="registry", hint="Write [[registry]].")
    return tuple(_rule(_Table(table, file, f"registry[{index}]")) for index, table in enumerate(tables))


class _Table:
    """A table of a file, with the path by which errors name its keys."""

    def __init__(self, content: dict[str, Any], file: str, path: str) -> None:
        self.content = content
        self.file = file
        self.path = path

    def error(self, key: str, message: str, hint: str = "Correct the file.") -> SpecError:
        return SpecError(message, file=self.file, path=f"{self.path}.{key}" if key else self.path, hint=hint)

    def text(self, key: str) -> str:
        value = self.content.get(key, "")
        if not isinstance(value, str):
            raise self.error(key, "expected text")
        return value

    def flag(self, key: str) -> bool:
        value = self.content.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, "expected true or false")
        return value


def _rule(table: _Table) -> Rule:
    location = _location(table, "location")
    prefix = _prefix(table) if table.text("prefix") else location
    if not prefix:
        raise table.error("", "expected 'prefix' or 'location', and there is neither")
    if not location and not prefix.startswith(_WILDCARD):
        raise table.error("location", "expected a 'location', which only a prefix with *. goes without")
    if "pull-from-mirror" in table.content:
        raise table.error("pull-from-mirror", "this belongs to a mirror", "Write it under [[registry.mirror]].")
    mirrors = table.content.get("mirror", [])
    if not isinstance(mirrors, list) or not all(isinstance(mirror, dict) for mirror in mirrors):
        raise table.error("mirror", "expected [[registry.mirror]] tables", "Write [[registry.mirror]].")
    by_digest = table.flag("mirror-by-digest-only")
    return Rule(
        prefix=prefix,
        location=location,
        file=table.file,
        insecure=table.flag("insecure"),
        blocked=table.flag("blocked"),
        mirrors=tuple(
            _mirror(_Table(mirror, table.file, f"{table.path}.mirror[{index}]"), by_digest=by_digest)
            for index, mirror in enumerate(mirrors)
        ),
    )


def _mirror(table: _Table, *, by_digest: bool) -> Mirror:
    location = _location(table, "location")
    if not location:
        raise table.error("location", "expected where the mirror is, and there is nothing")
    value = table.text("pull-from-mirror")
    if value and by_digest:
        raise table.error(
            "pull-from-mirror", "this does not go with 'mirror-by-digest-only'", "Remove one of the two keys."
        )
    if value and value not in list(PullFrom):
        raise table.error("pull-from-mirror", f"expected one of {', '.join(PullFrom)}, not {value[:80]!r}")
    pull = PullFrom.DIGEST_ONLY if by_digest else PullFrom(value or PullFrom.ALL)
    return Mirror(location=location, insecure=table.flag("insecure"), pull=pull)


def _location(table: _Table, key: str) -> str:
    """Return ``host[:port][/namespace…]`` in today's form; empty when it is not given."""
    text = table.text(key)
    if not text:
        return ""
    if "://" in text:
        raise table.error(key, f"expected host[:port]/…, not the URL {text[:160]!r}", "Leave the scheme out.")
    host, _, path = text.rstrip("/").partition("/")
    try:
        host = check_host(host)
        return f"{host}/{check_repository(path)}" if path else host
    except InvalidReference as error:
        raise table.error(key, error.message, error.hint) from None


def _prefix(table: _Table) -> str:
    text = table.text("prefix")
    if text.startswith(_WILDCARD):
        try:
            return f"{_WILDCARD}{check_host(text[len(_WILDCARD) :].rstrip('/'))}"
        except InvalidReference:
            raise table.error("prefix", f"expected *.domain, not {text[:160]!r}") from None
    last = text.rpartition("/")[2]
    if "@" in text or ("/" in text and ":" in last):
        raise table.error(
            "prefix",
            "prefixes that name a tag or a digest are not supported",
            "Let the prefix end with the repository, or read no such file: --registries-conf off, or "
            "'registries_conf: off' in the spec.",
        )
    return _location(table, "prefix")
