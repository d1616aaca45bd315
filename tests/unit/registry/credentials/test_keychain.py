"""The keychain: which of several places is believed."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from syncer.errors import CredentialsError, InvalidReference
from syncer.registry.credentials import Anonymous, Basic, CredentialStore, IdentityToken, RegistryToken
from syncer.registry.credentials.authfile import encode_basic

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    Machine = Any

CANARY = "canary-7f3a"
HOST = "registry.example.com"


def auths(name: str, host: str = HOST) -> dict[str, dict[str, dict[str, str]]]:
    """Return a file that holds one entry, whose user and password are ``name``."""
    return {"auths": {host: {"auth": encode_basic(name, name)}}}


def basic(name: str) -> Basic:
    """Return the credential of :func:`auths`."""
    return Basic(username=name, password=name)


async def test_nobody_logged_in(machine: Machine) -> None:
    """Without any file the credential is Anonymous."""
    store: CredentialStore = machine.keychain()
    assert await store.get(HOST, "team/app") == Anonymous()


async def test_the_first_place_that_knows_the_registry_wins(machine: Machine) -> None:
    """Spec, named file, variable, runtime file, configuration folder, docker's file, legacy file: in this order."""
    machine.environ["XDG_RUNTIME_DIR"] = str(machine.home / "run")
    machine.environ["REGISTRY_AUTH_FILE"] = str(machine.write("named.json", auths("named")))
    machine.environ["DOCKER_AUTH_CONFIG"] = json.dumps(auths("overlay"))
    runtime = machine.write("run/containers/auth.json", auths("runtime"))
    config = machine.write(".config/containers/auth.json", auths("config"))
    docker = machine.write(".docker/config.json", auths("docker"))
    machine.write(".dockercfg", auths("legacy")["auths"])

    async def found(**options: Any) -> Any:
        return await machine.keychain(**options).get(HOST, "a")

    assert await found(explicit={HOST: basic("spec")}) == basic("spec")
    assert await found(authfile=machine.write("option.json", auths("option"))) == basic("option")
    assert await found() == basic("named")
    del machine.environ["REGISTRY_AUTH_FILE"]
    assert await found() == basic("overlay")
    del machine.environ["DOCKER_AUTH_CONFIG"]
    assert await found() == basic("runtime")
    runtime.unlink()
    assert await found() == basic("config")
    config.unlink()
    assert await found() == basic("docker")
    docker.unlink()
    assert await found() == basic("legacy")


async def test_a_place_that_does_not_know_passes_the_question_on(machine: Machine) -> None:
    """A longer key in a later file does not win over a shorter one in an earlier file, an absent one does."""
    machine.write(".config/containers/auth.json", auths("first", "one.io"))
    machine.write(".docker/config.json", {"auths": {**auths("second", "one.io/a/b")["auths"], **auths("two")["auths"]}})
    keychain = machine.keychain()
    assert await keychain.get("one.io", "a/b") == basic("first")
    assert await keychain.get(HOST, "a/b") == basic("two")


@pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "registry-1.docker.io"])
async def test_the_docker_hub_has_one_name(machine: Machine, name: str) -> None:
    """Whatever the Hub is called, docker's own key for it is found, and so is an explicit credential."""
    machine.write(".docker/config.json", auths("hub", "https://index.docker.io/v1/"))
    assert await machine.keychain().get(name, "library/alpine") == basic("hub")
    assert await machine.keychain(explicit={name: basic("x")}).get("docker.io", "a") == basic("x")


async def test_explicit_credentials_are_for_their_host_only(machine: Machine) -> None:
    """A credential of the spec is given for exactly its host and port, in any case of letters."""
    keychain = machine.keychain(explicit={"Registry.Example.com": RegistryToken(token="t")})
    assert await keychain.get(HOST, "a") == RegistryToken(token="t")
    assert await keychain.get(f"{HOST}:5000", "a") == Anonymous()
    assert await keychain.get(f"evil.{HOST}", "a") == Anonymous()
    with pytest.raises(InvalidReference):
        machine.keychain(explicit={"https://x": basic("x")})


