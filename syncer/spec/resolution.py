"""From what is written to what is meant: the values that the rest of Syncer works with."""

from __future__ import annotations

import difflib
import os.path
import re
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from syncer.errors import InvalidReference, SpecError, printable
from syncer.oci.reference import DOCKER_HUB
from syncer.spec.collisions import collisions, loops
from syncer.spec.routing import RepositoryPattern, RepositoryTemplate, image
from syncer.spec.selection import TagSelection
from syncer.spec.values import (
    Creation,
    Defaults,
    Download,
    LayoutSpec,
    Limits,
    PasswordCredentials,
    Place,
    RegistrySpec,
    Spec,
    SyncEntry,
    Timeouts,
    TlsFiles,
    TokenCredentials,
    Upload,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from syncer.spec.document import Document, Path
    from syncer.spec.model import CredentialsModel, EntryModel, RegistryModel, TlsModel, UploadModel
    from syncer.spec.validation import Parts

_REGISTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def resolve(document: Document, parts: Parts, base: FilePath) -> Spec:
    """Return the spec; what is wrong with it is reported to ``document``, and left out of the result."""
    resolution = _Resolution(document, parts, base)
    registries = {
        name: found
        for name, model in parts.registries.items()
        if (found := resolution.registry(name, model)) is not None
    }
    entries = [
        (index, entry)
        for index, model in parts.entries
        if (entry := resolution.entry(index, model, registries)) is not None
    ]
    resolution.check_names(entries)
    resolution.check_targets(entries, registries)
    return Spec(
        file=document.file,
        state=resolution.path(("state",), parts.state),
        registries=registries,
        entries=tuple(entry for _, entry in entries),
        defaults=Defaults(**dict(parts.defaults)),
        registries_conf=resolution.registries_conf(),
    )


class _Resolution:
    def __init__(self, document: Document, parts: Parts, base: FilePath) -> None:
        self._document = document
        self._parts = parts
        self._base = base

    # ------------------------------------------------------------------ registries

    def registry(self, name: str, model: RegistryModel) -> RegistrySpec | LayoutSpec | None:
        path: Path = ("registries", name)
        report = self._document.report
        if _REGISTRY_NAME.fullmatch(name) is None:
            hint = "Use up to 64 letters, digits, dots, underscores and dashes; the address goes under 'host'."
            report(path, f"{name[:80]!r} cannot name a registry", hint, at_key=True)
            return None
        if (model.host is None) == (model.layout is None):
            report(path, "expected either 'host' or 'layout'", "A registry has one of them.", at_key=True)
            return None
        if model.layout is not None:
            for key in sorted(model.model_fields_set - {"layout"}):
                report((*path, key), f"{key!r} does not apply to a layout", "Remove it.", at_key=True)
            return LayoutSpec(name=name, path=self.path((*path, "layout"), model.layout), place=self._place(path))
        if model.plain_http and model.tls is not None:
            report((*path, "tls"), "'tls' does not go with 'plain_http'", "Remove one of them.", at_key=True)
        limits = model.limits
        return RegistrySpec(
            name=name,
            host=model.host or "",
            credentials=self._credentials((*path, "credentials"), model.credentials),
            tls=self._tls((*path, "tls"), model.tls),
            plain_http=model.plain_http,
            limits=Limits(
                connections=limits.connections,
                requests_per_second=limits.requests_per_second,
                bandwidth=limits.bandwidth,
            )
            if limits
            else Limits(),
            timeouts=Timeouts(**dict(model.timeouts)) if model.timeouts else Timeouts(),
            proxy=model.proxy,
            trusted_hosts=model.trusted_hosts,
            download=Download(**dict(model.download)) if model.download else Download(),
            upload=self._upload((*path, "upload"), model.upload),
            creation=self._creation(model.create),
            place=self._place(path),
        )

    def registries_conf(self) -> str:
        """Return ``off``, the absolute path of a file, or nothing for the usual ones."""
        text = self._parts.registries_conf
        return text if text in ("", "off") else str(self.path(("registries_conf",), text))

    def path(self, path: Path, text: str) -> FilePath:
        """Return the file or folder ``text`` as an absolute path."""
        if text.startswith("~"):
            self._document.report(path, "'~' is not expanded", "Write ${HOME}/… instead.")
        elif "://" in text:
            self._document.report_value(path, "a file", "expected a path, not a URL", "Only files are supported yet.")
        # Not resolve(): a symbolic link may point elsewhere by the time it is used.
        return FilePath(os.path.normpath(self._base / text))

    def _credentials(self, path: Path, model: CredentialsModel | None) -> PasswordCredentials | TokenCredentials | None:
        if model is None:
            return None
        if model.token is not None and model.username is None and model.password is None:
            return TokenCredentials(token=model.token)
        if model.token is None and model.username is not None and model.password is not None:
            return PasswordCredentials(username=model.username, password=model.password)
        self._document.report(path, "expected 'username' and 'password', or 'token'", at_key=True)
        return None

    def _tls(self, path: Path, model: TlsModel | None) -> TlsFiles | None:
        if model is None:
            return None
        if (model.cert is None) != (model.key is None):
            self._document.report(path, "expected both of 'cert' and 'key', or none", at_key=True)
        files = {
            name: self.path((*path, name), text) if (text := getattr(model, name)) is not None else None
            for name in ("ca", "cert", "key")
        }
        if model.insecure and model.ca is not None:
            self._document.report(
                (*path, "insecure"), "'insecure' does not go with 'ca'", "Keep the 'ca'.", at_key=True
            )
        return TlsFiles(**files, insecure=model.insecure)

    def _upload(self, path: Path, model: UploadModel | None) -> Upload:
        if model is None:
            return Upload()
        if model.chunk is not None and model.form in ("put", "stream"):
            message = f"'chunk' does not go with 'form: {model.form}', which sends a blob in one piece"
            self._document.report((*path, "chunk"), message, "Remove one of them.", at_key=True)
        return Upload(form=model.form, chunk=model.chunk or 0)

    def _creation(self, creation: Creation | None) -> Creation | None:
        """Return what is to be done, a program that is named by a path with its absolute one."""
        if creation is None or not creation.command or "/" not in creation.command[0]:
            return creation
        program, *arguments = creation.command
        return Creation(kind=creation.kind, command=(os.path.normpath(self._base / program), *arguments))

    # ------------------------------------------------------------------ entries

    def entry(
        self, index: int, model: EntryModel, registries: Mapping[str, RegistrySpec | LayoutSpec]
    ) -> SyncEntry | None:
        path: Path = ("sync", index)
        source_registry, source_text = self._endpoint((*path, "from"), model.source, registries)
        target_registry, target_text = self._endpoint((*path, "to"), model.target, registries)
        source = self._pattern((*path, "from"), source_text)
        target = self._template((*path, "to"), target_text)
        if not source_registry or not target_registry or source is None or target is None:
            return None
        if not self._is_possible((*path, "to"), source, target):
            return None
        defaults, tags = self._parts.defaults, model.tags
        selection = TagSelection(include=tags.include or (), exclude=tags.exclude, immutable=tags.immutable)
        if selection.literal_tags() == ():
            message = "every tag that is included is excluded again"
            self._document.report((*path, "tags", "exclude"), message, "Name a tag in one of them only.", at_key=True)
        return SyncEntry(
            # Out of the environment may come bytes that are no text.
            name=printable(model.name or model.source),
            source_registry=source_registry,
            source=source,
            target_registry=target_registry,
            target=target,
            tags=selection,
            platforms=defaults.platforms if model.platforms is None else model.platforms,
            referrers=defaults.referrers if model.referrers is None else model.referrers,
            sole_writer=defaults.sole_writer if model.sole_writer is None else model.sole_writer,
            place=self._place(path),
        )

    def _endpoint(self, path: Path, text: str, registries: Mapping[str, RegistrySpec | LayoutSpec]) -> tuple[str, str]:
        """Split ``registry/repository``; an empty part was reported, or belongs to a registry that was."""
        name, slash, rest = text.partition("/")
        declared = self._parts.declared
        expected = "registry/repository"
        if not declared:
            return "", ""
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Declared are: {', '.join(sorted(declared)[:10])}."
            if "." in name or ":" in name:
                hint = "Declare the host under 'registries', and write the name it has there."
            message = f"no registry {name[:80]!r} is declared"
            self._document.report_value(path, "a declared registry", message, hint)
            return "", ""
        if not slash or not rest:
            hint = f"Write {name}/REPOSITORY, or {name}/** for all of them."
            self._document.report_value(
                path, expected, "expected registry/repository, and there is no repository", hint
            )
            return name, ""
        if ":" in rest or "@" in rest:
            hint = "Tags are chosen under 'tags': {include: [...]}."
            self._document.report_value(path, expected, f"{rest[:160]!r} has a tag or a digest", hint)
            return name, ""
        registry = registries.get(name)
        if isinstance(registry, RegistrySpec) and registry.host == DOCKER_HUB:
            rest = _on_the_hub(rest)
        return name if registry is not None else "", rest

    def _pattern(self, path: Path, text: str) -> RepositoryPattern | None:
        try:
            return RepositoryPattern.parse(text) if text else None
        except (SpecError, InvalidReference) as error:
            message = error.detail if isinstance(error, SpecError) else error.message
            self._document.report_value(path, "a repository name or a glob", message, error.hint)
            return None

    def _template(self, path: Path, text: str) -> RepositoryTemplate | None:
        try:
            return RepositoryTemplate.parse(text) if text else None
        except (SpecError, InvalidReference) as error:
            message = error.detail if isinstance(error, SpecError) else error.message
            self._document.report_value(path, "a repository name or a template", message, error.hint)
            return None

    def _is_possible(self, path: Path, source: RepositoryPattern, target: RepositoryTemplate) -> bool:
        if source.literal is None and not target.is_distinct:
            message = "'from' may match many repositories, and they would all go to one"
            self._document.report(path, message, "Let 'to' have {path} or {name}, for example prod/mirror/{path}.")
            return False
        try:
            possible = image(source, target).is_possible
        except InvalidReference as error:
            self._document.report_value(path, "a repository name", error.message, error.hint)
            return False
        if not possible:
            self._document.report_value(
                path, "a repository name", f"{target.text!r} can make no repository name of what 'from' matches"
            )
        return possible

    # ------------------------------------------------------------------ the whole

    def check_names(self, entries: list[tuple[int, SyncEntry]]) -> None:
        """Report entries that share a name."""
        seen: dict[str, SyncEntry] = {}
        for index, entry in entries:
            first = seen.setdefault(entry.name, entry)
            if first is not entry:
                key = "name" if ("sync", index, "name") in self._document.places else "from"
                message = f"another entry has the name {entry.name[:80]!r} already (line {_line(first)})"
                self._document.report_value(
                    ("sync", index, key), "a name of its own", message, "Give it a 'name' of its own."
                )

    def check_targets(
        self, entries: list[tuple[int, SyncEntry]], registries: Mapping[str, RegistrySpec | LayoutSpec]
    ) -> None:
        """Report entries that would write one tag, and entries that would read what they write."""
        values = [entry for _, entry in entries]
        for loop in loops(values, registries):
            message = f"the source {loop.repository!r} would be copied onto itself"
            hint = "Choose another target."
            if loop.is_growing:
                message = f"the target {loop.repository!r} would be a source of the same entry in the next run"
                hint = "Choose a target that 'from' does not match, or let 'from' match less."
            self._document.report(("sync", entries[loop.index][0], "to"), message, hint)
        for found in collisions(values, registries):
            first, second = values[found.first], values[found.second]
            self._document.report(
                ("sync", entries[found.second][0], "to"),
                f"entry {second.name!r} (line {_line(second)}) and entry {first.name!r} (line {_line(first)}) would"
                f" both write {second.target_registry}/{found.repository}:{found.tag}",
                "Give them different targets, or tags that do not overlap.",
            )

    def _place(self, path: Path) -> Place:
        line, column = self._document.key_places.get(path, self._document.place(path))
        return Place(file=self._document.file, line=line, column=column)


def _on_the_hub(repository: str) -> str:
    """Return ``library/`` and the name where it has one part, as the Docker Hub means it."""
    many = "/" in repository or "**" in repository or "{path}" in repository or "{parent}" in repository
    return repository if many else f"library/{repository}"


def _line(entry: SyncEntry) -> int | str:
    return entry.place.line if entry.place else "?"
