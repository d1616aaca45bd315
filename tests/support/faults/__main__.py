"""A source and a target registry in a process of their own, which outlives the clients that are killed.

    python -m tests.support.faults --tags 20 --seed 7 --rate 0.05

The first line of output is a JSON object with their addresses. ``GET /history`` of ``control`` returns
what has happened so far, and ``POST /faults?seed=7&rate=0`` changes what goes wrong from now on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web
from yarl import URL

from tests.support import images
from tests.support.faults.exchanges import SURVIVABLE
from tests.support.faults.injection import Injector
from tests.support.faults.model import Model
from tests.support.personalities.history import Exchange
from tests.support.personalities.internet import Internet

if TYPE_CHECKING:
    from tests.support.personalities.history import Change

#: Addresses, so that any process finds them.
SOURCE, TARGET, CONTROL = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def as_json(entry: Exchange | Change) -> dict[str, Any]:
    """Return an entry of a history as a JSON object; ``entry`` tells exchanges and changes apart."""
    if isinstance(entry, Exchange):
        shown = {name: getattr(entry, name) for name in Exchange.__slots__ if name != "headers"}
        return {"entry": "exchange", "step": entry.step, **shown}
    return {"entry": "change", **asdict(entry)}


class Control:
    """Tells the history, and changes the faults."""

    def __init__(self, internet: Internet, injector: Injector) -> None:
        self.internet = internet
        self.injector = injector
        internet.sites[CONTROL] = self

    def kind_of(self, path: str) -> str:
        """Nothing here is a registry's."""
        return "control"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer ``GET /history`` and ``POST /faults``."""
        url = URL(request.raw_path)
        if (request.method, url.path) == ("POST", "/faults"):
            set_faults(self.injector, url.query.get("seed", ""), float(url.query.get("rate", "0")))
            return web.Response(status=204)
        entries = [as_json(entry) for entry in self.internet.history.entries]
        return web.json_response({"entries": entries, "violations": self.internet.violations})


def set_faults(injector: Injector, seed: str, rate: float) -> None:
    """Let a share of the requests to the registries fail from now on."""
    injector.stop()
    if rate:
        injector.random(seed, rate, SURVIVABLE, when=lambda exchange: exchange.site != CONTROL)


async def serve(tags: int, seed: str, rate: float) -> None:
    """Serve until SIGTERM."""
    internet = Internet()
    source, target = Model(internet, SOURCE), Model(internet, TARGET)
    for number in range(tags):
        source.keep("app", images.image(seed=f"{seed}/{number}"), f"v{number}")
    injector = Injector(internet)
    set_faults(injector, seed, rate)
    Control(internet, injector)
    async with internet.running():
        addresses = {"source": source.address, "target": target.address, "control": f"{CONTROL}:{internet.port}"}
        sys.stdout.write(f"{json.dumps(addresses)}\n")
        sys.stdout.flush()
        is_over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
        await is_over.wait()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.faults", description=__doc__)
    parser.add_argument("--tags", type=int, default=10, help="how many images source/app has")
    parser.add_argument("--seed", default="0", help="of the images and of the faults")
    parser.add_argument("--rate", type=float, default=0.0, help="the share of requests that fail, from 0 to 1")
    given = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True
    asyncio.run(serve(given.tags, given.seed, given.rate))


if __name__ == "__main__":
    main()
