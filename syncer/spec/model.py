"""The spec as it is written, key by key: what validates a file, and what its JSON schema comes from.

All scalars arrive as text (see :mod:`syncer.spec.document`) and get their type here. What needs
more than one key to judge is in :mod:`syncer.spec.resolution`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from syncer.errors import SpecError, SyncerError
from syncer.oci.platform import Platform
from syncer.oci.reference import check_host
from syncer.spec.hosts import parse_proxy, parse_trusted
from syncer.spec.quantities import parse_bandwidth, parse_chunk, parse_duration, parse_floor
from syncer.spec.selection import TagPattern
from syncer.spec.values import Creation, Proxy, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

#: The words of upload.form; :class:`syncer.registry.settings.UploadForm` has the same, and a test holds it.
UPLOAD_FORMS = ("auto", "single-post", "put", "stream", "chunks")


class SpecModel(BaseModel):
    """A mapping of the spec: no key but those declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


def invalid(expected: str, message: str, hint: str = "") -> PydanticCustomError:
    """Return the error by which a validator says what it ``expected``."""
    context = {"expected": expected, "message": message, "hint": hint}
    return PydanticCustomError("spec_value", "{message}", context)


@dataclass(frozen=True, kw_only=True, eq=False)
class Parsed:
    """An annotation: the key takes a text that ``parse`` reads, and ``schema`` describes to editors.

    Pydantic is not asked to look into the resulting type, which knows nothing of it.
    """

    parse: Callable[[str], Any]
    expected: str
    schema: Mapping[str, Any]

    def validate(self, value: Any) -> Any:
        """Return what ``value`` stands for; what ``parse`` raises becomes an error of pydantic's."""
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "not text")
        try:
            return self.parse(value)
        except SyncerError as error:
            # A SpecError keeps its bare message in detail; the others have nothing but the message.
            raise invalid(self.expected, getattr(error, "detail", error.message), error.hint) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.schema)


def _creation(value: Any) -> Any:
    if value in ("harbor", "ecr"):
        return Creation(kind=value)
    if isinstance(value, list) and value and all(isinstance(word, str) and word for word in value):
        return Creation(kind="command", command=tuple(value))
    hint = "Write harbor, ecr, or a list like [./create-repository, '{repository}']."
    shown = f", not {value[:80]!r}" if isinstance(value, str) else ""
    expected = "'harbor', 'ecr', or a list of a program and its arguments"
    raise invalid(expected, f"expected {expected}{shown}", hint)


def _filled(value: Any) -> Any:
    if isinstance(value, str) and not value:
        raise invalid("a text that is not empty", "expected a text that is not empty", "An empty variable may be why.")
    return value


def _some(value: Any) -> Any:
    # Pydantic's own min_length counts the valid items only, and would blame the list for them.
    if value in ([], {}):
        raise invalid("at least one", "expected at least one, and there is none")
    return value


def _one_of(text: str, words: tuple[str, ...]) -> str:
    if text not in words:
        raise SpecError(f"expected one of {', '.join(words)}, not {text[:80]!r}")
    return text


def _version(text: str) -> int:
    if text != "1":
        raise SpecError(f"this Syncer reads version 1 of the spec, not {text[:40]!r}", hint="Write 'version: 1'.")
    return 1


def _all_or_list(value: Any) -> Any:
    if value == "all":
        return ()
    if isinstance(value, str):
        hint = "Write 'all', or a list like [linux/amd64, linux/arm64/v8]."
        raise invalid(
            "'all' or a list of platforms", f"expected 'all' or a list of platforms, not {value[:80]!r}", hint
        )
    if value == []:
        raise invalid("'all' or a list of platforms", "expected 'all' or at least one platform")
    return value


