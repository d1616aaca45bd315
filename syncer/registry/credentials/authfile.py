"""A credential file: what is in it, and what it says of a repository.

The format is docker's ``config.json`` as containers-auth.json(5) extends it: a key of ``auths`` may
name a namespace or repository, ``host/namespace/repository``, and the longest one wins.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from syncer.errors import CredentialsError
from syncer.oci.reference import DOCKER_HUB
from syncer.registry.credentials.values import Anonymous, Basic, Credential, IdentityToken, RegistryToken
from syncer.registry.network.urls import octets

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The key of the Docker Hub in docker's files, and its address for a credential helper.
HUB_KEY = "https://index.docker.io/v1/"
#: The user name by which docker marks an identity token.
TOKEN_USER = "<token>"  # noqa: S105 - a marker, not a secret

_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_SCHEMES = ("https://", "http://")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthFile:
    """The credentials of one file; ``name`` is what errors call it."""

    name: str
    entries: Mapping[str, Any] = field(repr=False)
    helpers: Mapping[str, str]
    store: str

    def helper(self, host: str) -> str:
        """Return the name of the credential helper for ``host``; empty when there is none.

        ``credHelpers`` comes before ``credsStore``, as docker has it.
        """
        # An empty name is how docker's users say "in the file" for one registry.
        return self.helpers.get(host, self.store)

    def credential(self, host: str, repository: str) -> Credential:
        """Return what the file itself holds for the repository; Anonymous when nothing.

        Raises:
            CredentialsError: when the entry that applies cannot be read; other entries do not matter.
        """
        key = f"{host}/{repository}" if repository else host
        while True:
            if key in self.entries:
                credential = _read_entry(self.entries[key], f"{self.name}: the entry of {key!r}")
                if not isinstance(credential, Anonymous):
                    return credential
            if key == host:
                return Anonymous()
            key = key.rpartition("/")[0]


def parse_auth_file(raw: bytes, name: str, *, legacy: bool = False) -> AuthFile:
    """Read a credential file; an empty one holds nothing.

    Args:
        raw: its bytes.
        name: what to call it in errors.
        legacy: whether it is a ``.dockercfg``, which is the ``auths`` member alone.

    Raises:
        CredentialsError: when it is not what it should be; nothing of its content is repeated.
    """
    document = parse_document(raw, name)
    auths = document if legacy else section(document, "auths", name)
    helpers = {} if legacy else section(document, "credHelpers", name)
    store = "" if legacy else document.get("credsStore") or ""
    if not isinstance(store, str) or not all(isinstance(helper, str) for helper in helpers.values()):
        raise CredentialsError(
            f"{name}: credsStore and credHelpers must name credential helpers",
            hint='Write "credHelpers": {"registry.example.com": "NAME"} for the program docker-credential-NAME.',
        )
    entries: dict[str, Any] = {}
    # A key in today's form comes before a legacy one for the same registry, wherever they stand.
    for key in sorted(auths, key=lambda key: entry_key(key) != key):
        entries.setdefault(entry_key(key), auths[key])
    return AuthFile(
        name=name,
        entries=entries,
        helpers={entry_key(key): helper for key, helper in helpers.items()},
        store=store,
    )


def parse_document(raw: bytes, name: str) -> dict[str, Any]:
    """Return the JSON object in ``raw``; an empty one when there are no bytes.

    Raises:
        CredentialsError: when it is not a JSON object; nothing of its content is repeated.
    """
    if not raw.strip():
        return {}
    place = ""
    try:
        document = json.loads(raw)
    except json.JSONDecodeError as error:
        document, place = None, f" (line {error.lineno}, column {error.colno})"
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CredentialsError(
            f"{name} is not a JSON object{place}",
            hint="Correct it, or log in again; docs/authentication.md shows what it looks like.",
        )
    return document


def section(document: Mapping[str, Any], member: str, name: str) -> dict[str, Any]:
    """Return the object ``member`` of a credential file, an empty one when it is not there.

    Raises:
        CredentialsError: when it is something else.
    """
    value = document.get(member)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CredentialsError(f"{name}: {member!r} is not an object", hint="Correct it, or log in again.")
    return value


def entry_key(key: str) -> str:
    """Return the key in today's form: ``host`` or ``host/namespace/repository``, the Hub as ``docker.io``.

    Older tools wrote ``https://host``, ``https://host/v1/`` and ``host/v2/``.
    """
    bare = key
    for scheme in _SCHEMES:
        bare = bare.removeprefix(scheme)
    host, _, path = bare.partition("/")
    path = "" if bare != key or path.rstrip("/") in {"v1", "v2"} else path.rstrip("/")
    host = host.lower()
    host = DOCKER_HUB if host in _HUB_HOSTS else host
    return f"{host}/{path}" if path else host


def encode_basic(username: str, password: str) -> str:
    """Return the ``auth`` member for a user name and a password."""
    return base64.b64encode(octets(f"{username}:{password}")).decode()


def _read_entry(entry: Any, where: str) -> Credential:
    if not isinstance(entry, dict):
        raise CredentialsError(f"{where} is not an object", hint="Log in again.")
    text: dict[str, str] = {name: value for name, value in entry.items() if isinstance(value, str)}
    if token := text.get("registrytoken"):
        return RegistryToken(token=token)
    username, password = text.get("username", ""), text.get("password", "")
    if text.get("auth"):
        username, password = _decode_basic(text["auth"], where)
    if token := text.get("identitytoken"):
        return IdentityToken(token=token, username="" if username == TOKEN_USER else username)
    if username == TOKEN_USER:
        return IdentityToken(token=password)
    return Basic(username=username, password=password) if username or password else Anonymous()


def _decode_basic(auth: str, where: str) -> tuple[str, str]:
    try:
        text = base64.b64decode("".join(auth.split()), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        text = ""
    # docker pads with NUL where the length was computed from the base64 text.
    username, colon, password = text.rstrip("\0").partition(":")
    if not colon or not username:
        raise CredentialsError(
            f"{where} has an 'auth' that is not base64 of user:password", hint="Log in to the registry again."
        )
    return username, password