async def test_helpers_come_before_entries(machine: Machine) -> None:
    """CredHelpers come before credsStore, and that before auths; one that knows nothing passes on."""
    machine.helper("mine", """echo '{"Username": "helper", "Secret": "helper"}'""")
    machine.helper("all", """echo '{"Username": "<token>", "Secret": "store"}'""")
    machine.helper("none", "echo 'credentials not found in native keychain'; exit 1")
    document = auths("entry") | {"credsStore": "all", "credHelpers": {HOST: "mine"}}
    machine.write(".docker/config.json", document)
    assert await machine.keychain().get(HOST, "a") == basic("helper")
    assert await machine.keychain().get("other.io", "a") == IdentityToken(token="store")
    machine.write(".docker/config.json", auths("entry") | {"credsStore": "none"})
    assert await machine.keychain().get(HOST, "a") == basic("entry")


async def test_a_broken_helper_fails_only_who_needs_it(machine: Machine) -> None:
    """A helper for one registry that is not installed is no matter to another registry."""
    machine.write(".docker/config.json", auths("entry", "ok.io") | {"credHelpers": {HOST: "gone"}})
    keychain = machine.keychain()
    assert await keychain.get("ok.io", "a") == basic("entry")
    with pytest.raises(CredentialsError, match="docker-credential-gone"):
        await keychain.get(HOST, "a")


async def test_a_broken_file_matters_only_when_it_is_reached(machine: Machine) -> None:
    """A registry that an earlier file knows does not suffer from a later file; any other is told its name."""
    machine.write(".config/containers/auth.json", auths("ok"))
    broken = machine.write(".docker/config.json", f'{{"auths": "{CANARY}')
    keychain = machine.keychain()
    assert await keychain.get(HOST, "a") == basic("ok")
    with pytest.raises(CredentialsError) as caught:
        await keychain.get("other.io", "a")
    assert str(broken) in caught.value.message
    assert CANARY not in caught.value.paragraph()
    machine.write(".docker/config.json", auths("mended", "other.io"))
    machine.now += 1
    assert await keychain.get("other.io", "a") == basic("mended")


@pytest.mark.parametrize("by", ["option", "variable"])
async def test_a_named_file_must_be_there(machine: Machine, by: str, tmp_path: Path) -> None:
    """A file that somebody asked for and that does not exist is an error, and says who asked."""
    missing = tmp_path / "nowhere" / "auth.json"
    if by == "variable":
        machine.environ["REGISTRY_AUTH_FILE"] = str(missing)
    keychain = machine.keychain(authfile=missing if by == "option" else None)
    with pytest.raises(CredentialsError, match="does not exist") as caught:
        await keychain.get(HOST, "a")
    assert str(missing) in caught.value.message


async def test_a_folder_in_place_of_a_file_is_a_typed_error(machine: Machine) -> None:
    """What cannot be read is reported with its path."""
    (machine.home / ".docker" / "config.json").mkdir(parents=True)
    with pytest.raises(CredentialsError, match=r"config\.json cannot be read"):
        await machine.keychain().get(HOST, "a")


async def test_a_file_over_its_bound_is_refused(machine: Machine) -> None:
    """A file of more than 4 MiB is not read into memory whole."""
    machine.write(".docker/config.json", " " * (4 * 1024 * 1024 + 1))
    with pytest.raises(CredentialsError, match="over 4194304 bytes"):
        await machine.keychain().get(HOST, "a")


def test_a_broken_variable_is_told_at_once(machine: Machine) -> None:
    """DOCKER_AUTH_CONFIG is checked when the keychain is made, and not quoted."""
    machine.environ["DOCKER_AUTH_CONFIG"] = f"{{{CANARY}"
    with pytest.raises(CredentialsError, match="DOCKER_AUTH_CONFIG") as caught:
        machine.keychain()
    assert CANARY not in caught.value.paragraph()


