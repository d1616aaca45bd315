"""``python -m tests.fuzz FAMILY… --seconds N``: look for inputs that are not survived, and keep what is found.

``all`` stands for every family. What is found is minimised and written to ``--keep`` (default: nowhere).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.catalogue import FAMILIES
from tests.fuzz.hunting import hunt, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.hunting import Catch


def _row(name: str, catch: Catch) -> str:
    return f"{name:<18}  {catch.tried:>9}  {catch.refused:>9}  {len(catch.found):>5}  {catch.slowest * 1000:>8.0f} ms"


def _for(seconds: float) -> Callable[[Catch], bool]:
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() < end


def main() -> int:
    """Hunt, print a line for each family, and return 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("families", nargs="+", choices=[*FAMILIES, "all"], metavar="FAMILY")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for what is found, by family")
    options = parser.parse_args()
    names = list(FAMILIES) if "all" in options.families else options.families
    status = 0
    sys.stdout.write(f"{'family':<18}  {'tried':>9}  {'refused':>9}  {'found':>5}  {'slowest':>11}\n")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            catch = hunt(FAMILIES[name], Path(folder), seed=options.seed, wanted=_for(options.seconds))
        sys.stdout.write(_row(name, catch) + "\n")
        for kind, data in catch.found.items():
            status = 1
            sys.stdout.write(f"  {kind}\n    {data[:120]!r}\n")
            if options.keep:
                place = options.keep / name / name_of(data)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
        sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
