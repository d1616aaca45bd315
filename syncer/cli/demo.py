"""``syncer demo``: the main job on two real registries, in one command."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
import typer

from syncer.app.loop import run
from syncer.app.places import Opened
from syncer.app.running import run_spec
from syncer.app.stopping import stoppable
from syncer.app.surroundings import OFF, Surroundings
from syncer.cli.exits import code_of_report
from syncer.cli.images import Shown, look, to_json
from syncer.cli.inspect import print_shown
from syncer.cli.options import Progressing, Voice, spread
from syncer.cli.rendering import print_json, print_line
from syncer.cli.sessions import until
from syncer.cli.voices import console, listeners, logs, speaker
from syncer.content import BlobOutcome
from syncer.demo import demo_content, fill
from syncer.errors import UsageError
from syncer.events import RequestKind
from syncer.layout.tree import LayoutTree
from syncer.oci.reference import Reference
from syncer.server import RegistryServer, ServerSettings
from syncer.spec.loader import load_spec
from syncer.spec.values import RegistrySpec, Spec
from syncer.telemetry.quantities import format_count, format_duration, format_size
from syncer.telemetry.report import Report
from syncer.telemetry.summary import render_report

#: The spec that is run when no other is named: a copy of config.example.yaml, which a test holds equal.
PACKAGED = "demo.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The two registries while they serve."""

    source: RegistryServer
    target: RegistryServer
    folder: Path

    @property
    def sides(self) -> tuple[tuple[str, RegistryServer], ...]:
        """Both registries with the names of their sides."""
        return ("source", self.source), ("target", self.target)

    @property
    def environ(self) -> dict[str, str]:
        """What the spec may ask for."""
        return {
            "SOURCE_REGISTRY": self.source.address,
            "TARGET_REGISTRY": self.target.address,
            "SYNCER_STATE": str(self.folder / "syncer.db"),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the demo came to."""

    first: Report
    again: Report
    image: Shown | None


@spread
def demo(
    voice: Progressing,
    spec: Annotated[
        Path | None,
        typer.Option(
            "--spec",
            metavar="FILE",
            help="A spec between ${SOURCE_REGISTRY} and ${TARGET_REGISTRY}. [default: config.example.yaml's copy]",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep both registries serving until Ctrl-C.", show_default=False)
    ] = False,
) -> int:
    """Sync two real registries on this machine and show it.

    Starts a source and a target on free loopback ports, fills the source with real images, runs the
    spec, runs it again to show that nothing is left to do, and looks at what was copied. Everything is
    in a temporary directory and gone afterwards; no network is used.
    """
    surroundings = Surroundings(environ=dict(os.environ), home=Path("/nonexistent"), registries_conf=OFF)
    with (
        as_file(files("syncer.cli") / PACKAGED) as packaged,
        tempfile.TemporaryDirectory(prefix="syncer-demo-") as folder,
    ):
        play = partial(_play, spec or packaged, Path(folder), surroundings, voice=voice, keep=keep)
        told = run(lambda: stoppable(play, say=speaker(voice)))
    if voice.as_json:
        image = to_json(told.image) if told.image else None
        print_json({"first": told.first.to_json(), "again": told.again.to_json(), "image": image})
    else:
        print_line("\nBoth registries are stopped, and their content is removed.")
    return code_of_report(told.first) or code_of_report(told.again)


async def _tell(text: str) -> None:
    """Print on standard output, which may be slow, without holding the registries up."""

    def write() -> None:
        print_line(text)
        sys.stdout.flush()

    await anyio.to_thread.run_sync(write)


async def _silent(text: str) -> None:
    """Tell nothing: the result will be JSON."""
    del text


def _teller(voice: Voice) -> Callable[[str], Awaitable[None]]:
    return _silent if voice.as_json else _tell


async def _play(
    spec: Path, folder: Path, surroundings: Surroundings, stop: anyio.Event, *, voice: Voice, keep: bool
) -> Told:
    tell = _teller(voice)
    async with _stage(folder) as stage:
        loaded = await anyio.to_thread.run_sync(_load, spec, stage, surroundings.environ)
        told = await until(stop, partial(_acts, loaded, stage, surroundings, voice=voice))
        if keep:
            await tell("\nBoth registries keep serving until Ctrl-C. Try:\n" + _suggestions(spec, stage))
            await stop.wait()
        else:
            await tell("\nWith --keep they go on serving, and these commands work:\n" + _suggestions(spec, stage))
    return told


async def _acts(spec: Spec, stage: Stage, surroundings: Surroundings, *, voice: Voice) -> Told:
    tell = _teller(voice)
    await tell(
        f"Two registries are up, a source at {stage.source.address} and a target at {stage.target.address}.\n\n"
        "1. Fill the source through its API: multi-platform images, a signature, an SBOM."
    )
    await _fill(stage, voice)
    await tell(f"\n2. Run {spec.file}: copy what it selects to the target.\n")
    first = await _run(spec, surroundings, voice)
    await tell("\n3. Run it again: a HEAD for each tag on either side tells that nothing is left to do.\n")
    again = await _run(spec, surroundings, voice)
    await tell(_effort(again, stage))
    image = None
    if first.copied:
        copied = max(first.copied, key=lambda tag: (tag.target.endswith("api"), tag.tag))
        await tell(f"\n4. Look at what arrived: syncer inspect {copied.target}:{copied.tag}\n")
        image = await _inspect(f"{copied.target}:{copied.tag}", stage, surroundings, voice)
        if not voice.as_json:
            await anyio.to_thread.run_sync(print_shown, image)
    return Told(first=first, again=again, image=image)


async def _fill(stage: Stage, voice: Voice) -> None:
    began = anyio.current_time()
    content = await anyio.to_thread.run_sync(demo_content)
    async with Opened(Surroundings(environ={}, home=stage.folder, registries_conf=OFF), logs(voice)) as opened:
        client = await opened.client(stage.source.address)
        await fill(client.repository, content)
    tags = sum(len(repository.tags) for repository in content)
    size = format_size(sum(repository.size for repository in content))
    took = format_duration(anyio.current_time() - began)
    names = ", ".join(repository.name for repository in content)
    await _teller(voice)(f"   {names}: {format_count(tags, 'tag')}, {size} of blobs, built and pushed in {took}.")


async def _run(spec: Spec, surroundings: Surroundings, voice: Voice) -> Report:
    report = await run_spec(spec, surroundings=surroundings, observers=listeners(voice, label="sync"))
    if not voice.as_json:
        await anyio.to_thread.run_sync(lambda: render_report(report, console()))
    return report


async def _inspect(image: str, stage: Stage, surroundings: Surroundings, voice: Voice) -> Shown:
    reference = Reference.parse(image if image.startswith(stage.target.address) else f"{stage.target.address}/{image}")
    async with Opened(surroundings, logs(voice)) as opened:
        return await look(await opened.source(reference), reference.locator, reference=str(reference))


@asynccontextmanager
async def _stage(folder: Path) -> AsyncIterator[Stage]:
    # Gone in a minute: there is nothing to keep through a loss of power.
    settings = ServerSettings(durable=False, drain_timeout=1.0)
    source, target = LayoutTree(folder / "source", durable=False), LayoutTree(folder / "target", durable=False)
    try:
        async with RegistryServer(source, settings) as one, RegistryServer(target, settings) as other:
            yield Stage(source=one, target=other, folder=folder)
    finally:
        with anyio.CancelScope(shield=True):
            await source.close()
            await target.close()


def _load(path: Path, stage: Stage, environ: Mapping[str, str]) -> Spec:
    spec = load_spec(path, {**environ, **stage.environ})
    ours = {stage.source.address, stage.target.address}
    used = {name for entry in spec.entries for name in (entry.source_registry, entry.target_registry)}
    for name in sorted(used):
        registry = spec.registries[name]
        if not isinstance(registry, RegistrySpec) or registry.host not in ours:
            raise UsageError(
                f"{path} uses the registry {name!r}, which is none of the demo's own",
                hint="The demo touches nothing else: write ${SOURCE_REGISTRY} and ${TARGET_REGISTRY} as the hosts, "
                f"or run the spec for real with 'syncer run {path}'.",
            )
    return spec


def _effort(report: Report, stage: Stage) -> str:
    """Tell what a run sent, and what it asked each side for."""
    blobs = format_count(report.totals.blobs[BlobOutcome.STREAMED].count, "blob")
    manifests = format_count(report.totals.manifests.count, "manifest")
    asked = (f"the {side} answered {_asked(report, server)}" for side, server in stage.sides)
    return f"{blobs} and {manifests} were sent; {', '.join(asked)}."


def _asked(report: Report, server: RegistryServer) -> str:
    kinds = report.requests.get(server.address, {})
    heads = kinds.get(RequestKind.MANIFEST_HEAD, 0)
    others = sum(kinds.values()) - heads
    return format_count(heads, "HEAD") + (f" and {format_count(others, 'request')} for lists" if others else "")


def _suggestions(spec: Path, stage: Stage) -> str:
    target = stage.target.address
    variables = " ".join(f"{name}={value}" for name, value in stage.environ.items())
    return "\n".join(
        (
            f"   syncer list-repos {target}",
            f"   syncer list-tags {target}/mirror/library/base",
            f"   syncer copy {target}/mirror/team/api:v2 oci-archive:api.tar:v2",
            f"   {variables} \\\n     syncer plan {spec}",
        )
    )
