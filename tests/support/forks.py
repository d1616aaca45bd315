"""A process that has imported Syncer and forks: command lines that start in milliseconds, and die where they are told.

``python -m tests.support.forks`` is that process, in which nothing but imports ever happens; :class:`Forks` is
how a test speaks to it. Each command line runs in a child of its own, by the real ``syncer.cli.main``, on
asyncio's own loop, with its failpoints counted (:mod:`tests.support.failpoints`).
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import syncer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

#: What a command imports as it goes, besides Syncer's own modules.
_WARM = (
    "anyio._backends._asyncio",
    "anyio._core._signals",
    "anyio._core._subprocesses",
    "concurrent.futures.thread",
    "encodings.idna",
    "importlib.resources",
    "rich.console",
    "rich.table",
    "sysconfig",
)
_KILLED = frozenset({-signal.SIGKILL, -signal.SIGXFSZ})


@dataclass(frozen=True, kw_only=True)
class Order:
    """One command line.

    Attributes:
        arguments: after the name of the program.
        folder: its working directory, its home, and where ``.out`` and ``.err`` are written.
        at: the number of the failpoint to die at; 0 for none.
        kind: and its kind; without a number, the failpoints are only counted.
        opcodes: how many opcodes of SQLite make a failpoint.
        size: bytes that no file may outgrow; 0 for no bound.
        log: where the output goes, in ``folder``.
        plant: ``module:function``, called before anything else; see :attr:`Forks.plant`.
    """

    arguments: Sequence[str]
    folder: str
    at: int = 0
    kind: str = ""
    opcodes: int = 50
    size: int = 0
    log: str = ".run"
    plant: str = ""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command line ended: its exit code, or a negative signal; the failpoints of each kind when it survived."""

    code: int
    points: Mapping[str, int]
    out: str
    err: str

    @property
    def was_killed(self) -> bool:
        """True when it died of its failpoint."""
        return self.code in _KILLED


class Running:
    """A command line that has been started."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def path(self) -> Path:
        """Where what it writes to standard output goes."""
        return Path(self.order.folder, f"{self.order.log}.out")

    def note(self, status: int) -> None:
        """Take in how it ended, as the system says it."""
        self._code.set_result(os.waitstatus_to_exitcode(status))

    @property
    def is_over(self) -> bool:
        """True when it has ended."""
        return self._code.done()

    async def ended(self) -> Ended:
        """Wait for its end."""
        code = await asyncio.shield(self._code)

        def read() -> Ended:
            points = self.path.with_suffix(".points")
            return Ended(
                code=code,
                points=json.loads(points.read_text()) if points.exists() else {},
                out=self.path.read_text(),
                err=self.path.with_suffix(".err").read_text(),
            )

        return await asyncio.to_thread(read)


class Forks:
    """The test's side of the forking process; use :func:`forking`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        #: ``module:function`` that is called in each child which is to die, or counts: a defect that is to be found.
        self.plant = ""
        self._running: list[Running] = []

    async def start(self, order: Order) -> Running:
        """Start a command line."""
        if order.at or order.size or order.kind:
            order = replace(order, plant=self.plant)
        running = Running(order)
        self._running.append(running)
        await self._send({"id": len(self._running) - 1, "order": asdict(order)})
        return running

    async def stop(self, running: Running) -> None:
        """Send SIGTERM to a command line, unless it has ended."""
        # Only its parent knows that its number is still its own.
        await self._send({"id": self._running.index(running), "stop": True})

    async def run(self, order: Order) -> Ended:
        """Start a command line and wait for its end."""
        return await (await self.start(order)).ended()

    async def _send(self, message: dict[str, object]) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()

    def hear(self, line: bytes) -> None:
        """Take in how a command line ended."""
        message = json.loads(line)
        self._running[message["id"]].note(message["status"])


@asynccontextmanager
async def forking() -> AsyncIterator[Forks]:
    """Run a forking process until the end of the block; what it still runs then is killed."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.forks",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=root,
        # Not measured for coverage: what is killed could not tell, and the rest is measured elsewhere.
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(root)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    forks = Forks(process.stdin)
    output = process.stdout

    async def listen() -> None:
        async for line in output:
            forks.hear(line)

    listening = asyncio.create_task(listen())
    try:
        yield forks
    finally:
        process.stdin.close()
        await process.wait()
        await listening


# ---------------------------------------------------------------- the forking process


def _work(order: Order) -> NoReturn:
    """Be the child: run the command line to its end, or to its failpoint's."""
    from syncer.cli import main  # noqa: PLC0415 - imported already, and the test's side has no need of it
    from tests.support import failpoints  # noqa: PLC0415 - same

    os.chdir(order.folder)
    os.environ["HOME"] = order.folder
    log = Path(order.folder, order.log)
    _redirect(0, Path(os.devnull), os.O_RDONLY)
    _redirect(1, log.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    _redirect(2, log.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    log.with_suffix(".points").unlink(missing_ok=True)
    if order.plant:
        module, _, name = order.plant.partition(":")
        getattr(importlib.import_module(module), name)()
    points = failpoints.arm(order.at, order.kind, opcodes=order.opcodes)
    if order.size:
        failpoints.bound(order.size)
    code = 70
    try:
        code = main(list(order.arguments))
        sys.stdout.flush()
        log.with_suffix(".points").write_text(json.dumps(points.passed))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _redirect(number: int, path: Path, flags: int) -> None:
    handle = os.open(path, flags, 0o644)
    os.dup2(handle, number)
    os.close(handle)


class _Forking:
    """The forking process's side: its children, by the numbers that the test gave them."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._children: dict[int, int] = {}
        self._pending = b""

    def serve(self) -> None:
        """Do what standard input says, and tell how each child ended; end with the input."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._bury(key.fd, key.data)
                    continue
                data = os.read(0, 65536)
                if not data:
                    self._end()
                    return
                *lines, self._pending = (self._pending + data).split(b"\n")
                for line in lines:
                    self._do(json.loads(line))

    def _do(self, message: dict[str, Any]) -> None:
        number = message["id"]
        if "order" not in message:
            if number in self._children:
                os.kill(self._children[number], signal.SIGTERM)
            return
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            _work(Order(**message["order"]))
        self._children[number] = pid
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, number)

    def _bury(self, handle: int, number: int) -> None:
        self._selector.unregister(handle)
        os.close(handle)
        status = os.waitpid(self._children.pop(number), 0)[1]
        os.write(1, json.dumps({"id": number, "status": status}).encode() + b"\n")

    def _end(self) -> None:
        for pid in self._children.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def main() -> None:
    """Import all that commands import, and fork until the end of standard input."""
    own = (module.name for module in pkgutil.walk_packages(syncer.__path__, "syncer."))
    for name in [*_WARM, *own]:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    # What was imported is never collected: the children would copy the pages of all of it.
    gc.collect()
    gc.freeze()
    _Forking().serve()


if __name__ == "__main__":
    main()
