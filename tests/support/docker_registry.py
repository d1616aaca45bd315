"""Independent witnesses: Debian's docker-registry to write to, and skopeo to read back with.

Neither is a requirement of the tests: who has no such binary and cannot download the package sees
the tests skipped, with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/[0-9.]+" (?P<status>[0-9]{3}) ')
_START_SECONDS = 10.0
_ATTEMPTS = 3


@dataclass(frozen=True)
class Access:
    """One line of the registry's access log."""

    method: str
    target: str
    status: int


@dataclass(frozen=True)
class Witness:
    """A running docker-registry."""

    host: str
    storage: Path
    log: Path

    @property
    def url(self) -> str:
        """The root of its API."""
        return f"http://{self.host}"

    def requests(self) -> list[Access]:
        """Return every request that was answered so far."""
        text = self.log.read_text(errors="replace")
        return [Access(m["method"], m["target"], int(m["status"])) for m in _ACCESS.finditer(text)]


def find_docker_registry() -> str:
    """Return the path of docker-registry: on PATH, or unpacked from Debian's package; skip without either."""
    return _find("docker-registry", "usr/bin/docker-registry")


def find_skopeo() -> str:
    """Return the path of skopeo: on PATH, or unpacked from Debian's package; skip without either."""
    return _find("skopeo", "usr/bin/skopeo")


@dataclass(frozen=True)
class TokenAuth:
    """The token service that a registry sends to, and the certificates that its tokens are signed under."""

    realm: str
    service: str
    issuer: str
    bundle: Path


@contextmanager
def docker_registry(storage: Path, *, htpasswd: str = "", token: TokenAuth | None = None) -> Iterator[Witness]:
    """Run docker-registry on a free loopback port over ``storage`` until the end of the block.

    ``htpasswd`` is the text of a password file (bcrypt), ``token`` says where tokens come from; without
    either there is no log-in.
    """
    binary = find_docker_registry()
    storage.mkdir(parents=True, exist_ok=True)
    log = storage / "registry.log"
    password_file = storage / "htpasswd"
    if htpasswd:
        password_file.write_text(htpasswd)
    for attempt in range(_ATTEMPTS):
        port = _free_port()
        config = storage / "config.yml"
        config.write_text(_config(storage, port, password_file if htpasswd else None, token))
        with log.open("wb") as output:
            process = subprocess.Popen([binary, "serve", str(config)], stdout=output, stderr=subprocess.STDOUT)
        try:
            if _wait(process, port):
                yield Witness(host=f"127.0.0.1:{port}", storage=storage, log=log)
                return
        finally:
            _stop(process)
        if attempt == _ATTEMPTS - 1:
            pytest.skip(f"docker-registry does not start: {log.read_text(errors='replace')[-300:]}")


def _config(storage: Path, port: int, htpasswd: Path | None, token: TokenAuth | None) -> str:
    auth = f"auth: {{htpasswd: {{realm: witness, path: {htpasswd}}}}}\n" if htpasswd else ""
    if token is not None:
        auth = (
            f"auth: {{token: {{realm: '{token.realm}', service: {token.service}, issuer: {token.issuer}, "
            f"rootcertbundle: '{token.bundle}'}}}}\n"
        )
    return (
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: false}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage / 'data'}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: witness}}\n{auth}"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            # Somebody else may have taken the port: then our process is about to end.
            time.sleep(0.02)
            return process.poll() is None
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)


def _find(package: str, path: str) -> str:
    found = shutil.which(package)
    if found:
        return found
    root = Path(os.environ.get("SYNCER_TEST_CACHE") or Path(__file__).parents[2] / ".cache") / package
    binary = root / path
    if not root.exists():
        _unpack(package, root)
    if not binary.exists():
        pytest.skip(f"{package} is not installed, and its Debian package could not be unpacked")
    # Unpacked alone, a program may lack the libraries that its package depends on.
    if b"shared libraries" in subprocess.run([str(binary), "--version"], capture_output=True, check=False).stderr:
        pytest.skip(f"{package} is not installed, and what it depends on is not either")
    return str(binary)


def _unpack(package: str, root: Path) -> None:
    """Unpack a Debian package without installing it; needs apt-get and dpkg, but no root.

    It appears under its name when it is whole: tests in other processes may be looking for it too. A folder
    that stays empty says that it cannot be had, and keeps every test from trying again.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root.parent))
    try:
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True, timeout=60)
        for archive in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        folder.rename(root)
    except OSError:
        shutil.rmtree(folder)
