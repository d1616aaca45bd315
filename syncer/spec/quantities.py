"""Quantities as a spec writes them: rates, sizes and lengths of time."""

from __future__ import annotations

import re

from syncer.errors import SpecError

_UNITS = {"B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3} | {
    unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)
}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(B|[kK]B|MB|GB|KiB|MiB|GiB)/s")
_SIZE = re.compile(r"([0-9]{1,12})\s*(B|[kK]B|MB|GB|KiB|MiB|GiB)")
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*(ms|s|m|h)")
_SHORTEST = 0.1
_LONGEST = 24 * 3600.0


def parse_bandwidth(text: str) -> int:
    """Return ``200MiB/s`` in bytes per second.

    Raises:
        SpecError: without a place, when it is anything else, or not from 1 KiB/s to 1 TiB/s.
    """
    rate = _rate(text, "200MiB/s")
    if not _UNITS["KiB"] <= rate <= _UNITS["TiB"]:
        raise SpecError(f"expected a rate from 1KiB/s to 1TiB/s, not {text[:80]!r}")
    return rate


def parse_floor(text: str) -> int:
    """Return ``1KiB/s`` in bytes per second, and 0 for ``none``.

    Raises:
        SpecError: without a place, when it is anything else, or over 1 GiB/s.
    """
    if text.strip() == "none":
        return 0
    rate = _rate(text, "1KiB/s, or 'none'")
    if not 1 <= rate <= _UNITS["GiB"]:
        raise SpecError(f"expected a rate from 1B/s to 1GiB/s, or 'none', not {text[:80]!r}")
    return rate


def parse_chunk(text: str) -> int:
    """Return ``16MiB`` in bytes.

    Raises:
        SpecError: without a place, when it is anything else, or not from 64 KiB to 1 GiB.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise SpecError(f"expected a size such as 16MiB, not {text[:80]!r}", hint="Write a number and a unit of bytes.")
    size = int(match[1]) * int(_UNITS[match[2]])
    if not 64 * _UNITS["KiB"] <= size <= _UNITS["GiB"]:
        raise SpecError(f"expected a size from 64KiB to 1GiB, not {text[:80]!r}")
    return size


def parse_duration(text: str) -> float:
    """Return ``90s`` or ``5m`` in seconds.

    Raises:
        SpecError: without a place, when it is anything else, or not from 100 ms to 24 hours.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        hint = "Write a number and a unit: ms, s, m or h."
        raise SpecError(f"expected a length of time such as 90s, not {text[:80]!r}", hint=hint)
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not _SHORTEST <= seconds <= _LONGEST:
        raise SpecError(f"expected a length of time from 100ms to 24h, not {text[:80]!r}")
    return seconds


def _rate(text: str, example: str) -> int:
    match = _RATE.fullmatch(text.strip())
    if match is None:
        hint = "Write a number, a unit of bytes and /s, for example 200MiB/s; bits are not understood."
        raise SpecError(f"expected a rate such as {example}, not {text[:80]!r}", hint=hint)
    return int(float(match[1]) * _UNITS[match[2]])
