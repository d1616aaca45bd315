"""Where credential files are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncer.registry.credentials.places import Format, Place, docker_place, named_place, usual_places

HOME = Path("/home/u")


def paths(environ: dict[str, str], platform: str = "linux") -> list[str]:
    """Return the usual paths."""
    return [str(place.path) for place in usual_places(environ, HOME, 1000, platform)]


def test_the_usual_files_come_in_the_order_of_the_manual_page() -> None:
    """Without settings: the per-user runtime file, the configuration folder, docker's file, the legacy one."""
    assert paths({}) == [
        "/run/containers/1000/auth.json",
        "/home/u/.config/containers/auth.json",
        "/home/u/.docker/config.json",
        "/home/u/.dockercfg",
    ]


def test_the_environment_moves_them() -> None:
    """XDG_RUNTIME_DIR, XDG_CONFIG_HOME and DOCKER_CONFIG each move their file."""
    environ = {"XDG_RUNTIME_DIR": "/run/user/1", "XDG_CONFIG_HOME": "/etc/u", "DOCKER_CONFIG": "/docker"}
    assert paths(environ) == [
        "/run/user/1/containers/auth.json",
        "/etc/u/containers/auth.json",
        "/docker/config.json",
        "/home/u/.dockercfg",
    ]
    assert docker_place(environ, HOME).path == Path("/docker/config.json")


def test_no_file_is_read_twice() -> None:
    """Where there is no runtime folder, the configuration folder serves for both, once."""
    assert paths({}, platform="darwin")[0] == "/home/u/.config/containers/auth.json"
    assert len(paths({}, platform="darwin")) == 3


@pytest.mark.parametrize(
    ("name", "form"),
    [("auth.json", Format.CONTAINERS), ("config.json", Format.DOCKER), (".dockercfg", Format.LEGACY)],
)
def test_a_named_file_is_known_by_its_name(name: str, form: Format) -> None:
    """The option wins over the variable, and the file's name tells its form."""
    environ = {"REGISTRY_AUTH_FILE": f"/env/{name}"}
    assert named_place(environ, None) == Place(path=Path(f"/env/{name}"), format=form, named_by="$REGISTRY_AUTH_FILE")
    assert named_place(environ, Path(name)) == Place(path=Path(name), format=form, named_by="--authfile")
    assert named_place({}, None) is None
