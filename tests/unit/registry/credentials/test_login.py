"""Logging in and out."""

from __future__ import annotations

import base64
import fcntl
import json
import stat
from typing import TYPE_CHECKING

import pytest

from syncer.errors import CredentialsError, InvalidReference
from syncer.registry.credentials import Anonymous, Basic, IdentityToken
from syncer.registry.credentials.authfile import encode_basic
from syncer.registry.credentials.login import Kept, login, logout

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    Machine = Any

HOST = "registry.example.com"
UID = 4_000_000_000
ME = Basic(username="me", password="pass:word")


def where(machine: Machine) -> dict[str, Any]:
    """Return the arguments that say which machine is meant."""
    return {"environ": machine.environ, "home": machine.home, "uid": UID}


async def test_the_first_login_makes_dockers_file(machine: Machine) -> None:
    """Without any file, ~/.docker/config.json is made with mode 0600, and the keychain finds the credential."""
    kept = await login(HOST, ME, **where(machine))
    path = machine.home / ".docker" / "config.json"
    assert kept == Kept(path=path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == {"auths": {HOST: {"auth": encode_basic("me", "pass:word")}}}
    assert await machine.keychain().get(HOST, "a") == ME
    assert await logout(HOST, **where(machine)) == (kept,)
    assert await machine.keychain().get(HOST, "a") == Anonymous()


async def test_what_a_killed_login_left_is_removed(machine: Machine) -> None:
    """The file of a login that is no more, with its secret, goes with the next one; what somebody is writing stays."""
    folder = machine.home / ".docker"
    folder.mkdir()
    for name in (".config.json.syncer-dead", ".config.json.syncer-live", ".config.json.other"):
        (folder / name).write_text("secret")
    with (folder / ".config.json.syncer-live").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        await login(HOST, ME, **where(machine))
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".config.json.other", ".config.json.syncer-live", "config.json"]


async def test_everything_else_in_the_file_stays(machine: Machine) -> None:
    """Members that Syncer does not know, their order, and other registries are kept; the mode is tightened."""
    document = {
        "zeta": [1, {"x": None}],
        "auths": {"other.io": {"auth": "b3RoZXI6eA==", "future": True}, f"https://{HOST}/v2/": {"auth": "old"}},
        "HttpHeaders": {"X-Ü": "ß"},
    }
    path = machine.write(".docker/config.json", document)
    path.chmod(0o644)
    await login(HOST, ME, **where(machine))
    written = json.loads(path.read_text())
    assert list(written) == list(document)
    assert written["zeta"] == document["zeta"]
    assert written["HttpHeaders"] == document["HttpHeaders"]
    assert written["auths"] == {
        "other.io": {"auth": "b3RoZXI6eA==", "future": True},
        HOST: {"auth": encode_basic("me", "pass:word")},
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        ([".docker/config.json", ".config/containers/auth.json"], ".docker/config.json"),
        ([".config/containers/auth.json"], ".config/containers/auth.json"),
        ([], ".docker/config.json"),
    ],
)
async def test_the_file_that_exists_is_used(machine: Machine, present: list[str], chosen: str) -> None:
    """Docker's file when it exists, else podman's when that does, else a new one of docker's."""
    for name in present:
        machine.write(name, {})
    assert (await login(HOST, ME, **where(machine))).path == machine.home / chosen


async def test_a_registry_is_renewed_where_it_is(machine: Machine) -> None:
    """A registry that a file knows already is written there, or the old entry would be found first."""
    podman = machine.write(".config/containers/auth.json", {"auths": {HOST: {"auth": encode_basic("old", "old")}}})
    machine.write(".docker/config.json", {})
    assert (await login(HOST, ME, **where(machine))).path == podman
    assert await machine.keychain().get(HOST, "a") == ME


@pytest.mark.parametrize(("name", "key"), [("config.json", "https://index.docker.io/v1/"), ("auth.json", "docker.io")])
async def test_the_docker_hub_gets_the_key_its_tools_look_for(machine: Machine, name: str, key: str) -> None:
    """Docker finds the Hub under its old address only; podman writes its name."""
    path = machine.home / name
    await login("docker.io", ME, authfile=path, **where(machine))
    assert list(json.loads(path.read_text())["auths"]) == [key]
    assert await machine.keychain(authfile=path).get("docker.io", "library/alpine") == ME


async def test_a_password_that_is_no_utf8(machine: Machine) -> None:
    """Bytes of a password that are no UTF-8 (PEP 383) are kept as they are, and found as they are."""
    credential = Basic(username="me", password="pass\udcff")
    await login(HOST, credential, **where(machine))
    auth = json.loads((machine.home / ".docker" / "config.json").read_text())["auths"][HOST]["auth"]
    assert base64.b64decode(auth) == b"me:pass\xff"
    assert await machine.keychain().get(HOST, "a") == credential


