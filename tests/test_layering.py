"""The shape of the code: who may import whom, and how large things may grow."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent / "syncer"
FLOORS = {
    "lazy": 1,
    "errors": 1,
    "oci": 1,
    "events": 1,
    "content": 1,
    "spec": 2,
    "plan": 2,
    "verify": 2,
    "registry": 3,
    "layout": 3,
    "state": 3,
    "telemetry": 3,
    "engine": 4,
    "promotion": 5,
    "bundle": 5,
    "schedule": 5,
    "cluster": 5,
    "server": 5,
    "web": 5,
    "demo": 5,
    "app": 6,
    "cli": 7,
}
#: Floor 1 has an order of its own: each may import those before it.
FIRST_FLOOR = ["lazy", "errors", "oci", "content", "events"]
#: Modules that decide and do not act: no loop, no network, no clock, no chance, no environment.
PURE = [
    "oci",
    "plan",
    "spec/selection.py",
    "spec/routing.py",
    "spec/collisions.py",
    "registry/auth/challenge.py",
    "registry/auth/memory.py",
    "registry/auth/scopes.py",
    "registry/auth/token_service.py",
    "registry/conf_places.py",
    "registry/failures.py",
    "registry/hosts.py",
    "registry/network/addresses.py",
    "registry/network/proxies.py",
    "registry/network/urls.py",
    "registry/registries_conf.py",
    "registry/traffic/adaptive.py",
    "registry/traffic/retry.py",
    "registry/unfinished.py",
    "registry/upload/forms.py",
    "registry/upload/ladder.py",
    "registry/upload/progress.py",
]
IMPURE = {"asyncio", "anyio", "aiohttp", "aiofiles", "os", "time", "random", "socket", "subprocess"}
MAX_MODULE_LINES = 600
MAX_FUNCTION_LINES = 60
MEDIAN_MODULE_LINES = 250
VAGUE = re.compile(r"(utils?|helpers?|common|managers?)(\.py)?$")

MODULES = sorted(path for path in ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    """Return the room a module belongs to; the package itself and its entry point belong to none."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Return the line and dotted name of every import, those for the type checker included."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            found += [(node.lineno, f"{node.module}.{name.name}") for name in node.names]
    return found


def allowed(room: str, other: str) -> bool:
    """Tell whether ``room`` may import ``other``."""
    if room == other:
        return True
    mine, theirs = FLOORS[room], FLOORS[other]
    if mine == theirs == 1:
        return FIRST_FLOOR.index(other) < FIRST_FLOOR.index(room)
    if (room, other) in {("server", "registry"), ("demo", "registry")}:
        return False
    if mine == 4:
        return theirs <= 2
    return theirs < mine or (room, other) == ("demo", "server")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_what_lies_below(path: Path) -> None:
    """A room imports the floors below it, and its neighbours never."""
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    assert room in FLOORS, f"{path}: a room that ARCHITECTURE does not know"
    for line, name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "syncer" and len(parts) > 1 and parts[1] in FLOORS:
            assert allowed(room, parts[1]), f"{path}:{line}: {room} may not import {name}"


@pytest.mark.parametrize("pure", PURE)
def test_pure_rooms_do_no_io(pure: str) -> None:
    """Rooms that decide take clocks and chance as arguments and touch nothing."""
    target = ROOT / pure
    for path in [target] if target.suffix else sorted(target.rglob("*.py")):
        for line, name in imports_of(path):
            assert name.split(".")[0] not in IMPURE, f"{path}:{line}: a pure room imports {name}"


def test_modules_and_functions_stay_small() -> None:
    """No module is over 600 lines, no function over 60, and the median module is under 250."""
    lengths = []
    for path in MODULES:
        source = path.read_text()
        lengths.append(len(source.splitlines()))
        assert lengths[-1] <= MAX_MODULE_LINES, f"{path} has {lengths[-1]} lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{path}:{node.lineno} {node.name} has {length} lines"
    assert median(lengths) < MEDIAN_MODULE_LINES


def test_no_dumping_grounds() -> None:
    """A module is named for its noun."""
    for path in ROOT.rglob("*"):
        assert not VAGUE.search(path.name), path


def test_every_noqa_and_ignore_says_why() -> None:
    """A silenced rule names itself and gives its reason on the line."""
    bare = re.compile(
        r"# (noqa(?!: [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)* - \S)|type: ignore(?!\[[a-z-]+(, ?[a-z-]+)*\]  # \S))"
    )
    for path in MODULES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not bare.search(line), f"{path}:{number}: {line.strip()}"
