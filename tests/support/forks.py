"""A process that has imported Syncer and forks: command lines that start in milliseconds, and die where they are told.

``python -m tests.support.forks`` is that process, in which nothing but imports ever happens; :class:`Forks` is
how a test speaks to it. Each command line runs in a child of its own, by the real ``syncer.cli.main``, on
asyncio's own loop, with its failpoints counted (:mod:`tests.support.failpoints`).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import pkgutil
import selectors
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import syncer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

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
        at: the failpoint to die at; 0 for none.
        opcodes: how many opcodes of SQLite make a failpoint.
        size: bytes that no file may outgrow; 0 for no bound.
        log: where the output goes, in ``folder``.
    """

    arguments: Sequence[str]
    folder: str
    at: int = 0
    opcodes: int = 50
    size: int = 0
    log: str = ".run"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command line ended: its exit code, or a negative signal; the failpoints it passed when it survived."""

    code: int
    points: int
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
        self.pid = 0
        self._started = asyncio.Event()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def path(self) -> Path:
        """Where what it writes to standard output goes."""
        return Path(self.order.folder, f"{self.order.log}.out")

    def note(self, message: dict[str, int]) -> None:
        """Take in what the forking process says of it."""
        if "pid" in message:
            self.pid = message["pid"]
            self._started.set()
        elif not self._code.done():
            self._code.set_result(os.waitstatus_to_exitcode(message["status"]))

    @property
    def is_over(self) -> bool:
        """True when it has ended."""
        return self._code.done()

    async def started(self) -> None:
        """Wait until it has a process."""
        await self._started.wait()

    async def ended(self) -> Ended:
        """Wait for its end."""
        code = await asyncio.shield(self._code)

        def read() -> Ended:
            points = self.path.with_suffix(".points")
            return Ended(
                code=code,
                points=int(points.read_text()) if points.exists() else 0,
                out=self.path.read_text(),
                err=self.path.with_suffix(".err").read_text(),
            )

        return await asyncio.to_thread(read)


class Forks:
    """The test's side of the forking process; use :func:`forking`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._running: list[Running] = []

    async def start(self, order: Order) -> Running:
        """Start a command line."""
        running = Running(order)
        self._running.append(running)
        message = {"id": len(self._running) - 1, **asdict(order)}
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()
        await running.started()
        return running

    async def run(self, order: Order) -> Ended:
        """Start a command line and wait for its end."""
        return await (await self.start(order)).ended()

    def hear(self, line: bytes) -> None:
        """Take in a message."""
        message = json.loads(line)
        self._running[message.pop("id")].note(message)


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
    points = failpoints.arm(order.at, opcodes=order.opcodes)
    if order.size:
        failpoints.bound(order.size)
    code = 70
    try:
        code = main(list(order.arguments))
        sys.stdout.flush()
        log.with_suffix(".points").write_text(str(points.passed))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _redirect(number: int, path: Path, flags: int) -> None:
    handle = os.open(path, flags, 0o644)
    os.dup2(handle, number)
    os.close(handle)


def _say(number: int, **message: int) -> None:
    os.write(1, json.dumps({"id": number, **message}).encode() + b"\n")


def _fork(line: bytes, selector: selectors.BaseSelector) -> None:
    message = json.loads(line)
    number = message.pop("id")
    pid = os.fork()
    if pid == 0:
        selector.close()
        _work(Order(**message))
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (number, pid))
    _say(number, pid=pid)


def serve() -> None:
    """Fork a child for each line of standard input, and tell how each ended; end with the input."""
    own = (module.name for module in pkgutil.walk_packages(syncer.__path__, "syncer."))
    for name in [*_WARM, *own]:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    pending = b""
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                number, pid = key.data
                selector.unregister(key.fd)
                os.close(key.fd)
                _say(number, status=os.waitpid(pid, 0)[1])
                continue
            data = os.read(0, 65536)
            if not data:
                _end(selector)
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _fork(line, selector)


def _end(selector: selectors.BaseSelector) -> None:
    for key in list(selector.get_map().values()):
        if key.data is not None:
            os.kill(key.data[1], signal.SIGKILL)
            os.waitpid(key.data[1], 0)


if __name__ == "__main__":
    serve()