async def test_half_a_surrogate_pair_in_the_file_stays(machine: Machine) -> None:
    """What JSON can say and UTF-8 cannot is in the way of no login."""
    path = machine.write(".docker/config.json", {"auths": {}, "detachKeys": "\ud800"})
    await login(HOST, ME, **where(machine))
    assert json.loads(path.read_text())["detachKeys"] == "\ud800"


async def test_identity_tokens_are_kept(machine: Machine) -> None:
    """An identity token, with a user name or without, is read back as it was."""
    for token in (IdentityToken(token="t"), IdentityToken(token="t", username="u")):
        await login(HOST, token, **where(machine))
        assert await machine.keychain().get(HOST, "a") == token


async def test_a_helper_keeps_the_secret(machine: Machine) -> None:
    """Where the file names a helper, the secret goes there and only an empty entry into the file."""
    secret = machine.programs / "secret"
    machine.helper(
        "pass",
        f"""
        case $1 in
        store) cat > {secret} ;;
        get) test -f {secret} && cat {secret} || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;
        erase) test -f {secret} && rm {secret} || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;
        esac
        """,
    )
    path = machine.write(".docker/config.json", {"credsStore": "pass"})
    kept = await login(HOST, ME, **where(machine))
    assert kept == Kept(path=path, helper="pass")
    assert json.loads(path.read_text()) == {"credsStore": "pass", "auths": {HOST: {}}}
    assert await machine.keychain().get(HOST, "a") == ME
    assert await logout(HOST, **where(machine)) == (kept,)
    assert not secret.exists()
    assert json.loads(path.read_text()) == {"credsStore": "pass", "auths": {}}
    assert await logout(HOST, **where(machine)) == ()


async def test_a_failing_helper_leaves_the_file_alone(machine: Machine) -> None:
    """When the helper does not store, nothing is written, least of all the secret."""
    machine.helper("pass", "exit 1")
    path = machine.write(".docker/config.json", {"credHelpers": {HOST: "pass"}})
    before = path.read_bytes()
    with pytest.raises(CredentialsError):
        await login(HOST, ME, **where(machine))
    assert path.read_bytes() == before


async def test_logout_leaves_no_usual_file_with_the_registry(machine: Machine) -> None:
    """Every usual file forgets the registry under all its names; a repository's own entry stays."""
    entry = {"auth": encode_basic("u", "p")}
    first = machine.write(".config/containers/auth.json", {"auths": {HOST: entry, f"{HOST}/team": entry}})
    second = machine.write(".docker/config.json", {"auths": {f"https://{HOST}/v1/": entry}})
    legacy = machine.write(".dockercfg", {HOST: entry, "other.io": entry})
    removed = await logout(HOST, **where(machine))
    assert removed == (Kept(path=first), Kept(path=second), Kept(path=legacy))
    assert json.loads(first.read_text()) == {"auths": {f"{HOST}/team": entry}}
    assert json.loads(second.read_text()) == {"auths": {}}
    assert json.loads(legacy.read_text()) == {"other.io": entry}


async def test_logout_of_a_named_file_touches_no_other(machine: Machine) -> None:
    """With a file named, only that one is looked at."""
    entry = {"auths": {HOST: {"auth": encode_basic("u", "p")}}}
    usual, named = machine.write(".docker/config.json", entry), machine.write("named.json", entry)
    assert await logout(HOST, authfile=named, **where(machine)) == (Kept(path=named),)
    assert json.loads(usual.read_text()) == entry


async def test_a_broken_file_is_not_overwritten(machine: Machine) -> None:
    """A file that cannot be understood is an error, and stays as it was."""
    path = machine.write(".docker/config.json", "{nonsense")
    for action in (login(HOST, ME, **where(machine)), logout(HOST, **where(machine))):
        with pytest.raises(CredentialsError, match=r"config\.json"):
            await action
    assert path.read_text() == "{nonsense"


async def test_a_link_stays_a_link(machine: Machine) -> None:
    """A credential file that is a symbolic link is written where it points."""
    real = machine.write("dotfiles/docker.json", {})
    link = machine.home / ".docker" / "config.json"
    link.parent.mkdir()
    link.symlink_to(real)
    await login(HOST, ME, **where(machine))
    assert link.is_symlink()
    assert HOST in json.loads(real.read_text())["auths"]


async def test_a_place_that_cannot_be_written_is_a_typed_error(machine: Machine, tmp_path: Path) -> None:
    """The error names the file and says what to do; the secret is not in it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CredentialsError, match="cannot be written") as caught:
        await login(HOST, ME, authfile=tmp_path / "file" / "auth.json", **where(machine))
    assert caught.value.hint
    assert "pass:word" not in caught.value.paragraph()


async def test_only_hosts_can_be_logged_in_to(machine: Machine) -> None:
    """A URL or a path is refused before anything is written."""
    with pytest.raises(InvalidReference):
        await login("https://registry.example.com/v2/", ME, **where(machine))
    assert list(machine.home.iterdir()) == []
