"""Holds a document against the model, and says in the spec's own words what does not fit."""

from __future__ import annotations

import difflib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from syncer.spec.model import (
    CredentialsModel,
    DefaultsModel,
    DownloadModel,
    EntryModel,
    FileModel,
    LimitsModel,
    RegistryModel,
    SpecModel,
    TagsModel,
    TimeoutsModel,
    TlsModel,
    UploadModel,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

    from syncer.spec.document import Document, Path

Model = TypeVar("Model", bound=SpecModel)

#: Keys of the spec's language that this version does not read yet.
PLANNED = frozenset({"semver", "newest", "newer_than", "min_age", "schedule", "prune"})
#: What other tools call a key, in small letters; the first that is known in its place is meant.
_CALLED_ELSEWHERE = {
    "source": ("from",),
    "src": ("from",),
    "target": ("to",),
    "destination": ("to",),
    "dest": ("to",),
    "dst": ("to",),
    "allow": ("include",),
    "deny": ("exclude",),
    "creds": ("credentials", "registries"),
    "auth": ("credentials",),
    "user": ("username",),
    "pass": ("password",),
    "registry": ("host",),
    "hostname": ("host",),
    "url": ("host",),
}
#: What each error type of pydantic means to who wrote the spec.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of {ge} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "a number up to {le:g}",
    "model_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
}
#: The variable by which pydantic is told to look for no plug-ins.
_NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
_HINTS = {"tuple_type": "Put it in brackets: [{value}]."}
#: How to write what is missing, or is something else than it should be.
_SHAPES = {
    "version": "Write 'version: 1'.",
    "registries": "Declare each by a name of its own, as in {prod: {host: registry.example.com}}.",
    "sync": "Write a list, as in [{from: hub/library/alpine, to: prod/mirror/alpine}].",
    "from": "Write where to read, as in hub/library/alpine.",
    "to": "Write where to write, as in prod/mirror/alpine.",
    "tags": "Write {include: [...]}, with exclude and immutable where they are wanted.",
    "credentials": "Write the keys username and password below it, or token.",
    "limits": "Write {connections: 8}, or another of its keys.",
    "tls": "Write {ca: FILE}, or another of its keys.",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Parts:
    """What of a document is valid."""

    state: str
    registries_conf: str
    registries: Mapping[str, RegistryModel]
    #: Every name that is declared, well or not.
    declared: tuple[str, ...]
    defaults: DefaultsModel
    entries: tuple[tuple[int, EntryModel], ...]


@contextmanager
def _without_plugins() -> Iterator[None]:
    """Let pydantic look for no plug-ins meanwhile, as it makes the validators.

    It would read of every package that is installed whether it has one, and what is installed beside us has no part
    in what a spec means.
    """
    before = os.environ.get(_NO_PLUGINS)
    os.environ[_NO_PLUGINS] = "1"
    try:
        yield
    finally:
        del os.environ[_NO_PLUGINS]
        if before is not None:
            os.environ[_NO_PLUGINS] = before


@_without_plugins()
def validate(document: Document) -> Parts:
    """Report to ``document`` what breaks the model, and return what does not."""
    tree = document.tree
    try:
        model = FileModel.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        misspelled = {(*detail["loc"][:-1], _nearest(detail["loc"])) for detail in details if _is_unknown(detail)}
        for detail in details:
            if detail["type"] != "missing" or detail["loc"] not in misspelled:
                _report(document, detail)
        return _salvage(tree)
    return Parts(
        state=model.state,
        registries_conf=model.registries_conf or "",
        registries=model.registries,
        declared=tuple(model.registries),
        defaults=model.defaults,
        entries=tuple(enumerate(model.sync)),
    )


def _salvage(tree: Any) -> Parts:
    """Return the valid registries and entries, so that one error does not hide those of the next stage."""
    tree = tree if isinstance(tree, dict) else {}
    registries = tree.get("registries")
    registries = registries if isinstance(registries, dict) else {}
    entries = tree.get("sync")
    entries = entries if isinstance(entries, list) else []
    valid = {name: model for name, value in registries.items() if (model := _attempt(RegistryModel, value))}
    good = ((index, _attempt(EntryModel, value)) for index, value in enumerate(entries))
    state, conf = tree.get("state"), tree.get("registries_conf")
    return Parts(
        state=state if isinstance(state, str) else "",
        registries_conf=conf if isinstance(conf, str) else "",
        registries=valid,
        declared=tuple(registries),
        defaults=_attempt(DefaultsModel, tree.get("defaults")) or DefaultsModel(),
        entries=tuple((index, model) for index, model in good if model is not None),
    )


def _attempt(model: type[Model], value: Any) -> Model | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _is_unknown(detail: ErrorDetails) -> bool:
    return detail["type"] == "extra_forbidden"


def _nearest(path: Path) -> str:
    """Return the key that the unknown one at ``path`` is most like, or nothing."""
    written, keys = str(path[-1]).casefold(), _keys(path)
    meant = [key for key in _CALLED_ELSEWHERE.get(written, ()) if key in keys]
    return next(iter([*meant, *difflib.get_close_matches(written, keys, n=1)]), "")


def _report(document: Document, detail: ErrorDetails) -> None:
    path, kind = detail["loc"], detail["type"]
    if any(path[:length] in document.unknown for length in range(len(path) + 1)):
        return
    context = detail.get("ctx", {})
    value = detail["input"]
    if _is_unknown(detail):
        _unknown_key(document, path)
    elif kind == "missing":
        document.report(path, f"the key {str(path[-1])!r} is missing", _shape(path))
    elif kind == "spec_value":
        document.report_value(path, context["expected"], context["message"], context["hint"])
    else:
        expected = _EXPECTED.get(kind, "something else").format(**context)
        shown = _kind(value) if not isinstance(value, str) or is_secret(path) else repr(value[:80])
        hint = _HINTS.get(kind, "").format(value=value) if isinstance(value, str) and not is_secret(path) else ""
        document.report_value(path, expected, f"expected {expected}, not {shown}", hint or _shape(path))


def _shape(path: Path) -> str:
    """Return how to write the value at ``path``, where there is something to say of it."""
    # registries.NAME is called what its owner likes.
    is_name = path[:-1] == ("registries",)
    return "" if is_name or not path else _SHAPES.get(str(path[-1]), "")


def is_secret(path: Path) -> bool:
    """Tell whether what is at ``path`` must not be quoted."""
    return "credentials" in path or path[:1] + path[2:3] == ("registries", "proxy")


def _unknown_key(document: Document, path: Path) -> None:
    key = str(path[-1])
    if key in PLANNED and not is_secret(path):
        document.report(path, f"{key!r} is not supported yet in this version", "Remove it.", at_key=True)
        return
    near = _nearest(path)
    hint = f"Did you mean {near!r}?" if near else f"Known keys here: {', '.join(_keys(path))}."
    if is_secret(path):
        # Who forgets a colon or a quote has the password for a key.
        line, column = document.key_places.get(path, (1, 1))
        document.report_at(line, column, path[:-1], "unknown key", hint)
    else:
        document.report(path, f"unknown key {key[:80]!r}", hint, at_key=True)


def _keys(path: Path) -> list[str]:
    """Return the keys that the mapping around the key at ``path`` knows."""
    models: dict[Any, type[SpecModel]] = {
        "credentials": CredentialsModel,
        "tls": TlsModel,
        "limits": LimitsModel,
        "timeouts": TimeoutsModel,
        "download": DownloadModel,
        "upload": UploadModel,
        "tags": TagsModel,
        "defaults": DefaultsModel,
    }
    model: type[SpecModel] = FileModel
    if path[0] == "registries" and len(path) > 2:  # noqa: PLR2004 - registries.NAME.KEY
        model = models.get(path[2], RegistryModel) if len(path) > 3 else RegistryModel  # noqa: PLR2004 - one deeper
    elif path[0] == "sync" and len(path) > 2:  # noqa: PLR2004 - sync[N].KEY
        model = models.get(path[2], EntryModel) if len(path) > 3 else EntryModel  # noqa: PLR2004 - one deeper
    elif path[0] == "defaults" and len(path) > 1:
        model = DefaultsModel
    return [field.alias or name for name, field in model.model_fields.items()]


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", tuple: "an empty list", str: "text", type(None): "nothing"}
    return "an empty list" if value == [] else kinds.get(type(value), "something else")
