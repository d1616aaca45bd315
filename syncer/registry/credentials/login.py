"""Logging in and out: in the files that docker, podman and skopeo read too, or in their helpers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from syncer.oci.reference import DOCKER_HUB, check_host
from syncer.registry.credentials.authfile import HUB_KEY, AuthFile, encode_basic, entry_key
from syncer.registry.credentials.disk import read_place, rewrite
from syncer.registry.credentials.helper_program import Helpers
from syncer.registry.credentials.places import Format, Place, docker_place, named_place, usual_places
from syncer.registry.credentials.values import Basic, IdentityToken

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Where a credential is kept, or was: a file, or the helper ``helper`` that the file names."""

    path: Path
    helper: str = ""


async def login(
    registry: str,
    credential: Basic | IdentityToken,
    *,
    environ: Mapping[str, str],
    home: Path,
    authfile: Path | None = None,
    helpers: Helpers | None = None,
    uid: int | None = None,
) -> Kept:
    """Keep ``credential`` for ``registry`` where it will be found again, and say where that is.

    The file is the one that is named by ``authfile`` or ``$REGISTRY_AUTH_FILE``, else the first that
    knows the registry already, else docker's when it exists, else the first that exists, else
    docker's, made anew. It has mode 0600 afterwards, and everything else in it stays as it is.

    Raises:
        CredentialsError: when the file cannot be read or written, or its helper fails.
        InvalidReference: when ``registry`` is not a host.
    """
    host = check_host(registry)
    named = named_place(environ, authfile)
    usual = (named,) if named else usual_places(environ, home, os.getuid() if uid is None else uid)
    place, content = await to_thread.run_sync(_choose, host, usual, named or docker_place(environ, home))
    helper = content.helper(host) if content else ""
    if helper:
        await (helpers or Helpers(environ)).store(helper, host, credential)
    # With a helper an empty entry stays behind, by which docker lists whom it is logged in to.
    entry = {} if helper else _entry(credential)

    def change(auths: dict[str, Any]) -> bool:
        _remove(auths, host)
        auths[HUB_KEY if host == DOCKER_HUB and place.format is not Format.CONTAINERS else host] = entry
        return True

    await to_thread.run_sync(rewrite, place, change)
    return Kept(path=place.path, helper=helper)


async def logout(
    registry: str,
    *,
    environ: Mapping[str, str],
    home: Path,
    authfile: Path | None = None,
    helpers: Helpers | None = None,
    uid: int | None = None,
) -> tuple[Kept, ...]:
    """Remove what is kept for ``registry``, and say where it was; nothing when nowhere.

    It is removed from the file that is named, else from every usual one, and from their helpers.
    Entries for single repositories of the registry stay.

    Raises:
        CredentialsError: when a file cannot be read or written, or a helper fails.
        InvalidReference: when ``registry`` is not a host.
    """
    host = check_host(registry)
    helpers = helpers or Helpers(environ)
    named = named_place(environ, authfile)
    removed: list[Kept] = []
    for place in (named,) if named else usual_places(environ, home, os.getuid() if uid is None else uid):
        content = await to_thread.run_sync(read_place, place)
        if content is None:
            continue
        helper = content.helper(host)
        if helper and await helpers.erase(helper, host):
            removed.append(Kept(path=place.path, helper=helper))
        if host in content.entries:
            await to_thread.run_sync(rewrite, place, lambda auths: _remove(auths, host))
            # Beside a helper the entry is only the mark that login left, unless it holds something.
            if not helper or content.entries[host]:
                removed.append(Kept(path=place.path))
    return tuple(removed)


def _choose(host: str, usual: tuple[Place, ...], otherwise: Place) -> tuple[Place, AuthFile | None]:
    present = {place: content for place in usual if (content := read_place(place)) is not None}
    for place, content in present.items():
        if host in content.entries or host in content.helpers:
            return place, content
    if otherwise in present or not present:
        return otherwise, present.get(otherwise)
    return next(iter(present.items()))


def _entry(credential: Basic | IdentityToken) -> dict[str, str]:
    if isinstance(credential, Basic):
        return {"auth": encode_basic(credential.username, credential.password)}
    entry = {"identitytoken": credential.token}
    if credential.username:
        entry["auth"] = encode_basic(credential.username, "")
    return entry


def _remove(auths: dict[str, Any], host: str) -> bool:
    keys = [key for key in auths if entry_key(key) == host]
    for key in keys:
        del auths[key]
    return bool(keys)
