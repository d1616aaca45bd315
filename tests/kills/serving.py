"""``syncer registry serve``, killed while a client pushes and deletes."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import aiohttp
import anyio
from anyio import to_thread

from tests.kills.crashes import Crash
from tests.kills.pushing import Client, Promises, Refused, Script
from tests.kills.registries import remembering
from tests.support.forks import Order
from tests.support.layouts import leftovers, read_tree, read_with_journal
from tests.support.world import fill

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forks import Ended, Forks, Running

_COMMAND = ("registry", "serve", "root", "--listen", "127.0.0.1:0", "--output", "json")
_DEAD = (aiohttp.ClientError, ConnectionError)


class Serve:
    """The job: every step of the script, and a clean end."""

    name = "registry serve"
    step = 1

    def __init__(self) -> None:
        self._script = Script()
        self._template: Path | None = None

    async def count(self, forks: Forks, folder: Path) -> int:
        """Serve once, without dying."""
        await self._prepare(folder)
        play = _Play(self._script, folder)
        ended = await play.serve(forks)
        assert ended.code == 0, ended
        assert not play.problems, play.problems
        return ended.points

    async def crash(self, forks: Forks, folder: Path, at: int) -> Crash:
        """Serve, die, look, serve again, and let the client go on where it was."""
        crash = Crash(at=at)
        await self._prepare(folder)
        play = _Play(self._script, folder)
        first = await play.serve(forks, at=at)
        crash.survived = not first.was_killed
        await play.look(is_final=False)
        again = await play.serve(forks)
        if again.code or again.err:
            play.problems.append(f"exit code {again.code}: {again.err}")
        await play.look(is_final=True)
        crash.problems, crash.resent = play.problems, play.resent
        return crash

    async def _prepare(self, folder: Path) -> None:
        if self._template is None:
            self._template = folder.parent / "template"
            async with remembering(self._template) as registry:
                await fill(registry.host, self._script.app, self._script.before)
        await to_thread.run_sync(shutil.copytree, self._template, folder / "root")


class _Play:
    """One run through the script, over as many servers as it takes."""

    def __init__(self, script: Script, folder: Path) -> None:
        self._script = script
        self._folder = folder
        self._promises = script.promises()
        self._servers = 0
        self._done = 0
        #: Whether the step that is next was begun and never answered.
        self._again = False
        self._session = ("", 0)
        self.resent = 0
        self.problems: list[str] = []

    async def serve(self, forks: Forks, *, at: int = 0) -> Ended:
        """Start a server, check what it promised before, go on until it dies or all is done; end it."""
        self._servers += 1
        log = f".server-{self._servers}"
        running = await forks.start(Order(arguments=_COMMAND, folder=str(self._folder), at=at, log=log))
        url = await _address(running)
        if url:
            async with aiohttp.ClientSession() as http:
                client = Client(http, url, *self._session)
                try:
                    await self._check(client)
                    await self._go_on(client)
                except Refused as error:
                    self.problems.append(str(error))
                except _DEAD:
                    pass
                self._session = client.location, client.acknowledged
                self.resent += client.resent
        await forks.stop(running)
        return await running.ended()

    async def _go_on(self, client: Client) -> None:
        for step in self._script.steps[self._done :]:
            again, self._again = self._again, True
            await step.do(client, again=again)
            step.note(self._promises)
            self._again = False
            self._done += 1

    async def _check(self, client: Client) -> None:
        """Check that all that was promised holds; what the step in flight is about may have become either."""
        open_question = Promises(set(self._promises.held), set(self._promises.gone), dict(self._promises.tags))
        if self._again:
            self._script.steps[self._done].note(open_question)
        for path in sorted(self._promises.held & open_question.held):
            if not await client.has(path):
                raise Refused(f"{path} is lost, and was acknowledged")
        for path in sorted(self._promises.gone & open_question.gone):
            if await client.has(path):
                raise Refused(f"{path} is there again, and its deletion was acknowledged")
        for repository in (self._script.app, self._script.other):
            either = [
                {tag: digest for (name, tag), digest in promises.tags.items() if name == repository}
                for promises in (self._promises, open_question)
            ]
            found = {
                tag: (await client.ask("HEAD", f"/v2/{repository}/manifests/{tag}")).headers["Docker-Content-Digest"]
                for tag in await self._tags(client, repository)
            }
            if found not in either:
                raise Refused(f"{repository} has the tags {found} in place of {either[0]}")

    @staticmethod
    async def _tags(client: Client, repository: str) -> list[str]:
        answer = await client.ask("GET", f"/v2/{repository}/tags/list")
        return [] if answer.status == 404 else list(json.loads(answer.body)["tags"])

    async def look(self, *, is_final: bool) -> None:
        """Look at the disk, where no server is running: as other tools do, and with the journal."""
        root = self._folder / "root"
        layouts = await to_thread.run_sync(read_tree, root)
        for repository, layout in layouts.items():
            self.problems += [f"{repository}: {problem}" for problem in layout.problems]
            ours = await read_with_journal(root / repository)
            self.problems += [f"{repository}: {problem}" for problem in ours.problems]
            if is_final:
                expected = {tag: digest for (name, tag), digest in self._promises.tags.items() if name == repository}
                if layout.tags != expected:
                    self.problems.append(f"{repository} has {layout.tags} in place of {expected}")
        if is_final:
            self.problems += [f"left behind: {name}" for name in await to_thread.run_sync(leftovers, self._folder)]
            if self._done < len(self._script.steps):
                self.problems.append(f"only {self._done} steps were done")


async def _address(running: Running) -> str:
    """Return the URL that a server prints when it answers; nothing when it died before."""
    path = anyio.Path(running.path)
    while not running.is_over:
        text = await path.read_text() if await path.exists() else ""
        if text.endswith("\n"):
            return str(json.loads(text)["url"])
        await anyio.sleep(0.003)
    return ""
