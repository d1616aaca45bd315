"""Looking for inputs that a family does not survive: at random, from its valid documents and its corpus on."""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from random import Random
from typing import TYPE_CHECKING

from tests.fuzz.stage import survive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fuzz.stage import Family, Reader

#: Mutations that are laid over each other at most.
_DEEPEST = 3


@dataclass(kw_only=True)
class Catch:
    """What a hunt came to; ``found`` are inputs with what was wrong, one for each kind of wrong."""

    tried: int = 0
    refused: int = 0
    slowest: float = 0.0
    slowest_input: bytes = field(default=b"", repr=False)
    found: dict[str, bytes] = field(default_factory=dict)


def inputs(family: Family, seed: int) -> Iterator[bytes]:
    """Yield inputs without an end, the same for the same seed and corpus."""
    random = Random(seed)  # noqa: S311 - chance for tests, no secret
    known = [*family.seeds(), *(path.read_bytes() for path in family.corpus())]
    while True:
        data = random.choice(known)
        for _ in range(random.randint(1, _DEEPEST)):
            data = family.mutate(random, data)
        yield data


def hunt(
    family: Family,
    folder: Path,
    *,
    seed: int = 0,
    wanted: Callable[[Catch], bool],
    clock: Callable[[], float] = time.process_time,
) -> Catch:
    """Try inputs while ``wanted``; ``folder`` is empty and at the reader's disposal."""
    catch = Catch()
    with family.opened(folder) as read, redirect_stdout(StringIO()):
        for data in inputs(family, seed):
            if not wanted(catch):
                break
            started, hole = clock(), ""
            try:
                catch.refused += survive(family, read, data) is not None
            except AssertionError as error:
                hole = kind_of(error)
            took = clock() - started
            if hole and hole not in catch.found:
                catch.found[hole] = minimised(family, read, data)
            catch.tried += 1
            if took > catch.slowest:
                catch.slowest, catch.slowest_input = took, data
    return catch


def kind_of(error: AssertionError) -> str:
    """Return what is wrong and where, the same for two inputs that fall into the same hole."""
    cause: BaseException = error.__cause__ or error
    frame, place, ours = cause.__traceback__, "", ""
    while frame is not None:
        folder, _, name = frame.tb_frame.f_code.co_filename.rpartition("/")
        place = f"{name}:{frame.tb_lineno}"
        ours = place if "/syncer/" in f"{folder}/" else ours
        frame = frame.tb_next
    told = re.sub("[0-9]+", "#", str(error).partition("\n")[0])[:160]
    return f"{type(cause).__name__} at {ours if error.__cause__ and ours else place}: {told}"


def minimised(family: Family, read: Reader, data: bytes) -> bytes:
    """Return a shorter input that falls into the same hole: parts are left out as long as that goes well."""
    wanted = _hole(family, read, data)
    size = max(1, len(data) // 2)
    budget = 400
    while size and budget:
        at = 0
        while at < len(data) and budget:
            shorter = data[:at] + data[at + size :]
            budget -= 1
            if _hole(family, read, shorter) == wanted:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _hole(family: Family, read: Reader, data: bytes) -> str:
    try:
        survive(family, read, data)
    except AssertionError as error:
        return kind_of(error)
    return ""


def name_of(data: bytes) -> str:
    """Return a name for an input in the corpus."""
    return f"found-{hashlib.sha256(data).hexdigest()[:12]}"
