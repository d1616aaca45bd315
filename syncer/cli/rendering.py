"""What commands print: results on standard output, errors on standard error, each for people or as JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncer.errors import SyncerError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Lines wider than this are hard to read, however wide the terminal is.
_WIDEST = 100
_NARROWEST = 40


def print_line(text: str = "") -> None:
    """Print one line of a result."""
    sys.stdout.write(f"{text}\n")


def print_json(value: Any) -> None:
    """Print a result as one JSON document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_bytes(data: bytes) -> None:
    """Print exactly ``data``, without a line end of our own."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def print_pairs(pairs: Iterable[tuple[str, str]], indent: str = "") -> None:
    """Print ``name  value`` lines with the values in one column; pairs without a value are left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print_line(f"{indent}{name.ljust(width)}  {value}")


def say(text: str) -> None:
    """Tell a person something that is not a result."""
    tell(f"syncer: {text}")


def tell(text: str) -> None:
    """Write ``text`` and a line end to standard error, if that is possible.

    Its reader may have gone, its terminal been closed, its disk be full: what is done, and the exit code
    that tells of it, must not depend on that.
    """
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def print_error(error: SyncerError, *, as_json: bool) -> None:
    """Print ``error`` on standard error: one paragraph, or one line of JSON."""
    if as_json:
        tell(json.dumps(error_object(error), ensure_ascii=False))
    else:
        tell(paragraph(error, width=_terminal_width()))


def error_object(error: SyncerError) -> dict[str, Any]:
    """Return the JSON of ``error``; the members are an interface."""
    return {
        "error": {
            "type": type(error).__name__,
            "message": _masked(error.message),
            "hint": _masked(error.hint),
            "side": error.side.value if error.side else None,
        }
    }


def paragraph(error: SyncerError, *, width: int | None = None) -> str:
    """Return ``syncer: error: …``, wrapped at ``width`` columns, or in one line that can be searched for.

    Several problems in one spec keep a line each. What a registry said cannot steer the terminal.
    """
    lines = _masked(f"syncer: error: {error.paragraph()}").splitlines()
    if width is None:
        return "\n".join(lines)
    wrap = textwrap.TextWrapper(
        width=width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )
    return "\n".join(wrap.fill(line) for line in lines)


def bug_report(error: BaseException) -> SyncerError:
    """Return what a person is told of an error nobody expected; the trace goes to a file of its own."""
    summary = f"this is a bug in Syncer: {type(error).__name__}"
    if text := str(error).strip():
        summary += f": {text.splitlines()[0][:200]}"
    try:
        place = f"The full trace is in {_write_trace(error)}; please send it along."
    except OSError as failed:
        place = f"The trace could not be written ({failed.strerror}); SYNCER_DEBUG=1 shows it on the terminal."
    return SyncerError(summary, hint=f"Please report it, with the command that led here. {place}")


def print_trace(error: BaseException) -> None:
    """Print the trace of ``error`` on standard error, without secrets."""
    tell(_trace(error).rstrip("\n"))


def _write_trace(error: BaseException) -> Path:
    handle, name = tempfile.mkstemp(prefix="syncer-trace-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(_trace(error))
    return Path(name)


def _trace(error: BaseException) -> str:
    import traceback  # noqa: PLC0415 - only when something is wrong

    from syncer.telemetry.redaction import redact  # noqa: PLC0415 - same

    return redact("".join(traceback.format_exception(error)))


def _masked(text: str) -> str:
    from syncer.telemetry.redaction import printable, redact  # noqa: PLC0415 - only when something is wrong

    return "\n".join(printable(line) for line in redact(text).splitlines())


def _terminal_width() -> int | None:
    try:
        if not sys.stderr.isatty():
            return None
    except ValueError:
        return None
    return max(min(shutil.get_terminal_size().columns, _WIDEST), _NARROWEST)
