"""Logins across tools: what Syncer writes, skopeo reads, and the other way round."""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest
from anyio import run_process, to_thread

from syncer.errors import Side
from syncer.registry import RegistryClient, RegistrySettings
from syncer.registry.credentials import Anonymous, Keychain
from syncer.registry.credentials.values import Basic
from tests.support import images
from tests.support.docker_registry import docker_registry, find_skopeo
from tests.support.observing import Recorder
from tests.support.scripted import Keys
from tests.support.transfer import push

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.support.docker_registry import Witness

pytestmark = [pytest.mark.witness, pytest.mark.untraced]

#: "witness" for the user "u".
HTPASSWD = "u:$2b$05$JDqf1Hw3EG/8Nj.N9Z0dGOk8qyDPuMN1wOeWMJM0fYyitkgJ5Ca0a\n"
USER = Basic(username="u", password="witness")


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    """Run docker-registry with a password file."""
    with docker_registry(tmp_path / "registry", htpasswd=HTPASSWD) as running:
        yield running


async def skopeo(*arguments: str, home: Path, secret: str = "") -> CompletedProcess[bytes]:
    """Run skopeo with a home of its own."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
    binary = await to_thread.run_sync(find_skopeo)
    return await run_process([binary, *arguments], input=secret.encode(), env=environ, check=False)


async def syncer(*arguments: str, home: Path, secret: str = "") -> CompletedProcess[bytes]:
    """Run Syncer's command line with a home of its own."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "syncer", *arguments]
    return await run_process(command, input=secret.encode(), env=environ, check=False)


@pytest.mark.parametrize("name", ["auth.json", "config.json"])
async def test_skopeo_reads_what_syncer_writes(witness: Witness, tmp_path: Path, name: str) -> None:
    """After 'syncer login --password-stdin' skopeo knows the user, and reads an image that takes the password."""
    file, home = tmp_path / name, tmp_path / "home"
    home.mkdir()
    options = ("--username", "u", "--password-stdin", "--authfile", str(file))
    logged_in = await syncer("login", witness.host, *options, home=home, secret="witness\n")
    assert logged_in.returncode == 0, logged_in.stderr
    assert b"witness\n" not in logged_in.stdout + logged_in.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    sample = images.image(size=100)
    settings = RegistrySettings(host=witness.host, plain_http=True)
    async with RegistryClient(settings, Keys(USER), Recorder()) as client:
        await push(client.repository("team/app", Side.TARGET), sample, "1")
    known = await skopeo("login", "--get-login", "--authfile", str(file), witness.host, home=home)
    assert (known.returncode, known.stdout.strip()) == (0, b"u")
    reference = f"docker://{witness.host}/team/app:1"
    seen = await skopeo("inspect", "--raw", "--authfile", str(file), "--tls-verify=false", reference, home=home)
    assert seen.stdout == sample.manifest.raw
    logged_out = await syncer("logout", witness.host, "--authfile", str(file), home=home)
    assert logged_out.returncode == 0
    known = await skopeo("login", "--get-login", "--authfile", str(file), witness.host, home=home)
    assert known.returncode != 0


async def test_syncer_reads_what_skopeo_writes(witness: Witness, tmp_path: Path) -> None:
    """After 'skopeo login' the keychain finds the password, in a named file and in the usual one."""
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    named = tmp_path / "auth.json"
    always = ("-u", "u", "--password-stdin", "--tls-verify=false", witness.host)
    for options in ((), ("--authfile", str(named))):
        logged_in = await skopeo("login", *options, *always, home=home, secret="witness")
        assert logged_in.returncode == 0, logged_in.stderr
    environ = {"XDG_RUNTIME_DIR": str(home / "run")}
    for keychain in (
        Keychain(environ=environ, home=home),
        Keychain(environ={}, home=tmp_path, authfile=named),
        Keychain(environ={"REGISTRY_AUTH_FILE": str(named)}, home=tmp_path),
        Keychain(environ={"DOCKER_AUTH_CONFIG": named.read_text()}, home=tmp_path),
    ):
        assert await keychain.get(witness.host, "team/app") == USER
    await skopeo("logout", "--authfile", str(named), witness.host, home=home)
    assert await Keychain(environ={}, home=tmp_path, authfile=named).get(witness.host, "a") == Anonymous()


async def test_namespaces_are_told_apart_by_both(tmp_path: Path) -> None:
    """An entry for a namespace comes before the registry's own, for skopeo and for Syncer."""
    file = tmp_path / "auth.json"
    entries = {
        "r.example.com": {"auth": "aG9zdDp4"},
        "r.example.com/team": {"auth": "dGVhbTp4"},
        "r.example.com/team/app": {"auth": "YXBwOng="},
    }
    file.write_text(json.dumps({"auths": entries}))
    keychain = Keychain(environ={}, home=tmp_path, authfile=file)
    for name, user in (("team/app", "app"), ("team/other", "team"), ("teams", "host")):
        assert await keychain.get("r.example.com", name) == Basic(username=user, password="x")
        found = await skopeo("login", "--get-login", "--authfile", str(file), f"r.example.com/{name}", home=tmp_path)
        assert found.stdout.strip().decode() == user