async def test_a_file_is_read_again_when_it_changes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file is the same it is read once, off the loop; after a login its new content counts."""
    from syncer.registry.credentials import disk  # noqa: PLC0415 - to watch it

    read: list[bool] = []
    original = disk.read_place

    def watched(place: Any) -> Any:
        read.append(threading.current_thread() is threading.main_thread())
        return original(place)

    monkeypatch.setattr(disk, "read_place", watched)
    path = machine.write(".docker/config.json", auths("old"))
    keychain = machine.keychain()
    assert [await keychain.get(HOST, "a") for _ in range(3)] == [basic("old")] * 3
    assert read == [False]
    machine.write(".docker/config.json", auths("new"))
    os.utime(path, ns=(1, 1))
    # Each request asks: a thread and a handful of files for each of them would cost more than they are worth.
    assert await keychain.get(HOST, "a") == basic("old")
    assert await keychain.renew(HOST, "a", basic("old")) == basic("new")
    path.unlink()
    machine.now += 1
    assert await keychain.get(HOST, "a") == Anonymous()


async def test_the_environment_is_read_once(machine: Machine) -> None:
    """What changes in the environment after construction changes nothing."""
    keychain = machine.keychain()
    machine.environ["DOCKER_AUTH_CONFIG"] = json.dumps(auths("late"))
    machine.environ["REGISTRY_AUTH_FILE"] = "/nowhere"
    assert await keychain.get(HOST, "a") == Anonymous()


def test_the_keychain_shows_no_secret(machine: Machine) -> None:
    """The repr of a keychain does not hold what is in it."""
    keychain = machine.keychain(explicit={HOST: Basic(username="u", password=CANARY)})
    assert CANARY not in f"{keychain!r} {vars(keychain)!r}"


async def test_a_refused_credential_is_looked_for_again(machine: Machine) -> None:
    """Of what was refused, a file's is what the file says today, a helper's what it says now, the spec's stays."""
    old, new = ({"auth": encode_basic("u", secret)} for secret in ("old", "new"))
    machine.helper("cloud", """cat > /dev/null; echo '{"Username": "u", "Secret": "old"}'""")
    machine.write(".docker/config.json", {"credHelpers": {"cloud.io": "cloud"}, "auths": {"file.io": old}})
    keychain = machine.keychain(explicit={"spec.io": Basic(username="u", password="old")})
    refused = [await keychain.get(host, "a") for host in ("cloud.io", "file.io", "spec.io")]
    assert refused == [Basic(username="u", password="old")] * 3
    machine.helper("cloud", """cat > /dev/null; echo '{"Username": "u", "Secret": "new"}'""")
    machine.write(".docker/config.json", {"credHelpers": {"cloud.io": "cloud"}, "auths": {"file.io": new}})
    renewed = [await keychain.renew(host, "a", refused[0]) for host in ("cloud.io", "file.io", "spec.io")]
    assert renewed == [Basic(username="u", password=secret) for secret in ("new", "new", "old")]
    assert machine.calls("cloud") == ["get", "get"]


async def test_who_asks_at_once_shares_one_look(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run begins with many requests at once: the files are looked at once for all of them, and not once for each."""
    from syncer.registry.credentials import disk  # noqa: PLC0415 - to watch it

    read: list[Any] = []
    original = disk.read_place

    def watched(place: Any) -> Any:
        read.append(place)
        return original(place)

    monkeypatch.setattr(disk, "read_place", watched)
    machine.write(".docker/config.json", auths("one"))
    keychain = machine.keychain()
    found: list[Any] = []

    async def ask(repository: str) -> None:
        found.append(await keychain.get(HOST, repository))

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(ask, f"team/{number}")
    assert found == [basic("one")] * 50
    assert len(read) == 1
