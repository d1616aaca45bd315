"""``syncer registry serve``, killed while a client pushes and deletes."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING

import aiohttp
import anyio
from anyio import to_thread

from tests.kills.crashes import COUNTED, NOWHERE, Crash, Point
from tests.kills.pushing import CROWD, CROWDED, Client, Promises, Refused, Script
from tests.kills.registries import remembering
from tests.support.forks import Order
from tests.support.layouts.findings import Layout
from tests.support.layouts.opened import told_of_tree
from tests.support.layouts.reading import leftovers, read_tree
from tests.support.world import fill

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.forks import Ended, Forks, Running

_COMMAND = ("registry", "serve", "root", "--listen", "127.0.0.1:0", "--output", "json")
_DEAD = (aiohttp.ClientError, ConnectionError)


class Serve:
    """The job: a number of clients, each with all steps of its script, and a clean end."""

    def __init__(self, clients: int = 1) -> None:
        self._scripts = [Script(f"team{number}") for number in range(clients)]
        self._template: Path | None = None
        #: With many at once one failpoint is much like the next.
        self.step = clients

    @property
    def name(self) -> str:
        """What the table calls it."""
        return "registry serve" if len(self._scripts) == 1 else f"registry serve, {len(self._scripts)} clients"

    async def count(self, forks: Forks, folder: Path) -> Mapping[str, int]:
        """Serve once, without dying."""
        play = await self._prepare(folder)
        ended = await play.serve(forks, at=COUNTED)
        assert ended.code == 0, ended
        assert not play.problems, play.problems
        return ended.points

    async def crash(self, forks: Forks, folder: Path, at: Point) -> Crash:
        """Serve, die, look, serve again, and let the clients go on where they were."""
        crash = Crash(at=at)
        play = await self._prepare(folder)
        first = await play.serve(forks, at=at)
        crash.survived = not first.was_killed
        await play.look()
        again = await play.serve(forks)
        if again.code or again.err:
            play.problems.append(f"exit code {again.code}: {again.err}")
        await play.look()
        await play.look_finally()
        crash.problems, crash.resent = play.problems, sum(part.resent for part in play.parts)
        return crash

    async def _prepare(self, folder: Path) -> _Play:
        if self._template is None:
            self._template = folder.parent / "template"
            async with remembering(self._template) as registry:
                for script in self._scripts:
                    await fill(registry.host, script.app, script.before)
        await to_thread.run_sync(shutil.copytree, self._template, folder / "root")
        return _Play([_Part(script) for script in self._scripts], folder)


class _Part:
    """One client's way through its script, over as many servers as it takes."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.promises = script.promises()
        self._done = 0
        #: Whether the step that is next was begun and never answered.
        self._again = False
        self._session = ("", 0)
        self.resent = 0

    @property
    def is_done(self) -> bool:
        """True when every step was acknowledged."""
        return self._done == len(self.script.steps)

    async def play(self, url: str) -> None:
        """Check what was promised before, and go on until the server dies or all is done.

        Raises:
            Refused: when the server does not keep what was promised, or refuses what it must do.
        """
        async with aiohttp.ClientSession() as http:
            client = Client(http, url, *self._session)
            try:
                await self._check(client)
                await self._go_on(client)
            except _DEAD:
                pass
            self._session = client.location, client.acknowledged
            self.resent += client.resent

    async def _go_on(self, client: Client) -> None:
        for step in self.script.steps[self._done :]:
            again, self._again = self._again, True
            await step.do(client, again=again)
            step.note(self.promises)
            self._again = False
            self._done += 1

    async def _check(self, client: Client) -> None:
        """Check that all that was promised holds; what the step in flight is about may have become either."""
        promised = self.promises
        possible = Promises(set(promised.held), set(promised.gone), dict(promised.tags))
        if self._again:
            self.script.steps[self._done].note(possible)
        for path in sorted(promised.held & possible.held):
            if not await client.has(path):
                raise Refused(f"{path} is lost, and was acknowledged")
        for path in sorted(promised.gone & possible.gone):
            if await client.has(path):
                raise Refused(f"{path} is there again, and its deletion was acknowledged")
        for repository in (self.script.app, self.script.other):
            found = await _tags(client, repository)
            if found not in (promised.tags_of(repository), possible.tags_of(repository)):
                raise Refused(f"{repository} has the tags {found} in place of {promised.tags_of(repository)}")


class _Play:
    """All clients, and the servers that they meet one after the other."""

    def __init__(self, parts: list[_Part], folder: Path) -> None:
        self.parts = parts
        self.problems: list[str] = []
        self._folder = folder
        self._servers = 0

    async def serve(self, forks: Forks, *, at: Point = NOWHERE) -> Ended:
        """Start a server, let the clients play until it dies or all is done, and end it."""
        self._servers += 1
        log = f".server-{self._servers}"
        order = Order(arguments=_COMMAND, folder=str(self._folder), at=at.number, kind=at.kind, log=log)
        running = await forks.start(order)
        url = await _address(running)
        if url:
            played = await asyncio.gather(*(part.play(url) for part in self.parts), return_exceptions=True)
            for error in played:
                if isinstance(error, Refused):
                    self.problems.append(str(error))
                elif error is not None:
                    raise error
        await forks.stop(running)
        return await running.ended()

    async def look(self) -> None:
        """Look at the disk, where no server is running: as other tools do, and with the journal."""
        self.problems += await told_of_tree(self._folder / "root")

    async def look_finally(self) -> None:
        """Compare what is there with what was promised."""
        layouts = await to_thread.run_sync(read_tree, self._folder / "root")
        for part in self.parts:
            if not part.is_done:
                self.problems.append(f"the client of {part.script.app} is not done")
            for repository in (part.script.app, part.script.other):
                found, expected = layouts.get(repository, Layout()).tags, part.promises.tags_of(repository)
                if found != expected:
                    self.problems.append(f"{repository} has {found} in place of {expected}")
        pushed = [str(part.script.crowded.digest) for part in self.parts]
        crowded = layouts.get(CROWD, Layout()).tags.get(CROWDED)
        if crowded not in pushed:
            self.problems.append(f"the tag that all pushed stands for {crowded}")
        self.problems += map(str, await to_thread.run_sync(leftovers, self._folder))


async def _tags(client: Client, repository: str) -> dict[str, str]:
    """Return what each tag of a repository stands for; nothing where there is no such repository."""
    answer = await client.ask("GET", f"/v2/{repository}/tags/list")
    tags = [] if answer.status == 404 else json.loads(answer.body)["tags"]
    answers = {tag: await client.ask("HEAD", f"/v2/{repository}/manifests/{tag}") for tag in tags}
    return {tag: answer.headers.get("Docker-Content-Digest", "") for tag, answer in answers.items()}


async def _address(running: Running) -> str:
    """Return the URL that a server prints when it answers; nothing when it died before."""
    path = anyio.Path(running.path)
    while not running.is_over:
        text = await path.read_text() if await path.exists() else ""
        if text.endswith("\n"):
            return str(json.loads(text)["url"])
        await anyio.sleep(0.003)
    return ""
