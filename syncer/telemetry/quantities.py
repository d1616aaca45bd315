"""Sizes, rates, durations and counts, as people read them.

Sizes are binary (KiB is 1024 bytes); a number has one decimal below a hundred and none above,
so that a column of them is never wider than eight characters.
"""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP = 1024
_MINUTE = 60
_HOUR = 3600
_DAY = 86400
#: From here on a number is precise enough without a decimal.
_WHOLE = 99.95
_TENTHS = 9.95


def format_size(count: float) -> str:
    """Return ``count`` bytes as ``512 B``, ``3.1 GiB`` or ``210 MiB``."""
    if abs(count) < _STEP:
        return f"{count:.0f} B"
    value = float(count) / _STEP
    at = 0
    # 1023.7 KiB would be shown as 1024 KiB: the next unit says it better.
    while abs(value) >= _STEP - 0.5 and at < len(_UNITS) - 1:
        value /= _STEP
        at += 1
    unit = _UNITS[at]
    return f"{value:.0f} {unit}" if abs(value) >= _WHOLE else f"{value:.1f} {unit}"


def format_rate(per_second: float) -> str:
    """Return bytes per second as ``210 MiB/s``."""
    return f"{format_size(per_second)}/s"


def format_duration(seconds: float) -> str:
    """Return seconds as ``85 ms``, ``4.2 s``, ``23 s``, ``4 min 05 s``, ``2 h 05 min`` or ``3 d 04 h``."""
    if seconds < 1:
        milliseconds = round(max(seconds, 0.0) * 1000)
        return f"{milliseconds} ms" if milliseconds < 1000 else "1.0 s"  # noqa: PLR2004 - milliseconds in a second
    if seconds < _TENTHS:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    minutes = round(seconds / _MINUTE)
    if minutes < _DAY // _MINUTE:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / _HOUR)
    return f"{hours // 24} d {hours % 24:02} h"


def format_count(number: int, noun: str = "") -> str:
    """Return ``12,345``, or ``1 tag``, ``2 tags``, ``3 repositories`` with a noun."""
    if not noun:
        return f"{number:,}"
    if number == 1:
        return f"1 {noun}"
    ending = "ies" if noun.endswith("y") else "s"
    return f"{number:,} {noun[:-1] if ending == 'ies' else noun}{ending}"


def format_share(part: float, whole: float) -> str:
    """Return ``part`` of ``whole`` as ``71 %``: 100 % only for the whole, 0 % only for nothing."""
    if whole <= 0:
        return "0 %"
    percent = round(100 * part / whole)
    if part < whole:
        percent = min(percent, 99)
    if part > 0:
        percent = max(percent, 1)
    return f"{percent} %"
