"""Takes the steps of a scenario again, as a failure prints them.

    python -m tests.faults.replay FILE [--times 10]

What happens depends on the script, and now and then on which of two sockets is ready first: hence the
number of times. The exit code is 1 when something was violated; then all that the last run did is printed.
"""

from __future__ import annotations

import argparse
import logging
import runpy
import sys

from tests.faults.stateful.scenario import Violated


def main() -> int:
    """Read the command line, run the script, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.replay", description=__doc__)
    parser.add_argument("file", help="a Python script whose steps are those of a Scenario")
    parser.add_argument("--times", type=int, default=1, help="how often it is run, until something is violated")
    given = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True
    for _ in range(given.times):
        try:
            runpy.run_path(given.file)
        except Violated as violated:
            sys.stdout.write(f"{violated.history}\n\n{violated}\n")
            return 1
    sys.stdout.write(f"{given.times} times, and nothing was violated\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
