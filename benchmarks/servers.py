"""Debian's docker-registry on a free loopback port, and what its access log says it was asked."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" (?P<status>[0-9]{3}) (?P<size>[0-9]+) ')
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_ATTEMPTS = 3
#: A line of the log follows its answer, sometimes after the client has ended.
_LOG_SECONDS = 0.2
#: Which kind of request a path is, the first that it contains.
_KINDS = (
    ("/blobs/uploads/", "upload"),
    ("/blobs/", "blob"),
    ("/manifests/", "manifest"),
    ("/tags/list", "tags"),
    ("/referrers/", "referrers"),
)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a server was asked: requests by kind, as ``blob GET``, and the bytes of its answers."""

    requests: Counter[str]
    sent: int

    def to_json(self) -> dict[str, Any]:
        """Return the plain data."""
        return {"requests": dict(self.requests), "sent": self.sent}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running docker-registry."""

    host: str
    log: Path

    def mark(self) -> int:
        """Return the end of the log as it is now, in bytes."""
        time.sleep(_LOG_SECONDS)
        return self.log.stat().st_size

    def traffic(self, since: int) -> Traffic:
        """Return what was asked since the mark."""
        time.sleep(_LOG_SECONDS)
        with self.log.open("rb") as log:
            log.seek(since)
            text = log.read().decode(errors="replace")
        requests: Counter[str] = Counter()
        sent = 0
        for access in _ACCESS.finditer(text):
            requests[_kind(access["method"], access["path"])] += 1
            # The log gives a HEAD the size that a GET would have had.
            sent += int(access["size"]) if access["method"] != "HEAD" else 0
        return Traffic(requests=requests, sent=sent)


@contextmanager
def docker_registry(folder: Path) -> Iterator[Server]:
    """Run docker-registry over a new ``folder`` until the end of the block; the folder goes with it.

    Raises:
        RuntimeError: when it does not start.
    """
    last_words = ""
    for _ in range(_ATTEMPTS):
        folder.mkdir(parents=True)
        port = _free_port()
        config, log = folder / "config.yml", folder / "access.log"
        config.write_text(
            "version: 0.1\n"
            "log: {level: error, accesslog: {disabled: false}}\n"
            # The cache is what Debian's own configuration has.
            f"storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: '{folder / 'data'}'}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}', secret: benchmark}}\n"
        )
        with log.open("wb") as output:
            # In a session of its own, so that Ctrl-C reaches it by way of us, after its client.
            process = subprocess.Popen(
                ["docker-registry", "serve", str(config)],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if _answers(process, port):
                yield Server(host=f"127.0.0.1:{port}", log=log)
                return
        finally:
            _stop(process)
            last_words = log.read_text(errors="replace")[-300:]
            shutil.rmtree(folder)
    raise RuntimeError(f"docker-registry does not start: {last_words}")


def _kind(method: str, path: str) -> str:
    for part, kind in _KINDS:
        if part in path:
            return f"{kind} {method}"
    return "ping" if path.partition("?")[0] == "/v2/" else "other"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server takes connections; False when it ends, or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
