"""docs/registries.md: what it shows can be read, run, and leads to the credentials that it says."""

from __future__ import annotations

import base64
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from aiohttp import web
from anyio import to_thread
from ruamel.yaml import YAML

from syncer.app.places import Opened
from syncer.app.surroundings import Surroundings
from syncer.cli.commands import COMMANDS, application
from syncer.oci import Reference
from syncer.registry.credentials.authfile import parse_auth_file
from syncer.registry.registries_conf import parse_registries_conf
from syncer.spec import parse_spec
from tests.support import images
from tests.support.observing import Recorder
from tests.support.scripted import scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "registries.md").read_text(encoding="utf-8")
APP = images.image(seed="page")
PASSWORD = "from-the-helper"


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


SPECS = [block for block in blocks("yaml") if not block.startswith("# .")]
PIPELINES = [block for block in blocks("yaml") if block.startswith("# .")]


def strings(value: Any) -> Iterator[str]:
    """Yield every text within a document."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def command_lines() -> Iterator[str]:
    """Yield every line that a shell is to run."""
    for block in blocks("sh"):
        yield from block.splitlines()
    for block in PIPELINES:
        document = YAML(typ="safe", pure=True).load(block)
        yield from (text for text in strings(document) if "syncer " in text)


def words_of(line: str) -> list[str]:
    """Return the words of the ``syncer`` command in a line, without pipes and redirections."""
    line = re.sub(r"\$\{\{.*?\}\}", "value", line)
    call = re.split(r"\s<+\s", line[line.index("syncer ") :])[0]
    return shlex.split(call)[1:]


@pytest.mark.parametrize("block", SPECS)
def test_every_spec_is_valid(block: str) -> None:
    """A fragment that declares a registry is one, in a spec that uses it as source and as target."""
    (name,) = re.findall(r"^  ([a-z]+):$", block, flags=re.MULTILINE)
    text = f"version: 1\n{block}  usb: {{layout: ./usb}}\nsync:\n"
    text += f"  - {{from: {name}/team/app, to: usb/app}}\n  - {{from: usb/app, to: {name}/team/copy}}\n"
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)", block), "x")
    assert len(parse_spec(text, file="registries.md", base=ROOT, environ=environ).entries) == 2


def test_every_registry_has_a_section_with_a_spec() -> None:
    """Each section on a registry shows how it is declared."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    about = [section for section in sections if not section.startswith(("In CI", "Mirrors"))]
    assert len(about) == len(SPECS) == 9
    assert all("```yaml\nregistries:" in section for section in about)


@pytest.mark.parametrize("line", [*command_lines()])
def test_every_command_line_is_one(line: str) -> None:
    """The words are a command's, with options and arguments that it takes."""
    words = words_of(line)
    assert any(tuple(words[: len(command.words)]) == tuple(command.words) for command in COMMANDS)
    group = typer.main.get_command(application(words))
    with group.make_context("syncer", list(words[:1])) as context:
        command = group.commands[words[0]]  # type: ignore[attr-defined]  # a group, by what application() makes
        command.make_context(words[0], list(words[1:]), parent=context)


def test_the_mirrors_are_ones() -> None:
    """The example of a registries.conf is one."""
    (text,) = blocks("toml")
    (rule,) = parse_registries_conf(text.encode(), "registries.md")
    assert [mirror.pull for mirror in rule.mirrors] == ["all", "digest-only"]


def test_the_links_lead_somewhere() -> None:
    """What the spec's page and the command line's page say of mirrors is here."""
    for name in ("spec.md", "cli.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert "registries.md#mirrors" in text
    assert re.search("^## Mirrors$", PAGE, flags=re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of an auth file of the page: who is asked for the credential of ``key``, or what it is."""

    key: str
    document: dict[str, Any]
    helper: str = ""

    def at(self, address: str) -> str:
        """Return the auth file with ``address`` in the place of the registry."""
        member = "credHelpers" if self.helper else "auths"
        path = "" if "://" in self.key else self.key.partition("/")[2]
        key = f"{address}/{path}" if path else address
        return json.dumps({member: {key: self.document[member][self.key]}})

    def authorization(self) -> str:
        """Return what the registry is to see."""
        if self.helper:
            return f"Basic {base64.b64encode(f'{self.helper}:{PASSWORD}'.encode()).decode()}"
        return f"Basic {self.document['auths'][self.key]['auth']}"


def auth_entries() -> Iterator[Entry]:
    """Yield every entry of every auth file of the page."""
    for block in blocks("json"):
        document = json.loads(block)
        for key, name in document.get("credHelpers", {}).items():
            yield Entry(key=key, document=document, helper=name)
        for key in document.get("auths", {}):
            yield Entry(key=key, document=document)


@pytest.mark.parametrize("block", blocks("json"))
def test_every_auth_file_is_one(block: str) -> None:
    """Each file is read as it stands, and has something to say of the registry that it names."""
    content = parse_auth_file(block.encode(), "registries.md")
    assert content.entries or content.helpers


@pytest.mark.parametrize("entry", [*auth_entries()], ids=lambda entry: entry.key)
async def test_every_auth_file_opens_its_registry(entry: Entry, tmp_path: Path) -> None:
    """A registry that wants exactly that credential gets it, from the helper that is named or from the file."""

    async def registry(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != entry.authorization():
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="cloud"'})
        return web.Response(
            body=APP.manifest.raw,
            headers={"Docker-Content-Digest": APP.digest, "Content-Type": APP.manifest.media_type},
        )

    def prepare(address: str) -> None:
        (tmp_path / "config.json").write_text(entry.at(address))
        if not entry.helper:
            return
        program = tmp_path / f"docker-credential-{entry.helper}"
        answer = json.dumps({"ServerURL": address, "Username": entry.helper, "Secret": PASSWORD})
        # It answers for this registry only, and only to "get".
        program.write_text(f"#!/bin/sh\nread server\n[ \"$1 $server\" = 'get {address}' ] && echo '{answer}'\n")
        program.chmod(0o755)

    async with scripted(registry) as served:
        await to_thread.run_sync(prepare, served.address)
        surroundings = Surroundings(
            environ={"PATH": f"{tmp_path}:/usr/bin:/bin", "DOCKER_CONFIG": str(tmp_path)},
            home=Path("/nonexistent"),
            etc=Path("/nonexistent"),
        )
        repository = "my-org/app" if "my-org" in entry.key else "team/app"
        async with Opened(surroundings, Recorder()) as opened:
            source = await opened.source(Reference(registry=served.address, repository=repository))
            assert (await source.resolve("v1")).digest == APP.digest
