"""Where other tools keep credentials: containers-auth.json(5) and docker's configuration file.

Pure: the environment, the home directory and the user's number come in as arguments.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Format(StrEnum):
    """How a credential file is laid out."""

    CONTAINERS = "containers"
    DOCKER = "docker"
    LEGACY = "legacy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A file that may hold credentials.

    ``named_by`` says who asked for exactly this file; it is empty for the usual places, which may
    be absent.
    """

    path: Path
    format: Format
    named_by: str = ""


def named_place(environ: Mapping[str, str], authfile: Path | None) -> Place | None:
    """Return the file that was asked for by option or by ``$REGISTRY_AUTH_FILE``."""
    if authfile is not None:
        return Place(path=authfile, format=_format_of(authfile), named_by="--authfile")
    if named := environ.get("REGISTRY_AUTH_FILE"):
        return Place(path=Path(named), format=_format_of(Path(named)), named_by="$REGISTRY_AUTH_FILE")
    return None


def usual_places(environ: Mapping[str, str], home: Path, uid: int, platform: str = sys.platform) -> tuple[Place, ...]:
    """Return the usual files in the order of containers-auth.json(5), "FILES"."""
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    places = (
        Place(path=_runtime_file(environ, home, uid, platform), format=Format.CONTAINERS),
        Place(path=config_home / "containers" / "auth.json", format=Format.CONTAINERS),
        docker_place(environ, home),
        Place(path=home / ".dockercfg", format=Format.LEGACY),
    )
    return tuple(dict.fromkeys(places))


def docker_place(environ: Mapping[str, str], home: Path) -> Place:
    """Return docker's own configuration file."""
    folder = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    return Place(path=folder / "config.json", format=Format.DOCKER)


def _runtime_file(environ: Mapping[str, str], home: Path, uid: int, platform: str) -> Path:
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "containers" / "auth.json"
    if platform == "linux":
        return Path(f"/run/containers/{uid}/auth.json")
    return home / ".config" / "containers" / "auth.json"


def _format_of(path: Path) -> Format:
    # docker finds the Docker Hub only under its own key, and reads no other file name than this.
    if path.name == "config.json":
        return Format.DOCKER
    return Format.LEGACY if path.name == ".dockercfg" else Format.CONTAINERS
