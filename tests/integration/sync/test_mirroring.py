"""registries.conf in whole commands and runs: which files are read, who is asked, and with whose credentials."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from anyio import to_thread

from syncer.app.copying import copy_image
from syncer.app.mirroring import read_registries_conf
from syncer.app.places import Opened, Reach
from syncer.app.running import plan_spec, run_spec
from syncer.app.surroundings import Surroundings
from syncer.errors import NotFound, PolicyViolation, SpecError
from syncer.events import Notice, RetryScheduled, TagOutcome
from syncer.oci import Digest, Reference, parse_reference
from syncer.spec import parse_spec
from tests.support import images
from tests.support.authority import Authority
from tests.support.observing import Recorder
from tests.support.scripted import scripted
from tests.support.transfer import push
from tests.support.world import Embedded, embedded, fill

if TYPE_CHECKING:
    from pathlib import Path

    from syncer.telemetry.report import Report

APP = images.image(layers=2, seed="app")
OTHER = images.image(layers=2, seed="other")


@dataclass
class Machine:
    """A machine of one's own, with its /etc, its home and its environment."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def surroundings(self) -> Surroundings:
        """What a process finds there."""
        return Surroundings(environ=self.environ, home=self.folder / "home", etc=self.folder / "etc")

    async def write(self, name: str, text: str) -> Path:
        """Write a file; ``name`` starts with ``home`` or ``etc``."""
        path = self.folder / name
        await to_thread.run_sync(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        await to_thread.run_sync(path.write_text, text)
        return path

    async def run(self, text: str, recorder: Recorder | None = None) -> Report:
        """Run a spec there."""
        base = self.folder
        spec = await to_thread.run_sync(lambda: parse_spec(text, file="s.yaml", base=base, environ={}))
        return await run_spec(spec, surroundings=self.surroundings, observers=[recorder] if recorder else [])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine without any configuration."""
    return Machine(tmp_path)


def rule(prefix: str, *mirrors: str, more: str = "") -> str:
    """Return a [[registry]] table whose location is its prefix."""
    text = f'[[registry]]\nprefix = "{prefix}"\nlocation = "{prefix}"\n{more}\n'
    return text + "".join(f'[[registry.mirror]]\nlocation = "{mirror}"\n' for mirror in mirrors)


def kinds(registry: Embedded) -> set[str]:
    """Return what a registry was asked about."""
    return {kind for _, kind in registry.counts()}


def spec(source: Embedded, target: Embedded, entry: str, head: str = "") -> str:
    """Return a spec from one registry to another, without a word on mirrors."""
    return (
        f"version: 1\nstate: ./state.db\n{head}registries:\n"
        f"  up: {{host: '{source.host}', plain_http: true}}\n  to: {{host: '{target.host}', plain_http: true}}\n"
        f"sync:\n  - {{{entry}}}\n"
    )


async def test_a_copy_reads_through_the_mirror(machine: Machine) -> None:
    """Content comes from the mirror, lists from the registry itself, and one notice says so."""
    async with embedded(machine.folder / "up") as up, embedded(machine.folder / "mirror") as mirror:
        await fill(up.host, "team/app", {"v1": APP})
        await fill(mirror.host, "cache/team/app", {"v1": APP})
        file = await machine.write("etc/containers/registries.conf", rule(up.host, f"{mirror.host}/cache"))
        up.requests.clear()
        recorder = Recorder()
        async with Opened(machine.surroundings, recorder) as opened:
            source = Reference(registry=up.host, repository="team/app", tag="v1")
            target = parse_reference(f"oci:{machine.folder / 'out'}:v1")
            copied = await copy_image(source, target, opened=opened, observer=recorder)
        assert copied.digest == APP.digest
        assert kinds(up) <= {"tags/list", "referrers"}
        assert {"manifests", "blobs"} <= kinds(mirror)
        notices = [notice for notice in recorder.of(Notice) if str(file) in notice.text]
        assert [(notice.where, mirror.host in notice.text) for notice in notices] == [(up.host, True)]


async def test_a_run_reads_through_the_mirror_and_writes_past_it(machine: Machine) -> None:
    """A rule for the target changes nothing: it is written where its name says; a second run has nothing to do."""
    async with (
        embedded(machine.folder / "up") as up,
        embedded(machine.folder / "mirror") as mirror,
        embedded(machine.folder / "to") as to,
    ):
        await fill(up.host, "team/app", {"v1": APP, "v2": OTHER})
        await fill(mirror.host, "team/app", {"v1": APP})
        text = rule(up.host, mirror.host) + rule(to.host, mirror.host, more="blocked = true")
        await machine.write("etc/containers/registries.conf", text)
        up.requests.clear()
        mirror.requests.clear()
        recorder = Recorder()
        report = await machine.run(spec(up, to, "from: up/team/app, to: to/app"), recorder)
        assert not report.failures
        assert report.totals.tags[TagOutcome.COPIED] == 2
        assert not any(method in ("PUT", "POST", "PATCH") for method, _ in mirror.counts() | up.counts())
        # v2 is not in the mirror, and comes from the registry itself.
        assert up.counts()["GET", "manifests"] == 1
        assert up.counts()["GET", "blobs"] == len(OTHER.blobs)
        again = await machine.run(spec(up, to, "from: up/team/app, to: to/app"))
        assert again.totals.tags[TagOutcome.IN_SYNC] == 2


@pytest.mark.parametrize("how", ["spec", "option", "machine"])
async def test_off_means_off(machine: Machine, how: str) -> None:
    """With ``off``, or without a file, no mirror is asked."""
    async with (
        embedded(machine.folder / "up") as up,
        embedded(machine.folder / "mirror") as mirror,
        embedded(machine.folder / "to") as to,
    ):
        await fill(up.host, "app", {"v1": APP})
        if how != "machine":
            await machine.write("etc/containers/registries.conf", rule(up.host, mirror.host, more="blocked = true"))
        surroundings = replace(machine.surroundings, registries_conf="off" if how == "option" else "")
        head = "registries_conf: off\n" if how == "spec" else ""
        text = spec(up, to, "from: up/app, to: to/app", head)
        parsed = await to_thread.run_sync(lambda: parse_spec(text, file="s.yaml", base=machine.folder, environ={}))
        assert not (await run_spec(parsed, surroundings=surroundings)).failures
        assert mirror.requests == []


async def test_a_spec_may_name_its_own_file(machine: Machine) -> None:
    """A file beside the spec is read instead of the machine's."""
    async with (
        embedded(machine.folder / "up") as up,
        embedded(machine.folder / "mirror") as mirror,
        embedded(machine.folder / "to") as to,
    ):
        await fill(up.host, "app", {"v1": APP})
        await fill(mirror.host, "app", {"v1": APP})
        await machine.write("etc/containers/registries.conf", rule(up.host, more="blocked = true"))
        await machine.write("mine.conf", rule(up.host, mirror.host))
        up.requests.clear()
        text = spec(up, to, "from: up/app, to: to/app", "registries_conf: ./mine.conf\n")
        assert not (await machine.run(text)).failures
        assert ("GET", "blobs") not in up.counts()


async def test_blocked_sources_are_failures_of_their_entries(machine: Machine) -> None:
    """A blocked repository fails and says why; what is not blocked goes on; a blocked catalog is not read."""
    async with embedded(machine.folder / "up") as up, embedded(machine.folder / "to") as to:
        await fill(up.host, "good", {"v1": APP})
        await machine.write("etc/containers/registries.conf", rule(f"{up.host}/bad", more="blocked = true"))
        up.requests.clear()
        text = spec(up, to, "from: up/bad, to: to/bad") + "  - {from: up/good, to: to/good}\n"
        report = await machine.run(text)
        assert [failure.message for failure in report.failures] != []
        assert all("blocked by" in failure.message for failure in report.failures)
        assert report.totals.tags[TagOutcome.COPIED] == 1
        assert not any("bad" in record.path for record in up.requests)
        await machine.write("etc/containers/registries.conf", rule(up.host, more="blocked = true"))
        up.requests.clear()
        report = await machine.run(spec(up, to, "from: 'up/**', to: 'to/{path}'"))
        assert "blocked by" in report.failures[0].message
        async with Opened(machine.surroundings, Recorder()) as opened:
            with pytest.raises(PolicyViolation):
                await opened.catalog(up.host)
        assert up.requests == []


async def test_a_rule_that_leaves_no_name_fails_its_entry_only(machine: Machine) -> None:
    """A location without a repository is a failure of what it is about, with the file's name."""
    async with embedded(machine.folder / "up") as up, embedded(machine.folder / "to") as to:
        await fill(up.host, "good", {"v1": APP})
        text = f'[[registry]]\nprefix = "{up.host}/bad"\nlocation = "{to.host}"\n'
        file = await machine.write("etc/containers/registries.conf", text)
        report = await machine.run(spec(up, to, "from: up/bad, to: to/bad") + "  - {from: up/good, to: to/good}\n")
        assert [str(file) in failure.message for failure in report.failures] == [True]
        assert report.totals.tags[TagOutcome.COPIED] == 1


async def test_the_location_is_where_the_registry_is(machine: Machine) -> None:
    """A rewritten location is read in place of the name, without any mirror."""
    async with embedded(machine.folder / "moved") as moved:
        await fill(moved.host, "new/app", {"v1": APP})
        await machine.write(
            "home/.config/containers/registries.conf",
            f'[[registry]]\nprefix = "old.example/team"\nlocation = "{moved.host}/new"\n',
        )
        recorder = Recorder()
        async with Opened(machine.surroundings, recorder) as opened:
            source = await opened.source(Reference(registry="old.example", repository="team/app"))
            assert (await source.resolve("v1")).digest == APP.digest
            assert [tag async for tag in source.tags()] == ["v1"]
            assert (source.registry, source.repository) == ("old.example", "team/app")
        assert [moved.host in notice.text for notice in recorder.of(Notice)] == [True]


async def test_files_are_joined_as_the_manual_says(machine: Machine) -> None:
    """The user's file hides the system's and its additions; without it both folders add, the user's last."""
    await machine.write("etc/containers/registries.conf", rule("a.example") + rule("b.example"))
    await machine.write("etc/containers/registries.conf.d/20.conf", rule("b.example", more="blocked = true"))
    await machine.write("etc/containers/registries.conf.d/10.conf", rule("b.example") + rule("c.example"))
    await machine.write("etc/containers/registries.conf.d/30.off", "not TOML at all")
    await machine.write("home/.config/containers/registries.conf.d/00.conf", rule("c.example", more="blocked = true"))

    def read() -> dict[str, tuple[str, bool]]:
        conf = read_registries_conf(machine.surroundings)
        assert conf is not None
        return {one.prefix: (one.file.removeprefix(f"{machine.folder}/"), one.blocked) for one in conf.rules}

    assert await to_thread.run_sync(read) == {
        "a.example": ("etc/containers/registries.conf", False),
        "b.example": ("etc/containers/registries.conf.d/20.conf", True),
        "c.example": ("home/.config/containers/registries.conf.d/00.conf", True),
    }
    await machine.write("home/.config/containers/registries.conf", rule("d.example"))
    assert set(await to_thread.run_sync(read)) == {"c.example", "d.example"}
    machine.environ["CONTAINERS_REGISTRIES_CONF"] = str(await machine.write("named.conf", rule("e.example")))
    assert set(await to_thread.run_sync(read)) == {"b.example", "c.example", "e.example"}


async def test_files_that_cannot_be_used_are_named(machine: Machine) -> None:
    """A file that is asked for and is not there, and one that is not what it should be, end the command at once."""
    machine.environ["CONTAINERS_REGISTRIES_CONF"] = "/nonexistent/r.conf"
    with pytest.raises(
        SpecError, match=r"/nonexistent/r\.conf: there is no such file, and \$CONTAINERS_REGISTRIES_CONF"
    ):
        await to_thread.run_sync(read_registries_conf, machine.surroundings)
    machine.environ.clear()
    file = await machine.write("etc/containers/registries.conf", "[registries.search]\nregistries = ['a']\n")
    async with Opened(machine.surroundings, Recorder()) as opened:
        with pytest.raises(SpecError, match="version 1") as caught:
            await opened.source(Reference(registry="a.example", repository="app"))
    assert str(file) in caught.value.message
    assert "--registries-conf off" in caught.value.hint


async def test_credentials_stay_with_their_registry(machine: Machine) -> None:
    """What the spec says of the registry is never shown to a mirror, which gets what is known for its own host."""
    secret, own = _basic("robot", "c4n4ry"), _basic("cache", "for-the-mirror")

    async def guarded(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != own:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="mirror"'})
        found = APP.manifest if "/manifests/" in request.path else None
        if found is None:
            return web.Response(body=APP.blobs[Digest(request.path.rpartition("/")[2])])
        return web.Response(
            body=found.raw, headers={"Docker-Content-Digest": found.digest, "Content-Type": found.media_type}
        )

    async def upstream(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != secret:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="up"'})
        return web.json_response({"tags": ["v1"]}) if "tags" in request.path else web.Response(status=404)

    async with scripted(guarded) as mirror, scripted(upstream) as up, embedded(machine.folder / "to") as to:
        entry = {"auth": own.removeprefix("Basic ")}
        await machine.write("home/.docker/config.json", json.dumps({"auths": {mirror.address: entry}}))
        await machine.write("etc/containers/registries.conf", rule(up.address, mirror.address))
        report = await machine.run(
            f"version: 1\nregistries:\n  to: {{host: '{to.host}', plain_http: true}}\n"
            f"  up: {{host: '{up.address}', plain_http: true, credentials: {{username: robot, password: c4n4ry}}}}\n"
            "sync:\n  - {from: up/app, to: to/app}\n"
        )
        assert not report.failures
        assert secret in {request.authorization for request in up.seen}
        assert {request.authorization for request in mirror.seen} <= {"", own}
        assert own in {request.authorization for request in mirror.seen}
        assert own not in {request.authorization for request in up.seen}


def _basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


async def test_a_mirror_that_the_spec_declares_is_reached_as_it_says(machine: Machine) -> None:
    """A host under ``registries`` keeps its credentials when it serves as a mirror of another."""
    expected = _basic("u", "declared")

    async def guarded(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != expected:
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        found = APP.manifest
        if "/manifests/" in request.path:
            return web.Response(
                body=found.raw, headers={"Docker-Content-Digest": found.digest, "Content-Type": found.media_type}
            )
        return web.Response(body=APP.blobs[Digest(request.path.rpartition("/")[2])])

    async with (
        scripted(guarded) as mirror,
        embedded(machine.folder / "up") as up,
        embedded(machine.folder / "to") as to,
    ):
        await fill(up.host, "app", {"v1": APP})
        await machine.write("etc/containers/registries.conf", rule(up.host, mirror.address))
        up.requests.clear()
        report = await machine.run(
            f"version: 1\nregistries:\n  up: {{host: '{up.host}', plain_http: true}}\n"
            f"  to: {{host: '{to.host}', plain_http: true}}\n"
            f"  cache: {{host: '{mirror.address}', plain_http: true,"
            " credentials: {username: u, password: declared}}\n"
            "sync:\n  - {from: up/app, to: to/app}\n"
        )
        assert not report.failures
        assert ("GET", "blobs") not in up.counts()


async def test_an_insecure_mirror_needs_no_tls(machine: Machine) -> None:
    """``insecure`` asks for TLS first, with any certificate, and takes plain HTTP where there is none."""
    async with embedded(machine.folder / "up") as up, embedded(machine.folder / "mirror") as mirror:
        await fill(mirror.host, "app", {"v1": APP})
        text = rule(up.host) + f'[[registry.mirror]]\nlocation = "{mirror.host}"\ninsecure = true\n'
        await machine.write("etc/containers/registries.conf", text)
        async with Opened(machine.surroundings, Recorder()) as opened:
            source = await opened.source(Reference(registry=up.host, repository="app"))
            assert (await source.resolve("v1")).digest == APP.digest
        assert up.requests == []


async def test_what_the_command_line_says_of_a_registry_holds(machine: Machine) -> None:
    """An ``insecure`` rule adds nothing where an option has said how the registry is reached."""
    async with embedded(machine.folder / "up") as up:
        await fill(up.host, "app", {"v1": APP})
        await machine.write("etc/containers/registries.conf", rule(up.host, more="insecure = true"))
        for reach, requests in ((Reach(plain_http=True), 1), (None, 1)):
            up.requests.clear()
            async with Opened(machine.surroundings, Recorder()) as opened:
                source = await opened.source(Reference(registry=up.host, repository="app"), reach)
                assert (await source.resolve("v1")).digest == APP.digest
            assert len(up.requests) == requests


async def test_a_plan_looks_along_the_same_way(machine: Machine) -> None:
    """What a plan sees is what a run would read."""
    async with (
        embedded(machine.folder / "up") as up,
        embedded(machine.folder / "mirror") as mirror,
        embedded(machine.folder / "to") as to,
    ):
        await fill(mirror.host, "app", {"v1": APP})
        await fill(up.host, "app", {"v1": APP})
        await machine.write("etc/containers/registries.conf", rule(up.host, mirror.host))
        up.requests.clear()
        text = spec(up, to, "from: up/app, to: to/app, tags: {include: [v1]}, referrers: false")
        parsed = await to_thread.run_sync(lambda: parse_spec(text, file="s.yaml", base=machine.folder, environ={}))
        plan, report = await plan_spec(parsed, surroundings=machine.surroundings)
        assert [action.digest for action in plan.actions] == [APP.digest]
        assert not report.failures
        assert up.requests == []


async def test_a_mirror_that_is_not_there_holds_nobody_up(machine: Machine, unused_tcp_port: int) -> None:
    """It is tried once for the whole run, without waiting for it to come, and told in a notice."""
    async with embedded(machine.folder / "up") as up, embedded(machine.folder / "to") as to:
        await fill(up.host, "app", {"v1": APP, "v2": OTHER})
        await machine.write("etc/containers/registries.conf", rule(up.host, f"127.0.0.1:{unused_tcp_port}"))
        recorder = Recorder()
        report = await machine.run(spec(up, to, "from: up/app, to: to/app, referrers: false"), recorder)
        assert not report.failures
        assert report.totals.tags[TagOutcome.COPIED] == 2
        assert recorder.of(RetryScheduled) == []
        passed_over = [notice for notice in recorder.of(Notice) if "passed over" in notice.text]
        assert len(passed_over) == 1


async def test_an_insecure_mirror_may_have_any_certificate(machine: Machine) -> None:
    """One that speaks TLS is read over TLS, whoever signed its certificate; one that is not insecure is not read."""
    authority = await to_thread.run_sync(Authority, machine.folder)
    certificate, key = await to_thread.run_sync(authority.issue, "mirror", "127.0.0.1")
    async with (
        embedded(machine.folder / "up") as up,
        embedded(machine.folder / "mirror", certificate=certificate, key=key) as mirror,
    ):
        reach = Reach(insecure=True)
        async with Opened(machine.surroundings, Recorder()) as opened:
            target = await opened.target(Reference(registry=mirror.host, repository="app"), reach)
            await push(target, APP, "v1")
        for is_insecure in (True, False):
            text = rule(up.host, mirror.host) + f"insecure = {str(is_insecure).lower()}\n"
            await machine.write("etc/containers/registries.conf", text)
            async with Opened(machine.surroundings, Recorder()) as opened:
                source = await opened.source(Reference(registry=up.host, repository="app"))
                if is_insecure:
                    assert (await source.resolve("v1")).digest == APP.digest
                    assert up.requests == []
                else:
                    with pytest.raises(NotFound):
                        await source.resolve("v1")


async def test_an_insecure_registry_that_is_out_of_order_is_not_spoken_to_in_the_clear(machine: Machine) -> None:
    """One that answers its first question with 503 has answered in TLS, and is asked in TLS from then on."""
    authority = await to_thread.run_sync(Authority, machine.folder)
    context = await to_thread.run_sync(authority.server, "127.0.0.1")

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v2/":
            return web.Response(status=503)
        return web.Response(body=APP.manifest.raw, content_type=APP.manifest.media_type)

    async with scripted(handler, tls=context) as mirror, embedded(machine.folder / "up") as up:
        text = rule(up.host) + f'[[registry.mirror]]\nlocation = "{mirror.address}"\ninsecure = true\n'
        await machine.write("etc/containers/registries.conf", text)
        async with Opened(machine.surroundings, Recorder()) as opened:
            source = await opened.source(Reference(registry=up.host, repository="app"))
            assert (await source.fetch_manifest("v1")).digest == APP.digest


async def test_certificates_are_found_where_other_tools_look(machine: Machine) -> None:
    """A registry whose authority is in certs.d needs no word in the spec; without it, it is not trusted."""
    authority = await to_thread.run_sync(Authority, machine.folder)
    certificate, key = await to_thread.run_sync(authority.issue, "registry", "127.0.0.1")
    async with embedded(machine.folder / "up", certificate=certificate, key=key) as up:
        async with Opened(machine.surroundings, Recorder()) as opened:
            target = await opened.target(Reference(registry=up.host, repository="app"), Reach(ca=str(authority.ca)))
            await push(target, APP, "v1")
        text = (
            f"version: 1\nregistries:\n  up: {{host: '{up.host}'}}\n  usb: {{layout: ./usb}}\n"
            "sync:\n  - {from: up/app, to: usb/app}\n"
        )
        report = await machine.run(text)
        assert "is not trusted" in report.failures[0].message
        ca = await to_thread.run_sync(authority.ca.read_text)
        await machine.write(f"etc/docker/certs.d/{up.host}/ca.crt", ca)
        report = await machine.run(text)
        assert not report.failures
        assert report.totals.tags[TagOutcome.COPIED] == 1
