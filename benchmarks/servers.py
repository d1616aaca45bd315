"""What the tools talk to: Debian's docker-registry, our embedded registry, and links that slow them down.

Each runs in a process of its own on a free loopback port and ends with its block. The access log of
docker-registry tells what it was asked.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.provision import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.certificates import Certificate

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
    ("/v2/_catalog", "catalog"),
)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a server was asked: requests by kind, as ``blob GET``, the bytes of its answers, and those it took.

    ``sent`` are the bodies of the answers, by the access log. ``taken`` is what the kernel says that the
    process has read: requests with their heads (within TLS, with its framing), and the few small files
    that the registry looks at; 0 where the kernel does not say. ``cpu`` are the seconds of user and system
    time that the process spent, of all its threads; 0 where the kernel does not say.
    """

    requests: Counter[str]
    sent: int = 0
    taken: int = 0
    cpu: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the plain data."""
        return {"requests": dict(self.requests), "sent": self.sent, "taken": self.taken, "cpu": self.cpu}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far a server was: bytes of its log, bytes that it had read, CPU seconds that it had spent."""

    logged: int = 0
    read: int = 0
    cpu: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running registry; ``host`` is where clients reach it, which may be a link before it."""

    host: str
    direct: str
    log: Path | None = None
    ca: Path | None = None
    pid: int = 0

    @property
    def scheme(self) -> str:
        """``https`` for a server with a certificate."""
        return "https" if self.ca else "http"

    def mark(self) -> Mark:
        """Return how far the server is now, when it has said all that it has to say."""
        if self.log is None:
            return Mark()
        size = -1
        while size != (size := self.log.stat().st_size):
            time.sleep(_LOG_SECONDS)
        return Mark(logged=size, read=_bytes_read(self.pid), cpu=cpu_seconds(self.pid))

    def traffic(self, since: Mark) -> Traffic:
        """Return what was asked since the mark."""
        requests: Counter[str] = Counter()
        if self.log is None:
            return Traffic(requests=requests)
        until, sent = self.mark(), 0
        with self.log.open("rb") as log:
            log.seek(since.logged)
            text = log.read(until.logged - since.logged).decode(errors="replace")
        for access in _ACCESS.finditer(text):
            requests[_kind(access["method"], access["path"])] += 1
            # The log gives a HEAD the size that a GET would have had.
            sent += int(access["size"]) if access["method"] != "HEAD" else 0
        return Traffic(requests=requests, sent=sent, taken=until.read - since.read, cpu=until.cpu - since.cpu)


@contextmanager
def docker_registry(
    folder: Path, certificate: Certificate | None = None, *, seed: Path | None = None
) -> Iterator[Server]:
    """Run docker-registry over a new ``folder`` until the end of the block; the folder goes with it.

    It begins with a copy of what the registry over the folder ``seed`` holds; empty without.

    Raises:
        RuntimeError: when it does not start.
    """
    binary = find("docker-registry")
    last_words = ""
    for _ in range(_ATTEMPTS):
        folder.mkdir(parents=True)
        if seed is not None:
            shutil.copytree(seed / "data", folder / "data")
        port = _free_port()
        config, log = folder / "config.yml", folder / "access.log"
        tls = f", tls: {{certificate: '{certificate.chain}', key: '{certificate.key}'}}" if certificate else ""
        config.write_text(
            "version: 0.1\n"
            "log: {level: error, accesslog: {disabled: false}}\n"
            # The cache is what Debian's own configuration has.
            f"storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: '{folder / 'data'}'}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}', secret: benchmark{tls}}}\n"
        )
        with log.open("wb") as output:
            # In a session of its own, so that Ctrl-C reaches it by way of us, after its client.
            process = subprocess.Popen(
                [binary, "serve", str(config)], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            if _answers(process, port):
                host = f"127.0.0.1:{port}"
                yield Server(
                    host=host, direct=host, log=log, ca=certificate.ca if certificate else None, pid=process.pid
                )
                return
        finally:
            _stop(process)
            last_words = log.read_text(errors="replace")[-300:]
            shutil.rmtree(folder)
    raise RuntimeError(f"docker-registry does not start: {last_words}")


@contextmanager
def embedded_registry(folder: Path, *, listen: str = "127.0.0.1:0", tag_digests: bool = False) -> Iterator[Server]:
    """Run Syncer's own registry over ``folder`` until the end of the block; the folder stays.

    With ``tag_digests`` its lists of tags tell what the tags stand for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "syncer.server", str(folder), "--listen", listen, "--not-durable"]
    with _announced([*command, "--tag-digests"] if tag_digests else command) as host:
        yield Server(host=host, direct=host)


@contextmanager
def linked(server: Server, *, delay: float, rate: float = 0.0, is_each: bool = False) -> Iterator[Server]:
    """Put a link before ``server``: ``delay`` seconds one way, ``rate`` bytes per second (0: no bound).

    With ``is_each``, every connection has that rate for itself.
    """
    command = [sys.executable, "-m", "benchmarks.link", "--to", server.direct, *(["--each"] if is_each else [])]
    with _announced([*command, "--delay", str(delay), "--rate", str(rate)]) as host:
        yield replace(server, host=host)


@contextmanager
def _announced(command: list[str]) -> Iterator[str]:
    """Run a server that prints its address first."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        host = process.stdout.readline().strip() if process.stdout else ""
        if not host:
            raise RuntimeError(f"{' '.join(command[1:4])} does not start")
        yield host
    finally:
        _stop(process)
        if process.stdout:
            process.stdout.close()


def cpu_seconds(pid: int) -> float:
    """Return the user and system time that all threads of a process have spent; 0 where the kernel does not say."""
    try:
        return seconds_of_stat(Path(f"/proc/{pid}/stat").read_text(), os.sysconf("SC_CLK_TCK"))
    except OSError:
        return 0.0


def seconds_of_stat(text: str, ticks: int) -> float:
    """Return the user and system time in ``/proc/PID/stat``, of ``ticks`` to the second.

    The second field is the program's name in parentheses, and a name may have spaces and parentheses.
    """
    fields = text.rpartition(")")[2].split()
    # proc(5) counts from 1: utime is 14, stime 15, and what is left here begins with 3.
    return (int(fields[11]) + int(fields[12])) / ticks


def _kind(method: str, path: str) -> str:
    for part, kind in _KINDS:
        if part in path:
            return f"{kind} {method}"
    return "ping" if path.partition("?")[0] == "/v2/" else "other"


def _bytes_read(pid: int) -> int:
    """Return how many bytes the process has read, from sockets and from files, as the kernel counts."""
    try:
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    except OSError:
        return 0
    return int(fields["rchar"])


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


def _stop(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
