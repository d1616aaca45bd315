"""The tools that are compared: how each is told to do a job in its best honest configuration."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from benchmarks.provision import find

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.content import Repository
    from benchmarks.servers import Server


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A repository, and its name in the target."""

    source: Repository
    target: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be copied from one registry to another (or to the same); ``folder`` is for a tool's files."""

    source: Server
    target: Server
    pairs: Sequence[Pair]
    folder: Path
    #: The entries of Syncer's spec, which say the same as ``pairs``; made of them when there are none.
    entries: Sequence[str] = ()


class Peer(Protocol):
    """A tool that copies repositories."""

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    def command(self, job: Job) -> list[str]:
        """Return the command that does ``job``; the files it needs are written."""
        ...


class SyncerRun:
    """Syncer by a spec, its state in a file that begins empty and is there for the next job in the same folder."""

    def __init__(self, name: str = "syncer run", *, source: str = "", defaults: str = "") -> None:
        """Run as ``name``; ``source`` are keys of the source registry, as they are in a spec, and so ``defaults``."""
        self.name = name
        self._defaults = [f"defaults: {{{defaults}}}"] if defaults else []
        self._more = {"source": f", {source}" if source else "", "target": ""}

    def command(self, job: Job) -> list[str]:
        """Write the spec and return the command."""
        spec = job.folder / "spec.yaml"
        entries = job.entries or [f"from: source/{pair.source.name}, to: target/{pair.target}" for pair in job.pairs]
        lines = ["version: 1", "state: ./state.db", "registries:"]
        for name, server in (("source", job.source), ("target", job.target)):
            tls = f"tls: {{ca: '{server.ca}'}}" if server.ca else "plain_http: true"
            lines.append(f"  {name}: {{host: '{server.host}', {tls}{self._more[name]}}}")
        lines += [*self._defaults, "sync:", *(f"  - {{{entry}}}" for entry in entries)]
        spec.write_text("\n".join(lines) + "\n")
        return [sys.executable, "-m", "syncer", "run", str(spec), "--report", str(job.folder / "report.json")]


class Bare:
    """The least requests by a script that promises nothing: what Syncer's safety costs is the difference."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.name = f"bare asyncio, {width} at once"

    def command(self, job: Job) -> list[str]:
        """Return the command; it knows one repository, and no TLS."""
        (pair,) = job.pairs
        places = [
            f"{server.scheme}://{server.host}/v2/{name}"
            for server, name in ((job.source, pair.source.name), (job.target, pair.target))
        ]
        return [sys.executable, "-m", "benchmarks.bare", str(self._width), *places]


class SkopeoSync:
    """``skopeo sync``, which copies one image after the other."""

    name = "skopeo sync"

    def command(self, job: Job) -> list[str]:
        """Return the command; skopeo appends the repository's last part to the target itself."""
        parent = job.pairs[0].target.rpartition("/")[0]
        options = [*_options("src", job.source), *_options("dest", job.target), "--all", "--keep-going"]
        if len(job.pairs) == 1:
            source = f"{job.source.host}/{job.pairs[0].source.name}"
            return [*_skopeo(), "sync", "--src", "docker", "--dest", "docker", *options, source,
                    f"{job.target.host}/{parent}"]  # fmt: skip
        listed = job.folder / "sync.yaml"
        images = {pair.source.name: pair.source.tags for pair in job.pairs}
        # JSON is YAML.
        listed.write_text(json.dumps({job.source.host: {"tls-verify": job.source.ca is not None, "images": images}}))
        return [*_skopeo(), "sync", "--src", "yaml", "--dest", "docker", *options, str(listed),
                f"{job.target.host}/{parent}"]  # fmt: skip


class SkopeoCopies:
    """One ``skopeo copy`` for each tag, many at once; it is given the tags, which a script would have to list first."""

    def __init__(self, processes: int = 16) -> None:
        self._processes = processes
        self.name = f"xargs -P{processes} skopeo copy" if processes > 1 else "skopeo copy"

    def command(self, job: Job) -> list[str]:
        """Write the list of tags and return the command."""
        return self._command(
            job,
            "tags",
            [
                (
                    f"docker://{job.source.host}/{pair.source.name}:{tag}",
                    f"docker://{job.target.host}/{pair.target}:{tag}",
                )
                for pair in job.pairs
                for tag in pair.source.tags
            ],
            _options("dest", job.target),
        )

    def _command(self, job: Job, name: str, copies: Sequence[tuple[str, str]], more: Sequence[str]) -> list[str]:
        listed = job.folder / name
        listed.write_text("".join(f"{source} {target}\n" for source, target in copies))
        return ["xargs", "-a", str(listed), f"-P{self._processes}", "-n2", *_skopeo(), "copy", "--quiet", "--all",
                *_options("src", job.source), *more]  # fmt: skip


class KnowingSkopeoCopies(SkopeoCopies):
    """The same on a machine that has pulled the images before: skopeo remembers where blobs are, and can mount them."""

    def __init__(self) -> None:
        super().__init__()
        self.name += ", knows the blobs"

    def preparation(self, job: Job) -> list[str]:
        """Return the command that pulls everything once, which is not measured."""
        folder = job.folder / "pulled"
        folder.mkdir()
        images = [(pair, tag) for pair in job.pairs for tag in pair.source.tags]
        copies = [
            (f"docker://{job.source.host}/{pair.source.name}:{tag}", f"dir:{folder / str(at)}")
            for at, (pair, tag) in enumerate(images)
        ]
        return self._command(job, "pulls", copies, [])


class CurlPipe:
    """``curl | curl`` for each blob: what programs take that only carry them, and neither hash nor check.

    The largest blob first; ``processes`` pipes at once. No manifest is copied.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self.name = f"xargs -P{processes} curl | curl" if processes > 1 else "curl | curl"

    def command(self, job: Job) -> list[str]:
        """Write the script and the list of blobs, and return the command."""
        pair = job.pairs[0]
        source, target = (f"{server.scheme}://{server.host}" for server in (job.source, job.target))
        trust = f"--cacert '{job.source.ca}'" if job.source.ca else ""
        script, listed = job.folder / "pipe.sh", job.folder / "blobs"
        blobs = sorted((blob.descriptor for blob in pair.source.blobs.values()), key=lambda one: -one.size)
        listed.write_text("".join(f"{descriptor.digest}\n" for descriptor in blobs))
        # The location has a query already, so the digest goes behind an ampersand.
        script.write_text(
            "set -eu\n"
            f"location=$(curl -sS {trust} -X POST -D - -o /dev/null '{target}/v2/{pair.target}/blobs/uploads/'"
            " | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')\n"
            f'curl -sS {trust} "{source}/v2/{pair.source.name}/blobs/$1"'
            f" | curl -sS --fail {trust} -X PUT -T - -H 'Content-Type: application/octet-stream' -H 'Expect:'"
            ' "$location&digest=$1"\n'
        )
        return ["xargs", "-a", str(listed), f"-P{self._processes}", "-n1", "sh", str(script)]


def _skopeo() -> list[str]:
    # No file in /etc has to say that images without signatures are fine, which it says where skopeo is installed.
    return [find("skopeo"), "--insecure-policy"]


def _options(side: str, server: Server) -> list[str]:
    if server.ca is None:
        return [f"--{side}-tls-verify=false"]
    return [f"--{side}-cert-dir={server.ca.parent}"]