Text = Annotated[str, BeforeValidator(_filled)]
SecretText = Annotated[
    Secret,
    Parsed(
        parse=lambda text: Secret(_filled(text)),
        expected="a text that is not empty",
        schema={"type": "string", "minLength": 1},
    ),
]
Host = Annotated[
    str, Parsed(parse=check_host, expected="a host name or address", schema={"type": "string", "minLength": 1})
]
Rate = Annotated[
    int,
    Parsed(
        parse=parse_bandwidth,
        expected="a rate such as 200MiB/s",
        schema={"type": "string", "examples": ["200MiB/s"]},
    ),
]
Chunk = Annotated[
    int,
    Parsed(parse=parse_chunk, expected="a size such as 16MiB", schema={"type": "string", "examples": ["16MiB"]}),
]
Duration = Annotated[
    float,
    Parsed(
        parse=parse_duration,
        expected="a length of time such as 90s",
        schema={"type": "string", "examples": ["90s", "5m"]},
    ),
]
Floor = Annotated[
    int,
    Parsed(
        parse=parse_floor,
        expected="a rate such as 1KiB/s, or 'none'",
        schema={"type": "string", "examples": ["1KiB/s", "none"]},
    ),
]
ProxyText = Annotated[
    Proxy,
    Parsed(
        parse=parse_proxy,
        expected="'none' or the URL of a proxy",
        schema={"type": "string", "examples": ["none", "http://proxy.example.com:3128"]},
    ),
]
TrustedHost = Annotated[
    str,
    Parsed(
        parse=parse_trusted,
        expected="a host name or *.domain, with :port or without",
        schema={"type": "string", "examples": ["storage.example.com", "*.example.com"]},
    ),
]
Create = Annotated[
    Creation,
    PlainValidator(_creation),
    WithJsonSchema(
        {"anyOf": [{"enum": ["harbor", "ecr"]}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]},
    ),
]
UploadWord = Annotated[
    str,
    Parsed(
        parse=lambda text: _one_of(text, UPLOAD_FORMS),
        expected=f"one of {', '.join(UPLOAD_FORMS)}",
        schema={"enum": list(UPLOAD_FORMS)},
    ),
]
Pattern = Annotated[
    TagPattern,
    Parsed(
        parse=TagPattern.parse,
        expected="a tag, a glob, or re: and an expression",
        # An editor lets 1.10 pass: it is kept as it is written, whatever YAML would make of it.
        schema={"type": ["string", "number"]},
    ),
]
OnePlatform = Annotated[
    Platform,
    Parsed(
        parse=Platform.parse,
        expected="os/architecture[/variant]",
        schema={"type": "string", "examples": ["linux/amd64", "linux/arm64/v8"]},
    ),
]
Platforms = Annotated[
    tuple[OnePlatform, ...],
    BeforeValidator(_all_or_list),
    WithJsonSchema(
        {"anyOf": [{"const": "all"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]},
    ),
]
Version = Annotated[int, Parsed(parse=_version, expected="the version 1", schema={"const": 1})]


class CredentialsModel(SpecModel):
    """How to log in: a user name with a password, or a token."""

    username: Text | None = Field(default=None, description="The user name, with 'password'.")
    password: SecretText | None = Field(
        default=None, description='The password, best from the environment: "${PASSWORD}".'
    )
    token: SecretText | None = Field(
        default=None, description="A bearer token that is sent as it is, instead of both others."
    )


class TlsModel(SpecModel):
    """PEM files; relative paths start at the folder of the spec."""

    ca: Text | None = Field(default=None, description="Authorities to trust besides those of the system.")
    cert: Text | None = Field(default=None, description="A client certificate, with 'key'.")
    key: Text | None = Field(default=None, description="The key of the client certificate.")
    insecure: bool = Field(
        default=False, description="Take any certificate: a last resort, without protection against who sits between."
    )


class LimitsModel(SpecModel):
    """Ceilings for one registry; below them Syncer finds its own pace."""

    connections: int | None = Field(
        default=None, ge=1, le=1024, description="Requests under way at one time, and as many blobs."
    )
    requests_per_second: float | None = Field(
        default=None, gt=0, le=100_000, allow_inf_nan=False, description="Requests started in one second, on average."
    )
    bandwidth: Rate | None = Field(
        default=None, description="Bytes of blobs in one second, as 200MiB/s; up and down together."
    )


class TimeoutsModel(SpecModel):
    """How long to wait for one registry before something counts as failed."""

    connect: Duration | None = Field(default=None, description="For a connection to be made; 10s by default.")
    read: Duration | None = Field(default=None, description="For an answer, and for its next bytes; 60s by default.")
    commit: Duration | None = Field(
        default=None, description="For the answer to a blob that was sent whole; 5m by default."
    )
    stall: Duration | None = Field(
        default=None, description="For a blob that does not move, or moves slower than 'slowest'; 60s by default."
    )
    slowest: Floor | None = Field(
        default=None, description="Bytes in a second below which a blob does not move, or 'none'; 1KiB/s by default."
    )


class DownloadModel(SpecModel):
    """How large blobs are read, where one connection alone does not fill the line."""

    parallel: int = Field(
        default=1, ge=1, le=16, description="Connections for one large blob, where the registry answers ranges."
    )
    large: Chunk | None = Field(default=None, description="The size from which on a blob is large; 64MiB by default.")


class UploadModel(SpecModel):
    """How blobs are sent, where a registry cannot be left to show what it takes."""

    form: UploadWord = Field(
        default="auto", description="auto, single-post, put, stream or chunks; auto goes by what the registry takes."
    )
    chunk: Chunk | None = Field(default=None, description="The size of a chunk, as 16MiB; for auto and chunks.")


class RegistryModel(SpecModel):
    """A registry ('host') or a tree of OCI image layouts ('layout')."""

    host: Host | None = Field(
        default=None, description="The registry's host name or address, with :port if it is not 443."
    )
    layout: Text | None = Field(
        default=None, description="The folder of a tree of OCI image layouts, instead of 'host'."
    )
    credentials: CredentialsModel | None = Field(
        default=None, description="Else the files of docker and podman login are used."
    )
    tls: TlsModel | None = Field(default=None, description="Certificates, where the system's are not enough.")
    plain_http: bool = Field(default=False, description="Talk HTTP without TLS.")
    limits: LimitsModel | None = Field(default=None, description="Ceilings for this registry.")
    timeouts: TimeoutsModel | None = Field(default=None, description="How long to wait for this registry.")
    proxy: ProxyText | None = Field(
        default=None, description="none, or the URL of a proxy; as the environment says by default."
    )
    trusted_hosts: tuple[TrustedHost, ...] = Field(
        default=(), description="Hosts that it may lead to although they are at internal addresses; *.domain for many."
    )
    download: DownloadModel | None = Field(default=None, description="How large blobs are read from it.")
    upload: UploadModel | None = Field(default=None, description="How blobs are sent to it.")
    create: Create | None = Field(
        default=None, description="How a missing repository is created: harbor, ecr, or a program with its arguments."
    )


class DefaultsModel(SpecModel):
    """What holds for every entry that does not say otherwise."""

    platforms: Platforms = Field(default=(), description="'all', or the platforms to copy out of an index.")
    referrers: bool = Field(default=True, description="Copy signatures, SBOMs and attestations along with an image.")
    sole_writer: bool = Field(
        default=False,
        description="Nobody else writes to the targets: what is recorded of their tags is believed.",
    )


class TagsModel(SpecModel):
    """Which tags: literal ones, globs, or re: and an expression for the whole tag."""

    include: Annotated[tuple[Pattern, ...], BeforeValidator(_some)] | None = Field(
        default=None, description="The tags wanted; all of them by default.", json_schema_extra={"minItems": 1}
    )
    exclude: tuple[Pattern, ...] = Field(default=(), description="Of those, the tags not wanted.")
    immutable: tuple[Pattern, ...] = Field(default=(), description="Tags that are not looked at again once copied.")


class EntryModel(SpecModel):
    """One line of work: repositories of one registry go to another."""

    name: Text | None = Field(default=None, description="Names the entry in reports; the text of 'from' by default.")
    source: Text = Field(alias="from", description="registry/repository; the repository may be a glob: hub/library/*.")
    target: Text = Field(alias="to", description="registry/repository, or a template: prod/mirror/{path}.")
    tags: TagsModel = Field(default_factory=TagsModel, description="Which tags; all of them by default.")
    platforms: Platforms | None = Field(default=None, description="As in 'defaults', for this entry.")
    referrers: bool | None = Field(default=None, description="As in 'defaults', for this entry.")
    sole_writer: bool | None = Field(default=None, description="As in 'defaults', for this entry.")


class FileModel(SpecModel):
    """A spec of Syncer: registries, and what to keep in step between them."""

    version: Version = Field(description="The version of the spec's language: 1.")
    state: Text = Field(
        default="./syncer.db", description="The state file; a relative path starts at the folder of the spec."
    )
    registries: Annotated[dict[str, RegistryModel], BeforeValidator(_some)] = Field(
        description="Registries by the names that 'from' and 'to' use.", json_schema_extra={"minProperties": 1}
    )
    registries_conf: Text | None = Field(
        default=None, description="off, or the registries.conf to read in place of the machine's (mirrors for sources)."
    )
    defaults: DefaultsModel = Field(default_factory=DefaultsModel, description="Defaults for the entries.")
    sync: Annotated[tuple[EntryModel, ...], BeforeValidator(_some)] = Field(
        description="The entries, each a line of work.", json_schema_extra={"minItems": 1}
    )
