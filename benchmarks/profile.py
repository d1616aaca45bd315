"""Where Syncer's time goes: ``python -m benchmarks profile [W1] [W3]``, or ``make profile``.

py-spy samples the stacks of a run of its own, native code included; without py-spy, cProfile counts calls
of the main thread, which makes much-called functions look heavier. Neither is used when seconds are measured.
"""

from __future__ import annotations

import argparse
import json
import pstats
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import content, workloads
from benchmarks.measure import measured, version
from benchmarks.peers import Job, SyncerRun
from benchmarks.servers import docker_registry
from benchmarks.workloads import Stage, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ROOT = Path(__file__).parents[1]
_SPY = _ROOT / ".cache" / "profile" / "bin" / "py-spy"
_RATE = 250
_KEPT = 40
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(:[0-9]+)?\)$")
_IMPORTS = "imports"
#: Frames of threads that wait for work; py-spy takes some of them for busy.
_WAITING = frozenset({
    "lock_PyThread_acquire_lock", "PyThread_acquire_lock_timed", "_queue_SimpleQueue_get_impl", "epoll_pwait",
    "epoll_wait",
})  # fmt: skip
#: Functions of libc that hand bytes to the kernel, or take them.
_TRANSFERS = frozenset({
    "read", "write", "readv", "writev", "recv", "send", "recvfrom", "sendto", "recvmsg", "sendmsg", "pread64",
})  # fmt: skip
#: By how a file's name begins, what the file is part of. Extensions in C are named by their source files.
_LIBRARIES = {
    "libcrypto": "OpenSSL",
    "libssl": "OpenSSL",
    "_hashopenssl.c": "OpenSSL",
    "_ssl.c": "OpenSSL",
    "libsqlite3": "SQLite",
    "loop.c": "uvloop",
    "core.c": "uvloop",
    "stream.c": "uvloop",
    "linux.c": "uvloop",
    "_asynciomodule.c": "asyncio",
    "_http_parser.c": "aiohttp",
    "_http_writer.c": "aiohttp",
    "<string>": "dataclasses",
}


class Frame(NamedTuple):
    """A function, and the file or library that it is in."""

    function: str
    file: str


_MAKERS: dict[str, Callable[[float], Sequence[Workload]]] = {
    "W1": lambda scale: [workloads.first_and_again(max(1, int(500 * scale)))],
    "W3": lambda scale: [
        workloads.large_layer(max(1, int(1024**3 * scale)), is_secure=is_secure) for is_secure in (False, True)
    ],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile; return 0, or 1 when a run fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description="Where Syncer's time goes.")
    parser.add_argument("workloads", nargs="*", metavar="W", help="W1 or W3 (both)")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the size of everything (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes")
    options = parser.parse_args(arguments)
    if unknown := set(options.workloads) - set(_MAKERS):
        parser.error(f"not profiled: {', '.join(sorted(unknown))}")
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    spy = str(_SPY) if _SPY.exists() else shutil.which("py-spy") or ""
    try:
        profiles = [
            {**_profile(workload, spy), "when": when}
            for name in options.workloads or _MAKERS
            for workload in _MAKERS[name](options.scale)
        ]
    except RuntimeError as error:
        print(f"profile: {error}", file=sys.stderr)
        return 1
    for profile in profiles:
        print(f"{profile['title']} ({profile['profiler']})")
        for heading in ("where", "function"):
            print(f"  by {heading}", *(f"    {share:6.1%}  {name}" for name, share in profile[heading][:15]), sep="\n")
    options.out.mkdir(parents=True, exist_ok=True)
    result = options.out / f"{when}-profile.json"
    result.write_text(json.dumps({"scale": options.scale, "profiles": profiles}, indent=1) + "\n")
    print(f"\nwritten to {result}")
    return 0


def shares_of_stacks(lines: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
    """Return the shares of samples by package or library, and by function, of collapsed stacks with counts.

    Threads that wait are left out. Work that an import statement causes is told apart from the work proper.
    """
    where: Counter[str] = Counter()
    function: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [Frame(found["function"], found["file"]) for each in stack.split(";") if (found := _FRAME.match(each))]
        frames.reverse()
        if not frames or any(frame.function in _WAITING for frame in frames):
            continue
        if any("importlib" in frame.file for frame in frames):
            where[_IMPORTS] += int(count)
            continue
        where[next(filter(None, map(_package, frames)), "interpreter")] += int(count)
        # Without symbols a frame has an address only: who called it is known.
        named = next((frame for frame in frames if not frame.function.startswith("0x")), frames[0])
        function[f"{named.function} ({named.file})"] += int(count)
    return {"where": _shares(where, where.total()), "function": _shares(function, where.total())}


def _profile(workload: Workload, spy: str) -> Mapping[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="syncer-profile-", dir=workloads.in_memory()) as name,
        Stage.set_up(workload, Path(name)) as stage,
        docker_registry(Path(name) / "target", stage.certificate) as target,
    ):
        folder = Path(tempfile.mkdtemp(dir=name))
        command = SyncerRun().command(Job(source=stage.source, target=target, pairs=workload.pairs, folder=folder))
        result = folder / "profile"
        if spy:
            measured([spy, "record", "--native", "--format", "raw", "--rate", str(_RATE), "--output", str(result),
                      "--", *command], folder)  # fmt: skip
            shares = shares_of_stacks(result.read_text().splitlines())
            profiler = f"{version(spy, '--version')} at {_RATE} Hz"
        else:
            measured([command[0], "-m", "cProfile", "-o", str(result), *command[1:]], folder)
            shares = _shares_of_calls(result)
            profiler = "cProfile"
        wanted = [content.Repository(name=pair.target, images=pair.source.images) for pair in workload.pairs]
        if content.count_wrong(target, wanted):
            raise RuntimeError("the profiled run did not do its work")
    return {"title": workload.parts[0].title, "profiler": profiler, **shares}


def _shares_of_calls(file: Path) -> dict[str, list[tuple[str, float]]]:
    where: Counter[str] = Counter()
    function: Counter[str] = Counter()
    # The dictionary is what pstats.Stats is made of; its type is not declared.
    calls: Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]] = vars(pstats.Stats(str(file)))["stats"]
    for (path, _, name), (_, _, own, _, _) in calls.items():
        micros = int(own * 1e6)
        frame = Frame(name, _short(path))
        where[_package(frame) or "interpreter"] += micros
        function[f"{name} ({frame.file})"] += micros
    return {"where": _shares(where, where.total()), "function": _shares(function, where.total())}


def _shares(counts: Counter[str], whole: int) -> list[tuple[str, float]]:
    return [(name, round(count / whole, 4)) for name, count in counts.most_common(_KEPT) if count]


def _package(frame: Frame) -> str:
    """Return what a frame belongs to: a package, a room of ours, a library; nothing for those that serve others."""
    path = frame.file
    for library, name in _LIBRARIES.items():
        if path.startswith(library):
            return name
    if path.startswith("libc."):
        return "read and write" if frame.function in _TRANSFERS else ""
    parts = path.split("/")
    if parts[0] == "syncer" and len(parts) > 1:
        return f"syncer/{parts[1].removesuffix('.py')}"
    if path.endswith(".py") or len(parts) > 1:
        return parts[0].removesuffix(".py")
    return ""


def _short(path: str) -> str:
    """Return a file as it is called from the folder of its package."""
    for root in (*sys.path, str(_ROOT)):
        if root and path.startswith(root + "/"):
            path = path.removeprefix(root + "/")
    return path.partition("site-packages/")[2] or path


if __name__ == "__main__":
    sys.exit(main())
