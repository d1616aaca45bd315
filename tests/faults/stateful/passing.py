"""Faults that have to be survived, struck at random."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.support.faults import exchanges
from tests.support.personalities.history import Step

if TYPE_CHECKING:
    from tests.support.faults.injection import Fault, Injector
    from tests.support.personalities.history import Exchange

#: What has to be survived as often as it comes (twice in a row for one request), by name.
PASSING: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *exchanges.SURVIVABLE,
        exchanges.LOCATION_RELATIVE,
        exchanges.LOCATION_FRAGMENT,
        exchanges.RANGE_OF_OTHER_SIZE,
        exchanges.RANGE_NONSENSE,
        exchanges.NO_LIFETIME,
        exchanges.NO_TIME,
        exchanges.ACCESS_TOKEN,
    )
    if fault is not exchanges.EXPIRED
}
#: What has to be survived when it comes once for one and the same thing.
ONCE: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *exchanges.WRONG_BYTES,
        exchanges.BLACK_HOLE,
        exchanges.SLOW_HEADERS,
        exchanges.TAKES_NOTHING,
        exchanges.MOUNTED_IN_WORDS,
    )
}
#: What has to be survived now and then.
RARE: dict[str, Fault] = {exchanges.EXPIRED.name: exchanges.EXPIRED}
ALL = {**PASSING, **ONCE, **RARE}
#: Entries of the history after which a token has been in use.
_IN_USE = 40
_DIGEST = re.compile(r"sha256(?::|%3A)([0-9a-f]{64})")


def strike(injector: Injector, seed: object, rate: float, kinds: tuple[str, ...] = (), *, quiet: int = 200) -> None:
    """Let faults strike from now on.

    Args:
        injector: lets them.
        seed: the same seed, the same faults for the same requests.
        rate: the share of requests that meet one of :data:`PASSING`; half as many meet one of the others.
        kinds: names of those that may strike; empty for all.
        quiet: entries of the history between two times that all tokens are taken back.
    """
    if not rate:
        return
    chosen = {name for name in ALL if not kinds or name in kinds}
    came: set[tuple[str, ...]] = set()
    issued: dict[str, int] = {}

    def is_first(exchange: Exchange) -> bool:
        if exchange.step is Step.POST and "mount=" not in exchange.target:
            return False
        # One blob may come by several paths: what counts is what is asked for.
        asked = (exchange.site, exchange.step, *(_DIGEST.findall(exchange.target) or [exchange.target]))
        is_new = asked not in came
        came.add(asked)
        return is_new

    def is_quiet(exchange: Exchange) -> bool:
        # A token that is taken back before it was used once is more than has to be borne.
        if exchange.step is Step.TOKEN:
            issued[exchange.site.removeprefix("auth.")] = exchange.number
        if exchange.number < issued.get(exchange.site, exchange.number) + _IN_USE:
            return False
        for other in reversed(injector.struck):
            if exchange.number - other.number >= quiet:
                return True
            if other.fault in RARE and other.site == exchange.site:
                return False
        return True

    for group, share, when in ((ONCE, rate / 2, is_first), (RARE, rate / 2, is_quiet), (PASSING, rate, None)):
        faults = [fault for name, fault in group.items() if name in chosen]
        if faults:
            injector.random(f"{seed} of {len(group)}", share, faults, when=when)
